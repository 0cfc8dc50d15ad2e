from optimize.serve.probe import Silence


def test_a_stopped_engine_has_failed_after_the_allowed_probes() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    assert silence.add(0.0, 2.0, cpu_s=5.0, stopped=True) is None
    reason = silence.add(2.5, 4.5, cpu_s=5.0, stopped=True)
    assert reason is not None and "2 probes in 4.5 s" in reason and "stopped" in reason


def test_an_idle_engine_that_answers_no_probe_has_failed() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    silence.add(0.0, 2.0, cpu_s=5.0, stopped=False)
    reason = silence.add(2.5, 4.5, cpu_s=5.1, stopped=False)
    assert reason is not None and "does not compute" in reason


def test_a_computing_engine_is_overloaded_until_the_longest_silence() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    for second in range(0, 58, 2):
        assert silence.add(second, second + 2, cpu_s=second * 1.5, stopped=False) is None
    reason = silence.add(58, 60, cpu_s=90, stopped=False)
    assert reason is not None and "60 s" in reason


def test_an_answer_ends_the_silence() -> None:
    silence = Silence(probes_max=2, longest_s=60)
    silence.add(0.0, 2.0, cpu_s=5.0, stopped=True)
    silence.reset()
    assert silence.add(10.0, 12.0, cpu_s=5.0, stopped=True) is None
