"""The first line of a study's config.yaml: the words of its command, so that a report can repeat them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

_HEAD = "# given: "


def head_of(words: Sequence[str]) -> str:
    """The line: words as a shell reads them; as JSON where one holds a line break or a control character."""
    line = shlex.join(words)
    return f"{_HEAD}{line if line.isprintable() else json.dumps(list(words))}\n"


def words_of(text: str) -> list[str]:
    """The words that a configuration begins with; none where it has no such line.

    Raises:
        ValueError: the line is cut off.
    """
    line = text.partition("\n")[0]
    if not line.startswith(_HEAD):
        return []
    words = line.removeprefix(_HEAD)
    return [str(word) for word in json.loads(words)] if words.startswith("[") else shlex.split(words)
