"""A table of configurations that others have measured, as a problem.

Between the measured configurations, a model of extremely randomized trees on logarithms stands for the table (Geurts,
Ernst and Wehenkel 2006, "Extremely randomized trees"). What it predicts is the truth of the benchmark. A reading adds
the whole residual of one of the thirty configurations with the most similar figures, by models that had not seen it:
the noise of a measurement and the error of the model together, in every objective at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict, cross_val_score

from benchmarks.searching.problem import Front, Objective, Point, Reading, Space
from objectives import Direction
from optimize.pareto import non_dominated
from optimize.search.designs import neighbours, scattered
from optimize.search.encoding import Array, PointKey, point_key

_TREES, _LEAVES, _FOLDS, _ALIKE = 50, (3, 8, 20, 50), 5, 30
_SAMPLE, _ROUNDS, _BEST, _REFERENCE = 4000, 4, 60, 0.6


@dataclass(frozen=True)
class Source:
    """A table of configurations that others have measured.

    Attributes:
        name: Of the page's section.
        table: One row per configuration; figures are missing where it failed.
        seconds: Column of the duration.
        group: Column of the knob that sets most of the figures.
        canonical: Puts each knob that has no effect beside the others to one value.
    """

    name: str
    table: pd.DataFrame
    seconds: str
    group: str
    canonical: Callable[[Mapping[str, Any]], Point] = dict


class TableProblem:
    """A table as a problem; knobs and objectives are columns of it.

    What is worse in any objective than 60 % of the table counts nothing, and these limits are the constraints of the
    search: no search could guess them.

    Args:
        source: The table.
        space: Knob -> distribution.
        objectives: By name.
        start: The defaults.

    Attributes:
        group: The knob that sets most of the figures.
        fit: Objective -> share of its variance that is explained in cross-validation, on logarithms.
        fit_within: The same within the groups alone.
        success_fit: Share of the configurations of which it is foreseen in cross-validation whether they give figures;
            None where all do.
    """

    engine_knobs: frozenset[str] = frozenset()
    start_s = 0.0
    saturation: Mapping[str, float] = {}

    def __init__(self, source: Source, space: Space, objectives: Mapping[str, Objective], start: Point) -> None:
        self.name, self.group, self.start, self._canonical = source.name, source.group, start, source.canonical
        self.space, self.objectives = space, objectives
        self._measured = source.table.dropna(subset=list(objectives))
        configurations = self._measured.to_dict("records")
        groups, rows = np.array([c[self.group] for c in configurations]), self._rows(configurations)
        logs = np.log(self._measured[list(objectives)].to_numpy(float))
        parts = [_Model(rows, column, groups) for column in logs.T]
        self._models = parts
        self._residuals = logs - np.column_stack([m.unseen for m in parts])
        self.fit = {name: m.fit for name, m in zip(objectives, parts, strict=True)}
        self.fit_within = {name: m.fit_within for name, m in zip(objectives, parts, strict=True)}
        self._expected = self._logs(configurations)
        self._signs = np.array([1.0 if o.direction is Direction.MINIMIZE else -1.0 for o in objectives.values()])
        self._limits = self._signs * np.quantile(self._signs * logs, _REFERENCE, axis=0)
        self._reference = self._of_logs(self._limits[None])[0]
        self._seconds = float(self._measured[source.seconds].median())
        self._success, self.success_fit = self._success_model(source.table)
        self._judged: dict[PointKey, Array] = {}

    def _success_model(self, table: pd.DataFrame) -> tuple[ExtraTreesClassifier | None, float | None]:
        """The model of what gives figures, and the share of rows for which models that had not seen them are right.

        Each split looks at all knobs, as those of the figures do: by default a classifier looks at the root of their
        number, and where one knob alone decides (SGLang's context length) most splits would be by knobs without effect.
        """
        success = table.index.isin(self._measured.index)
        if success.all():
            return None, None
        rows = self._rows(table.to_dict("records"))
        model = ExtraTreesClassifier(_TREES, min_samples_leaf=_LEAVES[0], max_features=None, random_state=0)
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
        return model.fit(rows, success), float(cross_val_score(model, rows, success, cv=folds).mean())

    def canonical(self, point: Mapping[str, Any]) -> Point:
        return self._canonical(point)

    def draw(self, point: Point, earlier: Sequence[Reading], rng: np.random.Generator) -> Reading:
        failure = {} if self._success is None else {"failed": -1.0}
        if rng.random() > self._chances([point])[0]:
            return Reading(None, dict.fromkeys(self.objectives, 0.0) | {"failed": 1.0}, self._seconds)
        expected = self._logs([point])[0]
        distances = np.linalg.norm((self._expected - expected) / self._expected.std(0), axis=1)
        logs = expected + self._residuals[rng.choice(np.argsort(distances)[:_ALIKE])]
        limits = {
            n: float(v) for n, v in zip(self.objectives, np.expm1(self._signs * (logs - self._limits)), strict=True)
        }
        return Reading(tuple(map(float, np.exp(logs))), limits | failure, self._seconds)

    def figures(self, points: Sequence[Point]) -> Array:
        """As the models predict them."""
        figures = np.exp(self._logs(points))
        figures[self._chances(points) <= 0.5] = np.nan
        return figures

    def share(self, points: Iterable[Point]) -> float:
        distinct = {point_key(p): p for p in points}
        new = {key: p for key, p in distinct.items() if key not in self._judged}
        losses = self._losses(list(new.values()))
        losses[self._chances(list(new.values())) <= 0.5] = np.inf
        self._judged.update(zip(new, losses, strict=True))
        return self._front.share(np.array([self._judged[key] for key in distinct]))

    @cached_property
    def _front(self) -> Front:
        """The best of many drawn points and, round after round, of what differs from the best in one knob."""
        rng = np.random.RandomState(0)
        points = [*self._measured.to_dict("records"), *scattered(self.space, _SAMPLE, rng)]
        points = [{k: p[k] for k in self.space} for p in points]
        for _ in range(_ROUNDS):
            points = self._likely(points)
            losses = self._losses(points)
            best = [points[i] for i in np.flatnonzero(non_dominated(losses) & np.all(losses < self._reference, axis=1))]
            points = [*best, *(self.canonical(p) for p in neighbours(self.space, best[:_BEST], rng))]
        return Front(self._losses(self._likely(points)), self._reference)

    def _chances(self, points: Sequence[Point]) -> Array:
        """Probability that points are measured, shape (points,)."""
        if self._success is None or not points:
            return np.ones(len(points))
        return np.asarray(self._success.predict_proba(self._rows(points))[:, 1])

    def _logs(self, points: Sequence[Point]) -> Array:
        if not points:
            return np.empty((0, len(self.objectives)))
        rows = self._rows(points)
        groups = np.array([p[self.group] for p in points])
        return np.column_stack([model.predict(rows, groups) for model in self._models])

    def _likely(self, points: Sequence[Point]) -> list[Point]:
        return [p for p, chance in zip(points, self._chances(points), strict=True) if chance > 0.5]

    def _losses(self, points: Sequence[Point]) -> Array:
        return self._of_logs(self._logs(points))

    def _of_logs(self, logs: Array) -> Array:
        values = np.exp(logs)
        return np.column_stack([o.loss(values[:, i]) for i, o in enumerate(self.objectives.values())])

    def _rows(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """Numbers as they are, choices by their number; knobs without effect at one value."""
        same = [self.canonical(p) for p in points]
        return np.array([[_number(d, p[name]) for name, d in self.space.items()] for p in same], dtype=float)


class _Model:
    """One figure's logarithm: the mean of the configuration's group, and what a forest makes of the rest.

    A forest also fits the noise of its own configurations, and a search would then be judged by how well it hunts that
    noise. So its leaves are as large as cross-validation says, and a difference that it predicts within a group counts
    as much as it is found in configurations that it had not seen.

    Attributes:
        unseen: Shape (rows,): what models say that had not seen the row.
        fit: Share of the variance that these explain.
        fit_within: Share of the variance within the groups that they explain.
    """

    def __init__(self, rows: Array, logs: Array, groups: Any) -> None:
        self._means = {g: logs[groups == g].mean() for g in np.unique(groups)}
        rest = logs - self._of_group(self._means, groups)
        folds = KFold(_FOLDS, shuffle=True, random_state=0)
        guesses = {leaf: cross_val_predict(_regressor(leaf), rows, rest, cv=folds) for leaf in _LEAVES}
        leaf = min(guesses, key=lambda leaf: float(((rest - guesses[leaf]) ** 2).sum()))
        guess = guesses[leaf]
        self._slopes = {g: _slope(guess[groups == g], rest[groups == g]) for g in self._means}
        self._forest = _regressor(leaf).fit(rows, rest)
        remaining = rest - guess * self._of_group(self._slopes, groups)
        self.unseen = logs - remaining
        self.fit, self.fit_within = (
            float(1 - (remaining**2).sum() / (part**2).sum()) for part in (logs - logs.mean(), rest)
        )

    def predict(self, rows: Array, groups: Any) -> Array:
        """Shape (rows,)."""
        rest = self._of_group(self._slopes, groups) * self._forest.predict(rows)
        return np.asarray(self._of_group(self._means, groups) + rest)

    def _of_group(self, values: Mapping[Any, float], groups: Any) -> Array:
        return np.array([values[g] for g in groups])


def _slope(guess: Array, rest: Array) -> float:
    return float(np.clip(guess @ rest / max(float(guess @ guess), 1e-12), 0, 1))


def _regressor(leaf: int) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(_TREES, min_samples_leaf=leaf, random_state=0)


def _number(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution) and isinstance(distribution.choices[0], str | bool):
        return float(distribution.choices.index(value))
    return float(value)
