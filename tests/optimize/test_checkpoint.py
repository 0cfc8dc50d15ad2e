"""What is read off a checkpoint's files."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from optimize.checkpoint import content_hash, local_folder, model_config, tensor_bytes


def _model(folder: Path, value: float = 1.0, hidden: int = 8) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": hidden}), encoding="utf-8")
    save_file({"a": np.full((3, 5), value, np.float32)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": np.zeros(7, np.float16), "c": np.ones(2, np.int8)}, folder / "model-00002-of-00002.safetensors")
    return folder


def test_tensors_are_counted_without_the_files_headers(tmp_path: Path) -> None:
    assert tensor_bytes(str(_model(tmp_path / "m"))) == 3 * 5 * 4 + 7 * 2 + 2


def test_a_folder_without_tensors_has_none(tmp_path: Path) -> None:
    assert tensor_bytes(str(tmp_path)) == 0


def test_config_and_folder(tmp_path: Path) -> None:
    folder = _model(tmp_path / "m", hidden=64)
    assert local_folder(str(folder)) == folder
    assert model_config(str(folder)) == {"hidden_size": 64}


def test_equal_contents_have_equal_hashes_wherever_they_lie(tmp_path: Path) -> None:
    first, second = _model(tmp_path / "first"), _model(tmp_path / "second")
    (second / "README.md").write_text("notes do not change answers", encoding="utf-8")
    assert content_hash(str(first)) == content_hash(str(second))
    assert len(content_hash(str(first))) == 16


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"hidden_size": 9}'),
        ("generation_config.json", "{}"),
        ("tokenizer.model", "pieces"),
        ("chat_template.jinja", "{{ messages }}"),
        ("merges.txt", "a b"),
    ],
)
def test_files_that_change_answers_change_the_hash(tmp_path: Path, name: str, content: str) -> None:
    before, after = _model(tmp_path / "before"), _model(tmp_path / "after")
    (after / name).write_text(content, encoding="utf-8")
    assert content_hash(str(before)) != content_hash(str(after))


def test_one_weight_changes_the_hash(tmp_path: Path) -> None:
    assert content_hash(str(_model(tmp_path / "a"))) != content_hash(str(_model(tmp_path / "b", value=1.0001)))


def test_a_model_that_is_not_on_this_disk_is_hashed_by_its_id() -> None:
    first, second = content_hash("somebody/model-a"), content_hash("somebody/model-b")
    assert first != second
    assert len(first) == len(second) == 16
