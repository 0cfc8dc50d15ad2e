"""The demo grammar, its workloads and the shipped model's files."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo import english, german, phrases
from demo.grammar import SHAPES, is_held_out, sample, sample_shape
from demo.lexicon import ADJECTIVES, AMBIGUOUS, DITRANSITIVE, PERSONS, SOCIAL, THINGS, TRANSITIVE
from demo.pairs import MAX_POSITIONS, MODEL_FOLDER, prompt_of, training_pairs
from demo.words import GermanNoun, GermanVerb
from demo.workloads import LINES, WORKLOAD_FOLDER, held_out_pairs, tokens

OLD = next(word for word in ADJECTIVES if word.english == "old")
DARK = next(word for word in ADJECTIVES if word.english == "dark")
MAN = GermanNoun("m", "Mann", "Männer")
WOMAN = GermanNoun("f", "Frau", "Frauen")
CHILD = GermanNoun("n", "Kind", "Kinder")
BOY = GermanNoun("m", "Junge", "Jungen", weak=True)


def _read(shape: str) -> list[dict[str, str]]:
    lines = (WORKLOAD_FOLDER / f"{shape}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _json(name: str) -> Any:
    return json.loads((MODEL_FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer  # here, or every process that collects the tests imports it, for seconds

    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


def _find(draw: Callable[[random.Random], Any], wanted: Callable[[Any], bool]) -> Any:
    rng = random.Random(0)
    return next(item for item in (draw(rng) for _ in range(20_000)) if wanted(item))


# Grammar


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_seeds_give_equal_sentences(shape: str) -> None:
    first, second, other = ([sample_shape(random.Random(seed), shape)] for seed in (3, 3, 4))
    assert first == second != other


@pytest.mark.parametrize("shape", SHAPES)
def test_sentences_keep_to_their_shape(shape: str) -> None:
    rng = random.Random(1)
    for _ in range(200):
        source = sample_shape(rng, shape).source
        assert SHAPES[shape].min_words <= len(source.split()) <= SHAPES[shape].max_words


@pytest.mark.parametrize("clauses", [1, 2, 3, 4, 5])
def test_sentences_are_clean_text(clauses: int) -> None:
    rng = random.Random(2)
    for _ in range(300):
        pair = sample(rng, clauses)
        for text in (pair.source, pair.reference):
            assert text[0].isupper() and text.endswith(".")
            assert "  " not in text and ",," not in text and ",." not in text and "None" not in text


def test_a_sentence_needs_a_clause() -> None:
    with pytest.raises(ValueError, match="at least 1 clause, not 0"):
        sample(random.Random(0), 0)


def test_sentences_rarely_repeat() -> None:
    rng = random.Random(5)
    assert len({sample_shape(rng, "chat").source for _ in range(2000)}) > 1980


# German agreement


@pytest.mark.parametrize(
    ("stem", "noun", "plural", "forms"),
    [
        ("der", MAN, False, "der alte Mann|den alten Mann|dem alten Mann|des alten Mannes"),
        ("der", WOMAN, False, "die alte Frau|die alte Frau|der alten Frau|der alten Frau"),
        ("der", CHILD, False, "das alte Kind|das alte Kind|dem alten Kind|des alten Kindes"),
        ("der", CHILD, True, "die alten Kinder|die alten Kinder|den alten Kindern|der alten Kinder"),
        ("ein", MAN, False, "ein alter Mann|einen alten Mann|einem alten Mann|eines alten Mannes"),
        ("mein", WOMAN, False, "meine alte Frau|meine alte Frau|meiner alten Frau|meiner alten Frau"),
        ("unser", CHILD, False, "unser altes Kind|unser altes Kind|unserem alten Kind|unseres alten Kindes"),
        ("kein", MAN, True, "keine alten Männer|keine alten Männer|keinen alten Männern|keiner alten Männer"),
        ("dies", BOY, False, "dieser alte Junge|diesen alten Jungen|diesem alten Jungen|dieses alten Jungen"),
        ("", WOMAN, True, "alte Frauen|alte Frauen|alten Frauen|alter Frauen"),
    ],
)
def test_noun_phrases_agree(stem: str, noun: GermanNoun, plural: bool, forms: str) -> None:
    determiner = phrases.Determiner("", stem, stem)
    assert phrases.inflect(determiner, noun, plural, [OLD]) == tuple(forms.split("|"))


def test_stem_changes_before_endings() -> None:
    assert german.adjective(DARK, "ein", "m", "nom") == "dunkler"


@pytest.mark.parametrize(
    ("long", "short"),
    [("in dem Wald", "im Wald"), ("in das Haus", "ins Haus"), ("in der Oper", "in der Oper")],
)
def test_prepositions_merge_with_articles(long: str, short: str) -> None:
    assert german.contract(long) == short


@pytest.mark.parametrize(
    ("verb", "present", "past"),
    [
        (GermanVerb("nehmen", "nimmt", "nahm", "genommen", "weg"), "nehme nimmst nimmt", "nahm nahmst nahm"),
        (
            GermanVerb("schließen", "schließt", "schloss", "geschlossen"),
            "schließe schließt schließt",
            "schloss schlosst schloss",
        ),
        (GermanVerb("finden", "findet", "fand", "gefunden"), "finde findest findet", "fand fandest fand"),
        (
            GermanVerb("arbeiten", "arbeitet", "arbeitete", "gearbeitet"),
            "arbeite arbeitest arbeitet",
            "arbeitete arbeitetest arbeitete",
        ),
    ],
)
def test_verbs_conjugate(verb: GermanVerb, present: str, past: str) -> None:
    people = ("i", "you", "he")
    assert [german.present(verb, person) for person in people] == present.split()
    assert [german.preterite(verb, person) for person in people] == past.split()


def test_numerals() -> None:
    values = (2, 12, 16, 17, 21, 60, 73)
    expected = "zwei zwölf sechzehn siebzehn einundzwanzig sechzig dreiundsiebzig"
    assert [german.numeral(value) for value in values] == expected.split()
    assert [english.numeral(value) for value in (12, 16, 73)] == ["twelve", "sixteen", "seventy-three"]


def test_half_hours_count_towards_the_next_hour() -> None:
    when = _find(lambda rng: phrases.time(rng, "present"), lambda item: "half past twelve" in item.english)
    assert when.german == "um halb eins"


@pytest.mark.parametrize(
    ("person", "tense", "negated", "text"),
    [
        ("he", "present", False, "throws"),
        ("he", "present", True, "does not throw"),
        ("they", "past", True, "did not throw"),
        ("he", "perfect", False, "has thrown"),
        ("we", "can", True, "cannot throw"),
        ("he", "want", False, "wants to throw"),
    ],
)
def test_english_verbs(person: str, tense: str, negated: bool, text: str) -> None:
    throw = next(verb for verb in TRANSITIVE if verb.base == "throw")
    assert english.verb_phrase(throw, person, tense, negated) == text


# Word order


def _reference(start: str, contains: str) -> str:
    def wanted(pair: Any) -> bool:
        return pair.source.startswith(start) and contains in pair.source

    reference: str = _find(lambda rng: sample(rng, 1), wanted).reference
    return reference


def test_separable_prefix_closes_a_main_clause() -> None:
    assert _reference("He ", "throws away").endswith(" weg.")


def test_fronted_time_puts_the_verb_second() -> None:
    assert _reference("Yesterday I ", "").split()[2] == "ich"


def test_subordinate_clauses_end_with_the_joined_verb() -> None:
    def wanted(pair: Any) -> bool:
        return pair.source.startswith(("Because ", "If ", "While ")) and " picks up " in pair.source.split(",")[0]

    reference = _find(lambda rng: sample(rng, 2), wanted).reference
    assert reference.split(",")[0].endswith(" abholt")


def test_must_not_forbids() -> None:
    assert " darf " in _reference("I must not", "")


def test_negated_indefinites_take_kein() -> None:
    reference = _reference("", " not forget a ")
    assert " kein" in reference and "nicht" not in reference


@pytest.mark.parametrize(("place", "plain"), [("home", "Tisch"), ("school", "Tabelle")])
def test_the_place_decides_what_an_ambiguous_noun_means(place: str, plain: str) -> None:
    assert AMBIGUOUS["table"][place].renderings[0][1].singular == plain
    names = {"home": ("kitchen", "cellar", "garden"), "school": ("school", "library")}[place]

    def wanted(pair: Any) -> bool:
        return "the table " in pair.source and any(pair.source.endswith(f"in the {name}.") for name in names)

    assert plain in _find(lambda rng: sample(rng, 1), wanted).reference


def test_pronouns_take_the_gender_of_their_noun() -> None:
    for noun, word in ((MAN, "er"), (WOMAN, "sie"), (CHILD, "es")):
        antecedent = phrases.NounPhrase("x", "x", ("", "", "", ""), "he", noun.gender)
        assert phrases.it(antecedent).case("nom") == word


def test_lexicon_is_well_formed() -> None:
    for noun in (*PERSONS, *THINGS):
        assert all(german_noun.gender in "mfn" for _, german_noun in noun.renderings)
    for verb in (*TRANSITIVE, *SOCIAL, *DITRANSITIVE):
        for _, rendering in verb.renderings:
            assert rendering.infinitive.endswith("en") and rendering.present.endswith("t")


# Held-out workloads


@pytest.mark.parametrize("shape", SHAPES)
def test_workload_sentences_are_reserved(shape: str) -> None:
    rows = _read(shape)
    assert len(rows) == LINES[shape] and all(set(row) == {"prompt", "reference"} for row in rows)
    sources = [row["prompt"].removesuffix("\n") for row in rows]
    assert all(is_held_out(source) for source in sources) and len(set(sources)) == len(sources)


@pytest.mark.parametrize("shape", SHAPES)
def test_workload_files_are_what_the_grammar_writes(shape: str) -> None:
    pairs = held_out_pairs(shape, 7)
    expected = [next(pairs) for _ in range(5)]
    assert _read(shape)[:5] == [{"prompt": prompt_of(p.source), "reference": p.reference} for p in expected]


def test_training_never_sees_a_reserved_sentence() -> None:
    stream = training_pairs(11)
    assert not any(is_held_out(next(stream).source) for _ in range(2000))


@pytest.mark.parametrize("shape", SHAPES)
def test_prompts_and_references_fit(shape: str, tokenizer: Any) -> None:
    assert max(tokens(tokenizer, row) for row in _read(shape)) <= MAX_POSITIONS


# Shipped model


def test_model_is_small() -> None:
    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) <= 8_000_000


def test_model_configuration() -> None:
    config = _json("config.json")
    assert config["dtype"] == "float16" and config["max_position_embeddings"] == MAX_POSITIONS
    for size in ("hidden_size", "intermediate_size", "vocab_size"):
        assert config[size] % 128 == 0, f"{size} must be a multiple of the 4-bit group size"
    generation = _json("generation_config.json")
    assert generation["eos_token_id"] == config["eos_token_id"] == 2
    assert not {"temperature", "top_p", "top_k", "do_sample"} & set(generation)


def test_tokenizer_adds_bos_and_is_lossless(tokenizer: Any) -> None:
    for row in _read("chat")[:50]:
        ids = tokenizer.encode(row["prompt"])
        assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == row["prompt"]
        assert tokenizer.decode(tokenizer.encode(row["reference"]), skip_special_tokens=True) == row["reference"]


def test_shipped_text_names_no_absolute_path() -> None:
    for path in (*Path(MODEL_FOLDER).glob("*.json"), MODEL_FOLDER / "README.md"):
        assert not re.search(r"(?<![\w.<])/\w", path.read_text(encoding="utf-8"))
