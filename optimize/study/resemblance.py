"""How much studies resemble each other: size of the model, lengths of prompts and answers, machine. Pure."""

from __future__ import annotations

import math

from optimize.study.info import StudyInfo

FARTHEST = 4.0
"""Doublings in all beyond which nothing is learned from another study."""
_OTHER_MACHINE, _UNKNOWN = 3.0, 1.0
_NAMES = {"model_bytes": "model", "prompt_characters": "prompts", "answer_tokens": "answers"}


def distance(one: StudyInfo, other: StudyInfo) -> float:
    """Doublings that lie between two studies, over the model's bytes and the lengths of prompts and answers.

    Another class of machines counts as three, a figure that one of them does not state as one.
    """
    ratios = _ratios(one, other)
    apart = [abs(math.log2(ratios[name])) if name in ratios else _UNKNOWN for name in _NAMES]
    return sum(apart) + (0.0 if one.machines == other.machines else _OTHER_MACHINE)


def in_words(one: StudyInfo, other: StudyInfo) -> str:
    """What the other study has in common with this one."""
    machine = "same machine" if one.machines == other.machines else f"measured on {other.machines}"
    ratios = _ratios(one, other)
    return ", ".join([machine, *(f"{_NAMES[name]} {ratio:.2g}×" for name, ratio in ratios.items())])


def _ratios(one: StudyInfo, other: StudyInfo) -> dict[str, float]:
    """Figure -> the other study's as a multiple of this one's, where both state it."""
    both = {name: (one.scale.get(name, 0.0), other.scale.get(name, 0.0)) for name in _NAMES}
    return {name: figure / own_figure for name, (own_figure, figure) in both.items() if own_figure > 0 and figure > 0}
