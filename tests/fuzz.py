"""How many cases a property is tried on: few and always the same in the suite, many and new ones on demand."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("FUZZ_CASES", "0"))
"""Number of cases of each property, which then differ from run to run; 0 for those of the suite."""


def tried(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for a property.

    Args:
        examples: Number of cases in the suite.
    """
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=CASES or examples, derandomize=not CASES, database=None, deadline=None,
        suppress_health_check=checks,
    )  # fmt: skip
