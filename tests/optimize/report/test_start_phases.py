"""The phases of the engines' starts in a report."""

from optimize.ledger import TrialRecord
from optimize.outcome import Role
from optimize.report.time_spent import start_phases_s


def _record(**seconds: float) -> TrialRecord:
    record = TrialRecord(study="s", number=0, role=Role.SEARCH, params={}, config={}, signature={})
    record.seconds = {"engine_start": 1.0, **{f"engine_start.{name}": value for name, value in seconds.items()}}
    return record


def test_each_phase_has_its_median_over_the_starts_that_went_through_it() -> None:
    records = [_record(loading_weights=1.0, compiling=50.0), _record(loading_weights=3.0), _record()]
    assert start_phases_s(records) == {"loading weights": 2.0, "compiling": 50.0}
    assert start_phases_s([_record()]) == {}
