"""Arrays of exact numbers with a derivative: what an emitted file's tensors are, when it is proved.

An :class:`Exact` holds residues and, for one direction v in parameters and inputs, the derivative
along v. The rules are those of dual numbers, a + ȧε with ε² = 0. A :class:`Whole` holds integers or
truth values, as index tensors and masks do; it has no derivative.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from verify.residues import PRIME, Residues
from verify.results import VerificationError

Array = np.ndarray[Any, Any]
Number = int | Fraction
Degrees = tuple[int, int]
LARGEST = 20_000
STEEPEST = 64
# Types of numbers, narrower ones first; the two half types have float32 in common.
RANK = ("", "float16", "bfloat16", "float32", "float64")
HALF = frozenset(["float16", "bfloat16"])
PRODUCT = operator.mul


class Refusal(VerificationError):  # noqa: N818 - a verdict, with its reason
    """Something that the exact reading of an emitted file does not know or does not allow."""


class TooManyError(Refusal):
    """An array of more numbers than are worth judging."""


def check_size(size: int) -> None:
    """Refuse what would take long, before it is computed.

    Raises:
        TooManyError: If an array would be larger than anything that is worth judging.
    """
    if size > LARGEST:
        raise TooManyError(f"{size} numbers are too many to be proved")


def objects(values: Any) -> Array:
    """An object array, also of what NumPy would make a plain number."""
    return np.asarray(values, dtype=object)


def each(function: Callable[..., Any], *arrays: Array) -> Array:
    """A function of numbers, elementwise."""
    return objects(np.frompyfunc(function, len(arrays), 1)(*arrays))


@dataclass(frozen=True)
class Whole:
    """An array of int64 or bool."""

    value: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(self.value.shape)


@dataclass(frozen=True, eq=False)
class Exact:
    """An array of numbers with a derivative.

    Attributes:
        ring: What it is computed in.
        value: Residues, an object array.
        tangent: The derivative, of the same shape; ``None`` for 0.
        infinite: Where the number is ∞ or -∞: 1, -1, else 0; ``None`` for nowhere. Few operations
            take such a number.
        dtype: The type that torch would give it, as code may ask for it; "" for a plain number.
            Nothing is rounded.
        degrees: Bounds of the degrees of numerator and denominator in what was drawn.
    """

    ring: Residues
    value: Array
    tangent: Array | None = None
    infinite: Array | None = None
    dtype: str = ""
    degrees: Degrees = (0, 0)

    def __post_init__(self) -> None:
        """Refuse what would take long."""
        check_size(self.value.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(self.value.shape)

    @property
    def finite(self) -> Exact:
        """The array itself, if no number in it is infinite.

        Raises:
            Refusal: If one is.
        """
        if self.infinite is not None and self.infinite.any():
            raise Refusal("an infinite number where only finite ones are understood")
        return self if self.infinite is None else replace(self, infinite=None)

    def like(
        self, value: Array, tangent: Array | None = None, degrees: Degrees | None = None
    ) -> Exact:
        """Other numbers of the same type."""
        return Exact(self.ring, value, tangent, None, self.dtype, degrees or self.degrees)

    def moved(self, f: Callable[[Array], Array]) -> Exact:
        """The numbers at other places: ``f`` only moves, repeats or drops elements."""
        tangent = None if self.tangent is None else f(self.tangent)
        infinite = None if self.infinite is None else f(self.infinite)
        return replace(self, value=objects(f(self.value)), tangent=tangent, infinite=infinite)

    def reduced(self, values: Any) -> Array:
        """Residues again."""
        return objects(values % self.ring.modulus)

    def constant(self, value: Any) -> Exact:
        """A number of the same ring, or numbers, with derivative 0."""
        return constant(self.ring, value)

    def detached(self) -> Exact:
        """The same numbers, with derivative 0."""
        return replace(self, tangent=None)

    # ------------------------------------------------------------------ sums and products
    def __add__(self, other: Exact) -> Exact:
        """A + b; d(a + b) = da + db."""
        if self.infinite is not None or other.infinite is not None:
            return self.add_infinite(other)
        check_size(math.prod(np.broadcast_shapes(self.shape, other.shape)))
        value = self.reduced(self.value + other.value)
        (a, b), (c, d) = self.degrees, other.degrees
        return Exact(
            self.ring,
            value,
            self.sum_of(value.shape, self.tangent, other.tangent),
            None,
            common_dtype(self, other),
            (max(a + d, c + b), b + d),
        )

    def add_infinite(self, other: Exact) -> Exact:
        """A + b where a or b may be infinite, but not both."""
        a, b = (np.zeros(x.shape, np.int8) if x.infinite is None else x.infinite
                for x in (self, other))  # fmt: skip
        if (np.asarray(a * b) == -1).any():
            raise Refusal("∞ - ∞")
        finite = replace(self, infinite=None) + replace(other, infinite=None)
        return replace(finite, infinite=np.clip(a + b, -1, 1).astype(np.int8))

    def sum_of(self, shape: tuple[int, ...], *tangents: Array | None) -> Array | None:
        """Σ tangents, at the value's shape."""
        given = [t for t in tangents if t is not None]
        if not given:
            return None
        total = given[0] if len(given) == 1 else self.reduced(sum(given[1:], given[0]))
        return np.broadcast_to(total, shape)

    def __neg__(self) -> Exact:
        """-a."""
        a = self.finite
        return a.like(a.reduced(-a.value), None if a.tangent is None else a.reduced(-a.tangent))

    def __sub__(self, other: Exact) -> Exact:
        """A - b."""
        return self + (-other)

    def __mul__(self, other: Exact) -> Exact:
        """A b; d(ab) = da b + a db."""
        return multilinear(PRODUCT, self, other)

    def __truediv__(self, other: Exact) -> Exact:
        """a/b = a b⁻¹."""
        return self * other.power(-1)

    def mapped(
        self,
        f: Callable[[int], int],
        slope: Callable[[int, int], int],
        degrees: Degrees = (1, 0),
    ) -> Exact:
        """f(a); df(a) = slope(a, f(a)) da. A value that is drawn counts as of degree 1."""
        a = self.finite
        value = each(f, a.value)
        if a.tangent is None:
            return a.like(value, None, degrees)
        # What does not change has no derivative, also where the slope would be infinite.
        tangent = each(lambda x, y, t: slope(x, y) * t if t else 0, a.value, value, a.tangent)
        return a.like(value, a.reduced(tangent), degrees)

    def power(self, exponent: Number) -> Exact:
        """a^e; d(a^e) = e a^(e-1) da; ∞^e = 0 for e < 0, and ∞ for 0 < e < 1, with slope 0."""
        e, r = Fraction(exponent), self.ring
        if max(abs(e.numerator), e.denominator) > STEEPEST:
            raise Refusal(f"the power {e}")
        if self.infinite is not None:
            if e == 0 or e >= 1 or (self.infinite < 0).any():
                raise Refusal(f"the power {e} of an infinite number")
            found = self.vanishing(lambda a: a.power(e))
            return found if e < 0 else replace(found, infinite=self.infinite)
        times = r.number(e)

        def slope(a: int, result: int) -> int:
            if e.denominator == 1:
                return times * r.power(a, e - 1) % r.modulus
            return times * result * r.inverse(a) % r.modulus

        return self.mapped(lambda a: r.power(a, e), slope, raised(self.degrees, e))

    def vanishing(self, f: Callable[[Exact], Exact]) -> Exact:
        """``f``, which is 0 where the number is infinite."""
        mask = np.asarray(self.infinite != 0)
        return f(replace(self.filled(mask, 1), infinite=None)).filled(mask, 0)

    def filled(self, mask: Array, number: int) -> Exact:
        """The numbers, with another constant where the mask holds."""
        value = objects(np.where(mask, number, self.value))
        tangent = None if self.tangent is None else objects(np.where(mask, 0, self.tangent))
        infinite = None if self.infinite is None else np.where(mask, 0, self.infinite)
        return replace(self, value=value, tangent=tangent, infinite=infinite)

    def exp(self) -> Exact:
        """e^a; d e^a = e^a da; e^-∞ = 0."""
        if self.infinite is not None:
            if (self.infinite > 0).any():
                raise Refusal("the exponential of an infinite number")
            return self.vanishing(lambda a: a.exp())
        return self.mapped(self.ring.exponential, lambda _, result: result)

    def log(self) -> Exact:
        """The natural logarithm; d log a = da/a."""
        return self.mapped(self.ring.log, lambda a, _: self.ring.inverse(a))

    def signs(self) -> Array:
        """1, -1 or 0 as int64."""
        return each(self.ring.sign, self.finite.value).astype(np.int64)

    def times_sign(self, up: int, down: int) -> Exact:
        """``up`` times a where a is positive, ``down`` times a elsewhere."""
        return self * self.constant(np.where(self.signs() > 0, up, down).astype(object))

    def abs(self) -> Exact:
        """|a|; d|a| = sign(a) da."""
        return self.times_sign(1, -1)

    def relu(self) -> Exact:
        """max(a, 0); its derivative is Step(a) da."""
        return self.times_sign(1, 0)

    def sigmoid(self) -> Exact:
        """1/(1 + exp(-a)); ds = s (1 - s) da."""
        return self.mapped(self.ring.sigmoid, lambda _, s: s * (1 - s))

    def erf(self) -> Exact:
        """The error function; d erf a = 2/√π e^(-a²) da."""
        r = self.ring
        scale = 2 * r.power(r.pi(), Fraction(-1, 2))
        return self.mapped(r.erf, lambda a, _: scale * r.exponential(-a * a % r.modulus))

    def tanh(self) -> Exact:
        """(exp(2a) - 1)/(exp(2a) + 1)."""
        e, one = (self + self).exp(), self.constant(1)
        return (e - one) / (e + one)

    def silu(self) -> Exact:
        """A sigmoid(a)."""
        return self * self.sigmoid()

    def gelu(self) -> Exact:
        """a/2 (1 + erf(a/√2))."""
        root = self.constant(2).power(Fraction(-1, 2))
        half = self.constant(Fraction(1, 2))
        return self * half * (self.constant(1) + (self * root).erf())

    def total(self, axes: tuple[int, ...], keepdims: bool = False) -> Exact:
        """Sum over axes; d Σ a = Σ da."""
        a = self.finite
        count = math.prod(a.shape[k] for k in axes)
        parts = [
            None if t is None else a.reduced(objects(t.sum(axis=axes, keepdims=keepdims)))
            for t in (a.value, a.tangent)
        ]
        assert parts[0] is not None, "every array has a value"
        return a.like(parts[0], parts[1], summed(a.degrees, count))

    def softmax(self, axis: int) -> Exact:
        """exp(a)/Σ exp(a)."""
        exponentials = self.exp()
        return exponentials / exponentials.total((axis,), keepdims=True)

    def largest(self, axes: tuple[int, ...], keepdims: bool = False) -> Exact:
        """The first in an order of all numbers that is drawn from the seed.

        It is one of them whatever their order, as a maximum is; no comparison with it is made.
        """
        a = self.finite
        rest = [k for k in range(a.value.ndim) if k not in axes]
        shape = tuple(1 if k in axes else a.shape[k] for k in range(a.value.ndim))

        def lined(values: Array) -> Array:
            lead = tuple(a.shape[k] for k in rest)
            return np.transpose(values, [*rest, *axes]).reshape((*lead, -1))

        keys = each(lambda v: self.ring.atom("order", v), lined(a.value))
        first = np.argmax(keys, axis=-1)[..., None]

        def picked(values: Array) -> Array:
            found = objects(np.take_along_axis(lined(values), first, axis=-1)[..., 0])
            return found.reshape(shape) if keepdims else found

        return a.moved(picked)


# ---------------------------------------------------------------------- degrees and types
def raised(degrees: Degrees, exponent: Fraction) -> Degrees:
    """Of a power; a root counts as its radicand's degree by the root's, and 1 for itself."""
    top, bottom = degrees
    q, times = exponent.denominator, abs(exponent.numerator)
    if q > 1:
        top, bottom = -(-top // q) + 1, -(-bottom // q) + 1
    return (top * times, bottom * times) if exponent > 0 else (bottom * times, top * times)


def summed(degrees: Degrees, count: int) -> Degrees:
    """Of a sum of so many terms, whose denominators may all differ."""
    top, bottom = degrees
    return top + bottom * max(count - 1, 0), bottom * max(count, 1)


def common_dtype(*operands: Exact) -> str:
    """The type of a result; a plain number, and a scalar beside an array, do not count."""
    arrays = [x for x in operands if x.value.ndim > 0 and x.dtype] or list(operands)
    found = {x.dtype for x in arrays if x.dtype}
    if len(found) > 1 and found <= HALF:
        return "float32"
    return max(found, key=RANK.index, default="")


def constant(ring: Residues, value: Any, dtype: str = "") -> Exact:
    """A number or numbers with derivative 0."""
    number = ring.number(value) if isinstance(value, int | Fraction) else value % ring.modulus
    return Exact(ring, objects(number), None, None, dtype)


def multilinear(f: Callable[..., Any], *factors: Exact) -> Exact:
    """``f``, linear in each argument; df = Σ_k f(…, da_k, …)."""
    given = [a.finite for a in factors]
    first = given[0]
    values = [a.value for a in given]
    check_size(math.prod(v.size for v in values) // LARGEST)
    value = first.reduced(f(*values))
    tangents = [
        first.reduced(f(*values[:k], a.tangent, *values[k + 1 :]))
        for k, a in enumerate(given)
        if a.tangent is not None
    ]
    degrees = sum(a.degrees[0] for a in given), sum(a.degrees[1] for a in given)
    if f is not PRODUCT:
        degrees = summed(degrees, max(a.value.size for a in given))
    tangent = first.sum_of(value.shape, *tangents)
    return Exact(first.ring, value, tangent, None, common_dtype(*given), degrees)


def larger(a: Exact, b: Exact) -> Exact:
    """Max(a, b): a where a - b is positive."""
    first = constant(a.ring, ((a - b).signs() > 0).astype(np.int64).astype(object))
    return a * first + b * (first.constant(1) - first)


def same(a: Exact, b: Exact) -> str:
    """What tells two arrays apart: "shape", "value", "derivative", or "" for nothing."""
    if a.shape != b.shape:
        return "shape"
    for x, y, what in ((a.value, b.value, "value"), (a.tangent, b.tangent, "derivative")):
        left, right = (0 if t is None else t for t in (x, y))
        if np.any(objects(left - right) % PRIME != 0):
            return what
    return ""


def stacked(parts: Sequence[Exact], f: Callable[[Sequence[Array]], Array]) -> Exact:
    """Arrays put together by ``f``, which only moves elements."""
    given = [p.finite for p in parts]
    tangent = None
    if any(p.tangent is not None for p in given):
        tangents = [p.reduced(p.value * 0) if p.tangent is None else p.tangent for p in given]
        tangent = f(tangents)
    degrees = max(p.degrees[0] for p in given), max(p.degrees[1] for p in given)
    value = objects(f([p.value for p in given]))
    return Exact(given[0].ring, value, tangent, None, common_dtype(*given), degrees)
