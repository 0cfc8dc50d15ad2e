"""A made-up study whose every text is an attack on the page that shows it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest

from objectives import Estimate
from optimize.ledger import TrialRecord
from optimize.report.data import Facts
from optimize.study.info import StudyInfo
from optimize.testing import made_up_study

ATTACK = (
    "<script>attacked=1</script><img src=x onerror=attacked=2>'\"></svg>]]>--><a href=javascript:attacked=3>"
    "</textarea></style>{{7*7}}${7*7}\u2028![x](http://evil.example/x.png) [y](javascript:attacked=4) `|`"
)
"""In HTML, attributes, SVG, comments, CDATA, templates, scripts and Markdown."""


def hostile_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """Twenty trials with the attack in names, values, reasons, evidence, signatures and commands."""
    drawn, figures = made_up_study._drawn, made_up_study._figures
    record, info = made_up_study._record, made_up_study._info
    recipe = f"int8 {ATTACK}"

    def hostile_params(rng: random.Random) -> dict[str, Any]:
        params = drawn(rng)
        return {**params, "quantization": recipe if params["quantization"] == "int8" else params["quantization"]}

    def plain_figures(params: Mapping[str, Any], rng: random.Random) -> dict[str, Estimate]:
        return figures({**params, "quantization": params["quantization"][:4]}, rng)

    def hostile_record(number: int, rng: random.Random, baseline: Mapping[str, Estimate]) -> TrialRecord:
        made = record(number, rng, baseline)
        made.reason = f"{made.reason}{ATTACK}" if made.reason else ""
        made.evidence, made.config["deploy_command"] = [ATTACK], f"vllm serve {ATTACK}"
        made.disturbed, made.cut_short = [ATTACK] if number % 3 == 0 else [], ATTACK if number % 4 == 0 else ""
        return made

    def hostile_info() -> StudyInfo:
        made = info()
        return replace(made, scenario=replace(made.scenario, title=ATTACK), model=ATTACK, signature=signature)

    signature = dict.fromkeys(made_up_study._SIGNATURE, ATTACK)
    choices = optuna.distributions.CategoricalDistribution(["fp16", recipe, "int4"])
    monkeypatch.setattr(made_up_study, "SPACE", {**made_up_study.SPACE, "quantization": choices})
    monkeypatch.setattr(made_up_study, "_SIGNATURE", signature)
    monkeypatch.setattr(made_up_study, "_drawn", hostile_params)
    monkeypatch.setattr(made_up_study, "_figures", plain_figures)
    monkeypatch.setattr(made_up_study, "_record", hostile_record)
    monkeypatch.setattr(made_up_study, "_info", hostile_info)
    return made_up_study.made_up(folder, 20)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: set[tuple[str, ...]] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements |= {(tag, name) for name, _ in attrs} or {(tag,)}
        self.targets += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action")]


def elements(html: str) -> set[tuple[str, ...]]:
    """Every element of a page, with each attribute that it has."""
    return _parsed(html).elements


def targets(html: str) -> list[str]:
    """Every address that a page links to or loads."""
    return _parsed(html).targets


def _parsed(html: str) -> _Elements:
    parser = _Elements()
    parser.feed(html)
    return parser
