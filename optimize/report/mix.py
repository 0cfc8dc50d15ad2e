"""One configuration for a mix of traffic, as Markdown and JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from optimize.config.grammar import override_value
from optimize.decision.candidate import Candidate
from optimize.decision.mix import Compromise, tied
from optimize.formatting import markdown_line, percent, printable, ratio, shown_settings
from optimize.study.mix import Lack, StudiedTraffic
from optimize.study.trials import trial_of

_LEGEND = (
    "Cost: how many times better the traffic would be served by its own recommendation, by the weighted geometric mean "
    "of its objectives; 1 costs nothing. Intervals are 95 %; of studies without confirmation, from single measurements."
)
_HEAD = (
    "traffic", "share", "of its own, it would get", "served here by", "relative to vLLM's defaults",
    "cost of not specialising",
)  # fmt: skip


def to_markdown(traffic: Sequence[StudiedTraffic], every: Sequence[Compromise]) -> str:
    """The configuration with the least regret, what it costs each kind of traffic, and its runner-up."""
    pick = every[0]
    lines = [f"one configuration for {_mix_in_words(traffic)}: {_engine_in_words(traffic, pick)}", ""]
    lines += [markdown_line(_HEAD), markdown_line(["---"] * len(_HEAD))]
    lines += [_row(t, pick) for t in traffic]
    lines.append(markdown_line(["the mix", "100 %", "", "", ratio(pick.gain), ratio(pick.cost)]))
    lines += ["", _LEGEND, *_runner_up(traffic, every), *_deployment(traffic, pick)]
    return "\n".join(lines) + "\n"


def _mix_in_words(traffic: Sequence[StudiedTraffic]) -> str:
    return ", ".join(f"{percent(t.share)} {printable(t.name)}" for t in traffic)


def _engine_in_words(traffic: Sequence[StudiedTraffic], compromise: Compromise) -> str:
    return _settings(traffic[0].by_engine[compromise.engine])


def _settings(candidate: Candidate) -> str:
    return candidate.defaults if candidate.baseline else shown_settings(candidate.settings)


def _row(traffic: StudiedTraffic, compromise: Compromise) -> str:
    here, own = traffic.by_engine[compromise.engine], traffic.best.pick
    return markdown_line(
        [
            traffic.name, percent(traffic.share), f"trial {own.number}: {_settings(own)}",
            f"trial {here.number}: {_settings(here)}", ratio(compromise.gains[traffic.name]),
            ratio(compromise.costs[traffic.name]),
        ]
    )  # fmt: skip


def _runner_up(traffic: Sequence[StudiedTraffic], every: Sequence[Compromise]) -> list[str]:
    if len(every) < 2:
        return ["", "runner-up: none, as the studies share no other configuration that keeps all constraints"]
    pick, other = every[:2]
    tie = "; the evidence does not separate the two" if tied(pick, other, traffic) else ""
    return ["", f"runner-up: {_engine_in_words(traffic, other)}, cost {ratio(other.cost)}{tie}"]


def _deployment(traffic: Sequence[StudiedTraffic], compromise: Compromise) -> list[str]:
    first = traffic[0]
    number = first.by_engine[compromise.engine].number
    command = trial_of(first.study, number).user_attrs["config"].get("deploy_command", "")
    return ["", f"deploy (row={number} of study {first.name}): {command}"] if command else []


def to_json(traffic: Sequence[StudiedTraffic], every: Sequence[Compromise]) -> str:
    """All configurations that the studies have in common, the one with the least regret first."""
    return json.dumps([_to_dict(traffic, c) for c in every], indent=1, default=str)


def _to_dict(traffic: Sequence[StudiedTraffic], compromise: Compromise) -> dict[str, Any]:
    return {
        "engine": compromise.engine, "cost": compromise.cost.to_dict(), "gain": compromise.gain.to_dict(),
        "traffic": [
            {
                "study": t.name, "share": t.share, "trial": t.by_engine[compromise.engine].number,
                "params": dict(t.by_engine[compromise.engine].params), "cost": compromise.costs[t.name].to_dict(),
                "gain": compromise.gains[t.name].to_dict(),
            }
            for t in traffic
        ],
    }  # fmt: skip


def lack_in_words(lack: Lack, words: Sequence[str]) -> str:
    """What a study has not measured, and the command that measures it by hand.

    Args:
        lack: What is missing.
        words: Overrides of the study's command.
    """
    at = [f"+at.{knob}={override_value(value)}" for knob, value in lack.params.items()]
    outside = "" if lack.point is not None else " (outside of its search space)"
    return (
        f"{printable(lack.traffic.name)} has not measured what {printable(lack.source)} recommends{outside}: "
        f"python -m optimize.measure {shlex.join([*words, *at])}"
    )
