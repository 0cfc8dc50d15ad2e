"""Figures are compared only where they depend on the same things; where they do not, the reader is told. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optimize.study.fingerprint import current

Signed = tuple[str, Mapping[str, str]]
"""Whose figures, and what they depend on."""


def differences(signed: Sequence[Signed], keys: Sequence[str] | None = None) -> list[str]:
    """In what the signatures of several figures differ.

    Args:
        signed: The figures that stand beside each other.
        keys: What must be the same; None for everything that any of them names.

    Returns:
        One line per key that differs: each value with whose figures have it.
    """
    lines = []
    for key in keys or list(dict.fromkeys(key for _, signature in signed for key in signature)):
        holders: dict[str, list[str]] = {}
        for whose, signature in signed:
            holders.setdefault(current(signature.get(key, "unknown")), []).append(whose)
        if len(holders) > 1:
            lines.append(f"{key}: " + "; ".join(f"{value} ({', '.join(whose)})" for value, whose in holders.items()))
    return lines


def warning(lines: Sequence[str], remedy: str) -> str:
    """The differences as one warning; empty where there are none."""
    if not lines:
        return ""
    return f"warning: these figures differ in more than the configuration ({' | '.join(lines)}): {remedy}"
