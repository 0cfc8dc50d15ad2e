"""The main job on live vLLM, as a newcomer runs it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run
from tests.live.engines import SHARED, LiveEngines
from tests.live.fixtures import BELIEVE, CACHE, RealStudy
from tests.storages import study_at

pytestmark = pytest.mark.live


@pytest.mark.timeout(600)
def test_smoke_ends_with_a_measured_recommendation(real_smoke: RealStudy) -> None:
    out, done = real_smoke.out, real_smoke.done
    assert done.returncode == 0, done.stderr
    assert "recommended for Real-time chat" in done.stdout
    assert "vllm serve" in done.stdout
    row = json.loads((out / "matrix.json").read_text())[0]
    assert {"qps", "p99_latency_s", "memory_bytes", "bleu"} <= set(row["estimates"])
    assert all(e["low"] <= e["value"] <= e["high"] for e in row["estimates"].values())
    assert row["signature"]["engine"].startswith("vllm")
    trials = study_at(f"sqlite:///{out}/optuna.db", "smoke").trials
    roles = Counter(t.user_attrs["role"] for t in trials if t.state.name == "COMPLETE")
    assert trials[0].user_attrs["role"] == "baseline" and roles["baseline"] + roles["search"] == 4
    # Where the defaults are better in everything, as they may turn out in so short a study, nothing is to be confirmed.
    assert (row["rounds"], roles["confirmation"]) in ((2, 4), (0, 0)), roles
    assert row["rounds"] or row["trial"] == 0, "a configuration recommended that was not measured again"
    assert real_smoke.left_behind == []


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_flag_knob_and_a_custom_workload_need_no_code(
    optimize: Run, live_engines: LiveEngines, empty_mlflow_db: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    shutil.copy(empty_mlflow_db, tmp_path / "out/mlflow.db")
    rows = [json.loads(line) for line in (ROOT / "demo/workloads/chat.jsonl").read_text().splitlines()[:40]]
    own = tmp_path / "mine.jsonl"
    own.write_text("\n".join(json.dumps({"question": r["prompt"], "answer": r["reference"]}) for r in rows))
    between = "_target_: optuna.distributions.IntDistribution, low: 256, high: 4096, log: true"
    knob = f"+search_space.max_num_batched_tokens={{{between}}}"
    refused = "+search_space.num_gpu_blocks_override=[1,512]"
    live_engines.stop()
    done = optimize(
        [
            "+study=smoke", f"output_dir={tmp_path}/out", CACHE, *BELIEVE, "study.trials=2", knob, refused,
            "+baseline.num_gpu_blocks_override=512", "search_space.quantization=null", "sampler=grid",
            "workload=file", f"workload.path={own}", "workload.prompt_column=question",
            "workload.reference_column=answer",
            "study.reuse_engines=false", "confirm.candidates=0", *SHARED,
        ]
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trials = study_at(f"sqlite:///{tmp_path}/out/optuna.db", "smoke").trials
    assert all("max_num_batched_tokens" in t.params for t in trials)
    assert trials[0].params["max_num_batched_tokens"] == 2048  # vLLM's own default, as the engine reported it
    for trial in trials:
        too_small = trial.params["num_gpu_blocks_override"] == 1
        assert trial.user_attrs["imputed"] is too_small
        assert not too_small or "refused" in trial.user_attrs["reason"]
    assert len({t.params["num_gpu_blocks_override"] for t in trials}) == 2
