"""The flags that the engines of a study may be given, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optimize.config.grammar import one_line, variable
from optimize.config.schema import StudyConfig
from optimize.engine.base import Launcher
from optimize.redaction import is_secret
from optimize.search import variables
from optimize.search.knobs import flag_of, is_request_knob, part_of
from optimize.search.parts import nested
from optimize.search.space import SearchSpace
from optimize.workload.context import Context, context_of

_CONTEXT_FLAG = "max_model_len"


def engine_flags(config: StudyConfig, space: SearchSpace) -> list[tuple[str, Any]]:
    """All flags with all values that an engine of the study may be given."""
    fixed = [config.engine.get("flags") or {}, config.model.flags, *(r.flags for r in space.recipes_needed())]
    flags = [knob for knob in space.distributions if not is_request_knob(knob) and not variables.is_variable(knob)]
    knobs = {knob: getattr(space.distributions[knob], "choices", ()) for knob in flags}
    return [pair for flags in fixed for pair in flags.items()] + [
        (flag_of(knob), nested(part_of(knob), choice) if part_of(knob) and choice is not None else choice)
        for knob, choices in knobs.items()
        for choice in choices
    ]


def request_context(config: StudyConfig, space: SearchSpace, launcher: Launcher) -> Context | None:
    """The tokens that every engine of the study takes in one request; None where they are not known."""
    if launcher.request_knobs_only:
        return None
    knobs = {knob: domain for knob, domain in space.distributions.items() if not is_request_knob(knob)}
    ranges = [getattr(domain, "low", None) for knob, domain in knobs.items() if flag_of(knob) == _CONTEXT_FLAG]
    lengths = [value for name, value in engine_flags(config, space) if name.replace("-", "_") == _CONTEXT_FLAG]
    return context_of(config.model.path, [*lengths, *ranges])


def check_quotable(config: StudyConfig, space: SearchSpace, arguments: Sequence[str]) -> None:
    """Refuse now what the files of a deployment could not hold once the study has ended."""
    for text in (config.model.name, config.model.path, *arguments):
        one_line(text)
    for name, value in {**config.hardware.env, **(config.engine.get("env") or {})}.items():
        variable(name)
        if not is_secret(name, value):  # files name secrets, and hold none
            one_line(value)
    for name in space.variables:
        for choice in getattr(space.distributions[f"{variables.PREFIX}{name}"], "choices", ()):
            one_line(choice)
