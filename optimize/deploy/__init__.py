"""Deployment bundles: from a measured row to files that start it (`python -m optimize.deploy`)."""
