"""Find the vLLM configuration to deploy: measured on live engines, searched with Optuna, tracked in MLflow."""

from optimize.config import renames as renames
