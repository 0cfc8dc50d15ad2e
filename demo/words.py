"""Words of the English-German grammar, and the compact tables that `demo.lexicon` writes them in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GermanNoun:
    """One German rendering; `gender` is m, f or n and `weak` marks the n-declension."""

    gender: str
    singular: str
    plural: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Noun:
    """An English noun with its weighted German renderings."""

    singular: str
    plural: str
    renderings: tuple[tuple[int, GermanNoun], ...]


@dataclass(frozen=True, slots=True)
class GermanVerb:
    """Infinitive, third person present, preterite and participle, all without the separable prefix."""

    infinitive: str
    present: str
    preterite: str
    participle: str
    prefix: str = ""
    auxiliary: str = "haben"


@dataclass(frozen=True, slots=True)
class Verb:
    """English principal parts, a particle ("away" in "throw away") and weighted German renderings."""

    base: str
    past: str
    participle: str
    particle: str
    renderings: tuple[tuple[int, GermanVerb], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A place that also tells which sense of an ambiguous noun is meant."""

    domain: str
    preposition: str
    german_preposition: str
    noun: Noun


@dataclass(frozen=True, slots=True)
class Adjective:
    """English word, German predicative form and German stem before endings."""

    english: str
    german: str
    stem: str


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _german_noun(text: str) -> tuple[int, GermanNoun]:
    """Parse `[weight] gender singular plural [weak]`."""
    words = text.split()
    weight = int(words.pop(0)) if words[0].isdigit() else 1
    return weight, GermanNoun(words[0], words[1], words[2], len(words) == 4)


def _noun(line: str) -> Noun:
    english, german = line.split(": ")
    singular, _, plural = english.partition("/")
    renderings = tuple(_german_noun(part) for part in german.split("|"))
    return Noun(singular, plural or _plural(singular), renderings)


def parse_nouns(table: str) -> tuple[Noun, ...]:
    return tuple(_noun(line) for line in table.strip().splitlines())


def _german_verb(text: str) -> tuple[int, GermanVerb]:
    """Parse `[weight] [prefix+]infinitive present preterite participle [sein]`."""
    words = text.split()
    weight = int(words.pop(0)) if words[0].isdigit() else 1
    prefix, _, infinitive = words[0].rpartition("+")
    auxiliary = "sein" if len(words) == 5 else "haben"
    return weight, GermanVerb(infinitive, words[1], words[2], words[3], prefix, auxiliary)


def _verb(line: str) -> Verb:
    """Parse `base past participle [particle]: renderings`."""
    english, german = line.split(": ")
    base, past, participle, *particle = english.split()
    renderings = tuple(_german_verb(part) for part in german.split("|"))
    return Verb(base, past, participle, " ".join(particle), renderings)


def parse_verbs(table: str) -> tuple[Verb, ...]:
    return tuple(_verb(line) for line in table.strip().splitlines())


def parse_places(table: str) -> tuple[Place, ...]:
    rows = (line.split(maxsplit=3) for line in table.strip().splitlines())
    return tuple(Place(domain, english, german, _noun(noun)) for domain, english, german, noun in rows)


def parse_ambiguous(table: str) -> dict[str, dict[str, Noun]]:
    """Parse `english; domain: german; domain: german` into senses by domain."""
    senses: dict[str, dict[str, Noun]] = {}
    for line in table.strip().splitlines():
        english, *rest = line.split("; ")
        pairs = (sense.split(": ") for sense in rest)
        senses[english.split("/")[0]] = {domain: _noun(f"{english}: {german}") for domain, german in pairs}
    return senses


def parse_adjectives(table: str) -> tuple[Adjective, ...]:
    rows = (entry.split() for entry in table.strip().replace("\n", ",").split(","))
    return tuple(Adjective(row[0], row[1], row[-1]) for row in rows)
