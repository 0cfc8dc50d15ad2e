"""What the knobs do to a study's figures: each change's effect in words, with its interval.

An effect is the mean over the study's measured trials: what the change does beside the other settings of each of them
(`optimize.search.effects`). Where ratios of a figure matter, it is the geometric mean of the ratios. Only what is shown
is listed: effects whose 95 % interval leaves out no effect at all.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from objectives import Estimate
from optimize.decision.recommendation import Candidate
from optimize.files import write_files
from optimize.formatting import markdown_text, ratio_text, shown_value, signed, title_of
from optimize.search.effects import Change, Effects, Size
from optimize.search.gp_sampler import LOG_SCALE_ATTR
from optimize.study.info import info_of
from optimize.study.trials import budget_trials, candidates, trial_of

if TYPE_CHECKING:
    import optuna

LEAST_TRIALS = 8
_LINES, _IN_PAIRS, _FEW = 10, 5, 4
_EXPLANATION = (
    "From {trials} measured trials, with 95 % intervals: what a change does beside the other settings of these trials, "
    "on average. Changes that are not listed are not shown to have an effect."
)
_NOTHING = "No knob is shown to have an effect on any objective by {trials} measured trials."
_TOO_FEW = "{trials} measured trials are too few to tell what the knobs do: at least {least} are needed."


@dataclass(frozen=True)
class Effect:
    """What a change of one knob does to one figure, or what two changes do beyond what each does alone.

    Attributes:
        figure: Objective.
        new: Knob -> value.
        old: Knob -> the baseline's value, which it takes the place of.
        value: Ratio of the figures, or their difference where ratios do not matter.
        low: Lower end of its 95 % interval.
        high: Upper end.
        is_ratio: Whether it is a ratio.
        reference: The baseline's figure.
        unit: Unit of the figure.
    """

    figure: str
    new: Mapping[str, Any]
    old: Mapping[str, Any]
    value: float
    low: float
    high: float
    is_ratio: bool
    reference: float
    unit: str

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out that the change does nothing."""
        nothing = 1.0 if self.is_ratio else 0.0
        return not self.low <= nothing <= self.high

    @property
    def size(self) -> float:
        """How large it is, as a logarithm of the ratio: equal for twice as much and half as much."""
        ratio = self.value if self.is_ratio else 1 + abs(self.value) / max(abs(self.reference), 1e-12)
        return abs(math.log(max(ratio, 1e-12)))

    @property
    def text(self) -> str:
        """E.g. "memory −26 % (−28 to −24 %)"."""
        size = Estimate(self.value, self.low, self.high, 0, self.unit)
        return f"{title_of(self.figure)} {ratio_text(size) if self.is_ratio else signed(size)}"

    @property
    def change(self) -> str:
        """E.g. "quantization int8 instead of fp16"."""
        parts = [f"{k} {shown_value(v)} instead of {shown_value(self.old[k])}" for k, v in self.new.items()]
        return " and ".join(parts)

    def at(self, end: str = "value") -> float:
        """The baseline's figure with the effect, or with an end of its interval."""
        size: float = getattr(self, end)
        return self.reference * size if self.is_ratio else self.reference + size


def effects_of(study: optuna.Study) -> list[Effect]:
    """Every effect that a study's trials show, the largest first; none with fewer than 8 of them."""
    measured = candidates(study)
    baseline = next((c for c in measured if c.baseline), None)
    if baseline is None or len(measured) < LEAST_TRIALS:
        return []
    info, points = info_of(study), [trial_of(study, c.number).params for c in measured]
    space = {n: d for n, d in budget_trials(study)[0].distributions.items() if not d.single()}
    logs = study.user_attrs.get(LOG_SCALE_ATTR, [False] * len(info.directions))
    models = {
        (name, log): Effects(space, points, values, info.saturation)
        for name, log in zip(info.directions, logs, strict=True)
        if space and (values := _values(measured, name, log)) is not None
    }
    effects = _Judged(models, baseline, points[measured.index(baseline)])
    return sorted(effects.every(points), key=_size)


def _size(effect: Effect) -> float:
    return -effect.size


def _values(measured: Sequence[Candidate], name: str, log: bool) -> np.ndarray | None:
    """A figure of all trials, on the scale on which its effects add up; None where it does not vary or has gaps."""
    if not all(name in c.estimates and (not log or c.estimates[name].value > 0) for c in measured):
        return None
    values = np.array([c.estimates[name].value for c in measured])
    return None if np.ptp(values) == 0 else np.log(values) if log else values


@dataclass(frozen=True)
class _Judged:
    """The effects on all figures of a study.

    Attributes:
        models: Figure, and whether it is modelled in logarithms -> its effects.
        baseline: The baseline's figures.
        point: Its settings.
    """

    models: Mapping[tuple[str, bool], Effects]
    baseline: Candidate
    point: Mapping[str, Any]

    def every(self, points: Sequence[Mapping[str, Any]]) -> list[Effect]:
        """What is shown of single changes, and of pairs of the largest of them."""
        alone = [e for change in self._single(points) for e in self._of(change) if e.is_shown]
        largest = dict.fromkeys(tuple(e.new.items()) for e in sorted(alone, key=_size))
        pairs = [
            self._change(dict((*one, *other)))
            for one, other in itertools.combinations(list(largest)[:_IN_PAIRS], 2)
            if one[0][0] != other[0][0]
        ]
        return [*alone, *(e for change in pairs for e in self._of(change) if e.is_shown)]

    def _single(self, points: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
        for knob, value in self.point.items():
            if any(p[knob] != value for p in points):
                for new in levels([p[knob] for p in points]):
                    if new != value:
                        yield self._change({knob: new})

    def _change(self, new: Mapping[str, Any]) -> Change:
        return Change(new, {knob: self.point[knob] for knob in new})

    def _of(self, change: Change) -> Iterator[Effect]:
        for (name, log), effects in self.models.items():
            figure, size = self.baseline.estimates[name], effects.of(change)
            yield Effect(
                name, dict(change.new), dict(change.old), *_ends(size, log), log, figure.value, figure.unit,
            )  # fmt: skip


def levels(values: Sequence[Any]) -> list[Any]:
    """The values that a knob's effect is told at: all of a few, or the least and the greatest."""
    distinct = list(dict.fromkeys(values))
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct)
    return [min(distinct), max(distinct)] if is_number and len(distinct) > _FEW else distinct


def _ends(size: Size, log: bool) -> tuple[float, float, float]:
    ends = (size.value, size.low, size.high)
    return tuple(map(math.exp, ends)) if log else ends  # type: ignore[return-value]


def lines_of(effects: Sequence[Effect]) -> list[str]:
    """A sentence on each change, the one with the largest effect first; ten at most."""
    by_change: dict[str, list[Effect]] = {}
    for effect in effects:
        by_change.setdefault(effect.change, []).append(effect)
    return [_line(change, same) for change, same in itertools.islice(by_change.items(), _LINES)]


def _line(change: str, effects: Sequence[Effect]) -> str:
    beyond = ", beyond what each does alone" if len(effects[0].new) > 1 else ""
    return f"{change}: {', '.join(e.text for e in effects)}{beyond}"


def explanation(effects: Sequence[Effect], trials: int) -> str:
    """What the lines say, or why there are none."""
    if effects:
        return _EXPLANATION.format(trials=trials)
    return (_TOO_FEW if trials < LEAST_TRIALS else _NOTHING).format(trials=trials, least=LEAST_TRIALS)


def write_effects(effects: Sequence[Effect], trials: int, folder: Path) -> list[Path]:
    """Write effects.md and effects.json; returns their paths."""
    lines = [f"- {markdown_text(line)}" for line in lines_of(effects)]
    texts = {
        "effects.md": "\n".join([explanation(effects, trials), *(["", *lines] if lines else [])]) + "\n",
        "effects.json": json.dumps([asdict(e) for e in effects], indent=1),
    }
    return write_files(texts, folder)


def read_effects(path: Path) -> list[Effect]:
    """The effects in an effects.json that `write_effects` wrote."""
    return [Effect(**raw) for raw in json.loads(path.read_text(encoding="utf-8"))]
