"""The references of a study whose workload has none: asked of the unquantized model once, then kept with the study."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from optimize.config.measuring import BASELINE
from optimize.driver.progress import Progress
from optimize.evaluation.references import References, keep, kept_references, required
from optimize.executor.base import Executor
from optimize.files import locked
from optimize.plan import Plan
from optimize.study.coordination import agreed
from optimize.study.noise_floor import NoiseFloor, store_noise_floor

if TYPE_CHECKING:
    import optuna

_HASH = "references"


def study_references(plan: Plan, study: optuna.Study, executor: Executor, progress: Progress) -> References | None:
    """The answers that the study scores all others against; None where the workload's references count.

    Raises:
        OptimizeError: the unquantized model gave none.
    """
    if plan.reference != BASELINE:
        return None
    with locked(plan.folder / f"{_HASH}.lock"):  # another driver of the study may be asking
        references = kept_references(plan) or _references(executor, progress)
        keep(plan, references)
    if agreed(study, _HASH, references.hash) != references.hash:
        progress.say(
            "note: the reference answers of this study are lost and were asked anew: earlier trials were scored "
            "against others; study.fresh=true measures them anew"
        )
    store_noise_floor(study, _noise_floor(plan, references))
    progress.say(in_words(plan, references))
    return references


def _noise_floor(plan: Plan, references: References) -> NoiseFloor:
    scores = references.floor(plan.metrics)
    return NoiseFloor(scores, len(references.runs[0]), len(references.runs), references.seconds)


def in_words(plan: Plan, references: References) -> str:
    """What scores are against, what that cost, and what counts as none."""
    floor = _noise_floor(plan, references)
    parts = [floor.cost(), floor.in_words([*plan.objectives, *(limit.metric for limit in plan.limits)])]
    return f"quality is {plan.signature['quality']}: {'; '.join(filter(None, parts))}"


def _references(executor: Executor, progress: Progress) -> References:
    progress.phase("asking the unquantized model for reference")
    return required(executor.references)


def signed(plan: Plan, references: References | None) -> Plan:
    """The plan, with the references in the signature of all that is measured from now on."""
    if references is None:
        return plan
    return dataclasses.replace(plan, signature={**plan.signature, _HASH: references.hash})
