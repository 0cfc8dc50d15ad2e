"""The table of costs: measured figures apart from prices, estimates with their assumption."""

import pytest

from optimize.config.deploy import Hardware
from optimize.errors import ConfigError
from optimize.price.estimate import MEASURED, check_prices, price_lines, to_markdown
from tests.optimize.rows import study_row


def _machine(name: str, usd: float | None, count: int = 1, bandwidth: float | None = 100.0) -> Hardware:
    return Hardware(
        name,
        accelerators=count,
        memory_gb_per_s=bandwidth,
        hourly_usd=usd,
        price_source="a page",
        price_date="2026-01-01",
    )


MACHINES = {m.name: m for m in (_machine("here", 3.6), _machine("double", 3.6, 2), _machine("unknown", 7.2, 1, None))}


def _by_name(hardware: str, factors: dict[str, float] | None = None) -> dict[str, tuple[str, float]]:
    lines = price_lines(study_row(hardware=hardware), MACHINES, factors or {})
    return {line.hardware.name: (line.basis, line.requests.value if line.requests else 0.0) for line in lines}


def test_only_the_measured_machine_is_no_estimate_and_the_others_name_their_assumption() -> None:
    result = _by_name("here")
    assert result["here"][0] == MEASURED and result["here"][1] == pytest.approx(0.1)  # ten requests a second
    assert result["double"][1] == pytest.approx(0.05) and "memory bandwidth (200 over 100 GB/s)" in result["double"][0]
    assert (
        result["unknown"][1] == pytest.approx(0.2)
        and "assumes the measured throughput, unchanged; price.factors.unknown sets another" in result["unknown"][0]
    )


def test_a_factor_of_the_user_is_named() -> None:
    basis, cost = _by_name("here", {"double": 4.0})["double"]
    assert basis.startswith("estimate: assumes 4× ") and cost == pytest.approx(0.025)


def test_on_other_hardware_every_cost_is_an_estimate() -> None:
    assert all(basis.startswith("estimate: ") for basis, _ in _by_name("auto").values())


def test_the_cheapest_comes_first_and_the_interval_follows_the_rate() -> None:
    lines = price_lines(study_row(hardware="here"), MACHINES, {})
    assert [line.hardware.name for line in lines] == ["double", "here", "unknown"]
    cost = lines[1].tokens
    assert cost is not None and cost.low < cost.value < cost.high


def test_markdown_keeps_measured_and_inputs_apart() -> None:
    text = to_markdown(study_row(hardware="here"), price_lines(study_row(hardware="here"), MACHINES, {}))
    measured, _, inputs = text.partition("## Prices are inputs")
    assert "qps: 10.0 (8.0–12.0) requests/s" in measured and "USD" not in measured
    rows = [line for line in inputs.splitlines() if line.startswith("| ")][2:]
    assert all(("≈" in row) == ("estimate: assumes" in row) for row in rows) and len(rows) == 3
    assert "a page, 2026-01-01" in inputs


@pytest.mark.parametrize(("price", "message"), [(-1, "^instances.a: hourly_usd must be "), (None, "got None")])
def test_hardware_without_a_price_is_refused(price: float | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_prices({"a": _machine("a", price)})
