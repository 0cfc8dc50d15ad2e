"""Checkpoints made by llm-compressor: what is in them, how far they are from the model, what is done with damage."""

import contextlib
import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.weight_deviation import deviations
from optimize.config.locations import CONF
from optimize.config.measuring import WorkloadSource
from optimize.config.schema import Model, Recipe
from optimize.entries import is_held, is_marked
from optimize.errors import EngineFailure
from optimize.model.manifest import MANIFEST, damage, read_manifest
from optimize.quantize.calibration import Calibration, calibration_of
from optimize.quantize.checkpoints import make_checkpoints
from optimize.quantize.layers import Precision, layer_precisions
from optimize.workload.workload import load_workload
from tests.conftest import ROOT, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seven checkpoints, on a machine that may be busy
DEMO = Model("demo", str(ROOT / "demo/model"))
NAMES = ("int8", "int4", "dynamic4", "fp8", "mixed8", "int4_gptq", "int8_smoothquant")
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def recipe(name: str) -> Recipe:
    import yaml

    return Recipe(**yaml.safe_load((CONF / "quantization" / f"{name}.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    source = WorkloadSource(name="chat", path=str(ROOT / "demo/workloads/chat.jsonl"))
    return calibration_of(load_workload(source, DEMO.path, tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@dataclass(frozen=True)
class Outcome:
    """Checkpoints by recipe, and why there are no others."""

    folders: dict[str, Path]
    failures: dict[str, EngineFailure]


def folders_of(cache: Path) -> list[Path]:
    return [path for path in (cache / "checkpoints").iterdir() if path.is_dir()]


@pytest.fixture(scope="module")
def remains(cache: Path) -> Path:
    """What a child leaves that is killed before it has written the manifest of the first checkpoint."""

    class Killed(Exception):
        pass

    def kill(event: dict[str, object]) -> None:
        if event.get("step") == "checking":  # all is written but the manifest
            raise Killed  # ends the child with SIGKILL

    with pytest.MonkeyPatch.context() as killed, contextlib.suppress(Killed):
        killed.setattr("optimize.quantize.checkpoints.remove_drafts", lambda _: None)  # who is killed tidies nothing up
        make_checkpoints(DEMO, [recipe("int8")], cache, lambda _: None, watch=kill)
    (folder,) = folders_of(cache)
    assert (folder / "model.safetensors").is_file()
    return folder


@pytest.fixture(scope="module")
def outcome(cache: Path, remains: Path, calibration: Calibration) -> Outcome:
    """All recipes and one that llm-compressor does not know, made in one go: its import takes longer than the rest."""
    unknown = dataclasses.replace(Recipe("mine"), modifiers={"NoSuchModifier": {"targets": "Linear"}})
    recipes = [recipe(NAMES[0]), unknown, *map(recipe, NAMES[1:])]
    folders, failures = make_checkpoints(DEMO, recipes, cache, lambda _: None, calibration)
    return Outcome({name: Path(path) for name, path in folders.items()}, failures)


@pytest.fixture(scope="module")
def checkpoints(outcome: Outcome) -> dict[str, Path]:
    return outcome.folders


def _by_kind(folder: Path) -> dict[str, set[Precision]]:
    """Last part of a module's name -> what modules of this name got."""
    kinds: dict[str, set[Precision]] = {}
    for module, precision in layer_precisions(folder).items():
        kinds.setdefault(module.rpartition(".")[2], set()).add(precision)
    return kinds


def test_mixed8_treats_layers_by_how_sensitive_they_are(checkpoints: dict[str, Path]) -> None:
    dynamic = {Precision("int8 per channel", "dynamic int8")}
    static = {Precision("int8 per channel", "static int8")}
    left = {Precision("bfloat16", "float")}
    assert _by_kind(checkpoints["mixed8"]) == {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), dynamic),
        **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), static),
        "embed_tokens": left, "lm_head": left,
    }  # fmt: skip
    manifest = read_manifest(checkpoints["mixed8"])
    assert {n: Precision(**p) for n, p in manifest["layers"].items()} == layer_precisions(checkpoints["mixed8"])


@pytest.mark.parametrize(
    ("name", "weights", "activations"),
    [
        ("int8", "int8 per channel", "dynamic int8"),
        ("int8_smoothquant", "int8 per channel", "dynamic int8"),
        ("int4", "int4 in groups of 128", "float"),
        ("int4_gptq", "int4 in groups of 128", "float"),
        ("dynamic4", "int4 in groups of 128", "dynamic int8"),
        ("fp8", "fp8 per channel", "dynamic fp8"),
    ],
)
def test_the_other_recipes_treat_all_linear_layers_alike(
    checkpoints: dict[str, Path], name: str, weights: str, activations: str
) -> None:
    kinds = _by_kind(checkpoints[name])
    assert {kind for kind, got in kinds.items() if got == {Precision(weights, activations)}} == LINEAR
    assert all(p.activations == "float" for kind in ("embed_tokens", "lm_head") for p in kinds[kind])


def roundings(name: str) -> tuple[int, float]:
    """How often a weight is rounded to a 16-bit number, and by which share of itself at most.

    The weight itself, its scale, and the quotient of both; SmoothQuant's product and the norm that takes it up are two
    more. Eight significant bits (bfloat16) are off by up to 2^-8, eleven (float16) by up to 2^-11.
    """
    return 5 if name == "int8_smoothquant" else 3, 2.0 ** (-8 if recipe(name).dtype == "bfloat16" else -11)


@pytest.mark.parametrize("name", ["int8", "mixed8", "int8_smoothquant", "int4", "dynamic4", "fp8"])
def test_rounded_weights_deviate_as_their_bits_predict(checkpoints: dict[str, Path], name: str) -> None:
    times, share = roundings(name)
    # How many steps away from zero the largest weight is: there, rounding to a share of itself moves it the most.
    reach = 16 if name == "fp8" else (2 ** (4 if "4" in name else 8) - 1) / 2
    result = deviations(checkpoints[name], Path(DEMO.path))
    assert len(result) == 4 * len(LINEAR)
    for deviation in result.values():
        # Independent errors add up in squares; one spread evenly over +-share has share / sqrt(3) of it.
        most = math.hypot(deviation.predicted, share * math.sqrt(times / 3))
        assert 0.98 * deviation.predicted < deviation.rms < 1.02 * most
        assert deviation.worst_steps < 1.01 * (0.5 + times * share * reach)


def test_gptq_pays_with_larger_weight_errors_for_smaller_errors_of_the_output(checkpoints: dict[str, Path]) -> None:
    gptq, rounded = (deviations(checkpoints[n], Path(DEMO.path)) for n in ("int4_gptq", "int4"))
    for module, deviation in gptq.items():
        assert rounded[module].rms < deviation.rms < 3 * rounded[module].rms


def test_the_manifest_has_the_origin_of_a_checkpoint(checkpoints: dict[str, Path], calibration: Calibration) -> None:
    manifest = read_manifest(checkpoints["mixed8"])
    assert manifest["calibration_hash"] == calibration.take(128).hash
    assert manifest["calibration_samples"] == 128
    assert manifest["recipe"]["name"] == "mixed8" and "self_attn" in manifest["recipe_text"]
    assert {"llmcompressor", "compressed-tensors"} <= set(manifest["versions"])
    assert manifest["seconds"] > 0 and manifest["tensor_bytes"] > 0
    assert read_manifest(checkpoints["int8"])["calibration_hash"] is None


def test_a_recipe_that_needs_calibration_is_not_made_without(cache: Path) -> None:
    result, broken = make_checkpoints(DEMO, [recipe("mixed8"), Recipe("fp16")], cache, lambda _: None)
    assert result == {"fp16": DEMO.path}
    assert "needs calibration data" in str(broken["mixed8"])


def test_a_kill_in_the_middle_leaves_nothing_to_serve(remains: Path, outcome: Outcome, cache: Path) -> None:
    assert remains.suffix == ".part" and not remains.exists()
    assert set(folders_of(cache)) == set(outcome.folders.values())
    whole = outcome.folders["int8"]
    assert damage(whole) is None and is_marked(whole) and is_held(whole)


def test_a_recipe_that_llmcompressor_does_not_know_is_named_and_the_others_are_made(
    outcome: Outcome,
) -> None:
    assert outcome.folders.keys() == set(NAMES) and outcome.failures.keys() == {"mine"}
    assert "NoSuchModifier" in str(outcome.failures["mine"])


def test_the_command_makes_a_damaged_one_again_touches_nothing_else_and_finds_it_again(
    optimize: Run, checkpoints: dict[str, Path], cache: Path
) -> None:
    whole, damaged = checkpoints["int8"], checkpoints["mixed8"]
    before = (whole / MANIFEST).stat().st_mtime_ns
    os.truncate(damaged / "model.safetensors", 1000)
    overrides = ["quantization=mixed8", f"cache_dir={cache}"]
    first, second = optimize(overrides, verb="optimize.quantize"), optimize(overrides, verb="optimize.quantize")
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"{damaged.name} is damaged (model.safetensors has 1000 bytes" in first.stdout
    assert "making checkpoints: mixed8\n" in first.stdout
    assert "now, in" in first.stdout and "from the cache, complete" in second.stdout
    assert "128 prompts of the workload, hash" in first.stdout
    assert "weights int8 per channel, activations static int8: model.layers.*.mlp" in first.stdout
    assert damage(damaged) is None
    assert (whole / MANIFEST).stat().st_mtime_ns == before
