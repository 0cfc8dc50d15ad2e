"""What `python -m optimize.quantize` refuses."""

from pathlib import Path

import pytest

from tests.conftest import Run


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["quantization=fp16"], "serves the model as it is: there is nothing to make"),
        (["quantization=int3"], "quantization has no choice 'int3'"),
        (["quantization.recipe=none.yaml"], "recipe=none.yaml does not exist"),
        (["quantization=int8", "quantization.checkpoint=a/b"], "gives scheme and checkpoint"),
    ],
)
def test_bad_input_is_one_line(optimize: Run, tmp_path: Path, overrides: list[str], said: str) -> None:
    done = optimize([*overrides, f"cache_dir={tmp_path}"], verb="optimize.quantize")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert said in done.stderr
