"""Places for engines on this machine: processors and GPUs that one engine and its clients have to themselves."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optimize.errors import ConfigError
from optimize.executor.affinity import near_cpus, shares
from optimize.hardware import Device, gpu_handles, visible_devices

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_NAMESPACE = "OPTIMIZE_PLACES"
"""Environment variable: workers exclude each other only where it is the same, as it is unless a test sets it."""
SPREADING = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
"""Flags that spread one engine over several GPUs."""


@dataclass(frozen=True, slots=True)
class Place:
    """Part of a machine that one engine and its clients have to themselves.

    Attributes:
        cpus: Processors; empty for all.
        gpus: GPUs by NVML's numbers, slices of them by UUID; empty for all that are visible.
    """

    cpus: tuple[int, ...] = ()
    gpus: tuple[int | str, ...] = ()

    def take(self) -> None:
        """Confine this process, and every process that it starts from now on, to the place."""
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self.gpus))
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # CUDA's own numbers begin with the fastest GPU

    def __str__(self) -> str:
        numbers = _ranges([gpu for gpu in self.gpus if isinstance(gpu, int)])
        gpus = ",".join(filter(None, [numbers, *(gpu for gpu in self.gpus if isinstance(gpu, str))]))
        parts = [f"{name} {text}" for name, text in (("GPU", gpus), ("CPU", _ranges(self.cpus))) if text]
        return ", ".join(parts) or "the whole machine"


@contextmanager
def taken(places: Sequence[Place]) -> Iterator[Place]:
    """Take the first of these places that no other worker on this machine has, until the end of the context.

    The whole machine is never locked: then something else (Ray, by its resources) decides who runs where.

    Raises:
        ConfigError: other workers have all of them.
    """
    for place in places:
        if place == Place():
            yield place
            return
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(_address(place))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            place.take()
            yield place
        return
    raise ConfigError(
        f"every place for an engine on this machine ({'; '.join(map(str, places))}) is taken by another worker, "
        "perhaps of another user: wait for it, or name other executor.cpu_sets"
    )


def _address(place: Place) -> str:
    """An address in Linux's abstract namespace, which one process of the machine can have, whoever runs it.

    A file in /tmp was tried before: one user's could not be opened by another, and a link in its place misled both. The
    kernel frees an address with its process, and there is nothing to own, to follow or to clean up. Containers with a
    network of their own do not see each other's; they do not see each other's /tmp, either.
    """
    name = f"{os.environ.get(_NAMESPACE, '')} {place}"
    return f"\0optimize-place-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def read_cpus(text: str) -> tuple[int, ...]:
    """Parse a list of processors in the syntax of `taskset`, e.g. "0-3,8".

    Raises:
        ConfigError: it has another syntax.
    """
    cpus: set[int] = set()
    try:
        for part in str(text).split(","):
            first, dash, last = part.partition("-")
            numbers = range(int(first), int(last if dash else first) + 1)
            if not numbers:
                raise ValueError
            cpus.update(numbers)
    except ValueError:
        raise ConfigError(
            f"executor.cpu_sets: {text!r} is no list of processors: write e.g. '0-3,8' (quoted, one text per engine)"
        ) from None
    return tuple(sorted(cpus))


def cpu_places(sets: Sequence[str]) -> list[Place]:
    """One place per set of processors.

    Raises:
        ConfigError: a processor is not available, is in two sets, or shares its core with a processor of another set:
            two engines on one core would disturb each other.
    """
    allowed, owners = os.sched_getaffinity(0), dict[int, str]()
    places: list[Place] = []
    for text in sets:
        cpus = read_cpus(text)
        missing = sorted(set(cpus) - allowed)
        if missing:
            raise ConfigError(
                f"executor.cpu_sets: processor {missing[0]} of {text!r} is not available to this process, which has "
                f"{_ranges(sorted(allowed))}"
            )
        for cpu in cpus:
            for other in (cpu, *siblings(cpu)):
                if owners.get(other, text) != text:
                    raise ConfigError(
                        f"executor.cpu_sets: {owners[other]!r} and {text!r} share processor {cpu}'s core: two "
                        "engines on it would disturb each other; give every core to one set"
                    )
        if cpus in [place.cpus for place in places]:
            raise ConfigError(f"executor.cpu_sets names {text!r} twice: give every core to one set")
        owners |= dict.fromkeys(cpus, text)
        places.append(Place(cpus=cpus))
    return places


def siblings(cpu: int) -> tuple[int, ...]:
    """Processors of one core, itself included; itself alone where the kernel does not report them."""
    try:
        return read_cpus(Path(_SIBLINGS.format(cpu)).read_text().strip())
    except (OSError, ConfigError):
        return (cpu,)


def gpu_places(per_engine: int | None, flags: Mapping[str, object], knobs: Sequence[str]) -> list[Place]:
    """One place per GPU, or per group of them; one for all where engines spread over GPUs by a flag or a knob.

    Args:
        per_engine: GPUs per engine; None for one, or all where engines spread over GPUs.
        flags: vLLM flags that are fixed.
        knobs: Names of the flags that are searched.

    Raises:
        ConfigError: there are fewer GPUs than `per_engine`.
    """
    devices = visible_devices()
    spread = any(name in flags or name in knobs for name in SPREADING)
    size = per_engine or (max(1, len(devices)) if spread else 1)
    if per_engine is not None and per_engine > len(devices):
        raise ConfigError(f"executor.gpus_per_engine={per_engine}, but this machine shows {len(devices)} GPUs")
    groups = [devices[i : i + size] for i in range(0, len(devices) - size + 1, size)]
    names = [tuple(device.name for device in group) for group in groups]
    return [Place(cpus=share, gpus=gpus) for gpus, share in zip(names, _cpus_of(groups), strict=True)]


def _cpus_of(groups: Sequence[Sequence[Device]]) -> list[tuple[int, ...]]:
    """Processors for each group of GPUs: whole cores on their side of the machine, which no other group has."""
    allowed = frozenset(os.sched_getaffinity(0))
    cores = dict.fromkeys(tuple(sorted(allowed.intersection(siblings(cpu)))) for cpu in sorted(allowed))
    near = [frozenset[int]().union(*(_near(device, allowed) for device in group)) for group in groups]
    return shares(near, list(cores))


def _near(device: Device, allowed: frozenset[int]) -> frozenset[int]:
    import pynvml

    whole = gpu_handles()  # a slice has no processors of its own
    handle = whole[device.number] if device.number < len(whole) else device.handle
    return near_cpus(pynvml, handle, allowed)


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as a list that `read_cpus` reads."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
