"""Mirrors of a study for people: MLflow and the Optuna dashboard. The ledger is the truth."""
