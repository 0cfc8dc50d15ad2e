"""Mirrors of a study in MLflow and the Optuna dashboard; the ledger is the record."""
