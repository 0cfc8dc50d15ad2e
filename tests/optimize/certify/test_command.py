"""`serve` and `certify` from the command line: bad input, and a complete certification of the simulated engine."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import psutil
import pytest

from tests.conftest import Run

VERBS = ("optimize.serve", "optimize.certify")


def refused(done: object) -> str:
    stderr = done.stderr  # type: ignore[attr-defined]
    assert done.returncode == 2, stderr  # type: ignore[attr-defined]
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    assert engines_below() == []
    return str(stderr)


def engines_below() -> list[str]:
    """Command lines of engines that this process has started and that live."""
    lines = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True) if p.is_running()]
    return [line for line in lines if "optimize.engine." in line]


@pytest.mark.parametrize(
    ("verb", "override", "message"),
    [
        ("optimize.certify", "certify.scenarios=[kil]", "did you mean 'kill'"),
        ("optimize.certify", "certify.scenario=[kill]", "did you mean 'scenarios'"),
        ("optimize.serve", "serve.host=0.0.0.0", "OPTIMIZE_API_KEY"),
        ("optimize.serve", "+at.max_num_seq=1", "did you mean 'max_num_seqs'"),
        ("optimize.certify", "+at.batch_size=[1,2]", "must be one value"),
    ],
)
def test_settings(
    optimize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, override: str, message: str
) -> None:
    monkeypatch.delenv("OPTIMIZE_API_KEY", raising=False)
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "serve.port=0"]
    assert message in refused(optimize(["+study=chat", *folders, override], verb=verb))


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_study(optimize: Run, tmp_path: Path, verb: str) -> None:
    done = optimize(["+study=chat", f"output_dir={tmp_path}", "serve.port=0"], verb=verb)
    assert "holds no study 'chat'" in refused(done)


def test_a_taken_port(optimize: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = optimize(
            ["+study=chat", "+at.batch_size=8", f"output_dir={tmp_path}", f"serve.port={port}"], verb="optimize.serve"
        )
    assert f"serve.port={port}: cannot listen" in refused(done)


@pytest.mark.parametrize("verb", VERBS)
def test_an_engine_that_somebody_else_runs(optimize: Run, tmp_path: Path, verb: str) -> None:
    remote = ["engine=remote", "engine.base_url=http://127.0.0.1:1", "+at.temperature=0.5", "serve.port=0"]
    assert "choose engine=vllm" in refused(optimize(["+study=chat", f"output_dir={tmp_path}", *remote], verb=verb))


@pytest.mark.parametrize("verb", VERBS)
def test_a_row_of_another_model_and_a_missing_row(optimize: Run, made_studies: Path, verb: str) -> None:
    arguments = ["+study=chat", f"output_dir={made_studies}", "serve.port=0"]
    assert "was measured with model demo" in refused(optimize([*arguments, "model.name=other"], verb=verb))
    assert "row=17 is no row" in refused(optimize([*arguments, "row=17"], verb=verb))
    missing = refused(optimize([*arguments, "study.name=cha"], verb=verb))
    assert "holds no study 'cha'" in missing and "did you mean 'chat'" in missing


@pytest.mark.slow
def test_a_certification_of_the_simulated_engine_is_complete_resumes_and_leaves_its_study_alone(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    """`test_fault_run` has the quick representative."""
    assert optimize([*simulated, "study.trials=0"]).returncode == 0
    study = tmp_path / "out/studies/smoke"
    before = {path: path.read_bytes() for path in study.glob("trials/*/trial.json")}
    quick = [
        "certify.scenarios=[kill,disconnect]", "repeats=1", "certify.rate_per_s=20", "certify.capacity_s=0.5",
        "certify.normal_s=1", "certify.calm_s=0.5", "certify.tolerance=50", "certify.window_s=0.5",
    ]  # fmt: skip
    done = optimize([*simulated, *quick], verb="optimize.certify")
    assert done.returncode == 0, done.stderr
    (report,) = (tmp_path / "out/studies").glob("certify-smoke-*/report/certify.json")
    rows = {(row["scenario"], row["mitigation"]): row for row in json.loads(report.read_text())["rows"]}
    assert set(rows) == {("kill", None), ("kill", "warm standby"), ("disconnect", None)}
    assert all(row["certified"] for row in rows.values()), rows
    assert rows["kill", None]["figures"]["restarts"]["value"] == 1
    assert rows["kill", None]["figures"]["orphans"]["value"] == 0
    assert before == {path: path.read_bytes() for path in study.glob("trials/*/trial.json")}
    resumed = optimize([*simulated, *quick], verb="optimize.certify")
    assert resumed.returncode == 0 and "all runs are done" in resumed.stdout
    assert re.search(r"\| engine process killed \(SIGKILL\) \| none \|", resumed.stdout)
