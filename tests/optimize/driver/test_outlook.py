"""What is said, before any engine starts, of how long a profile of its own length will take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.driver.outlook import outlook
from optimize.errors import ConfigError
from optimize.load.arrivals import ClosedLoop, Poisson, Ramp, Trace
from optimize.traces.stretch import Part
from tests.overrides import changed


def _hour(folder: Path, part: Part = None, every_s: float = 3.0, speed: float = 1.0) -> Trace:
    """57 minutes, the last of them with ten times as many requests."""
    path = folder / "hour.jsonl"
    if not path.exists():
        calm = [every_s * row for row in range(int(3360 / every_s))]
        busy = [3360 + every_s / 10 * row for row in range(int(600 / every_s))]
        path.write_text("\n".join(json.dumps({"offset_s": second}) for second in [*calm, *busy]))
    return Trace(str(path), part=part, speed=speed)


def test_a_study_on_a_recorded_hour_is_refused_with_its_length_and_the_busiest_minutes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        outlook(changed(), _hour(tmp_path), 25, 12)
    message = str(refusal.value)
    assert "a measurement takes 57 min, the 25 and 12 to confirm of this run at least 35.2 h" in message
    assert "load.arrivals.part=busiest:3min (240 requests) takes at least 111 min" in message
    assert message.endswith("load.arrivals.part=all replays the whole all the same") and "\n" not in message


def test_whoever_asks_for_the_whole_is_told_how_long_it_takes(tmp_path: Path) -> None:
    line = outlook(changed(), _hour(tmp_path, "all"), 25, 12)
    assert "at least 35.2 h; load.arrivals.part=busiest:3min" in line


def test_a_stretch_is_asked_for_and_its_length_told(tmp_path: Path) -> None:
    line = outlook(changed(), _hour(tmp_path, "busiest:30min"), 25, 12)
    assert (
        "a measurement takes 30 min, the 25 and 12 to confirm of this run at least 18.5 h" in line
        and "busiest:3min" not in line
    )
    assert outlook(changed(), _hour(tmp_path, [0.0, 60.0]), 20) == ""


def test_a_time_budget_in_which_no_trial_would_begin_is_refused(tmp_path: Path) -> None:
    config = changed("study.minutes=50")
    with pytest.raises(
        ConfigError, match=r"no trial beside the first would begin within study.minutes=50: .*busiest:1"
    ):
        outlook(config, _hour(tmp_path), 25, 12)
    assert "busiest" in outlook(config, _hour(tmp_path, "all"), 25, 12)
    line = outlook(changed("study.minutes=180"), _hour(tmp_path), 25, 12)
    assert "about 4 of these trials begin within study.minutes=180" in line


def test_what_is_offered_holds_enough_answers_for_a_window(tmp_path: Path) -> None:
    config = changed("load.window_requests=500")
    with pytest.raises(ConfigError, match=r"busiest:20min \(580 requests\) takes at least 12.3 h"):
        outlook(config, _hour(tmp_path), 25, 12)
    with pytest.raises(ConfigError, match=r"busiest:3min \(240 requests\) takes at least 111 min"):
        outlook(changed(), _hour(tmp_path, speed=2.0), 25, 12 + 37)


def test_what_is_done_is_not_told_again(tmp_path: Path) -> None:
    assert "the 1 of this run at least 57 min" in outlook(changed(), _hour(tmp_path), 1)
    assert outlook(changed(), _hour(tmp_path), 0) == ""


def test_of_other_profiles_only_the_length_is_told() -> None:
    assert outlook(changed(), ClosedLoop(), 25, 12) == "" == outlook(changed(), Ramp(), 25, 12)
    assert outlook(changed(), Ramp(ramp_s=3600.0), 25, 12).endswith("at least 37.0 h")


def test_of_searches_for_a_capacity_the_longest_is_told() -> None:
    config = changed("load.capacity.search=true", "load.capacity.load_max_s=90")
    assert outlook(config, Poisson(1.0), 13, 9) == (
        "a search for a capacity takes up to 90 s of load (load.capacity.load_max_s), the 13 and 9 to confirm of this "
        "run up to 33 min"
    )
