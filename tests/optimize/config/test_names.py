"""Names that become names of files."""

import re

import pytest

from optimize.config.names import check_name, new_name
from optimize.errors import ConfigError

UNFIT = [
    "", ".", "..", "...", "a/../..", "/etc/x", "a/b", "a\\b", "a\nb", "a\0b", "a b", "a ", "a.", ".a", "~", "$HOME",
    "x" * 151, "\ud800", "研" * 60, "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_names_that_lead_elsewhere_or_are_too_long_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^study\.name='.*' must consist of letters, .* bytes: ") as refusal:
        check_name("study.name", name)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


@pytest.mark.parametrize("name", ["chat", "a-b_c.1", "größe", "gro\u0308ße", "研究", "अध्ययन", "-x", "x" * 150])
def test_names_of_any_script_fit(name: str) -> None:
    check_name("study.name", name)


def test_commands_that_begin_in_the_same_second_take_different_names() -> None:
    names = {new_name("guard", "chat") for _ in range(20)}
    assert len(names) > 15 and all(re.fullmatch(r"guard-chat-\d{8}-\d{6}-[0-9a-f]{4}", name) for name in names)
