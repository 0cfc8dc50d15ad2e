"""Plans are made in the checkout, where conf/ names its files from."""

import pytest

from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
