"""Importance of knobs and pairs as tables, sentences and a heat map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimize.files import write_files
from optimize.formatting import markdown_line
from optimize.report.figures import write_html
from optimize.report.importance import LEAST_TRIALS, Share, shares
from optimize.search.designs import grid_values
from optimize.search.gp_sampler import LOG_SCALE_ATTR
from optimize.study.info import info_of
from optimize.study.trial_attributes import estimates_of
from optimize.study.trials import measured

if TYPE_CHECKING:
    import optuna


def importance_of(study: optuna.Study) -> list[Share]:
    """Shares of every knob and pair for each objective, from all measured trials, feasible or not."""
    trials = measured(study)
    names = list(info_of(study).directions)
    levels = {knob: grid_values(d) for t in trials[:1] for knob, d in t.distributions.items()}
    figures = {name: [estimates_of(t)[name].value for t in trials] for name in names}
    logs = dict(zip(names, study.user_attrs.get(LOG_SCALE_ATTR, [False] * len(names)), strict=True))
    return shares([t.params for t in trials], figures, levels, logs)


def to_markdown(found: Sequence[Share], trials: int) -> str:
    """All shares as a table, and a sentence on each."""
    if not found:
        return f"Not enough evidence on any knob: {trials} measured trials, {LEAST_TRIALS} are the least to look at.\n"
    lines = [markdown_line(["objective", "knob or pair", "share of the variance", "by chance", "evidence"])]
    lines.append(markdown_line(["---"] * 5))
    for share in found:
        cells = [
            share.figure, " x ".join(share.knobs), f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]",
            f"{share.chance:.0%}", "yes" if share.evident else "not enough",
        ]  # fmt: skip
        lines.append(markdown_line(cells))
    about = (
        f"From {trials} measured trials. A pair's share is what it explains beyond its two knobs. The search tries "
        "good settings more often than others, so shares hold for where it looked."
    )
    return "\n".join([*lines, "", about, "", *(f"- {share.in_words()}" for share in found)]) + "\n"


def evident(found: Sequence[Share]) -> str:
    """What there is evidence for, strongest first, in sentences."""
    sure = sorted((s for s in found if s.evident), key=lambda s: -s.value)
    rest = len(found) - len(sure)
    lines = [f"  {share.in_words()}" for share in sure]
    return "\n".join([*lines, f"  For {rest} other shares there is not enough evidence (importance.md)."])


def heat_map(found: Sequence[Share]) -> go.Figure:
    """Knobs by knobs for each objective: what each explains alone on the diagonal, pairs beside it."""
    figures = list(dict.fromkeys(share.figure for share in found))
    knobs = list(dict.fromkeys(knob for share in found for knob in share.knobs))
    drawn = make_subplots(rows=1, cols=len(figures), subplot_titles=figures, horizontal_spacing=0.12)
    for column, name in enumerate(figures, start=1):
        of = {frozenset(s.knobs): s for s in found if s.figure == name}
        cells = [[of.get(frozenset((row, col))) for col in knobs] for row in knobs]
        drawn.add_trace(
            go.Heatmap(
                z=[[None if c is None else c.value for c in row] for row in cells], x=knobs, y=knobs,
                text=[["" if c is None else f"{c.value:.0%}{'' if c.evident else ' ?'}" for c in row] for row in cells],
                texttemplate="%{text}", hovertext=[["" if c is None else c.in_words() for c in row] for row in cells],
                hovertemplate="%{hovertext}<extra></extra>", zmin=0, zmax=1, colorscale="Cividis",
                showscale=column == len(figures),
            ),
            row=1, col=column,
        )  # fmt: skip
    drawn.update_layout(
        template="plotly_white", height=420, margin={"t": 90},
        title={"text": "Share of the variance explained; ? where there is not enough evidence"},
    )  # fmt: skip
    return drawn


def write_importance(found: Sequence[Share], trials: int, folder: Path) -> list[Path]:
    """Write importance.md, importance.json and, where there is something to draw, importance.html."""
    texts = {
        "importance.md": to_markdown(found, trials),
        "importance.json": json.dumps([{**asdict(s), "evident": s.evident} for s in found], indent=1),
    }
    files = write_files(texts, folder)
    return [*files, write_html(heat_map(found), folder / "importance.html")] if found else files


def read_importance(path: Path) -> list[Share]:
    """What `write_importance` kept in importance.json."""
    kept: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    names = [f.name for f in fields(Share)]
    return [Share(**{n: raw[n] for n in names} | {"knobs": tuple(raw["knobs"])}) for raw in kept]
