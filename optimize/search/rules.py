"""Rules that forbid combinations of settings: `tensor_parallel_size * data_parallel_size > 8`.

A rule is an expression over the names of knobs: numbers, texts, null, true and false; arithmetic, comparisons, `in`,
`and`, `or` and `not`. Python's own parser reads it; it is computed here, node by node, and nothing else is ever run.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from optimize.config.repetition import refuse_repetition
from optimize.errors import ConfigError, closest

FORBID = "forbid"
"""Key of the rules in the search space."""
Settings = Mapping[str, Any]
_Compute = Callable[[Settings], Any]
_WHERE = f"search_space.{FORBID}"
_LONGEST = 1000
_NO_MORE = "a rule holds names of knobs, numbers, texts, arithmetic, comparisons, in, and, or, not"
_CONSTANTS = {"null": None, "true": True, "false": False}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda one, many: one in many, ast.NotIn: lambda one, many: one not in many,
}  # fmt: skip
_OF_ANYTHING = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
"""Comparisons that a setting without a value can be put to; it is neither more nor less than anything."""


class Rule:
    """One rule.

    Args:
        text: The expression.

    Attributes:
        text: As the argument.
        names: The names in it, in their order.

    Raises:
        ConfigError: it is no condition, or holds more than a rule may.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        self._compute = self._condition(_parsed(text))

    def __reduce__(self) -> tuple[type[Rule], tuple[str]]:
        return Rule, (self.text,)

    def holds(self, settings: Settings) -> bool:
        """Whether the combination is forbidden; False where it cannot be computed.

        Args:
            settings: Name -> value; a name that is missing has no value (null).
        """
        try:
            return bool(self._compute(settings))
        except (TypeError, ZeroDivisionError):
            return False

    def is_computable(self, settings: Settings) -> bool:
        """Whether the types of these settings go together."""
        try:
            self._compute(settings)
        except (TypeError, ZeroDivisionError):
            return False
        return True

    def _condition(self, node: ast.expr) -> _Compute:
        """What is true or false: a comparison, several of them, or a knob that is a switch."""
        if isinstance(node, ast.BoolOp):
            parts, every = [self._condition(value) for value in node.values], isinstance(node.op, ast.And)
            return lambda settings: (all if every else any)(part(settings) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            part = self._condition(node.operand)
            return lambda settings: not part(settings)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Name | ast.Attribute):
            return self._value(node)
        raise _refused(self.text, f"{ast.unparse(node)!r} is no condition: compare it, e.g. with > 8")

    def _comparison(self, node: ast.Compare) -> _Compute:
        sides = [self._value(side) for side in (node.left, *node.comparators)]
        kinds = [(isinstance(op, _OF_ANYTHING), self._operator(op)) for op in node.ops]

        def compare(settings: Settings) -> bool:
            values = [side(settings) for side in sides]
            pairs = zip(kinds, values, values[1:], strict=False)
            return all((free or None not in (a, b)) and test(a, b) for (free, test), a, b in pairs)

        return compare

    def _operator(self, node: ast.cmpop) -> Callable[[Any, Any], bool]:
        if type(node) not in _COMPARISONS:
            raise _refused(self.text, "compare with null by == or !=")
        return _COMPARISONS[type(node)]

    def _value(self, node: ast.expr) -> _Compute:
        """A name, a constant, a list of constants, or a number computed of these."""
        match node:
            case ast.Name() | ast.Attribute():
                return self._name(_dotted(node, self.text))
            case ast.Constant(value=constant) if constant is None or isinstance(constant, bool | int | float | str):
                return lambda _: constant
            case ast.List(elts=items) | ast.Tuple(elts=items):
                values = [self._value(item) for item in items]
                return lambda settings: [value(settings) for value in values]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._number(operator.sub, ast.Constant(0), operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._number(_ARITHMETIC[type(op)], left, right)
        raise _refused(self.text, f"it may not hold {ast.unparse(node)!r}: {_NO_MORE}")

    def _name(self, name: str) -> _Compute:
        if name in _CONSTANTS:
            return lambda _: _CONSTANTS[name]
        self.names.append(name)
        return lambda settings: settings.get(name)

    def _number(self, compute: Callable[[Any, Any], Any], left: ast.expr, right: ast.expr) -> _Compute:
        """Arithmetic; of a setting without a value nothing comes."""
        one, other = self._value(left), self._value(right)

        def number(settings: Settings) -> Any:
            a, b = one(settings), other(settings)
            if a is None or b is None:
                return None
            if not isinstance(a, int | float) or not isinstance(b, int | float):
                raise TypeError("arithmetic is for numbers")
            return compute(a, b)

        return number


def rules_of(node: Any, knobs: Iterable[str], left_out: Iterable[str]) -> tuple[Rule, ...]:
    """The rules of a search space, without those on knobs that are left out (null), whose value nobody states.

    Args:
        node: What `search_space.forbid` holds.
        knobs: Names that rules may speak of.
        left_out: Knobs that the space once had.

    Raises:
        ConfigError: no list of texts, a rule that cannot be read, or a name that is no knob.
    """
    texts = [node] if isinstance(node, str) else [] if node is None else node
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{_WHERE} must be a list of rules, e.g. ['batch_size > 64 and beam_size > 2'], got {node!r}")
    refuse_repetition(_WHERE, texts)
    knobs = list(knobs)
    left_out = set(left_out).difference(knobs)
    rules = [Rule(text) for text in texts]
    for rule in rules:
        for name in rule.names:
            if name not in knobs and name not in left_out:
                raise _refused(rule.text, f"{name!r} is no knob of the search space; {closest(name, knobs)}")
    return tuple(rule for rule in rules if not left_out.intersection(rule.names))


def _parsed(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ConfigError(f"{_WHERE}: a rule of {len(text)} characters is too long: write several")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, f"it cannot be read: {getattr(error, 'msg', error)}") from error


def _dotted(node: ast.expr, text: str) -> str:
    """The name of a knob, which may have dots: of a part of a flag, or of an environment variable."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, text)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise _refused(text, f"it may not hold {ast.unparse(node)!r}: {_NO_MORE}")


def _refused(text: str, reason: str) -> ConfigError:
    return ConfigError(f"{_WHERE}: {text!r}: {reason}")
