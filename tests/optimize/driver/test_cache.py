"""The start of a study bounds the cache, and says what that costs."""

from __future__ import annotations

from pathlib import Path

from optimize.config.compose import configuration
from optimize.driver.run import bound_cache
from optimize.entries import claim, release


def test_a_study_names_what_it_evicts_and_touches_nothing_else(tmp_path: Path) -> None:
    used, unused = claim(tmp_path / "checkpoints" / "used"), claim(tmp_path / "checkpoints" / "unused")
    release(unused)
    finetune = tmp_path / "checkpoints" / "my-finetune.pt"
    finetune.write_bytes(b"weights")
    messages: list[str] = []
    bound_cache(configuration(["+study=chat", f"cache_dir={tmp_path}", "cache_max_gib=0"]), messages.append)
    release(used)
    assert len(messages) == 1 and messages[0].startswith(
        "cache_max_gib=0: removed checkpoints unused, 0.00 GiB, last used "
    )
    assert used.is_dir() and finetune.read_bytes() == b"weights" and not unused.exists()


def test_small_entries_are_held_for_the_study(tmp_path: Path) -> None:
    tokens = claim(tmp_path / "tokens" / "counts")
    release(tokens)
    bound_cache(configuration(["+study=chat", f"cache_dir={tmp_path}", "cache_max_gib=0"]), lambda _: None)
    assert tokens.is_dir()
    release(tokens)
