"""The parts of one session on a study, and its frame: files at its start, tracking until its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optimize.driver.progress import Progress
from optimize.errors import EngineFailure
from optimize.evaluation.references import References
from optimize.files import write_atomically
from optimize.ledger import Ledger
from optimize.plan import Plan
from optimize.study.info import make_info
from optimize.study.status import reason_of, recorded, update
from optimize.tracking.glossary import glossary
from optimize.tracking.tracker import Tracker

if TYPE_CHECKING:
    import optuna

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
"""How a session ended, in MLflow's words."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session on a study: what its loop works with besides the executor.

    Attributes:
        plan: The study's parts.
        study: Optuna's study, opened by `open_study`.
        ledger: The study's folder.
        tracker: Mirrors trials to MLflow.
        progress: Shows trials on the terminal.
        checkpoints: Recipe name -> checkpoint.
        broken_recipes: Recipe name -> why there is no checkpoint, or why vLLM cannot serve it here.
        deadline: `time.monotonic()` after which the search asks for no further trial; None for no limit.
        earlier: Studies to start from.
        references: The unquantized model's own answers, where these are what answers are scored against.
    """

    plan: Plan
    study: optuna.Study
    ledger: Ledger
    tracker: Tracker
    progress: Progress
    checkpoints: Mapping[str, str]
    broken_recipes: Mapping[str, EngineFailure]
    deadline: float | None = None
    earlier: Sequence[optuna.Study] = ()
    references: References | None = None


@contextmanager
def tracked(
    plan: Plan, config_yaml: str, say: Callable[[str], None], conclude: Callable[[Tracker, str], None],
    tags: Mapping[str, str] | None = None, agree: Callable[[str], str] = str,
) -> Iterator[Tracker]:  # fmt: skip
    """Write the configuration and the description of a study to its folder, and track it until the end.

    Args:
        plan: The study's parts.
        config_yaml: The configuration as composed, interpolations of secrets unresolved.
        say: Receives messages for the terminal.
        conclude: Called at the end, also of a session that failed, with the tracker and the session's status (FINISHED,
            FAILED or KILLED); closes the tracker.
        tags: Tags of the MLflow runs; None for study, scenario and model.
        agree: From the id of a parent run just created to the id that all drivers of the study use.
    """
    write_atomically(plan.folder / "config.yaml", config_yaml)
    basis = f"\n\nScores of answers are {plan.signature['quality']}." if "quality" in plan.signature else ""
    info = make_info(plan, tags, glossary(plan.metrics, plan.objectives) + basis)
    info.write(plan.folder)
    tracker, status = Tracker(plan.config.tracking, Ledger(plan.folder), info, say, agree), FAILED
    with recorded(plan.folder):
        tracker.open(config_yaml)
        try:
            yield tracker
            status = FINISHED
        except KeyboardInterrupt:
            status = KILLED
            raise
        except BaseException as error:
            update(plan.folder, reason=reason_of(error))  # before the report is written, which says it
            raise
        finally:
            update(plan.folder, trial="", phase="writing the results", phase_at=time.time(), ends_at=None)
            conclude(tracker, status)
