"""`python -m optimize.whatif`: from a configuration to an answer, from what is stored alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from objectives import Objective
from objectives.throughput import Goodput
from optimize.config.schema import StudyConfig
from optimize.decision.constraints import make_limits, read_bounds
from optimize.decision.terms import Terms
from optimize.errors import ConfigError
from optimize.files import write_files
from optimize.ledger import Ledger, study_folder
from optimize.outcome import State
from optimize.plan.metrics import metrics_of
from optimize.price.estimate import throughput_factor
from optimize.report.commands import repeated_words
from optimize.study.confirmation import recommendation, terms_of
from optimize.study.info import StudyInfo, info_of
from optimize.study.rows import stored_study
from optimize.whatif.answer import answer
from optimize.whatif.figures import Figurer, is_computed
from optimize.whatif.page import in_words
from optimize.whatif.pool import Pool, pool_of
from optimize.whatif.set_up import check_set_up


def ask(config: StudyConfig, config_yaml: str) -> Sequence[str]:
    """Answer the question that a configuration puts to its study, and write the answer to the study's folder.

    Args:
        config: The configuration.
        config_yaml: The same as composed.

    Returns:
        What could not be read, and was left out.

    Raises:
        ConfigError: there is no such study, it has no figure that the question needs, or the question asks for another
            set-up than the measured one.
    """
    study = stored_study(config)
    ledger, info = Ledger(study_folder(config.output_dir, config.study.name)), info_of(study)
    objectives, metrics = metrics_of(config)
    directions = {name: objective.direction for name, objective in objectives.items()}
    terms = Terms(directions, dict(config.scenario.weights), make_limits(read_bounds(config.constraints), metrics))
    deciding = _deciding_metrics(metrics, terms)
    kept = [name for name, metric in deciding.items() if not is_computed(metric)]
    has_slo = any(isinstance(metric, Goodput) for metric in deciding.values())
    other_set_up = check_set_up(config.study.name, ledger.config_yaml(), config_yaml, kept, has_slo)
    factor, basis = _hardware(config, info)
    figurer = Figurer(ledger, deciding, config.whatif, factor)
    pool = pool_of(study, terms, figurer, config.confirm.rounds)
    _check(pool, terms, config.study.name)
    assert pool is not None
    result = answer(pool, terms, config.whatif.sure)
    before = terms_of(study)
    notes = [*other_set_up, *basis, *_loosened(before, terms, ledger)]
    text = in_words(result, before, recommendation(study), repeated_words(ledger.overrides()))
    text += "".join(f"\n{note}\n" for note in notes)
    files = {"whatif.md": text, "whatif.json": json.dumps({**result.to_dict(), "notes": notes}, indent=1)}
    paths = write_files(files, ledger.folder / "report")
    print(f"{text}\nwritten: {', '.join(map(str, paths))}")
    return list(ledger.damage.values())


def _deciding_metrics(metrics: Mapping[str, Objective], terms: Terms) -> dict[str, Objective]:
    """The metrics that decide."""
    names = {*terms.directions, *(limit.metric for limit in terms.limits)}
    return {name: metric for name, metric in metrics.items() if name in names}


def _hardware(config: StudyConfig, info: StudyInfo) -> tuple[float, list[str]]:
    """Throughput of the hardware that is asked for as a multiple of the measured one's, and what that rests on."""
    hardware = config.hardware
    if hardware.name == info.hardware:
        return 1.0, []
    factor, basis = throughput_factor(
        hardware.name, hardware, info.hardware, config.instances.get(info.hardware), config.price.factors
    )
    return factor, [
        f"Prices are those of {hardware.name}; {basis}. Latency, throughput and memory are those measured on "
        f"{info.machines or info.hardware}: for others, run a study there."
    ]


def _check(pool: Pool | None, terms: Terms, name: str) -> None:
    """See that something can be decided.

    Raises:
        ConfigError: a figure that the question needs was not measured.
    """
    if pool is None:
        names = ", ".join(terms.directions)
        raise ConfigError(
            f"study {name!r} has no measurement of vLLM's defaults with all of {names}, which the stored requests do "
            "not give: ask for others, e.g. objectives=[qps,p99_latency_s]"
        )
    for limit in terms.limits:
        if not any(limit.metric in c.estimates for c in pool.candidates):
            raise ConfigError(
                f"constraints.{limit.metric}: study {name!r} has no such figure, and the stored requests do not give "
                f"it; constraints.{limit.metric}=null removes the limit"
            )


def _loosened(before: Terms, after: Terms, ledger: Ledger) -> list[str]:
    """What the search gave up under the study's own limits, where the question's are looser."""
    names = {limit.name for limit in after.limits}
    if all(limit.name in names for limit in before.limits):
        return []
    records = list(ledger.records())
    given_up = sum(r.state is State.INFEASIBLE or bool(r.cut_short) for r in records)
    if not given_up:
        return []
    return [
        f"Trials that gave no figures under the study's own limits: {given_up}. The search kept away from their "
        "neighbours, so looser limits may favour what it has not tried."
    ]
