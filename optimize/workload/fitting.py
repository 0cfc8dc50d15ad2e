"""A workload as a model can take it: chat as text where there is no template, and only rows within its context."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from optimize.checkpoint import local_folder
from optimize.config.measuring import CUT, LEAVE_OUT
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.traces.requests import Ints, Requests
from optimize.workload.context import Context
from optimize.workload.conversation import Conversations, text_of
from optimize.workload.conversation_room import whole, with_room
from optimize.workload.counting import prompt_tokens
from optimize.workload.cutting import cut_from_left
from optimize.workload.room import Row, Verdict, judge
from optimize.workload.shared_prefix import with_shared_prefix
from optimize.workload.tokens import special_tokens
from optimize.workload.workload import Workload, load_workload

_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "chat_templates")


@dataclass(frozen=True)
class Fitted:
    """A workload that an engine can serve.

    Attributes:
        workload: Its rows that fit.
        rows: Which of the recorded requests these are, where some are left out.
    """

    workload: Workload
    rows: Ints | None = None


def fitted_workload(
    config: StudyConfig, context: Context | None, recorded: Requests | None = None, remote: bool = False,
    say: Callable[[str], None] = print,
) -> Fitted:  # fmt: skip
    """The workload of a configuration, fitted to its model.

    Args:
        config: The configuration.
        context: What every engine of the study takes; None where that is not known.
        recorded: Recorded requests, as `load_workload` takes them.
        remote: Whether somebody else runs the engine, whose template and tokenizer are not known here.
        say: Prints a line, where counting takes long.

    Raises:
        ConfigError: what `load_workload` raises, or too many rows do not fit the context.
    """
    source, model, cache = config.workload, config.model.path, Path(config.cache_dir)
    first = Fitted(_NONE)
    lengths_known = recorded is not None and recorded.prompt_tokens is not None and recorded.output_tokens is not None
    if recorded is not None and lengths_known and context is not None and not remote:
        recorded, first = _recorded_within(recorded, config, context)
    workload = load_workload(source, model, cache, config.study.seed, recorded)
    workload = replace(workload, notes=[*workload.notes, *first.workload.notes])
    workload = with_shared_prefix(workload, source.shared_prefix, model, config.study.seed)
    if remote:
        return Fitted(workload)
    template = {**(config.engine.get("flags") or {}), **config.model.flags}.get("chat_template")
    if not template:
        workload = as_text(workload, model)
    if context is None or lengths_known:
        return Fitted(workload, first.rows)
    return _within(workload, config, context, template, say)


_NONE = Workload("", [], [], 0)


def _recorded_within(recorded: Requests, config: StudyConfig, context: Context) -> tuple[Requests, Fitted]:
    """Recorded requests that fit, judged by their lengths before texts are made of them."""
    assert recorded.prompt_tokens is not None and recorded.output_tokens is not None
    more = special_tokens(config.model.path)
    lengths = zip(recorded.prompt_tokens.tolist(), recorded.output_tokens.tolist(), strict=True)
    rows = [Row(number, prompt + more, answer) for number, (prompt, answer) in enumerate(lengths)]
    verdict = judge(rows, context, config.workload.too_long, config.workload.name)
    prompts, answers = recorded.prompt_tokens.copy(), recorded.output_tokens.copy()
    for row, tokens in verdict.prompts.items():
        prompts[row] = tokens - more
    for row, tokens in verdict.answers.items():
        answers[row] = tokens
    requests = replace(recorded, prompt_tokens=prompts, output_tokens=answers)
    numbers = np.array([row.number for row in rows if row.number not in verdict.left_out])
    notes = [verdict.note] if verdict.note else []
    return requests.only(numbers), Fitted(replace(_NONE, notes=notes), numbers if verdict.left_out else None)


def _within(
    workload: Workload, config: StudyConfig, context: Context, template: str | None, say: Callable[[str], None]
) -> Fitted:
    """The rows that fit, judged by the tokens of their prompts; of conversations by those of their first turns."""
    model, cache, talks = config.model.path, Path(config.cache_dir), workload.conversations
    rows = list(range(len(workload.prompts))) if talks is None else [turns[0] for turns in talks.rows]
    answers = [_answer(workload, row) for row in rows]
    room = [context.tokens - answer for answer in answers]
    if has_template(model) is None:
        return Fitted(workload)
    try:
        prompts = [workload.prompts[row] for row in rows]
        counts = {rows[i]: n for i, n in prompt_tokens(prompts, room, model, cache, template, say).items()}
        talks = talks and with_room(talks, context, model, cache)
    except ConfigError:  # no tokenizer's file: what does not fit is the engine's to refuse
        note = (
            f"workload {workload.name}: its rows are not compared with {context.origin}: {model} has no tokenizer.json"
        )
        return Fitted(replace(workload, notes=[*workload.notes, note]))
    tokens = [Row(row, counts.get(row, 1), answer) for row, answer in zip(rows, answers, strict=True)]
    verdict = judge(tokens, context, _too_long(config, talks), workload.name, free_answers=_is_free(config))
    verdict = verdict if talks is None else whole(verdict, talks)
    return _applied(replace(workload, conversations=talks), verdict, counts, model)


def _too_long(config: StudyConfig, talks: Conversations | None) -> str:
    """`workload.too_long`; a conversation is not cut from its left, where its later turns begin, but left out."""
    setting = config.workload.too_long
    return LEAVE_OUT if talks is not None and setting == CUT else setting


def _answer(workload: Workload, row: int) -> int:
    return workload.bound(row) if workload.output_tokens is None else workload.output_tokens[row]


def _is_free(config: StudyConfig) -> bool:
    """Whether nobody has set how long answers may be."""
    source = config.workload
    return source.max_tokens is None and source.max_tokens_column is None and source.output_tokens is None


def _applied(workload: Workload, verdict: Verdict, counts: dict[int, int], model: str) -> Fitted:
    if not verdict.note:
        return Fitted(workload)
    prompts = [
        cut_from_left(prompt, counts[row] - verdict.prompts[row], model) if row in verdict.prompts else prompt
        for row, prompt in enumerate(workload.prompts)
    ]
    rows = range(len(prompts))
    limits = [min(workload.bound(row), verdict.answers.get(row, workload.max_tokens)) for row in rows]
    lengths = workload.output_tokens and [min(workload.output_tokens[row], limits[row]) for row in rows]
    changed = replace(
        workload, prompts=prompts, limits=limits if verdict.answers else workload.limits, output_tokens=lengths,
        notes=[*workload.notes, verdict.note],
    )  # fmt: skip
    if not verdict.left_out:
        return Fitted(changed)
    numbers = [row for row in rows if row not in verdict.left_out]
    return Fitted(changed.only(numbers), np.array(numbers))


def as_text(workload: Workload, model: str) -> Workload:
    """The workload with its chat written as plain text, if the model's files are here and hold no chat template."""
    chats = [prompt for prompt in workload.prompts if not isinstance(prompt, str)]
    plain = all(isinstance(message["content"], str) for chat in chats for message in chat)
    if not chats or not plain or has_template(model) is not False:
        return workload
    note = (
        f"workload {workload.name}: {model} has no chat template, so its {len(chats)} chats are sent as plain text "
        '("User: ...", "Assistant: ..."); engine.flags.chat_template sets one'
    )
    talks = workload.conversations and replace(workload.conversations, plain=True)
    prompts = [text_of(prompt) for prompt in workload.prompts]
    return replace(workload, prompts=prompts, conversations=talks, notes=[*workload.notes, note])


def has_template(model: str) -> bool | None:
    """Whether a model brings a chat template; None where its files are not on this disk."""
    try:
        folder = local_folder(model)
    except Exception:  # the hub's errors are many
        return None
    if any((folder / name).exists() for name in _TEMPLATE_FILES):
        return True
    settings = folder / "tokenizer_config.json"
    return settings.is_file() and bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))
