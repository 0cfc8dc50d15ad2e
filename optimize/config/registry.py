"""What Hydra composes beside the files of `conf/`: the schema, and the contents of `conf/catalogue.yaml`.

The files that the catalogue lists could be lines of the defaults in `conf/config.yaml`, as a group's choice is. Hydra
merges such files one by one into a configuration that grows, and these 53 took half of the time of a composition.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from optimize.config import device
from optimize.config.locations import CONF
from optimize.config.schema import StudyConfig


@cache
def register() -> None:
    """Make known to Hydra what `conf/config.yaml` starts from, and the interpolations of the files."""
    device.register()
    ConfigStore.instance().store(name="schema", node=StudyConfig)
    ConfigStore.instance().store(name="contents", node=_contents())


def _contents() -> dict[str, Any]:
    """What `conf/catalogue.yaml` lists, by name; interpolations stay as written."""
    names = OmegaConf.load(CONF / "catalogue.yaml")
    metrics: dict[Any, Any] = {}
    for name in names.metrics:
        metrics |= _file("objectives", name)
    return {
        "recipes": {name: _file("quantization", name) for name in names.recipes},
        "instances": {name: _file("hardware", name) for name in names.instances},
        "metrics": metrics,
    }


def _file(group: str, name: str) -> dict[Any, Any]:
    content = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    assert isinstance(content, dict)
    return content
