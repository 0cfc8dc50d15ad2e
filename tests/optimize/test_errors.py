"""What messages say of an error."""

import pytest

from optimize.errors import ConfigError, one_line, setting_names


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("wrong\nmore"), "wrong more"),
        (ValueError("\n  \n  late  \n"), "late"),
        (ValueError(), "ValueError"),
        (TimeoutError(""), "TimeoutError"),
        (RuntimeError("\n"), "RuntimeError"),
    ],
)
def test_an_error_without_a_text_is_named_by_its_class(error: Exception, line: str) -> None:
    assert one_line(error) == line


@pytest.mark.parametrize(
    ("message", "own"),
    [
        ("row=9 is no row: choose row=baseline", "canary.row=9 is no row: choose canary.row=baseline"),
        ("canary.row=9 and arrow=1 stay", "canary.row=9 and arrow=1 stay"),
        ("at.x\\1 and format.x", "at.x\\1 and format.x"),
    ],
)
def test_a_setting_is_refused_by_the_name_that_the_user_wrote(message: str, own: str) -> None:
    with pytest.raises(ConfigError) as error, setting_names({"row=": "canary.row="}):
        raise ConfigError(message)
    assert str(error.value) == own
