"""Parts of vLLM's flags that take JSON: the fields that the installed release reads, from the text of its source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from optimize.errors import ConfigError, closest


def check_part(flag: str, part: str, root: Path) -> None:
    """Refuse a part that vLLM's flag does not have; of flags that take anything nothing is known.

    Args:
        flag: Its name, with underscores.
        part: Names of fields, with dots where one lies in another.
        root: Folder of the package `vllm`.

    Raises:
        ConfigError: the first name that is no field.
    """
    at = flag
    for name in part.split("."):
        fields = _fields(at, root)
        if fields and name not in fields:
            raise ConfigError(f"{name!r} in the knob {flag}.{part} is no field of vLLM's {at}; {closest(name, fields)}")
        at = name


@cache
def _fields(name: str, root: Path) -> tuple[str, ...]:
    """Fields of the class that is named like a flag or a field: SpeculativeConfig of `speculative_config`."""
    plain = name.replace("_", "").lower()
    declaration = re.compile(rf"^class {plain}\b", re.IGNORECASE | re.MULTILINE)
    for path in sorted((root / "config").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if declaration.search(text):
            classes = (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name.lower() == plain)
            return tuple(field for node in classes for field in _fields_of(node))
    return ()


def _fields_of(node: ast.ClassDef) -> list[str]:
    annotated = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
    return [target.id for target in annotated if isinstance(target, ast.Name) and not target.id.startswith("_")]
