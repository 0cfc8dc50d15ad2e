"""Workloads fitted to a model: chat without a template, rows beyond its context, and bounds on single answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.traces.requests import Requests
from optimize.workload.context import Context, context_of, longest_of
from optimize.workload.conversation import text_of
from optimize.workload.cutting import cut_from_left
from optimize.workload.fitting import as_text, has_template
from optimize.workload.fitting import fitted_workload as fitted
from optimize.workload.tokens import token_counts
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


@pytest.mark.parametrize(
    ("lengths", "tokens", "origin"),
    [
        ([], 256, "the model's context"), ([128], 128, "max_model_len"), ([512, 192, "auto"], 192, "max_model_len"),
        (["1k"], 1000, "max_model_len"), (["1K"], 1024, "max_model_len"), (["auto", -1], 256, "the model's context"),
    ],
)  # fmt: skip
def test_a_context_is_the_smallest_that_an_engine_gets_else_the_models(
    lengths: list[object], tokens: int, origin: str
) -> None:
    context = context_of(DEMO, lengths)
    assert context is not None
    assert (context.tokens, context.origin, context.longest) == (tokens, origin, 256)


@pytest.mark.parametrize(
    ("config", "tokenizer", "tokens"),
    [
        ({"max_position_embeddings": 4096}, {}, 4096),
        ({"max_position_embeddings": 4096}, {"model_max_length": 2048}, 2048),
        ({"max_position_embeddings": 4096}, {"model_max_length": 1e30}, 4096),
        ({"text_config": {"max_position_embeddings": 8192}}, {}, 8192),
        ({"n_positions": 1024}, {}, 1024),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 4.0}}, {}, 8192),
        ({"max_position_embeddings": 2048, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, {}, 2048),
        ({"hidden_size": 64}, {}, None),
    ],
)
def test_a_models_context_is_read_where_vllm_reads_it(
    config: dict[str, Any], tokenizer: dict[str, Any], tokens: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert longest_of(str(tmp_path)) == tokens


def test_a_context_that_nothing_on_this_disk_says_is_not_known() -> None:
    assert context_of("no/model-of-this-disk") is None


def fitted_workload(config: StudyConfig, context: Context | None = None, remote: bool = False) -> Workload:
    return fitted(config, context or context_of(DEMO), remote=remote).workload


def _config(folder: Path, rows: list[dict[str, Any]], **more: str) -> StudyConfig:
    path = folder / "work.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = {"workload.path": str(path), "workload.reference_column": "null", "cache_dir": str(folder), **more}
    return changed(f"model.path={DEMO}", *(f"{key}={value}" for key, value in overrides.items()))


ROWS: list[dict[str, Any]] = [
    {"prompt": "the dog " * 200, "max_tokens": 4}, {"prompt": "the dog", "max_tokens": 300},
    {"prompt": "the old man", "max_tokens": 20},
]  # fmt: skip
WIDE = Context(10_000, "max_model_len")
LIMITED = {"workload.max_tokens_column": "max_tokens"}


def _rows(short: int, *others: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"prompt": f"the dog sees the man {row}", "max_tokens": 8} for row in range(short)] + list(others)


LONG: dict[str, Any] = {"prompt": "the dog " * 200, "max_tokens": 4}


def test_a_few_rows_beyond_the_context_are_left_out_and_named(tmp_path: Path) -> None:
    workload = fitted_workload(_config(tmp_path, _rows(99, LONG), **LIMITED))
    assert len(workload.prompts) == 99 and LONG["prompt"] not in workload.prompts
    assert workload.notes[-1] == (
        "workload demo_chat: 1 of 100 rows do not fit with their answers into the model's context of 256 tokens "
        "(workload.too_long): 1 left out: row 99 (603 + 4 tokens)"
    )


def test_many_rows_beyond_the_context_are_refused_with_the_remedies(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        fitted_workload(_config(tmp_path, _rows(8, LONG, LONG), **LIMITED))
    assert str(refusal.value) == (
        "workload demo_chat: 2 of 10 rows do not fit with their answers into the model's context of 256 tokens; the "
        "longest has 603 tokens and 4 for its answer: set workload.too_long=cut (texts from their left), cut_answers "
        "or leave_out, or take a model with a longer context"
    )
    small = Context(64, "max_model_len", 2048)
    with pytest.raises(ConfigError, match="set max_model_len=607, or workload.too_long=cut"):
        fitted_workload(_config(tmp_path, _rows(8, LONG, LONG), **LIMITED), small)


def test_answers_longer_than_the_context_are_refused_with_the_length_that_fits(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"10 of 10 rows .* and 300 for its answer: set workload.max_tokens=2\d\d, or"
    ):
        fitted_workload(_config(tmp_path, _rows(10), **{"workload.max_tokens": "300"}))


def test_rows_are_left_out_however_many_where_that_is_asked_for(tmp_path: Path) -> None:
    config = _config(tmp_path, ROWS, **LIMITED, **{"workload.too_long": "leave_out"})
    workload = fitted_workload(config)
    assert (list(workload.prompts), workload.limits) == (["the old man"], [20])
    assert "2 of 3 rows do not fit" in workload.notes[-1]
    with pytest.raises(ConfigError, match="2 of 2 rows do not fit"):
        fitted_workload(_config(tmp_path, ROWS[:2], **LIMITED, **{"workload.too_long": "leave_out"}))


def test_texts_are_cut_from_their_left_until_they_fit(tmp_path: Path) -> None:
    rows = _rows(1, {"prompt": "the cat " * 200 + "the dog sleeps", "max_tokens": 4})
    workload = fitted_workload(_config(tmp_path, rows, **LIMITED, **{"workload.too_long": "cut"}))
    text = str(workload.prompts[1])
    assert text.endswith("the cat the dog sleeps") and 245 <= token_counts([text], DEMO, tmp_path)[0] <= 252
    assert workload.notes[-1].endswith("1 cut from their left")


def test_of_a_chat_the_oldest_messages_go_first(tmp_path: Path) -> None:
    turns = [{"role": role, "content": "the dog " * 40} for role in ("user", "assistant", "user", "assistant")]
    chat = [{"role": "system", "content": "Be brief."}, *turns, {"role": "user", "content": "the cat"}]
    shorter = cut_from_left(chat, 200, DEMO)
    assert shorter == [chat[0], *chat[3:]]
    last = cut_from_left([chat[0], turns[0]], 60, DEMO)
    assert isinstance(last, list) and last[0] == chat[0] and len(last[1]["content"]) < len(turns[0]["content"]) / 2 + 20


def test_answers_are_cut_to_what_the_context_leaves(tmp_path: Path) -> None:
    workload = fitted_workload(_config(tmp_path, ROWS[1:], **LIMITED, **{"workload.too_long": "cut_answers"}))
    assert workload.limits is not None and 240 < workload.limits[0] < 256 and workload.limits[1] == 20
    assert workload.notes[-1].endswith("1 with answers cut to what is left")


def test_a_limit_that_nobody_has_set_gives_way(tmp_path: Path) -> None:
    rows = _rows(1, {"prompt": "the dog " * 60})
    workload = fitted_workload(_config(tmp_path, rows))
    assert workload.max_tokens == 128 and workload.limits is not None
    assert workload.limits[0] == 128 and 50 < workload.limits[1] < 90


def test_chats_are_counted_as_the_template_writes_them(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}{{ 'the dog ' * 100 }}"
    rows = _rows(0, *[{"prompt": CHAT, "max_tokens": 4}] * 3)
    config = _config(tmp_path, rows, **LIMITED)
    config.model.flags["chat_template"] = template
    with pytest.raises(ConfigError, match="3 of 3 rows do not fit .* the longest has 3"):
        fitted_workload(config)


def test_a_study_on_recorded_requests_loses_those_that_do_not_fit_with_their_times(tmp_path: Path) -> None:
    config = _config(tmp_path, _rows(30))
    lengths = [20] * 39 + [300]
    recorded = Requests(np.arange(40.0), np.array(lengths), np.full(40, 6))
    result = fitted(config, context_of(DEMO), recorded)
    assert result.rows is not None and result.rows.tolist() == list(range(39))
    assert len(result.workload.prompts) == 39 and "row 39 (301 + 6 tokens)" in result.workload.notes[-1]
    with pytest.raises(ConfigError, match=r"40 of 40 rows .* the longest has 6759 tokens and 500 for its answer"):
        fitted(config, context_of(DEMO), Requests(np.arange(40.0), np.full(40, 6758), np.full(40, 500)))


@pytest.mark.parametrize(("too_long", "prompt", "answer"), [("cut", 249, 6), ("cut_answers", 200, 55)])
def test_lengths_of_recorded_requests_are_cut_where_that_is_asked_for(
    too_long: str, prompt: int, answer: int, tmp_path: Path
) -> None:
    config = _config(tmp_path, _rows(30), **{"workload.too_long": too_long})
    lengths = (300, 6) if too_long == "cut" else (200, 300)
    recorded = Requests(np.arange(2.0), np.array([20, lengths[0]]), np.array([6, lengths[1]]))
    result = fitted(config, context_of(DEMO), recorded)
    assert result.rows is None and result.workload.output_tokens == [6, answer]
    assert token_counts([str(result.workload.prompts[1])], DEMO, tmp_path) == [prompt + 1]


def test_recorded_answers_to_prompts_of_the_workload_are_judged_by_their_texts(tmp_path: Path) -> None:
    config = _config(tmp_path, _rows(39, LONG))
    result = fitted(config, context_of(DEMO), Requests(np.arange(40.0), None, np.full(40, 6)))
    assert result.rows is not None and result.rows.tolist() == list(range(39))


def test_what_fits_for_certain_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.workload.tokens.tokenizer_of", lambda *_: pytest.fail("a tokenizer was loaded"))
    assert len(fitted_workload(_config(tmp_path, _rows(50), **LIMITED)).prompts) == 50


def test_each_row_has_its_own_limit_below_the_bound_on_all(tmp_path: Path) -> None:
    bounded = fitted_workload(_config(tmp_path, ROWS, **LIMITED, **{"workload.max_tokens": "16"}), WIDE)
    assert (bounded.max_tokens, bounded.limits, bounded.bound(0)) == (16, [4, 16, 16], 4)
    free = fitted_workload(_config(tmp_path, ROWS, **LIMITED), WIDE)
    assert (free.max_tokens, free.limits) == (300, [4, 300, 20])
    alike = fitted_workload(_config(tmp_path, ROWS, **{"workload.max_tokens": "16"}), WIDE)
    assert alike.bound(0) == 16
    assert len({bounded.hash, free.hash, alike.hash}) == 3


@pytest.mark.parametrize("value", [0, "many", None])
def test_a_limit_that_is_no_number_of_tokens_is_named_with_its_row(value: object, tmp_path: Path) -> None:
    rows = [{"prompt": "the dog", "max_tokens": value}] * 2
    with pytest.raises(ConfigError, match=rf"line 1: max_tokens must be a whole number from 1, got {value!r}"):
        fitted_workload(_config(tmp_path, rows, **LIMITED))


def test_the_order_of_the_rows_belongs_to_the_workload(tmp_path: Path) -> None:
    seeded = fitted_workload(_config(tmp_path, ROWS, **{"workload.max_tokens": "16"}), WIDE)
    ordered = fitted_workload(
        _config(tmp_path, ROWS, **{"workload.max_tokens": "16", "workload.in_order": "true"}), WIDE
    )
    assert (seeded.in_order, ordered.in_order) == (False, True)
    assert seeded.hash != ordered.hash


def test_nothing_is_fitted_to_a_model_that_somebody_else_serves(tmp_path: Path) -> None:
    config = _config(
        tmp_path, [{"prompt": CHAT, "max_tokens": 4}, *ROWS], **LIMITED, **{"workload.too_long": "leave_out"}
    )
    assert len(fitted_workload(config, remote=True).prompts) == 4
