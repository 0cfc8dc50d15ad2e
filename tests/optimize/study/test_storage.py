"""Addresses of storages, and what is said of those that cannot be opened."""

import pytest

from optimize.errors import ConfigError
from optimize.redaction import redacted
from optimize.study.storage import check_server, open_storage


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("http://me:se%40cret@host/path?q=1", "http://me:***@host/path?q=1"),
        ("http://:token@host", "http://:***@host"),
        ("sqlite:////tmp/optuna.db", "sqlite:////tmp/optuna.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("look", [check_server, open_storage])
def test_a_database_whose_driver_is_missing_names_the_remedy(look: object) -> None:
    with pytest.raises(ConfigError, match=r"mysql://me:\*\*\*@host/db: .*not installed.*install it"):
        look("mysql://me:secret@host/db")  # type: ignore[operator]
