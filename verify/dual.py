"""Dual numbers modulo a prime: forward-mode differentiation by brute force.

A :class:`Dual` is a value and its derivatives by every parameter element. The rules are the product
rule, the chain rule and a table of first derivatives; nothing of :mod:`derive.update` is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Integer, Rational

from derive.errors import DerivationError
from verify.modular import Prime

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Dual:
    """A value and its derivatives.

    Attributes:
        value: Object array.
        tangent: Object array with one more axis in front, one entry a parameter element; ``None``
            for 0.
    """

    value: Array
    tangent: Array | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape."""
        return tuple(self.value.shape)


def insert(array: Array, ndim: int) -> Array:
    """A tangent with ones after its first axis, so that its other axes line up from the right."""
    return array.reshape(array.shape[:1] + (1,) * (ndim + 1 - array.ndim) + array.shape[1:])


class DualArithmetic:
    """Arithmetic on dual numbers for :class:`verify.interpret.Interpreter`.

    Args:
        field: The prime field.
    """

    def __init__(self, field: Prime) -> None:
        """Keep the field."""
        self.field = field

    # ------------------------------------------------------------------ building
    def constant(self, value: Any) -> Dual:
        """A number or array that depends on no parameter."""
        return Dual(self.field.array(value), None)

    def number(self, value: Expr) -> Dual:
        """A SymPy number."""
        return self.constant(self.field.number(value))

    def flags(self, mask: Array) -> Dual:
        """1 where the mask holds."""
        return self.constant(np.asarray(mask).astype(np.int64).astype(object))

    # ------------------------------------------------------------------ rules
    def scaled(self, tangent: Array | None, factor: Array) -> Array | None:
        """Tangent times a value."""
        if tangent is None:
            return None
        ndim = max(tangent.ndim - 1, factor.ndim)
        return self.field.array(insert(tangent, ndim) * factor)

    def sum_of(self, tangents: Sequence[Array | None]) -> Array | None:
        """Σ tangents."""
        total: Array | None = None
        for tangent in tangents:
            if tangent is None:
                continue
            if total is None:
                total = tangent
                continue
            ndim = max(tangent.ndim, total.ndim) - 1
            total = self.field.array(insert(total, ndim) + insert(tangent, ndim))
        return total

    def add(self, a: Dual, b: Dual) -> Dual:
        """A + b; d(a + b) = da + db."""
        return Dual(self.field.add(a.value, b.value), self.sum_of([a.tangent, b.tangent]))

    def multiply(self, a: Dual, b: Dual) -> Dual:
        """A b; d(ab) = b da + a db."""
        tangents = [self.scaled(a.tangent, b.value), self.scaled(b.tangent, a.value)]
        return Dual(self.field.multiply(a.value, b.value), self.sum_of(tangents))

    def power(self, base: Dual, exponent: Rational) -> Dual:
        """a^e; d(a^e) = e a^(e-1) da."""
        value = self.field.power(base.value, exponent)
        if base.tangent is None:
            return Dual(value, None)
        slope = self.field.power(base.value, exponent - 1)
        slope = self.field.multiply(slope, self.field.array(self.field.number(exponent)))
        return Dual(value, self.scaled(base.tangent, slope))

    def function(self, name: str, arguments: Sequence[Dual]) -> Dual:
        """f(a, ...); df = Σ ∂f/∂a da."""
        values = np.broadcast_arrays(*(a.value for a in arguments))
        result = self.field.named(name, *values)
        tangents = [
            self.scaled(a.tangent, self.slope(name, k, values, result))
            for k, a in enumerate(arguments)
            if a.tangent is not None
        ]
        return Dual(result, self.sum_of(tangents))

    def slope(self, name: str, which: int, values: Sequence[Array], result: Array) -> Array:
        """∂f/∂a of the ``which``-th argument, from a table of first derivatives.

        Raises:
            DerivationError: If the table has no entry.
        """
        f, a = self.field, values[0]

        def number(value: Expr) -> Array:
            return f.array(f.number(value))

        def gauss(x: Array, over: int) -> Array:
            exponent = f.multiply(f.multiply(x, x), number(Rational(-1, over)))
            return f.named("exp", exponent)

        def root_of_pi(times: int) -> Array:
            return f.power(f.multiply(number(sympy.pi), number(Integer(times))), Rational(-1, 2))

        one = number(Integer(1))
        if name == "exp":
            return result
        if name == "log":
            return f.power(a, Integer(-1))
        if name == "tanh":
            return f.array(one - f.multiply(result, result))
        if name == "sigmoid":
            return f.multiply(result, f.array(one - result))
        if name == "relu":
            return f.named("Step", a)
        if name == "silu":
            gate = f.named("sigmoid", a)
            return f.multiply(gate, f.array(one + f.multiply(a, f.array(one - gate))))
        if name == "erf":
            return f.multiply(f.array(2 * root_of_pi(1)), gauss(a, 1))
        if name == "gelu":
            inner = f.multiply(a, f.power(number(Integer(2)), Rational(-1, 2)))
            half = f.multiply(number(Rational(1, 2)), f.array(one + f.named("erf", inner)))
            return f.array(half + f.multiply(a, f.multiply(gauss(a, 2), root_of_pi(2))))
        if name == "maximum":
            first = f.named("Step", f.array(a - values[1]))
            return first if which == 0 else f.array(one - first)
        if name == "Abs":
            return f.named("sign", a)
        if name in ("Step", "sign"):
            return f.array(np.zeros(a.shape, dtype=object))
        raise DerivationError(f"no derivative modulo a prime for the function {name}")

    # ------------------------------------------------------------------ shapes
    def total(self, a: Dual, shape: tuple[int, ...], axes: tuple[int, ...]) -> Dual:
        """Sum over axes."""
        whole = self.shaped(a, shape)
        tangent = None
        if whole.tangent is not None:
            tangent = self.field.array(whole.tangent.sum(axis=tuple(k + 1 for k in axes)))
        return Dual(self.field.total(whole.value, axes), tangent)

    def largest(self, a: Dual, shape: tuple[int, ...], axes: tuple[int, ...]) -> Dual:
        """Maximum over axes of something that depends on no parameter.

        Raises:
            DerivationError: If the operand depends on a parameter.
        """
        if a.tangent is not None:
            raise DerivationError("max[...] over something that depends on a parameter")
        return Dual(self.field.largest(self.shaped(a, shape).value, axes), None)

    def gather(self, tensor: Dual, positions: tuple[Array, ...], valid: Array) -> Dual:
        """Elements at positions, 0 where not valid."""
        value = np.where(valid, tensor.value[positions], 0)
        tangent = None
        if tensor.tangent is not None:
            picked = np.moveaxis(np.moveaxis(tensor.tangent, 0, -1)[positions], -1, 0)
            tangent = np.where(valid, picked, 0)
        return Dual(value, tangent)

    def shaped(self, a: Dual, shape: tuple[int, ...]) -> Dual:
        """Broadcast."""
        tangent = None
        if a.tangent is not None:
            lined = insert(a.tangent, len(shape))
            tangent = np.broadcast_to(lined, (lined.shape[0], *shape))
        return Dual(np.broadcast_to(a.value, shape), tangent)
