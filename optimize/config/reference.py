"""`python -m optimize.config.reference`: writes docs/configuration.md from the schema and the files under conf/."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optimize.config import schema
from optimize.config.bounds import bounds_of
from optimize.config.locations import CONF

_MISSING = "???"
"""How OmegaConf writes a value that must be given."""
PATH = CONF.parent / "docs" / "configuration.md"
_HEAD = """# Configuration

Written by `python -m optimize.config.reference` from the schema and `conf/`; edits are overwritten.

Every key can be set on the command line (`key=value`) or in a YAML file of your own: in a folder `conf/` where you
stand (`conf/study/mine.yaml` is chosen by `+study=mine`), or in one that `--config-dir=FOLDER` names. A key marked with
+ is a mapping that takes further keys: `+constraints.ttft_p99_s={max: 0.5}`. `python -m optimize +study=chat --cfg job`
prints the whole configuration of a study.
"""
_GROUPS = """## Groups

A group is chosen by `group=choice` (studies by `+study=choice`, several objectives by `objectives=[qps,bleu]`).
"""


def reference() -> str:
    """The whole page."""
    sections = [_HEAD, _GROUPS, *(_group(folder) for folder in sorted(p for p in CONF.iterdir() if p.is_dir()))]
    sections += ["## Keys\n", _table(schema.StudyConfig, "")]
    return "\n".join(sections)


def _group(folder: Path) -> str:
    rows = [f"| `{path.stem}` | {_first_comment(path)} |" for path in sorted(folder.glob("*.yaml"))]
    return "\n".join([f"### {folder.name}\n", "| choice | meaning |", "|---|---|", *rows, ""])


def _first_comment(path: Path) -> str:
    """The comment a file begins with; of those without one, the keys it sets."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("# @package")]
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    if comment:
        return _escape(" ".join(comment))
    return ", ".join(f"`{_escape(line.strip())}`" for line in lines)


def _table(cls: type, prefix: str) -> str:
    """The plain keys of one class as a table, then its parts, each under its own heading."""
    plain, parts = [], []
    notes, types = documented(cls), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = prefix + field.name, types[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            parts.append(f"### {key}\n\n{_summary(kind)}\n\n{_table(kind, key + '.')}")
        else:
            plain.append(_row(key, kind, field, notes.get(field.name, "")))
    head = ["| key | type and bounds | default in the schema | meaning |", "|---|---|---|---|"]
    return "\n".join([*(head + plain if plain else []), "", *parts])


def _row(key: str, kind: Any, field: dataclasses.Field[Any], note: str) -> str:
    bounds = bounds_of(field)
    values = f"{_type(kind)}, {bounds.in_symbols()}" if bounds else _type(kind)
    plus = "+" if "dict" in values else ""
    return f"| `{key}`{plus} | {values} | {default_of(field)} | {_escape(note)} |"


def documented(cls: type) -> dict[str, str]:
    """Field -> text: from `Attributes:` of the docstring, and from strings that follow a field."""
    text = inspect.getdoc(cls) or ""
    _, _, listed = text.partition("Attributes:")
    notes = {name: " ".join(note.split()) for name, note in _attributes(listed)}
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            notes[ast.unparse(field.target)] = " ".join(str(after.value.value).split())
    return notes


def _attributes(listed: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"^    (\w+): (.+?)(?=^    \w+: |\Z)", listed, re.MULTILINE | re.DOTALL):
        yield match.group(1), match.group(2)


def _summary(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").partition("Attributes:")[0].split())


def _type(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    text = re.sub(r"typing\.|optimize\.config\.\w+\.", "", text)
    return _escape(text.replace("NoneType", "null").replace("None", "null"))


def default_of(field: dataclasses.Field[Any]) -> str:
    default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    if default is dataclasses.MISSING or default == _MISSING:
        return "set by the group"
    return f"`{str(default).lower() if isinstance(default, bool) else 'null' if default is None else default}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    PATH.write_text(reference(), encoding="utf-8")
    print(f"written: {PATH}")


if __name__ == "__main__":
    main()
