"""Quality of the very answers the load test received: no separate pass, no second engine state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.intervals import CONFIDENCE

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

BOOTSTRAP_RESAMPLES = 400
"""As many as latencies get: a thousand cost a trial on a live engine most of its time beside measuring."""
_SEED = 0
_BEST_SCORE = 100.0
_MIN_SEGMENTS = 2


def scored_pairs(measurement: Measurement) -> list[tuple[str, str]]:
    """(answer, reference) of each workload row, once, in workload-row order.

    Warm-up answers count too, and those of other measurements of the same model and decoding: neither the state of an
    engine nor its load changes the text. Of several answers to one row the first counts.
    """
    first = {row: text for row, text in measurement.answers.items() if row in measurement.references}
    for record in measurement.records:
        if record.error is None and record.prompt_id in measurement.references:
            first.setdefault(record.prompt_id, record.text)
    return [(text.strip(), measurement.references[row]) for row, text in sorted(first.items())]


class CorpusScore(Objective):
    """A sacreBLEU metric over the corpus of answers, its interval by bootstrap over segments.

    Interval: Koehn, "Statistical significance tests for machine translation evaluation", 2004.
    """

    direction = Direction.MAXIMIZE
    log_scale = False
    same_sample = True

    def metric(self) -> Metric:
        raise NotImplementedError

    def estimate(self, measurement: Measurement) -> Estimate | None:
        pairs = scored_pairs(measurement)
        if len(pairs) < _MIN_SEGMENTS:
            return None
        metric = self.metric()
        answers, references = zip(*pairs, strict=True)
        value = metric.corpus_score(list(answers), [list(references)]).score
        low, high = _bootstrap(metric, list(answers), list(references))
        return Estimate(value, min(low, value), max(high, value), len(pairs), self.unit)


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


def _bootstrap(metric: Metric, answers: list[str], references: list[str]) -> tuple[float, float]:
    """Percentile interval over resampled segments, from sacreBLEU's own per-segment statistics.

    Percentiles, unlike the half-width sacreBLEU prints, cannot leave the scale of the score.
    """
    statistics = np.asarray(metric._extract_corpus_statistics(answers, [references]), dtype=np.float64)
    n = len(answers)
    rng = np.random.default_rng(_SEED)
    sums = rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_RESAMPLES) @ statistics
    scores = [float(metric._compute_score_from_stats(total.tolist()).score) for total in sums]
    low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return max(0.0, float(low)), min(_BEST_SCORE, float(high))
