"""English inflection: verbs and numerals."""

from demo.words import Verb

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_TEENS = ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def indefinite(phrase: str) -> str:
    """Put `a` or `an` before a phrase."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def third_person(base: str) -> str:
    """Return the third person singular present."""
    if base.endswith(("s", "x", "ch", "sh", "o")):
        return base + "es"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + "s"


def _simple(verb: Verb, person: str, tense: str, negated: bool) -> str:
    singular = person == "he"
    if negated:
        return f"{'did' if tense == 'past' else 'does' if singular else 'do'} not {verb.base}"
    if tense == "past":
        return verb.past
    return third_person(verb.base) if singular else verb.base


def verb_phrase(verb: Verb, person: str, tense: str, negated: bool) -> str:
    """Inflect a verb for person, tense (or modal) and negation; the particle is left to the caller."""
    negation = " not" if negated else ""
    if tense in ("present", "past"):
        return _simple(verb, person, tense, negated)
    if tense == "perfect":
        return f"{'has' if person == 'he' else 'have'}{negation} {verb.participle}"
    if tense == "want":
        wants = "does not want" if person == "he" else "do not want"
        return f"{wants if negated else third_person('want') if person == 'he' else 'want'} to {verb.base}"
    return f"{tense}{negation} {verb.base}".replace("can not", "cannot")


def copula(person: str, tense: str) -> str:
    """Inflect `be` in the present or past."""
    forms = {"i": "am was", "he": "is was"}.get(person, "are were")
    return forms.split()[tense == "past"]


def numeral(value: int) -> str:
    """Write a number from 1 to 99."""
    if value <= 12:
        return _UNITS[value]
    if value < 20:
        return _TEENS[value - 13]
    ten = _TENS[value // 10 - 2]
    return f"{ten}-{_UNITS[value % 10]}" if value % 10 else ten
