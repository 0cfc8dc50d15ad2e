"""A table on live engines, as a user gets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.live.engines import SHARED, LiveEngines
from tests.live.fixtures import BELIEVE, CACHE

pytestmark = pytest.mark.live


@pytest.mark.timeout(300)
def test_a_table_of_batch_sizes_with_perplexity(optimize: Run, live_engines: LiveEngines, tmp_path: Path) -> None:
    options = [
        "tables.batch_size=[1,8]", "repeats=2", "load.iterations.warmup=2", "load.iterations.measured=10",
        "+metrics.perplexity={_target_: objectives.quality.Perplexity, rows: 20}", "load.arrivals.users=8",
    ]  # fmt: skip
    words = ["batch_size", "+study=smoke", f"output_dir={tmp_path}", CACHE, *BELIEVE, *options, *SHARED]
    live_engines.stop()
    done = optimize(words, verb="optimize.tables")
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("studies/*/report/table.json")
    one, eight = json.loads(report.read_text())["rows"]
    assert eight["qps.change"] > 1.5  # eight users queue for each other at a batch size of one
    assert 1 < one["perplexity"] < 1.5 and one["perplexity"] == eight["perplexity"]
    assert eight["bleu.difference.low"] <= 0 <= eight["bleu.difference.high"]  # batches change no answers
