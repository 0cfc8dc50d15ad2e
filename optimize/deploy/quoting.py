"""Quoting of values for the languages that read the bundle's files: one function per language.

A value is a `Word`: text, in which variables may stand for secrets. Every function refuses control characters, which no
unit file, comment or table can hold.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from optimize.config.grammar import one_line, variable


@dataclass(frozen=True)
class Variable:
    """An environment variable that stands for a value which no file may contain."""

    name: str


Word = tuple[str | Variable, ...]
"""Text and variables, in order."""


def shell(value: object) -> str:
    """One word of a POSIX shell's command line."""
    parts: Word = value if isinstance(value, tuple) else (str(value),)
    quoted = (f'"${variable(p.name)}"' if isinstance(p, Variable) else shlex.quote(one_line(p)) for p in parts if p)
    return "".join(quoted) or "''"


def unit(value: object) -> str:
    """Text in a systemd unit, whose specifiers begin with "%" (systemd.unit(5))."""
    return one_line(value).replace("%", "%%")


def unit_word(value: object) -> str:
    """One word of ExecStart= after the prefix ":", which turns off variables (systemd.service(5), "Command lines")."""
    escaped = unit(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def unit_glob(value: object) -> str:
    """A path of EnvironmentFile=, which is a pattern of glob(7)."""
    return re.sub(r"([\\*?\[])", r"\\\1", unit(value))


def compose(word: Word) -> str:
    """A value of a Compose file, where "$" begins a variable and "$$" is a dollar sign."""
    remedy = "set it in secrets.env, and run docker compose --env-file secrets.env"
    return "".join(
        f"${{{variable(p.name)}:?{remedy}}}" if isinstance(p, Variable) else one_line(p).replace("$", "$$")
        for p in word
    )


def kubernetes(word: Word) -> str:
    """A value of `command`, `args` or `env` of a container, where $(NAME) is a variable and "$$" a dollar sign."""
    return "".join(
        f"$({variable(p.name)})" if isinstance(p, Variable) else one_line(p).replace("$", "$$") for p in word
    )


def promql(value: object) -> str:
    """A string in PromQL, whose escapes are Go's, of which JSON's are a part; "<<" begins a template of its adapter."""
    return json.dumps(one_line(value), ensure_ascii=False).replace("<", "\\u003c")


def markdown(value: object) -> str:
    """Text in Markdown, table cells included; an underscore within a word is none of its marks."""
    escaped = re.sub(r"([\\`*\[\]<>|#~$&])", r"\\\1", one_line(value))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)


def code(value: object) -> str:
    """A code span in Markdown, whose fence is longer than any run of backticks in it."""
    text = one_line(value)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if text[:1] in ("`", " ") or text[-1:] in ("`", " ") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


class Lines(str):
    """A text of several lines, such as a file of this project's within a manifest."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Double quotes around all strings but keys: readers differ in which words are numbers (1e3) or truths (on)."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            key.style = None
        return node

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", one_line(text), style='"')
)
_Dumper.add_representer(
    Lines, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)


def to_yaml(comment: str, *documents: object) -> str:
    """Documents as YAML, in the order of their keys, below a comment."""
    texts = (yaml.dump(d, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf) for d in documents)
    return f"# {one_line(comment)}\n" + "---\n".join(texts)
