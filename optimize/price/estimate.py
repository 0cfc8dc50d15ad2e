"""The cost of a row's throughput on rented machines: prices are inputs, and estimates are marked as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from objectives import Estimate
from objectives.cost import OutputTokenCost, RequestCost, check_price, cost_per
from objectives.throughput import OutputTokenRate
from optimize.config.deploy import Hardware
from optimize.errors import ConfigError
from optimize.formatting import figure, markdown_line, span
from optimize.study.capacity import CAPACITY, capacity_in_words, figures_of_engines
from optimize.study.rows import StudyRow

TOKENS, REQUESTS, AT_SLO = "output_tokens_per_s", "qps", "output_tokens_per_s_at_slo"
MEASURED, UNKNOWN = "measured on this machine", "estimate: assumes the measured throughput"
_AT_SLO_MEANS = (
    " At the SLO: at the measured capacity, the largest load at which the service-level objective holds, with answers "
    "as long as under the study's own load."
)
_EVIDENCE = {
    True: "Means of rounds with 95 % prediction intervals: where one further measurement would fall.",
    False: "A single measurement with its 95 % confidence interval.",
}


@dataclass(frozen=True)
class Line:
    """The cost of a row's throughput on one machine.

    Attributes:
        hardware: The machine; its price is an input.
        factor: Its throughput as a multiple of the measured one.
        basis: MEASURED, or "estimate: " and its assumption.
        tokens: USD per million output tokens; None if that throughput was not measured.
        requests: USD per thousand requests.
        at_slo: USD per million output tokens at the row's capacity, the largest load at which it keeps its
            service-level objective; None if that was not measured.
        capacity: Requests per second that such machines carry at that load on average.
    """

    hardware: Hardware
    factor: float
    basis: str
    tokens: Estimate | None
    requests: Estimate | None
    at_slo: Estimate | None = None
    capacity: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        costs = {
            "usd_per_million_tokens": self.tokens, "usd_per_thousand_requests": self.requests,
            "usd_per_million_tokens_at_slo": self.at_slo, CAPACITY: self.capacity,
        }  # fmt: skip
        return {
            "hardware": asdict(self.hardware), "factor": self.factor, "basis": self.basis,
            **{name: None if e is None else e.to_dict() for name, e in costs.items()},
        }  # fmt: skip


def check_prices(machines: Mapping[str, Hardware]) -> None:
    """Raise ConfigError for hardware that has no price."""
    for name, machine in machines.items():
        try:
            check_price(machine.hourly_usd)
        except ValueError as error:
            raise ConfigError(f"instances.{name}: {error}") from error


def price_lines(row: StudyRow, machines: Mapping[str, Hardware], factors: Mapping[str, float]) -> list[Line]:
    """The cost on each machine, the cheapest per token first.

    Args:
        row: The row.
        machines: Hardware name -> hardware with a price.
        factors: Hardware name -> its throughput as a multiple of the measured machine's, if known.
    """
    measured_on, measured = machines.get(row.hardware), _rates(row)
    lines = []
    for name, machine in machines.items():
        factor, basis = throughput_factor(name, machine, row.hardware, measured_on, factors)
        if basis == UNKNOWN:
            basis = f"{UNKNOWN}, unchanged; price.factors.{name} sets another"
        rates = {metric: _scaled(rate, factor) for metric, rate in measured.items()}
        lines.append(
            Line(
                machine, factor, basis, _cost(rates.get(TOKENS), 1e6, machine, OutputTokenCost.unit),
                _cost(rates.get(REQUESTS), 1e3, machine, RequestCost.unit),
                _cost(rates.get(AT_SLO), 1e6, machine, OutputTokenCost.unit), rates.get(CAPACITY),
            )
        )  # fmt: skip
    return sorted(lines, key=lambda line: line.tokens.value if line.tokens else line.hardware.hourly_usd or 0.0)


def throughput_factor(
    name: str, machine: Hardware, measured_name: str, measured_on: Hardware | None, factors: Mapping[str, float]
) -> tuple[float, str]:
    """(throughput of a machine as a multiple of the measured one's, the assumption behind it).

    Args:
        name: Name of the machine.
        machine: The machine.
        measured_name: Name of the hardware that was measured.
        measured_on: That hardware; None where nothing is known of it.
        factors: Hardware name -> its throughput as a multiple of the measured machine's, if known.
    """
    if name == measured_name:
        return 1.0, MEASURED
    if name in factors:
        return factors[name], f"estimate: assumes {factors[name]:g}× the measured throughput (price.factors.{name})"
    if measured_on is not None and (here := _bandwidth(measured_on)) and (there := _bandwidth(machine)):
        return there / here, (
            f"estimate: assumes throughput in proportion to memory bandwidth ({there:g} over {here:g} GB/s), "
            "one engine per accelerator, enough load for all"
        )
    return 1.0, UNKNOWN


def _bandwidth(machine: Hardware) -> float:
    return machine.accelerators * (machine.memory_gb_per_s or 0.0)


def _rates(row: StudyRow) -> dict[str, Estimate]:
    """The row's measured rates, and its output tokens per second at its capacity, by name."""
    estimates = row.candidate.estimates
    rates = {name: estimates[name] for name in (TOKENS, REQUESTS) if name in estimates}
    capacity = estimates.get(CAPACITY)
    if capacity is None:
        return rates
    length = tokens_per_request(row)
    at_slo = {} if length is None else {AT_SLO: replace(_scaled(capacity, length), unit=OutputTokenRate.unit)}
    return {**rates, CAPACITY: figures_of_engines(row.candidate)[CAPACITY], **at_slo}


def tokens_per_request(row: StudyRow) -> float | None:
    """Mean output tokens of a request under the study's load; None where they were not measured."""
    tokens, requests = (row.candidate.estimates.get(name) for name in (TOKENS, REQUESTS))
    if tokens is None or requests is None or requests.value <= 0:
        return None
    return tokens.value / requests.value


def _scaled(rate: Estimate, factor: float) -> Estimate:
    return Estimate(rate.value * factor, rate.low * factor, rate.high * factor, rate.n, rate.unit)


def _cost(rate: Estimate | None, count: float, machine: Hardware, unit: str) -> Estimate | None:
    if rate is None or machine.hourly_usd is None:
        return None
    return cost_per(count, rate, machine.hourly_usd, unit)


def to_markdown(study_row: StudyRow, lines: Sequence[Line]) -> str:
    """The measured throughput first; prices, which are inputs, and the costs that follow from them apart."""
    row, estimates = study_row.row, study_row.candidate.estimates
    measured = [f"- {name}: {figure(estimates[name])}" for name in (TOKENS, REQUESTS) if name in estimates]
    measured += [f"- {CAPACITY}: {capacity_in_words(estimates[CAPACITY])}"] if CAPACITY in estimates else []
    conditions = (
        f"Machine: {row.signature['machine']}; engine: {row.signature['engine']}; model: {row.signature['model']}; "
        f"load: {row.signature['load']}. {_EVIDENCE[bool(row.recommendation.rounds)]}"
    )
    parts = [
        f"## Measured throughput: study `{row.study}`, trial {study_row.candidate.number}, {row.date}", "", conditions,
        "", *measured, "", "## Prices are inputs, and costs follow from them", "",
        "≈ marks estimates; the last column names their assumption. Intervals are those of the measured throughput "
        f"alone: they do not cover the assumption.{_AT_SLO_MEANS if any(line.at_slo for line in lines) else ''}",
        "", *_table(lines), "", "Sources of the prices:", "", *(_source(line.hardware) for line in lines),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _table(lines: Sequence[Line]) -> list[str]:
    costs = {"USD per 1M output tokens": "tokens", "USD per 1k requests": "requests"}
    if any(line.at_slo for line in lines):
        costs["USD per 1M output tokens at the SLO"] = "at_slo"
    head = ["machine", "instance", "region", "accelerators", "USD/hour (input)", *costs, "basis"]
    rows = [_row(line, list(costs.values())) for line in lines]
    return [markdown_line(row) for row in (head, ["---"] * len(head), *rows)]


def _row(line: Line, costs: Sequence[str]) -> list[str]:
    h, mark = line.hardware, "" if line.basis == MEASURED else "≈ "
    count = f"{h.accelerators} × {h.accelerator}" if h.accelerators else "–"
    dollars = [f"{mark}{_dollars(getattr(line, cost))}" for cost in costs]
    return [h.name, h.instance or "–", h.region or "–", count, f"{h.hourly_usd:g}", *dollars, line.basis]


def _source(h: Hardware) -> str:
    note = f"; {h.price_note}" if h.price_note else ""
    return f"- {h.name}: {h.price_source or 'set on the command line'}, {h.price_date or 'no date'}{note}"


def _dollars(cost: Estimate | None) -> str:
    return "–" if cost is None else f"{cost.value:.3g} ({span(f'{cost.low:.3g}', f'{cost.high:.3g}')})"
