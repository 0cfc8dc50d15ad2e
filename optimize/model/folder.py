"""The folder of a checkpoint that this project makes: whether it is complete, and what becomes of a damaged one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optimize.entries import MARK, hold, is_marked, mark, release, remove
from optimize.errors import OptimizeError, one_line
from optimize.files import write_atomically
from optimize.model.manifest import MANIFEST, damage, read_manifest

_KEEP = "KEEP"
"""Name of the file, without a suffix that would make it part of a model's hash."""
_EARLIER = ({"recipe", "recipe_text", "model_hash"}, {"random", "parameters"})
"""Keys of the manifests of earlier versions, which did not mark their folders."""


def is_missing(folder: Path, say: Callable[[str], None]) -> bool:
    """Whether a checkpoint must be made. A complete one is held; a damaged one is removed, so that nothing serves it.

    Raises:
        OptimizeError: what lies there is damaged, and not this project's to remove or in use.
    """
    hold(folder)  # first: nobody removes it between the check and its use
    reason = damage(folder)
    if reason is None:
        if not is_own(folder):  # a link, or somebody's files beside ours: served, and never removed
            return False
        mark(folder)  # those of earlier versions have no mark
        return not hold(folder)
    if folder.exists() or folder.is_symlink():
        _discard(folder)
        say(f"checkpoint {folder.name} is damaged ({reason}): it is made again")
    return True


def is_own(folder: Path) -> bool:
    """Whether a checkpoint is this project's alone: marked, or by its manifest of an earlier version, and without files
    that somebody has added.
    """
    try:
        facts = read_manifest(folder)
        files = {*facts["files"], MANIFEST, MARK}
        names = {path.name for path in folder.iterdir()}
    except (OSError, ValueError, KeyError, TypeError):
        return is_marked(folder)
    marked = is_marked(folder) or any(facts.keys() >= keys for keys in _EARLIER)
    return marked and names <= files and not folder.is_symlink()


def keep(folder: Path, reason: str) -> None:
    """Keep the cache from removing a checkpoint of this project, by a file that says why; others are left alone."""
    if is_own(folder):
        text = f"{reason}: `python -m optimize` does not remove this folder while this file is in it.\n"
        write_atomically(folder / _KEEP, text)


def _discard(folder: Path) -> None:
    try:
        if own := is_own(folder):
            mark(folder)
            release(folder)
            remove(folder)
    except BlockingIOError:
        raise OptimizeError(
            f"checkpoint {folder} is damaged, and another process uses it: end that one first"
        ) from None
    except OSError as error:
        raise OptimizeError(f"checkpoint {folder} is damaged and cannot be removed ({one_line(error)})") from error
    if not own:
        raise OptimizeError(
            f"checkpoint {folder} is damaged and holds files that are not this project's: move it away, or remove it"
        )
