"""LoRA adapters: named in any form that vLLM takes, asked for by name, and refused where they do not fit the model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from optimize.engine.adapters import adapters_of, asked_in_words, asked_names, check_adapters, flags_for
from optimize.engine.base import Endpoint
from optimize.engine.flags import vllm_flags
from optimize.errors import ConfigError
from tests.adapters import DEMO, adapter
from tests.packed import CONFIGS, checkpoint


@pytest.mark.parametrize(
    ("value", "adapters"),
    [
        (None, {}),
        (["sql=/lora/sql", "chat=/lora/r=8"], {"sql": "/lora/sql", "chat": "/lora/r=8"}),
        ("sql=/lora/sql", {"sql": "/lora/sql"}),
        ([{"name": "sql", "path": "/lora/sql"}], {"sql": "/lora/sql"}),
        (['{"name": "sql", "path": "/lora/a,b", "base_model_name": "m"}'], {"sql": "/lora/a,b"}),
    ],
)
def test_adapters_are_read_in_every_form_of_the_flag(value: Any, adapters: dict[str, str]) -> None:
    assert adapters_of({"lora_modules": value}) == adapters


@pytest.mark.parametrize("value", [["sql="], ["sql"], ["=/lora"], ['{"name": "sql"}'], [3], ["a,b"]])
def test_an_entry_that_names_no_adapter_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"is no adapter: write '\+model.lora={NAME: FOLDER}'"):
        adapters_of({"lora_modules": value})


@pytest.mark.parametrize("names", [["a=/x", "a=/y"], ["model=/x"], ["base=/x"]])
def test_each_adapter_has_a_name_of_its_own(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="a name of its own"):
        adapters_of({"lora_modules": names})


@pytest.mark.parametrize(("rank", "flag"), [(4, None), (16, None), (24, 32), (64, 64), (300, 320)])
def test_the_flags_of_adapters_allow_for_the_largest_rank(rank: int, flag: int | None, tmp_path: Path) -> None:
    paths = {"small": str(adapter(tmp_path / "a", rank=2)), "large": str(adapter(tmp_path / "b", rank=rank))}
    flags = flags_for(paths)
    assert adapters_of(flags) == paths and flags["enable_lora"] and flags.get("max_lora_rank") == flag
    assert flags.keys() <= vllm_flags()
    check_adapters(flags, str(DEMO))


def test_a_path_with_a_comma_takes_the_form_that_vllm_reads_as_json(tmp_path: Path) -> None:
    path = str(adapter(tmp_path / "a,b"))
    (entry,) = flags_for({"sql": path})["lora_modules"]
    assert json.loads(entry) == {"name": "sql", "path": path} and adapters_of({"lora_modules": entry}) == {"sql": path}


FLAGS = {"lora_modules": ["sql=/lora/sql", "chat=/lora/chat"]}


@pytest.mark.parametrize(
    ("flags", "chosen", "names", "words"),
    [
        ({}, None, ["model"], ""),
        (FLAGS, None, ["sql", "chat"], "sql, chat"),
        (FLAGS, "chat", ["chat"], "chat"),
        (FLAGS, "base", ["model"], "base"),
        (FLAGS, ["base", "sql"], ["model", "sql"], "base, sql"),
    ],
)
def test_requests_ask_for_the_adapters_by_name(flags: Any, chosen: Any, names: list[str], words: str) -> None:
    assert list(asked_names(flags, chosen)) == names and asked_in_words(flags, chosen) == words


def test_a_misspelt_adapter_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"engine.model='sq' is no adapter of model.lora; did you mean 'sql'"):
        asked_names(FLAGS, "sq")


def test_the_prompts_ask_for_several_names_in_turn_and_each_for_the_same_one_always() -> None:
    endpoint = Endpoint("http://127.0.0.1:1", None, "sql", others=("chat", "model"))
    assert [endpoint.model_of(row) for row in (0, 1, 2, 3, 1)] == ["sql", "chat", "model", "sql", "chat"]
    assert [Endpoint("", None, "model").model_of(row) for row in (0, 7)] == ["model", "model"]


def _refusal(path: Path, model: Path = DEMO, **flags: Any) -> str:
    with pytest.raises(ConfigError) as refusal:
        check_adapters({"enable_lora": True, "lora_modules": [f"sql={path}"], **flags}, str(model))
    return str(refusal.value)


def test_an_adapter_of_another_shape_is_refused_with_the_first_matrix_that_differs(tmp_path: Path) -> None:
    path = adapter(tmp_path / "sql", wider=128)
    assert _refusal(path) == (
        f"adapter sql ({path}) was made for somebody/base and does not fit model.path={DEMO}: "
        "layers.0.self_attn.q_proj is 256 x 256 in the model and 256 x 384 in the adapter; give an adapter that was "
        "made for this model, or the model that it was made for"
    )


def test_an_adapter_of_more_layers_is_refused(tmp_path: Path) -> None:
    path = adapter(tmp_path / "sql")
    shallow = tmp_path / "model"
    shallow.mkdir()
    from safetensors.numpy import load_file, save_file

    tensors = {n: t for n, t in load_file(DEMO / "model.safetensors").items() if "layers.3." not in n}
    save_file(tensors, shallow / "model.safetensors")
    assert "does not fit" in _refusal(path, shallow) and "it has no layers.3.self_attn" in _refusal(path, shallow)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_packed_model_takes_adapters_of_the_model_that_it_was_made_from(kind: str, tmp_path: Path) -> None:
    flags = flags_for({"sql": str(adapter(tmp_path / "sql"))})
    check_adapters(flags, str(checkpoint(tmp_path / "model", kind)))


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"use_dora": True}, "is DoRA, which vLLM does not serve"),
        ({"bias": "all"}, "has a bias"),
        ({"modules_to_save": ["lm_head"]}, "has weights of whole modules (lm_head)"),
        ({"peft_type": "PROMPT_TUNING"}, "is no LoRA (PROMPT_TUNING)"),
        ({"r": 0}, "states no rank"),
        ({"r": 64}, "has rank 64, more than max_lora_rank=16: raise it"),
    ],
)
def test_what_vllm_would_refuse_at_the_first_request_is_refused_before(
    config: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    assert fault in _refusal(adapter(tmp_path / "sql", **config))


def test_a_folder_that_is_missing_or_no_adapter_is_named(tmp_path: Path) -> None:
    assert "is neither a folder nor a Hugging Face id: correct model.lora.sql" in _refusal(tmp_path / "gone")
    assert "has no readable adapter_config.json" in _refusal(DEMO)
    check_adapters({"enable_lora": True, "lora_modules": ["sql=somebody/sql-lora"]}, str(DEMO))


def test_the_flag_alone_does_nothing_without_the_other(tmp_path: Path) -> None:
    assert re.search("needs enable_lora=true", _refusal(adapter(tmp_path / "sql"), enable_lora=False))
