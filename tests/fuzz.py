"""How many cases a property is tried on: few and always the same in the suite, many and new ones on demand."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = "FUZZ_EXAMPLES"
"""Environment variable: number of cases per property; they then differ from run to run."""


def tried(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for a property.

    Args:
        examples: Number of cases in the suite.
    """
    asked = os.environ.get(EXAMPLES)
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=examples if asked is None else int(asked), derandomize=asked is None, database=None,
        deadline=None, suppress_health_check=checks,
    )  # fmt: skip
