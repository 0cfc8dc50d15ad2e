"""What `python -m optimize.quantize` refuses, and what it shows."""

from pathlib import Path

import pytest

from optimize.model.manifest import write_manifest
from optimize.quantize.__main__ import report
from optimize.quantize.compress import compress
from optimize.quantize.steps import Steps
from tests.conftest import Run
from tests.packed import CONFIGS, described


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["quantization=fp16"], "serves the model as it is: there is nothing to make"),
        ([], "there is nothing to make; choose another recipe: dynamic4, "),
        (["quantization=int9"], "quantization has no choice 'int9'; did you mean 'int8'? There are bf16, dynamic4, "),
        (["quantization=w4a16"], "quantization has no choice 'w4a16'; valid: bf16, dynamic4, "),
        (["int9"], "'int9' is no override: write quantization=NAME, and 'int9' is no such name; did you mean 'int8'? "),
        (["int9"], "int8'? There are bf16, dynamic4, fp16, fp32, fp8, "),
        (["w4a16"], "'w4a16' is no such name; valid: bf16, dynamic4, "),
        (["model=demo", "int8"], "'int8' is no override: write quantization=int8"),
        (["quantization"], "'quantization' is no override: write quantization=NAME"),
        (["quantization.recipe=none.yaml"], "recipe=none.yaml does not exist"),
        (["quantization=int8", "quantization.checkpoint=a/b"], "gives scheme and checkpoint"),
    ],
)
def test_bad_input_is_one_line(optimize: Run, tmp_path: Path, overrides: list[str], message: str) -> None:
    done = optimize([*overrides, f"cache_dir={tmp_path}"], verb="optimize.quantize")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_quantized_model_is_refused_in_one_line(optimize: Run, tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS["awq"])
    done = optimize(["quantization=int8", f"model.path={model}", f"cache_dir={tmp_path}"], verb="optimize.quantize")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"model.path={model} is quantized already (awq int4), and int8 would quantize it again" in done.stderr


def test_a_quantized_model_that_was_not_on_the_disk_before_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS["awq"])
    with pytest.raises(ValueError, match=r"the model is quantized already \(awq int4\)"):
        compress({"source": str(model), "folder": str(tmp_path / "made")}, lambda **_: None)


def test_steps_are_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps("int8") as steps:
        for event in ({"step": "loading"}, {"share": 0.5}, {"step": "done"}):
            steps.event(event)
    assert capsys.readouterr().out.split("\n")[:2] == ["int8: loading", "int8: done"]


def test_the_report_distinguishes_cached_from_new_checkpoints(tmp_path: Path) -> None:
    facts = {
        "model": "demo/model", "model_hash": "abc", "recipe": {"name": "mixed8"}, "recipe_text": "{}",
        "calibration_samples": 4, "calibration_hash": "def", "versions": {"torch": "2"}, "tensor_bytes": 1 << 20,
        "layers": {"lm_head": {"weights": "float16", "activations": "float"}}, "made_at": 1000.0, "seconds": 2.5,
    }  # fmt: skip
    (tmp_path / "model.safetensors").write_bytes(bytes(1 << 20))
    write_manifest(tmp_path, facts)
    old, new = report(tmp_path, began=2000.0), report(tmp_path, began=999.0)
    assert "1970-01-01 00:16 UTC, in 2.5 s; from the cache, complete" in old and "now, in 2.5 s" in new
    for line in ("4 prompts of the workload, hash def", "1.0 MiB, of which tensors 1.0 MiB", "torch 2", "lm_head"):
        assert line in old
