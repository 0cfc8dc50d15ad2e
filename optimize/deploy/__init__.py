"""From a measured row to files that somebody can start: `python -m optimize.deploy`."""
