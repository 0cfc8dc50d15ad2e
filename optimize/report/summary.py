"""The end of a study: its result on the terminal, its files, and the metrics of MLflow's parent run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.config.schema import StudyConfig
from optimize.decision.recommendation import Recommendation
from optimize.files import write_files
from optimize.formatting import markdown_block, markdown_text
from optimize.ledger import Ledger, study_folder
from optimize.plan import Plan
from optimize.report.commands import deployment_line
from optimize.report.confirmation import confirmation_markdown
from optimize.report.effects import Effect, effects_of, explanation, lines_of, write_effects
from optimize.report.figures import pareto_figure, write_html
from optimize.report.loader import gather
from optimize.report.matrix import front_markdown, to_markdown, write_front, write_matrix
from optimize.report.page import ui_of, write_report
from optimize.report.terminal import counts_of, counts_text, in_words, no_recommendation, unconfirmed
from optimize.report.time_spent import costs_of, windows_in_words
from optimize.study import confirmation
from optimize.study.lifecycle import stored_studies
from optimize.study.rows import matrix_rows, row_of, signature_warning
from optimize.study.status import failure_of
from optimize.study.trials import candidates

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go


def conclude(plan: Plan, study: optuna.Study) -> tuple[list[Path], dict[str, float], str]:
    """Print the study's result and write its files.

    Returns:
        (files for the tracker, metrics of the parent run, its note in Markdown).
    """
    recommendation, search = confirmation.recommendation(study), confirmation.first_reading(study)
    records = list(Ledger(plan.folder).records())
    counts, costs, windows = counts_of(study), costs_of(records), windows_in_words(records)
    print(f"\nstudy {study.study_name}: {counts_text(counts)}")
    if costs is not None:
        print(costs.in_words())
        counts |= costs.metrics()
    if windows:
        print(windows)
    if recommendation is None or search is None:
        note = f"No recommendation yet: {no_recommendation(search is not None, bool(candidates(study)))}."
        print(note)
        failure = failure_of(plan.folder)  # printed at the command's end
        return [], counts, f"{note} {markdown_text(f'The session failed: {failure}.')}" if failure else note
    effects = effects_of(study)
    files = _show_result(plan, study, recommendation, search, effects)
    knobs = "\n".join(lines_of(effects))
    text = "\n\n".join(filter(None, (in_words(study, recommendation).strip(), knobs, windows)))
    note = f"{markdown_block([text])}\n\n{to_markdown([row_of(study, recommendation)], markdown_text)}"
    return files, {**_metrics(recommendation), **counts}, note


def _show_result(
    plan: Plan, study: optuna.Study, recommendation: Recommendation, search: Recommendation, effects: Sequence[Effect],
) -> list[Path]:  # fmt: skip
    """Print the recommendation with all its evidence, and write the same as files."""
    row, folder, measured = row_of(study, recommendation), plan.folder / "report", candidates(study)
    print(in_words(study, recommendation))
    print(deployment_line(row.config, Ledger(plan.folder).overrides()), end="")
    if caution := signature_warning(study):
        print(f"\n{caution}")
    pareto = pareto_of(study)
    assert pareto is not None  # there is a recommendation
    files = [*write_matrix([row], folder), *write_front(row, search.front, folder)]
    files += [write_html(pareto, folder / "pareto.html"), *_show_confirmation(study, recommendation, folder)]
    files += write_effects(effects, len(measured), folder)
    lines = [*lines_of(effects), explanation(effects, len(measured))]
    print("\n".join(["what the knobs do:", *(f"  {line}" for line in lines), ""]))
    front = front_markdown(row, search.front)
    print(f"Pareto front of {study.study_name}, single measurements of the search, best score first:\n\n{front}")
    rows = matrix_rows(stored_studies(plan.config.tracking.storage))
    matrix = write_matrix(rows, Path(plan.config.output_dir))
    print(f"matrix over all studies ({matrix[0]}):\n\n{to_markdown(rows)}")
    return files


def _show_confirmation(study: optuna.Study, recommendation: Recommendation, folder: Path) -> list[Path]:
    refuted = confirmation.refuted(study)
    if not recommendation.rounds:
        print(f"\n{unconfirmed(refuted)}")
        return []
    text = confirmation_markdown(row_of(study, recommendation), refuted)
    print(f"\nconfirmation:\n\n{text}")
    return write_files({"confirmation.md": text}, folder)


def _metrics(recommendation: Recommendation) -> dict[str, float]:
    """Metrics of the study's own run; `optimize.tracking.metric_keys` explains the keys."""
    figures = recommendation.pick.estimates.items()
    return {
        "score": recommendation.score.value,
        **{f"gain/{name}": e.value for name, e in recommendation.gains.items()},
        **{f"recommended/{name}": e.value for name, e in figures},
        **{f"interval/{name}.{end}": float(getattr(e, end)) for name, e in figures for end in ("low", "high")},
    }


def pareto_of(study: optuna.Study, objectives: Sequence[str] | None = None) -> go.Figure | None:
    """The Pareto figure of the search's measurements, of all objectives or some; None without a recommendation."""
    recommendation, search = confirmation.recommendation(study), confirmation.first_reading(study)
    if recommendation is None or search is None:
        return None
    directions = confirmation.directions_of(study)
    shown = {name: way for name, way in directions.items() if objectives is None or name in objectives}
    return pareto_figure(candidates(study), [c.number for c in search.front], recommendation.pick.number, shown)


def pareto_by_pair(study: optuna.Study) -> dict[str, go.Figure]:
    """Id -> Pareto figure of one pair of objectives; empty without a recommendation."""
    pairs = {f"pareto-{x}-{y}": pareto_of(study, (x, y)) for x, y in combinations(confirmation.directions_of(study), 2)}
    return {name: drawing for name, drawing in pairs.items() if drawing is not None}


def write(
    config: StudyConfig, study: optuna.Study, studies: Sequence[optuna.Study],
    effects: Sequence[Effect] | None = None, ledger: Ledger | None = None,
) -> list[Path]:  # fmt: skip
    """Write the report of a study, finished or not.

    Args:
        config: Where the studies and MLflow's pages are.
        study: The study.
        studies: All studies of the matrix.
        effects: What its knobs are shown to do; None computes it.
        ledger: The study's folder, which knows afterwards what could not be read; None opens it.

    Returns:
        The page, and the folder of its figures.
    """
    ledger = ledger or Ledger(study_folder(config.output_dir, study.study_name))
    ledger.check_tables()
    effects = effects_of(study) if effects is None else effects
    facts = gather(study, ledger, matrix_rows(studies), effects, signature_warning(study))
    return write_report(facts, ledger.folder / "report", ui_of(config.tracking.ui, config.tracking.uri))
