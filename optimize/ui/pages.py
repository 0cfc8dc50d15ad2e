"""The first page: every study with its state, what it recommends and where to look further.

It is built at each request from the files on disk, and refreshes itself while it is open.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

from objectives import Estimate
from optimize.formatting import change_of, figure, title_of, versus_default
from optimize.outcome import Role
from optimize.report.charts.canvas import style_sheet
from optimize.report.environment import environment
from optimize.ui.picture import NAMES, key, kinds_of, picture
from optimize.ui.studies import CERTIFICATE, MEASUREMENT, STUDY, TABLE, Entry, Result

_TEMPLATES = Path(__file__).parent / "templates"
_REPORT_STYLE = Path(__file__).parents[1] / "report" / "templates" / "report.css"
GROUPS = {MEASUREMENT: "Measurements", TABLE: "Tables", CERTIFICATE: "Certificates"}
"""What is listed below the studies: kind -> heading."""
_MAIN_KNOBS = ("quantization", "batch_size", "beam_size", "workers")


def page(studies: Sequence[Entry], matrix: tuple[Sequence[Result], Sequence[str]], mlflow: str, optuna: str) -> str:
    """The page as HTML that needs no other file.

    Args:
        studies: Studies, measurements, tables and certificates, in the order of the page.
        matrix: The matrix over all studies, and what is wrong with its file.
        mlflow: Address of MLflow's UI.
        optuna: Address of Optuna's dashboard.
    """
    rows, damage = matrix
    named = {name for row in rows for name in row.settings}
    knobs = [knob for knob in _MAIN_KNOBS if knob in named] + sorted(named.difference(_MAIN_KNOBS))
    return environment(_TEMPLATES).get_template("studies.html.j2").render(
        cards=[Card(entry, mlflow, optuna) for entry in studies if entry.kind == STUDY],
        groups=[
            (title, [Card(entry, mlflow, optuna) for entry in studies if entry.kind == kind])
            for kind, title in GROUPS.items()
        ],
        matrix=rows, damage=damage, knobs=knobs, mlflow=mlflow, optuna=optuna, style=style(), script=script(),
    )  # fmt: skip


class Card:
    """An entry as the template shows it.

    Args:
        entry: The entry.
        mlflow: Address of MLflow's UI.
        optuna: Address of Optuna's dashboard.
    """

    def __init__(self, entry: Entry, mlflow: str, optuna: str) -> None:
        self.entry, self.state, self._mlflow, self._optuna = entry, entry.state, mlflow, optuna
        self.status = entry.status if self.state == "running" else None
        self.drawing = picture(entry)

    @property
    def summary(self) -> str:
        """Model, number of trials, and when it last changed."""
        rounds = sum(trial.role == Role.CONFIRMATION for trial in self.entry.trials)
        trials = len(self.entry.trials) - rounds
        count = f"{trials} trial{'' if trials == 1 else 's'}" + (
            f", {rounds} confirming measurements" if rounds else ""
        )
        changed = f"{datetime.fromtimestamp(self.entry.changed_at):%Y-%m-%d %H:%M}"
        return " · ".join(part for part in (self.entry.model, count, changed) if part)

    @property
    def share(self) -> int:
        """Percent of its trials that a running study has done."""
        return round(100 * min(1.0, self.status.done / self.status.total)) if self.status and self.status.total else 0

    @property
    def phase(self) -> str:
        """What a running study is doing, and for how long."""
        if self.status is None or not self.status.phase:
            return ""
        return f"{self.status.phase}, for {duration(time.time() - self.status.phase_at)}"

    @property
    def end(self) -> str:
        """When a running study is expected to end; empty where that is not known."""
        if self.status is None or self.status.ends_at is None:
            return ""
        remaining_s = max(0.0, self.status.ends_at - time.time())
        return f"{datetime.fromtimestamp(self.status.ends_at):%H:%M}, in about {duration(max(60.0, remaining_s))}"

    @property
    def reason(self) -> str:
        """Why it failed; empty if it did not."""
        return self.entry.status.reason if self.entry.status and self.state == "failed" else ""

    @property
    def verdict(self) -> str:
        """How the recommendation compares with vLLM's defaults, and on what evidence."""
        result = self.entry.result
        if result is None or result.is_default:
            return "" if result is None else f"Nothing scored higher than vLLM’s defaults {_basis(result)}."
        better = "Better" if result.decisive else "Not shown to be better"
        return f"{better} than vLLM’s defaults {_basis(result)}: its weighted score is {versus_default(result.score)}."

    @property
    def gains(self) -> list[tuple[str, Estimate, str, str, str]]:
        """(objective, figure, verdict, ratio to the defaults, look) of each objective of the recommendation."""
        result = self.entry.result
        if result is None:
            return []
        names = [name for name in self.entry.directions if name in result.estimates]
        return [(title_of(name), result.estimates[name], *self._gain(result, name)) for name in names]

    def _gain(self, result: Result, name: str) -> tuple[str, str, str]:
        if result.is_default or name not in result.gains:
            return "this is the default", "", "even"
        gain = result.gains[name]
        text = versus_default(change_of(gain, self.entry.directions[name]))
        if gain.low <= 1.0 <= gain.high:
            return "no difference shown", text, "even"
        better = "better" if gain.low > 1.0 else "worse"
        return better, text, better

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(symbol, name) of each kind of trial in the picture."""
        kinds = set(kinds_of(self.entry).values()) if self.drawing else set()
        return [(key(kind), NAMES[kind]) for kind in NAMES if kind in kinds]

    @property
    def figures(self) -> list[tuple[str, str]]:
        """(objective, figure) of a measurement's last trial."""
        last = next((trial for trial in reversed(self.entry.trials) if trial.estimates), None)
        names = list(self.entry.directions) if last else []
        return [(title_of(n), figure(last.estimates[n])) for n in names if last and n in last.estimates]

    @property
    def links(self) -> list[tuple[str, str]]:
        """(address, text) of its report and figures, its runs and its dashboard."""
        entry = self.entry
        links = [(f"studies/{_quoted(entry.name)}/report/{_quoted(f)}", _title(f)) for f in entry.reports]
        if entry.run is not None:
            experiment, run = entry.run
            only = f"tags.study = '{entry.name}' and tags.role != 'study'"
            # Sorted by time, the default, MLflow folds the trials under their study.
            children = f"searchFilter={_quoted(only)}&orderByKey=metrics.%60qps%60&orderByAsc=false"
            links.append((f"{self._mlflow}/#/experiments/{experiment}/runs/{run}", "MLflow: result"))
            links.append((f"{self._mlflow}/#/experiments/{experiment}/runs?{children}", "MLflow: trials"))
        if entry.number is not None:
            links.append((f"{self._optuna}/dashboard/studies/{entry.number}", "Optuna dashboard"))
        return links


def _basis(result: Result) -> str:
    return f"in {result.rounds} interleaved rounds" if result.rounds else "by single, unconfirmed measurements"


def duration(seconds: float) -> str:
    """In the unit that people read it in: "40 s", "12 min", "1 h 5 min"."""
    if seconds < 60:  # noqa: PLR2004
        return f"{max(0.0, seconds):.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def style() -> str:
    """The report's style sheet, and what this page adds to it."""
    return style_sheet() + "".join(_text(path) for path in (_REPORT_STYLE, _TEMPLATES / "studies.css"))


def script() -> str:
    """The page's one script, which refreshes it."""
    return _text(_TEMPLATES / "refresh.js")


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _quoted(name: str) -> str:
    """A name in an address, also one of a file that is not UTF-8."""
    return quote(os.fsencode(name))


def _title(file: str) -> str:
    return "Report" if file == "report.html" else f"{file.removesuffix('.html').replace('_', ' ').capitalize()} figure"
