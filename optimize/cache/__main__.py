"""`python -m optimize.cache [clear [KIND ...]]`: list what studies share, or remove it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from optimize.cache.store import KINDS, entries, foreign, remove
from optimize.cli import run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError, closest

_GIB, _MIB, _DAY_S = 2**30, 2**20, 86400
_LISTED = 8


def _show(root: Path) -> int:
    listed = entries(root)
    for entry in reversed(listed):
        used = "now" if entry.in_use else f"{(time.time() - entry.used_at) / _DAY_S:.1f} days ago"
        print(f"{entry.kind:12} {entry.size_bytes / _MIB:10.1f} MiB  used {used:15} {entry.path.name}")
    total = sum(e.size_bytes for e in listed)
    print(f"{len(listed)} entries, {total / _GIB:.2f} GiB in {root}{_foreign(root, KINDS)}")
    print(f"remove: python -m optimize.cache clear [{'|'.join(KINDS)}]")
    return 0


def _clear(root: Path, kinds: Sequence[str]) -> int:
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"the cache holds no {kind!r}; {closest(kind, KINDS)}")
    result = remove([e for e in entries(root) if not kinds or e.kind in kinds])
    freed = sum(e.size_bytes for e in result.removed)
    in_use = f"; {len(result.in_use)} in use were kept" if result.in_use else ""
    failed = "".join(f"\ncould not remove {path} ({reason})" for path, reason in result.failed.items())
    print(f"{len(result.removed)} entries removed, {freed / _GIB:.2f} GiB freed in {root}{in_use}", end="")
    print(f"{_foreign(root, kinds or KINDS)}{failed}")
    return 1 if result.failed else 0


def _foreign(root: Path, kinds: Sequence[str]) -> str:
    """A line about what is not this project's, or of an earlier version; empty where there is nothing."""
    paths = [str(path.relative_to(root)) for path in foreign(root, kinds)]
    if not paths:
        return ""
    listed = ", ".join(paths[:_LISTED]) + (", ..." if len(paths) > _LISTED else "")
    return f"\nleft alone, without the mark of this version: {len(paths)} ({listed})"


def main() -> None:
    """Words are the action and its kinds; overrides such as cache_dir=... are left to Hydra."""
    words = [a for a in sys.argv[1:] if "=" not in a and not a.startswith(("-", "+", "~"))]
    sys.argv[1:] = [a for a in sys.argv[1:] if a not in words]

    def verb(config: StudyConfig, config_yaml: str) -> int:
        root = Path(config.cache_dir)
        match words:
            case [] | ["list"]:
                return _show(root)
            case ["clear", *kinds]:
                return _clear(root, kinds)
        raise ConfigError(f"unknown action {' '.join(words)!r}: use list, or clear with {', '.join(KINDS)} or nothing")

    run_verb(verb)


if __name__ == "__main__":
    main()
