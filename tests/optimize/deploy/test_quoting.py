"""Quoting: a value comes out of every language as it went in, and no template has a value that is not quoted."""

import importlib.resources
import shlex
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import jinja2.nodes
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from optimize.config.grammar import variable
from optimize.deploy import quoting
from optimize.deploy.bundle import template_environment
from optimize.deploy.deployment import unit_name
from optimize.errors import ConfigError
from tests.optimize.deploy.readers import compose_text, kubernetes_text, systemd_view, systemd_words

FILTERS = {
    "serve.sh.j2": {"sh", "variable", "comment", "int"},
    "vllm.env.j2": {"sh", "variable"},
    "vllm.service.j2": {"unit", "unit_word", "unit_glob", "int"},
    "README.md.j2": {"md", "code", "sh", "int", "duration"},
}
"""The filters that may come last, by template."""
MARKS = "$%\"'\\`{}()[]*?;&|<>~#!= -研"
TEXTS = st.text(st.sampled_from("$%\"'\\`{}()[]*?;&|<>~#!= -_a0Ü研é.:/,@^+\N{NO-BREAK SPACE}"), max_size=12) | st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12
)
quickly = settings(derandomize=True, deadline=None, max_examples=60, database=None)


def test_every_value_in_every_template_passes_a_filter_of_its_language_last() -> None:
    environment, folder = template_environment(), importlib.resources.files("optimize.deploy") / "templates"
    templates = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(templates) == set(FILTERS)
    for name, text in templates.items():
        outputs = [node for output in environment.parse(text).find_all(jinja2.nodes.Output) for node in output.nodes]
        values = [node for node in outputs if not isinstance(node, jinja2.nodes.TemplateData)]
        assert values
        for value in values:
            assert isinstance(value, jinja2.nodes.Filter) and value.name in FILTERS[name], f"{name}:{value.lineno}"


@quickly
@given(TEXTS)
def test_a_shell_reads_the_word(text: str) -> None:
    assert shlex.split(quoting.shell(text)) == [text]


def test_systemd_reads_text_and_words(tmp_path: Path) -> None:
    texts = ["", MARKS, *(f"{a}{b}x" for a in MARKS for b in MARKS)]
    lines = [f"ExecStart=:/usr/bin/env {quoting.unit_word(text)}" for text in texts]
    unit = tmp_path / "t.service"
    unit.write_text("\n".join([f"[Unit]\nDescription=x{quoting.unit(MARKS)}.", "[Service]\nType=oneshot", *lines, ""]))
    view = systemd_view(unit)
    assert view["Description"] == [f"x{MARKS}."]
    assert systemd_words(" ".join(view["Command Line"])) == [word for text in texts for word in ("/usr/bin/env", text)]


@quickly
@given(TEXTS)
def test_compose_and_kubernetes_read_the_text(text: str) -> None:
    assert compose_text(quoting.compose((text,))) == text
    assert kubernetes_text(quoting.kubernetes((text,)), {"A": "b", "HOME": "c"}) == text


@quickly
@given(TEXTS | st.sampled_from(["on", "1e3", "1_000", "0o7", "~", "1:20", "null", "", "- a", "# a", "2026-11-28"]))
def test_every_reader_of_yaml_takes_strings_for_strings(text: str) -> None:
    written = quoting.to_yaml("a comment", {"on": [text, {"A": text}], "no": 1})
    expected = {"on": [text, {"A": text}], "no": 1}
    assert yaml.safe_load(written) == expected
    assert YAML(typ="safe", pure=True).load(StringIO(written)) == expected


@quickly
@given(TEXTS)
def test_markdown_shows_the_text(text: str) -> None:
    cell = f"| a{quoting.markdown(text)}b | {quoting.code(text) if '|' not in text and text else '`c`'} |"
    tokens = MarkdownIt("commonmark").enable("table").parse(f"| head | code |\n|---|---|\n{cell}\n")
    first, second = [token for token in tokens if token.type == "inline"][2:]
    assert "".join(child.content for child in first.children or []) == f"a{text}b"
    if "|" not in text and text.strip():
        assert [(child.type, child.content) for child in second.children or []] == [("code_inline", text)]


QUOTES: list[Callable[[str], object]] = [
    quoting.shell, quoting.unit, quoting.unit_word, quoting.unit_glob, quoting.markdown, quoting.code,
    lambda text: quoting.compose((text,)), lambda text: quoting.kubernetes((text,)),
    lambda text: quoting.to_yaml("comment", text), lambda text: quoting.to_yaml(text, {}),
]  # fmt: skip


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\udcff"])
@pytest.mark.parametrize("quote", QUOTES)
def test_control_characters_are_refused(quote: Callable[[str], object], character: str) -> None:
    with pytest.raises(ConfigError, match="control character") as refusal:
        quote(f"a{character}b")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "$(id)", "Ü"])
def test_a_shell_can_set_every_variable(name: str) -> None:
    with pytest.raises(ConfigError, match="environment variable"):
        variable(name)


# Names of units and resources


@pytest.mark.parametrize(
    "study", ["研究", "___", "größe", "Chat", "a_b", "a.b", "a-b-", "x" * 300, "x" * 301, "-", "-chat"]
)
def test_a_name_that_loses_something_of_the_studys_has_its_hash(study: str) -> None:
    name = unit_name(study)
    assert len(name) <= 50 and name.isascii()
    assert all(part.isalnum() and part == part.lower() for part in name.split("-"))
    assert len(name.rpartition("-")[2]) == 8


def test_names_of_different_studies_differ_and_are_recognisable() -> None:
    studies = ["研究", "___", "größe", "grosse", "Chat", "chat", "CHAT", "a_b", "a-b", "a.b", "x" * 300, "x" * 301]
    assert len({unit_name(study) for study in studies}) == len(studies)
    assert unit_name("chat") == "vllm-chat" and unit_name("a-b") == "vllm-a-b"
    assert unit_name("größe").startswith("vllm-grosse-")
    assert unit_name("Chat").startswith("vllm-chat-")
