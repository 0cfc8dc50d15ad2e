"""Machines that differ in what their engines can do have different names."""

import pytest

from optimize.signature import processor_of

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
