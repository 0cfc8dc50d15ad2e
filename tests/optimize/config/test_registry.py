"""Every configuration holds the recipes, machines and metrics of `conf/catalogue.yaml` as their files have them."""

from __future__ import annotations

import pytest
import yaml
from hydra.errors import HydraException

from optimize.config.compose import composed, explain
from optimize.config.locations import CONF

CATALOGUE: dict[str, list[str]] = yaml.safe_load((CONF / "catalogue.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("part", "group", "choices"), [("recipes", "quantization", set[str]()), ("instances", "hardware", {"auto"})]
)
def test_each_file_of_a_group_is_listed_once(part: str, group: str, choices: set[str]) -> None:
    names = sorted(CATALOGUE[part])
    assert names == sorted({path.stem for path in (CONF / group).glob("*.yaml")} - choices)


@pytest.mark.parametrize(
    ("part", "group"), [("recipes", "quantization"), ("instances", "hardware"), ("metrics", "objectives")]
)
def test_a_configuration_holds_what_is_listed_as_its_file_has_it(part: str, group: str) -> None:
    node = composed([])[part]
    assert list(node) == list(CATALOGUE[part])
    for name in node:
        entry = {name: node[name]} if part == "metrics" else node[name]
        for key, value in yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8")).items():
            assert entry[key] == value or "${" in str(value)


def test_a_file_is_added_and_an_entry_is_changed_or_removed() -> None:
    words = ["+objectives@metrics=goodput", "~metrics.kv_cache_use", "instances.aws_p5.hourly_usd=18"]
    node = composed([*words, "+quantization@recipes.mine=int8", "recipes.mine.name=mine"])
    assert "goodput" in node.metrics and "kv_cache_use" not in node.metrics
    assert node.instances.aws_p5.hourly_usd == 18
    assert (node.recipes.mine.name, node.recipes.int8.name) == ("mine", "int8")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        (
            "quantization@recipes.int8=int4",
            "+quantization@recipes.int8=FILE adds an entry, recipes.int8.KEY=VALUE changes",
        ),
        ("objectives@metrics=[qps]", "objectives@metrics is no choice"),
        ("~hardware@instances.aws_p5", "~instances.aws_p5 removes it"),
    ],
)
def test_what_is_no_choice_is_answered_with_the_words_that_work(word: str, answer: str) -> None:
    with pytest.raises(HydraException) as mistake:
        composed([word])
    assert answer in explain(mistake.value, [word])
