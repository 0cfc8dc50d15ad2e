"""Models with random weights, and the manifest of how a checkpoint was made."""
