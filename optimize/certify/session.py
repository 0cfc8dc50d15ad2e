"""A certification from its configuration to its certificate; it resumes like a study, run by run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from objectives import RequestRecord
from optimize.certify.fault_run import run_fault
from optimize.certify.faults import FAULTS
from optimize.certify.report import Provenance, to_markdown, verdicts, write_report
from optimize.certify.results import FaultResult, grouped, read_all
from optimize.certify.schedule import STRESS, Run, check, runs
from optimize.certify.stress import run_stress
from optimize.certify.testbed import Testbed
from optimize.config.schema import StudyConfig
from optimize.driver.session import terminable
from optimize.errors import EngineFailure, TransientFault
from optimize.files import write_atomically
from optimize.ledger import Ledger, TrialRecord
from optimize.plan import Plan
from optimize.serve.session import make_starter, say
from optimize.serve.validation import check as check_serve
from optimize.study.info import make_info
from optimize.study.target import Target, choose
from optimize.tracking.glossary import glossary
from optimize.tracking.tracker import Tracker

ROLE = "certification"
_FIRST = "first.json"


def run_certification(config: StudyConfig, config_yaml: str) -> int:
    """Put a configuration through everything that is asked and not done yet, and write the certificate.

    Returns:
        0, whatever the verdicts are.

    Raises:
        ConfigError: bad input.
        EngineFailure: the configuration does not start.
    """
    check(config.certify, config.repeats)
    check_serve(config.serve)
    make_starter(config)
    plan, chosen = choose(config, f"certify-{config.study.name}", say)
    folder = folder_of(plan, chosen, config)
    ledger = Ledger(folder)
    before = digest(Path(config.output_dir) / "studies" / config.study.name)
    write_atomically(folder / "config.yaml", config_yaml)
    tags = {"study": folder.name, "scenario": plan.config.scenario.name, "model": plan.config.model.name}
    info = make_info(plan, tags, glossary(plan.metrics, plan.objectives))
    info.write(folder)
    tracker, status = Tracker(config.tracking, ledger, info, say), "FAILED"
    say(f"certifying the {chosen.title}: {chosen.in_words()}")
    try:
        with terminable():
            tracker.open(config_yaml)
            _run_all(config, plan, chosen, ledger, tracker)
        status = "FINISHED"
    finally:
        _conclude(config, plan, chosen, ledger, tracker, status)
    if before != digest(Path(config.output_dir) / "studies" / config.study.name):
        say("warning: the study's own files changed meanwhile")
    return 0


def folder_of(plan: Plan, chosen: Target, config: StudyConfig) -> Path:
    """The folder of this configuration under these settings: with others, runs cannot be compared."""
    settings = dataclasses.asdict(dataclasses.replace(config.certify, scenarios=[], mitigations=True))
    told = [chosen.config.engine.key, dataclasses.asdict(chosen.config.request), settings, dict(plan.signature)]
    name = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:8]
    folder = plan.folder.with_name(f"{plan.folder.name}-{name}")
    if config.study.fresh and folder.exists():
        folder.rename(folder.with_name(f"{folder.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(folder: Path) -> str:
    """A hash of a study's trials, to show that nothing of it was lost; of no study, that of nothing."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("trials/*/trial.json")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _run_all(config: StudyConfig, plan: Plan, chosen: Target, ledger: Ledger, tracker: Tracker) -> None:
    left = list(runs(config.certify, config.repeats, {f.key for f in read_all(ledger.folder)}))
    if not left:
        say("nothing is left to run: study.fresh=true starts anew")
        return
    testbed = Testbed(plan, chosen, config.serve, config.certify, lambda: make_starter(config), ledger.folder, say)
    with testbed:
        testbed.know(_first(testbed, ledger.folder))
        say(f"{len(left)} runs at {testbed.rate_per_s:.1f} requests/s")
        for run in left:
            _one(run, testbed, config, ledger, tracker)


def _first(testbed: Testbed, folder: Path) -> Mapping[str, float]:
    """What is measured once and holds for all runs."""
    path = folder / _FIRST
    if not path.is_file():
        write_atomically(path, json.dumps(testbed.measure_first()))
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _one(run: Run, testbed: Testbed, config: StudyConfig, ledger: Ledger, tracker: Tracker) -> None:
    say(f"- {run.in_words()}")
    number = 1 + max((r.number for r in ledger.records()), default=-1)
    record = TrialRecord(
        study=ledger.folder.name, number=number, role=ROLE,
        params={"scenario": run.scenario, "mitigation": run.mitigated, "repeat": run.repeat},
        config=dataclasses.asdict(testbed.chosen.config), signature=dict(testbed.plan.signature),
        started_at=time.time(),
    )  # fmt: skip
    ledger.write(record)
    tracker.begin(record)
    try:
        with tracker.held():
            found, requests, series = _found(run, testbed)
    except KeyboardInterrupt:
        record.state, record.reason, record.ended_at = "failed", "interrupted", time.time()
        ledger.write(record)
        raise
    except (EngineFailure, TransientFault) as failure:
        record.state, record.reason = "failed", str(failure)
        say(f"  failed: {failure}")
    else:
        _keep(found, requests, series, record, ledger)
    record.ended_at = time.time()
    ledger.write(record)
    tracker.end(record)


def _found(run: Run, testbed: Testbed) -> tuple[FaultResult, list[RequestRecord], Any]:
    if run.scenario == STRESS:
        return run_stress(run.repeat, testbed)
    return run_fault(FAULTS[run.scenario], run.mitigated, run.repeat, testbed)


def _keep(found: FaultResult, requests: list[RequestRecord], series: Any, record: TrialRecord, ledger: Ledger) -> None:
    found.date = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    ledger.write_requests(record.number, requests, series)
    found.write(ledger.trial_folder(record.number))
    record.state, record.estimates = "completed", found.estimates()
    record.reason = found.error
    record.evidence = [*found.notes, *(f"{k}: {v}" for k, v in found.words.items() if v)]
    record.disturbed = found.disturbed
    shown = {k: f"{v:.3g}" for k, v in found.figures.items()}
    say("  " + (found.error or ", ".join(f"{k} {v}" for k, v in shown.items())))


def _command(arguments: Sequence[str]) -> str:
    """The command line, without the folders that differ from machine to machine."""
    told = [a for a in arguments if not a.startswith(("output_dir=", "cache_dir="))]
    return shlex.join(["python", "-m", "optimize.certify", *told])


def _conclude(config: StudyConfig, plan: Plan, chosen: Target, ledger: Ledger, tracker: Tracker, status: str) -> None:
    order = [STRESS, *FAULTS]
    found = sorted(read_all(ledger.folder), key=lambda f: (order.index(f.scenario), f.mitigated, f.repeat))
    if not found:
        tracker.close({}, "nothing was measured", [], status)
        return
    title = f"{chosen.title}, {chosen.in_words()}"
    about = Provenance(title, plan.signature, _command(sys.argv[1:]), f"{datetime.now(UTC):%Y-%m-%d}")
    files = write_report(found, about, config.certify, ledger.folder / "report")
    groups = grouped(found)
    certified = {f"certified.{n}{'.mitigated' if m else ''}": float(v.certified or False)
                 for (n, m), v in verdicts(groups, config.certify).items()}  # fmt: skip
    text = to_markdown(groups, about, config.certify)
    tracker.close(certified, text[:5000], files, status)
    say(f"\n{text}\nwritten: {', '.join(str(path) for path in files)}")
