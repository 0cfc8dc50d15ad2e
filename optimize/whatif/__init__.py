"""Another decision from what a study has stored: other limits, quantiles, weights, prices or prompts, and no engine."""
