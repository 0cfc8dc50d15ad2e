"""Figures as text."""

import math
import re

import pytest

from objectives import Direction, Estimate
from optimize.formatting import (
    change_of,
    figure,
    interval_of,
    markdown_line,
    percentage,
    ratio,
    shown_settings,
    title_of,
    value_of,
    versus_default,
)


def _figure(value: float, low: float, high: float, unit: str) -> str:
    return figure(Estimate(value, low, high, 10, unit))


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "text"),
    [
        # Two digits of the interval's width.
        (97.13, 96.8, 97.46, "1/s", "97.13 (96.80–97.46) requests/s"),
        (97.13, 94.2, 100.1, "1/s", "97.1 (94.2–100.1) requests/s"),
        (971.3, 912.0, 1030.0, "1/s", "971 (912–1030) requests/s"),
        # Exact values keep three digits.
        (3.0, 3.0, 3.0, "requests", "3.00 requests"),
        (1234.5, 1234.5, 1234.5, "1/s", "1234 requests/s"),
        (0.0, 0.0, 0.0, "share", "0 %"),
        (0.0041, 0.0, 0.012, "share", "0.4 (0.0–1.2) %"),
        # Units people read.
        (0.2513, 0.2401, 0.2633, "s", "251 (240–263) ms"),
        (1.5, 1.5, 1.5, "s", "1.50 s"),
        (0.00042, 0.00042, 0.00042, "s", "420 µs"),
        (6.5 * 2**20, 6.5 * 2**20, 6.5 * 2**20, "bytes", "6.50 MiB"),
        (16 * 2**30, 15.75 * 2**30, 16.25 * 2**30, "bytes", "16.00 (15.75–16.25) GiB"),
        (512.0, 512.0, 512.0, "bytes", "512 bytes"),
        (93.71, 92.6, 94.9, "BLEU", "93.7 (92.6–94.9)"),
        (2.0, 2.0, 2.0, "x", "2.00×"),
        (2.0, 1.9, 2.1, "x", "2.00× (1.90–2.10)"),
        (0.1, -0.5, 0.7, "BLEU", "0.1 (-0.5 to 0.7)"),
        # An interval that three digits of the value do not show is none.
        (10.25, 10.2499, 10.2501, "s", "10.2 s"),
    ],
)
def test_figures_read_as_people_write_them(value: float, low: float, high: float, unit: str, text: str) -> None:
    assert _figure(value, low, high, unit) == text


def test_a_variable_without_a_value_is_unset() -> None:
    settings = {"env.VLLM_CPU_NUM_OF_RESERVED_CPU": None, "top_p": 0.5, "batch_size": 8}
    assert shown_settings(settings) == "env.VLLM_CPU_NUM_OF_RESERVED_CPU=unset top_p=0.5 batch_size=8"


def test_no_scale_below_the_smallest_and_no_endless_decimals() -> None:
    assert _figure(0.0, 0.0, 0.0, "s") == "0 s"
    assert len(_figure(1 / 3, 1 / 3 - 1e-12, 1 / 3 + 1e-12, "share")) < 40


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_infinite_and_missing_values_can_be_printed(value: float) -> None:
    assert str(value) in _figure(value, value, value, "1/s")


def test_printed_interval_contains_the_printed_value() -> None:
    for exponent in range(-6, 12):
        value = 1.2345 * 10.0**exponent
        text = _figure(value, 0.9 * value, 1.2 * value, "1/s")
        shown, low, high = map(float, re.findall(r"[\d.]+", text)[:3])
        assert low <= shown <= high


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("qps", "QPS"), ("p99_latency_s", "P99 latency"), ("memory_bytes", "Memory"), ("bleu", "BLEU"),
        ("ttft_p50_s", "TTFT P50"), ("output_tokens_per_s", "Output tokens"), ("error_rate", "Error rate"),
    ],
)  # fmt: skip
def test_names_for_people(name: str, title: str) -> None:
    assert title_of(name) == title


def test_value_and_interval_apart() -> None:
    rate = Estimate(97.1, 94.2, 100.1, 10, "1/s")
    assert (value_of(rate), interval_of(rate)) == ("97.1 requests/s", "94.2–100.1 requests/s")
    factor = Estimate(2.04, 1.89, 2.21, 10, "x")
    assert (value_of(factor), interval_of(factor)) == ("2.04×", "1.89–2.21×")
    assert interval_of(Estimate(3.0, 3.0, 3.0, 10, "x")) == "no measurable spread"


def test_ratios_to_the_default_name_their_confidence_interval() -> None:
    gain = Estimate(2.04, 1.89, 2.21, 10, "")
    assert versus_default(gain) == "2.04× the default (95 % CI 1.89–2.21)"
    assert versus_default(gain, "") == "2.04× (95 % CI 1.89–2.21)"
    assert versus_default(Estimate(1.0, 1.0, 1.0, 10, "x")) == "1.00× the default"
    assert ratio(gain) == "2.04× (1.89–2.21)"


def test_a_gain_in_latency_reads_as_less_of_it() -> None:
    gain = Estimate(2.0, 1.6, 2.5, 10, "x")
    assert change_of(gain, Direction.MAXIMIZE) is gain
    change = change_of(gain, Direction.MINIMIZE)
    assert (change.value, change.low, change.high) == pytest.approx((0.5, 0.4, 0.625))
    no_ratio = Estimate(0.0, 0.0, 0.0, 0, "x")
    assert change_of(no_ratio, Direction.MINIMIZE) is no_ratio


def test_shares_in_percent() -> None:
    assert percentage(0.612, 0.55, 0.668) == "61 % (55–67 %)"


def test_bars_and_line_breaks_do_not_end_a_cell() -> None:
    assert markdown_line(["a|b", "c\nd", r"e\|f"]) == r"| a\|b | c d | e\|f |"
