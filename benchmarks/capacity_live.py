"""A live engine's capacity beside an exhaustive grid of rates with long windows, and other tools' own search, in turn.

Usage: python -m benchmarks.capacity_live [--rounds 3] [--rates 10] [--window-s 60] [--page NAME] [OVERRIDES ...]
       python -m benchmarks.capacity_live --repeats 10 [OVERRIDES ...]
       ... --guidellm PATH/TO/guidellm --aiperf PATH/TO/aiperf

The first form compares: a pilot search says where the grid lies, and counts nowhere. Then every round has the search,
all rates of the grid and every peer once, in a random order on one engine. A peer's seconds and requests are read off
clock and engine. The second form is an A/A test: how often are two
capacities of one configuration called different? OVERRIDES are those of `+study=capacity`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.peer_searches import PROBE_S, WARM_UP_S, PeerSearch, aiperf_search, guidellm_search
from benchmarks.peers import write_prompts
from objectives.intervals import proportion_interval
from optimize.capacity import Capacity, ProbeRun, Requests
from optimize.capacity.estimator import estimate
from optimize.config.compose import configuration
from optimize.engine.base import Engine, RequestConfig
from optimize.engine.pool import EnginePool
from optimize.evaluation.references import reference_config
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import LoadControl, Traffic
from optimize.load.prober import LiveProber
from optimize.load.service_level import search_of, slo_of
from optimize.plan import Plan, make_plan

_SPREAD = (0.6, 1.4)
_WARM_UP = 0.15
_ANSWERED = "vllm:request_success_total"
_PEER_NOTE = (
    f"A peer's answer has no interval. Its probes last {PROBE_S:.0f} s, AIPerf's after {WARM_UP_S} s of warm-up in "
    "place of its own 60. AIPerf holds each limit at the SLO's quantile, as the search does; GuideLLM counts requests "
    "within all limits at once. Their clients, like those of the search, run on the engine's machine."
    " Seconds are those of the whole command."
)


@dataclass
class GridPoint:
    """A rate of the grid.

    Attributes:
        level: The rate, or the number of users.
        within: Criterion -> requests that met it, and all requests, over all rounds.
        load_s: Seconds of load.
    """

    level: float
    within: dict[str, tuple[int, int]] = field(default_factory=dict)
    load_s: float = 0.0

    @property
    def requests(self) -> int:
        return max((n for _, n in self.within.values()), default=0)

    def add(self, run: ProbeRun, plan: Plan) -> None:
        requests = run.requests.between(_WARM_UP * run.load_s, run.load_s)
        self.load_s += run.load_s
        for name, flags in slo_of(plan.config.slo).within(requests).items():
            hits, n = self.within.get(name, (0, 0))
            self.within[name] = (hits + int(flags.sum()), n + len(flags))

    def share(self, name: str) -> tuple[float, float, float]:
        """Share of requests that met a criterion, with its interval."""
        return proportion_interval(*self.within[name])


@dataclass(frozen=True)
class LiveEngine:
    """One engine under load.

    Attributes:
        plan: SLO and search.
        engine: The engine.
        prober: Applies the load.
    """

    plan: Plan
    engine: Engine
    prober: LiveProber

    def search(self, seed: int) -> Capacity:
        plan = self.plan
        return estimate(self.prober, slo_of(plan.config.slo), search_of(plan.config.load.capacity, plan.arrivals), seed)

    def hold(self, level: float, window_s: float) -> ProbeRun:
        def is_long(requests: Requests, load_s: float) -> bool:
            return load_s >= window_s

        return self.prober(level, is_long, window_s)

    def answered(self) -> float:
        """Requests that the engine has answered so far, as it counts them."""
        text = httpx.get(
            f"{self.engine.endpoint.base_url}/metrics", trust_env=False, headers=self.engine.endpoint.headers
        ).text
        families = text_string_to_metric_families(text)
        return sum(s.value for family in families for s in family.samples if s.name == _ANSWERED)


@contextmanager
def live_engine(words: Sequence[str]) -> Iterator[LiveEngine]:
    """vLLM's defaults, warm, with the clients of a study."""
    with TemporaryDirectory() as folder:
        plan = make_plan(configuration(["+study=capacity", *words, f"output_dir={folder}"]))
        config = reference_config(plan)
        with ClientPool(plan.config.load.clients) as clients, EnginePool(plan.launcher, Path(folder) / "logs") as pool:
            clients.begin()
            with pool.lease(config.engine) as lease:
                traffic = Traffic(plan.workload, RequestConfig(), plan.arrivals, plan.config.load)
                patience_s = plan.config.slo.latency_max_s
                prober = LiveProber(clients, lease.engine, traffic, LoadControl(), patience_s)
                prober.await_first_answers()
                yield LiveEngine(plan, lease.engine, prober)


def peer_run(live: LiveEngine, peer: Callable[[PeerSearch], str], folder: Path) -> str:
    """Run another tool's search; returns its answer, seconds and requests as cells of a table."""
    plan, endpoint = live.plan, live.engine.endpoint
    search = PeerSearch(
        endpoint, Path(plan.config.model.path), write_prompts(plan.workload.prompts, folder), plan.workload.max_tokens,
        plan.config.slo, plan.config.load.capacity.highest, folder,
    )  # fmt: skip
    live.engine.reset()
    before, began = live.answered(), time.monotonic()
    answer = peer(search)
    return f"{answer} | {time.monotonic() - began:.0f} | {live.answered() - before:.0f}"


def compare(live: LiveEngine, asked: argparse.Namespace) -> str:
    """Search, grid and peers in turn, as Markdown."""
    pilot = live.search(seed=1000)
    whole = isinstance(live.plan.arrivals, ClosedLoop)
    points = [GridPoint(float(level)) for level in levels(pilot.value, asked.rates, whole)]
    searches: list[Capacity] = []
    peers: dict[str, list[str]] = {}
    rng = random.Random(0)
    with TemporaryDirectory() as folder:
        for number in range(asked.rounds):
            tasks: list[Callable[[], None]] = [partial(_search, live, number, searches)]
            tasks += [partial(_hold, live, point, asked.window_s) for point in points]
            tasks += [partial(_ask, live, peer, Path(folder), peers) for peer in _programs(asked)]
            for task in rng.sample(tasks, k=len(tasks)):
                task()
            print(f"round {number + 1}: {searches[-1].value:.3g}", flush=True)
    return "\n\n".join([_searches(searches), _grid(points, live.plan), *_peers(peers)])


def levels(about: float, count: int, whole: bool) -> NDArray[np.float64]:
    """At most `count` levels of load around a first estimate; users are whole, and none is twice among them."""
    spread = about * np.linspace(*_SPREAD, count)
    return np.unique(spread.round()) if whole else spread


def _search(live: LiveEngine, seed: int, searches: list[Capacity]) -> None:
    searches.append(live.search(seed))


def _hold(live: LiveEngine, point: GridPoint, window_s: float) -> None:
    point.add(live.hold(point.level, window_s), live.plan)


Peer = tuple[str, Callable[[PeerSearch], str]]
"""(name, its search)."""


def _programs(asked: argparse.Namespace) -> list[Peer]:
    peers = [("GuideLLM", guidellm_search, asked.guidellm), ("AIPerf", aiperf_search, asked.aiperf)]
    return [(name, partial(search, program=program)) for name, search, program in peers if program]


def _ask(live: LiveEngine, peer: Peer, folder: Path, peers: dict[str, list[str]]) -> None:
    name, search = peer
    with TemporaryDirectory(dir=folder) as own:
        peers.setdefault(name, []).append(peer_run(live, search, Path(own)))


def _searches(searches: Sequence[Capacity]) -> str:
    rows = [
        f"| {n + 1} | {c.value:.3g} ({c.low:.3g}–{c.high:.3g}) | {c.kind} | {c.binds} | {len(c.probes)} | "
        f"{c.load_s:.0f} | {c.requests} |"
        for n, c in enumerate(searches)
    ]
    head = "| search | capacity | kind | binds | probes | seconds of load | requests |"
    return "\n".join([head, "|---" * 7 + "|", *rows])


def _grid(points: Sequence[GridPoint], plan: Plan) -> str:
    criteria = slo_of(plan.config.slo).criteria()
    asked_for = [f"{name} (at least {least:g})" for name, least in criteria.items()]
    head = f"| level | requests | {' | '.join(asked_for)} |"
    rows = []
    for point in points:
        shares = [f"{s:.4f} ({low:.4f}–{high:.4f})" for s, low, high in map(point.share, criteria)]
        rows.append(f"| {point.level:.3g} | {point.requests} | " + " | ".join(shares) + " |")
    kept = [p.level for p in itertools.takewhile(lambda p: all(p.share(c)[0] >= criteria[c] for c in criteria), points)]
    broken = [p.level for p in points if p.level > max(kept, default=0.0)]
    verdict = f"{max(kept):.3g}" if kept else "nothing"
    upto = f", and does not keep it at {min(broken):.3g}" if broken else ""
    seconds, requests = sum(p.load_s for p in points), sum(p.requests for p in points)
    conclusion = f"By the grid it keeps the SLO up to {verdict}{upto}: {seconds:.0f} s of load, {requests} requests."
    return "\n".join([head, "|---" * (2 + len(criteria)) + "|", *rows, "", conclusion])


def _peers(peers: dict[str, list[str]]) -> list[str]:
    if not peers:
        return []
    head = "| tool, run | answer | seconds | requests |\n|---|---|---|---|"
    rows = [f"| {name}, {n + 1} | {cells} |" for name, runs in sorted(peers.items()) for n, cells in enumerate(runs)]
    return ["\n".join([head, *rows]), _PEER_NOTE]


def repeat(live: LiveEngine, repeats: int) -> str:
    """An A/A test, as Markdown."""
    searches = [live.search(seed) for seed in range(repeats)]
    pairs = list(itertools.combinations(searches, 2))
    different = sum(one.differs_from(other) for one, other in pairs)
    share, low, high = proportion_interval(different, len(pairs))
    interval = f"{100 * share:.1f} % ({100 * low:.1f}–{100 * high:.1f})"
    return f"{_searches(searches)}\n\n{different} of {len(pairs)} pairs are called different: {interval}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=10)
    parser.add_argument("--window-s", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--page", default="capacity_live")
    parser.add_argument("--guidellm")
    parser.add_argument("--aiperf")
    asked, words = parser.parse_known_args()
    require_quiet()
    with live_engine(words) as live:
        body = repeat(live, asked.repeats) if asked.repeats else compare(live, asked)
        limits = live.plan.config.slo.in_words()
    compared = ["--rounds", f"{asked.rounds}", "--rates", f"{asked.rates}", "--window-s", f"{asked.window_s:g}"]
    compared += [word for name in ("guidellm", "aiperf") if getattr(asked, name) for word in (f"--{name}", name)]
    options = ["--repeats", f"{asked.repeats}"] if asked.repeats else compared
    source = provenance(shlex.join(["python", "-m", "benchmarks.capacity_live", *options, *words]))
    text = f"# A live engine's capacity\n\n{source}\n\nThe SLO: {limits}.\n\n{body}\n"
    print(text)
    (RESULTS / f"{asked.page}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
