"""Which rows of a workload an engine can serve, and what is done with the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimize.config.measuring import CUT, CUT_ANSWERS, LEAVE_OUT
from optimize.errors import ConfigError
from optimize.workload.context import Context

FEW = 0.05
"""Share of the rows that are left out without being asked; more of them would be another workload."""
_NAMED = 5


@dataclass(frozen=True)
class Row:
    """The tokens of one request.

    Attributes:
        number: Of the row.
        prompt: Tokens of the prompt, what the template adds included.
        answer: Most tokens of the answer.
    """

    number: int
    prompt: int
    answer: int

    @property
    def tokens(self) -> int:
        return self.prompt + self.answer


@dataclass(frozen=True)
class Verdict:
    """What becomes of the rows that do not fit.

    Attributes:
        prompts: Row -> tokens that its prompt may have.
        answers: Row -> tokens that its answer may have.
        left_out: Rows that are not sent.
        note: All of it in one line; empty where every row fits.
    """

    prompts: dict[int, int]
    answers: dict[int, int]
    left_out: frozenset[int]
    note: str = ""


def judge(rows: Sequence[Row], context: Context, too_long: str, name: str, free_answers: bool = False) -> Verdict:
    """What becomes of rows that exceed the context, or have no tokens at all.

    Args:
        rows: All rows.
        context: The engine's.
        too_long: `workload.too_long`.
        name: Of the workload, for messages.
        free_answers: Whether nobody has set how long answers may be, so that they give way.

    Raises:
        ConfigError: more rows do not fit than are left out without being asked, or none fits.
    """
    beyond = [row for row in rows if not 0 < row.prompt <= context.tokens - row.answer]
    prompts, answers = _cuts(beyond, context.tokens, too_long, free_answers)
    out = [row for row in beyond if row.number not in prompts and row.number not in answers]
    if out and (len(out) == len(rows) or (too_long != LEAVE_OUT and len(out) > FEW * len(rows))):
        raise ConfigError(_refusal(out, rows, context, name))
    left_out = frozenset(row.number for row in out)
    return Verdict(prompts, answers, left_out, _note(out, prompts, answers, rows, context, name) if beyond else "")


def _cuts(beyond: Sequence[Row], tokens: int, too_long: str, free: bool) -> tuple[dict[int, int], dict[int, int]]:
    """(row -> tokens of its prompt, row -> tokens of its answer) where cutting makes it fit."""
    prompts = {row.number: tokens - row.answer for row in beyond if 0 < row.answer < tokens and row.prompt > 0}
    answers = {row.number: tokens - row.prompt for row in beyond if 0 < row.prompt < tokens}
    return prompts if too_long == CUT else {}, answers if too_long == CUT_ANSWERS or (free and too_long != CUT) else {}


def _refusal(out: Sequence[Row], rows: Sequence[Row], context: Context, name: str) -> str:
    longest, prompt = max(out, key=lambda row: row.tokens), max(row.prompt for row in rows)
    remedies = []
    if context.longest is not None and context.tokens < longest.tokens <= context.longest:
        remedies.append(f"max_model_len={longest.tokens}")
    if prompt < context.tokens:
        remedies.append(f"workload.max_tokens={context.tokens - prompt}")
    remedies.append("workload.too_long=cut (texts from their left), cut_answers or leave_out")
    return (
        f"workload {name}: {len(out)} of {len(rows)} rows do not fit with their answers into {context.origin} of "
        f"{context.tokens} tokens; the longest has {longest.prompt} tokens and {longest.answer} for its answer: set "
        f"{', or '.join(remedies)}, or take a model with a longer context"
    )


def _note(
    out: Sequence[Row], prompts: dict[int, int], answers: dict[int, int], rows: Sequence[Row], context: Context,
    name: str,
) -> str:  # fmt: skip
    named = ", ".join(f"row {row.number} ({row.prompt} + {row.answer} tokens)" for row in out[:_NAMED])
    more = f" and {len(out) - _NAMED} more" if len(out) > _NAMED else ""
    parts = [f"{len(out)} left out: {named}{more}"] if out else []
    parts += [f"{len(prompts)} cut from their left"] if prompts else []
    parts += [f"{len(answers)} with answers cut to what is left"] if answers else []
    number = len(out) + len(prompts) + len(answers)
    return (
        f"workload {name}: {number} of {len(rows)} rows do not fit with their answers into {context.origin} of "
        f"{context.tokens} tokens (workload.too_long): {'; '.join(parts)}"
    )
