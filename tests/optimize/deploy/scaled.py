"""Deployments of a row whose capacity was measured."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from objectives import Estimate
from optimize.config.deploy import Alerts, Autoscale, Deploy
from optimize.config.schema import StudyConfig
from optimize.deploy.autoscaling import FILES
from optimize.deploy.bundle import make_deployment, render
from optimize.deploy.deployment import Deployment
from optimize.deploy.scaling import scaling_of
from optimize.study.capacity import CAPACITY
from optimize.study.rows import StudyRow
from tests.optimize.rows import FIGURES, study_row

FIGURES_WITH_CAPACITY = FIGURES | {CAPACITY: Estimate(12.0, 10.0, 14.0, 3, "1/s")}
ROW = study_row(figures=FIGURES_WITH_CAPACITY)
BEAMS = study_row(request={"beam_size": 4, "fields": []}, figures=FIGURES_WITH_CAPACITY)


def deployment_of(row: StudyRow = ROW, folder: Path = Path("/srv/bundle"), **settings: Any) -> Deployment:
    autoscale = Autoscale(**{"start_s": 45.0, **settings.pop("autoscale", {})})
    config = StudyConfig(deploy=Deploy(**{"rate_per_s": 30.0, "autoscale": autoscale, **settings}))
    return dataclasses.replace(make_deployment(row, config, folder), scaling=scaling_of(row, config))


def documents(deployment: Deployment) -> dict[str, Any]:
    """Parsed files of the autoscalers, by name."""
    texts = render(deployment, Alerts())
    return {name: yaml.safe_load(texts[name]) for name in FILES if name in texts}


def replicas_in(texts: dict[str, str]) -> int:
    deployment, *_ = yaml.safe_load_all(texts["kubernetes.yaml"])
    return int(deployment["spec"]["replicas"])
