"""Find the vLLM configuration to deploy: measured on live engines, searched with Optuna, tracked in MLflow."""

import os

# Read when numpy is imported. OpenBLAS's threads wait for more work, each on a core of its own, for a tenth of a second
# a product: beside an engine under measurement that was seen in the longest latencies of a study's first window.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
