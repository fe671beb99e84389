"""Fractions of expressions whose atoms are taken as indeterminates."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import sympy
from sympy import Add, Expr, Mul, Pow, Symbol

from derive.budget import check_fraction, check_time


@functools.lru_cache(maxsize=1 << 12)
def cancel(expression: Expr) -> Expr:
    """Cancel common factors of numerator and denominator, atoms taken as indeterminates.

    Raises:
        TooLargeError: If these would be longer than the limits of :mod:`derive.budget`.
        BudgetError: If the time is up.
    """
    check_time()
    if not _has_denominator(expression):
        return expression
    atoms: dict[Expr, Symbol] = {}

    def hide(node: Expr) -> Expr:
        if node.is_number or node.is_Symbol:
            return node
        if isinstance(node, Add | Mul):
            return node.func(*(hide(a) for a in node.args))
        if isinstance(node, Pow):
            return Pow(hide(node.base), node.exp)
        if node not in atoms:
            assumptions = {"real": True}
            if node.is_positive:
                assumptions = {"positive": True}
            atoms[node] = sympy.Dummy(f"a{len(atoms)}", **assumptions)
        return atoms[node]

    together = sympy.together(hide(expression))
    check_fraction(together)
    top, bottom = sympy.fraction(sympy.cancel(together))
    if sum(t.could_extract_minus_sign() for t in Add.make_args(bottom)) * 2 > len(
        Add.make_args(bottom)
    ):
        top, bottom = sympy.expand(-top), sympy.expand(-bottom)
    return (top / bottom).xreplace({v: k for k, v in atoms.items()})


def apart(expression: Expr) -> Expr:
    """exp(a + b) as exp(a) exp(b): SymPy does not see that exp(a + b) exp(-a - b) is 1."""
    if isinstance(expression, sympy.exp):
        return Mul(*(sympy.exp(t) for t in Add.make_args(expression.exp)))
    if isinstance(expression, Add | Mul | Pow):
        return expression.func(*(apart(a) for a in expression.args))
    return expression


def _has_denominator(expression: Expr) -> bool:
    for node in surface(expression):
        if isinstance(node, Pow) and (
            node.exp.could_extract_minus_sign() or not node.exp.is_Integer
        ):
            return True
    return False


def surface(expression: Expr) -> Iterable[Expr]:
    """The nodes above the atoms."""
    yield expression
    if isinstance(expression, Add | Mul | Pow):
        for argument in expression.args:
            yield from surface(argument)


@functools.lru_cache(maxsize=1 << 12)
def factored(expression: Expr) -> Expr:
    """Numerator and denominator in factored form, e.g. (x - m)²/(v + ε)."""
    check_time()
    atoms: dict[Expr, Symbol] = {}

    def hide(node: Expr) -> Expr:
        if isinstance(node, Add | Mul):
            return node.func(*(hide(a) for a in node.args))
        if isinstance(node, Pow) and node.exp.is_Integer:
            return Pow(hide(node.base), node.exp)
        if node.is_number or node.is_Symbol:
            return node
        return atoms.setdefault(node, sympy.Dummy(f"a{len(atoms)}"))

    hidden = hide(expression)
    if len(atoms) > 8:
        return expression
    top, bottom = sympy.fraction(sympy.factor(hidden))
    if sum(t.could_extract_minus_sign() for t in Add.make_args(sympy.expand(bottom))) * 2 > len(
        Add.make_args(sympy.expand(bottom))
    ):
        top, bottom = sympy.factor(-top), sympy.factor(-bottom)
    return (top / bottom).xreplace({v: k for k, v in atoms.items()})
