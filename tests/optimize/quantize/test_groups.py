from __future__ import annotations

import json
from typing import Any

import pytest

from optimize.config.schema import Recipe
from optimize.quantize.groups import fitted
from optimize.quantize.recipe import recipe_text


def modifier_of(recipe: Recipe, widths: set[int]) -> dict[str, Any]:
    stages = json.loads(fitted(recipe_text(recipe), widths))
    (modifier,) = stages["quantization_stage"]["quantization_modifiers"].values()
    return dict(modifier)


@pytest.mark.parametrize(("widths", "size"), [({576, 1536}, 64), ({96, 128}, 32)])
def test_groups_divide_every_width(widths: set[int], size: int) -> None:
    modifier = modifier_of(Recipe("int4", scheme="W4A16", ignore=["lm_head"]), widths)
    group = modifier["config_groups"]["group_0"]
    assert (group["weights"]["group_size"], group["weights"]["num_bits"]) == (size, 4)
    assert group["targets"] == ["Linear"] and modifier["ignore"] == ["lm_head"] and "scheme" not in modifier


@pytest.mark.parametrize(
    ("scheme", "widths"),
    [("W4A16", {256, 512}), ("W4A16", {100}), ("W8A8", {576}), ("no preset", {576})],
    ids=["they fit", "no usual size does", "no groups", "llm-compressor says so"],
)
def test_other_recipes_stay_as_they_are(scheme: str, widths: set[int]) -> None:
    recipe = Recipe("r", scheme=scheme, ignore=["lm_head"])
    assert json.loads(fitted(recipe_text(recipe), widths)) == json.loads(recipe_text(recipe))


def test_gptq_is_fitted_as_well_and_a_file_of_the_user_is_not() -> None:
    gptq = Recipe("g", modifiers={"GPTQModifier": {"targets": "Linear", "scheme": "W4A16", "ignore": ["lm_head"]}})
    assert modifier_of(gptq, {576})["config_groups"]["group_0"]["weights"]["group_size"] == 64
    text = "quant_stage:\n  quant_modifiers:\n    QuantizationModifier: {scheme: W4A16}\n"
    assert fitted(text, {576}) == text
