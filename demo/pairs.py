"""The pairs of sentences that the demo model learns from, and their form; loads no library for models."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from demo.grammar import SHAPES, Pair, is_held_out, sample_shape

MODEL_FOLDER = Path(__file__).parent / "model"
MAX_POSITIONS = 256


def prompt_of(source: str) -> str:
    """Return the prompt whose continuation is the translation."""
    return source + "\n"


def training_pairs(seed: int, shapes: Sequence[str] = tuple(SHAPES)) -> Iterator[Pair]:
    """Yield training pairs of these shapes without end, never one reserved for the workloads."""
    rng = random.Random(seed)
    while True:
        pair = sample_shape(rng, rng.choice(shapes))
        if not is_held_out(pair.source):
            yield pair
