"""Makes each kind of alert fire for real: a bundle's command under load and faults, read by Debian's Prometheus.

The bundle is the one that `python -m optimize.deploy` writes for a study's row, thresholds included.
Usage: python -m benchmarks.alerts --study smoke [--output-dir mlruns] [--repeats 1]
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.prometheus import Prometheus, missing, node_exporter, prometheus, until
from optimize.config.compose import configuration
from optimize.config.schema import StudyConfig
from optimize.deploy.alerts import alerts_of
from optimize.deploy.bundle import make_deployment, make_folder, write_bundle
from optimize.deploy.verify import Serving, serving
from optimize.engine.process import free_port
from optimize.errors import OptimizeError
from optimize.study.rows import requested_row

_FIRE_MAX_S, _SILENT_MAX_S = 90.0, 60.0
_USERS, _FEW, _TOKENS, _WARM_S = 48, 16, 100, 8.0
_SMALL_CACHE = "--num-gpu-blocks-override=4"
CAUSES = {
    "paging": f"KV cache of 4 blocks ({_SMALL_CACHE}), {_USERS} users",
    "decode": f"engine core frozen (SIGSTOP) while it served {_FEW} users",
    "cpu": f"{_USERS} users on the whole machine",
    "down": "API server killed (SIGKILL)",
}
EXPECTED = {
    "paging": ("VllmPagingWarning", "VllmPagingCritical"),
    "decode": ("VllmDecodeSlowWarning", "VllmDecodeSlowCritical"),
    "cpu": ("CpuExhaustedWarning", "CpuExhaustedCritical"),
    "down": ("VllmDown",),
}


@dataclass(frozen=True, slots=True)
class Fired:
    """One alert that was caused to fire.

    Attributes:
        cause: Key of CAUSES.
        alert: Its name.
        fired_s: Seconds from the cause's beginning until it fired; None where it did not.
        value: Of its expression then.
        silent_s: Seconds from the cause's end until it was silent again; None where it was not awaited or seen.
    """

    cause: str
    alert: str
    fired_s: float | None
    value: str
    silent_s: float | None


@contextmanager
def users(running: Serving, model: str, count: int) -> Iterator[None]:
    """A number of users who send the next request as soon as they are answered, whatever the answer.

    Each asks for answers of another length: in step, they would all wait for their next turn at once.
    """
    over = threading.Event()

    def ask(tokens: int) -> None:
        body = {"model": model, "prompt": "the old man sees the dog", "max_tokens": tokens, "ignore_eos": True}
        with httpx.Client(trust_env=False, base_url=running.base_url, headers=running.headers, timeout=120) as http:
            while not over.is_set():
                try:
                    http.post("/v1/completions", json=body)
                except httpx.HTTPError:
                    over.wait(0.5)

    lengths = [_TOKENS - number % (_TOKENS // 2) for number in range(count)]
    threads = [threading.Thread(target=ask, args=(tokens,), daemon=True) for tokens in lengths]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def frozen(running: Serving) -> Iterator[None]:
    """The engine core and its workers stopped; the API server goes on."""
    server = server_of(running)
    engine = [p for p in running.tree.processes() if p.pid != server.pid]
    _signal(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(engine, signal.SIGCONT)


def server_of(running: Serving) -> psutil.Process:
    """The process that listens: vLLM's API server."""
    port = int(running.base_url.rpartition(":")[2])
    return next(
        p
        for p in running.tree.processes()
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in p.net_connections("tcp"))
    )


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        process.send_signal(number)


def firing(reader: Prometheus, name: str) -> str | None:
    """The value of an alert that fires; None where it does not."""
    for rule in reader.rules():
        for alert in rule["alerts"] if rule["name"] == name else ():
            if alert["state"] == "firing":
                return str(alert["value"])
    return None


def watch(reader: Prometheus, cause: str, begin: Callable[[ExitStack], object], ends: bool = True) -> list[Fired]:
    """Begin a cause, wait until all alerts expected of it fire, end it, and wait until they are silent."""
    fired: dict[str, tuple[float, str]] = {}
    with ExitStack() as during:
        began = time.monotonic()
        begin(during)

        def all_fire() -> bool:
            for name in EXPECTED[cause]:
                if name not in fired and (value := firing(reader, name)) is not None:
                    fired[name] = (time.monotonic() - began, value)
            return len(fired) == len(EXPECTED[cause])

        until(all_fire, _FIRE_MAX_S)
    ended, silent = time.monotonic(), dict[str, float]()

    def all_silent() -> bool:
        for name in fired:
            if name not in silent and firing(reader, name) is None:
                silent[name] = time.monotonic() - ended
        return len(silent) == len(fired)

    if ends:
        until(all_silent, _SILENT_MAX_S)
    alerts = [
        Fired(cause, name, fired[name][0] if name in fired else None, fired.get(name, (0, "–"))[1], silent.get(name))
        for name in EXPECTED[cause]
    ]
    print(*alerts, sep="\n", flush=True)
    return alerts


def run(config: StudyConfig, repeats: int) -> list[Fired]:
    """All causes; one engine for the shrunken cache, one for the others."""
    target = requested_row(config)
    alerts: list[Fired] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as scratch:
            folder = make_folder(Path(scratch) / "bundle")
            deployment = make_deployment(target, config, folder)
            write_bundle(deployment, config.alerts, None)
            with (
                node_exporter(config.alerts.node_exporter),
                prometheus(folder / "prometheus.yml", Path(scratch) / "data") as reader,
            ):
                alerts += _on_engines(reader, folder, config, deployment.served_name)
    return alerts


def _on_engines(reader: Prometheus, folder: Path, config: StudyConfig, model: str) -> list[Fired]:
    port, timeout_s = config.deploy.port, config.deploy.start_timeout_s
    with serving(folder, timeout_s, port, [_SMALL_CACHE]) as running:
        _settled(reader)
        alerts = watch(reader, "paging", lambda during: during.enter_context(users(running, model, _USERS)))
    with serving(folder, timeout_s, port) as running:
        with users(running, model, 4):
            time.sleep(_WARM_S)  # kernels are compiled at first use: an engine that is stopped then tells of no token
        _settled(reader)

        def slow(during: ExitStack) -> None:
            during.enter_context(users(running, model, _FEW))
            # An engine core that is stopped before it has told of its requests tells of none.
            until(lambda: bool(reader.query(f"sum(vllm:num_requests_running) >= {_FEW // 2}")))
            during.enter_context(frozen(running))

        alerts += watch(reader, "decode", slow)
        alerts += watch(reader, "cpu", lambda during: during.enter_context(users(running, model, _USERS)))
        server = server_of(running)
        alerts += watch(reader, "down", lambda _: server.kill(), ends=False)
    return alerts


def _settled(reader: Prometheus) -> None:
    """Wait until the engine is read and nothing fires."""
    if not until(lambda: bool(reader.query('up{job="vllm"} == 1')), 30):
        raise OptimizeError("Prometheus does not read the engine")
    names = [name for names in EXPECTED.values() for name in names]
    until(lambda: all(firing(reader, name) is None for name in names), _SILENT_MAX_S)


def report(alerts: list[Fired], config: StudyConfig, repeats: int, command: str) -> str:
    rules = {rule.name: rule for rule in alerts_of(config.alerts)}
    version = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=False)
    lines = [
        "# Alerts made to fire", "", provenance(command), "",
        f"{(version.stdout + version.stderr).split('(')[0].strip()}, read every {config.alerts.scrape_s:g} s, with the "
        "files that `python -m optimize.deploy` writes; no threshold was lowered. Times count from the cause's "
        "beginning to the firing alert, and from its end to silence.", "",
        "| alert | fires when | cause | fired after | value then | silent after |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for f in alerts:
        rule = rules[f.alert]
        fired = "did not" if f.fired_s is None else f"{f.fired_s:.0f} s"
        silent = "not waited for" if f.silent_s is None else f"{f.silent_s:.0f} s"
        value = f.value if f.fired_s is None else f"{float(f.value):.3g}"
        lines.append(
            f"| {f.alert} | {rule.summary}, for {rule.for_s:g} s | {CAUSES[f.cause]} | {fired} | {value} | {silent} |"
        )
    if repeats == 1:
        lines += ["", "One run each, so there are no intervals."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="smoke")
    parser.add_argument("--output-dir", default="mlruns")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    require_quiet()
    if missing():
        raise SystemExit(f"not installed: {', '.join(missing())}; requirements/debian.txt names their packages")
    config = configuration([f"+study={args.study}", f"output_dir={args.output_dir}"])
    config = dataclasses.replace(
        config,
        deploy=dataclasses.replace(config.deploy, port=free_port()),
        alerts=dataclasses.replace(config.alerts, node_exporter=f"127.0.0.1:{free_port()}"),
    )
    alerts = run(config, args.repeats)
    command = f"python -m benchmarks.alerts --study {args.study} --repeats {args.repeats}"
    text = report(alerts, config, args.repeats, command)
    (RESULTS / "alerts.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
