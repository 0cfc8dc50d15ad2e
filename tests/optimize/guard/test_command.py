"""The whole command: bad input, and a release that does not start."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from optimize.config.compose import configuration
from optimize.config.validate import validate
from optimize.driver.single import record_of
from optimize.engine.simulated import SimulatedLauncher
from optimize.errors import ConfigError
from optimize.evaluation.answers import answers_key
from optimize.guard.sides import OTHER, ROW, changes_between, sides_of
from optimize.ledger import Ledger
from optimize.outcome import Role, State
from optimize.redaction import forgetting
from tests.conftest import Run
from tests.made import QUICK, copy_studies
from tests.optimize.config.test_bad_input import refusal
from tests.overrides import changed

REMOTE = 'engine={"_target_": "optimize.engine.remote.RemoteLauncher", "base_url": "http://127.0.0.1:1"}'
SIMULATED = ["+study=chat", "+at.batch_size=8", "engine=simulated", "search_space.quantization=null"]
AT = 'at={"batch_size": 8}'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["guard.python=/nowhere/python"], "guard.python=/nowhere/python is no program that can be run"),
        (["guard.model=nowhere"], "guard.model=nowhere is neither a folder nor a Hugging Face id"),
        (["guard.model=/tmp"], "guard.model=/tmp holds no config.json"),
        (["guard.model=somebody/model.gguf"], "^guard.model=somebody/model.gguf is in GGUF format"),
        (['guard.flags={"max_num_seq": 4}'], "^guard.flags: unknown knob 'max_num_seq'.* did you mean 'max_num_seqs'"),
        (
            ['guard.env={"VLLM_CPU_OMP_THREAD_BIND": "1"}'],
            "^guard.env.VLLM_CPU_OMP_THREAD_BIND: .* did you mean 'VLLM_CPU_OMP_THREADS_BIND'",
        ),
        (["guard.against=stored"], "guard.against=stored needs a row that a study has measured"),
        (["guard.python=/y", 'guard.overrides=["engine.python=/x"]'], "name the same: give one of them"),
        ([REMOTE, "guard.python=/y"], "guard.python runs vLLM's own servers: choose engine=vllm"),
        ([REMOTE, 'guard.flags={"block_size": 32}'], "guard.flags changes an engine, and engine=remote starts none"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    config = changed(*words, AT, f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache")
    with pytest.raises(ConfigError, match=message):
        sides_of(config, [], "guard-test", lambda _: None)


def test_a_margin_of_no_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"guard.margins.qpss is no objective of this study; did you mean 'qps'"):
        validate(changed('guard.margins={"qpss": 0.1}'))


def test_both_sides_must_be_asked_the_same(tmp_path: Path) -> None:
    words = [*SIMULATED, f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    config = configuration([*words, 'guard.overrides=["load.arrivals.users=9"]'])
    with pytest.raises(ConfigError, match=r"guard.overrides changes what is asked of the engines \(load: .*4 users"):
        sides_of(config, words, "guard-test", lambda _: None)


def test_a_study_that_was_never_run_is_named(optimize: Run, tmp_path: Path) -> None:
    done = optimize(["+study=chat", f"output_dir={tmp_path}"], "optimize.guard")
    assert "holds no study 'chat'" in refusal(done)


def test_the_other_side_has_what_the_release_changes(tmp_path: Path) -> None:
    config = changed(
        AT, 'guard.flags={"max_num_seqs": 4, "block_size": 32}', 'guard.env={"VLLM_CPU_OMP_THREADS_BIND": "0"}',
        f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache",
    )  # fmt: skip
    row, other = sides_of(config, [], "guard-test", lambda _: None)
    assert dict(row.point.engine.flags)["max_num_seqs"] == 8
    assert dict(other.point.engine.flags).items() >= {"max_num_seqs": 4, "block_size": 32}.items()
    assert row.plan.launcher is not other.plan.launcher
    assert row.plan.config.cache_dir != other.plan.config.cache_dir  # the row's perplexity is not the other side's
    assert changes_between(row, other, config.guard) == [
        "flag max_num_seqs: 8 (row); 4 (other side)", "flag block_size: not set (row); 32 (other side)",
        "VLLM_CPU_OMP_THREADS_BIND: not set (row); 0 (other side)",
    ]  # fmt: skip


def test_a_secret_of_the_other_side_is_in_no_record(tmp_path: Path) -> None:
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    words = [*SIMULATED, "+guard.env.HF_TOKEN=hf-Zq77-secret", *folders]
    with forgetting():
        config = configuration(words)
        row, other = sides_of(config, words, "guard-test", lambda _: None)
        record = record_of(other.plan, 0, Role.MEASUREMENT, {}, other.point)
        shown = [str(record), answers_key(other.point), str(changes_between(row, other, config.guard))]
    assert isinstance(other.plan.launcher, SimulatedLauncher)
    assert other.plan.launcher.env["HF_TOKEN"] == "hf-Zq77-secret"  # noqa: S105 - made up
    assert [text for text in shown if "Zq77" in text] == [] and "HF_TOKEN" in shown[2]


def test_a_release_that_does_not_start_fails_beside_stored_figures(
    optimize: Run, made_studies: Path, tmp_path: Path
) -> None:
    out = copy_studies(made_studies, tmp_path / "made", "cache", "report")
    words = ["+study=chat", *QUICK, f"output_dir={out}", f"cache_dir={made_studies}/cache", "guard.against=stored"]
    done = optimize([*words, 'guard.overrides=["engine.oom_above_seqs=0"]'], "optimize.guard")
    assert done.returncode == 1, done.stderr
    assert "FAIL after 0 rounds" in done.stdout and "the other side cannot be measured: device_oom" in done.stdout
    folder = out / "studies/chat/guard"
    content = json.loads((folder / "guard.json").read_text(encoding="utf-8"))
    assert content["verdict"] == "fail" and content["differences"] == ["engine.oom_above_seqs=0 (other side)"]
    suite = ElementTree.parse(folder / "guard.xml").getroot()  # noqa: S314 - written here
    assert suite.get("failures") == "1"
    assert "the row's figures are those stored with the study" in (folder / "guard.md").read_text(encoding="utf-8")


def test_a_release_that_does_not_start_fails_beside_a_row_that_does(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    """The row comes first with this seed."""
    short = ["load.window_min_s=0.4", "load.window_requests=10", "load.quiet_wait_s=null", "study.seed=4"]
    broken = 'guard.overrides=["engine.oom_above_seqs=0"]'
    done = optimize([*simulated, *short, "+at.batch_size=4", broken], "optimize.guard")
    assert done.returncode == 1, done.stderr
    (folder,) = (tmp_path / "out/studies").glob("guard-smoke-*")
    records = list(Ledger(folder).records())
    assert [(r.config["side"], r.state) for r in records] == [(ROW, State.COMPLETED), (OTHER, State.INFEASIBLE)]
    content = json.loads((folder / "report/guard.json").read_text(encoding="utf-8"))
    assert content["verdict"] == "fail" and "device_oom" in content["refusal"]
