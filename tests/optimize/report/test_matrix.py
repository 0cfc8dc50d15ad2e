"""The recommended configuration matrix as Markdown, JSON and CSV."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from objectives import Direction, Estimate
from optimize.decision.recommendation import Candidate, recommend
from optimize.report.confirmation import confirmation_markdown
from optimize.report.matrix import knobs_of, to_csv, to_markdown, write_front, write_matrix
from optimize.study.rows import Row

DIRECTIONS = {"qps": Direction.MAXIMIZE, "bleu": Direction.MAXIMIZE}


def _candidate(number: int, params: dict[str, Any], qps: float, bleu: float, spread: float = 0.01) -> Candidate:
    figures = {
        "qps": Estimate(qps, qps * (1 - spread), qps * (1 + spread), 100, "1/s"),
        "bleu": Estimate(bleu, bleu - 1, bleu + 1, 100, "BLEU"),
    }
    return Candidate(number, params, figures, True, baseline=number == 0)


BASELINE = _candidate(0, {"quantization": "fp16", "batch_size": 128}, 10.0, 50.0)


def _row(scenario: str, *others: Candidate, objectives: tuple[str, ...] = ("qps", "bleu")) -> Row:
    result = recommend([BASELINE, *others], DIRECTIONS, {"qps": 1.0})
    assert result is not None
    return Row(
        scenario=scenario, title=f"{scenario.title()} (first)", study=f"{scenario}-1", recommendation=result,
        objectives={name: DIRECTIONS[name] for name in objectives}, config={"checkpoint": "cache/int8"},
        signature={"machine": "two cores", "seed": "0"},
        date="2026-11-22",
    )  # fmt: skip


CHAT = _row(
    "chat",
    _candidate(4, {"quantization": "int8", "batch_size": 64}, 20.0, 48.0),
    _candidate(5, {"quantization": "int4", "batch_size": 32}, 12.0, 49.0),
)
TIED = _row(
    "bulk",
    _candidate(7, {"quantization": "int8", "temperature": 0.123456}, 20.0, 40.0, spread=0.3),
    _candidate(8, {"quantization": "int8", "temperature": 0.5}, 19.0, 45.0, spread=0.3),
)
DEFAULTS = _row("abtest")


def test_the_data_type_that_vllm_chose_stands_beside_the_recipe() -> None:
    pick = replace(_candidate(4, {"quantization": "published", "batch_size": 64}, 20.0, 50.0), dtype="bfloat16")
    (row,) = _table(to_markdown([_row("chat", pick)]))
    assert (row["quantization"], row["batch_size"]) == ("published (bfloat16)", "64")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _table(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head = _cells(lines[0])
    assert all(len(_cells(line)) == len(head) for line in lines)
    return [dict(zip(head, _cells(line), strict=True)) for line in lines[2:]]


def test_the_four_knobs_come_first_and_only_those_used() -> None:
    assert knobs_of([CHAT]) == ["quantization", "batch_size"]
    assert knobs_of([CHAT, TIED]) == ["quantization", "batch_size", "temperature"]
    assert knobs_of([]) == []


def test_markdown_row_of_a_pick() -> None:
    (row,) = _table(to_markdown([CHAT]))
    assert row == {
        "scenario": "Chat (first)",
        "quantization": "int8",
        "batch_size": "64",
        "qps": "20.00 (19.80–20.20) requests/s",
        "bleu": "48.0 (47.0–49.0)",
        "relative to vLLM's defaults": row["relative to vLLM's defaults"],
        "runner-up": "trial 5: quantization=int4 batch_size=32",
    }
    assert row["relative to vLLM's defaults"].startswith("qps 2.000× (1.972–2.028), bleu 0.960× (")


def test_markdown_names_study_trial_date_and_signature() -> None:
    assert (
        "- **chat**: study `chat-1`, trial 4, a single measurement, 2026-11-22; machine: two cores; seed: 0"
        in to_markdown([CHAT])
    )


def test_markdown_marks_best_defaults_and_ties() -> None:
    chat, tied, defaults = _table(to_markdown([CHAT, TIED, DEFAULTS]))
    assert defaults["relative to vLLM's defaults"] == "the defaults are best"
    assert (defaults["runner-up"], defaults["temperature"]) == ("–", "–")
    assert tied["runner-up"] == "trial 8: quantization=int8 temperature=0.5 (tied)"
    assert (tied["temperature"], tied["batch_size"], chat["temperature"]) == ("0.123", "–", "–")


def test_objectives_of_different_studies_share_one_table() -> None:
    chat, bulk = _table(to_markdown([_row("chat", objectives=("qps",)), _row("bulk", objectives=("bleu", "qps"))]))
    assert list(chat) == list(bulk)
    assert {"qps", "bleu"} <= set(chat)


def test_csv_holds_the_exact_figures() -> None:
    chat, defaults = csv.DictReader(io.StringIO(to_csv([CHAT, DEFAULTS])))
    assert (chat["scenario"], chat["study"], chat["trial"]) == ("chat", "chat-1", "4")
    assert [float(chat[f"qps{end}"]) for end in ("", "_low", "_high")] == pytest.approx([20.0, 19.8, 20.2])
    assert float(chat["gain_qps"]) == pytest.approx(2.0)
    assert float(chat["score"]) == pytest.approx(2.0)
    assert (chat["machine"], defaults["machine"]) == ("two cores", "two cores")
    assert float(defaults["gain_qps"]) == 1.0


def test_rows_become_json() -> None:
    raw = json.loads(json.dumps(CHAT.to_dict()))
    assert (raw["scenario"], raw["trial"], raw["params"]) == ("chat", 4, {"quantization": "int8", "batch_size": 64})
    assert Estimate.from_dict(raw["estimates"]["qps"]) == CHAT.recommendation.pick.estimates["qps"]
    assert raw["runner_up"] == {"trial": 5, "params": {"quantization": "int4", "batch_size": 32}}
    assert (raw["better_than_defaults"], raw["runner_up_tied"]) == (True, False)
    assert TIED.to_dict()["runner_up_tied"] is True
    assert (DEFAULTS.to_dict()["runner_up"], DEFAULTS.to_dict()["better_than_defaults"]) == (None, False)


def test_three_files_are_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    write_matrix([CHAT, TIED], folder)
    paths = write_matrix([CHAT], folder)
    assert sorted(folder.iterdir()) == sorted(paths)
    markdown, raw, table = (path.read_text(encoding="utf-8") for path in paths)
    assert markdown == to_markdown([CHAT])
    assert json.loads(raw) == [json.loads(json.dumps(CHAT.to_dict()))]
    assert table == to_csv([CHAT])


def test_a_matrix_of_nothing_is_still_a_table(tmp_path: Path) -> None:
    assert _table(to_markdown([])) == []
    assert all(path.is_file() for path in write_matrix([], tmp_path))


def test_the_front_is_written_best_score_first_in_all_three_forms(tmp_path: Path) -> None:
    paths = write_front(CHAT, CHAT.recommendation.front, tmp_path)
    assert [p.name for p in paths] == ["front.md", "front.json", "front.csv"]
    # Scored by throughput alone: trial 4 (20/s), trial 5 (12/s), and the baseline, whose BLEU nothing beats.
    order = ["4", "5", "0"]
    assert [row["trial"] for row in _table(paths[0].read_text())] == order
    assert [str(p["trial"]) for p in json.loads(paths[1].read_text())["front"]] == order
    rows = list(csv.DictReader(io.StringIO(paths[2].read_text())))
    assert [row["trial"] for row in rows] == order
    assert float(rows[0]["qps_low"]) < float(rows[0]["qps"]) < float(rows[0]["qps_high"])


def test_the_defaults_are_named_with_the_format_that_they_serve() -> None:
    result = recommend(
        [replace(BASELINE, dtype="awq int4, float16"), CHAT.recommendation.pick], DIRECTIONS, {"qps": 1.0}
    )
    assert result is not None
    table = _table(confirmation_markdown(replace(CHAT, recommendation=result), {}))
    assert [row["settings"] for row in table][1] == "vLLM's defaults (awq int4, float16)"
    assert BASELINE.defaults == "vLLM's defaults"
