"""How the set-up of a study differs from what it was. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_REMOVED = re.compile(r" window_look_s=[^,]+,")
"""A setting of earlier versions, which ended windows early: no figure of a whole window depends on it."""


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How two flat mappings differ, one readable line per key."""
    lines = []
    for key in sorted({*old, *new}):
        before, after = current(old.get(key)), new.get(key)
        if before != after:
            lines.append(f"{key}: was {_shown(before)}, is {_shown(after)}")
    return lines


def current(value: Any) -> Any:
    """A condition that an earlier version wrote, without settings that no longer exist."""
    return _REMOVED.sub("", value) if isinstance(value, str) else value


def _shown(value: Any) -> str:
    return "absent" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
