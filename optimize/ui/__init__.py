"""What `scripts/ui` serves, each behind a guard: the page over all studies, MLflow's UI and Optuna's dashboard."""
