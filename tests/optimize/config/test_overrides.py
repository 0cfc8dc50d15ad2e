"""Words of a command line as people write them: read as they are meant, or answered with the form that works."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from optimize.config.compose import composed, configuration, explain
from optimize.config.overrides import in_grammar
from optimize.errors import ConfigError


def _value(word: str) -> Any:
    return OverridesParser.create().parse_override(in_grammar(word)).value()


@pytest.mark.parametrize(
    "text",
    [
        "/data/date=2024-01-01/part.parquet", "checkpoints/epoch=9-step=1.ckpt", "my prompts (2).jsonl",
        "prompts[1].jsonl", "~somebody/prompts.jsonl", "größe.jsonl", "http://[::1]:8000", "it's.jsonl", "a#b",
        "50%, or so", "C:{x}", 'say "hi".jsonl', "a;b&c", "a,b=1.jsonl",
    ],
)  # fmt: skip
def test_a_path_with_any_signs_is_a_text(text: str) -> None:
    assert _value(f"workload.path={text}") == text


def test_a_path_below_home_is_found_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell replaces ~ at the beginning of a word alone; `output_dir=~/runs` made a folder called ~."""
    monkeypatch.setenv("HOME", "/home/some one")
    assert _value("output_dir=~/runs") == "/home/some one/runs"
    config = configuration(["+study=chat", "output_dir=~/runs (2)"])
    assert config.tracking.storage == "sqlite:////home/some one/runs (2)/optuna.db"


@pytest.mark.parametrize("text", ["2024_01", "1e5", "1.50", "007", "a,b.jsonl", "1,2"])
def test_a_text_of_the_schema_is_no_number_and_no_list(text: str) -> None:
    assert _value(f"workload.path={text}") == text
    assert _value(f"+hardware.env.LABEL={text}") == text


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("study.trials=1_000", 1000), ("study.minutes=1e1", 10.0), ("workload.reference_column=null", None),
        ("+engine.flags.max_num_seqs=64", 64), ("+engine.flags.enforce_eager=true", True),
        ("workload.path='date=1/a.parquet'", "date=1/a.parquet"), ("objectives=[qps,bleu]", ["qps", "bleu"]),
        ("model.path=/models/a", "/models/a"), ("model.path=", ""),
    ],
)  # fmt: skip
def test_what_hydra_reads_as_it_is_meant_is_left_alone(word: str, value: Any) -> None:
    assert in_grammar(word) == word and _value(word) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"method": "ngram", "num_speculative_tokens": 5}', {"method": "ngram", "num_speculative_tokens": 5}),
        ('{"rope":{"rope_type":"yarn","factor":4.0}}', {"rope": {"rope_type": "yarn", "factor": 4}}),
        ('[{"name": "sql", "path": "/lora/r=8"}]', [{"name": "sql", "path": "/lora/r=8"}]),
        ('{"a": null, "b": [true, "yes", "1"], "c": {}}', {"a": None, "b": [True, "yes", "1"], "c": {}}),
    ],
)  # fmt: skip
def test_json_is_pasted_as_vllms_documentation_writes_it(text: str, value: Any) -> None:
    assert _value(f"+engine.flags.some_config={text}") == value


def test_pasted_json_reaches_the_configuration() -> None:
    word = '+engine.flags.speculative_config={"method": "ngram", "num_speculative_tokens": 5}'
    flags = configuration(["+study=chat", word]).engine["flags"]
    assert flags["speculative_config"] == {"method": "ngram", "num_speculative_tokens": 5}


def _answer(*words: str) -> str:
    with pytest.raises(Exception) as mistake:  # noqa: B017, PT011  (of Hydra, of OmegaConf, or ours)
        composed(["+study=chat", *words])
    return " ".join(explain(mistake.value, ["+study=chat", *words]).split())


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["+engine.flags.lora_modules=[sql=/a/b]"], """write '+engine.flags.lora_modules=["sql=/a/b"]'"""),
        (["+model.flags.chat_template={{ a }}"], """write '+model.flags.chat_template="{{ a }}"'"""),
        (["search_space.quantization=[int8"], "each closed"),
        (["+x={method:", "ngram,", "n: 3}"], "the shell has split '+x={method:' at a space: put the whole word"),
        (["'study.trials=3'"], "holds quotes that are for the shell alone: write study.trials=3"),
        (["study.trials = 3"], "has a space before the '=': write study.trials=3"),
        (["study.trials"], "is no override: write key=value"),
        (["study.trials=ten"], "study.trials must be a whole number, got 'ten'"),
        (["study.minutes=1h"], "study.minutes must be a number of minutes, got '1h'"),
        (["study.fresh=maybe"], "study.fresh must be true or false, got 'maybe'"),
        (["tables.batch_size=16"], "tables.batch_size must be a list: write 'tables.batch_size=[16]'"),
        (["seed=1"], "unknown key 'seed' in the configuration; did you mean study.seed?"),
        (["load.arrivals.rate_per_s=5"], "load.arrivals is ClosedLoop, and another choice of its group has other"),
        (["+engine.flags.--max-num-seqs=4"], "write +engine.flags.max_num_seqs=4"),
        (["bulk"], "'bulk' is no override: write +study=bulk"),
        (["+search_space.batch_size=[1,2]"], "put '~search_space.batch_size' before '+search_space.batch_size=[1,2]'"),
        (["+study.="], "has a dot without a name beside it: write key=value"),
        (["a:b="], "is not in Hydra's grammar"),
        (["load.arrivals.users=4,8"], "gives several values: write 'load.arrivals.users=[4,8]' for a list"),
        (["+study=bulk"], "study is given twice: give it once"),
        (["search_space.batch_size=[1,2]"], "put '~search_space.batch_size' before '+search_space.batch_size=[1,2]'"),
        (["engine.flags.max_num_seqs=4"], "begins with '+': +engine.flags.max_num_seqs=..."),
        (["constraints.ttft_p99_s={max: 1}"], "begins with '+': +constraints.ttft_p99_s=..."),
    ],
)  # fmt: skip
def test_a_word_that_is_no_override_is_answered_with_the_one_that_works(words: list[str], answer: str) -> None:
    message = _answer(*words)
    assert answer in message and "hydra.cc" not in message


def test_a_list_takes_the_place_of_a_range_as_the_message_says() -> None:
    words = ["+study=chat", "~search_space.batch_size", "+search_space.batch_size=[1,2]"]
    assert configuration(words).search_space["batch_size"] == [1, 2]


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("+constraint.ttft_p99_s={max: 1}", "unknown key 'constraint' in the configuration; did you mean"),
        ("+study.trails=3", "unknown key 'study.trails' in the configuration; did you mean 'trials'?"),
        ("++load.guard.repeat=0", "unknown key 'load.guard.repeat' in the configuration; did you mean 'repeats'?"),
        ("+recipes.int8.shceme=W8A8", "did you mean 'scheme'?"),
        ("+study.cut_short=false", "study.cut_short no longer exists; windows are measured in full now: leave it out"),
    ],
)  # fmt: skip
def test_a_key_that_nobody_reads_is_refused_even_with_a_plus(word: str, answer: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        configuration(["+study=chat", word])
    assert answer in str(refusal.value)
