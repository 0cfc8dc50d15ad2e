"""Through the whole command, bad input ends in one line and exit code 2, before any engine starts.

The checks themselves are tested where they are made: `test_compose`, `test_validate`, `tests/optimize/plan`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, Run


def _engines() -> dict[int, str]:
    """Engine processes below this one: id -> command line. A live test's engine may serve others that follow."""
    lines = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            lines[child.pid] = " ".join(child.cmdline())
    return {pid: line for pid, line in lines.items() if "optimize.engine" in line}


@pytest.fixture(autouse=True)
def _no_engine_starts() -> Iterator[None]:
    before = _engines()
    yield
    assert [line for pid, line in _engines().items() if pid not in before] == []


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("optimize", ["+study=chat", "modle=demo"], "did you mean 'model'"),
        ("optimize", ["+study=chat", "load.clients=0"], "load.clients must be positive"),
        ("optimize", ["+study=chat", "search_space.batch_size.high=0"], "low <= high"),
        ("optimize", ["+study=chat", "executor.cpu_sets=['0','0-0']"], "give every core to one set"),
        ("optimize", ["+study=chat", "executor.gpus_per_engine=64"], "this machine shows"),
        ("optimize", ["+study=chat", "objectives=[qps,qps]"], "objectives holds 'qps' twice: leave one out"),
        ("optimize", ["+study=chat", "+constraints.qps={min: 1}", "+constraints.qps={min: 2}"], "qps is given twice"),
        ("optimize", ["+study=capacity", "slo.ttft_max_s=null", "slo.latency_max_s=null"], "needs a limit to keep"),
        ("optimize", ["+study=capacity", "slo.p99_max_s=1"], "unknown key 'slo.p99_max_s' in the configuration; "),
        ("optimize", ["+study=capacity", "search_space.beam_size=[1,4]"], "beam search (beam_size=4) streams none"),
        ("optimize.measure", ["+at.quantization=int3"], "unknown quantization 'int3'"),
        ("optimize.tables", ["batch_size", "+at.batch_size=4"], "at.batch_size is what this table varies"),
        ("optimize.tables", ["quantization", "tables.quantization=[fp16,int3]"], "unknown quantization 'int3'"),
        ("optimize.tables", ["batch_size", "repeats=1"], "repeats must be at least 2"),
        ("optimize.serve", ["+study=chat", "serve.canary.row=7", "serve.port=0"], "holds no study 'chat'"),
        ("optimize.serve", ["+at.batch_size=4", "+serve.canary.at.batch_sice=8", "serve.port=0"], "batch_sice"),
        ("optimize.recommend", [], "run one first"),
        ("optimize", ["+study=chat", "recipes.mixed8.ignore.hydra=1"], "these overrides make no configuration"),
        ("optimize", ["+study=chat", "study.trials='\x1b[31m'"], r"'\x1b[31m'"),
        ("optimize", ["+study=chat", "--max-num-seqs=64"], "of vLLM is written +engine.flags.max_num_seqs=64"),
        ("optimize", ["+study=chat", "-w"], "--help lists the options"),
        ("optimize", ["--study", "chat"], "a setting is written without dashes: +study=..."),
        ("optimize", ["+study=chat", "--trials=5"], "a setting is written without dashes: study.trials=5"),
        ("optimize", ["study=chat"], "study=chat needs a plus, because no study is chosen without it: +study=chat"),
    ],
)
def test_a_command_refuses(optimize: Run, tmp_path: Path, verb: str, words: list[str], message: str) -> None:
    assert message in refusal(optimize([*words, f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"], verb))


def test_the_first_line_of_a_command_without_a_study_says_which_one_runs(optimize: Run, tmp_path: Path) -> None:
    words = ["executor.gpus_per_engine=64", f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    done = optimize(words)
    assert "this machine shows" in refusal(done)
    assert done.stdout.startswith("no +study=NAME is given: this is study 'chat', 24 trials and the baseline; ")
    assert "no +study" not in optimize(["+study=chat", *words]).stdout


def test_a_process_of_its_own_refuses_in_time(optimize_process: Run, tmp_path: Path) -> None:
    """Not a benchmark: between a check of the text and a start of vLLM lie half a minute."""
    typo = ["+study=chat", f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "+engine.flags.max_num_seq=1"]
    assert "did you mean 'max_num_seqs'" in refusal(optimize_process(typo, timeout=60))


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_neither_database_may_be_another_file(optimize: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no database" * 100)
    message = refusal(optimize(["+study=smoke", f"output_dir={tmp_path}", f"cache_dir={tmp_path}/cache"]))
    assert f"{name} is not a readable SQLite database" in message


def test_without_vllm_its_launcher_refuses(tmp_path: Path) -> None:
    """In an environment with everything but vLLM, linked together from this one."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(("vllm", "__editable__", "_distutils")) and entry.suffix != ".pth":
            (site / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "optimize", "+study=smoke", f"output_dir={tmp_path}/out"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "vLLM is not installed" in refusal(done)
