"""A drawing as a PNG file, through matplotlib, which brings its own fonts and needs neither browser nor display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimize.files import replacing
from optimize.report.charts.canvas import CORNERS, LIGHT, Block, Drawing, Item, Label, Mark, Stroke

_SCALE = 2  # pixels of the file per pixel of the drawing
_POINTS = 72 / 100  # matplotlib's sizes are in points of 1/72 inch, the figure has 100 pixels to the inch
_ALIGNED = {"start": "left", "middle": "center", "end": "right"}


def write_png(drawing: Drawing, path: Path) -> Path:
    """Write the drawing in its light colours, at two pixels per unit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(drawing.width / 100, drawing.height / 100), dpi=100 * _SCALE)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.axis("off")
    for level, item in enumerate(drawing.items):
        _paint(axes, item, level)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", facecolor=LIGHT["paper"])
    return path


def _paint(axes: Any, item: Item, level: int) -> None:
    from matplotlib.patches import Rectangle

    colour, alpha = LIGHT[item.role], 0.45 if "faint" in getattr(item, "style", "") else 1.0
    match item:
        case Mark():
            _paint_mark(axes, item, level, colour, alpha)
        case Stroke():
            dash = (0, tuple(float(v) / item.width for v in item.dash.split())) if item.dash else "-"
            for line in item.lines:
                axes.plot(
                    *zip(*line, strict=True), color=colour, alpha=alpha, lw=item.width * _POINTS, ls=dash, zorder=level,
                    solid_capstyle="butt",
                )  # fmt: skip
        case Label():
            axes.text(
                item.x, item.y, item.text.replace("$", r"\$"), color=colour, ha=_ALIGNED[item.anchor], va="baseline",
                size=item.size * _POINTS * 0.92, weight="bold" if item.bold else "normal", zorder=level,
                rotation=90 if item.turned else 0, rotation_mode="anchor",
            )  # fmt: skip
        case Block():
            axes.add_patch(
                Rectangle(
                    (item.x, item.y), max(item.width, 0), item.height, color=colour, alpha=alpha, lw=0, zorder=level
                )
            )


def _paint_mark(axes: Any, item: Mark, level: int, colour: str, alpha: float) -> None:
    from matplotlib.patches import Circle, Polygon

    style: dict[str, Any] = {
        "facecolor": LIGHT["paper"] if "open" in item.style else colour,
        "alpha": alpha,
        "zorder": level,
    }
    style |= {"edgecolor": colour if "open" in item.style else LIGHT["paper"], "lw": 0.8 * _POINTS}
    if item.shape == "cross":
        for sign in (1, -1):
            axes.plot(
                [item.x - item.size, item.x + item.size], [item.y - sign * item.size, item.y + sign * item.size],
                color=colour, alpha=alpha, lw=1.6 * _POINTS, zorder=level,
            )  # fmt: skip
    elif item.shape == "circle":
        axes.add_patch(Circle((item.x, item.y), item.size, **style))
    else:
        corners = [(item.x + x * item.size, item.y + y * item.size) for x, y in CORNERS[item.shape]]
        axes.add_patch(Polygon(corners, **style))
