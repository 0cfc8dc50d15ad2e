"""Requests that stand alone: documents to be summarized, and short completions."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

from demo.traffic import published
from demo.traffic.sources import Document, documents, single_lines

_DOCUMENTS = 64
_DOCUMENT_SPREAD = 0.4
_DOCUMENT_BOUNDS = (150, 1400)
_SUMMARY_LIMITS = _COMPLETION_LIMITS = (8, 256)


def document_rows(seed: int) -> list[dict[str, Any]]:
    """Requests of an instruction, a document of a drawn length, and the limit of the summary.

    A text shorter than the length is followed by others, as in a folder of papers to be summarized at once; one that is
    longer is cut between paragraphs.
    """
    rng = random.Random(f"documents-{seed}")
    texts, instructions = documents(), single_lines("instructions")
    rng.shuffle(texts)
    pile, requests = itertools.cycle(texts), []
    for _ in range(_DOCUMENTS):
        length = published.input_tokens(rng, published.DOCUMENT, _DOCUMENT_SPREAD)
        text = _text(pile, min(max(length, _DOCUMENT_BOUNDS[0]), _DOCUMENT_BOUNDS[1]))
        content = f"{rng.choice(instructions)}\n\n{text}"
        limit = published.output_tokens(rng, published.SUMMARY, *_SUMMARY_LIMITS)
        requests.append({"prompt": [{"role": "user", "content": content}], "max_tokens": limit})
    return requests


def _text(texts: Iterator[Document], length: int) -> str:
    """Paragraphs of the next text, and of those after it, until the length is reached."""
    parts: list[str] = []
    counted = 0
    for text in texts:
        for part in (text.title, *text.paragraphs):
            if counted + published.tokens(part) / 2 > length:
                return "\n\n".join(parts)
            parts.append(part)
            counted += published.tokens(part)
    return "\n\n".join(parts)


def completion_rows(seed: int) -> list[dict[str, Any]]:
    """One request per short prompt, as plain text, with the limit of its answer."""
    rng = random.Random(f"completions-{seed}")
    prompts = single_lines("completions")
    rng.shuffle(prompts)
    return [
        {
            "prompt": prompt,
            "max_tokens": published.output_tokens(rng, published.INSTRUCTION_ANSWER, *_COMPLETION_LIMITS),
        }
        for prompt in prompts
    ]
