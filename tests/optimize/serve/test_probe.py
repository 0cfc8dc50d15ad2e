from optimize.serve.probe import Silence


def test_an_engine_that_stands_still_has_failed_after_enough_probes() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    assert silence.add(0.0, 2.0, cpu_s=5.0, stopped=True) is None
    found = silence.add(2.5, 4.5, cpu_s=5.0, stopped=True)
    assert found is not None and "2 probes in 4.5 s" in found and "stopped" in found


def test_an_engine_that_does_not_compute_has_failed_too() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    silence.add(0.0, 2.0, cpu_s=5.0, stopped=False)
    found = silence.add(2.5, 4.5, cpu_s=5.1, stopped=False)
    assert found is not None and "does not compute" in found


def test_one_that_computes_is_overloaded_until_the_longest_silence() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    for second in range(0, 58, 2):
        assert silence.add(second, second + 2, cpu_s=second * 1.5, stopped=False) is None
    found = silence.add(58, 60, cpu_s=90, stopped=False)
    assert found is not None and "60 s" in found


def test_an_answer_ends_the_silence() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    silence.add(0.0, 2.0, cpu_s=5.0, stopped=True)
    silence.reset()
    assert silence.add(10.0, 12.0, cpu_s=5.0, stopped=True) is None
