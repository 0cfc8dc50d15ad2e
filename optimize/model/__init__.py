"""Models made on the spot, and the manifest that says how a checkpoint was made."""
