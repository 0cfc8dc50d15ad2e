"""Measurements of this project itself, side by side in one run; each writes its table under `docs/results/`."""

import optimize  # noqa: F401  before numpy: says how many threads its linear algebra gets
