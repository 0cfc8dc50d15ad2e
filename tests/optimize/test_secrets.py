"""A secret in every place where a user can put one, and no trace of it in any file or stream of any verb."""

from __future__ import annotations

import base64
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from optimize.engine.process import free_port
from tests.conftest import ROOT, Run
from tests.optimize.talkative import digest

VARIABLES = {
    "MY_SECRET": "Zq1-s3cret/of+hardware", "MY_OPAQUE": "Zq2-opaque-revision", "MY_FILE": "Zq3 of 'my' \"file\"",
    "FIRST_CHOICE": "Zq4-first-choice", "SECOND_CHOICE": "Zq5-second-choice", "MY_TITLE": "Zq6-title-of-scenario",
    "HF_TOKEN": "hf_Zq7InheritedToken", "OPTIMIZE_API_KEY": "Zq8-key-of-the-front", "OPENAI_API_KEY": "Zq9-openai-key",
    "MLFLOW_TRACKING_PASSWORD": "Zq10-tracking-password",
}  # fmt: skip
"""Variables of the environment: named in the configuration, or inherited only."""
LITERALS = {
    "a variable": "Zq11-database-password", "a flag": "hf_Zq12LiteralToken", "JSON in a flag": "Zq13-nested-password",
    "an address in a flag": "Zq14/p%40ss", "a file": "Zq15-literal-of-a-file",
}  # fmt: skip
PLACES = [
    "+hardware.env.MY_TOKEN=${oc.env:MY_SECRET}",
    f"+hardware.env.DB_PASSWORD={LITERALS['a variable']}",
    f"+engine.flags.hf_token={LITERALS['a flag']}",
    f"+engine.flags.kv_transfer_config={{extra: {{password: {LITERALS['JSON in a flag']}}}}}",
    f"+engine.flags.otlp_traces_endpoint='http://me:{LITERALS['an address in a flag']}@127.0.0.1:1/v1'",
    "+model.flags.revision=${oc.env:MY_OPAQUE}",
    "+search_space.code_revision=['${oc.env:FIRST_CHOICE}','${oc.env:SECOND_CHOICE}']",
    "+baseline.code_revision=${oc.env:FIRST_CHOICE}",
    "scenario.title='chat ${oc.env:MY_TITLE}'",
]
FILE = f"""
# @package _global_
hardware: {{env: {{FILE_VALUE: "${{oc.env:MY_FILE}}", S3_SECRET: {LITERALS["a file"]}}}}}
"""


@dataclass(frozen=True)
class Planted:
    """A study with secrets in all places.

    Attributes:
        optimize: Runs a verb.
        words: Its overrides.
        folder: The folder of all its files.
        secrets: Name -> value.
        streams: Verb -> what it wrote to its streams.
    """

    optimize: Run
    words: list[str]
    folder: Path
    secrets: dict[str, str]
    streams: dict[str, str] = field(default_factory=dict)

    def run(self, verb: str, *more: str, code: int = 0, name: tuple[str, ...] = ()) -> str:
        """Run a verb, and expect its exit code; returns its streams."""
        done = self.optimize([*name, *self.words, *more], verb=verb)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        shown = done.stdout + done.stderr
        self.streams[verb] = self.streams.get(verb, "") + shown
        return shown

    def leaks(self) -> list[tuple[str, str]]:
        """(Where, which secret) of every trace in streams and files."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "planted.yaml"]
        texts = self.streams | {str(path.relative_to(self.folder)): content(path) for path in files}
        return [(where, name) for where, text in texts.items() for name, value in self.secrets.items() if value in text]


def content(path: Path) -> str:
    """All that a file holds, decompressed."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path).to_pydict())
    raw = path.read_bytes().decode("utf-8", "replace")
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection:
            return raw + "\n".join(connection.iterdump())
    return raw


@pytest.fixture
def planted(
    optimize: Run,
    simulated: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Planted:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "mine/study").mkdir(parents=True)
    (tmp_path / "mine/study/planted.yaml").write_text(FILE)
    words = [
        *simulated, f"--config-dir={tmp_path}/mine", "+study@_global_=planted",
        "engine._target_=tests.optimize.talkative.TalkativeLauncher", "load.quiet_wait_s=null", *PLACES,
    ]  # fmt: skip
    return Planted(optimize, words, tmp_path, VARIABLES | LITERALS)


@pytest.mark.slow
def test_a_study_and_what_follows_it_leave_no_trace_and_use_the_values(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.run("optimize", "study.trials=1")
    study = planted.folder / "out/studies/smoke"
    log = (study / "trials/0000/engine.log").read_text()
    used = [*("MY_SECRET", "HF_TOKEN"), "a variable", "a file"]
    assert [name for name in used if digest(planted.secrets[name]) not in log] == []
    assert "'MY_TOKEN': '$MY_SECRET'" in log and "'HF_TOKEN': '$HF_TOKEN'" in log
    params = json.loads((study / "trials/0001/trial.json").read_text())["params"]
    assert params["code_revision"] in ("$FIRST_CHOICE", "$SECOND_CHOICE")

    planted.secrets["a changed token"] = "Zq16-token-of-today"
    monkeypatch.setenv("MY_SECRET", planted.secrets["a changed token"])
    assert "resumed with" in planted.run("optimize", "study.trials=2")  # a new token is no other study
    assert digest(planted.secrets["a changed token"]) in (study / "trials/0002/engine.log").read_text()
    for verb in ("optimize.report", "optimize.recommend", "optimize.sync", "optimize.price"):
        planted.run(verb)
    planted.run("optimize.deploy", "deploy.verify=false", "row=baseline")
    bundle = planted.folder / "out/studies/smoke/bundle"
    assert "MY_TOKEN" in (bundle / "kubernetes.yaml").read_text()
    planted.run("optimize.cache")
    assert planted.leaks() == []


STORAGE = "tracking.storage='postgresql://me:Zq20/pass@127.0.0.1:1/db?sslpassword=Zq21-of-a-key'"
TRACKING = "tracking.uri=http://me:Zq24-tracking@127.0.0.1:1"
DATA = "workload.path=https://me:Zq22-of-data@127.0.0.1/x.jsonl"
CHOICE = "+search_space.my_token=[Zq23-x1,b]"
ERRORS = {
    "a value of the wrong type": ("optimize", ["load.window_max_s=${oc.env:MY_SECRET}"]),
    "an unknown key beside a secret": ("optimize", ["+engine.flags.api_key=Zq25-x2", "no_key=1"]),
    "a choice without a name": ("optimize", [CHOICE]),
    "a search": ("optimize", [STORAGE]),
    "a search on data": ("optimize", [DATA]),
    "a report": ("optimize.report", [STORAGE]),
    "a report of no study": ("optimize.report", [f"{TRACKING}"]),
    "a matrix": ("optimize.recommend", [STORAGE]),
    "a bundle": ("optimize.deploy", [STORAGE]),
    "a price": ("optimize.price", [STORAGE]),
    "serving": ("optimize.serve", [STORAGE]),
    "a certificate": ("optimize.certify", [STORAGE]),
    "a guard": ("optimize.guard", [STORAGE]),
    "a measurement": ("optimize.measure", [DATA]),
    "tables": ("optimize.tables", [DATA]),
    "a checkpoint": ("optimize.quantize", ["quantization.scheme=${oc.env:MY_SECRET}", "no_key=1"]),
    "a sync": ("optimize.sync", ["tracking=${oc.env:MY_SECRET}"]),
}


@pytest.mark.parametrize(("verb", "words"), ERRORS.values(), ids=ERRORS)
def test_an_error_of_any_verb_is_one_line_and_shows_no_secret(planted: Planted, verb: str, words: list[str]) -> None:
    planted.secrets.update({value: value for value in ("Zq20", "Zq21", "Zq22", "Zq23-x1", "Zq24", "Zq25-x2")})
    shown = planted.run(verb, *words, code=2, name=("batch_size",) if verb == "optimize.tables" else ())
    assert shown.startswith("error: ") and shown.count("\n") == 1
    assert planted.leaks() == []


def test_what_hydra_answers_shows_no_secret(planted: Planted) -> None:
    assert "MY_TOKEN: $MY_SECRET" in planted.run("optimize", "--cfg", "job", "--resolve")
    planted.run("optimize", "--info", "all")
    assert planted.leaks() == []


def test_a_traceback_shows_no_secret(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"cannot log in with {VARIABLES['MY_SECRET']}")

    monkeypatch.setattr("optimize.driver.run.make_plan", broken)
    done = planted.optimize(planted.words)
    assert done.returncode == 1 and "cannot log in with $MY_SECRET" in done.stderr and "Traceback" in done.stderr


@pytest.mark.slow
def test_what_measures_without_a_search_leaves_no_trace(planted: Planted) -> None:
    planted.run("optimize.measure", "repeats=1", "+at.code_revision=${oc.env:SECOND_CHOICE}")
    planted.run("optimize.tables", "tables.batch_size=[4,8]", "repeats=2", name=("batch_size",))
    assert planted.leaks() == []


@pytest.mark.slow
def test_serving_leaves_no_trace(planted: Planted) -> None:
    port = free_port()
    command = [sys.executable, "-m", "optimize.serve", *planted.words, f"serve.port={port}", "+at.batch_size=8"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        lines = list(itertools.takewhile(lambda line: "restarts and engine logs" not in line, server.stdout))
        server.send_signal(signal.SIGTERM)
        lines += server.stdout.readlines()
    planted.streams["optimize.serve"] = "".join(lines)
    assert server.returncode == 0 and "requires the key in $OPTIMIZE_API_KEY" in planted.streams["optimize.serve"]
    assert [path for path in planted.folder.rglob("*.log") if digest(VARIABLES["MY_SECRET"]) in path.read_text()]
    assert planted.leaks() == []


@contextmanager
def endpoint() -> Iterator[tuple[str, list[str]]]:
    """An endpoint that quotes the credentials it refuses; its address, and the credentials that it was sent."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(str(self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "model"}]}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(f"no such user: {self.headers['Authorization']} {VARIABLES['OPENAI_API_KEY']}".encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", sent
        server.shutdown()


REMOTE = ["engine=remote", "space=request", "objectives=[qps,p99_latency_s,bleu]", "repeats=1"]


@pytest.mark.parametrize(("user", "login"), [("alice:Zq30%2Fpass@", "alice:Zq30/pass"), ("Zq31-token@", "Zq31-token:")])
def test_credentials_of_an_endpoint_are_sent_and_not_shown(
    optimize: Run, simulated: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, login: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", VARIABLES["OPENAI_API_KEY"])  # what the address says comes first
    words = [word for word in simulated if not word.startswith(("engine", "search_space"))]
    basic = base64.b64encode(login.encode()).decode()
    secrets = {"user": user.rstrip("@"), "login": login, "basic": basic, "key": VARIABLES["OPENAI_API_KEY"]}
    planted = Planted(optimize, words, tmp_path, secrets | {"password": "Zq30/pass", "token": "Zq31-token"})
    with endpoint() as (address, sent):
        planted.run("optimize.measure", *REMOTE, f"engine.base_url='http://{user}{address}'", code=2)
    assert set(sent) == {f"Basic {basic}"}
    assert planted.leaks() == []


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("OPENAI_API_KEY", "sk-notareal-secret-123\n"), ("OPENAI_API_KEY", "sk-not areal-123"),
        ("OPENAI_API_KEY", "sk-nötareal-123"), ("OPTIMIZE_API_KEY", "\x7fsk-notareal-123"),
        ("MLFLOW_TRACKING_TOKEN", "areal-123\r\n"),
    ],
)  # fmt: skip
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    optimize: Run, simulated: list[str], monkeypatch: pytest.MonkeyPatch, variable: str, key: str
) -> None:
    monkeypatch.setenv(variable, key)
    verb, words = {
        "OPENAI_API_KEY": ("optimize.measure", [*REMOTE, "engine.base_url=http://127.0.0.1:1"]),
        "OPTIMIZE_API_KEY": ("optimize.serve", []),
        "MLFLOW_TRACKING_TOKEN": ("optimize", ["tracking.uri=http://127.0.0.1:1"]),
    }[variable]
    base = [word for word in simulated if verb != "optimize.measure" or not word.startswith(("engine", "search_space"))]
    done = optimize([*base, *words], verb=verb)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"the key in ${variable} holds a line break" in done.stderr and "areal" not in done.stdout + done.stderr
