"""What a row's work costs on rented machines: measured throughput, prices as inputs, estimates marked as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from objectives import Estimate
from objectives.cost import OutputTokenCost, RequestCost, check_price, cost_per
from optimize.config.deploy import Hardware
from optimize.errors import ConfigError, closest
from optimize.formatting import figure, markdown_line
from optimize.study.rows import StudyRow

TOKENS, REQUESTS = "output_tokens_per_s", "qps"
MEASURED = "measured on it"
_EVIDENCE = {
    True: "Means of rounds, with the interval that a further measurement falls in.",
    False: "A single reading with its 95 % interval.",
}


@dataclass(frozen=True)
class Line:
    """One machine's price of a row's work.

    Attributes:
        hardware: The machine; its price is an input.
        factor: Its throughput as a multiple of the measured one.
        basis: MEASURED, or "estimate: " and the assumption it rests on.
        tokens: USD per million output tokens; None where no such throughput was measured.
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


def check_inputs(machines: Mapping[str, Hardware], factors: Mapping[str, float]) -> None:
    """Raise ConfigError for a price or a factor that is none."""
    for name, machine in machines.items():
        try:
            check_price(machine.hourly_usd)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
    for name, factor in factors.items():
        if name not in machines:
            raise ConfigError(f"price.factors.{name} is no hardware that is compared; {closest(name, machines)}")
        if not factor > 0:
            raise ConfigError(f"price.factors.{name} must be positive, got {factor:g}")


def price_lines(chosen: StudyRow, machines: Mapping[str, Hardware], factors: Mapping[str, float]) -> list[Line]:
    """What each machine would take for the row's work, the cheapest per token first.

    Args:
        chosen: The row.
        machines: Hardware name -> hardware with a price.
        factors: Hardware name -> its throughput over the measured machine's, where somebody knows it.
    """
    measured_on = machines.get(chosen.hardware)
    lines = []
    for name, machine in machines.items():
        factor, basis = _factor(name, machine, measured_on, chosen, factors)
        lines.append(
            Line(machine, factor, basis, _cost(chosen, TOKENS, 1e6, machine, factor, OutputTokenCost.unit),
                 _cost(chosen, REQUESTS, 1e3, machine, factor, RequestCost.unit))
        )  # fmt: skip
    return sorted(lines, key=lambda line: line.tokens.value if line.tokens else line.hardware.hourly_usd or 0.0)


def _factor(
    name: str, machine: Hardware, measured_on: Hardware | None, chosen: StudyRow, factors: Mapping[str, float]
) -> tuple[float, str]:
    if name == chosen.hardware:
        return 1.0, MEASURED
    if name in factors:
        return factors[name], f"estimate: assumes {factors[name]:g} × the measured throughput, as price.factors says"
    if measured_on is not None and (here := _bandwidth(measured_on)) and (there := _bandwidth(machine)):
        return there / here, (
            f"estimate: assumes throughput in proportion to memory bandwidth ({there:g} over {here:g} GB/s), "
            "one engine per accelerator, enough load for all"
        )
    return 1.0, (
        f"estimate: assumes the very throughput measured on {chosen.row.signature['machine']}, as if this did no better"
    )


def _bandwidth(machine: Hardware) -> float:
    return machine.accelerators * (machine.memory_gb_per_s or 0.0)


def _cost(chosen: StudyRow, metric: str, count: float, machine: Hardware, factor: float, unit: str) -> Estimate | None:
    rate = chosen.candidate.estimates.get(metric)
    if rate is None or machine.hourly_usd is None:
        return None
    scaled = Estimate(rate.value * factor, rate.low * factor, rate.high * factor, rate.n, rate.unit)
    return cost_per(count, scaled, machine.hourly_usd, unit)


def to_markdown(chosen: StudyRow, lines: Sequence[Line]) -> str:
    """Measured figures first; inputs and what follows from them apart."""
    row, estimates = chosen.row, chosen.candidate.estimates
    measured = [f"- {name}: {figure(estimates[name])}" for name in (TOKENS, REQUESTS) if name in estimates]
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
    sources = [
        f"- {h.name}: {h.price_source or 'given by you'}, {h.price_date or 'no date'}"
        + (f"; {h.price_note}" if h.price_note else "")
        for h in (line.hardware for line in lines)
    ]
    return "\n".join(
        [
            f"## Measured: study `{row.study}`, trial {chosen.candidate.number}, {row.date}", "",
            f"On {row.signature['machine']}; {row.signature['engine']}; model {row.signature['model']}; load: "
            f"{row.signature['load']}. {_EVIDENCE[bool(row.found.rounds)]}",
            "", *measured, "",
            "## Prices are inputs, costs follow from them; ≈ marks estimates, with their assumption in the line", "",
            *table, "", "Intervals are those of the measured throughput alone. Where prices come from:", "", *sources,
        ]
    ) + "\n"  # fmt: skip


def _dollars(cost: Estimate | None) -> str:
    return "–" if cost is None else f"{cost.value:.3g} [{cost.low:.3g}, {cost.high:.3g}]"
