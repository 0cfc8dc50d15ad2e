"""Write a trace in the form of Azure's LLM inference traces: `python -m demo.traffic.azure --out trace.csv`.

No request of it was ever recorded. Lengths have the medians that Splitwise gives for Azure's conversations (Patel et
al. 2024, arXiv:2311.18677, section III: 1020 tokens of prompt, 129 of answer); their spread is our choice, log-normal
and exponential as ServeGen found lengths of inputs and outputs (Xiang et al. 2025, arXiv:2505.09999, section 3). Gaps
have a Gamma distribution of shape 0.5, more bursty than independent users, as BurstGPT models them (Wang et al. 2024,
arXiv:2401.17644); the rate rises to twice its mean in the middle, as towards noon.
"""

import argparse
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

PROMPT, ANSWER = 1020, 129
"""Median tokens of prompts and of answers in Azure's conversations."""
_SPREAD, _SHAPE = 0.8, 0.5
_START = datetime(2023, 11, 16, 18, 15, tzinfo=UTC)


def offsets_s(rng: random.Random, minutes: float, rate_per_s: float) -> Iterator[float]:
    """When requests come: Gamma gaps at a rate that rises and falls as half a sine does."""
    now_s, end_s = 0.0, minutes * 60
    while True:
        course = 0.25 + 1.18 * math.sin(math.pi * min(now_s / end_s, 1.0))
        now_s += rng.gammavariate(_SHAPE, 1 / (_SHAPE * rate_per_s * course))
        if now_s >= end_s:
            return
        yield now_s


def lines(seed: int, minutes: float, rate_per_s: float, shrink: float) -> Iterator[str]:
    """The lines of the file; lengths are divided by `shrink`."""
    rng = random.Random(seed)
    yield "TIMESTAMP,ContextTokens,GeneratedTokens"
    for offset_s in offsets_s(rng, minutes, rate_per_s):
        prompt = rng.lognormvariate(math.log(PROMPT / shrink), _SPREAD)
        answer = rng.expovariate(math.log(2) * shrink / ANSWER)
        at = _START + timedelta(seconds=offset_s)
        yield f"{at:%Y-%m-%d %H:%M:%S.%f}0,{max(1, round(prompt))},{max(1, round(answer))}"


def main() -> None:
    """Write one trace."""
    parser = argparse.ArgumentParser(description="Write a trace in the form of Azure's, of requests that never were.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=57.0)
    parser.add_argument("--rate", type=float, default=5.6, help="mean requests per second")
    parser.add_argument("--shrink", type=float, default=1.0, help="divisor of all lengths, for a small machine")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    text = "".join(f"{line}\n" for line in lines(options.seed, options.minutes, options.rate, options.shrink))
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
