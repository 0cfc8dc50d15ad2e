"""The trace in Azure's form: the same bytes for a seed, the published medians, and arrivals in bursts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demo.traffic.azure import ANSWER, PROMPT, lines
from optimize.load.trace import Trace


def test_the_trace_is_read_and_has_the_published_medians_and_bursts(tmp_path: Path) -> None:
    text = "\n".join(lines(7, 30.0, 4.0, 1.0))
    assert text == "\n".join(lines(7, 30.0, 4.0, 1.0)) != "\n".join(lines(8, 30.0, 4.0, 1.0))
    path = tmp_path / "azure.csv"
    path.write_text(text)
    trace = Trace(str(path))
    prompts, answers = (np.array(column) for column in zip(*trace.lengths, strict=True))
    assert trace.recording.form.name == "azure" and trace.duration_s == pytest.approx(1800, rel=0.02)
    assert np.median(prompts) == pytest.approx(PROMPT, rel=0.05)
    assert np.median(answers) == pytest.approx(ANSWER, rel=0.07)
    assert len(trace.lengths) == pytest.approx(30 * 60 * 4, rel=0.06)
    gaps = np.diff(trace.requests.offsets_s)
    assert gaps.std() / gaps.mean() > 1.4


def test_lengths_are_divided_for_a_small_machine() -> None:
    prompts = [int(line.split(",")[1]) for line in list(lines(7, 30.0, 1.0, 8.0))[1:]]
    assert np.median(prompts) == pytest.approx(PROMPT / 8, rel=0.07)
