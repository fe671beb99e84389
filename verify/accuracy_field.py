"""Arithmetic in 256 bits, for :mod:`derive.evaluate`: what a rounded result is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import sympy

from derive.errors import DerivationError

Array = np.ndarray[Any, Any]
BITS = 256
CONTEXT = mpmath.MPContext()  # of its own, so that nobody else's precision changes
CONTEXT.prec = BITS


def sigmoid(x: Any) -> Any:
    """1/(1 + exp(-x))."""
    return 1 / (1 + CONTEXT.exp(-x))


def raised(base: Any, exponent: sympy.Rational) -> Any:
    """``base ** exponent``, infinite at 0 where the exponent is negative."""
    if base == 0 and exponent < 0:
        return CONTEXT.inf
    if exponent.is_Integer:
        return base ** int(exponent)
    return base ** (CONTEXT.mpf(int(exponent.p)) / int(exponent.q))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "exp": CONTEXT.exp,
    "log": CONTEXT.log,
    "tanh": CONTEXT.tanh,
    "erf": CONTEXT.erf,
    "sigmoid": sigmoid,
    "Abs": abs,
    "maximum": max,
}


class Bits256:
    """Numbers of 256 bits, exponents without bounds; every float64 is one of them."""

    dtype = object

    def number(self, value: sympy.Expr) -> Any:
        """A SymPy number."""
        if isinstance(value, sympy.Rational):
            return CONTEXT.mpf(int(value.p)) / int(value.q)
        return CONTEXT.mpf(str(value.evalf(BITS // 3)))

    def exactly(self, values: Array) -> Array:
        """Floats as they are."""
        return np.asarray(np.frompyfunc(CONTEXT.mpf, 1, 1)(values), dtype=object)

    def add(self, a: Array, b: Array) -> Array:
        """A + b."""
        return np.asarray(a + b, dtype=object)

    def multiply(self, a: Array, b: Array) -> Array:
        """A times b."""
        return np.asarray(a * b, dtype=object)

    def power(self, base: Array, exponent: sympy.Rational) -> Array:
        """A power, infinite where it is one of 0 with a negative exponent."""
        return np.asarray(np.frompyfunc(lambda x: raised(x, exponent), 1, 1)(base), dtype=object)

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Sum over axes."""
        return np.asarray(a.sum(axis=axes), dtype=object)

    def largest(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Maximum over axes."""
        return np.asarray(a.max(axis=axes), dtype=object)

    def function(self, node: sympy.Function, arguments: Sequence[Array]) -> Array:
        """A function of the notation.

        Raises:
            DerivationError: If there is no rule for the function.
        """
        name = node.func.__name__
        if name not in FUNCTIONS:
            raise DerivationError(f"no rule of 256 bits for the function {name}")
        return np.asarray(np.frompyfunc(FUNCTIONS[name], len(arguments), 1)(*arguments), object)
