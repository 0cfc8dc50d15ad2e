"""Measurements of this project itself, side by side in one run; each writes its table under `docs/results/`."""

from optimize import cli as cli  # before numpy: it says how many threads linear algebra gets
