"""The workload: what is sent, what its answers are scored against, and how long either is."""
