"""Files that flags name: which values are files, and that only those are replaced."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.engine.flag_files import NOT_READ, READ, fingerprint, named_files, with_paths
from optimize.engine.flags import vllm_root

NO_PATHS = {"api_key", "quantization"}
"""Flags whose documentation speaks of paths of requests, or of a field in a model's files."""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("t.jinja", "{{ x }}", "float16", "vllm", "api/v1.txt", "a b/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for name in ("adapter", "sql", "org/draft"):
        (tmp_path / name).mkdir(parents=True)


@pytest.mark.parametrize(
    ("argument", "placed"),
    [
        (["--chat-template=t.jinja"], ["--chat-template=<t.jinja>"]),
        (["--chat-template={{ x }}"], ["--chat-template=<{{ x }}>"]),
        (["--chat-template={{ y }}"], None),
        (["--chat-template={% if a %}/b{% endif %}"], None),
        (["--chat-template=" + "x" * 5000], None),
        (["--dtype=float16"], None),
        (["--generation-config=vllm"], None),
        (["--generation-config=adapter"], ["--generation-config=<adapter>"]),
        (["--tokenizer=org/draft"], ["--tokenizer=<org/draft>"]),
        (["--tokenizer=org/other"], None),
        (["--some-new-flag=a b/c.json"], ["--some-new-flag=<a b/c.json>"]),
        (["--root-path=api/v1.txt"], None),
        (["--download-dir=adapter"], None),
        (["--lora-modules", "sql=adapter", "x=y"], ["--lora-modules", "sql=<adapter>", "x=y"]),
        (
            ["--lora-modules", '{"name": "sql", "path": "adapter"}', "--enable-lora"],
            ["--lora-modules", '{"name": "sql", "path": "<adapter>"}', "--enable-lora"],
        ),
        (
            ['--speculative-config={"model": "org/draft", "method": "sql"}'],
            ['--speculative-config={"model": "<org/draft>", "method": "sql"}'],
        ),
        (["--speculative-config.model=adapter"], ["--speculative-config.model=<adapter>"]),
        (['--default-mm-loras={"vision": "adapter"}'], ['--default-mm-loras={"vision": "<adapter>"}']),
        (['--hf-overrides={"x":[ "a b/c.json"],"y":1}'], ['--hf-overrides={"x": ["<a b/c.json>"], "y": 1}']),
        (['--hf-overrides={"x":1,  "dtype":"float16"}'], None),
        (["--ssl-certfile=t.jinja", "--ssl-keyfile=missing"], ["--ssl-certfile=<t.jinja>", "--ssl-keyfile=missing"]),
        (["--some-text=/", "--allowed-local-media-path=/"], None),  # no container is given the whole disk
        (["--empty=", "--", "", "--flag"], None),
    ],
)
def test_only_values_that_are_files_are_replaced(argument: list[str], placed: list[str] | None) -> None:
    assert with_paths(argument, lambda path: f"<{path}>") == (placed or argument)
    assert with_paths(argument, lambda path: path) == argument


def test_a_file_that_is_named_twice_is_one() -> None:
    assert named_files(["--chat-template=t.jinja", "--x=./t.jinja", "--tokenizer=t.jinja"]) == ["t.jinja", "./t.jinja"]


def test_a_fingerprint_tells_contents_apart(tmp_path: Path) -> None:
    before = fingerprint("t.jinja")
    assert fingerprint("./t.jinja") == before and len(before) == 16
    (tmp_path / "t.jinja").write_text("other")
    assert fingerprint("t.jinja") != before
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({"r": 8}))
    assert fingerprint("adapter") != fingerprint("sql")


def test_every_flag_that_the_installed_release_documents_with_a_path_is_classified() -> None:
    sources = [vllm_root() / "engine/arg_utils.py", *vllm_root().glob("entrypoints/*/cli_args.py")]
    sources += sorted((vllm_root() / "config").glob("*.py"))
    names = {name for path in sources for name in _with_a_path(ast.parse(path.read_text(encoding="utf-8")))}
    assert {"chat_template", "ssl_keyfile", "tokenizer", "hf_config_path"} <= names
    assert names - READ - NOT_READ - NO_PATHS == set()


def _with_a_path(tree: ast.Module) -> Iterator[str]:
    """Fields of texts whose name or documentation, the literal below them, speaks of a path."""
    for body in (node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for field, below in zip(body, [*body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            literal = ast.unparse(below) if isinstance(below, ast.Expr) else ""
            spoken = f"{field.target.id.replace('_', ' ')} {literal}"
            is_text = re.search("str|Path", ast.unparse(field.annotation))
            if is_text and re.search(r"\b(paths?|file|folder|director(y|ies)|dir)\b", spoken, re.IGNORECASE):
                yield field.target.id
