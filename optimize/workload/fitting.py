"""A workload as a model can take it: chat as text where there is no template, and only rows within its context."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optimize.checkpoint import local_folder, model_config
from optimize.config.measuring import WORKLOAD
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.traces.requests import Requests
from optimize.workload.tokens import token_counts
from optimize.workload.workload import Prompt, Workload, load_workload

_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "chat_templates")
_TOKENS_PER_MESSAGE = 8  # what a template puts around a message; ChatML takes 5, Llama 3 takes 5


def fitted_workload(config: StudyConfig, recorded: Requests | None = None, remote: bool = False) -> Workload:
    """The workload of a configuration, fitted to its model.

    Args:
        config: The configuration.
        recorded: Recorded requests, as `load_workload` takes them.
        remote: Whether somebody else runs the engine, whose template and context are not known here.

    Raises:
        ConfigError: what `load_workload` raises, or no row fits the model's context.
    """
    source, model, cache = config.workload, config.model.path, Path(config.cache_dir)
    needed = config.quality.reference == WORKLOAD
    workload = load_workload(source, model, cache, config.study.seed, recorded, needed)
    if remote:
        return workload
    flags = {**(config.engine.get("flags") or {}), **config.model.flags}
    if not flags.get("chat_template"):
        workload = as_text(workload, model)
    return _within_context(workload, config, context_of(model, flags)) if source.fit_context else workload


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
    return replace(workload, prompts=[text_of(p) for p in workload.prompts], notes=[*workload.notes, note])


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


def text_of(prompt: Prompt) -> str:
    """A prompt as plain text: messages below each other, each after its role, and the assistant's turn left open."""
    if isinstance(prompt, str):
        return prompt
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in prompt]
    return "\n\n".join([*turns, "Assistant:"])


def context_of(model: str, flags: Mapping[str, Any]) -> int | None:
    """Tokens of a prompt with its answer that an engine takes; None where neither flags nor model say it."""
    try:
        length = flags.get("max_model_len") or model_config(model).get("max_position_embeddings")
    except Exception:  # the model is not on this disk, and the hub's errors are many
        return None
    return length if isinstance(length, int) and length > 0 else None


def _within_context(workload: Workload, config: StudyConfig, context: int | None) -> Workload:
    model, cache = config.model.path, Path(config.cache_dir)
    if context is None or has_template(model) is None:
        return workload
    counts = _prompt_tokens(workload, model, cache)
    rows = [row for row, tokens in enumerate(counts) if tokens + workload.bound(row) <= context]
    if len(rows) == len(counts):
        return workload
    if not rows:
        raise ConfigError(
            f"workload {workload.name}: the shortest of its prompts has {min(counts)} tokens, and none fits with its "
            f"answer into the model's context of {context}: take a model with a longer one, or other prompts"
        )
    note = (
        f"workload {workload.name}: {len(counts) - len(rows)} of {len(counts)} rows are longer than the model's "
        f"context of {context} tokens and are left out"
    )
    return replace(workload.only(rows), notes=[*workload.notes, note])


def _prompt_tokens(workload: Workload, model: str, cache: Path) -> list[int]:
    """Tokens of each prompt, those that a template adds estimated."""
    counts = token_counts([text_of(prompt) for prompt in workload.prompts], model, cache)
    messages = [0 if isinstance(prompt, str) else len(prompt) for prompt in workload.prompts]
    return [tokens + _TOKENS_PER_MESSAGE * number for tokens, number in zip(counts, messages, strict=True)]
