"""What can be said of an emitted file's syntax without reading it: literals, arguments, names."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from verify.exact_array import Refusal

LARGEST_DENOMINATOR = 10**6


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def fraction(value: float) -> Fraction:
    """The fraction of small numbers that rounds to a float; else the one that its digits say.

    So 0.5 is 1/2, 1e-05 is 1/100000 and 0.3333333333333333 is 1/3.
    """
    simple = Fraction(value).limit_denominator(LARGEST_DENOMINATOR)
    return simple if float(simple) == value else Fraction(repr(value))


def literal(node: ast.expr) -> Any:
    """A constant; a number with a point is a fraction.

    Raises:
        Refusal: If it is no literal.
    """
    if isinstance(node, ast.Tuple | ast.List):
        values = [literal(e) for e in node.elts]
        return tuple(values) if isinstance(node, ast.Tuple) else values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = literal(node.operand)
        if isinstance(value, int | Fraction):
            return -value
    if isinstance(node, ast.Constant):
        if isinstance(node.value, float):
            return fraction(node.value)
        if node.value is None or node.value is Ellipsis or isinstance(node.value, int | str):
            return node.value
    raise Refusal(f"`{ast.unparse(node)}` is no known literal")


def arguments(
    node: ast.FunctionDef, given: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """The names that a call gives values to, as Python would.

    Raises:
        Refusal: If there are too many, too few or unknown ones.
    """
    places = [a.arg for a in node.args.args]
    only = [a.arg for a in node.args.kwonlyargs]
    if len(given) > len(places):
        raise Refusal(f"`{node.name}` takes {len(places)} arguments, not {len(given)}")
    names = dict(zip(places, given, strict=False))
    for name, value in keywords.items():
        if name in names or name not in places + only:
            raise Refusal(f"`{node.name}` takes no argument `{name}`, or has it already")
        names[name] = value
    defaults = dict(zip(places[::-1], node.args.defaults[::-1], strict=False))
    defaults |= {
        name: value
        for name, value in zip(only, node.args.kw_defaults, strict=True)
        if value is not None
    }
    for name in places + only:
        if name not in names:
            if name not in defaults:
                raise Refusal(f"`{node.name}` lacks the argument `{name}`")
            names[name] = literal(defaults[name])
    return names


def bound_names(node: ast.FunctionDef) -> frozenset[str]:
    """Every name that a function gives a value to."""
    return frozenset(
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )
