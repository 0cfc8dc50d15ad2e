"""Find the vLLM configuration to deploy: measured on live engines, searched with Optuna, tracked in MLflow."""

__version__ = "0.1.0"
