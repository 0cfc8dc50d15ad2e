"""What has changed in the set-up of a study is named, line by line."""

from optimize.study.fingerprint import difference
from optimize.study.signatures import differences


def test_difference_names_added_removed_and_changed_keys() -> None:
    assert difference({"a": "x", "b": 1, "c": 3}, {"a": "y", "c": 3, "d": [1]}) == [
        "a: was x, is y",
        "b: was 1, is absent",
        "d: was absent, is [1]",
    ]


def test_a_setting_that_no_longer_exists_is_no_difference() -> None:
    old = {"load": "closed loop, 4 users; window_max_s=8, window_look_s=2, drain_max_s=15"}
    new = {"load": "closed loop, 4 users; window_max_s=8, drain_max_s=15"}
    assert difference(old, new) == []
    assert differences([("a stored row", old), ("a row of today", new)]) == []
    assert difference(old, {"load": "closed loop, 4 users; window_max_s=9, drain_max_s=15"}) != []
