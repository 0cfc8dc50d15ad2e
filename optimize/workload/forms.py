"""The forms that files of prompts come in, told by their columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optimize.workload.cells import answer_of, limit_of, plain, words_of
from optimize.workload.example import BadCell, Example, Message
from optimize.workload.messages import asks, cut, from_question, is_conversation, messages_of

Cells = Mapping[str, Any]
_SHAREGPT = "sharegpt"
CHATS = {"messages": "messages", "conversations": _SHAREGPT, "conversation": _SHAREGPT}
"""Columns that hold conversations -> the form that they are of."""
_LIMITS, _BODY_LIMITS = (
    ("output_tokens", "output_tokens_count"),
    ("max_completion_tokens", "max_tokens", "max_output_tokens"),
)
_FIELDS = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "functions", "function_call")
"""Fields of a request that say what is asked; those that say how answers are decoded are the study's."""
LAST_ANSWER = "the last answer of each"
Claims = Callable[[Cells], frozenset[str]]
Read = Callable[[Cells], Example | None]


@dataclass(frozen=True)
class Form:
    """A form of rows.

    Attributes:
        name: What `workload.format` calls it.
        title: What its rows are, in the plural.
        claims: The columns of a row that it uses; none where the row is not of this form.
        read: What a row gives; None where nobody asks anything in it. Raises BadCell.
        answer: Where its references come from, in words.
        setting: What decides for it where another form fits as well; empty for its name.
    """

    name: str
    title: str
    claims: Claims
    read: Read
    answer: str = LAST_ANSWER
    setting: str = ""


def question(value: object, column: str, cells: Cells) -> Example | None:
    """What a prompt's cell gives, a text or a conversation; None where nobody asks anything in it.

    Args:
        value: The cell.
        column: Its column.
        cells: The row, or the request's body, which may hold tools and a system prompt.

    Raises:
        BadCell: the cell is neither.
    """
    if isinstance(value, str | bytes) and not (column in CHATS and str(value).lstrip().startswith("[")):
        return Example(words_of(value, column))
    if not value and column in CHATS:
        return None
    if not value:
        words_of(value, column)
    messages = messages_of(value, column)
    messages = [*_system(cells), *(from_question(messages) if CHATS.get(column) == _SHAREGPT else messages)]
    question, answer = cut(messages)
    return Example(question, answer, None, messages, _fields(cells)) if asks(question) else None


def _system(cells: Cells) -> list[Message]:
    """The system prompt that some data sets keep in a column beside the conversation."""
    text = cells.get("system")
    return [{"role": "system", "content": text}] if isinstance(text, str) and text else []


def _fields(cells: Cells) -> dict[str, Any]:
    return {name: plain(_parsed(cells[name])) for name in _FIELDS if cells.get(name)}


def _parsed(value: object) -> object:
    """A list or an object that is kept as JSON's text; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def limit_in(cells: Cells, columns: Iterable[str]) -> int | None:
    """The bound on an answer in the first of these columns that has one."""
    return next((limit_of(cells[name], name) for name in columns if cells.get(name) is not None), None)


def reference_of(value: object, column: str) -> str:
    """The reference of a cell: its text, or the answer in the messages that it holds.

    Raises:
        BadCell: it has none.
    """
    answer = cut(messages_of(value, column)).answer if is_conversation(value) else None
    return answer if answer is not None else answer_of(value, column)


def _chats(name: str, title: str) -> Form:
    """The form of a conversation in a column."""
    columns = [column for column, form in CHATS.items() if form == name]

    def claims(cells: Cells) -> frozenset[str]:
        return frozenset(column for column in columns if _is_chat(cells.get(column)))

    def read(cells: Cells) -> Example | None:
        column = next((column for column in columns if column in cells), columns[0])
        value = cells.get(column)
        return question(messages_of(value, column) if isinstance(value, str) else value, column, cells)

    return Form(name, title, claims, read)


def _is_chat(value: object) -> bool:
    return value == [] or is_conversation(value) or (isinstance(value, str) and value.lstrip().startswith("["))


def texts(name: str, title: str, prompt: str, answer: str = "", beside: str = "") -> Form:
    """The form of a text in one column, with its answer and further text in others."""

    def claims(cells: Cells) -> frozenset[str]:
        needed = {prompt, answer} - {""}
        if needed <= cells.keys() and isinstance(cells[prompt], str | bytes | list):
            return frozenset([*needed, *({beside, *_LIMITS} & cells.keys())])
        return frozenset()

    def read(cells: Cells) -> Example | None:
        example = question(cells.get(prompt), prompt, cells)
        if example is None:
            return None
        if cells.get(beside) and isinstance(example.prompt, str):
            example = replace(example, prompt=f"{example.prompt}\n\n{words_of(cells[beside], beside)}")
        reference = reference_of(cells.get(answer), answer) if answer else example.reference
        return replace(example, reference=reference, max_tokens=limit_in(cells, _LIMITS))

    setting = f"workload.prompt_column={prompt} workload.reference_column={answer}" if answer and not beside else ""
    return Form(name, title, claims, read, f"{answer!r}" if answer else LAST_ANSWER, setting)


def _bounded(name: str, title: str, limit: str) -> Form:
    """The form of a prompt beside the tokens of its answer."""
    form = texts(name, title, "prompt")

    def claims(cells: Cells) -> frozenset[str]:
        return form.claims(cells) if limit in cells else frozenset()

    return replace(form, claims=claims)


def _batch(cells: Cells) -> Example | None:
    """A request of OpenAI's Batch API, to whichever of its endpoints for texts."""
    body = cells.get("body")
    if not isinstance(body, Mapping):
        raise BadCell(f"body must be the body of a request, got {body!r:.80}")
    column = next((name for name in ("messages", "prompt", "input") if name in body), "messages")
    example = question(body.get(column), f"body.{column}" if column == "input" else column, body)
    return example and replace(example, max_tokens=limit_in(body, _BODY_LIMITS))


def _questions(cells: Cells) -> Example:
    """The first question of MT-Bench; the second is about the answer to the first."""
    turns, references = cells.get("turns"), cells.get("reference")
    if not isinstance(turns, list) or not turns:
        raise BadCell(f"turns must be a list of questions, got {turns!r:.80}")
    messages = [{"role": "user", "content": words_of(turn, "turns")} for turn in turns]
    reference = references[0] if isinstance(references, list) and references else references
    return Example(messages[:1], answer_of(reference, "reference") if reference else None, None, messages)


def _harness(cells: Cells) -> Example:
    """A sample that the lm-evaluation-harness has logged: (context, how to generate) or (context, continuation)."""
    requests = cells.get("arguments")
    if isinstance(requests, Mapping):  # {"gen_args_0": {"arg_0": ..., "arg_1": ...}} from version 0.4.3 on
        requests = [list(request.values()) for request in requests.values()]
    if not isinstance(requests, list) or not requests or not isinstance(requests[0], list) or not requests[0]:
        raise BadCell(f"arguments must hold the context of a request, got {requests!r:.80}")
    context, more = words_of(requests[0][0], "arguments"), requests[0][1] if len(requests[0]) > 1 else None
    target = cells.get("target")
    target = target[0] if isinstance(target, list) and target else target  # any of several is right
    choice = _whole(target)
    if isinstance(more, str) and choice is not None and choice < len(requests):  # the number of the right continuation
        target = str(requests[choice][1]).strip()
    limit = limit_in(more, ("max_gen_toks", "max_tokens")) if isinstance(more, Mapping) else None
    return Example(context, answer_of(target, "target"), limit)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None


def _with(*columns: str) -> Claims:
    """The claims of a form known by these columns, of which the first is no plain value and the last may be missing."""
    needed = frozenset(columns[:-1])

    def claims(cells: Cells) -> frozenset[str]:
        fits = needed <= cells.keys() and isinstance(cells[columns[0]], list | Mapping)
        return needed | ({columns[-1]} & cells.keys()) if fits else frozenset()

    return claims


FORMS = (
    _chats(_SHAREGPT, "conversations in ShareGPT's form"),
    _chats("messages", "conversations of chat messages"),
    Form("batch", "requests of OpenAI's Batch API", _with("body", "custom_id"), _batch),
    Form("mt_bench", "questions in MT-Bench's form", _with("turns", "reference"), _questions, "'reference'"),
    Form(
        "lm_eval", "samples of the lm-evaluation-harness", _with("arguments", "target", "doc"), _harness, "'target'"
    ),
    texts("alpaca", "instructions in Alpaca's form", "instruction", "output", "input"),
    texts("dolly", "instructions in Dolly's form", "instruction", "response", "context"),
    texts("gsm8k", "questions with answers", "question", "answer", "context"),
    texts("completion", "prompts with completions", "prompt", "completion"),
    _bounded("custom", "prompts in the form of vLLM's custom data set", "output_tokens"),
    _bounded("guidellm", "prompts in GuideLLM's form", "output_tokens_count"),
    *(
        texts("pairs", f"pairs of {prompt} and {answer}", prompt, answer)
        for prompt, answer in (
            ("prompt", "response"), ("prompt", "answer"), ("question", "response"), ("query", "response"),
            ("query", "answer"), ("input", "output"), ("problem", "solution"), ("source", "target"),
        )
    ),
    texts("prompts", "prompts", "prompt"),
    texts("text", "texts", "text"),
)  # fmt: skip
"""All forms; `prompts` and `text` are what a row is of that is of no other form."""
