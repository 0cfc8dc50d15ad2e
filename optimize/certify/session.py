"""A certification from its configuration to its certificate; an interrupted one resumes run by run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from objectives import RequestRecord
from optimize.certify.fault_run import run_fault
from optimize.certify.faults import FAULTS
from optimize.certify.report import Provenance, to_markdown, verdicts, write_report
from optimize.certify.results import FaultResult, grouped, read_all
from optimize.certify.schedule import STRESS, Run, runs
from optimize.certify.stress import run_stress
from optimize.certify.testbed import Calibration, Testbed
from optimize.config.names import new_name
from optimize.config.schema import StudyConfig
from optimize.driver.session import tracked
from optimize.driver.signals import terminable
from optimize.errors import EngineFailure, TransientFault
from optimize.files import write_atomically
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.outcome import Completed, Evaluation, Failed, Role
from optimize.plan import Plan
from optimize.serve.reporter import say
from optimize.serve.session import make_launcher
from optimize.study.capacity import capacity_of
from optimize.study.target import Target, choose
from optimize.tracking.tracker import Tracker

_CALIBRATION = "first.json"


def run_certification(config: StudyConfig, config_yaml: str) -> int:
    """Execute all runs that remain, and write the certificate.

    Returns:
        0, whatever the verdicts.

    Raises:
        ConfigError: bad input.
        EngineFailure: the configuration does not start.
    """
    make_launcher(config)
    plan, target = choose(config, f"certify-{config.study.name}", say)
    config = with_stress_target(config, target)
    plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, certify=config.certify))
    folder = folder_of(plan, target, config)
    ledger = Ledger(folder)
    before = digest(study_folder(config.output_dir, config.study.name))
    tags = {"study": folder.name, "scenario": plan.config.scenario.name, "model": plan.config.model.name}
    say(f"certifying the {target.title}: {target.in_words()}")
    conclude = partial(_conclude, config, plan, target, ledger)
    with terminable(), tracked(dataclasses.replace(plan, folder=folder), config_yaml, say, conclude, tags) as tracker:
        _run_all(config, plan, target, ledger, tracker)
    if before != digest(study_folder(config.output_dir, config.study.name)):
        say("warning: the study's own files changed during the certification")
    return 0


def with_stress_target(config: StudyConfig, target: Target) -> StudyConfig:
    """The configuration with the target rate of the stress ramp: its own, or what the row's capacity says."""
    settings, capacity = config.certify, capacity_of(target.estimates)
    stress_per_s = settings.stress_target_per_s
    if settings.stress_per_s is None and capacity is not None:
        stress_per_s = capacity.low
        say(f"stress target: {stress_per_s:.3g} requests/s, the lower end of the row's measured capacity")
    return dataclasses.replace(config, certify=dataclasses.replace(settings, stress_per_s=stress_per_s))


def folder_of(plan: Plan, target: Target, config: StudyConfig) -> Path:
    """The folder of this configuration under these settings; runs under other settings are not comparable."""
    settings = dataclasses.asdict(dataclasses.replace(config.certify, scenarios=[], mitigations=True))
    identity = [target.config.engine.key, dataclasses.asdict(target.config.request), settings, dict(plan.signature)]
    name = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:8]
    folder = plan.folder.with_name(f"{plan.folder.name}-{name}")
    if config.study.fresh and folder.exists():
        folder.rename(folder.with_name(new_name(folder.name)))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(folder: Path) -> str:
    """A hash of a study's trials, to detect changes to them."""
    sha = hashlib.sha256()
    for path in sorted(folder.glob("trials/*/trial.json")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _run_all(config: StudyConfig, plan: Plan, target: Target, ledger: Ledger, tracker: Tracker) -> None:
    remaining = list(runs(config.certify, config.repeats, {f.key for f in read_all(ledger.folder)}))
    if not remaining:
        say("all runs are done: study.fresh=true starts over")
        return
    with Testbed(plan, target, lambda: make_launcher(config), ledger.folder, say) as testbed:
        testbed.calibrate(_calibration(testbed, ledger.folder))
        say(f"{len(remaining)} runs at {testbed.rate_per_s:.1f} requests/s")
        for run in remaining:
            _record(run, testbed, config, ledger, tracker)


def _calibration(testbed: Testbed, folder: Path) -> Calibration:
    """The calibration of all runs, measured by the first."""
    path = folder / _CALIBRATION
    if not path.is_file():
        write_atomically(path, json.dumps(dataclasses.asdict(testbed.measure_calibration())))
    return Calibration(**json.loads(path.read_text(encoding="utf-8")))


def _record(run: Run, testbed: Testbed, config: StudyConfig, ledger: Ledger, tracker: Tracker) -> None:
    say(f"- {run.in_words()}")
    number = 1 + max((r.number for r in ledger.records()), default=-1)
    record = TrialRecord(
        study=ledger.folder.name, number=number, role=Role.CERTIFICATION,
        params={"scenario": run.scenario, "mitigation": run.mitigated, "repeat": run.repeat},
        config=dataclasses.asdict(testbed.target.config), signature=dict(testbed.plan.signature),
        started_at=time.time(),
    )  # fmt: skip
    ledger.write(record)
    tracker.begin(record)
    try:
        with tracker.held():
            result, requests, series = _execute(run, testbed)
    except KeyboardInterrupt:
        record.conclude(Evaluation(Failed("interrupted")))
        ledger.write(record)
        raise
    except (EngineFailure, TransientFault) as failure:
        record.conclude(Evaluation(Failed(str(failure))))
        say(f"  failed: {failure}")
    else:
        _keep(result, requests, series, record, ledger)
    ledger.write(record)
    tracker.end(record)


def _execute(run: Run, testbed: Testbed) -> tuple[FaultResult, list[RequestRecord], Any]:
    if run.scenario == STRESS:
        return run_stress(run.repeat, testbed)
    return run_fault(FAULTS[run.scenario], run.mitigated, run.repeat, testbed)


def _keep(result: FaultResult, requests: list[RequestRecord], series: Any, record: TrialRecord, ledger: Ledger) -> None:
    result.date = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    ledger.write_requests(record.number, requests, series)
    result.write(ledger.trial_folder(record.number))
    record.conclude(Evaluation(Completed(result.estimates()), disturbances=result.disturbed))
    record.feasible = False  # a certificate keeps no study's constraints
    record.reason = result.error
    record.evidence = [*result.notes, *(f"{k}: {v}" for k, v in result.words.items() if v)]
    say("  " + (result.error or ", ".join(f"{name} {figure:.3g}" for name, figure in result.figures.items())))


def _command(arguments: Sequence[str]) -> str:
    """The command line without folders, which differ between machines."""
    words = [a for a in arguments if not a.startswith(("output_dir=", "cache_dir="))]
    return shlex.join(["python", "-m", "optimize.certify", *words])


def _conclude(config: StudyConfig, plan: Plan, target: Target, ledger: Ledger, tracker: Tracker, status: str) -> None:
    order = [STRESS, *FAULTS]
    results = sorted(read_all(ledger.folder), key=lambda f: (order.index(f.scenario), f.mitigated, f.repeat))
    if not results:
        tracker.close({}, "nothing was measured", [], status)
        return
    title = f"{target.title}, {target.in_words()}"
    provenance = Provenance(title, plan.signature, _command(sys.argv[1:]), f"{datetime.now(UTC):%Y-%m-%d}")
    files = write_report(results, provenance, config.certify, ledger.folder / "report")
    groups = grouped(results)
    certified = {f"certified.{n}{'.mitigated' if m else ''}": float(v.certified or False)
                 for (n, m), v in verdicts(groups, config.certify).items()}  # fmt: skip
    text = to_markdown(groups, provenance, config.certify)
    tracker.close(certified, text[:5000], files, status)
    say(f"\n{text}\nwritten: {', '.join(str(path) for path in files)}")
