"""Hydra's composition for tests of other things: what depends on the choice of files alone is made once.

Hydra lists the files that the chosen groups name, merges them, and then sets single keys. Tests choose few combinations
of groups and set many keys; listing and merging take most of a composition's time.
"""

from __future__ import annotations

import pickle
from collections.abc import Hashable
from dataclasses import replace

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from optimize.config import device
from optimize.config.locations import CONF

_merge = ConfigLoaderImpl._compose_config_from_defaults_list
_lists: dict[Hashable, DefaultsList] = {}
_merged: dict[Hashable, bytes] = {}


def share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Hydra list and merge files of `conf/` once for each combination of them; those of users it reads anew."""
    monkeypatch.setattr(config_loader_impl, "create_defaults_list", _shared_list)
    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", _shared_merge)


def _shared_list(
    repo: IConfigRepository, config_name: str | None, overrides_list: list[Override], prepend_hydra: bool,
    skip_missing: bool,
) -> DefaultsList:  # fmt: skip
    arguments = (repo, config_name, overrides_list, prepend_hydra, skip_missing)
    if not _is_ours(repo):
        return create_defaults_list(*arguments)
    keys = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
    groups = tuple(word.input_line for word in overrides_list if all(word is not key for key in keys))
    combination = (config_name, prepend_hydra, skip_missing, groups, str(device.devices()))
    if combination not in _lists:
        _lists[combination] = create_defaults_list(*arguments)
    return replace(_lists[combination], config_overrides=keys)


def _shared_merge(loader: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
    if not _is_ours(repo):
        return _merge(loader, defaults, repo)
    combination = str(defaults)
    if combination not in _merged:
        _merged[combination] = pickle.dumps(_merge(loader, defaults, repo))
    node = pickle.loads(_merged[combination])
    assert isinstance(node, DictConfig)
    return node


def _is_ours(repo: IConfigRepository) -> bool:
    """Whether all files come from `conf/`, which no test changes."""
    sources = {source.provider: source.path for source in repo.get_sources()}
    return sources.keys() == {"hydra", "main", "schema"} and sources["main"] == str(CONF)
