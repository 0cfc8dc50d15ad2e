"""Importance of the knobs as a table and as sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.files import write_files
from optimize.formatting import markdown_line, percent
from optimize.report.importance import LEAST_TRIALS, Share, shares
from optimize.search.designs import grid_values
from optimize.search.gp_sampler import LOG_SCALE_ATTR
from optimize.study.info import info_of
from optimize.study.trial_attributes import estimates_of
from optimize.study.trials import measured_trials

if TYPE_CHECKING:
    import optuna

_LEGEND = (
    "From {trials} measured trials, with 95 % intervals. A pair's share is what it explains beyond its two knobs. The "
    "search samples good settings more often than others, so the shares hold for the region it searched."
)


def importance_of(study: optuna.Study) -> list[Share]:
    """Shares of every knob and pair for each objective, from all measured trials, feasible or not."""
    trials = measured_trials(study)
    names = list(info_of(study).directions)
    levels = {knob: grid_values(d) for t in trials[:1] for knob, d in t.distributions.items()}
    figures = {name: [estimates_of(t)[name].value for t in trials] for name in names}
    logs = dict(zip(names, study.user_attrs.get(LOG_SCALE_ATTR, [False] * len(names)), strict=True))
    return shares([t.params for t in trials], figures, levels, logs)


def to_markdown(results: Sequence[Share], trials: int) -> str:
    """All shares of a study as a table, and a sentence on each."""
    if not results:
        return f"Not enough evidence on any knob: {trials} measured trials, and at least {LEAST_TRIALS} are needed.\n"
    return shares_markdown(results, _LEGEND.format(trials=trials))


def shares_markdown(results: Sequence[Share], legend: str) -> str:
    """Shares as a table with its legend, and a sentence on each."""
    head = ["objective", "knob or pair", "share of the variance", "reached by chance", "evident"]
    lines = [markdown_line(head), markdown_line(["---"] * len(head))]
    for share in results:
        cells = [
            share.figure, " × ".join(share.knobs), share.text, percent(share.chance), "yes" if share.evident else "no",
        ]  # fmt: skip
        lines.append(markdown_line(cells))
    return "\n".join([*lines, "", legend, "", *(f"- {share.in_words()}" for share in results)]) + "\n"


def evident(results: Sequence[Share]) -> str:
    """A sentence on each evident share, the largest first."""
    shares = sorted((s for s in results if s.evident), key=lambda s: -s.value)
    rest = len(results) - len(shares)
    lines = [f"  {share.in_words()}" for share in shares]
    return "\n".join([*lines, f"  Not enough evidence for the other {rest} shares; importance.md lists them."])


def write_importance(results: Sequence[Share], trials: int, folder: Path) -> list[Path]:
    """Write importance.md and importance.json; returns their paths."""
    texts = {
        "importance.md": to_markdown(results, trials),
        "importance.json": json.dumps([{**asdict(s), "evident": s.evident} for s in results], indent=1),
    }
    return write_files(texts, folder)


def read_importance(path: Path) -> list[Share]:
    """The shares in an importance.json that `write_importance` wrote."""
    stored: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    names = [f.name for f in fields(Share)]
    return [Share(**{n: raw[n] for n in names} | {"knobs": tuple(raw["knobs"])}) for raw in stored]
