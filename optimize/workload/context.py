"""How many tokens of a prompt with its answer an engine takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optimize.checkpoint import local_folder, model_config

_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_sequence_length",
    "max_seq_length", "seq_len",
)  # fmt: skip
"""Where vLLM looks for it in config.json; the smallest counts."""
_SCALED_ALREADY = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "default")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "K": 2**10, "M": 2**20}


@dataclass(frozen=True)
class Context:
    """The tokens that an engine takes in one request.

    Attributes:
        tokens: Most tokens of a prompt with its answer.
        origin: Who says so, in words.
        longest: What the model itself takes; None where that is not known.
    """

    tokens: int
    origin: str
    longest: int | None = None


def context_of(model: str, lengths: Iterable[object] = ()) -> Context | None:
    """The context that all engines of a study have; None where neither a flag nor the model says it.

    Args:
        model: Folder or id of the model.
        lengths: Every value of `max_model_len` that an engine is given; the smallest counts for all, since
            configurations are compared on the same requests.
    """
    longest = longest_of(model)
    flags = [tokens for length in lengths if (tokens := tokens_of(length)) is not None]
    if flags:
        return Context(min(flags), "max_model_len", longest)
    return None if longest is None else Context(longest, "the model's context", longest)


def tokens_of(length: object) -> int | None:
    """A value of `max_model_len` as vLLM reads it, "32k" for example; None of one that leaves it to vLLM."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", str(length).strip())
    tokens = int(float(match[1]) * _UNITS[match[2]]) if match and not isinstance(length, bool) else 0
    return tokens or None


def longest_of(model: str) -> int | None:
    """The longest context that vLLM gives a model without being told; None where no file on this disk says it."""
    try:
        config = model_config(model)
        settings = local_folder(model) / "tokenizer_config.json"
        tokenizer = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    except Exception:  # the model is not on this disk, and the hub's errors are many
        return None
    text = config.get("text_config")
    part: Mapping[str, Any] = text if isinstance(text, dict) else config
    lengths = [part[key] for key in _KEYS if _is_length(part.get(key))]
    bound = tokenizer.get("model_max_length") if isinstance(tokenizer, dict) else None
    lengths += [bound] if _is_length(bound) and lengths else []
    return int(min(lengths) * _rope_factor(part)) if lengths else None


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**9


def _rope_factor(config: Mapping[str, Any]) -> float:
    """By which rotary embeddings stretch the stated length, where that does not include it."""
    rope = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(rope, dict) or "gemma3" in str(config.get("model_type")):
        return 1.0
    kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
    return float(factor) if kind not in (*_SCALED_ALREADY, None) and isinstance(factor, int | float) else 1.0
