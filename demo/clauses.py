"""Clauses of the English-German grammar: a subject, a verb with what it takes, a place and a time.

A clause holds its German parts apart, because their order depends on where the clause stands (`demo.grammar`).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from demo import english, german, phrases
from demo.lexicon import ADJECTIVES, DATIVE, DITRANSITIVE, INTRANSITIVE, MOTION, SOCIAL, TRANSITIVE
from demo.phrases import NounPhrase, Phrase
from demo.words import GermanVerb, Verb


@dataclass(frozen=True, slots=True)
class Clause:
    """German parts in the order of a main clause; `joined` is the finite verb with its prefix."""

    english: str
    time: Phrase
    subject: str
    finite: str
    joined: str
    objects: str
    rest: str
    tail: str
    thing: NounPhrase | None = None


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is fixed before the verb's arguments are drawn."""

    who: NounPhrase
    tense: str
    negated: bool
    where: Phrase
    domain: str


@dataclass(frozen=True, slots=True)
class _Arguments:
    english: str
    german: str
    kein: bool = False
    thing: NounPhrase | None = None


_TENSES = ("present", "past", "past", "perfect", "will", "can", "must", "want", "should")
_MODALS = {"can": "können", "must": "müssen", "want": "wollen", "should": "sollten", "will": "werden"}
_PREPOSITIONS = ("to", "at", "with", "for")
NO_TIME = Phrase()


def join_words(*parts: str) -> str:
    """The parts that are not empty, with spaces between them."""
    return " ".join(part for part in parts if part)


def german_verb(verb: GermanVerb, person: str, tense: str, negated: bool) -> tuple[str, str, str]:
    """Return finite verb, finite verb joined with its prefix, and what closes the clause."""
    if tense in ("present", "past"):
        finite = (german.present if tense == "present" else german.preterite)(verb, person)
        return finite, verb.prefix + finite, verb.prefix
    if tense == "perfect":
        finite = german.auxiliary(verb.auxiliary, person)
        return finite, finite, verb.prefix + verb.participle
    # "must not" forbids, "nicht müssen" would only not oblige.
    modal = "dürfen" if negated and tense == "must" else _MODALS[tense]
    finite = german.auxiliary(modal, person)
    return finite, finite, verb.prefix + verb.infinitive


def _english_object(verb: Verb, phrase: NounPhrase) -> str:
    """Place the particle: before a noun ("throw away the box"), after a pronoun ("wake him up")."""
    if phrase.kind == "pronoun" and verb.particle not in _PREPOSITIONS:
        return join_words(phrase.english_object, verb.particle)
    return join_words(verb.particle, phrase.english_object)


def _accusative(frame: _Frame, verb: Verb, phrase: NounPhrase) -> _Arguments:
    kein = frame.negated and phrase.kind == "indefinite"
    final = phrases.negate(phrase) if kein else phrase
    return _Arguments(_english_object(verb, phrase), final.case("acc"), kein, final)


def _transitive(rng: random.Random, frame: _Frame) -> tuple[Verb, _Arguments]:
    verb = rng.choice(TRANSITIVE)
    return verb, _accusative(frame, verb, phrases.thing(rng, frame.domain))


def _companion_object(rng: random.Random, frame: _Frame) -> NounPhrase:
    """Draw a personal object that is not the subject, so that no reflexive is needed."""
    while True:
        phrase = phrases.pronoun(rng) if rng.random() < 0.25 else phrases.being(rng)
        if phrase.kind != "pronoun" or (phrase.person != frame.who.person and frame.who.kind != "indefinite"):
            return phrase


def _social(rng: random.Random, frame: _Frame) -> tuple[Verb, _Arguments]:
    verb = rng.choice(SOCIAL)
    return verb, replace(_accusative(frame, verb, _companion_object(rng, frame)), thing=None)


def _dative(rng: random.Random, frame: _Frame) -> tuple[Verb, _Arguments]:
    verb = rng.choice(DATIVE)
    phrase = _companion_object(rng, frame)
    kein = frame.negated and phrase.kind == "indefinite"
    final = phrases.negate(phrase) if kein else phrase
    return verb, _Arguments(_english_object(verb, phrase), final.case("dat"), kein)


def _ditransitive(rng: random.Random, frame: _Frame) -> tuple[Verb, _Arguments]:
    """Give somebody something; German puts the receiver first whichever order English uses."""
    verb = rng.choice(DITRANSITIVE)
    whom, what = phrases.being(rng), phrases.thing(rng, frame.domain)
    kein = frame.negated and what.kind == "indefinite"
    final = phrases.negate(what) if kein else what
    swap = verb.particle == "to" or rng.random() < 0.4
    first, second = (what, whom) if swap else (whom, what)
    text = join_words(first.english_object, "to" if swap else "", second.english_object)
    return verb, _Arguments(text, f"{whom.case('dat')} {final.case('acc')}", kein, final)


def _intransitive(rng: random.Random, frame: _Frame) -> tuple[Verb, _Arguments]:
    verb = rng.choice(INTRANSITIVE)
    return verb, _Arguments(verb.particle, "")


def _motion(rng: random.Random, frame: _Frame) -> tuple[Verb, _Arguments]:
    verb = rng.choice(MOTION)
    return verb, _Arguments(verb.particle, "")


_PATTERNS: tuple[tuple[int, Callable[[random.Random, _Frame], tuple[Verb, _Arguments]]], ...] = (
    (42, _transitive),
    (16, _social),
    (12, _dative),
    (16, _ditransitive),
    (7, _intransitive),
    (7, _motion),
)


def draw_clause(rng: random.Random, who: NounPhrase | None = None) -> Clause:
    """Draw a clause; the place is always named because it decides what an ambiguous noun means."""
    place = phrases.place(rng)
    pattern = phrases.weighted(rng, _PATTERNS)
    where = phrases.at(rng, place, "acc" if pattern is _motion else "dat")
    who = who or phrases.subject(rng)
    negated = rng.random() < 0.2 and not who.english.startswith("no ")
    frame = _Frame(who, rng.choice(_TENSES), negated, where, place.domain)
    verb, arguments = pattern(rng, frame)
    when = phrases.time(rng, frame.tense) if rng.random() < 0.45 else NO_TIME
    with_whom = phrases.companion(rng) if rng.random() < 0.12 else Phrase()
    return _assemble(frame, verb, phrases.weighted(rng, verb.renderings), arguments, when, with_whom)


def _assemble(
    frame: _Frame, verb: Verb, rendering: GermanVerb, arguments: _Arguments, when: Phrase, with_whom: Phrase
) -> Clause:
    person = frame.who.person
    finite, joined, tail = german_verb(rendering, person, frame.tense, frame.negated)
    predicate = english.verb_phrase(verb, person, frame.tense, frame.negated)
    nicht = "nicht" if frame.negated and not arguments.kein else ""
    return Clause(
        english=join_words(frame.who.english, predicate, arguments.english, with_whom.english, frame.where.english),
        time=when,
        subject=frame.who.case("nom"),
        finite=finite,
        joined=joined,
        objects=arguments.german,
        rest=join_words(nicht, with_whom.german, frame.where.german),
        tail=tail,
        thing=arguments.thing,
    )


def copula(rng: random.Random, who: NounPhrase) -> Clause:
    """Say what a thing mentioned before is like: the pronoun must agree with the noun chosen for it."""
    word = rng.choice(ADJECTIVES)
    tense = rng.choice(("present", "past"))
    finite = german.auxiliary("sein" if tense == "present" else "waren", who.person)
    text = join_words(who.english, english.copula(who.person, tense), word.english)
    return Clause(text, NO_TIME, who.case("nom"), finite, finite, "", "", word.german)
