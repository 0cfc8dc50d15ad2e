"""Processor time, KV cache, preemptions and accepted drafts over the window."""

import pytest

from objectives import Estimate, Measurement
from objectives.usage import AcceptedPerDraft, CpuUse, DraftAcceptance, KvCacheUse, Preemptions


def _measured(name: str, values: list[float], start_s: float = 10.0) -> Measurement:
    """A sample before the window, one per second from its start on, and one after it."""
    inside = [(start_s + i, v) for i, v in enumerate(values)]
    return Measurement([], 10.0, 20.0, {}, {name: [(9.0, 77.0), *inside, (21.0, 99.0)]})


def test_cores_are_averaged_over_the_window() -> None:
    estimate = CpuUse().estimate(_measured("cpu_cores", [1.0, 1.0, 2.0, 2.0]))
    assert estimate is not None
    assert (estimate.value, estimate.n) == pytest.approx((1.5, 4))
    assert estimate.unit == "cores"
    assert estimate.low < 1.5 < estimate.high


def test_kv_cache_use_is_its_peak() -> None:
    assert KvCacheUse().estimate(_measured("kv_cache_use", [0.1, 0.7, 0.3])) == Estimate(0.7, 0.7, 0.7, 3, "share")


def test_preemptions_are_those_of_the_window_not_of_the_engines_life() -> None:
    estimate = Preemptions().estimate(_measured("preemptions", [40.0, 40.0, 43.0]))
    assert estimate == Estimate(3.0, 3.0, 3.0, 3, "requests")


def test_accepted_drafts_are_those_of_the_window() -> None:
    drafts, accepted = (_measured(n, v).series[n] for n, v in (("d", [50.0, 150.0]), ("a", [9.0, 69.0])))
    times = _measured("n", [4.0, 34.0]).series["n"]
    measured = Measurement(
        [], 10.0, 20.0, {}, {"draft_tokens": drafts, "accepted_tokens": accepted, "drafts": times}
    )  # fmt: skip
    assert DraftAcceptance().estimate(measured) == Estimate(0.6, 0.6, 0.6, 100, "share")
    assert AcceptedPerDraft().estimate(measured) == Estimate(2.0, 2.0, 2.0, 30, "tokens")
    nothing_proposed = Measurement([], 10.0, 20.0, {}, {"draft_tokens": accepted[:2], "accepted_tokens": drafts[:2]})
    assert DraftAcceptance().estimate(nothing_proposed) is None
    assert AcceptedPerDraft().estimate(nothing_proposed) is None


@pytest.mark.parametrize("objective", [CpuUse(), KvCacheUse(), Preemptions(), DraftAcceptance(), AcceptedPerDraft()])
def test_without_telemetry_there_is_no_figure(
    objective: CpuUse | KvCacheUse | Preemptions | DraftAcceptance | AcceptedPerDraft,
) -> None:
    assert objective.estimate(_measured("something_else", [1.0])) is None
