"""The texts of `texts/`, which were all written for this project.

`# topic` begins a conversation, `> ` a message of the user, `| ` a line pasted into it, `+ ` a sentence that it may do
without, and `< ` a paragraph of an answer. In documents, `# title` begins one and every other line is a paragraph.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FOLDER = Path(__file__).parent / "texts"


@dataclass
class Exchange:
    """A message of the user, the sentences that may follow it, and the paragraphs of its answer."""

    message: str
    further: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)


@dataclass
class Document:
    """A title and paragraphs."""

    title: str
    paragraphs: list[str] = field(default_factory=list)


def conversations() -> list[list[Exchange]]:
    """All conversations, each as its exchanges in the order of time; the last one needs no answer."""
    talks: list[list[Exchange]] = []
    for line in _lines("conversations_*.txt"):
        mark, text = line[:1], line[2:]
        if mark == "#":
            talks.append([])
        elif mark == ">":
            talks[-1].append(Exchange(text))
        else:
            _extend(talks[-1][-1], mark, text)
    return talks


def _extend(exchange: Exchange, mark: str, text: str) -> None:
    if mark == "<":
        exchange.answer.append(text)
    elif mark == "+":
        exchange.further.append(text)
    else:
        exchange.message += ("\n" if "\n" in exchange.message else "\n\n") + text


def documents() -> list[Document]:
    """All documents in the order of their files."""
    texts: list[Document] = []
    for line in _lines("documents_*.txt"):
        if line.startswith("# "):
            texts.append(Document(line[2:]))
        else:
            texts[-1].paragraphs.append(line)
    return texts


def single_lines(name: str) -> list[str]:
    """The lines of a file; a line break within one is written as a backslash and an n."""
    return [re.sub(r"\\n", "\n", line) for line in _lines(f"{name}.txt")]


def _lines(pattern: str) -> Iterator[str]:
    for path in sorted(_FOLDER.glob(pattern)):
        yield from (line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
