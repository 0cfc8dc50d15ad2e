"""What messages say of an error."""

import pytest

from optimize.errors import one_line


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
