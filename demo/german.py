"""German inflection: determiners, adjectives, nouns, verbs and numerals."""

from demo.words import Adjective, GermanNoun, GermanVerb

CASES = ("nom", "acc", "dat", "gen")

# Columns follow CASES.
_DER = {"m": "der den dem des", "f": "die die der der", "n": "das das dem des", "p": "die die den der"}
_STRONG = {"m": "er en em es", "f": "e e er er", "n": "es es em es", "p": "e e en er"}
_EIN = {"m": "- en em es", "f": "e e er er", "n": "- - em es", "p": "e e en er"}
_WEAK = {"m": "e en en en", "f": "e e en en", "n": "e e en en", "p": "en en en en"}
_MIXED = {"m": "er en en en", "f": "e e en en", "n": "es es en en", "p": "en en en en"}
_RELATIVE = {"m": "der den dem", "f": "die die der", "n": "das das dem", "p": "die die denen"}
_ADJECTIVE_ENDINGS = {"der": _WEAK, "dies": _WEAK, "jen": _WEAK, "jed": _WEAK, "": _STRONG}
_CONTRACTIONS = {
    "in dem": "im",
    "an dem": "am",
    "zu dem": "zum",
    "zu der": "zur",
    "in das": "ins",
    "an das": "ans",
}

# `he` stands for every third person singular, `they` for every third person plural.
PERSONS = ("i", "you", "he", "we", "they")
_IRREGULAR = {
    "haben": "habe hast hat haben haben",
    "sein": "bin bist ist sind sind",
    "waren": "war warst war waren waren",
    "werden": "werde wirst wird werden werden",
    "können": "kann kannst kann können können",
    "müssen": "muss musst muss müssen müssen",
    "dürfen": "darf darfst darf dürfen dürfen",
    "wollen": "will willst will wollen wollen",
    "sollten": "sollte solltest sollte sollten sollten",
}
_UNITS = [
    "null",
    "ein",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
]
_TEENS = ["dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"]
_TENS = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]


def _cell(table: dict[str, str], gender: str, case: str) -> str:
    return table[gender].split()[CASES.index(case)].replace("-", "")


def determiner(stem: str, gender: str, case: str) -> str:
    """Inflect `der`, `dies`, `jed`, `jen` or an ein-word stem; an empty stem or a numeral stays as it is."""
    if stem == "der":
        return _cell(_DER, gender, case)
    if stem in ("dies", "jen", "jed"):
        return stem + _cell(_STRONG, gender, case)
    return stem + _cell(_EIN, gender, case)


def adjective(word: Adjective, stem: str, gender: str, case: str) -> str:
    """Give `word` the ending it takes after the determiner with this stem (empty: no determiner)."""
    return word.stem + _cell(_ADJECTIVE_ENDINGS.get(stem, _MIXED), gender, case)


def relative(gender: str, case: str) -> str:
    """Return the relative pronoun in the nominative, accusative or dative."""
    return _cell(_RELATIVE, gender, case)


def _vowel_groups(word: str) -> int:
    marks = "".join("v" if letter in "aeiouäöüy" else " " for letter in word.lower())
    return len(marks.split())


def _genitive(noun: GermanNoun) -> str:
    if noun.gender == "f":
        return noun.singular
    if noun.weak:
        return noun.plural + ("s" if noun.singular == "Buchstabe" else "")
    if noun.singular.endswith("nis"):
        return noun.singular + "ses"
    short = _vowel_groups(noun.singular) == 1
    return noun.singular + ("es" if short or noun.singular[-1] in "sßzx" else "s")


def noun_form(noun: GermanNoun, plural: bool, case: str) -> str:
    """Decline a noun; the dative plural takes -n unless the plural ends in n or s."""
    if plural:
        return noun.plural + ("n" if case == "dat" and noun.plural[-1] not in "ns" else "")
    if case == "gen":
        return _genitive(noun)
    return noun.plural if noun.weak and case != "nom" else noun.singular


def contract(phrase: str) -> str:
    """Merge preposition and article at the start of a phrase: `in dem Wald` -> `im Wald`."""
    for long, short in _CONTRACTIONS.items():
        if phrase.startswith(long + " "):
            return short + phrase[len(long) :]
    return phrase


def auxiliary(name: str, person: str) -> str:
    """Conjugate an auxiliary or modal."""
    return _IRREGULAR[name].split()[PERSONS.index(person)]


def present(verb: GermanVerb, person: str) -> str:
    """Conjugate the present tense, without separable prefix."""
    if person in ("we", "they"):
        return verb.infinitive
    if person == "i":
        return verb.infinitive[:-1]
    if person == "he":
        return verb.present
    stem = verb.present[:-1]
    return stem + ("t" if stem[-1] in "sßz" else "st")


def preterite(verb: GermanVerb, person: str) -> str:
    """Conjugate the simple past, without separable prefix."""
    form = verb.preterite
    if person in ("i", "he"):
        return form
    if person == "you":
        if form[-1] in "dt":
            return form + "est"
        return form + ("t" if form[-1] in "sß" else "st")
    return form + ("n" if form.endswith("e") else "en")


def numeral(value: int) -> str:
    """Write a number from 2 to 99; the unit comes before the ten."""
    if value <= 12:
        return _UNITS[value]
    if value < 20:
        return _TEENS[value - 13]
    ten = _TENS[value // 10 - 2]
    return f"{_UNITS[value % 10]}und{ten}" if value % 10 else ten


def hour(value: int) -> str:
    """Write an hour of the clock, 1 to 12."""
    return "eins" if value == 1 else _UNITS[value]
