"""The figures that a configuration is judged by: each objective turns one Measurement into one Estimate.

A leaf package: it imports nothing from `optimize`, so an objective can be written, tested and reused on its own.
"""

from objectives.base import Direction, Estimate, Measurement, MemoryParts, Objective, RequestRecord

__all__ = ["Direction", "Estimate", "Measurement", "MemoryParts", "Objective", "RequestRecord"]
