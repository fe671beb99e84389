"""Sums of squares, put together again: Σ x² - 2 m Σ x + n m² = Σ (x - m)².

The normal form multiplies everything out, which is right for comparing and wrong for computing: the
expanded form cancels in floating point and may come out below zero. :func:`complete_squares` finds
the squares again. It only regroups, so the result is equal to what it was given; whoever uses it
proves that anew by normalising.
"""

from __future__ import annotations

from sympy import Add, Expr, Mul, Pow

from derive.fractions import factored
from derive.nodes import Contraction, Letter, size_symbol


def complete_squares(expression: Expr) -> Expr:
    """The expression with its sums regrouped into squares wherever whole squares come out."""
    if isinstance(expression, Mul | Pow):
        return expression.func(*(complete_squares(a) for a in expression.args))
    if not isinstance(expression, Add):
        return expression
    terms = list(expression.args)
    for letters in _letter_sets(terms):
        terms = _under_one_sum(terms, letters)
    terms = _common_squares(terms)
    return Add(*terms)


def _letter_sets(terms: list[Expr]) -> list[tuple[Letter, ...]]:
    """The bound letters of every sum in the terms, once each."""
    found: dict[tuple[Letter, ...], None] = {}
    for term in terms:
        for factor in Mul.make_args(term):
            if isinstance(factor, Contraction):
                found.setdefault(factor.letters)
    return sorted(found, key=str)


def _under_one_sum(terms: list[Expr], letters: tuple[Letter, ...]) -> list[Expr]:
    """Terms a·Σf and a·size with the same bound letters as one Σ (...)², if that is a square."""
    inside: list[Expr] = []
    used: list[Expr] = []
    counts = [size_symbol(x.size) for x in letters]
    for term in terms:
        sums = [f for f in Mul.make_args(term) if isinstance(f, Contraction)]
        rest = Mul(*(f for f in Mul.make_args(term) if f not in sums))
        if set(letters) & rest.free_symbols:
            continue
        if len(sums) == 1 and sums[0].letters == letters:
            inside.append(rest * sums[0].body)
            used.append(term)
        elif not sums and set(counts) <= set(Mul.make_args(term)):
            inside.append(term / Mul(*counts))
            used.append(term)
    if len(used) < 2:
        return terms
    square = factored(Add(*inside))
    if not _is_square(square):
        return terms
    return [t for t in terms if t not in used] + [_pulled(square, letters)]


def _pulled(square: Expr, letters: tuple[Letter, ...]) -> Expr:
    constant, dependent = square.as_independent(*letters, as_Add=False)
    return constant * Contraction(dependent, *letters)


def _is_square(expression: Expr) -> bool:
    """A product of a positive number and even powers."""
    coefficient, factors = expression.as_coeff_mul()
    return bool(coefficient.is_positive) and all(
        (isinstance(f, Pow) and f.exp.is_even) or (f.is_Symbol and f.is_positive) for f in factors
    )


def _common_squares(terms: list[Expr]) -> list[Expr]:
    """a² - 2 a² b + a² b² = a² (1 - b)²."""
    squares = {
        f.base: None
        for t in terms
        for f in Mul.make_args(t)
        if isinstance(f, Pow) and not f.base.is_Add
    }
    for base in sorted(squares, key=str):
        holders = [t for t in terms if base**2 in Mul.make_args(t)]
        if len(holders) < 3:
            continue
        square = factored(Add(*holders))
        if _is_square(square):
            terms = [t for t in terms if t not in holders] + [square]
    return terms
