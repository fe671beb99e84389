"""Which expressions cannot be zero, as far as their form tells."""

from __future__ import annotations

from sympy import Add, Expr, Pow

from derive.structure import is_positive_sum


def positive(expression: Expr) -> bool:
    """Whether a radicand cannot be zero: a positive constant plus what is ≥ 0."""
    terms = Add.make_args(expression)
    return any(t.is_positive and _of_sizes(t) for t in terms) and all(map(is_positive_sum, terms))


def bounded(expression: Expr) -> bool:
    """Whether no derivative of an inverse power exceeds those at 0: a positive polynomial."""
    powers = expression.atoms(Pow)
    return positive(expression) and all(p.exp.is_Integer and p.exp.is_positive for p in powers)


def _of_sizes(term: Expr) -> bool:
    """Whether a term holds numbers and sizes alone."""
    return all(str(s).startswith("size(") for s in term.free_symbols)
