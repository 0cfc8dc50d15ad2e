from __future__ import annotations

from pathlib import Path

import pytest

from tests.optimize.harness.stand_in import install


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "packages", monkeypatch)
