"""Measurements of this project itself, side by side in one run; each writes its table under `docs/results/`."""
