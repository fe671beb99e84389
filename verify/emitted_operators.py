"""Operators of an emitted file: on plain numbers, on tensors of integers, on tensors of numbers."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from verify.exact_array import Exact, Refusal, Whole
from verify.exact_products import matmul
from verify.exact_table import Device, Kind, Magnitude, exact
from verify.residues import PRIME, Residues

PLAIN: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
ORDERS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
LARGEST_NUMBER = 10**30
LONGEST_TUPLE = 1000


def is_number(value: Any) -> bool:
    """Whether it is an integer, a fraction or a truth value."""
    return isinstance(value, int | Fraction)


def combine(ring: Residues, op: ast.operator, a: Any, b: Any) -> Any:
    """``a op b``.

    Raises:
        Refusal: If the operator is not known for the two.
    """
    # A root of a number is no fraction; it is exact all the same.
    rooted = isinstance(op, ast.Pow) and isinstance(b, Fraction) and b.denominator > 1
    if is_number(a) and is_number(b) and not rooted:
        return plain_numbers(op, a, b)
    if rooted or isinstance(a, Exact) or isinstance(b, Exact):
        return tensors(ring, op, a, b)
    if isinstance(a, Whole) or isinstance(b, Whole):
        return whole_tensors(op, a, b)
    if isinstance(op, ast.Add) and type(a) in (tuple, list) and type(a) is type(b):
        return a + b
    if isinstance(op, ast.Mult) and isinstance(b, tuple | list) and isinstance(a, int):
        a, b = b, a
    if isinstance(op, ast.Mult) and isinstance(a, tuple | list) and isinstance(b, int):
        if len(a) * b > LONGEST_TUPLE:
            raise Refusal("a tuple that is too long")
        return a * b
    raise unknown(op, a, b)


def unknown(op: ast.AST, a: Any, b: Any) -> Refusal:
    """A refusal of an operator."""
    return Refusal(f"{type(op).__name__} of a {type(a).__name__} and a {type(b).__name__}")


def plain_numbers(op: ast.operator, a: Any, b: Any) -> Any:
    """Numbers that are no tensors; quotients are fractions.

    Raises:
        Refusal: If the operator is not known, or the result is out of all proportion.
    """
    try:
        if isinstance(op, ast.Div):
            return Fraction(a) / b
        if isinstance(op, ast.Pow):
            if not isinstance(b, int) or abs(b) > 256:
                raise unknown(op, a, b)
            return a**b if b >= 0 else Fraction(a) ** b
        if type(op) not in PLAIN:
            raise unknown(op, a, b)
        found = PLAIN[type(op)](a, b)
    except ZeroDivisionError as error:
        raise Refusal("a division by 0") from error
    if abs(found) > LARGEST_NUMBER:
        raise Refusal("a number out of all proportion")
    return found


def tensors(ring: Residues, op: ast.operator, a: Any, b: Any) -> Exact:
    """Tensors of numbers, one of which may be a plain number."""
    if isinstance(op, ast.MatMult):
        return matmul(ring, a, b)
    if isinstance(op, ast.Pow):
        if not is_number(b):
            raise unknown(op, a, b)
        return exact(ring, a).power(b)
    left, right = exact(ring, a), exact(ring, b)
    found: Mapping[type, Callable[[Exact, Exact], Exact]] = {
        ast.Add: Exact.__add__,
        ast.Sub: Exact.__sub__,
        ast.Mult: Exact.__mul__,
        ast.Div: Exact.__truediv__,
    }
    if type(op) not in found:
        raise unknown(op, a, b)
    return found[type(op)](left, right)


def unwrapped(value: Any, op: ast.AST, other: Any) -> Any:
    """The integers of a tensor, or one integer."""
    if isinstance(value, Whole):
        return value.value
    if isinstance(value, int):
        return value
    raise unknown(op, value, other)


def whole_tensors(op: ast.operator, a: Any, b: Any) -> Whole:
    """Tensors of integers, one of which may be a plain integer."""
    left, right = unwrapped(a, op, b), unwrapped(b, op, a)
    if isinstance(op, ast.BitAnd | ast.BitOr) and all(
        isinstance(v, Whole) and v.value.dtype == np.bool_ for v in (a, b)
    ):
        return Whole(left & right if isinstance(op, ast.BitAnd) else left | right)
    if type(op) not in PLAIN or any(
        isinstance(v, Whole) and v.value.dtype == np.bool_ for v in (a, b)
    ):
        raise unknown(op, a, b)
    if isinstance(op, ast.FloorDiv | ast.Mod) and np.any(np.asarray(right) == 0):
        raise Refusal("a division by 0")
    return Whole(np.asarray(PLAIN[type(op)](left, right)))


def negative(ring: Residues, op: ast.unaryop, value: Any) -> Any:
    """``-a``, ``not a`` or ``~mask``.

    Raises:
        Refusal: If the operator is not known for the value.
    """
    if isinstance(op, ast.Not):
        return not truth_of(value)
    if isinstance(op, ast.USub) and (is_number(value) or isinstance(value, Exact | float)):
        return -value
    if isinstance(value, Whole):
        if isinstance(op, ast.USub) and value.value.dtype != np.bool_:
            return Whole(-value.value)
        if isinstance(op, ast.Invert) and value.value.dtype == np.bool_:
            return Whole(~value.value)
    raise unknown(op, value, value)


def truth_of(value: Any) -> bool:
    """Whether a value that is no tensor counts as true.

    Raises:
        Refusal: If it is a tensor or anything else without a known truth value.
    """
    if value is None or isinstance(value, int | Fraction | str | tuple | list | dict):
        return bool(value)
    raise Refusal(f"the truth of a {type(value).__name__} is not known")


def compare(ring: Residues, op: ast.cmpop, a: Any, b: Any) -> Any:
    """``a op b``; of tensors element by element.

    Raises:
        Refusal: If the operator is not known for the two.
    """
    if isinstance(op, ast.Is | ast.IsNot):
        return identical(a, b) == isinstance(op, ast.Is)
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(b, tuple | list):
            raise unknown(op, a, b)
        return any(equal(a, x) for x in b) == isinstance(op, ast.In)
    if isinstance(a, Magnitude):
        return a.in_range
    if isinstance(a, Exact) or isinstance(b, Exact):
        return signs(ring, op, a, b)
    if isinstance(a, Whole) or isinstance(b, Whole):
        left, right = unwrapped(a, op, b), unwrapped(b, op, a)
        orders = {**ORDERS, ast.Eq: operator.eq, ast.NotEq: operator.ne}
        return Whole(np.asarray(orders[type(op)](left, right)))
    if isinstance(op, ast.Eq | ast.NotEq):
        return equal(a, b) == isinstance(op, ast.Eq)
    if is_number(a) and is_number(b):
        return ORDERS[type(op)](a, b)
    raise unknown(op, a, b)


def identical(a: Any, b: Any) -> bool:
    """``a is b``, where this does not depend on how Python keeps numbers.

    Raises:
        Refusal: If it does.
    """
    known = (type(None), bool, Exact, Whole)
    if not isinstance(a, known) and not isinstance(b, known):
        raise Refusal(f"`is` of a {type(a).__name__} and a {type(b).__name__}")
    return a is b


def equal(a: Any, b: Any) -> bool:
    """``a == b`` of what are no tensors.

    Raises:
        Refusal: If it is not known.
    """
    known = (type(None), int, Fraction, str, Kind, Device, tuple, list)
    if not all(isinstance(v, known) for v in (a, b)):
        raise Refusal(f"`==` of a {type(a).__name__} and a {type(b).__name__}")
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        if type(a) is not type(b) or len(a) != len(b):
            return False
        return all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def signs(ring: Residues, op: ast.cmpop, a: Any, b: Any) -> Whole:
    """Whether a - b is positive, 0 or neither (:mod:`verify.residues`), element by element."""
    difference = exact(ring, a) - exact(ring, b)
    if isinstance(op, ast.Eq | ast.NotEq):
        zero = np.asarray(difference.finite.value % PRIME == 0, dtype=bool)
        return Whole(zero == isinstance(op, ast.Eq))
    return Whole(np.asarray(ORDERS[type(op)](difference.signs(), 0)))
