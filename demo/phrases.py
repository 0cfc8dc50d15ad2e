"""Noun phrases, places and times, each built in both languages at once."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from demo import english, german
from demo.lexicon import ADJECTIVES, AMBIGUOUS, ANIMALS, PERSONS, PLACES, THINGS
from demo.words import Adjective, GermanNoun, Noun, Place

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A piece of text in both languages."""

    english: str = ""
    german: str = ""


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun phrase or pronoun; `german` holds one form per case, in the order of `german.CASES`."""

    english: str
    english_object: str
    german: tuple[str, str, str, str]
    person: str
    gender: str
    kind: str = "noun"

    def case(self, case: str) -> str:
        """Return the German form for `case`."""
        return self.german[german.CASES.index(case)]


@dataclass(frozen=True, slots=True)
class Determiner:
    """An English determiner beside the German stem; `plural` is None where either number will do."""

    english: str
    german: str
    stem: str
    plural: bool | None = None
    kind: str = "noun"


_POSSESSIVES = (
    ("my", "mein"),
    ("your", "dein"),
    ("his", "sein"),
    ("her", "ihr"),
    ("our", "unser"),
    ("their", "ihr"),
)
_DEFINITE = (
    Determiner("the", "der", "der"),
    Determiner("this", "dies", "dies", False),
    Determiner("these", "dies", "dies", True),
    Determiner("that", "jen", "jen", False),
    Determiner("every", "jed", "jed", False),
    *(Determiner(en, de, de) for en, de in _POSSESSIVES),
)
_INDEFINITE = (
    Determiner("a", "ein", "ein", False, "indefinite"),
    Determiner("", "", "", True, "indefinite"),
)
_NO = (Determiner("no", "kein", "kein"),)
_PRONOUNS = (
    NounPhrase("I", "me", ("ich", "mich", "mir", ""), "i", "", "pronoun"),
    NounPhrase("you", "you", ("du", "dich", "dir", ""), "you", "", "pronoun"),
    NounPhrase("he", "him", ("er", "ihn", "ihm", ""), "he", "m", "pronoun"),
    NounPhrase("she", "her", ("sie", "sie", "ihr", ""), "he", "f", "pronoun"),
    NounPhrase("we", "us", ("wir", "uns", "uns", ""), "we", "", "pronoun"),
    NounPhrase("they", "them", ("sie", "sie", "ihnen", ""), "they", "p", "pronoun"),
)
_DAYS = {
    "Monday": "Montag",
    "Tuesday": "Dienstag",
    "Wednesday": "Mittwoch",
    "Thursday": "Donnerstag",
    "Friday": "Freitag",
    "Saturday": "Samstag",
    "Sunday": "Sonntag",
}
_WHEN = {
    "past": ("yesterday gestern", "then dann", "earlier früher"),
    "perfect": ("recently kürzlich", "today heute", "already schon"),
    "present": ("today heute", "now jetzt", "often oft", "sometimes manchmal", "always immer"),
    "will": ("tomorrow morgen", "soon bald", "later später"),
}
# The half hour counts towards the next hour in German: half past three is half four.
_CLOCK = (("{}", "{}", 0), ("half past {}", "halb {}", 1), ("a quarter past {}", "Viertel nach {}", 0))


def weighted(rng: random.Random, renderings: Sequence[tuple[int, T]]) -> T:
    """Draw one rendering by weight."""
    return rng.choices([item for _, item in renderings], [weight for weight, _ in renderings])[0]


def pronoun(rng: random.Random) -> NounPhrase:
    """Draw a personal pronoun."""
    return rng.choice(_PRONOUNS)


def it(antecedent: NounPhrase) -> NounPhrase:
    """Refer back to a thing: German takes the gender of the noun chosen before, English tells none."""
    if antecedent.person == "they":
        return _PRONOUNS[-1]
    word = {"m": "er", "f": "sie", "n": "es"}[antecedent.gender]
    return NounPhrase("it", "it", (word, "", "", ""), "he", antecedent.gender, "pronoun")


def _number(rng: random.Random) -> Determiner:
    value = rng.randint(2, 12) if rng.random() < 0.6 else rng.randint(13, 99)
    return Determiner(english.numeral(value), german.numeral(value), "", True)


def _draw_determiner(rng: random.Random) -> Determiner:
    draw = rng.random()
    if draw < 0.12:
        return _number(rng)
    if draw < 0.4:
        return rng.choice(_INDEFINITE)
    if draw < 0.44:
        return _NO[0]
    return _DEFINITE[0] if draw < 0.7 else rng.choice(_DEFINITE)


def inflect(word: Determiner, noun: GermanNoun, plural: bool, words: Sequence[Adjective]) -> tuple[str, ...]:
    """Return determiner, adjectives and noun in all four cases."""
    gender = "p" if plural else noun.gender
    fixed = not word.stem
    forms = []
    for case in german.CASES:
        first = word.german if fixed else german.determiner(word.german, gender, case)
        endings = [german.adjective(adjective, word.stem, gender, case) for adjective in words]
        forms.append(" ".join([first, *endings, german.noun_form(noun, plural, case)]).strip())
    return tuple(forms)


def _english_phrase(word: Determiner, noun: str, words: Sequence[Adjective]) -> str:
    text = " ".join([*(adjective.english for adjective in words), noun])
    return english.indefinite(text) if word.english == "a" else f"{word.english} {text}".strip()


def build(rng: random.Random, noun: Noun, word: Determiner, words: Sequence[Adjective]) -> NounPhrase:
    """Build a noun phrase; the German rendering is drawn by weight."""
    plural = rng.random() < 0.3 if word.plural is None else word.plural
    rendering = weighted(rng, noun.renderings)
    nom, acc, dat, gen = inflect(word, rendering, plural, words)
    text = _english_phrase(word, noun.plural if plural else noun.singular, words)
    person, gender = ("they", "p") if plural else ("he", rendering.gender)
    return NounPhrase(text, text, (nom, acc, dat, gen), person, gender, word.kind)


def _adjectives(rng: random.Random) -> list[Adjective]:
    draw = rng.random()
    return rng.sample(ADJECTIVES, 0 if draw < 0.5 else 1 if draw < 0.92 else 2)


def _possessed(rng: random.Random, phrase: NounPhrase) -> NounPhrase:
    """Append an owner in the genitive: `the house of my sister`."""
    owner = build(rng, rng.choice(PERSONS), rng.choice((_DEFINITE[0], *_DEFINITE[5:])), [])
    nom, acc, dat, gen = (f"{form} {owner.case('gen')}" for form in phrase.german)
    text = f"{phrase.english} of {owner.english}"
    return replace(phrase, english=text, english_object=text, german=(nom, acc, dat, gen))


def _noun_phrase(rng: random.Random, noun: Noun) -> NounPhrase:
    phrase = build(rng, noun, _draw_determiner(rng), _adjectives(rng))
    return _possessed(rng, phrase) if phrase.kind == "noun" and rng.random() < 0.1 else phrase


def being(rng: random.Random) -> NounPhrase:
    """Draw a person or, less often, an animal."""
    return _noun_phrase(rng, rng.choice(PERSONS if rng.random() < 0.8 else ANIMALS))


def subject(rng: random.Random) -> NounPhrase:
    """Draw a subject."""
    return pronoun(rng) if rng.random() < 0.3 else being(rng)


def thing(rng: random.Random, domain: str) -> NounPhrase:
    """Draw a thing; one in three is an ambiguous noun in the sense that fits the place."""
    senses = [by_domain[domain] for by_domain in AMBIGUOUS.values() if domain in by_domain]
    return _noun_phrase(rng, rng.choice(senses) if rng.random() < 0.35 else rng.choice(THINGS))


def negate(phrase: NounPhrase) -> NounPhrase:
    """Turn an indefinite German phrase into one with `kein`; the English side carries `not` at the verb."""
    if phrase.english.startswith(("a ", "an ")):
        nom, acc, dat, gen = (f"k{form}" for form in phrase.german)
    else:
        endings = (german.determiner("kein", "p", case) for case in german.CASES)
        nom, acc, dat, gen = (f"{first} {rest}" for first, rest in zip(endings, phrase.german, strict=True))
    return replace(phrase, german=(nom, acc, dat, gen))


def place(rng: random.Random) -> Place:
    """Draw a place."""
    return rng.choice(PLACES)


def at(rng: random.Random, where: Place, case: str = "dat") -> Phrase:
    """Say where something happens (`dat`) or where it goes (`acc`)."""
    words = rng.sample(ADJECTIVES, 1) if rng.random() < 0.25 else []
    phrase = build(rng, where.noun, Determiner("the", "der", "der", False), words)
    preposition = {"in": "into", "at": "to"}[where.preposition] if case == "acc" else where.preposition
    text = german.contract(f"{where.german_preposition} {phrase.case(case)}")
    return Phrase(f"{preposition} {phrase.english}", text)


def companion(rng: random.Random) -> Phrase:
    """Say with, for or without whom; the preposition decides the case."""
    first, second, case = rng.choice((("with", "mit", "dat"), ("without", "ohne", "acc"), ("for", "für", "acc")))
    who = build(rng, rng.choice(PERSONS), rng.choice(_DEFINITE), _adjectives(rng))
    return Phrase(f"{first} {who.english}", f"{second} {who.case(case)}")


def time(rng: random.Random, tense: str) -> Phrase:
    """Draw a time that fits the tense: an adverb, a weekday or an hour."""
    draw = rng.random()
    if draw < 0.5:
        return Phrase(*rng.choice(_WHEN.get(tense, _WHEN["present"])).split())
    if draw < 0.7:
        day = rng.choice(list(_DAYS))
        return Phrase(f"on {day}", f"am {_DAYS[day]}")
    text, translation, step = rng.choice(_CLOCK)
    hour = rng.randint(1, 12)
    german_hour = german.hour((hour + step - 1) % 12 + 1)
    return Phrase(f"at {text.format(english.numeral(hour))}", f"um {translation.format(german_hour)}")
