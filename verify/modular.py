"""Arithmetic modulo the prime p = 2⁶¹ - 1, for :mod:`derive.evaluate`: no rounding anywhere.

Roots and functions become *atoms* with their defining relations:

- √a is the root of a that is itself a square. As p ≡ 3 (mod 4), exactly one of ±r is a square, so
  √(ab) = √a √b and √(a²) = |a| if positive is read as being a square. A non-square has no root
  here: :class:`NonResidue`, and the instance is drawn again.
- relu, max, |·|, sign and Step follow from that reading of positive; tanh and erf are odd.
- exp turns sums into products. It is ω^a with ω of order m = 31·41·61·151·331·1321, a divisor of
  p - 1, which needs a modulo m and not modulo p. So where a formula has functions, numbers are kept
  modulo p·m: both residues in one integer. The part modulo m is a *shadow* that only exponents see.
- any other function of a number is drawn from the seed, the function's name and its argument.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
from sympy import Function
from sympy.ntheory import sqrt_mod

from derive.errors import DerivationError

Array = np.ndarray[Any, Any]
PRIME = 2**61 - 1
SHADOW_PRIMES = (31, 41, 61, 151, 331, 1321)
SHADOW = functools.reduce(lambda a, b: a * b, SHADOW_PRIMES)


class NonResidue(Exception):  # noqa: N818 - an event that is dealt with
    """A number without a square root: residues have to be drawn again.

    Args:
        radicand: The number.
    """

    def __init__(self, radicand: int = 0) -> None:
        """Keep the number: one that comes again does not depend on the draw."""
        super().__init__(f"{radicand} has no square root")
        self.radicand = radicand


class Singular(Exception):  # noqa: N818 - an event that is dealt with
    """No value modulo p: a division by 0, by chance or at these sizes always, or an odd root."""


@functools.cache
def root_of_unity() -> int:
    """An element of order exactly SHADOW modulo PRIME.

    Raises:
        DerivationError: If none of the bases tried gives an element of that order.
    """
    for base in range(2, 200):
        omega = pow(base, (PRIME - 1) // SHADOW, PRIME)
        if all(pow(omega, SHADOW // q, PRIME) != 1 for q in SHADOW_PRIMES):
            return omega
    raise DerivationError("no element of the wanted order")


def is_square(a: int) -> bool:
    """Whether a residue is a non-zero square modulo PRIME."""
    return pow(a, (PRIME - 1) // 2, PRIME) == 1


class Prime:
    """The field; arrays have dtype ``object`` and hold Python integers.

    Args:
        seed: What the atoms are drawn from.
        shadow: Whether to carry the residues that exponents need.

    Attributes:
        modulus: PRIME, or PRIME·SHADOW.
        tainted: Whether a shadow had to be invented (a division or root that the shadow lacks).
            Then a disagreement may be the shadow's fault and the instance is drawn again.
        roots: The different radicands met.
    """

    dtype: Any = object

    def __init__(self, seed: int, *, shadow: bool = False) -> None:
        """Start untainted."""
        self.seed = seed
        self.shadow = shadow
        self.modulus = PRIME * SHADOW if shadow else PRIME
        self.tainted = False
        self.roots: set[int] = set()

    # ------------------------------------------------------------------ single numbers
    def atom(self, name: str, *arguments: int) -> int:
        """A number drawn from the seed, a name and arguments."""
        text = f"{self.seed}|{name}|{'|'.join(str(a % PRIME) for a in arguments)}"
        digest = hashlib.blake2b(text.encode(), digest_size=32).digest()
        return int.from_bytes(digest, "big") % self.modulus

    def join(self, value: int, shadow: int | None, name: str) -> int:
        """The number with a residue modulo PRIME and one modulo SHADOW (invented if ``None``)."""
        if not self.shadow:
            return value % PRIME
        if shadow is None:
            self.tainted = True
            shadow = self.atom(f"shadow of {name}", value)
        step = (shadow - value) * pow(PRIME, -1, SHADOW) % SHADOW
        return value % PRIME + PRIME * step

    def inverse(self, a: int) -> int:
        """1/a.

        Raises:
            Singular: If a is 0.
        """
        if a % PRIME == 0:
            raise Singular("division by 0")
        shadow = None
        if self.shadow and all(a % q for q in SHADOW_PRIMES):
            shadow = pow(a, -1, SHADOW)
        return self.join(pow(a, -1, PRIME), shadow, "1/")

    def root(self, a: int) -> int:
        """√a.

        Raises:
            NonResidue: If a is no square.
        """
        residue = a % PRIME
        if residue and not is_square(residue):
            raise NonResidue(residue)
        self.roots.add(residue)
        shadow = sqrt_mod(a % SHADOW, SHADOW) if self.shadow else None
        return self.join(pow(residue, (PRIME + 1) // 4, PRIME), shadow, "√")

    def raised(self, a: int, exponent: sympy.Rational) -> int:
        """A to a rational power whose denominator is a power of two.

        Raises:
            Singular: If the denominator of the exponent has an odd factor.
        """
        top, bottom = int(exponent.p), int(exponent.q)
        while bottom > 1:
            if bottom % 2:
                raise Singular(f"the power {exponent} has no root to draw modulo p")
            a, bottom = self.root(a), bottom // 2
        if top < 0:
            a, top = self.inverse(a), -top
        return pow(a, top, self.modulus)

    def exponential(self, a: int) -> int:
        """exp(a), with exp(a + b) = exp(a) exp(b).

        Raises:
            DerivationError: If the field has no shadow residues.
        """
        if not self.shadow:
            raise DerivationError("exp needs the shadow residues")
        return self.join(
            pow(root_of_unity(), a % SHADOW, PRIME), self.atom("exp", a) % SHADOW, "exp"
        )

    def positive(self, a: int) -> bool:
        """Whether a counts as positive: it is a square."""
        return is_square(a % PRIME)

    def odd(self, name: str, a: int) -> int:
        """An odd function's atom."""
        if a % PRIME == 0:
            return 0
        if self.positive(a):
            return self.atom(name, a)
        return -self.atom(name, -a) % self.modulus

    def apply(self, name: str, *arguments: int) -> int:
        """A function of numbers.

        Raises:
            DerivationError: If there is no rule modulo a prime for the function.
        """
        a = arguments[0]
        if name == "exp":
            return self.exponential(a)
        if name in ("tanh", "erf"):
            return self.odd(name, a)
        if name in ("relu", "Step", "Abs", "sign"):
            up = self.positive(a)
            choices = {
                "relu": a if up else 0,
                "Step": int(up),
                "Abs": a if up else -a,
                "sign": 1 if up else -1,
            }
            return choices[name] % self.modulus
        if name == "maximum":
            return a if self.positive(a - arguments[1]) else arguments[1]
        if name in ("sigmoid", "silu", "gelu", "log"):
            return self.atom(name, *arguments)
        raise DerivationError(f"no rule modulo a prime for the function {name}")

    # ------------------------------------------------------------------ the Field protocol
    def number(self, value: sympy.Expr) -> int:
        """A rational exactly; π and e as atoms, π as a square like every positive constant.

        Raises:
            DerivationError: If the number has no residue.
        """
        value = sympy.sympify(value)
        if value.is_Float:
            value = sympy.Rational(str(value))
        if value.is_Rational:
            return int(value.p) * self.inverse(int(value.q)) % self.modulus
        if value == sympy.E:
            return self.exponential(1)
        if isinstance(value, sympy.NumberSymbol):
            return pow(self.atom(str(value)), 2, self.modulus)
        raise DerivationError(f"no residue for the number {value}")

    def array(self, value: Any) -> Array:
        """An object array, reduced."""
        return np.asarray(np.asarray(value, dtype=object) % self.modulus, dtype=object)

    def each(self, function: Callable[..., int], *arrays: Array) -> Array:
        """A function of numbers, elementwise."""
        result = np.frompyfunc(function, len(arrays), 1)(*arrays)
        return np.asarray(result, dtype=object)

    def add(self, a: Array, b: Array) -> Array:
        """A + b."""
        return self.array(a + b)

    def multiply(self, a: Array, b: Array) -> Array:
        """A times b."""
        return self.array(a * b)

    def power(self, base: Array, exponent: sympy.Rational) -> Array:
        """``base ** exponent``."""
        return self.each(lambda a: self.raised(int(a), exponent), base)

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Sum over axes."""
        return self.array(a.sum(axis=axes))

    def function(self, node: Function, arguments: Sequence[Array]) -> Array:
        """A function of the notation."""
        return self.named(node.func.__name__, *arguments)

    def named(self, name: str, *arguments: Array) -> Array:
        """A function by name."""
        return self.each(lambda *values: self.apply(name, *(int(v) for v in values)), *arguments)

    def largest(self, a: Array, axes: tuple[int, ...]) -> Array:
        """A symmetric atom of the elements that stand for one maximum."""
        kept = [k for k in range(a.ndim) if k not in axes]
        moved = np.transpose(a, [*kept, *axes]).reshape([a.shape[k] for k in kept] + [-1])
        found = np.empty(moved.shape[:-1], dtype=object)
        for index in np.ndindex(*found.shape):
            found[index] = self.atom("max", *sorted(int(v) % PRIME for v in moved[index]))
        return found
