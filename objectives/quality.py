"""Quality of the answers that the load test received: no separate pass, no second state of the engine."""

from __future__ import annotations

import importlib
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.intervals import proportion_interval
from objectives.segments import Floats, Paired, SegmentScore

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

__all__ = [
    "Bleu", "ChrF", "CorpusScore", "ExactMatch", "FirstDifference", "Paired", "Perplexity", "SegmentScore",
    "UserMetric", "needs_references", "scores_answers",
]  # fmt: skip

_PAIRS_MAX = 1 << 14
"""Pairs of an answer and its reference beyond which their statistics are counted anew: some ten megabytes."""


def needs_references(metric: Objective) -> bool:
    """Whether a metric has no figure without references."""
    return isinstance(metric, SegmentScore) and metric.from_workload


def scores_answers(metric: Objective) -> bool:
    """Whether a metric compares answers with references; perplexity is that of the references themselves."""
    return needs_references(metric) and not isinstance(metric, Perplexity)


def scored_rows(measurement: Measurement) -> dict[int, tuple[str, str]]:
    """Workload row -> (answer, reference), in workload-row order.

    Answers of the warm-up count too, and those of other measurements of the same model and decoding, for neither the
    state of an engine nor its load changes the text. Of several answers to one row the first counts.
    """
    first = {row: text for row, text in measurement.answers.items() if row in measurement.references}
    for record in measurement.records:
        if record.error is None and record.prompt_id in measurement.references:
            first.setdefault(record.prompt_id, record.text)
    return {row: (text.strip(), measurement.references[row]) for row, text in sorted(first.items())}


class CorpusScore(SegmentScore):
    """sacreBLEU metric over the corpus of answers, from sacreBLEU's own statistics of each segment."""

    scale = (0.0, 100.0)

    @abstractmethod
    def metric(self) -> Metric:
        """A new sacreBLEU metric."""

    def statistics(self, measurement: Measurement) -> dict[int, Floats]:
        rows, counts = scored_rows(measurement), self._counts
        if len(counts) > _PAIRS_MAX:
            counts.clear()
        if new := list(dict.fromkeys(pair for pair in rows.values() if pair not in counts)):
            answers, references = zip(*new, strict=True)
            statistics = self.metric()._extract_corpus_statistics(list(answers), [list(references)])
            counts |= zip(new, np.asarray(statistics, dtype=np.float64), strict=True)
        return {row: counts[pair] for row, pair in rows.items()}

    @cached_property
    def _counts(self) -> dict[tuple[str, str], Floats]:
        """(Answer, reference) -> statistics: counting n-grams takes long, and most trials of a study answer alike."""
        return {}

    def score(self, totals: Floats) -> float:
        return float(self._scores(totals[np.newaxis])[0])

    def _scores(self, totals: Floats) -> Floats:
        metric = self.metric()
        return np.array([float(metric._compute_score_from_stats(total.tolist()).score) for total in totals])


class Bleu(CorpusScore):
    """Corpus BLEU (Papineni et al. 2002), as sacreBLEU computes it (Post, "A call for clarity", 2018)."""

    unit = "BLEU"

    def metric(self) -> Metric:
        from sacrebleu.metrics.bleu import BLEU

        return BLEU()


class ChrF(CorpusScore):
    """Corpus chrF (Popovic, "chrF: character n-gram F-score", 2015)."""

    unit = "chrF"

    def metric(self) -> Metric:
        from sacrebleu.metrics.chrf import CHRF

        return CHRF()


class _Mean(SegmentScore):
    """Mean of one number per answer; statistics are (number, 1)."""

    def of(self, answer: str, reference: str) -> float:
        raise NotImplementedError

    def statistics(self, measurement: Measurement) -> dict[int, Floats]:
        return {row: np.array([self.of(*pair), 1.0]) for row, pair in scored_rows(measurement).items()}

    def score(self, totals: Floats) -> float:
        return float(totals[0] / totals[1])


@dataclass
class ExactMatch(_Mean):
    """Share of answers that equal the reference up to white space (Wilson's interval).

    Attributes:
        ignore_case: Whether upper and lower case are equal.
    """

    ignore_case: bool = False

    unit = "share"
    scale = (0.0, 1.0)

    def of(self, answer: str, reference: str) -> float:
        return float(self._bare(answer) == self._bare(reference))

    def estimate_of(self, statistics: Mapping[int, Floats]) -> Estimate | None:
        if not statistics:
            return None
        hits = round(sum(float(hit) for hit, _ in statistics.values()))
        return Estimate(*proportion_interval(hits, len(statistics)), n=len(statistics), unit=self.unit)

    def _bare(self, text: str) -> str:
        words = " ".join(text.split())
        return words.casefold() if self.ignore_case else words


class FirstDifference(_Mean):
    """Share of the answer before its first difference from the reference: how far the two go together.

    A model that once picks another token goes on from there in its own way. Exact match counts such an answer as wrong
    wherever that was; this share says how far the two went together. It is counted in characters, because answers
    arrive as text; the share of the tokens before the first one that differs is the same to within a token. The whole
    is the longer of the two: an answer that stops early, or goes on, differs where the shorter one ends.
    """

    unit = "share"
    scale = (0.0, 1.0)

    def of(self, answer: str, reference: str) -> float:
        longest = max(len(answer), len(reference))
        return len(os.path.commonprefix([answer, reference])) / longest if longest else 1.0


@dataclass
class UserMetric(_Mean):
    """Mean of a function of your own over all answers, with a bootstrap interval.

    Attributes:
        function: Dotted name of a function (answer, reference) -> number, e.g. "my_metrics.overlap".
        minimize: Whether lower is better.
        unit: Unit of the number, for display.
    """

    function: str
    minimize: bool = False
    unit: str = ""
    _call: Callable[[str, str], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        module, _, name = self.function.rpartition(".")
        try:
            self._call = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"function={self.function!r} cannot be imported ({error}): give the dotted name of a function"
            ) from error
        if not callable(self._call):
            raise ValueError(f"function={self.function!r} is no function, but {type(self._call).__name__}")
        if self.minimize:
            self.direction = Direction.MINIMIZE

    def of(self, answer: str, reference: str) -> float:
        """The function's number.

        Raises:
            ValueError: the function fails, or returns anything else.
        """
        try:
            value = float(self._call(answer, reference))
        except Exception as error:  # a user's function may raise anything
            raise ValueError(f"{self.function} fails on the answer {answer[:60]!r}: {error!r}") from error
        if not math.isfinite(value):
            raise ValueError(f"{self.function} returns {value} for the answer {answer[:60]!r}: it must be finite")
        return value


@dataclass
class Perplexity(SegmentScore):
    """Perplexity of the references given their prompts under the served model: exp of the mean of -log p over all their
    tokens (Jelinek et al., "Perplexity, a measure of the difficulty of speech recognition tasks", 1977).

    The engine computes it after the load, in requests of another kind; see `optimize.evaluation.perplexity`.

    Attributes:
        rows: Number of the workload's rows that are scored, from the first on.
    """

    rows: int = 300

    unit = ""
    direction = Direction.MINIMIZE
    log_scale = True

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ValueError(f"rows must be at least 2, got {self.rows}")

    def statistics(self, measurement: Measurement) -> dict[int, Floats]:
        logprobs = measurement.reference_logprobs.items()
        return {row: np.array([total, n], dtype=np.float64) for row, (total, n) in logprobs if row < self.rows}

    def score(self, totals: Floats) -> float:
        return math.exp(-totals[0] / totals[1])
