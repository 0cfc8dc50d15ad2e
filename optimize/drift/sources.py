"""Readings of a server's traffic: from the record of `optimize.serve`, from saved scrapes, or from a Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from optimize.config.drift import Drift
from optimize.engine.http_client import route_of
from optimize.engine.traffic import COUNTERS, HISTOGRAMS, Traffic, parse_traffic, traffic_of
from optimize.errors import ConfigError, one_line

MINUTE_S = 60.0
_DAY_S = 86400.0
_TIMEOUT_S = 60.0
_NAMES = "|".join([*(f"{name}_(bucket|sum)" for name in HISTOGRAMS), *COUNTERS])


def readings_of(settings: Drift, record: Sequence[Path], study: str) -> list[Traffic]:
    """What a server has seen, minute by minute.

    Args:
        settings: Where to read; the record where they name nothing else.
        record: Files that `optimize.serve` writes of the study, the older first.
        study: Name of the study.

    Raises:
        ConfigError: there is nothing to read, or it cannot be read.
    """
    if settings.scrape and settings.prometheus:
        raise ConfigError("drift.scrape and drift.prometheus are two sources: give one of them")
    if settings.prometheus:
        return from_prometheus(settings, time.time())
    if settings.scrape:
        return increments(_scrapes([Path(path) for path in settings.scrape]))
    snapshots = [snapshot for path in record for snapshot in _recorded(path)]
    if not snapshots:
        raise ConfigError(
            f"optimize.serve has kept no record of study {study!r} ({record[-1]}): serve it, or give "
            "drift.prometheus=http://host:port or drift.scrape=[FILE,...]"
        )
    return increments(snapshots)


def increments(snapshots: Iterable[Traffic]) -> list[Traffic]:
    """What came between readings that are a minute apart or more; of a single one, all that it has added up."""
    minutes: list[Traffic] = []
    for snapshot in sorted(snapshots, key=lambda s: s.at):
        if not minutes or snapshot.at - minutes[-1].at >= 0.9 * MINUTE_S:  # scrapes come a little early or late
            minutes.append(snapshot)
    if len(minutes) == 1:
        return minutes
    return [later.since(earlier) for earlier, later in zip(minutes, minutes[1:], strict=False)]


# --- files ------------------------------------------------------------------------------------------------------------


def _scrapes(paths: Sequence[Path]) -> Iterator[Traffic]:
    for path in paths:
        try:
            traffic = parse_traffic(path.read_text(encoding="utf-8"), path.stat().st_mtime)
        except OSError as error:
            raise ConfigError(
                f"drift.scrape={path} cannot be read ({one_line(error)}): give files that hold answers of /metrics"
            ) from error
        except ValueError as error:
            raise ConfigError(f"drift.scrape={path} is no answer of /metrics: {one_line(error)}") from error
        if not traffic.histograms:
            raise ConfigError(
                f"drift.scrape={path} holds no histogram of vLLM's: save its /metrics, e.g. curl -s "
                "http://127.0.0.1:8000/metrics"
            )
        yield traffic


def _recorded(path: Path) -> Iterator[Traffic]:
    """The readings of a record; a line that a kill or a full disk cut off is passed over."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield Traffic.from_dict(json.loads(line))
        except (LookupError, TypeError, ValueError, AttributeError):
            continue


# --- Prometheus -------------------------------------------------------------------------------------------------------


def from_prometheus(settings: Drift, now: float, transport: httpx.BaseTransport | None = None) -> list[Traffic]:
    """Readings of each minute, added up over the servers that Prometheus scrapes.

    Args:
        settings: Address, matchers and length of the time.
        now: Unix time of its end.
        transport: Sends the queries; None for the network.

    Raises:
        ConfigError: it does not answer, refuses, or has no such series.
    """
    minutes: dict[float, list[Traffic]] = {}
    for snapshots in _servers(settings, now, transport):
        for earlier, later in zip(snapshots, snapshots[1:], strict=False):
            minutes.setdefault(later.at, []).append(later.since(earlier))
    if not minutes:
        raise ConfigError(
            f"drift.prometheus={settings.prometheus} has no series of vLLM's within {settings.days:g} days that match "
            f"{{{settings.match}}}: correct drift.match or drift.days"
        )
    return [reduce(Traffic.plus, minutes[at]) for at in sorted(minutes)]


def _servers(settings: Drift, now: float, transport: httpx.BaseTransport | None) -> Iterator[list[Traffic]]:
    """The readings of each server, by time."""
    values: dict[str, dict[float, list[tuple[str, str, float]]]] = {}
    for series in _all_series(settings, now, transport):
        labels = series["metric"]
        server = values.setdefault(f"{labels.get('job', '')} {labels.get('instance', '')}", {})
        for at, value in series["values"]:
            server.setdefault(float(at), []).append((labels["__name__"], labels.get("le", ""), float(value)))
    for server in values.values():
        yield [traffic_of(samples, at) for at, samples in sorted(server.items())]


def _all_series(
    settings: Drift, now: float, transport: httpx.BaseTransport | None
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """All series, a day at a time: Prometheus refuses answers of more than 11,000 points."""
    begin = now - settings.days * _DAY_S
    with httpx.Client(timeout=_TIMEOUT_S, transport=transport, **route_of(str(settings.prometheus))) as http:
        while begin < now:
            end = min(begin + _DAY_S, now)
            yield from _series(http, settings, begin, end)
            begin = end + MINUTE_S


def _series(http: httpx.Client, settings: Drift, begin: float, end: float) -> list[dict[str, Any]]:
    url = str(settings.prometheus).rstrip("/")
    matchers = ",".join(filter(None, [f'__name__=~"{_NAMES}"', settings.match]))
    query = {"query": f"{{{matchers}}}", "start": f"{begin:.0f}", "end": f"{end:.0f}", "step": f"{MINUTE_S:.0f}"}
    try:
        answer = http.post(f"{url}/api/v1/query_range", data=query)
        body = answer.json()
        if body.get("status") != "success":
            raise ConfigError(f"drift.prometheus={url} refuses the query: {body.get('error', answer.status_code)}")
        return list(body["data"]["result"])
    except httpx.HTTPError as error:
        raise ConfigError(
            f"drift.prometheus={url} does not answer ({one_line(error)}): correct the address, or start it"
        ) from error
    except (ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"drift.prometheus={url} is no Prometheus: it answers with something else") from error


def check_address(settings: Drift) -> None:
    """Refuse what is no address of a server.

    Raises:
        ConfigError: it is none.
    """
    url = urlsplit(settings.prometheus or "http://localhost")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(f"drift.prometheus must be http(s)://host:port, got {settings.prometheus!r}")
