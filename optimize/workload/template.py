"""Chat as the text that a model's template makes of it, as the engine does before it counts tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from optimize.checkpoint import local_folder

_FILE, _SETTINGS = "chat_template.jinja", "tokenizer_config.json"
_NAMED = "chat_template.json"
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class _Generation(Extension):
    """The tag by which templates mark what the model has said; its content is all that counts here."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def rendered(chats: Sequence[Sequence[Mapping[str, Any]]], model: str, own: str | None = None) -> list[str] | None:
    """Chats as the texts that an engine makes of them, the answer's turn opened.

    Args:
        chats: Messages of each.
        model: The model.
        own: The flag `chat_template`: a file, or a template itself.

    Returns:
        The texts; None where there is no template on this disk, or it does not take such chats.
    """
    settings = _settings(model)
    source = _source(model, settings, own)
    if source is None:
        return None
    values = {name: _token(settings.get(name)) for name in _TOKENS}
    try:
        template = _environment().from_string(source)
        return [template.render(messages=list(chat), add_generation_prompt=True, **values) for chat in chats]
    except Exception:  # a template is a program, and fails as one
        return None


def _settings(model: str) -> Mapping[str, Any]:
    try:
        settings = json.loads((local_folder(model) / _SETTINGS).read_text(encoding="utf-8"))
    except Exception:  # the model is not on this disk, and the hub's errors are many
        return {}
    return settings if isinstance(settings, dict) else {}


def _source(model: str, settings: Mapping[str, Any], own: str | None) -> str | None:
    try:
        if own is not None:
            return Path(own).read_text(encoding="utf-8") if Path(own).is_file() else own
        folder = local_folder(model)
        if (folder / _FILE).is_file():
            return (folder / _FILE).read_text(encoding="utf-8")
        if (folder / _NAMED).is_file():
            settings = json.loads((folder / _NAMED).read_text(encoding="utf-8"))
    except Exception:  # as above; a template that is too long for a file's name, too
        return own
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name
        template = {entry.get("name"): entry.get("template") for entry in template}.get("default")
    return template if isinstance(template, str) else None


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up for chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, **{"ensure_ascii": False, **options})
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: form}
    return environment


def _refuse(message: str) -> str:
    raise TemplateError(message)
