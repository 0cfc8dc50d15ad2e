"""Recipes are checked before anything is made, and named by all that determines a checkpoint."""

import json
from pathlib import Path

import pytest

from optimize.config.recipes import check_files, check_source, is_made
from optimize.config.schema import Recipe
from optimize.errors import ConfigError
from optimize.quantize.recipe import recipe_hash, recipe_text


def check(recipe: Recipe) -> None:
    check_source(recipe)
    check_files([recipe])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("r", scheme="W8A8", checkpoint="a/b"), "recipes.r gives scheme and checkpoint: give one of"),
        (Recipe("r", recipe="nowhere.yaml"), "recipes.r.recipe=nowhere.yaml does not exist"),
        (Recipe("r", checkpoint="/no/such/folder"), "neither a folder nor a Hugging Face id"),
    ],
)
def test_contradictory_recipes_are_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(recipe)


@pytest.mark.parametrize(("content", "message"), [("a: [", "is no YAML"), ("3", "must map stages"), ("", "must map")])
def test_invalid_recipe_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        check(Recipe("r", recipe=str(path)))


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no config.json"):
        check(Recipe("r", checkpoint=str(tmp_path)))


def test_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("s_stage: {m_modifiers: {}}", encoding="utf-8")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for recipe in (
        Recipe("a"), Recipe("b", scheme="W8A8"), Recipe("c", recipe=str(path)), Recipe("d", checkpoint=str(tmp_path)),
        Recipe("e", checkpoint="somebody/model"), Recipe("f", modifiers={"GPTQModifier": {}}),
    ):  # fmt: skip
        check(recipe)
        assert is_made(recipe) == (recipe.name in "bcf")


def test_a_scheme_and_modifiers_in_llmcompressors_words(tmp_path: Path) -> None:
    scheme = json.loads(recipe_text(Recipe("r", scheme="W8A8", ignore=["lm_head"])))
    assert scheme == {
        "quantization_stage": {
            "quantization_modifiers": {
                "QuantizationModifier": {"targets": ["Linear"], "scheme": "W8A8", "ignore": ["lm_head"]}
            }
        }
    }
    modifiers = json.loads(recipe_text(Recipe("r", modifiers={"SmoothQuantModifier": {}, "GPTQModifier": {}})))
    assert list(modifiers["quantization_stage"]["quantization_modifiers"]) == ["SmoothQuantModifier", "GPTQModifier"]


def test_the_hash_follows_the_contents_of_a_file_and_not_vllms_flags(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("s_stage: {m_modifiers: {}}", encoding="utf-8")
    before = recipe_hash(Recipe("r", recipe=str(path)))
    assert recipe_hash(Recipe("r", recipe=str(path), flags={"block_size": 32})) == before
    path.write_text("s_stage: {n_modifiers: {}}", encoding="utf-8")
    assert recipe_hash(Recipe("r", recipe=str(path))) != before
