"""A reading is made again only once more trials are complete."""

import optuna
from optuna.distributions import IntDistribution

from optimize.study.trials import memoized


def test_a_memoized_reading_is_computed_once_per_completed_trial_and_study() -> None:
    read: list[str] = []

    @memoized
    def names(study: optuna.Study) -> int:
        read.append(study.study_name)
        return len(study.get_trials())

    one, two = optuna.create_study(study_name="one"), optuna.create_study(study_name="two")
    assert [names(one), names(one), names(two)] == [0, 0, 0] and read == ["one", "two"]
    trial = one.ask({"x": IntDistribution(0, 9)})
    assert names(one) == 0, "one that runs changes nothing"
    one.tell(trial, 1.0)
    assert names(one) == 1 and names(one) == 1 and names(two) == 0
    assert read == ["one", "two", "one"]
