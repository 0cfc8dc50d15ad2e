"""A table measured on live engines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.live.engines import SHARED, LiveEngines
from tests.live.fixtures import BELIEVE, CACHE

pytestmark = pytest.mark.live


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_table_of_batch_sizes_with_perplexity(
    optimize: Run, live_engines: LiveEngines, empty_mlflow_db: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    options = [
        "tables.batch_size=[1,8]", "repeats=2", "load.iterations.warmup=1", "load.iterations.measured=3",
        "+metrics.perplexity={_target_: objectives.quality.Perplexity, rows: 20}", "load.arrivals.users=4",
    ]  # fmt: skip
    words = ["batch_size", "+study=smoke", f"output_dir={tmp_path}", CACHE, *BELIEVE, *options, *SHARED]
    live_engines.stop()
    done = optimize(words, verb="optimize.tables")
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("studies/*/report/table.json")
    one, eight = json.loads(report.read_text())["rows"]
    # At a batch size of one, four users queue for each other on a machine of any speed: most of the time passes
    # before its first token. At a batch size of eight they run together.
    first, together = (row["ttft_p50_s"] / row["p50_latency_s"] for row in (one, eight))
    assert first > 0.5 and first > together
    assert eight["qps.change"] > 0
    assert 1 < one["perplexity"] < 1.5 and one["perplexity"] == eight["perplexity"]
    assert eight["bleu.difference.low"] <= 0 <= eight["bleu.difference.high"]  # batches change no answers
