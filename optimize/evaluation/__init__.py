"""One configuration to one result: load, telemetry, interference, answers, perplexity."""
