"""Figures computed again from stored requests: the same as when they were measured, or as another question has them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from objectives import Estimate, Measurement, Objective, RequestRecord
from objectives.cost import OutputTokenCost
from objectives.latency import LatencyQuantile, TimeToFirstToken
from objectives.memory import MemoryNeeded
from objectives.throughput import ErrorRate, Goodput, RequestRate
from optimize.config.whatif import WhatIf
from optimize.errors import ConfigError
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role, State
from optimize.whatif.figures import Figurer

WARMUP, WINDOW = 1.25, 8.5
METRICS: dict[str, Objective] = {
    "p99": LatencyQuantile(0.99), "ttft": TimeToFirstToken(0.5), "qps": RequestRate(), "errors": ErrorRate(),
    "good": Goodput(latency_max_s=1.0), "usd": OutputTokenCost(hourly_usd=3.6),
}  # fmt: skip
STORED = {"memory": Estimate(5, 4, 6, 1, "bytes"), "p99": Estimate(99, 99, 99, 1, "s")}


def _requests() -> list[RequestRecord]:
    rng = random.Random(3)
    ends = [(0.05 * i, 0.05 * i + rng.lognormvariate(0, 0.5)) for i in range(220)]
    return [
        RequestRecord(i % 40, due, due, due + 0.1, end, 10 + i % 40, 20, "", error="timeout" if i % 50 == 7 else None)
        for i, (due, end) in enumerate(ends)
    ]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path)
    for number, changes in enumerate(({}, {"capacity": {"value": 1}})):
        record = TrialRecord("chat", number, Role.SEARCH, {}, {}, {}, State.COMPLETED, **changes)  # type: ignore[arg-type]
        record.seconds = {"warmup": WARMUP, "window": WINDOW}
        ledger.write(record)
        ledger.write_requests(number, _requests(), {})
    return ledger


def _figures(ledger: Ledger, number: int = 0, throughput: float = 1.0, **settings: Any) -> dict[str, Estimate]:
    return Figurer(ledger, METRICS, WhatIf(**settings), throughput).of(number, STORED)


def test_figures_are_those_of_the_measurement(ledger: Ledger) -> None:
    measured = Measurement(_requests(), WARMUP, WARMUP + WINDOW, {})
    expected = {name: metric.estimate(measured) for name, metric in METRICS.items()}
    assert _figures(ledger) == {**STORED, **expected}


def test_what_requests_do_not_say_is_as_stored(ledger: Ledger) -> None:
    figurer = Figurer(ledger, {"memory": MemoryNeeded(), **METRICS}, WhatIf())
    assert figurer.of(0, STORED)["memory"] == STORED["memory"]
    assert figurer.of(7, STORED) == STORED  # its requests are lost
    assert figurer.of(1, STORED) == STORED  # a search for a capacity has no one window


def test_some_prompts_count_for_latencies_and_errors_and_all_for_rates(ledger: Ledger) -> None:
    every, some = _figures(ledger), _figures(ledger, prompts=[7, 8, 9])
    asked = Measurement([r for r in _requests() if r.prompt_id in (7, 8, 9)], WARMUP, WARMUP + WINDOW, {})
    for name in ("p99", "ttft", "errors"):
        assert some[name] == METRICS[name].estimate(asked) != every[name]
    for name in ("qps", "good", "usd"):
        assert some[name] == every[name]
    by_length = _figures(ledger, prompt_tokens_min=17, prompt_tokens_max=19)
    assert by_length == some


def test_a_price_is_that_of_the_hardware(ledger: Ledger) -> None:
    assert _figures(ledger, throughput=2.0)["usd"].value == pytest.approx(_figures(ledger)["usd"].value / 2)
    assert _figures(ledger, throughput=2.0)["qps"] == _figures(ledger)["qps"]


def test_prompts_that_were_not_sent_are_refused(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="trial 0 has no request of these prompts"):
        _figures(ledger, prompts=[99])


def test_requests_are_read_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    figurer = Figurer(ledger, METRICS, WhatIf())
    first = figurer.of(0, STORED)
    monkeypatch.setattr(ledger, "read_requests", lambda number: pytest.fail("read again"))
    assert figurer.of(0, STORED) == first
