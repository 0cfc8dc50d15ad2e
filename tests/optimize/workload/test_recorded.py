"""Workloads whose requests have the lengths, the shared beginnings or the texts of recorded ones."""

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from optimize.config.measuring import WorkloadSource
from optimize.traces.requests import Requests
from optimize.workload.workload import Workload, load_workload
from tests.conftest import ROOT
from tests.optimize.workload.files import CHAT, ROWS, jsonl, word_model


def _recorded(prompts: list[int] | None, outputs: list[int], **more: Any) -> Requests:
    times_s = np.arange(float(len(prompts or outputs or [])))
    return Requests(times_s, None if prompts is None else np.array(prompts), np.array(outputs), **more)


def _tokens(workload: Workload, model: str) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    return [tokenizer.encode(str(prompt), add_special_tokens=False).ids for prompt in workload.prompts]


def test_recorded_lengths_keep_their_order(tmp_path: Path) -> None:
    source, model = WorkloadSource("mine", str(jsonl(tmp_path, ROWS))), word_model(tmp_path)
    recorded = _recorded([2, 1, 4, 3], [30, 10, 20, 5])
    workload = load_workload(source, model, tmp_path / "cache", recorded=recorded)
    assert [len(ids) for ids in _tokens(workload, model)] == [2, 1, 4, 3]
    assert workload.output_tokens == [30, 10, 20, 5]
    assert (workload.max_tokens, workload.in_order) == (30, True)


def test_requests_that_share_leading_blocks_share_their_text_and_no_others(tmp_path: Path) -> None:
    model = str(ROOT / "demo/model")
    source = WorkloadSource("mine", str(jsonl(tmp_path, ROWS * 5)))
    recorded = _recorded(
        [40, 40, 37, 40], [5] * 4, blocks=[(1, 2, 3), (1, 2, 4), (1, 5, 6), (7, 2, 3)], block_tokens=16
    )
    workload = load_workload(source, model, tmp_path / "cache", recorded=recorded)
    ids = _tokens(workload, model)
    assert [len(tokens) for tokens in ids] == [40, 40, 37, 40]
    shared = [_common(ids[0], other) for other in ids[1:]]
    assert 30 <= shared[0] < 40 and 14 <= shared[1] < 30 and shared[2] < 8  # seams may fall one token beside


def _common(one: list[int], other: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_many_requests_made_of_few_prompts_share_nothing(tmp_path: Path) -> None:
    model = str(ROOT / "demo/model")
    source = WorkloadSource("mine", str(ROOT / "demo/workloads/chat.jsonl"))
    workload = load_workload(source, model, tmp_path / "cache", recorded=_recorded([60] * 200, [5] * 200))
    ids = _tokens(workload, model)
    assert {len(tokens) for tokens in ids} == {60}
    assert len({tuple(tokens[:16]) for tokens in ids}) >= 195  # a block of an engine's prefix cache


def test_chats_give_the_text_of_recorded_requests(tmp_path: Path) -> None:
    source, model = WorkloadSource("mine", str(jsonl(tmp_path, [{"prompt": CHAT}] * 2))), word_model(tmp_path)
    workload = load_workload(source, model, tmp_path / "cache", recorded=_recorded([3, 2], [5, 5]))
    assert all(isinstance(prompt, str) for prompt in workload.prompts)


def test_recorded_prompts_are_sent_as_they_are(tmp_path: Path) -> None:
    source = WorkloadSource("mine", str(jsonl(tmp_path, ROWS)))
    texts: list[Any] = ["the cat", CHAT]
    workload = load_workload(source, "no/model", tmp_path / "cache", recorded=_recorded(None, [3, 4], texts=texts))
    assert (list(workload.prompts), workload.output_tokens, workload.in_order) == (texts, [3, 4], True)


def test_recorded_answers_go_with_prompts_of_any_length(tmp_path: Path) -> None:
    source = WorkloadSource("mine", str(jsonl(tmp_path, ROWS)))
    workload = load_workload(source, "no/model", tmp_path / "cache", recorded=_recorded(None, [1, 2, 3, 4]))
    assert list(workload.prompts) == [ROWS[i]["prompt"] for i in (0, 1, 2, 0)]
