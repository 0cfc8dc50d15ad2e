"""The cost of a row's throughput on rented machines: prices are inputs, and estimates are marked as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from objectives import Estimate
from objectives.cost import OutputTokenCost, RequestCost, check_price, cost_per
from optimize.config.deploy import Hardware
from optimize.errors import ConfigError
from optimize.formatting import figure, markdown_line, span
from optimize.study.rows import StudyRow

TOKENS, REQUESTS = "output_tokens_per_s", "qps"
MEASURED = "measured on this machine"
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
    """

    hardware: Hardware
    factor: float
    basis: str
    tokens: Estimate | None
    requests: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        costs = {"usd_per_million_tokens": self.tokens, "usd_per_thousand_requests": self.requests}
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
            raise ConfigError(f"{name}: {error}") from error


def price_lines(row: StudyRow, machines: Mapping[str, Hardware], factors: Mapping[str, float]) -> list[Line]:
    """The cost on each machine, the cheapest per token first.

    Args:
        row: The row.
        machines: Hardware name -> hardware with a price.
        factors: Hardware name -> its throughput as a multiple of the measured machine's, if known.
    """
    measured_on = machines.get(row.hardware)
    lines = []
    for name, machine in machines.items():
        factor, basis = _factor(name, machine, measured_on, row, factors)
        lines.append(
            Line(machine, factor, basis, _cost(row, TOKENS, 1e6, machine, factor, OutputTokenCost.unit),
                 _cost(row, REQUESTS, 1e3, machine, factor, RequestCost.unit))
        )  # fmt: skip
    return sorted(lines, key=lambda line: line.tokens.value if line.tokens else line.hardware.hourly_usd or 0.0)


def _factor(
    name: str, machine: Hardware, measured_on: Hardware | None, row: StudyRow, factors: Mapping[str, float]
) -> tuple[float, str]:
    if name == row.hardware:
        return 1.0, MEASURED
    if name in factors:
        return factors[name], f"estimate: assumes {factors[name]:g}× the measured throughput (price.factors.{name})"
    if measured_on is not None and (here := _bandwidth(measured_on)) and (there := _bandwidth(machine)):
        return there / here, (
            f"estimate: assumes throughput in proportion to memory bandwidth ({there:g} over {here:g} GB/s), "
            "one engine per accelerator, enough load for all"
        )
    return 1.0, (
        f"estimate: assumes the throughput measured on {row.row.signature['machine']}; set price.factors.{name} if you "
        "know this machine's"
    )


def _bandwidth(machine: Hardware) -> float:
    return machine.accelerators * (machine.memory_gb_per_s or 0.0)


def _cost(row: StudyRow, metric: str, count: float, machine: Hardware, factor: float, unit: str) -> Estimate | None:
    rate = row.candidate.estimates.get(metric)
    if rate is None or machine.hourly_usd is None:
        return None
    scaled = Estimate(rate.value * factor, rate.low * factor, rate.high * factor, rate.n, rate.unit)
    return cost_per(count, scaled, machine.hourly_usd, unit)


def to_markdown(study_row: StudyRow, lines: Sequence[Line]) -> str:
    """The measured throughput first; prices, which are inputs, and the costs that follow from them apart."""
    row, estimates = study_row.row, study_row.candidate.estimates
    measured = [f"- {name}: {figure(estimates[name])}" for name in (TOKENS, REQUESTS) if name in estimates]
    conditions = (
        f"Machine: {row.signature['machine']}; engine: {row.signature['engine']}; model: {row.signature['model']}; "
        f"load: {row.signature['load']}. {_EVIDENCE[bool(row.recommendation.rounds)]}"
    )
    parts = [
        f"## Measured throughput: study `{row.study}`, trial {study_row.candidate.number}, {row.date}", "", conditions,
        "", *measured, "", "## Prices are inputs, and costs follow from them", "",
        "≈ marks estimates; the last column names their assumption. Intervals are those of the measured throughput "
        "alone: they do not cover the assumption.",
        "", *_table(lines), "", "Sources of the prices:", "", *(_source(line.hardware) for line in lines),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _table(lines: Sequence[Line]) -> list[str]:
    head = [
        "machine", "instance", "region", "accelerators", "USD/hour (input)", "USD per 1M output tokens",
        "USD per 1k requests", "basis",
    ]  # fmt: skip
    table = [markdown_line(head), markdown_line(["---"] * len(head))]
    for line in lines:
        h = line.hardware
        costs = [f"{'≈ ' if line.basis != MEASURED else ''}{_dollars(e)}" for e in (line.tokens, line.requests)]
        count = f"{h.accelerators} × {h.accelerator}" if h.accelerators else "–"
        table.append(
            markdown_line([h.name, h.instance or "–", h.region or "–", count, f"{h.hourly_usd:g}", *costs, line.basis])
        )
    return table


def _source(h: Hardware) -> str:
    note = f"; {h.price_note}" if h.price_note else ""
    return f"- {h.name}: {h.price_source or 'set on the command line'}, {h.price_date or 'no date'}{note}"


def _dollars(cost: Estimate | None) -> str:
    return "–" if cost is None else f"{cost.value:.3g} ({span(f'{cost.low:.3g}', f'{cost.high:.3g}')})"
