"""Where trials run: in this process, on each device of this machine, or on a Ray cluster."""
