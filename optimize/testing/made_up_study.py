"""A study with made-up figures, for tests and benchmarks of what reads studies."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import create_trial

from objectives import Direction, Estimate, RequestRecord
from optimize.config.command_words import head_of
from optimize.config.schema import Scenario
from optimize.decision.constraints import Limit, violations
from optimize.engine.simulated import VERSION
from optimize.files import write_atomically
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import ROLE, Role, State
from optimize.report.data import Facts
from optimize.report.effects import Effect
from optimize.report.loader import gather
from optimize.study.confirmation import recommendation
from optimize.study.info import StudyInfo, store_info
from optimize.study.rows import row_of
from optimize.study.trial_attributes import attributes_of

DIRECTIONS: dict[str, Any] = {
    "qps": "maximize",
    "p99_latency_s": "minimize",
    "memory_bytes": "minimize",
    "bleu": "maximize",
}


LIMITS = [Limit("p99_latency_s", True, 2.0, False), Limit("bleu", False, 0.95, True)]


SPACE: dict[str, Any] = {
    "quantization": optuna.distributions.CategoricalDistribution(["fp16", "int8", "int4"]),
    "batch_size": optuna.distributions.IntDistribution(1, 256, log=True),
    "beam_size": optuna.distributions.CategoricalDistribution([1, 2, 4]),
    "workers": optuna.distributions.CategoricalDistribution([1, 2]),
}


_DEFAULTS = {"quantization": "fp16", "batch_size": 128, "beam_size": 1, "workers": 1}


_SIGNATURE = {"machine": "none: made up", "engine": VERSION, "model": "made up", "load": "made up", "seed": "0"}


_REQUESTS = 200


def made_up(folder: Path, trials: int) -> Facts:
    """The content of a report on `made_up_study`, whose arguments it takes."""
    study, ledger = made_up_study(folder, trials)
    best = recommendation(study)
    rows = [row_of(study, best)] if best else []
    return gather(study, ledger, rows, _effects())


def made_up_study(folder: Path, trials: int) -> tuple[optuna.Study, Ledger]:
    """A study in memory and in a ledger.

    Args:
        folder: Folder of the ledger.
        trials: Number of trials, the baseline included; about a tenth of them are infeasible.
    """
    rng, ledger = random.Random(0), Ledger(folder)
    study = optuna.create_study(study_name="made-up", directions=list(DIRECTIONS.values()))
    store_info(study, _info())
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "config.yaml", head_of(["+study=chat", "engine=simulated"]))
    write_atomically(folder / "mlflow.json", '{"uri": "", "run_id": "parent", "complete": true}')
    baseline: dict[str, Estimate] = {}
    for number in range(trials):
        record = _record(number, rng, baseline)
        baseline = baseline or record.estimates
        _keep(study, ledger, record)
    return study, ledger


def _info() -> StudyInfo:
    weights = {"p99_latency_s": 4.0, "qps": 1.0, "memory_bytes": 0.5, "bleu": 4.0}
    return StudyInfo(
        Scenario("chat", "Made-up chat", weights), {name: Direction(d) for name, d in DIRECTIONS.items()},
        tuple(LIMITS), model="made up", signature=_SIGNATURE,
    )  # fmt: skip


def _record(number: int, rng: random.Random, baseline: Mapping[str, Estimate]) -> TrialRecord:
    params = _DEFAULTS if number == 0 else _drawn(rng)
    record = TrialRecord(
        study="made-up", number=number, role=Role.SEARCH if number else Role.BASELINE, params=dict(params),
        config={"request": {"beam_size": params["beam_size"], "fields": []}, "deploy_command": ""},
        signature=_SIGNATURE, baseline=number == 0, started_at=1000.0 + 20 * number, ended_at=1015.0 + 20 * number,
        seconds={"ask": 1.0, "engine_start": 2.0, "warmup": 1.0, "window": 8.0, "drain": 0.5, "wall": 15.0},
    )  # fmt: skip
    if number and rng.random() < 0.1:
        record.state, record.reason = State.INFEASIBLE, "device_oom: CUDA out of memory (made up)"
        record.violations = {"runs": 1.0, **{limit.name: 1.0 for limit in LIMITS}}
        return record
    record.state, record.estimates = State.COMPLETED, _figures(params, rng)
    record.violations = violations(LIMITS, record.estimates, baseline or record.estimates)
    record.feasible = all(v <= 0 for v in record.violations.values())
    return record


def _drawn(rng: random.Random) -> dict[str, Any]:
    return {
        "quantization": rng.choice(["fp16", "int8", "int4"]),
        "batch_size": round(math.exp(rng.uniform(0, math.log(256)))),
        "beam_size": rng.choice([1, 2, 4]), "workers": rng.choice([1, 2]),
    }  # fmt: skip


def _figures(params: Mapping[str, Any], rng: random.Random) -> dict[str, Estimate]:
    bits = {"fp16": 16, "int8": 8, "int4": 4}[params["quantization"]]
    speed = (params["batch_size"] ** 0.4) * (1.2 if bits == 8 else 1.0) / params["beam_size"] ** 0.7
    values = {
        "qps": (4.0 * speed, "1/s"), "p99_latency_s": (1.5 * params["beam_size"] ** 0.6 / speed**0.5, "s"),
        "memory_bytes": (2.0**20 * (bits / 2 + 0.05 * params["batch_size"]), "bytes"),
        "bleu": (70.0 - 12.0 / bits + 1.2 * math.log2(params["beam_size"]), "BLEU"),
    }  # fmt: skip
    noisy = {name: (value * rng.lognormvariate(0, 0.06), unit) for name, (value, unit) in values.items()}
    return {name: Estimate(v, v * 0.93, v * 1.08, 100, unit) for name, (v, unit) in noisy.items()}


def _keep(study: optuna.Study, ledger: Ledger, record: TrialRecord) -> None:
    measured, attributes = record.state is State.COMPLETED, {ROLE: str(record.role), **attributes_of(record)}
    values = [record.estimates[name].value if measured else 1.0 for name in DIRECTIONS]
    study.add_trial(create_trial(params=record.params, distributions=SPACE, values=values, user_attrs=attributes))
    ledger.write(record)
    write_atomically(ledger.trial_folder(record.number) / "mlflow.json", f'{{"run_id": "run{record.number:029d}"}}')
    if measured:
        ledger.write_requests(record.number, _requests(record), _series())


def _requests(record: TrialRecord) -> list[RequestRecord]:
    rng, usual = random.Random(record.number), record.estimates["p99_latency_s"].value / 2
    due = [9.0 * i / _REQUESTS for i in range(_REQUESTS)]
    ends = [t + usual * rng.lognormvariate(0, 0.3) for t in due]
    return [RequestRecord(i, t, t, None, end, 20, 30, "") for i, (t, end) in enumerate(zip(due, ends, strict=True))]


def _series() -> dict[str, list[tuple[float, float]]]:
    times = [0.5 * i for i in range(18)]
    return {
        "requests_running": [(t, 4 + math.sin(t)) for t in times],
        "cpu_cores": [(t, 1.5 + 0.1 * math.cos(t)) for t in times],
        "generated_tokens": [(t, 900 * t) for t in times],
    }  # fmt: skip


def _effects() -> list[Effect]:
    changes: list[tuple[str, Any]] = [("quantization", "int8"), ("batch_size", 1), ("beam_size", 4), ("workers", 2)]
    references = {
        "qps": (16.0, "1/s"),
        "p99_latency_s": (0.8, "s"),
        "memory_bytes": (15e6, "bytes"),
        "bleu": (69.0, ""),
    }
    return [
        Effect(name, {knob: value}, {knob: _DEFAULTS[knob]}, ratio, 0.97 * ratio, 1.03 * ratio, True, figure, unit)
        for (knob, value), ratio in zip(changes, (0.5, 1.6, 0.8, 1.1), strict=True)
        for name, (figure, unit) in references.items()
    ]
