"""The forms in which traces of language model traffic are published, told by their columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from optimize.errors import ConfigError, closest

AUTO = "auto"
_MILLISECOND = 0.001


@dataclass(frozen=True)
class Format:
    """One form of a trace. Names of columns are compared without their case, and with blanks for underscores.

    Attributes:
        name: The value of `load.arrivals.format`.
        title: The form in words.
        needs: Columns by which it is recognised, with commas between them, in each of its variants.
        time: Column of the arrival: a number, or a date with a time.
        unit_s: Seconds of the number's unit.
        prompt: Column of the prompt's tokens.
        output: Column of the answer's tokens.
        session: Column of the conversation or the user.
        delay: Column of the pause after the request before it in its session, where a row has no time.
        blocks: Column of the numbers of the prompt's blocks.
        block_tokens: Tokens of a block.
        text: Columns of the prompt itself.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    time: str
    unit_s: float = 1.0
    prompt: str = ""
    output: str = ""
    session: str = ""
    delay: str = ""
    blocks: str = ""
    block_tokens: int = 512
    text: tuple[str, ...] = ()

    def fit(self, columns: Collection[str]) -> int:
        """How many columns tell this form from others; 0 where some are missing."""
        needed = [{key_of(column) for column in variant.split(",")} for variant in self.needs]
        return max((len(variant) for variant in needed if variant <= set(columns)), default=0)


def key_of(column: str) -> str:
    """A column's name as it is compared."""
    return " ".join(column.replace("_", " ").split()).casefold()


FORMATS = (
    Format(
        "own", "this project's form", ("offset_s",), "offset_s", prompt="prompt_tokens", output="output_tokens",
        session="session_id", blocks="hash_ids",
    ),
    Format(
        "azure", "the form of Azure's LLM inference traces", ("TIMESTAMP, ContextTokens, GeneratedTokens",),
        "TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens",
    ),
    Format(
        "burstgpt", "BurstGPT's form", ("Timestamp, Request tokens, Response tokens",), "Timestamp",
        prompt="Request tokens", output="Response tokens", session="Session ID",
    ),
    Format(
        "mooncake", "Mooncake's form", ("timestamp, input_length, output_length",), "timestamp", _MILLISECOND,
        "input_length", "output_length", session="session_id", delay="delay", blocks="hash_ids",
    ),
    Format(
        "bailian", "the form of Alibaba's Bailian traces",
        ("timestamp, input_length, output_length, chat_id, parent_chat_id",), "timestamp",
        prompt="input_length", output="output_length", blocks="hash_ids", block_tokens=16,
    ),
    Format(
        "aiperf", "AIPerf's form with prompts",
        ("timestamp, text_input", "timestamp, messages", "timestamp, input_length, output_length, text_input"),
        "timestamp", _MILLISECOND, output="output_length", session="session_id", delay="delay",
        text=("text_input", "messages"),
    ),
    Format(
        "vllm", "the form of vllm bench serve --save-detailed", ("start_time, input_len, output_len",),
        "start_time", prompt="input_len", output="output_len",
    ),
)  # fmt: skip
_EXAMPLES = ", ".join(f"{f.name} ({f.needs[0]})" for f in FORMATS)


def format_of(name: str, columns: Iterable[str], path: str) -> Format:
    """The format of this name, or with "auto" the one that most columns tell.

    Raises:
        ConfigError: no format has this name, or these columns.
    """
    names = list(columns)
    keys = {key_of(column) for column in names}
    if name != AUTO:
        return _named(name, keys, f"{path} has {', '.join(names)[:200]}")
    best = max(FORMATS, key=lambda form: form.fit(keys))
    if not best.fit(keys):
        raise ConfigError(
            f"load.arrivals.path={path} has the columns {', '.join(names)[:200]}, which are those of no known "
            f"trace: rename them to offset_s (seconds), prompt_tokens and output_tokens, or to those of {_EXAMPLES}"
        )
    return best


def _named(name: str, keys: set[str], columns: str) -> Format:
    form = next((form for form in FORMATS if form.name == name), None)
    if form is None:
        raise ConfigError(f"load.arrivals.format={name!r} is none; {closest(name, [AUTO, *(f.name for f in FORMATS)])}")
    if not form.fit(keys):
        raise ConfigError(
            f"load.arrivals.format={name} needs the columns {form.needs[0]}, but {columns}: load.arrivals.format=auto "
            "tells the form by the columns"
        )
    return form
