"""Revisions of the hub's models that an engine loads: of its own, of draft models of speculative decoding, of adapters.

A branch goes on, so an engine is given the commits that the study hashed, and of adapters their folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from optimize.checkpoint import hub_commit, is_hub_id
from optimize.engine.adapters import ADAPTERS, adapters_of, with_folders

DRAFTS = "speculative_config"
"""vLLM's flag that names a draft model."""
_MODEL, _REVISION = "model", "revision"


class HubModel(NamedTuple):
    """A model of the hub that goes with an engine's own.

    Attributes:
        model: Its id.
        revision: Branch, tag or commit; None for the main branch.
    """

    model: str
    revision: str | None


def drafts_of(flags: Iterable[tuple[str, Any]]) -> list[HubModel]:
    """The draft models of the hub that flags name, each once; those in folders are named files.

    Args:
        flags: (name, value) of every flag that an engine of a study may be given. A value that is a part of the flag
            alone, as of a knob `speculative_config.model`, goes with any revision that stands alone, too.
    """
    settings = [setting for name, value in flags if name.replace("-", "_") == DRAFTS if (setting := _mapping(value))]
    alone = [setting[_REVISION] for setting in settings if _REVISION in setting and _MODEL not in setting] or [None]
    drafts = [
        HubModel(str(setting[_MODEL]), revision)
        for setting in settings
        if is_hub_id(setting.get(_MODEL))
        for revision in ([setting[_REVISION]] if _REVISION in setting else alone)
    ]
    return list(dict.fromkeys(drafts))


def adapters_in(flags: Iterable[tuple[str, Any]]) -> list[HubModel]:
    """The adapters of the hub that flags name, each once; those in folders are named files.

    Raises:
        ConfigError: what the flag names is no adapter.
    """
    values = [value for name, value in flags if name.replace("-", "_") == ADAPTERS]
    paths = [path for value in values for path in adapters_of({ADAPTERS: value}).values()]
    return [HubModel(path, None) for path in dict.fromkeys(paths) if is_hub_id(path)]


def with_commits(flags: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Flags of an engine with the commits of its models, of those that are of the hub and on this disk.

    Args:
        flags: Name -> value.
        model: Folder or id of the engine's model.
    """
    pinned = dict(flags)
    if commit := hub_commit(model, flags.get(_REVISION)):
        pinned[_REVISION] = commit
    for name in (name for name in flags if name.replace("-", "_") == DRAFTS):
        draft = _mapping(flags[name])
        if is_hub_id(draft.get(_MODEL)) and (commit := hub_commit(draft[_MODEL], draft.get(_REVISION))):
            pinned[name] = {**draft, _REVISION: commit}
    for name in (name for name in flags if name.replace("-", "_") == ADAPTERS):
        pinned[name] = with_folders(flags[name])
    return pinned


def _mapping(value: Any) -> Mapping[str, Any]:
    """The flag's value, which a choice of the search space writes as JSON; empty of what is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:  # vLLM refuses it
            return {}
    return value if isinstance(value, Mapping) else {}
