"""Where trials run: one engine at a time in this process, one per device of this machine, or on a Ray cluster."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from optimize.config.schema import StudyConfig, Tracking
from optimize.errors import ConfigError
from optimize.executor.base import Executor
from optimize.executor.fleet import Fleet, FleetSpec
from optimize.executor.inline import Inline
from optimize.executor.placement import SPREADING, Place, cpu_places, gpu_places, read_cpus
from optimize.executor.transport import Transport
from optimize.executor.worker import WorkerSpec
from optimize.files import replacing
from optimize.ledger import Ledger, TrialRecord
from optimize.plan import Plan
from optimize.redaction import registered
from optimize.search.domain import values

__all__ = ["Executor", "make_executor"]

_CUDA_BUILD = "vllm "


def make_executor(plan: Plan, say: Callable[[str], None], phase: Callable[[str], None]) -> Executor:
    """The executor that a study's configuration asks for; nothing is started before it is entered.

    Args:
        plan: The study's parts.
        say: Receives messages for the terminal.
        phase: Receives the name of each phase of a trial, from an executor of one engine.

    Raises:
        ConfigError: the executor's settings make no sense, or it cannot run here.
    """
    settings = plan.config.executor
    if settings.kind == "ray":
        return _on_ray(plan, say)
    places = places_here(plan)
    if len(places) < 2 and not settings.cpu_sets:
        return Inline(plan, phase)
    return _on_this_machine(plan, places, say)


def places_here(plan: Plan) -> list[Place]:
    """This machine's places for engines: the configured sets of processors, else its GPUs, else the whole machine."""
    settings = plan.config.executor
    if plan.launcher.request_knobs_only:
        if settings.cpu_sets:
            raise ConfigError("executor.cpu_sets places engines, and engine=remote starts none: remove it")
        return [Place()]
    if settings.cpu_sets:
        places = cpu_places(settings.cpu_sets)
    else:
        flags = {**plan.config.model.flags, **dict(getattr(plan.launcher, "flags", {}))}
        places = gpu_places(settings.gpus_per_engine, flags, plan.space.engine_flags) or [Place()]
    return places[: settings.engines or len(places)]


def _on_this_machine(plan: Plan, places: list[Place], say: Callable[[str], None]) -> Executor:
    from optimize.executor.processes import Processes

    folder = plan.folder.resolve()
    specs = [_spec(plan, [place], slot, folder) for slot, place in enumerate(places)]
    title = f"{len(specs)} engines at a time on this machine ({'; '.join(map(str, places))})"
    return _fleet(plan, Processes(specs), len(specs), say, title)


def _on_ray(plan: Plan, say: Callable[[str], None]) -> Executor:
    from optimize.executor.ray import Actors

    settings = dataclasses.replace(plan.config.executor, gpus_per_engine=gpus_on_ray(plan))
    places = [Place()]
    if settings.cpu_sets:
        places = [Place(cpus=cpus) for cpus in map(read_cpus, settings.cpu_sets)]
    actors = Actors(settings, [])
    slots = settings.engines or actors.room()
    if slots < 1:
        actors.close()
        resources = {"CPU": settings.cpus_per_engine, "GPU": settings.gpus_per_engine or 0, **settings.resources}
        raise ConfigError(
            f"the Ray cluster at {settings.address} has no node with room for one worker "
            f"({', '.join(f'{k} {v:g}' for k, v in resources.items() if v)}): add nodes, or ask for less"
        )
    actors.specs = [_spec(plan, places, slot, None) for slot in range(slots)]
    return _fleet(plan, actors, slots, say, f"{slots} workers on the Ray cluster at {settings.address}")


def gpus_on_ray(plan: Plan) -> int | None:
    """GPUs that each worker asks of Ray, which hides all others from it; None for none.

    Those that are configured, else one for vLLM's CUDA build, or as many as flags and knobs spread an engine over.
    """
    configured = plan.config.executor.gpus_per_engine
    if configured is not None or not plan.launcher.version().startswith(_CUDA_BUILD):
        return configured
    flags = {**dict(getattr(plan.launcher, "flags", {})), **plan.config.model.flags}
    fixed = math.prod(int(flags.get(name) or 1) for name in SPREADING)
    spread = (values(node) for knob, node in plan.space.distributions.items() if knob in SPREADING)
    return fixed * max((int(value or 1) for choices in spread for value in choices), default=1)


def _spec(plan: Plan, places: list[Place], slot: int, folder: Path | None) -> WorkerSpec:
    return WorkerSpec(_for_workers(plan), places, slot, folder, Path.cwd(), registered())


def _for_workers(plan: Plan) -> StudyConfig:
    """The configuration without the driver's addresses, with paths that hold in any current folder."""
    config = plan.config
    cache = str(Path(config.cache_dir).resolve())
    return dataclasses.replace(config, tracking=Tracking(uri="", storage=""), cache_dir=cache)


def _fleet(plan: Plan, transport: Transport, slots: int, say: Callable[[str], None], title: str) -> Fleet:
    settings, machine_class = plan.config.executor, plan.config.hardware.machine_class
    spec = FleetSpec(slots, plan.signature, machine_class, settings.losses, settings.start_timeout_s, title)
    return Fleet(transport, spec, say, FileStore(Ledger(plan.folder)))


class FileStore:
    """Writes the files of a trial that came over the network to the study's folder.

    Args:
        ledger: The study's folder.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __call__(self, record: TrialRecord, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            path = self._ledger.trial_folder(record.number) / os.path.basename(name)
            with replacing(path) as partial:
                partial.write_bytes(content)
