"""A figure as a list of marks, and as SVG.

Marks have a role in place of a colour: the page's style sheet colours it, in light, dark and print. The mark of a trial
carries its number, so that the page can show its configuration and highlight it in all other figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from optimize.formatting import printable

Point = tuple[float, float]
Space = tuple[float, float, float]

# Okabe and Ito's palette, distinguishable to colour-blind readers; every class has its own shape as well.
LIGHT = {
    "ink": "#1d2127", "muted": "#5c6672", "grid": "#e3e6ea", "paper": "#ffffff", "pick": "#D55E00",
    "runner": "#0072B2", "front": "#0072B2", "plain": "#9aa1a9", "broken": "#B8578F", "base": "#00825e",
    "strong": "#0072B2", "weak": "#b9c0c7",
    "part1": "#0072B2", "part2": "#E69F00", "part3": "#009E73", "part4": "#c3c8ce",
}  # fmt: skip
DARK = {
    "ink": "#e8eaed", "muted": "#a3acb7", "grid": "#333a43", "paper": "#14171b", "pick": "#F08A3C",
    "runner": "#56B4E9", "front": "#56B4E9", "plain": "#7b848e", "broken": "#DE93BF", "base": "#2fc79b",
    "strong": "#56B4E9", "weak": "#515a64",
    "part1": "#56B4E9", "part2": "#E69F00", "part3": "#2fc79b", "part4": "#59626d",
}  # fmt: skip
SHAPES = {
    "pick": "star",
    "runner": "square",
    "front": "circle",
    "plain": "circle",
    "broken": "cross",
    "base": "diamond",
}
SIZES = {"pick": 7.5, "runner": 4.6, "front": 4.2, "plain": 3.2, "broken": 3.4, "base": 5.6}

_MARKS = """
svg{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
svg .m{fill:var(--c);stroke:var(--paper);stroke-width:.8}
svg .m.cross{fill:none;stroke:var(--c);stroke-width:1.6}
svg .m.open{fill:var(--paper);stroke:var(--c);stroke-width:1.4}
svg .l{fill:none;stroke:var(--c);stroke-linejoin:round}
svg .faint{opacity:.45}
svg .b{fill:var(--c)}
svg text{fill:var(--c);paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """A symbol at a point.

    Attributes:
        x: Pixels from the left.
        y: Pixels from the top.
        role: Its meaning, which decides its colour.
        shape: circle, square, diamond, star or cross.
        size: Radius in pixels.
        trial: Number of its trial.
        style: Further classes: "open", "faint".
        space: Its place in a figure that turns, each coordinate from -1 to 1.
    """

    x: float
    y: float
    role: str
    shape: str = "circle"
    size: float = 4.0
    trial: int | None = None
    style: str = ""
    space: tuple[Space, ...] = ()


@dataclass(frozen=True, slots=True)
class Stroke:
    """Lines, each through some points; other attributes as in Mark."""

    lines: Sequence[Sequence[Point]]
    role: str
    width: float = 1.0
    dash: str = ""
    trial: int | None = None
    style: str = ""
    space: tuple[Space, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """Text; `anchor` is start, middle or end; `turned` text reads upwards."""

    x: float
    y: float
    text: str
    role: str = "muted"
    anchor: str = "middle"
    size: float = 11.0
    bold: bool = False
    turned: bool = False
    space: tuple[Space, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    role: str
    style: str = ""


Item = Mark | Stroke | Label | Block


@dataclass
class Drawing:
    """A figure.

    Attributes:
        name: Name of its files.
        title: Description for screen readers.
        width: Pixels.
        height: Pixels.
        items: Marks, the topmost last.
        turns: Whether it is a figure in space, which the page can turn.
    """

    name: str
    title: str
    width: float
    height: float
    items: list[Item] = field(default_factory=list)
    turns: bool = False

    def add(self, *items: Item) -> None:
        self.items += items

    def svg(self) -> str:
        """Markup for a page that includes `style_sheet()`."""
        kind = "plot turns" if self.turns else "plot"
        return f'<svg class="{kind}" role="img" aria-label="{escape(self.title)}" {self._box()}>{self._body()}</svg>'

    def svg_file(self) -> str:
        """A file that follows the light or dark setting of the reader's system."""
        ground = f'<rect width="{self.width:g}" height="{self.height:g}" style="fill:var(--paper)"/>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {self._box()} width="{self.width:g}" height="{self.height:g}">'
            f"<title>{escape(self.title)}</title><style>{style_sheet()}</style>{ground}{self._body()}</svg>\n"
        )

    def _box(self) -> str:
        return f'viewBox="0 0 {self.width:g} {self.height:g}"'

    def _body(self) -> str:
        return "".join(_markup(item) for item in self.items)


def style_sheet() -> str:
    """Colours of the roles in light, dark and print, and styles of the marks."""
    roles = "".join(f"svg .{role}{{--c:var(--{role})}}" for role in LIGHT)
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    return f":root{{{_variables(LIGHT)}}}{dark}{roles}{_MARKS}"


def _variables(palette: dict[str, str]) -> str:
    return "".join(f"--{role}:{colour};" for role, colour in palette.items())


def _markup(item: Item) -> str:
    match item:
        case Mark():
            return _mark(item)
        case Stroke():
            path = "".join("M" + "L".join(f"{_n(x)},{_n(y)}" for x, y in line) for line in item.lines if line)
            dash = f' stroke-dasharray="{item.dash}"' if item.dash else ""
            wide = "" if item.width == 1 else f' stroke-width="{item.width:g}"'
            return f'<path class="{_classes("l", item.role, item.style)}" d="{path}"{wide}{dash}{_data(item)}/>'
        case Label():
            bold = ' font-weight="600"' if item.bold else ""
            turn = f' transform="rotate(-90 {_n(item.x)} {_n(item.y)})"' if item.turned else ""
            return (
                f'<text class="{item.role}" x="{_n(item.x)}" y="{_n(item.y)}" text-anchor="{item.anchor}" '
                f'font-size="{item.size:g}"{bold}{turn}{_data(item)}>{escape(printable(item.text))}</text>'
            )
        case Block():
            return (
                f'<rect class="{_classes("b", item.role, item.style)}" x="{_n(item.x)}" y="{_n(item.y)}" '
                f'width="{_n(max(item.width, 0))}" height="{_n(item.height)}"/>'
            )


def _mark(item: Mark) -> str:
    begin = f'class="{_classes("m", item.role, item.shape if item.shape == "cross" else "", item.style)}"'
    end = f'transform="translate({_n(item.x)} {_n(item.y)})"{_data(item)}/>'
    if item.shape == "circle":
        return f'<circle {begin} r="{item.size:g}" {end}'
    return f'<path {begin} d="{_outline(item.shape, item.size)}" {end}'


def _outline(shape: str, size: float) -> str:
    if shape == "cross":
        return f"M{-size:g},{-size:g}L{size:g},{size:g}M{-size:g},{size:g}L{size:g},{-size:g}"
    return "M" + "L".join(f"{_n(x * size)},{_n(y * size)}" for x, y in CORNERS[shape]) + "Z"


def _star() -> list[Point]:
    radii = [1.0 if i % 2 == 0 else 0.45 for i in range(10)]
    return [(r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5)) for i, r in enumerate(radii)]


CORNERS: dict[str, list[Point]] = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
    "star": _star(),
}


def _classes(*names: str) -> str:
    return " ".join(name for name in names if name)


def _data(item: Mark | Stroke | Label) -> str:
    trial = "" if isinstance(item, Label) or item.trial is None else f' data-t="{item.trial}"'
    space = " ".join(",".join(f"{v:.3g}" for v in point) for point in item.space)
    return trial + (f' data-p="{space}"' if space else "")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
