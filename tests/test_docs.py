"""Every command in the documentation works: quick ones are run, long ones composed; generated pages are fresh."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
from omegaconf import DictConfig

from optimize.config.compose import to_typed
from optimize.config.reference import PATH, reference
from optimize.config.validate import validate
from optimize.errors import ConfigError
from tests.conftest import ROOT, VERBS, Run
from tests.imports import all_imports, edges_between
from tests.made import QUICK

pytestmark = pytest.mark.timeout(600)  # whoever comes first makes the studies

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`((?:scripts/optimize|(?:\.venv/bin/)?python -m optimize)[^`]*)`(?!`)")
_ASSIGNMENT = re.compile(r"^\w+=")
_SCRIPTS = {
    "scripts/ui": "tests/ui/test_uis.py", "scripts/test": None, "scripts/check": None, ".venv/bin/pip": None,
}  # fmt: skip
"""Scripts that take no configuration, and the test that runs them; CI runs those without one."""
_OTHER = {"git", "cd", "export", "ray", "ssh"}
_COMPOSED = "composed and typed"


def commands(text: str) -> Iterator[list[str]]:
    """All commands of a page: of its bash blocks, and those in running text that name one of our programs."""
    for block in _BLOCK.findall(text):
        yield from _lines(block)
    for inline in _INLINE.findall(text):
        if "…" not in inline and "<" not in inline:
            yield shlex.split(inline)


def _lines(block: str) -> Iterator[list[str]]:
    """Commands of a block; one goes on over lines where a quote or a backslash says so. `#` begins a comment."""
    pending = ""
    for line in block.splitlines():
        pending = f"{pending}{line}\n"
        if line.endswith("\\"):
            pending = pending[:-2] + " "
            continue
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quote is still open
            continue
        pending = ""
        if words:
            yield words
    assert not pending.strip(), f"a quote stays open: {pending}"


def _cases() -> list[tuple[str, list[str]]]:
    """(first page, words) of each command; one that several pages give is tested once, whatever starts it."""
    cases: dict[tuple[str, ...], tuple[str, list[str]]] = {}
    for page in PAGES:
        for words in commands(page.read_text(encoding="utf-8")):
            verb = _verb(words)
            cases.setdefault(tuple(words) if verb is None else (verb[0], *verb[1]), (page.name, words))
    return list(cases.values())


def _verb(words: list[str]) -> tuple[str, list[str]] | None:
    """(module, arguments) of a command that runs one of our programs, assignments before it left out."""
    words = words[next((i for i, word in enumerate(words) if not _ASSIGNMENT.match(word)), 0) :]
    if words[0] == "scripts/optimize":
        return "optimize", words[1:]
    if words[0] in ("python", ".venv/bin/python") and words[1] == "-m":
        return words[2], words[3:]
    return None


def _without_showing(arguments: list[str]) -> list[str]:
    """Arguments but for `--cfg job`, which has Hydra show the configuration, as `tests/optimize/test_cli.py` tests."""
    return arguments[:-2] if arguments[-2:] == ["--cfg", "job"] else arguments


def _typed(node: DictConfig) -> NoReturn:
    """Types and checks a configuration, and leaves it at that."""
    validate(to_typed(node))
    raise ConfigError(_COMPOSED)


def test_the_reader_of_commands_sees_what_a_shell_would() -> None:
    text = "```bash\n# nothing\na b \\\n  'c d' # e\nf '{g,\n  h}'\n```\nand `scripts/optimize +study=x`, `qps`"
    assert list(commands(text)) == [["a", "b", "c d"], ["f", "{g,\n  h}"], ["scripts/optimize", "+study=x"]]


def test_a_command_that_several_pages_give_is_tested_once() -> None:
    verbs = [verb for _, words in _cases() if (verb := _verb(words))]
    assert len(verbs) == len({(module, *arguments) for module, arguments in verbs})
    assert ("optimize", ["+study=chat"]) in verbs


def test_every_page_is_reachable_and_its_links_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs").glob("*/*.md")]:
        for target in re.findall(r"(?:\]\(|src=\")([^)#\"]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert all(f"({p.name})" in index for p in (ROOT / "docs").glob("*.md") if p.name != "index.md" and _ours(p))


def test_links_into_a_page_name_one_of_its_headings() -> None:
    for page in [*PAGES, *(ROOT / "docs").glob("*/*.md")]:
        for target, heading in re.findall(r"\]\(([^):#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            other = page.parent / target if target else page
            assert heading in _headings(other.resolve()), f"{page.name}: {target}#{heading}"


@cache
def _headings(page: Path) -> set[str]:
    """The headings of a page as links name them: small letters, hyphens for spaces, no other signs."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def _ours(page: Path) -> bool:
    """Pages of one topic are linked from the index, or from another page."""
    return not any(f"{page.name})" in other.read_text(encoding="utf-8") for other in PAGES if other.name != "index.md")


def test_the_modules_that_pages_name_exist() -> None:
    for page in [*PAGES, *(ROOT / "docs/decisions").glob("*.md")]:
        for path in re.findall(r"`((?:\w+/)+\w+\.py)", page.read_text(encoding="utf-8")):
            assert (ROOT / path).is_file() or (ROOT / "optimize" / path).is_file(), f"{page.name}: there is no {path}"


def test_the_picture_of_the_packages_shows_all_of_them_above_what_they_import() -> None:
    picture = re.search(r"```text\n(.*?)```", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.DOTALL)
    assert picture is not None
    rows = [re.sub(r"\(\d\)", "", row).split() for row in re.findall(r"│ (\S[^│\n]*)│", picture[1])]
    height = {unit: number for number, row in enumerate(reversed(rows)) for unit in row}
    edges = {(a.removeprefix("optimize."), b.removeprefix("optimize.")) for a, b in edges_between(all_imports())}
    assert height.keys() == {unit for edge in edges for unit in edge}
    assert [(a, b) for a, b in edges if height[a] <= height[b]] == []


def test_the_configuration_reference_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == reference(), "run python -m optimize.config.reference"


_ENVIRONMENT = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "MY_SECRET": "s3cret-of-mine", "HF_TOKEN": "hf_of-mine"}
"""Variables that commands of the pages take values from."""


@pytest.mark.parametrize(("page", "words"), _cases(), ids=lambda x: x if isinstance(x, str) else " ".join(x)[:60])
def test_a_command_can_be_given(page: str, words: list[str], optimize: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    verb = _verb(words)
    if verb is None:
        # An assignment before a script: MLFLOW_PORT=5001 scripts/ui
        program = next(word for word in words if not _ASSIGNMENT.match(word))
        assert program in _SCRIPTS or program in _OTHER, f"{page}: nothing tests {shlex.join(words)}"
        test = _SCRIPTS.get(program)
        assert test is None or f'"{program}"' in (ROOT / test).read_text(encoding="utf-8")
        return
    module, arguments = verb
    if module == "optimize.cache":
        assert set(arguments) <= {"list", "clear"}  # its own words; run below
    elif module in VERBS and not arguments:  # a page may name a program without its arguments
        assert callable(importlib.import_module(VERBS[module]).main)
    elif module in VERBS:
        for name, value in _ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("optimize.cli.to_typed", _typed)
        done = optimize(_without_showing(arguments), verb=module)
        assert done.stderr == f"error: {_COMPOSED}\n", f"{page}: {done.stderr}"
    else:
        path = ROOT / (module.replace(".", "/") + ".py")
        package = ROOT / module.replace(".", "/") / "__main__.py"
        assert path.is_file() or package.is_file() or module == "pytest", f"{page}: there is no {module}"


def test_the_quick_start_on_the_simulated_engine(made_studies: Path, optimize: Run) -> None:
    """What the quick start says is printed, is."""
    folders = [f"output_dir={made_studies}", f"cache_dir={made_studies}/cache"]
    resumed = optimize(["+study=chat", *QUICK, *folders])  # a finished study: nothing is left to do
    assert resumed.returncode == 0 and "resumed with 3 trials done" in resumed.stdout
    assert re.search(r"recommended for Real-time chat .*\n(.*\n)*  score  ", resumed.stdout)
    matrix = optimize(folders, verb="optimize.recommend")
    assert matrix.returncode == 0 and matrix.stdout.count("recommended for") == 4
    cached = optimize(folders, verb="optimize.cache")
    assert cached.returncode == 0
    synced = optimize(folders, verb="optimize.sync")
    assert synced.returncode == 0 and "0 trials mirrored" in synced.stdout
