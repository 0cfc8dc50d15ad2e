"""Clauses and sentences of a synchronous English-German grammar.

Both languages are derived from the same draws, so every pair is a translation. German word order depends
on where a clause stands: verb second in a main clause, verb first after a fronted clause, verb last in a
subordinate one, with separable prefixes left behind or joined again. Nothing is hard about any one rule;
knowing all of them at once is what a small, briefly trained model does not manage.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from demo import english, german, phrases
from demo.lexicon import (
    ADJECTIVES,
    DATIVE,
    DITRANSITIVE,
    INTRANSITIVE,
    MOTION,
    SOCIAL,
    TRANSITIVE,
    GermanVerb,
    Verb,
)
from demo.phrases import NounPhrase, Phrase


@dataclass(frozen=True, slots=True)
class Pair:
    """An English sentence and one correct German translation."""

    source: str
    reference: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A workload's form: clause counts to draw from and the allowed number of source words."""

    clauses: tuple[int, ...]
    min_words: int
    max_words: int


@dataclass(frozen=True, slots=True)
class _Clause:
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


SHAPES = {
    "chat": Shape((1,), 6, 12),
    "bulk": Shape((3, 4), 25, 40),
    "abtest": Shape((1, 2, 3), 6, 32),
}
_HELD_OUT_PERCENT = 10
_TENSES = ("present", "past", "past", "perfect", "will", "can", "must", "want", "should")
_MODALS = {"can": "können", "must": "müssen", "want": "wollen", "should": "sollten", "will": "werden"}
_PREPOSITIONS = ("to", "at", "with", "for")
_SUBORDINATE = {
    "because": ((65, "weil"), (35, "da")),
    "although": ((1, "obwohl"),),
    "while": ((1, "während"),),
    "before": ((1, "bevor"),),
    "if": ((1, "wenn"),),
}
_COORDINATE = (("and", "und"), ("but", "aber"))
_REPORTS = (
    ("say said said", GermanVerb("sagen", "sagt", "sagte", "gesagt")),
    ("believe believed believed", GermanVerb("glauben", "glaubt", "glaubte", "geglaubt")),
    ("hope hoped hoped", GermanVerb("hoffen", "hofft", "hoffte", "gehofft")),
    ("think thought thought", GermanVerb("denken", "denkt", "dachte", "gedacht")),
)
_NO_TIME = Phrase()


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _link(first: Phrase, english_link: str, german_link: str, second: Phrase) -> Phrase:
    return Phrase(f"{first.english}{english_link} {second.english}", f"{first.german}{german_link} {second.german}")


def _german_verb(verb: GermanVerb, person: str, tense: str, negated: bool) -> tuple[str, str, str]:
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
        return _join(phrase.english_object, verb.particle)
    return _join(verb.particle, phrase.english_object)


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
    text = _join(first.english_object, "to" if swap else "", second.english_object)
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


def _clause(rng: random.Random, who: NounPhrase | None = None) -> _Clause:
    """Draw a clause; the place is always named because it decides what an ambiguous noun means."""
    place = phrases.place(rng)
    pattern = phrases.weighted(rng, _PATTERNS)
    where = phrases.at(rng, place, "acc" if pattern is _motion else "dat")
    who = who or phrases.subject(rng)
    negated = rng.random() < 0.2 and not who.english.startswith("no ")
    frame = _Frame(who, rng.choice(_TENSES), negated, where, place.domain)
    verb, arguments = pattern(rng, frame)
    when = phrases.time(rng, frame.tense) if rng.random() < 0.45 else _NO_TIME
    with_whom = phrases.companion(rng) if rng.random() < 0.12 else Phrase()
    return _assemble(frame, verb, phrases.weighted(rng, verb.renderings), arguments, when, with_whom)


def _assemble(
    frame: _Frame, verb: Verb, rendering: GermanVerb, arguments: _Arguments, when: Phrase, with_whom: Phrase
) -> _Clause:
    person = frame.who.person
    finite, joined, tail = _german_verb(rendering, person, frame.tense, frame.negated)
    predicate = english.verb_phrase(verb, person, frame.tense, frame.negated)
    nicht = "nicht" if frame.negated and not arguments.kein else ""
    return _Clause(
        english=_join(frame.who.english, predicate, arguments.english, with_whom.english, frame.where.english),
        time=when,
        subject=frame.who.case("nom"),
        finite=finite,
        joined=joined,
        objects=arguments.german,
        rest=_join(nicht, with_whom.german, frame.where.german),
        tail=tail,
        thing=arguments.thing,
    )


def _copula(rng: random.Random, who: NounPhrase) -> _Clause:
    """Say what a thing mentioned before is like: the pronoun must agree with the noun chosen for it."""
    word = rng.choice(ADJECTIVES)
    tense = rng.choice(("present", "past"))
    finite = german.auxiliary("sein" if tense == "present" else "waren", who.person)
    text = _join(who.english, english.copula(who.person, tense), word.english)
    return _Clause(text, _NO_TIME, who.case("nom"), finite, finite, "", "", word.german)


def _main(rng: random.Random, clause: _Clause) -> Phrase:
    """Verb second; the time may stand first, and then the subject follows the verb."""
    fronted = bool(clause.time.english) and rng.random() < 0.4
    when = clause.time.german
    if fronted:
        text = f"{clause.time.english} {clause.english}"
        first, after, middle = when, clause.subject, ""
    else:
        text = _join(clause.english, clause.time.english)
        first, after, middle = clause.subject, "", when
    return Phrase(text, _join(first, clause.finite, after, clause.objects, middle, clause.rest, clause.tail))


def _verb_first(clause: _Clause) -> Phrase:
    """The order after a fronted subordinate clause."""
    text = _join(clause.english, clause.time.english)
    rest = _join(clause.subject, clause.objects, clause.time.german, clause.rest, clause.tail)
    return Phrase(text, f"{clause.finite} {rest}")


def _verb_last(clause: _Clause) -> Phrase:
    """The order of subordinate clauses; a separable prefix is joined with its verb again."""
    text = _join(clause.english, clause.time.english)
    separable = clause.joined != clause.finite
    end = clause.joined if separable else _join(clause.tail, clause.finite)
    return Phrase(text, _join(clause.subject, clause.objects, clause.time.german, clause.rest, end))


def _subordinate(rng: random.Random, clause: _Clause) -> Phrase:
    word = rng.choice(list(_SUBORDINATE))
    body = _verb_last(clause)
    return Phrase(f"{word} {body.english}", f"{phrases.weighted(rng, _SUBORDINATE[word])} {body.german}")


def _related(rng: random.Random) -> Phrase:
    """A main clause whose subject carries a relative clause."""
    who = phrases.being(rng)
    while who.kind != "noun":
        who = phrases.being(rng)
    stand_in = replace(who, english="who", german=(german.relative(who.gender, "nom"), "", "", ""))
    relative = _verb_last(_clause(rng, stand_in))
    nom, acc, dat, gen = who.german
    nom = f"{nom}, {relative.german},"
    full = replace(who, english=f"{who.english} {relative.english}", german=(nom, acc, dat, gen))
    clause = replace(_clause(rng, full), time=_NO_TIME)
    return _main(rng, clause)


def _report(rng: random.Random) -> Phrase:
    """`The woman says that ...`: a verb of saying and a verb-final clause."""
    forms, rendering = rng.choice(_REPORTS)
    base, past, participle = forms.split()
    verb = Verb(base, past, participle, "", ((1, rendering),))
    who = phrases.subject(rng)
    tense = rng.choice(("present", "past"))
    finite = _german_verb(rendering, who.person, tense, False)[0]
    body = _verb_last(_clause(rng))
    text = f"{who.english} {english.verb_phrase(verb, who.person, tense, False)} that {body.english}"
    return Phrase(text, f"{who.case('nom')} {finite}, dass {body.german}")


def _fronted(rng: random.Random) -> Phrase:
    """A subordinate clause before its main clause, whose verb then comes first."""
    first, second = _subordinate(rng, _clause(rng)), _verb_first(_clause(rng))
    return _link(first, ",", ",", second)


def _trailing(rng: random.Random) -> Phrase:
    """A main clause and a reason after it, often about the thing just mentioned."""
    clause = _clause(rng)
    first = _main(rng, clause)
    known = clause.thing if clause.thing and clause.thing.kind == "noun" and rng.random() < 0.6 else None
    second = _subordinate(rng, _copula(rng, phrases.it(known)) if known else _clause(rng))
    return _link(first, ",", ",", second)


def _unit(rng: random.Random, clauses: int) -> Phrase:
    if clauses == 1:
        return _main(rng, _clause(rng))
    return rng.choice((_related, _report, _fronted, _trailing))(rng)


def sample(rng: random.Random, clauses: int) -> Pair:
    """Draw a sentence of `clauses` clauses with its translation; equal states of `rng` give equal pairs.

    Raises:
        ValueError: `clauses` is below 1.
    """
    if clauses < 1:
        raise ValueError(f"a sentence needs at least 1 clause, not {clauses}")
    size = min(clauses, 2)
    phrase = _unit(rng, size)
    for done in range(size, clauses, 2):
        word, translation = rng.choice(_COORDINATE)
        more = _unit(rng, min(2, clauses - done))
        phrase = _link(phrase, f", {word}", f", {translation}", more)
    return Pair(_sentence(phrase.english), _sentence(phrase.german))


def _sentence(text: str) -> str:
    text = text.replace(",,", ",").rstrip(",")
    return text[0].upper() + text[1:] + "."


def sample_shape(rng: random.Random, shape: str) -> Pair:
    """Draw a sentence of a named shape (a key of `SHAPES`)."""
    limits = SHAPES[shape]
    while True:
        pair = sample(rng, rng.choice(limits.clauses))
        if limits.min_words <= len(pair.source.split()) <= limits.max_words:
            return pair


def is_held_out(source: str) -> bool:
    """Tell whether a source sentence is reserved for the workloads.

    A hash of the sentence alone decides, whichever seed produced it: training drops every sentence for which
    this is true and the workloads keep no other, so the two cannot meet.
    """
    digest = hashlib.sha256(source.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < _HELD_OUT_PERCENT
