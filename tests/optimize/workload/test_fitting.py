"""Workloads fitted to a model: chat without a template, rows beyond its context, and bounds on single answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.workload.fitting import as_text, context_of, fitted_workload, has_template, text_of
from optimize.workload.workload import Workload
from tests.conftest import ROOT
from tests.overrides import changed

DEMO = str(ROOT / "demo/model")
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "the dog"},
    {"role": "assistant", "content": "der Hund"}, {"role": "user", "content": "the cat"},
]  # fmt: skip
WORKLOAD = Workload("mine", [CHAT, "the old man"], [], max_tokens=8)


def _model(folder: Path, **settings: str) -> str:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def test_a_chat_is_written_as_text_with_the_last_turn_left_open() -> None:
    assert text_of(CHAT) == "System: Be brief.\n\nUser: the dog\n\nAssistant: der Hund\n\nUser: the cat\n\nAssistant:"


def test_chats_become_text_for_a_model_without_a_template(tmp_path: Path) -> None:
    plain = as_text(WORKLOAD, _model(tmp_path))
    assert list(plain.prompts) == [text_of(CHAT), "the old man"]
    assert "has no chat template, so its 1 chats are sent as plain text" in plain.notes[0]
    assert plain.hash != WORKLOAD.hash


def test_chats_stay_where_a_template_is_or_may_be(tmp_path: Path) -> None:
    assert as_text(WORKLOAD, _model(tmp_path, chat_template="{{ messages }}")) is WORKLOAD
    assert as_text(WORKLOAD, "no/model-of-this-disk") is WORKLOAD
    parts = replace(WORKLOAD, prompts=[[{"role": "user", "content": [{"type": "image"}]}]])
    assert as_text(parts, _model(tmp_path)) is parts


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
def test_a_template_may_be_a_file_of_its_own(name: str, tmp_path: Path) -> None:
    assert has_template(_model(tmp_path)) is False
    (tmp_path / name).write_text("{{ messages }}")
    assert has_template(str(tmp_path)) is True
    assert has_template("no/model-of-this-disk") is None


def test_a_context_comes_from_the_flags_or_from_the_model() -> None:
    assert context_of(DEMO, {}) == 256
    assert context_of(DEMO, {"max_model_len": 128}) == 128
    assert context_of(DEMO, {"max_model_len": "auto"}) is None
    assert context_of("no/model-of-this-disk", {}) is None


def _config(folder: Path, rows: list[dict[str, Any]], **more: str) -> StudyConfig:
    path = folder / "work.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = {"workload.path": str(path), "workload.reference_column": "null", "cache_dir": str(folder), **more}
    return changed(f"model.path={DEMO}", *(f"{key}={value}" for key, value in overrides.items()))


ROWS: list[dict[str, Any]] = [
    {"prompt": "the dog " * 200, "max_tokens": 4}, {"prompt": "the dog", "max_tokens": 300},
    {"prompt": "the old man", "max_tokens": 20},
]  # fmt: skip
LIMITED = {"workload.max_tokens_column": "max_tokens"}


def test_rows_beyond_the_context_are_left_out_with_a_note(tmp_path: Path) -> None:
    workload = fitted_workload(_config(tmp_path, ROWS, **LIMITED, **{"workload.fit_context": "true"}))
    assert (list(workload.prompts), workload.limits) == (["the old man"], [20])
    assert "2 of 3 rows are longer than the model's context of 256 tokens" in workload.notes[0]
    assert len(fitted_workload(_config(tmp_path, ROWS, **LIMITED)).prompts) == 3


def test_a_workload_without_any_row_that_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none fits with its answer into the model's context of 256"):
        fitted_workload(_config(tmp_path, ROWS[:2], **LIMITED, **{"workload.fit_context": "true"}))


def test_each_row_has_its_own_limit_below_the_bound_on_all(tmp_path: Path) -> None:
    bounded = fitted_workload(_config(tmp_path, ROWS, **LIMITED, **{"workload.max_tokens": "16"}))
    assert (bounded.max_tokens, bounded.limits, bounded.bound(0)) == (16, [4, 16, 16], 4)
    free = fitted_workload(_config(tmp_path, ROWS, **LIMITED))
    assert (free.max_tokens, free.limits) == (300, [4, 300, 20])
    alike = fitted_workload(_config(tmp_path, ROWS, **{"workload.max_tokens": "16"}))
    assert alike.bound(0) == 16
    assert len({bounded.hash, free.hash, alike.hash}) == 3


@pytest.mark.parametrize("value", [0, "many", None])
def test_a_limit_that_is_no_number_of_tokens_is_named_with_its_row(value: object, tmp_path: Path) -> None:
    rows = [{"prompt": "the dog", "max_tokens": value}] * 2
    with pytest.raises(ConfigError, match=rf"row 0: max_tokens must be a whole number from 1, got {value!r}"):
        fitted_workload(_config(tmp_path, rows, **LIMITED))


def test_the_order_of_the_rows_belongs_to_the_workload(tmp_path: Path) -> None:
    seeded = fitted_workload(_config(tmp_path, ROWS, **{"workload.max_tokens": "16"}))
    ordered = fitted_workload(_config(tmp_path, ROWS, **{"workload.max_tokens": "16", "workload.in_order": "true"}))
    assert (seeded.in_order, ordered.in_order) == (False, True)
    assert seeded.hash != ordered.hash


def test_nothing_is_fitted_to_a_model_that_somebody_else_serves(tmp_path: Path) -> None:
    config = _config(
        tmp_path, [{"prompt": CHAT, "max_tokens": 4}, *ROWS], **LIMITED, **{"workload.fit_context": "true"}
    )
    assert len(fitted_workload(config, remote=True).prompts) == 4
