"""Samplers against the live table: how many trials, and how many seconds, to nearly all of the hypervolume?

Usage: python -m benchmarks.search [--seeds 20] [--only NAME ...]

Replays studies (`benchmarks/replay.py`), judges them by the table's means (`benchmarks/scoring.py`), and writes
`docs/results/search.md` and `docs/images/search.png` unless only some samplers were asked for.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from benchmarks.common import RESULTS, processes, provenance
from benchmarks.ground_truth import BULK_P99_MAX_S, CHAT_P99_MAX_S, described, is_measured, table
from benchmarks.live_space import SATURATION, SPACE
from benchmarks.plots import draw
from benchmarks.replay import COLD_START_S, Policy, Step, replay
from benchmarks.scoring import Stop, best_points, regrets, repeated_failures, shares, stop, trials_to
from optimize.config.compose import configuration
from optimize.search.gp_sampler import LOG_SCALE_ATTR, LogScaleGPSampler
from optimize.search.grid_sampler import grid
from optimize.search.history import log_scaled


class LogGPSampler(GPSampler):
    """Optuna's own Gaussian process, on logarithms where ratios matter, constraints as they are."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        scaled = optuna.create_study(directions=study.directions)
        scaled.add_trials([_on_logarithms(t, study.user_attrs[LOG_SCALE_ATTR]) for t in study.get_trials()])
        return super().sample_relative(scaled, scaled.trials[trial.number], search_space)


def _on_logarithms(trial: FrozenTrial, log_scale: Sequence[bool]) -> FrozenTrial:
    if trial.state is TrialState.COMPLETE:
        trial.values = log_scaled(trial.values, log_scale)
    return trial


IMAGE = RESULTS.parent / "images" / "search.png"
SHARES = (0.90, 0.95)
AFTER_TRIALS, NEAR_BEST = 30, 0.02
POLICIES = {
    "random": Policy(lambda seed: RandomSampler(seed=seed), trials=160),
    "Sobol": Policy(lambda seed: QMCSampler(seed=seed, scramble=True), trials=160),
    "grid, random order": Policy(lambda seed: grid(SPACE, seed=seed), trials=160),
    "NSGA-II, population 10": Policy(lambda seed: NSGAIISampler(seed=seed, population_size=10), trials=160),
    "TPE, failures told as FAIL": Policy(
        lambda seed: TPESampler(seed=seed), constraints=False, pooled=False, warm=False, trials=160
    ),
    "TPE multivariate, constraints": Policy(
        lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=8), trials=160
    ),
    "GP on logarithms": Policy(lambda seed: LogGPSampler(seed=seed, n_startup_trials=8)),
    "ours": Policy(lambda seed: LogScaleGPSampler(seed=seed, saturation=SATURATION)),
}
OURS, PEER = "ours", "TPE, failures told as FAIL"
DRAWN = {"ours": "#0072b2", PEER: "#d55e00", "random": "#666666", "TPE multivariate, constraints": "#009e73"}
"""Colours that people tell apart however they see them (Okabe and Ito 2008)."""
Studies = Mapping[str, Sequence[list[Step]]]


def one(name: str, seed: int) -> list[Step]:
    return replay(POLICIES[name], seed, table(), CHAT_P99_MAX_S)


HISTORIES = {"none": None, "chat": CHAT_P99_MAX_S, "bulk": BULK_P99_MAX_S}
"""The study before, by the limit on latency that it was asked with."""
HISTORY_TRIALS = 24


def with_history(history: str, seed: int) -> list[Step]:
    """A study on the table's second repeats, after one of another seed on its first."""
    config = configuration(["+study=chat"])
    weights, p99_max_s, first = dict(config.scenario.weights), HISTORIES[history], []
    if p99_max_s is not None:
        before = replay(POLICIES[OURS], 1000 + seed, table(), p99_max_s, repeats=(0,), trials=HISTORY_TRIALS)
        first = best_points(before, p99_max_s, weights, config.search.warm_start_points)
    return replay(POLICIES[OURS], seed, table(), CHAT_P99_MAX_S, repeats=(1,), first=first)


def to_share(studies: Sequence[list[Step]], share: float, limit: int) -> list[float]:
    """Trials to a share of the hypervolume; one more than were replayed where it was not reached."""
    return [float(trials_to(share, shares(steps, table())) or limit + 1) for steps in studies]


def seconds_to(studies: Sequence[list[Step]], share: float) -> list[float]:
    counts = [trials_to(share, shares(steps, table())) for steps in studies]
    return [steps[n - 1].spent_s if n else math.inf for steps, n in zip(studies, counts, strict=True)]


def compared(replays: Studies) -> str:
    """One row per sampler."""
    lines = [
        "| sampler | trials to 90 % | to 95 % (quartiles) | reached 95 % | seconds to 95 % | "
        f"after {AFTER_TRIALS} trials | gave no measurement | repeated failures | thinking | ours needs | p |",
        "|---" * 11 + "|",
    ]
    ours = to_share(replays[OURS], 0.95, POLICIES[OURS].trials) if OURS in replays else []
    for name, studies in replays.items():
        limit = POLICIES[name].trials
        to_90, to_95 = (to_share(studies, share, limit) for share in SHARES)
        low, middle, high = statistics.quantiles(to_95, n=4)
        reached = sum(n <= limit for n in to_95)
        after = statistics.median(shares(steps[:AFTER_TRIALS], table())[-1] for steps in studies)
        early = [s for steps in studies for s in steps[:AFTER_TRIALS]]
        wasted = sum(not is_measured(s.row) for s in early) / len(early)
        cells = [
            name, _trials(to_90, limit), f"{_trials(to_95, limit)} ({low:.0f} to {high:.0f})",
            f"{reached} of {len(studies)}", _finite(statistics.median(seconds_to(studies, 0.95))), f"{after:.3f}",
            f"{wasted:.0%}", str(sum(repeated_failures(steps) for steps in studies)),
            f"{statistics.median(s.thinking_s for steps in studies for s in steps):.2f} s",
            *_beside(ours, to_95, name, min(limit, POLICIES[OURS].trials)),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _beside(ours: Sequence[float], theirs: Sequence[float], name: str, limit: int) -> tuple[str, str]:
    """Ours' trials as a share of theirs, and the one-sided p of Mann and Whitney's test."""
    if not ours or name == OURS:
        return "", ""
    ratio = statistics.median(ours) / statistics.median(theirs)
    # Capped alike, or not arriving in few trials would rank above arriving in many.
    capped = [[min(n, limit + 1.0) for n in counts] for counts in (ours, theirs)]
    return f"{ratio:.0%}", f"{float(stats.mannwhitneyu(*capped, alternative='less').pvalue):.2g}"


def _trials(counts: Sequence[float], limit: int) -> str:
    median = statistics.median(counts)
    return f"more than {limit}" if median > limit else f"{median:g}"


def _finite(seconds: float) -> str:
    return f"{seconds:.0f}" if math.isfinite(seconds) else "not reached"


def stopped(steps: list[Step]) -> Stop | None:
    return stop(steps, table(), CHAT_P99_MAX_S, _chat_weights())


def _chat_weights() -> dict[str, float]:
    return dict(configuration(["+study=chat"]).scenario.weights)


def on_stopping(studies: Sequence[list[Step]], stops: Sequence[Stop | None]) -> str:
    weights, ended = _chat_weights(), [s for s in stops if s is not None]
    if not ended:
        return "It ended none of the studies."
    low, middle, high = statistics.quantiles((s.trials for s in ended), n=4)
    curves = [regrets([s.key for s in steps], table(), weights) for steps in studies]
    moments = sorted(next((n for n, r in enumerate(curve, 1) if r <= NEAR_BEST), math.inf) for curve in curves)
    return (
        f"It ended {len(ended)} of {len(stops)} studies, after {middle:.0f} trials ({low:.0f} to {high:.0f}; at most "
        f"{max(s.trials for s in ended)} of {POLICIES[OURS].trials}). The best score among the trials so far then fell "
        f"short of the best in the table by {statistics.fmean(s.regret for s in ended):.1%} in the mean and "
        f"{max(s.regret for s in ended):.1%} at most. A score within {NEAR_BEST:.0%} of the best had been tried after "
        f"{statistics.median(moments):g} trials in the median, after {moments[math.ceil(0.9 * len(moments)) - 1]:g} in "
        f"nine of ten studies, and after {moments[-1]:g} in all: a fixed number of trials that loses no more would be "
        "the last of these. (Chat's weights; scores by the table's means. Which of the tried points is picked is for "
        "the confirmation.)"
    )


def on_history(replays: Mapping[str, Sequence[list[Step]]]) -> str:
    titles = {"none": "none", "chat": "same question, earlier", "bulk": "bulk: latency up to 30 s"}
    lines = ["| earlier study | trials to 90 % | p | to 95 % (quartiles) | p | seconds to 95 % |", "|---" * 6 + "|"]
    limit = POLICIES[OURS].trials
    without = [to_share(replays["none"], share, limit) for share in SHARES]
    for history, studies in replays.items():
        to_90, to_95 = counts = [to_share(studies, share, limit) for share in SHARES]
        low, _, high = statistics.quantiles(to_95, n=4)
        p_90, p_95 = (
            "" if history == "none" else f"{float(stats.mannwhitneyu(with_it, none, alternative='less').pvalue):.2g}"
            for with_it, none in zip(counts, without, strict=True)
        )
        lines.append(
            f"| {titles[history]} | {_trials(to_90, limit)} | {p_90} "
            f"| {_trials(to_95, limit)} ({low:.0f} to {high:.0f}) | {p_95} "
            f"| {_finite(statistics.median(seconds_to(studies, 0.95)))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(POLICIES))
    args = parser.parse_args()
    print(described(table()), flush=True)
    with processes() as pool:
        replays = _replayed(pool.submit, one, args.only, args.seeds)
        print(compared(replays), flush=True)
        if list(replays) != list(POLICIES):
            return
        histories = _replayed(pool.submit, with_history, list(HISTORIES), args.seeds)
        stops = list(pool.map(stopped, replays[OURS]))
    write(replays, histories, stops, args.seeds)


def _replayed(
    submit: Callable[..., Any], what: Callable[[str, int], list[Step]], names: Sequence[str], seeds: int
) -> dict[str, list[list[Step]]]:
    jobs = {name: [submit(what, name, seed) for seed in range(seeds)] for name in names}
    return {name: [job.result() for job in started] for name, started in jobs.items()}


def write(replays: Studies, histories: Studies, stops: Sequence[Stop | None], seeds: int) -> None:
    draw({name: (replays[name], colour) for name, colour in DRAWN.items()}, table(), IMAGE)
    sections = [
        "# The search, judged on a table of live measurements",
        provenance("python -m benchmarks.search").replace("Measured", "Replayed"),
        described(table()),
        f"Each study of {seeds} starts with vLLM's defaults, and draws one of the two repeats of each point it tries. "
        f"Seconds count engine starts (cold, {COLD_START_S:.0f} s, for the nearest peer's way; the table's warm ones "
        "for the others), measuring, and the sampler's thinking (its median is in the table). *Ours needs*: our median "
        f"number of trials to 95 % as a share of theirs; p by Mann and Whitney, one-sided. *After {AFTER_TRIALS} "
        f"trials*: the median share. *Gave no measurement*: of the first {AFTER_TRIALS} trials.",
        compared(replays),
        "Our search was settled on replays of this very table ([decision 010](../decisions/010-searching.md)): on "
        "other spaces and machines its lead may be smaller.",
        "![Hypervolume against trials and minutes](../images/search.png)",
        "## Stopping when nothing better could be shown",
        on_stopping(replays[OURS], stops),
        "## Starting from an earlier study",
        f"The earlier study: {HISTORY_TRIALS} trials on the table's first repeats; the later one on its second, first "
        "trying points of the earlier one's front: the best by its weights, and those that differ most "
        "(`search.warm_start`).",
        on_history(histories),
    ]
    (RESULTS / "search.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
