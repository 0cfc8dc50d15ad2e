"""Is what a what-if says what a study finds that is measured afresh under the other terms? On live engines, two cases.

Usage: python -m benchmarks.whatif_live [--trials 10] [--folder FOLDER] [+study=chat ...]

One study is measured, with its confirmation. Two questions are put to it by `optimize.whatif`: a latency limit, and a
weight, each moved to where the answer says that the pick flips. Then a study is measured afresh under each, which
tries the first one's best configurations before its own. The what-if holds where its pick is the fresh study's, or is
not told from it by the fresh rounds, and where its figures and the fresh ones have common values in their intervals.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.common import RESULTS, provenance, require_quiet, run_verb
from objectives import Estimate
from optimize.decision.candidate import Candidate
from optimize.formatting import figure, percent, shown_settings, title_of
from optimize.study.confirmation import confirmed, recommendation
from optimize.study.lifecycle import stored_studies

SOURCE, LIMIT, WEIGHT = "whatif-source", "constraints.p99_latency_s.max", "scenario.weights."
_UNMOVED = {LIMIT: 0.8, WEIGHT: 3.0}
"""By what a setting is changed that flips nothing: the what-if then says that the pick stays."""


@dataclass(frozen=True)
class Case:
    """A question: one setting, and its value."""

    setting: str
    value: float

    @property
    def word(self) -> str:
        return f"{self.setting}={self.value:.4g}"


@dataclass(frozen=True)
class Finding:
    """What came of one question.

    Attributes:
        case: The question.
        asked: The what-if's answer, as `whatif.json` has it.
        pick: The fresh study's recommendation; None for none.
        same: The what-if's pick as the fresh study measured it; None where it did not, or where there is none.
        tied: Whether the fresh rounds do not tell the two apart.
        seconds: What the fresh study took.
        whatif_seconds: What the what-if took.
    """

    case: Case
    asked: Mapping[str, Any]
    pick: Candidate | None
    same: Candidate | None
    tied: bool
    seconds: float
    whatif_seconds: float

    def figures(self) -> list[tuple[str, Estimate, Estimate]]:
        """(objective, what-if, fresh) of the what-if's pick."""
        if self.same is None:
            return []
        estimates = {name: Estimate.from_dict(raw) for name, raw in self.asked["estimates"].items()}
        return [(n, estimates[n], self.same.estimates[n]) for n in estimates if n in self.same.estimates]

    @property
    def holds(self) -> bool:
        """Whether the what-if said what the fresh study found."""
        if self.asked["pick"] is None or self.pick is None:
            return self.asked["pick"] is None and self.pick is None
        return self.tied and all(a.low <= b.high and b.low <= a.high for _, a, b in self.figures())


def case_of(asked: Mapping[str, Any], prefix: str) -> Case:
    """A value in the middle of a range where the pick is another one; another value of a setting that flips nothing."""
    flips = [flip for flip in asked["flips"] if flip["setting"].startswith(prefix)]
    pick = asked["pick"] and asked["pick"]["trial"]
    for flip in flips:
        others = [s for s in flip["steps"] if s["trial"] not in (None, pick)]
        if others:
            return Case(flip["setting"], middle(others[0]["from"], others[0]["to"]))
    return Case(flips[0]["setting"], flips[0]["value"] * _UNMOVED[prefix])


def middle(low: float, high: float | None) -> float:
    """The middle of a range on a logarithmic scale; near the end that it has."""
    if high is None:
        return max(low * 1.5, 0.1)
    return high * 0.8 if low <= 0 else math.sqrt(low * high)


def whatif(words: Sequence[str], folder: Path, *changes: str) -> tuple[dict[str, Any], float]:
    """The answer of `optimize.whatif` to the source study, and its seconds."""
    seconds = run_verb("optimize.whatif", [*words, f"study.name={SOURCE}", *changes])
    path = folder / "studies" / SOURCE / "report/whatif.json"
    return json.loads(path.read_text(encoding="utf-8")), seconds


def afresh(words: Sequence[str], folder: Path, case: Case, number: int) -> Finding:
    """Put a question to the source study, and measure a study of it."""
    asked, whatif_s = whatif(words, folder, case.word)
    name = f"whatif-fresh-{number}"
    seconds = run_verb("optimize", [*words, f"study.name={name}", f"search.warm_start=[{SOURCE}]", case.word])
    study = next(s for s in stored_studies(f"sqlite:///{folder}/optuna.db") if s.study_name == name)
    best, rounds = recommendation(study), confirmed(study)
    pick = None if best is None else best.pick
    considered = list(best.considered) if best is not None else []
    params = asked["pick"] and asked["pick"]["params"]
    same = next((c for c in considered if dict(c.params) == params), None)
    tied = pick is not None and same is not None and same.number == pick.number
    if not tied and pick is not None and same is not None and rounds is not None:
        tied = rounds[1].tied(pick, same)
    return Finding(case, asked, pick, same, tied, seconds, whatif_s)


def report(findings: Sequence[Finding], source_s: float, command: str) -> str:
    """All cases, as Markdown."""
    held = sum(f.holds for f in findings)
    lines = [
        "# Does a what-if say what a study finds that is measured afresh?", "",
        f"{held} of {len(findings)} cases. {provenance(command)} The source study took {source_s / 60:.1f} min.", "",
    ]  # fmt: skip
    for finding in findings:
        lines += ["", *_case(finding)]
    return "\n".join(lines) + "\n"


def _case(f: Finding) -> list[str]:
    asked = f.asked["pick"]
    answer = "nothing keeps every limit" if asked is None else shown_settings(asked["params"]) or "vLLM's defaults"
    decision = "nothing keeps every limit" if f.pick is None else shown_settings(f.pick.params)
    verdict = "the same" if f.tied and f.same is f.pick else "not told from it by the rounds" if f.tied else "another"
    return [
        f"## `{f.case.word}`: {'holds' if f.holds else 'does not hold'}", "",
        f"- what-if, in {f.whatif_seconds:.0f} s: {answer}, with a probability of {percent(f.asked['probability'])}",
        f"- study measured afresh, in {f.seconds / 60:.1f} min: {decision} ({verdict})", "",
        "| figure of the what-if's pick | what-if | afresh |", "|---|---|---|",
        *(f"| {title_of(name)} | {figure(a)} | {figure(b)} |" for name, a, b in f.figures()),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="output_dir of the studies, kept; a temporary one by default")
    arguments, words = parser.parse_known_args()
    require_quiet()
    folder = arguments.folder or Path(mkdtemp(prefix="whatif-live-"))
    own = words or ["+study=chat"]
    common = [f"output_dir={folder}", f"study.trials={arguments.trials}", "confirm.rounds=3", *own]
    source_s = run_verb("optimize", [*common, f"study.name={SOURCE}"])
    first, _ = whatif(common, folder)
    cases = [case_of(first, prefix) for prefix in (LIMIT, WEIGHT)]
    findings = [afresh(common, folder, case, number) for number, case in enumerate(cases)]
    command = f"python -m benchmarks.whatif_live --trials {arguments.trials} {' '.join(own)}"
    text = report(findings, source_s, command)
    (RESULTS / "whatif.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
