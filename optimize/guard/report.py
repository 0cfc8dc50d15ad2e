"""The verdict for people and for CI: Markdown, JSON, JUnit's XML, and a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from rich.table import Table

from optimize.formatting import markdown_line, percent, printable, ratio
from optimize.guard.change import Verdict
from optimize.guard.comparison import ERROR, Judgement

if TYPE_CHECKING:
    from rich.console import Console

CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}
"""Exit code of each verdict; 2 is bad input."""
_BLIND = 2.0
_HEADS = (
    "objective", "verdict", "other side / row", "worse by at most", "margin", "rounds", "smallest change it could see",
)  # fmt: skip
_LEGEND = (
    "The ratio's interval holds over all looks; an objective passes where it is worse by less than the margin. At most "
    f"{percent(ERROR)} of releases that are worse by more than a margin pass, and at most {percent(ERROR)} of those "
    "within all margins fail. The smallest change is what would have failed with a chance of 80 % after these rounds."
)


@dataclass(frozen=True)
class Report:
    """One run of the guard.

    Attributes:
        study: Name of the study.
        title: The row in words.
        verdict: The verdict on the release.
        judgements: One of each objective.
        changes: In what the sides differ, in words; none where they are the same.
        seconds: Time that the rounds took.
        refusal: Why a side cannot be measured; empty where both can.
        notes: What else the reader must know.
        command: The command line.
        date: Date and time of its end, in UTC.
        signature: What the row's figures depend on.
    """

    study: str
    title: str
    verdict: Verdict
    judgements: Sequence[Judgement]
    changes: Sequence[str]
    seconds: float
    command: str
    date: str
    signature: Mapping[str, str]
    refusal: str = ""
    notes: Sequence[str] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """Rounds that were measured."""
        return max((judgement.rounds for judgement in self.judgements), default=0)

    def in_words(self) -> str:
        """The verdict in one sentence."""
        head = f"{self.verdict.upper()} after {self.rounds} rounds in {self.seconds / 60:.1f} minutes"
        if self.refusal:
            return f"{head}: {self.refusal}"
        decisive = [j for j in self.judgements if j.verdict is self.verdict is not Verdict.PASS]
        return f"{head}: {'; '.join(map(sentence, decisive))}" if decisive else f"{head}: within every margin"

    def sides(self) -> list[str]:
        """What was compared, in lines."""
        differ = [f"the sides differ in {line}" for line in self.changes] or ["both sides are the same"]
        return [*differ, *self.notes]


def sentence(judgement: Judgement) -> str:
    """One objective's change, and what it means."""
    if judgement.ratio is None:
        return f"{judgement.objective}: {judgement.reason}"
    where = {
        Verdict.PASS: "within", Verdict.FAIL: "beyond", Verdict.INCONCLUSIVE: "on both sides of",
    }[judgement.verdict]  # fmt: skip
    return (
        f"{judgement.objective} is {ratio(judgement.ratio)} the row's, {where} its margin of {share(judgement.margin)}"
    )


def share(value: float) -> str:
    """A share of 1 as the user wrote it."""
    return f"{100 * value:g} %"


def cells(judgement: Judgement) -> list[str]:
    """A line of the table."""
    change = judgement.reason if judgement.ratio is None else ratio(judgement.ratio)
    return [
        judgement.objective, judgement.verdict.upper(), change, _bounded(judgement.worst), share(judgement.margin),
        str(judgement.rounds), _bounded(judgement.smallest),
    ]  # fmt: skip


def _bounded(change: float | None) -> str:
    if change is None:
        return "–"
    return percent(change) if change < _BLIND else f"more than {percent(_BLIND)}"


def to_markdown(report: Report) -> str:
    """The verdict as a page, which GitHub shows as a job's summary."""
    lines = [f"# Guard: {report.title}", "", f"**{report.in_words()}**", ""]
    lines += [markdown_line(_HEADS), markdown_line(["---"] * len(_HEADS))]
    lines += [markdown_line(cells(judgement)) for judgement in report.judgements]
    lines += ["", _LEGEND, "", *(f"- {line}" for line in report.sides()), ""]
    signature = "; ".join(f"{key}: {value}" for key, value in report.signature.items())
    return "\n".join([*lines, f"Measured on {report.date} with `{report.command}`; {signature}."]) + "\n"


def to_json(report: Report) -> str:
    """The verdict for programs."""
    content: dict[str, Any] = {
        "verdict": str(report.verdict), "study": report.study, "title": report.title, "seconds": report.seconds,
        "rounds": report.rounds, "objectives": [judgement.to_dict() for judgement in report.judgements],
        "differences": list(report.changes), "refusal": report.refusal, "notes": list(report.notes),
        "command": report.command, "date": report.date, "signature": dict(report.signature),
    }  # fmt: skip
    return json.dumps(content, indent=1, ensure_ascii=False)


def to_junit(report: Report) -> str:
    """The verdict as JUnit's XML: one case of each objective, and one that the other side serves at all."""
    suite = ElementTree.Element("testsuite", name=f"optimize.guard {report.study}", time=f"{report.seconds:.1f}")
    served = _case(suite, report, "both sides serve")
    if report.refusal:
        ElementTree.SubElement(served, "failure", message=printable(report.refusal))
    for judgement in report.judgements:
        case = _case(suite, report, judgement.objective)
        if judgement.verdict is not Verdict.PASS:
            kind = "failure" if judgement.verdict is Verdict.FAIL else "skipped"
            ElementTree.SubElement(case, kind, message=printable(sentence(judgement)))
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(len(list(suite.iter(tag)))))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, report: Report, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=f"guard.{report.study}", name=name)


def show(report: Report, console: Console) -> None:
    """Print the table and the verdict."""
    table = Table(*_HEADS, title=f"Guard: {report.title}")
    for judgement in report.judgements:
        table.add_row(*cells(judgement))
    console.print(table)
    for line in (*report.sides(), report.in_words()):
        console.print(printable(line), soft_wrap=True)
