"""Clauses and sentences of a synchronous English-German grammar.

Both languages are derived from the same draws, so every pair is a translation. German word order depends
on where a clause stands: verb second in a main clause, verb first after a fronted clause, verb last in a
subordinate one, with separable prefixes left behind or joined again. Nothing is hard about any one rule;
knowing all of them at once is what a small, briefly trained model does not manage.
"""

import hashlib
import random
from dataclasses import dataclass, replace

from demo import english, german, phrases
from demo.clauses import NO_TIME, Clause, copula, draw_clause, german_verb, join_words
from demo.phrases import Phrase
from demo.words import GermanVerb, Verb


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


SHAPES = {
    "chat": Shape((1,), 6, 12),
    "bulk": Shape((3, 4), 25, 40),
    "abtest": Shape((1, 2, 3), 6, 32),
}
_HELD_OUT_PERCENT = 10
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


def _link(first: Phrase, english_link: str, german_link: str, second: Phrase) -> Phrase:
    return Phrase(f"{first.english}{english_link} {second.english}", f"{first.german}{german_link} {second.german}")


def _main(rng: random.Random, clause: Clause) -> Phrase:
    """Verb second; the time may stand first, and then the subject follows the verb."""
    fronted = bool(clause.time.english) and rng.random() < 0.4
    when = clause.time.german
    if fronted:
        text = f"{clause.time.english} {clause.english}"
        first, after, middle = when, clause.subject, ""
    else:
        text = join_words(clause.english, clause.time.english)
        first, after, middle = clause.subject, "", when
    return Phrase(text, join_words(first, clause.finite, after, clause.objects, middle, clause.rest, clause.tail))


def _verb_first(clause: Clause) -> Phrase:
    """The order after a fronted subordinate clause."""
    text = join_words(clause.english, clause.time.english)
    rest = join_words(clause.subject, clause.objects, clause.time.german, clause.rest, clause.tail)
    return Phrase(text, f"{clause.finite} {rest}")


def _verb_last(clause: Clause) -> Phrase:
    """The order of subordinate clauses; a separable prefix is joined with its verb again."""
    text = join_words(clause.english, clause.time.english)
    separable = clause.joined != clause.finite
    end = clause.joined if separable else join_words(clause.tail, clause.finite)
    return Phrase(text, join_words(clause.subject, clause.objects, clause.time.german, clause.rest, end))


def _subordinate(rng: random.Random, clause: Clause) -> Phrase:
    word = rng.choice(list(_SUBORDINATE))
    body = _verb_last(clause)
    return Phrase(f"{word} {body.english}", f"{phrases.weighted(rng, _SUBORDINATE[word])} {body.german}")


def _related(rng: random.Random) -> Phrase:
    """A main clause whose subject carries a relative clause."""
    who = phrases.being(rng)
    while who.kind != "noun":
        who = phrases.being(rng)
    stand_in = replace(who, english="who", german=(german.relative(who.gender, "nom"), "", "", ""))
    relative = _verb_last(draw_clause(rng, stand_in))
    nom, acc, dat, gen = who.german
    nom = f"{nom}, {relative.german},"
    full = replace(who, english=f"{who.english} {relative.english}", german=(nom, acc, dat, gen))
    clause = replace(draw_clause(rng, full), time=NO_TIME)
    return _main(rng, clause)


def _report(rng: random.Random) -> Phrase:
    """`The woman says that ...`: a verb of saying and a verb-final clause."""
    forms, rendering = rng.choice(_REPORTS)
    base, past, participle = forms.split()
    verb = Verb(base, past, participle, "", ((1, rendering),))
    who = phrases.subject(rng)
    tense = rng.choice(("present", "past"))
    finite = german_verb(rendering, who.person, tense, False)[0]
    body = _verb_last(draw_clause(rng))
    text = f"{who.english} {english.verb_phrase(verb, who.person, tense, False)} that {body.english}"
    return Phrase(text, f"{who.case('nom')} {finite}, dass {body.german}")


def _fronted(rng: random.Random) -> Phrase:
    """A subordinate clause before its main clause, whose verb then comes first."""
    first, second = _subordinate(rng, draw_clause(rng)), _verb_first(draw_clause(rng))
    return _link(first, ",", ",", second)


def _trailing(rng: random.Random) -> Phrase:
    """A main clause and a reason after it, often about the thing just mentioned."""
    clause = draw_clause(rng)
    first = _main(rng, clause)
    thing = clause.thing if clause.thing and clause.thing.kind == "noun" and rng.random() < 0.6 else None
    second = _subordinate(rng, copula(rng, phrases.it(thing)) if thing else draw_clause(rng))
    return _link(first, ",", ",", second)


def _unit(rng: random.Random, clauses: int) -> Phrase:
    if clauses == 1:
        return _main(rng, draw_clause(rng))
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
