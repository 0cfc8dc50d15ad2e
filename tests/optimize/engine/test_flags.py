"""vLLM's flags: their names as the installed release has them, and how values are written."""

import re
from typing import Any

import pytest

from optimize.engine.flags import OWNED, check_flags, to_arguments, vllm_distribution, vllm_flags
from optimize.engine.former_flags import GONE, RENAMED
from optimize.errors import ConfigError


@pytest.mark.parametrize(
    "name",
    [
        "max_num_seqs", "api_server_count", "max_num_batched_tokens", "block_size", "enable_prefix_caching",
        "kv_cache_dtype", "dtype", "enforce_eager", "max_model_len", "max_logprobs", "worker_extension_cls",
        "host", "port", "served_model_name",
    ],
)  # fmt: skip
def test_flags_of_vllm_are_found_in_its_source(name: str) -> None:
    assert name in vllm_flags()


@pytest.mark.parametrize("name", ["batch_size", "beam_size", "max-num-seqs", "no_such_flag", ""])
def test_other_names_are_not_flags(name: str) -> None:
    assert name not in vllm_flags()


def test_flags_of_the_search_space_pass() -> None:
    check_flags(["max_num_seqs", "api_server_count", "block_size"])
    check_flags([])


def test_the_error_of_a_misspelt_flag_names_the_nearest_flag_and_the_release() -> None:
    with pytest.raises(ConfigError, match="did you mean 'max_num_seqs'") as caught:
        check_flags(["block_size", "max_num_seq"])
    assert vllm_distribution()[1] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("enable-prefix-caching", "is written with underscores: enable_prefix_caching"),
        ("--tensor-parallel-size", "is written with underscores: tensor_parallel_size"),
        ("no_enable_prefix_caching", "is written as a value: enable_prefix_caching=false"),
        ("no-enable-prefix-caching", "is written as a value: enable_prefix_caching=false"),
        ("disable_log_requests", "requests are not logged unless enable_log_requests=true is set: leave it out"),
        ("disable-log-requests", "leave it out"),
        ("disable_prefix_caching", "its opposite is 'enable_prefix_caching'"),
        ("enable_cascade_attn", "its opposite is 'disable_cascade_attn'"),
        ("guided_decoding_backend", "it is structured_outputs_config.backend now"),
        ("rope_scaling", "it is hf_overrides.rope_parameters now"),
        ("swap_space", "the V1 engine recomputes in place of swapping"),
        ("num_scheduler_steps", "overlapped by async_scheduling"),
        ("task", "the same is runner=generate or runner=pooling"),
        ("use_v2_block_manager", "leave it out"),
        ("batchsize", "did you mean 'batch_size'?"),
        ("batch_size", "'batch_size' is a knob of this project: as a flag of vLLM it is max_num_seqs"),
        ("quantum_tunneling", "its flags are those of `vllm serve --help=all`"),
    ],
)
def test_a_flag_of_another_form_or_release_is_answered_with_what_means_the_same(name: str, answer: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(answer)) as caught:
        check_flags([name])
    assert "\n" not in str(caught.value) and "_api_process" not in str(caught.value)


def test_the_table_of_former_flags_leads_to_flags_that_exist() -> None:
    assert not {*RENAMED, *GONE} & vllm_flags()
    assert {path.partition(".")[0] for path in RENAMED.values()} <= vllm_flags()
    named = {word for text in GONE.values() for word in re.findall(r"[a-z]+(?:_[a-z]+)+", text)}
    assert named <= vllm_flags()


def test_vllms_private_fields_are_no_flags() -> None:
    assert not any(name.startswith("_") for name in vllm_flags())


def test_a_file_of_flags_is_refused() -> None:
    assert "config" in vllm_flags()
    with pytest.raises(ConfigError, match="hides flags in a file"):
        check_flags(["max_num_seqs", "config"])


@pytest.mark.parametrize("name", sorted(OWNED))
def test_flags_that_this_project_sets_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="set by this project itself"):
        check_flags([name])


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        (8, ["--some-flag=8"]),
        (0, ["--some-flag=0"]),
        (0.5, ["--some-flag=0.5"]),
        ("fp8", ["--some-flag=fp8"]),
        ("", ["--some-flag="]),
        ("a b; rm", ["--some-flag=a b; rm"]),
        (-1, ["--some-flag=-1"]),
        (True, ["--some-flag"]),
        (False, ["--no-some-flag"]),
        (None, []),
        ([1, 2, 4], ["--some-flag", "1", "2", "4"]),
        ("[1, 2, 4]", ["--some-flag", "1", "2", "4"]),
        ("[{% if a %}", ["--some-flag=[{% if a %}"]),
        ({"mode": 3, "sizes": [1, 2]}, ['--some-flag={"mode": 3, "sizes": [1, 2]}']),
    ],
)
def test_values_as_arguments(value: Any, arguments: list[str]) -> None:
    assert to_arguments((("some_flag", value),)) == arguments


def test_lists_that_vllm_reads_as_json_are_written_as_json() -> None:
    assert to_arguments((("allowed_origins", ["a", "b"]),)) == ['--allowed-origins=["a", "b"]']


def test_arguments_keep_the_order_of_flags() -> None:
    assert to_arguments((("b_c", 1), ("a", None), ("d", True))) == ["--b-c=1", "--d"]
