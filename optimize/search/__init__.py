"""The search space, the models of it, and the samplers that choose the next trial."""
