"""The functions of the notation, with derivatives in terms of each other."""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Expr, Function, Integer

from derive.nodes import Contraction


class Step(Function):
    """Heaviside step, 1 where the argument is positive and 0 elsewhere; idempotent."""

    is_real = True
    is_nonnegative = True
    is_finite = True
    nargs = 1

    @classmethod
    def eval(cls, argument: Expr) -> Expr | None:
        """Canonical sign, without factors that are positive: Step(-a) = 1 - Step(a).

        Both hold but on the measure-zero set where a or a factor is 0.
        """
        if argument.is_positive:
            return Integer(1)
        if argument.is_nonpositive:
            return Integer(0)
        factors = sympy.Mul.make_args(argument)
        signed = [f for f in factors if not almost_positive(f)]
        if len(signed) < len(factors):
            return cls(sympy.Mul(*signed))
        if argument.could_extract_minus_sign():
            return Integer(1) - cls(-argument)
        return None

    def _eval_power(self, exponent: Expr) -> Expr | None:
        return self if exponent.is_positive else None

    def fdiff(self, argindex: int = 1) -> Expr:
        """Zero almost everywhere."""
        return Integer(0)


class relu(Function):  # noqa: N801 - printed name
    """max(x, 0)."""

    is_real = True
    is_nonnegative = True
    is_finite = True
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        """Step function."""
        return Step(self.args[0])


class sigmoid(Function):  # noqa: N801 - printed name
    """1 / (1 + exp(-x))."""

    is_real = True
    is_positive = True
    is_finite = True
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        """sigmoid(x) (1 - sigmoid(x))."""
        return self * (1 - self)


class silu(Function):  # noqa: N801 - printed name
    """x sigmoid(x)."""

    is_real = True
    is_finite = True
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        """sigmoid(x) (1 + x (1 - sigmoid(x)))."""
        x = self.args[0]
        return sigmoid(x) * (1 + x * (1 - sigmoid(x)))


class gelu(Function):  # noqa: N801 - printed name
    """x Φ(x) with the normal distribution function Φ."""

    is_real = True
    is_finite = True
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        """Φ(x) + x φ(x)."""
        x = self.args[0]
        density = sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)
        return (1 + sympy.erf(x / sympy.sqrt(2))) / 2 + x * density


class maximum(Function):  # noqa: N801 - printed name
    """The larger of two numbers."""

    is_real = True
    is_finite = True
    nargs = 2

    def fdiff(self, argindex: int = 1) -> Expr:
        """Step function of the winner."""
        a, b = self.args
        return Step(a - b) if argindex == 1 else Step(b - a)


FLAT = (Step, relu, maximum)
"""Functions that are constant on a whole region; all others are analytic where they are defined."""


def almost_positive(e: Expr) -> bool:
    """Whether it is plainly positive at almost every point: squares, and what is made of them."""
    if e.is_positive:
        return True
    if isinstance(e, sympy.Pow):
        flat = e.base.has(*FLAT)
        return (bool(e.exp.is_even) and not flat) or almost_positive(e.base)
    if isinstance(e, Contraction):
        return almost_positive(e.body)
    return isinstance(e, sympy.Add | sympy.Mul) and all(map(almost_positive, e.args))


FUNCTIONS: dict[str, Any] = {
    "sqrt": sympy.sqrt,
    "exp": sympy.exp,
    "log": sympy.log,
    "tanh": sympy.tanh,
    "erf": sympy.erf,
    "sigmoid": sigmoid,
    "relu": relu,
    "gelu": gelu,
    "silu": silu,
    "max": maximum,
}
