"""Certification of a configuration under load and faults, on a live engine under supervision."""
