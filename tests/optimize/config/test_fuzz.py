"""Whatever words a command gets, it plans a study or says in one line, with exit code 2, what is wrong.

A few dozen cases, the same in every run, are part of the suite. With FUZZ_CASES=5000 in the environment it draws as
many new ones, and composes each from the files as a command does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, note
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from optimize import cli
from optimize.config import schema
from optimize.config.compose import composed
from optimize.errors import ConfigError
from optimize.plan import make_plan
from tests.fuzz import CASES, tried

BASE = ["+study=smoke", "engine=simulated", "search_space.quantization=null"]
_ELSEWHERE = ("output_dir", "cache_dir", "tracking", "model.random")
"""Settings that name what would be written, or made, outside of the test's folder."""

ODD_VALUES = [
    "", "null", "~", "''", " ", "-1", "0", "1", "1.5", "007", "0x10", "1_000", "1e999", "-.inf", ".inf", ".nan", "nan",
    "inf", "NaN", "1e308", "99999999999999999999", "-99999999999999999999", "true", "off", "yes", "[]", "{}", "[[]]",
    "[null]", "[1,1]", "[1,a,2.5]", "{a:1}", "{a:{b:{c:[1,{d:2}]}}}", "{1:2}", "{null:1}", "{a:null}", "[{a:1}]",
    "???", "'???'", "'${oc.env:NO_SUCH_VARIABLE}'", "${study.name}", "${study}", "${nowhere}", "${nowhere.at.all}",
    "${.low}", "${..}", "${", "}", "$", "${oc.env:HOME}", "${oc.decode:'[1'}", "${no_resolver:1}",
    "${output_dir}${output_dir}", "\\n", "a\\nb", "a=b", "a b", "'a\nb'", "'\t'", "'\x00'", "'\x1b[31m'", "'[red]'",
    "'[/]'", "研究", "'😀'", "'\u202e'", "'\ud800'", "%00", "*", "'*'", "..", ".", "/", "./", "nowhere.jsonl",
    "builtins.print", "os.getcwd", "os", "os.", ".os", "a..b", "optimize", "optimize.plan.make_plan", "builtins.dict",
    "builtins.int", "{_target_: builtins.dict}", "{_target_: 1}", "{_target_: null}",
    "{_target_: builtins.print, _args_: [1]}", "[" * 50 + "]" * 50, "a" * 300, "glob(*)", "choice(1,2)", "range(1,3)",
    "interval(0,1)", "tag(1)", "sort(1,2)", "int(a)", "str([1])", "json_str({})",
]  # fmt: skip
ODD_KEYS = [
    "x", "", ".", "a.b.c", "_target_", "_convert_", "_args_", "max", "min", "low", "0", "-1", "null", "modle", "研究",
    "a b", "a-b", "a/b", "a@b", "@a", "a@b.c", "/", "hydra", "hydra.run.dir", "hydra.mode", "hydra.searchpath",
    "hydra/launcher", "defaults", "\x00",
]  # fmt: skip


@cache
def _base() -> DictConfig:
    return composed(BASE)


def _keys(node: DictConfig, above: str = "") -> Iterator[str]:
    """The dotted names of all settings and groups of settings."""
    for name in node:
        key, part = f"{above}{name!s}", node._get_node(name)
        yield key
        if isinstance(part, DictConfig) and not part._is_none() and not part._is_interpolation():
            yield from _keys(part, f"{key}.")


@cache
def _settings() -> dict[str, list[str]]:
    """Group of settings -> the names of its settings, its own among them."""
    keys = [key for key in _keys(_base()) if not key.startswith(_ELSEWHERE)]
    return {key: [k for k in keys if k == key or k.startswith(f"{key}.")] for key in keys if "." not in key}


VALUES = st.one_of(
    st.sampled_from(ODD_VALUES),
    st.integers().map(str),
    st.floats().map(str),
    st.text(st.characters(exclude_characters="/~\\"), max_size=8),
    st.recursive(
        st.sampled_from(["1", "a", "null", "1.5", "true"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
            | st.dictionaries(st.sampled_from("ab"), inner, max_size=2).map(
                lambda items: "{" + ",".join(f"{k}:{v}" for k, v in items.items()) + "}"
            )
        ),
        max_leaves=6,
    ),
)


@st.composite
def _words(draw: st.DrawFn) -> str:
    """One word of a command: a setting that exists, one that does not, a removal, a choice, or anything."""
    group = draw(st.deferred(lambda: st.sampled_from(list(_settings()))))
    key = draw(st.sampled_from(_settings()[group]))
    value, name = draw(VALUES), draw(st.sampled_from(ODD_KEYS) | st.text(max_size=4))
    kinds = [f"{key}={value}"] * 6 + [
        f"+{key}={value}", f"++{key}={value}", f"~{key}", f"+{key}.{name}={value}", f"{key}.{name}={value}",
        f"+{name}={value}", f"{group}={value}", f"{key.replace('.', '/')}={value}", value, f"--{name}",
    ]  # fmt: skip
    return draw(st.sampled_from(kinds))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("fuzz"))


def _on_the_base(words: Sequence[str]) -> DictConfig:
    """What `composed` returns, but from a configuration composed before, which takes a tenth of the time.

    Choices of files are left to the long run.
    """
    node = copy.deepcopy(_base())
    for override in OverridesParser.create().parse_overrides(list(words[len(BASE) :])):
        key, value = override.key_or_group, override.value()
        OmegaConf.set_struct(node, not (override.is_add() or override.is_force_add() or override.is_delete()))
        try:
            OmegaConf.update(node, key, None if override.is_delete() else value)
        except (TypeError, ValueError) as error:  # as `composed` does
            raise ConfigError(str(error)) from error
    return node


def _run(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and standard error of `python -m optimize` as far as its plan."""

    def plan(config: schema.StudyConfig, config_yaml: str) -> int:
        make_plan(config)
        return 0

    monkeypatch.setattr("sys.argv", ["optimize", *BASE, *words])
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.run_verb(plan)
    return int(ended.value.code or 0), err.getvalue()


def _check(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, message = _run(words, monkeypatch)
    note(f"{words} -> {code} {message!r}")
    assert code in (0, 2), (words, message)
    if code == 2:
        assert (
            message.startswith("error: ") and message.count("\n") == 1 and message.endswith("\n") and len(message) > 12
        ), (
            words,
            message,
        )
        assert message.isprintable() or message[:-1].isprintable(), (words, message)


_PROFILE = tried(25)


@_PROFILE
@example(words=["study=", "+study.="])
@given(words=st.lists(_words(), min_size=1, max_size=3))
def test_any_words_are_a_plan_or_one_line(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not CASES:
        monkeypatch.setattr(cli, "composed", _on_the_base)
        words = [word for word in words if not word.startswith("-")]
    _check(words, monkeypatch)
