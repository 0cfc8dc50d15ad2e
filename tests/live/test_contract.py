"""The contract of launchers on vLLM."""

from __future__ import annotations

import pytest

from optimize.engine.base import Launcher
from tests.contracts.test_launcher import (
    test_a_started_engine_answers_until_it_is_stopped as test_a_started_engine_answers_until_it_is_stopped,
)
from tests.contracts.test_launcher import (
    test_no_path_answers_without_the_key as test_no_path_answers_without_the_key,
)
from tests.contracts.test_launcher import (
    test_unknown_flags_are_refused_before_anything_starts as test_unknown_flags_are_refused_before_anything_starts,
)
from tests.live.engines import LiveEngines

pytestmark = pytest.mark.live


@pytest.fixture
def launcher(live_engines: LiveEngines) -> Launcher:
    live_engines.stop()
    return live_engines.launcher
