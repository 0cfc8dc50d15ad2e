"""Prompts with reference answers, checked and bounded."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from optimize.config.instantiate import build
from optimize.config.measuring import ALL, WorkloadSource
from optimize.errors import ConfigError
from optimize.traces.requests import Requests
from optimize.workload.conversation import Conversations
from optimize.workload.example import Prompt as Prompt
from optimize.workload.lengths import Lengths
from optimize.workload.reading import read
from optimize.workload.texts import of_lengths, of_requests
from optimize.workload.tokens import token_counts
from optimize.workload.unrolling import unrolled

_ANSWER_MARGIN, _MAX_TOKENS = 1.25, 128


@dataclass(frozen=True)
class Workload:
    """Prompts and reference answers.

    Attributes:
        name: Name for display.
        prompts: Plain text, or chat messages with role and content.
        references: One reference answer per prompt; empty where answers cannot be scored.
        max_tokens: Bound on every answer.
        output_tokens: Length that the answer to each prompt runs to; None where answers end by themselves.
        in_order: Whether prompts are sent in their order rather than in a seeded one.
        limits: Bound on the answer to each prompt, none above `max_tokens`; None where all have the same.
        fields: Further fields of each request's body, such as `tools`; None where no request has any.
        notes: What a user should know of how the source was read, each in a sentence.
        conversations: How the rows follow each other where each is a turn; None where all rows stand by themselves.
    """

    name: str
    prompts: Sequence[Prompt]
    references: Sequence[str]
    max_tokens: int
    output_tokens: Sequence[int] | None = None
    in_order: bool = False
    limits: Sequence[int] | None = None
    fields: Sequence[Mapping[str, Any]] | None = None
    notes: Sequence[str] = ()
    conversations: Conversations | None = None

    def bound(self, row: int) -> int:
        """Bound on the answer to one prompt, in tokens."""
        return self.max_tokens if self.limits is None else self.limits[row]

    def only(self, rows: Sequence[int]) -> Workload:
        """The workload with these rows alone."""
        columns = {name: getattr(self, name) for name in ("prompts", "references", "output_tokens", "limits", "fields")}
        selection: dict[str, Any] = {name: [column[row] for row in rows] for name, column in columns.items() if column}
        talks = None if self.conversations is None else self.conversations.only(rows)
        return replace(self, **selection, conversations=talks)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over all that decides what is sent and scored."""
        parts: list[Any] = [self.prompts, self.references, self.max_tokens]
        if self.output_tokens is not None:
            parts += [self.output_tokens, self.in_order]
        elif self.limits is not None or self.in_order:
            parts += [self.limits or [], self.in_order]
        if self.fields is not None:
            parts.append(self.fields)
        if (talks := self.conversations) is not None:
            parts += [list(map(list, talks.rows)), list(talks.think_s), talks.live]
        sha = hashlib.sha256()
        for text in _json_of(parts):
            sha.update(text.encode())
        return sha.hexdigest()[:12]


def _json_of(parts: Sequence[Any]) -> Iterable[str]:
    """The JSON of lists in a list, element by element: a large workload is not written out as a whole."""
    for number, part in enumerate(parts):
        yield ", " if number else "["
        if not isinstance(part, Sequence) or isinstance(part, str):
            yield json.dumps(part, ensure_ascii=False)
            continue
        yield "["
        yield from (", " * (row > 0) + json.dumps(element, ensure_ascii=False) for row, element in enumerate(part))
        yield "]"
    yield "]"


def load_workload(
    source: WorkloadSource, model: str, cache_folder: Path, seed: int = 0, recorded: Requests | None = None
) -> Workload:
    """Load, check and bound a workload.

    Args:
        source: Its source and columns.
        model: Model whose tokens are counted.
        cache_folder: Root of the cache.
        seed: Seed of lengths drawn from a distribution.
        recorded: Recorded requests in order, whose lengths and texts take the place of others.

    Raises:
        ConfigError: what `optimize.workload.reading.read` raises, or lengths that do not fit.
    """
    reading = read(source, cache_folder)
    examples, talks = reading.examples, None
    notes = [reading.note] if reading.note else []
    if source.turns == ALL:
        turns = unrolled(examples, source, seed)
        examples, talks = turns.examples, turns.conversations
        notes += [f"workload {source.name}, turn by turn: {turns.in_words}"]
    prompts: Sequence[Prompt] = [example.prompt for example in examples]
    references = [example.reference for example in examples if example.reference is not None]
    lengths = _lengths(source, len(prompts), seed, recorded)
    fields = [example.fields for example in examples] if any(e.fields for e in examples) else None
    if lengths is None:
        own = [example.max_tokens for example in examples]
        largest = max((limit for limit in own if limit), default=0)
        max_tokens = source.max_tokens or largest or _longest(references, model, cache_folder)
        limits = [min(limit or max_tokens, max_tokens) for limit in own] if any(own) else None
        if reading.note and not references:
            notes[0] = f"{reading.note}; answers have at most {max_tokens} tokens (workload.max_tokens)"
        return Workload(
            source.name, prompts, references, max_tokens, None, source.in_order, limits, fields, notes, talks
        )
    prompt_tokens, output_tokens = lengths
    if recorded is not None:
        own_rows = recorded.texts is None and prompt_tokens is None
        fields = [fields[row % len(fields)] for row in range(len(recorded))] if fields and own_rows else None
        prompts = _recorded_prompts(prompts, prompt_tokens, recorded, model)
    elif prompt_tokens is not None:
        prompts = of_lengths(prompts, prompt_tokens, model)
    bound = max(output_tokens) if output_tokens is not None else source.max_tokens
    if bound is None:
        raise ConfigError("workload.prompt_tokens leaves no references to bound answers by: set workload.max_tokens")
    in_order = recorded is not None or source.in_order
    return Workload(source.name, prompts, [], bound, output_tokens, in_order, None, fields, notes, talks)


def _recorded_prompts(
    prompts: Sequence[Prompt], lengths: Sequence[int] | None, recorded: Requests, model: str
) -> Sequence[Prompt]:
    """The prompts of recorded requests: their own texts, others of their lengths, or the workload's in turn."""
    if recorded.texts is not None:
        return recorded.texts
    if lengths is not None:
        return of_requests(prompts, replace(recorded, prompt_tokens=np.array(lengths)), model)
    return [prompts[row % len(prompts)] for row in range(len(recorded))]


def _lengths(
    source: WorkloadSource, rows: int, seed: int, recorded: Requests | None
) -> tuple[list[int] | None, list[int] | None] | None:
    """Lengths of prompts and of answers, each where they are set; None where the data decide both."""
    rng = random.Random(seed)
    drawn: list[list[int] | None] = []
    for name in ("prompt_tokens", "output_tokens"):
        node, column = getattr(source, name), getattr(recorded, name, None)
        if column is not None:
            drawn.append(column.tolist())
        elif node is None:
            drawn.append(None)
        else:
            lengths: Lengths = build(node, f"workload.{name}")
            drawn.append([lengths.draw(rng) for _ in range(len(recorded or range(rows)))])
    return None if drawn == [None, None] and recorded is None else (drawn[0], drawn[1])


def _longest(references: Sequence[str], model: str, cache_folder: Path) -> int:
    """Tokens of the longest reference, plus a quarter; a round number without references.

    Beam search runs for max_tokens steps even where the answer ends before, so a loose bound costs time in every
    request.
    """
    if not references:
        return _MAX_TOKENS
    return math.ceil(max(token_counts(references, model, cache_folder)) * _ANSWER_MARGIN)
