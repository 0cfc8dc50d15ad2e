from objectives import RequestRecord
from optimize.certify.recovery import baseline_of, harm, is_steady, recovered_s

NORMAL_S, LATE_S = 0.1, 1.0


def request(due_s: float, latency_s: float = NORMAL_S, error: str | None = None) -> RequestRecord:
    return RequestRecord(0, due_s, due_s, None, due_s + latency_s, 1, 1, "", error)


def load(until_s: float, late: tuple[float, float] = (0.0, 0.0), per_s: int = 10) -> list[RequestRecord]:
    """Evenly spaced requests, those due in `late` slow."""
    times = [k / per_s for k in range(int(until_s * per_s))]
    return [request(t, LATE_S if late[0] <= t < late[1] else NORMAL_S) for t in times]


def recovery(records: list[RequestRecord], known_until_s: float) -> float | None:
    return recovered_s(records, 10.0, known_until_s, limit_s=0.2, window_s=1.0, calm_s=2.0)


def test_the_baseline_covers_requests_due_in_its_window() -> None:
    baseline = baseline_of([*load(10), request(3.05, error="timeout")], 0, 10)
    assert (baseline.requests, baseline.errors, baseline.median_s) == (101, 1, 0.1) or abs(
        baseline.median_s - 0.1
    ) < 1e-9
    assert abs(baseline.limit_s(2.0) - 0.2) < 1e-9


def test_a_load_that_leaves_the_tolerance_without_a_fault_is_not_steady() -> None:
    def steady(records: list[RequestRecord]) -> bool:
        return is_steady(records, 0, 10, window_s=1.0, tolerance=2.0)

    assert steady(load(10)) and steady([])
    assert not steady(load(10, late=(5, 6)))
    assert not steady([*load(10), request(3.05, error="timeout")])
    assert steady([*load(10), request(10.5, latency_s=9.0)])  # due later


def test_p99_recovers_with_the_first_window_from_which_on_all_are_normal() -> None:
    recovery_s = recovery(load(30, late=(10, 13)), 30)
    assert recovery_s is not None and 2.75 <= recovery_s <= 3.25


def test_recovery_needs_a_complete_calm() -> None:
    records = load(30, late=(10, 13))
    assert recovery(records, 13.5) is None
    assert recovery(records, 15.5) is None
    assert recovery(records, 16.5) is not None


def test_a_relapse_within_the_calm_restarts_it() -> None:
    records = [*load(30, late=(10, 11)), request(12.55, LATE_S)]
    recovery_s = recovery(records, 30)
    assert recovery_s is not None and recovery_s >= 2.5


def test_a_fault_without_effect_recovers_in_no_time() -> None:
    assert recovery(load(30), 30) == 0


def test_a_failed_request_is_never_normal_however_fast() -> None:
    records = [*load(30), request(11.05, 0.01, "refused")]
    recovery_s = recovery(records, 30)
    assert recovery_s is not None and recovery_s > 1.0


def test_a_fault_without_end_has_not_recovered() -> None:
    assert recovery(load(30, late=(10, 30)), 30) is None


def test_harm_counts_requests_in_flight_or_due_until_the_recovery() -> None:
    records = [
        request(9.5, 0.2), request(9.8, 1.0), request(10.5, 0.1, "connection"), request(11.0, 3.0), request(12.0),
        request(20.0, 9.0),
    ]  # fmt: skip
    effect = harm(records, 10.0, 15.0, limit_s=0.2)
    assert (effect.requests, effect.lost, effect.delayed, effect.longest_s) == (4, {"connection": 1}, 2, 3.0)
    assert effect.who == "75% of requests"


def who(*records: RequestRecord) -> str:
    return harm(records, 10.0, 15.0, limit_s=0.2).who


def test_who_was_affected() -> None:
    fine, in_flight = request(12.0), request(9.9, 1.0)
    assert who(fine) == "nobody"
    assert who(fine, request(11.0, 1.0), *[request(12 + k / 10) for k in range(8)]) == "one request"
    assert who(fine, in_flight, request(9.95, 1.0)) == "one instance: 2 requests that it had in flight"
    assert who(in_flight, request(11.0, 1.0)) == "all"
