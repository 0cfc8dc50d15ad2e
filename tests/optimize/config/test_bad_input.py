"""Bad input ends in one clear line and exit code 2, before any engine starts."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing
from pathlib import Path

import pytest

from optimize.files import check_sqlite
from tests.conftest import ROOT, Run, engine_processes

INT = "_target_: optuna.distributions.IntDistribution"


def refused(done: object) -> str:
    """The one line of a refusal."""
    stderr = done.stderr  # type: ignore[attr-defined]
    assert done.returncode == 2, stderr  # type: ignore[attr-defined]
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    assert engine_processes("optimize.engine.serve") == []
    return str(stderr)


def test_a_refusal_comes_from_a_process_of_its_own_too(optimize_process: Run, tmp_path: Path) -> None:
    """Not a benchmark: between a check of the text and a start of vLLM lie half a minute."""
    typo = ["+study=chat", f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "+engine.flags.max_num_seq=1"]
    assert "did you mean 'max_num_seqs'" in refused(optimize_process(typo, timeout=15))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"+search_space.max_num_seq={{{INT}, low: 1, high: 2}}", "did you mean 'max_num_seqs'"),
        ("search_space.batch_size.high=0", "low <= high"),
        ("search_space.quantization.choices=[]", "choices"),
        ("search_space.quantization.choices=[fp16,int3]", "unknown quantization 'int3'"),
        (f"+search_space.max_num_seqs={{{INT}, low: 1, high: 2}}", "both set"),
        ("search_space.batch_size.choices=[1,2]", "choices"),
        ("model.path=no/such/folder", "model.path"),
        ("objectives=[qps,latency]", "no choice 'latency'"),
        ("+objectives.speed={_target_: objectives.throughput.Speed}", "objectives.throughput.Speed"),
        ("+constraints.p98_latency_s={max: 1}", "did you mean 'p99_latency_s'"),
        ("constraints.bleu={min: 80, max: 20}", "contradicts"),
        ("+constraints.qps={most: 3}", "no limit"),
        ("+constraints.qps={min: fast}", "must be a number"),
        ("+constraints.qps=3", "must be a mapping"),
        ("workload.path=missing.jsonl", "does not exist"),
        ("workload.reference_column=answer", "answer"),
        ("output_dir=/proc/nowhere", "cannot write"),
        ("study.trials=-1", "study.trials"),
        ("load.arrivals.users=0", "users"),
        ("load.arrivals.user=3", "did you mean 'users'"),
        ("load.clients=0", "load.clients must be positive"),
        ("load.warmup_s=100", "load.warmup_max_s"),
        ("load.window_min_s=-1", "load.window_min_s must not be negative"),
        ("load.window_max_s=0", "load.window_max_s must be positive"),
        ("workload.output_tokens={_target_: optimize.load.lengths.Fixed, tokens: 0}", "tokens must be at least 1"),
        ("workload.output_tokens={_target_: optimize.load.lengths.Fixed, token: 5}", "did you mean 'tokens'"),
        (
            "workload.output_tokens={_target_: optimize.load.lengths.Fixed, tokens: 5}",
            "objectives.bleu: answers cannot be",
        ),
        ("load.guard.repeats=-1", "load.guard.repeats"),
        ("load.guard.repeat=1", "did you mean 'repeats'"),
        ("load.precision={p98_latency_s: 0.1}", "did you mean 'p99_latency_s'"),
        ("load.precision.qps=0", "load.precision.qps must be positive"),
        ("engine.flag.x=1", "did you mean 'flags'"),
        ("+engine.flags.max_num_sequences=1", "max_num_sequences"),
        ("+engine.flags.port=1", "set by this project"),
        ("modle=demo", "did you mean 'model'"),
        ("engine=remote", "engine.base_url is not set"),
        ("scenario.weights={speed: 1}", "scenario.weights"),
        ("executor=rey", "executor has no choice 'rey'"),
        ("executor.kind=rey", "did you mean 'ray'"),
        ("executor.engine=2", "did you mean 'engines'"),
        ("executor.engines=0", "executor.engines must be at least 1"),
        ("executor.losses=-1", "executor.losses must be at least 0"),
        ("executor.cpu_sets=['0','0']", "give every core to one set"),
        ("executor.cpu_sets=['100000']", "not available to this process"),
        ("executor.cpu_sets=['0-']", "is no list of processors"),
        ("executor.gpus_per_engine=64", "this machine shows"),
    ],
)
def test_configuration(optimize: Run, tmp_path: Path, override: str, said: str) -> None:
    out = [] if override.startswith("output_dir") else [f"output_dir={tmp_path}/out"]
    # Through the plain engine: the checks must hold for the real thing.
    overrides = [
        "+study=chat",
        *out,
        f"cache_dir={tmp_path}/cache",
        override.replace("constraints.bleu=", "++constraints.bleu="),
    ]
    assert said in refused(optimize(overrides))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batchsize"], "no such table: 'batchsize'; did you mean 'batch_size'?"),
        (["+study=chat"], "no table given"),
        ([], "no table given; name it first, valid: batch_size, beam_size, interactions, quantization"),
        (["quantization", "tables.quantization=[fp16,int3]"], "unknown quantization 'int3'"),
        (["batch_size", "tables.batch_size=[4]"], "nothing to compare"),
        (["batch_size", "tables.batch_size=[4,4]"], "each once"),
        (["batch_size", "tables.batch_size=[[4],8]"], "plain values"),
        (["batch_size", "+at.batch_size=4"], "at.batch_size is what this table varies"),
        (["beam_size", "tables.beam_size=[0,1]"], "whole numbers from 1"),
        (["beam_size", "tables.beams=[1,2]"], "did you mean 'beam_size'"),
        (["batch_size", "repeats=1"], "repeats must be at least 2"),
        (["batch_size", "load.iterations.measured=-1"], "load.iterations.measured must not be negative"),
        (["batch_size", "load=ramp", "load.iterations.measured=5"], "has a length of its own"),
    ],
)
def test_tables(optimize: Run, tmp_path: Path, words: list[str], said: str) -> None:
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    assert said in refused(optimize([*words, *folders], verb="optimize.tables"))


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("{_target_: objectives.quality.UserMetric, function: no.such}", "cannot be imported"),
        ("{_target_: objectives.quality.UserMetric, function: math.floor}", "cannot score the workload's first ref"),
        ("{_target_: objectives.quality.UserMetric}", "function"),
        ("{_target_: objectives.quality.Perplexity, rows: 1}", "rows must be at least 2"),
    ],
)
def test_a_metric_of_ones_own(optimize: Run, tmp_path: Path, node: str, said: str) -> None:
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    assert said in refused(optimize(["+study=chat", *folders, f"+objectives.mine={node}"]))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["+at.max_num_seq=64"], "did you mean 'max_num_seqs'"),
        (["+at.quantization=int3"], "unknown quantization 'int3'"),
        (["+at.batch_size=[1,2]"], "must be one value"),
        (["repeats=0"], "repeats must be at least 1"),
        (["load=ramp", "load.arrivals.ramp_s=0"], "ramp_s must be positive"),
        (["load=trace", "load.arrivals.path=none.jsonl"], "cannot be read"),
    ],
)
def test_one_configuration(optimize: Run, tmp_path: Path, overrides: list[str], said: str) -> None:
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    assert said in refused(optimize([*folders, *overrides], verb="optimize.measure"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ('{"prompt": "a", "reference": "b"}\n{"prompt": "c", ', "line 2"),
        ('{"prompt": "a", "target": "b"}\n', "reference"),
        ('{"prompt": 3, "reference": "b"}\n', "row 0"),
    ],
)
def test_workload_file(optimize: Run, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "w.jsonl"
    path.write_text(content)
    done = optimize(
        [
            f"output_dir={tmp_path}/out",
            f"cache_dir={tmp_path}/cache",
            "workload=file",
            f"workload.path={path}",
        ]
    )
    assert said in refused(done)


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_corrupt_database(optimize: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no database" * 100)
    said = refused(optimize(["+study=smoke", f"output_dir={tmp_path}"]))
    assert name in said and "not a readable SQLite database" in said


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_foreign_database(optimize: Run, tmp_path: Path, name: str) -> None:
    with sqlite3.connect(tmp_path / name) as connection:
        connection.execute("create table recipes (name text)")
    said = refused(optimize(["+study=smoke", f"output_dir={tmp_path}"]))
    assert name in said and "belongs to another program" in said


def test_a_database_whose_writer_was_killed_is_no_bad_input(tmp_path: Path) -> None:
    """Its copy is taken in the middle of a transaction that no longer fits in memory."""
    with closing(sqlite3.connect(tmp_path / "live.db")) as writer:
        writer.execute("create table experiments (name text)")
        writer.execute("pragma cache_size=1")
        writer.executemany("insert into experiments values (?)", [("x" * 3000,)] * 100)
        for part in ("db", "db-journal"):
            shutil.copy(tmp_path / f"live.{part}", tmp_path / f"left.{part}")
    left = tmp_path / "left.db"
    with pytest.raises(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{left}?mode=ro", uri=True)) as reader:
        reader.execute("select * from experiments")
    check_sqlite(f"sqlite:///{left}", "experiments")
    with closing(sqlite3.connect(left)) as reader:
        assert reader.execute("select * from experiments").fetchall() == []


def test_recommend_without_a_study(optimize: Run, tmp_path: Path) -> None:
    assert "run one first" in refused(optimize([f"output_dir={tmp_path}"], verb="optimize.recommend"))


def test_vllm_not_installed(tmp_path: Path) -> None:
    """An environment with everything but vLLM, linked together from this one."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(("vllm", "__editable__", "_distutils")) and entry.suffix != ".pth":
            (site / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "optimize", "+study=smoke", f"output_dir={tmp_path}/out"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "vLLM is not installed" in refused(done)
