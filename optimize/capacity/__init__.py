"""How much load an engine carries within a service-level objective: probes at a few levels make one figure.

Pure: the caller applies the load.
"""

from optimize.capacity.capacity import Capacity, Kind, Probe, Unit
from optimize.capacity.estimator import estimate
from optimize.capacity.probing import Enough, Prober, ProbeRun, Search
from optimize.capacity.requests import Requests
from optimize.capacity.slo import Quantity, Slo, SloLimit

__all__ = [
    "Capacity",
    "Enough",
    "Kind",
    "Probe",
    "ProbeRun",
    "Prober",
    "Quantity",
    "Requests",
    "Search",
    "Slo",
    "SloLimit",
    "Unit",
    "estimate",
]
