"""Which expressions cannot be zero, as far as their form tells."""

from __future__ import annotations

from sympy import Add, Expr, Pow

from derive.nodes import reads
from derive.structure import is_positive_sum


def positive(expression: Expr) -> bool:
    """Whether a radicand cannot be zero: a positive constant plus what is ≥ 0."""
    terms = Add.make_args(expression)
    constants = [t for t in terms if not reads(t) and not t.free_symbols - _sizes(t)]
    return any(t.is_positive for t in constants) and all(
        is_positive_sum(t) for t in terms if t not in constants
    )


def bounded(expression: Expr) -> bool:
    """Whether no derivative of an inverse power exceeds those at 0: a positive polynomial."""
    powers = expression.atoms(Pow)
    return positive(expression) and all(p.exp.is_Integer and p.exp > 0 for p in powers)


def _sizes(expression: Expr) -> set[Expr]:
    return {s for s in expression.free_symbols if str(s).startswith("size(")}
