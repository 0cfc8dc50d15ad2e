"""What counts as a secret, and that no form of one is left in a text."""

from __future__ import annotations

import base64
import html
import json
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize import redaction
from optimize.redaction import (
    MASK,
    credentials_in,
    forgetting,
    hidden_flags,
    is_plain,
    is_secret,
    is_secret_name,
    masked,
    redact,
    redact_all,
    redacted,
    redacted_streams,
    references,
    register,
    register_all,
    register_environment,
    register_variable,
    registered,
    reveal,
    variable_of,
    without_credentials,
)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True), ("hf-token", True), ("apiKey", True), ("AWS_SECRET_ACCESS_KEY", True), ("PASSWORD2", True),
        ("engine.flags.api_key", True), ("max_num_batched_tokens", False), ("api_key_env", False), ("token_s", False),
        ("tokenizer", False), ("SSH_AUTH_SOCK", False), ("prompt_tokens", False), ("", False),
        ("sslpassword", True), ("DB_PASS", True),
    ],
)  # fmt: skip
def test_a_secret_is_known_by_the_words_of_its_name(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def is_encoded(secret: str) -> bool:
    """Whether a secret is a user and a password as a header holds them."""
    try:
        return b":" in base64.b64decode(secret, validate=True)
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("address", "shown", "secrets"),
    [
        ("postgresql://me:s3cret/x@host/db", "postgresql://me:***@host/db", ["s3cret/x"]),
        ("postgresql://me:p?w@host/db", "postgresql://me:***@host/db", ["p?w"]),
        ("mysql+pymysql://u:p@ss@h/db", "mysql+pymysql://u:***@h/db", ["p@ss"]),
        ("postgresql://host/db?user=a&password=b&x=1", "postgresql://host/db?user=a&password=***&x=1", ["b"]),
        ("http://TOKEN@host/path", "http://***@host/path", ["TOKEN"]),
        ("http://TOKEN:@host", "http://***@host", ["TOKEN"]),
        ("http://a:pw%2Fx@h:80/p?token=b", "http://a:***@h:80/p?token=***", ["pw%2Fx", "b"]),
        ("sqlite:////folder/a@b.db", "sqlite:////folder/a@b.db", []),
        ("http://host:8000/a@b?c=d@e", "http://host:8000/a@b?c=d@e", []),
        ("http://[::1]:80/x@y", "http://[::1]:80/x@y", []),
        ("ssh://git@host/x", "ssh://git@host/x", []),
        ("no address", "no address", []),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str, secrets: list[str]) -> None:
    assert redacted(address) == shown
    assert [secret for secret in credentials_in(address) if not is_encoded(secret)] == secrets
    if "@h" in address:
        assert without_credentials(address).partition("://")[2].startswith("h")


@pytest.mark.parametrize(
    "value", ["", "1", "true", "0.9", "abcde", "12345678", "postgres", "<|endoftext|>", "/usr/lib/x"]
)
def test_a_common_value_is_left_alone(value: str) -> None:
    assert is_plain(value)
    register(value, "$NAME")
    assert redact(f"a {value} b") == f"a {value} b"


FORMS = [
    str,
    repr,
    json.dumps,
    quote,
    html.escape,
    shlex.quote,
    lambda v: json.dumps(json.dumps(v)),
    lambda v: f"x{v}y",
]


@given(value=st.text(min_size=6, max_size=40), form=st.sampled_from(FORMS))
def test_no_form_of_a_secret_is_left_in_a_text(value: str, form: object) -> None:
    with forgetting():
        register(value, "$NAME")
        text = form(value)  # type: ignore[operator]
        if not is_plain(value):
            assert value.strip() not in redact(text)
            assert text not in redact(f"before {text} after") or text == "$NAME"


def test_a_percent_encoded_password_is_hidden_in_both_forms() -> None:
    register_variable("OPTUNA_STORAGE", "postgresql://me:s3cret%2Fx@host/db")
    assert redact("password s3cret/x, s3cret%2Fx") == f"password {MASK}, {MASK}"
    assert redact("postgresql://me:s3cret%2Fx@host/db is down") == f"postgresql://me:{MASK}@host/db is down"


def test_a_key_of_several_lines_is_hidden_line_by_line() -> None:
    register("-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n", "$TLS_KEY")
    assert redact("  MIIEvQIBADANBg") == "  $TLS_KEY"


def test_passwords_within_addresses_are_hidden_without_being_registered() -> None:
    assert redact("cannot reach http://me:pw@host/x.") == f"cannot reach http://me:{MASK}@host/x."
    assert redact("http://me:${oc.env:PW}@host") == "http://me:${oc.env:PW}@host"


def test_the_environment_is_registered_by_name_and_by_address() -> None:
    register_environment({"MY_TOKEN": "abc-def-1", "URL": "http://me:pass-word-1@host", "LANG": "C.UTF-8", "KEY": "1"})
    encoded = base64.b64encode(b"me:pass-word-1").decode()
    assert registered() == {"abc-def-1": "$MY_TOKEN", "pass-word-1": MASK, encoded: MASK}
    other = registered()
    with forgetting():
        register_all({"xyz-123": "$OTHER"})
        assert registered() == {**other, "xyz-123": "$OTHER"}
    assert registered() == other


def test_a_name_takes_the_place_of_the_mask_and_stays() -> None:
    for stand_in in (MASK, "$FIRST", MASK, "$SECOND"):
        register("abc-def-1", stand_in)
    assert redact("abc-def-1") == "$FIRST"


def test_a_secret_within_another_leaves_nothing_of_the_longer_one() -> None:
    register("abc-def", "$SHORT")
    register("abc-def-ghi", "$LONG")
    assert redact("abc-def-ghi abc-def") == "$LONG $SHORT"


def test_structures_are_redacted_by_value_and_settings_by_name_too() -> None:
    register("abc-def-1", "$MY_TOKEN")
    raw = {"env": {"MY_TOKEN": "abc-def-1", "DB_PASSWORD": "hunter"}, "flags": [("x", "is abc-def-1"), ("n", 3)]}
    by_value = {"env": {"MY_TOKEN": "$MY_TOKEN", "DB_PASSWORD": "hunter"}, "flags": [("x", "is $MY_TOKEN"), ("n", 3)]}
    assert redact_all(raw) == by_value
    assert masked(raw) == by_value | {"env": {"MY_TOKEN": "$MY_TOKEN", "DB_PASSWORD": MASK}}
    assert masked({"token": "${oc.env:X}", "key": "12"}) == {"token": "${oc.env:X}", "key": "12"}


def test_flags_name_their_variables_and_a_name_reveals_its_secret() -> None:
    register("abc-def-1", "$MY_TOKEN")
    register("xyz-123")
    flags = (("hf_token", "hunter"), ("seed", 3), ("endpoint", "x?abc-def-1"))
    assert hidden_flags(flags) == (("hf_token", "$HF_TOKEN"), ("seed", 3), ("endpoint", "$ENDPOINT"))
    assert [reveal(value) for value in ("$MY_TOKEN", "$OTHER", MASK, 3)] == ["abc-def-1", "$OTHER", MASK, 3]


def test_streams_hide_secrets_however_they_are_written() -> None:
    register("abc-def-1", "$MY_TOKEN")
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), redacted_streams():
        print("a", "abc-def-1")
        sys.stderr.writelines(["abc-def-1", "\n"])
        assert not sys.stdout.isatty()
    assert (out.getvalue(), err.getvalue()) == ("a $MY_TOKEN\n", "$MY_TOKEN\n")


def test_a_deploy_command_names_the_variables_that_its_reader_sets() -> None:
    assert [variable_of(flag) for flag in ("hf_token", "api-key", "--some-token")] == [
        "HF_TOKEN", "VLLM_API_KEY", "SOME_TOKEN",
    ]  # fmt: skip
    assert references({"HF_TOKEN": "$HF_TOKEN", "A": "$B", "N": "1"}) == ("HF_TOKEN",)
    register("abc-def-1", "$MY_TOKEN")
    assert is_secret("hf_token", "hunter") and is_secret("seed", "abc-def-1") and not is_secret("key", "12")
    assert redaction.redact("nothing to hide") == "nothing to hide"
