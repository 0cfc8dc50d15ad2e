"""Drift on live engines: an alarm where the prompts become longer, and none where the traffic stays?

Usage: python -m benchmarks.drift_live [--trials 4] [--rate 1.0] [--change-min 5] [--minutes 50] [--folder FOLDER]

One study of the demo is measured, with its confirmation. Two engines then serve its recommendation, each with the
study's own prompts at random times. One goes on so; the other's prompts become twice as long after some minutes.
`python -m optimize.drift` is asked about both again and again, until it says for both what is to be said.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import httpx

from benchmarks.common import RESULTS, ROOT, provenance, require_quiet, run_verb
from benchmarks.restarts import until
from optimize.config.compose import configuration
from optimize.drift.session import DRIFTED, HOLDS, TOO_EARLY
from optimize.engine.base import Endpoint, RequestConfig
from optimize.engine.http_client import client_of
from optimize.load.arrivals import Poisson
from optimize.load.client_pool import ClientPool, LoadRequest, LoadRun
from optimize.plan import make_plan
from optimize.workload.workload import Workload

_SAME, _LONGER = "prompts stay", "prompts become twice as long"
_TIMEOUT_S, _POLL_S, _ASK_EVERY_S = 60.0, 0.5, 120.0
_MEANINGS = {HOLDS: "still holds", DRIFTED: "no longer holds", TOO_EARLY: "too early to say"}


@dataclass
class Server:
    """An engine that serves the study's row, and what became of it.

    Attributes:
        traffic: What its clients send.
        words: Overrides of its commands.
        folder: Its results, a copy of the study's.
        endpoint: Where it listens.
        answers: (minutes since it was ready, exit code of `optimize.drift`), in their order.
        changed_min: Minutes since it was ready at which its prompts became longer.
    """

    traffic: str
    words: Sequence[str]
    folder: Path
    endpoint: Endpoint
    answers: list[tuple[float, int]] = field(default_factory=list)
    changed_min: float | None = None

    def ask(self, minutes: float) -> None:
        """Ask `optimize.drift` once."""
        command = [sys.executable, "-m", "optimize.drift", *self.words]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode not in _MEANINGS:
            raise SystemExit(f"optimize.drift ended with {run.returncode}: {run.stderr}")
        self.answers.append((minutes, run.returncode))
        print(f"{minutes:5.1f} min, {self.traffic}: {_MEANINGS[run.returncode]}", flush=True)

    @property
    def concluded(self) -> bool:
        """Whether it has said, after enough readings, what it should say, or an alarm that it should not."""
        code = self.answers[-1][1] if self.answers else TOO_EARLY
        return code == DRIFTED or (code == HOLDS and self.traffic == _SAME)


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """`python -m optimize.serve` in a process of its own, ended by SIGTERM."""
    port = server.endpoint.base_url.rpartition(":")[2]
    command = [sys.executable, "-m", "optimize.serve", *server.words, f"serve.port={port}"]
    with (server.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        until(lambda: _healthy(server.endpoint), process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _healthy(endpoint: Endpoint) -> bool:
    try:
        with client_of(endpoint, 5.0) as http:
            return http.get("/health").status_code == 200
    except httpx.HTTPError:
        return False


def twice(workload: Workload) -> Workload:
    """The same prompts, each sent with itself before it."""
    return dataclasses.replace(workload, prompts=[f"{prompt}{prompt}" for prompt in workload.prompts])


def observe(
    servers: Sequence[Server], workload: Workload, rate_per_s: float, change_min: float, minutes: float
) -> None:
    """Send the traffic, and ask about both servers until both have concluded, or the time is over."""
    same, longer = servers
    with ClientPool(1) as first, ClientPool(1) as second, first.loading(same.endpoint, _request(workload)) as steady:
        began = time.monotonic()
        steady.follow(Poisson(rate_per_s))
        with second.loading(longer.endpoint, _request(workload)) as before:
            before.follow(Poisson(rate_per_s))
            _wait([steady, before], began + 60 * change_min)
        longer.changed_min = (time.monotonic() - began) / 60
        with second.loading(longer.endpoint, _request(twice(workload))) as after:
            after.follow(Poisson(rate_per_s))
            while time.monotonic() < began + 60 * minutes and not all(server.concluded for server in servers):
                _wait([steady, after], time.monotonic() + _ASK_EVERY_S)
                for server in servers:
                    server.ask((time.monotonic() - began) / 60)


def _request(workload: Workload) -> LoadRequest:
    return LoadRequest(workload, RequestConfig(), workload.max_tokens, _TIMEOUT_S, 0)


def _wait(runs: Sequence[LoadRun], deadline: float) -> None:
    while time.monotonic() < deadline:
        for run in runs:
            run.update()
        time.sleep(_POLL_S)


def report(servers: Sequence[Server], command: str, rate_per_s: float) -> str:
    """What was said of both servers, as Markdown."""
    lines = [
        "# Drift on live engines", "",
        provenance(command), "",
        f"Two engines served the recommendation of one study on this machine at the same time, with {rate_per_s:g} "
        "requests/s each at random times, the study's own prompts. Minutes count from when both engines were "
        "ready.", "",
        "| traffic | first answer but \"too early\" | alarm |", "|---|---|---|",
        *map(_row, servers), "",
    ]  # fmt: skip
    for server in servers:
        lines += [f"## {server.traffic.capitalize()}", "", *_answer(server), ""]
    return "\n".join(lines)


def _row(server: Server) -> str:
    answers = ((f"{_MEANINGS[code]}, minute {minute:.0f}") for minute, code in server.answers if code != TOO_EARLY)
    alarm = next((minute for minute, code in server.answers if code == DRIFTED), None)
    when = "none" if alarm is None else f"minute {alarm:.0f}"
    if alarm is not None and server.changed_min is not None:
        when += f", {alarm - server.changed_min:.0f} min after the change"
    return f"| {server.traffic} | {next(answers, 'none')} | {when} |"


def _answer(server: Server) -> list[str]:
    """The last answer, without the command that tunes again, which names folders."""
    path = next(server.folder.glob("studies/chat/report/drift.md"))
    return path.read_text(encoding="utf-8").partition("\ntune again")[0].strip().splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1.0, help="requests per second, for each engine")
    parser.add_argument("--change-min", type=float, default=5.0, help="minutes until the prompts become longer")
    parser.add_argument("--minutes", type=float, default=50.0, help="most minutes of traffic")
    parser.add_argument("--port", type=int, default=8160)
    parser.add_argument("--folder", type=Path, help="folder of the results, kept; a temporary one by default")
    arguments = parser.parse_args()
    require_quiet()
    folder = arguments.folder or Path(mkdtemp(prefix="drift-live-"))
    words = ["+study=chat", f"study.trials={arguments.trials}"]
    study = folder / "same"
    run_verb("optimize", [*words, f"output_dir={study}"])
    shutil.copytree(study, folder / "longer", symlinks=True, dirs_exist_ok=True)
    servers = [
        Server(
            traffic,
            [*words, f"output_dir={folder / name}"],
            folder / name,
            Endpoint(f"http://127.0.0.1:{port}", None, "model"),
        )
        for traffic, name, port in ((_SAME, "same", arguments.port), (_LONGER, "longer", arguments.port + 1))
    ]
    workload = make_plan(configuration([*words, f"output_dir={folder / 'plan'}"])).workload
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(serving(server))
        observe(servers, workload, arguments.rate, arguments.change_min, arguments.minutes)
    command = (
        f"python -m benchmarks.drift_live --trials {arguments.trials} --rate {arguments.rate:g} "
        f"--change-min {arguments.change_min:g} --minutes {arguments.minutes:g}"
    )
    text = report(servers, command, arguments.rate)
    (RESULTS / "drift_live.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
