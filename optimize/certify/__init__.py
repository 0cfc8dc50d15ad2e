"""What a configuration is worth under load and faults, measured on a live engine under supervision."""
