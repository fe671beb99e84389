"""Calls that act on each element by itself, and masks.

Conversions between floating-point types are the identity, as nothing is rounded; the type itself is
kept, because code asks for it.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from verify.exact_array import (
    HALF,
    RANK,
    Array,
    Exact,
    Number,
    Refusal,
    Whole,
    constant,
    larger,
    objects,
    stacked,
)
from verify.exact_table import (
    Kind,
    Limits,
    Norm,
    axes_of,
    axis_of,
    exact,
    floating,
    integers,
    known,
    real,
    whole,
)
from verify.residues import PRIME, NoRoot, Residues

FLOATS = {"float16": (11, 16), "bfloat16": (8, 128), "float32": (24, 128), "float64": (53, 1024)}
# A number that is positive counts as lying between its reciprocal and this.
MODERATE = 2**60
SMALL = Fraction(1, MODERATE)


def elementwise(names: Sequence[str], f: Callable[[Exact], Exact]) -> None:
    """Enter a function of each element under names."""

    def apply(ring: Residues, x: Any) -> Exact:
        return f(real(x))

    known(*names)(apply)


def both(name: str) -> tuple[str, str]:
    """As a function and as a method."""
    return f"torch.{name}", f"Tensor.{name}"


elementwise(both("square"), lambda x: x * x)  # x²
elementwise(both("sqrt"), lambda x: x.power(Fraction(1, 2)))  # x^(1/2)
elementwise(both("rsqrt"), lambda x: x.power(Fraction(-1, 2)))  # x^(-1/2)
elementwise(both("reciprocal"), lambda x: x.power(-1))  # 1/x
elementwise(both("abs"), Exact.abs)  # |x|
elementwise(both("exp"), Exact.exp)  # exp(x)
elementwise(both("log"), Exact.log)  # log(x)
elementwise(both("erf"), Exact.erf)  # erf(x)
elementwise(both("tanh"), Exact.tanh)  # tanh(x)
elementwise((*both("sigmoid"), "F.sigmoid"), Exact.sigmoid)  # 1/(1 + exp(-x))
elementwise((*both("relu"), "F.relu"), Exact.relu)  # max(x, 0)
elementwise(["F.silu"], Exact.silu)  # x sigmoid(x)
elementwise(["F.gelu"], Exact.gelu)  # x/2 (1 + erf(x/√2))
elementwise(["F.tanh"], Exact.tanh)  # tanh(x)
elementwise(["Tensor.detach"], Exact.detached)  # x, without derivative
elementwise(["Tensor.float"], lambda x: replace(x, dtype="float32"))  # x
elementwise(["Tensor.double"], lambda x: replace(x, dtype="float64"))  # x
elementwise(["Tensor.contiguous"], lambda x: x)  # x
elementwise(["Tensor.clone"], lambda x: x)  # x


@known("torch.pow", "Tensor.pow")
def power(ring: Residues, x: Any, exponent: Any) -> Exact:
    """x^e with a number e."""
    if not isinstance(exponent, int | Fraction):
        raise Refusal(f"the exponent {exponent!r} is no number")
    return real(x).power(exponent)


@known("torch.sign")
def sign(ring: Residues, x: Any) -> Exact:
    """1, 0 or -1."""
    return constant(ring, real(x).signs().astype(object))


@known("torch.maximum")
def maximum(ring: Residues, a: Any, b: Any) -> Exact:
    """Max(a, b)."""
    return larger(real(a), real(b))


@known("torch.softmax", "F.softmax", "Tensor.softmax")
def softmax(ring: Residues, x: Any, dim: int) -> Exact:
    """exp(x)/Σ_dim exp(x)."""
    return real(x).softmax(axis_of(x, dim))


@known("F.dropout")
def dropout(ring: Residues, x: Any, p: Number, training: bool) -> Exact:
    """X, if p = 0 or not in training."""
    if training and p != 0:
        raise Refusal("dropout is not understood")
    return real(x)


@known("Tensor.clamp", "torch.clamp")
def clamp(ring: Residues, x: Any, min: Any = None, max: Any = None) -> Any:
    """min(max(x, low), high); of numbers max(x, low), or bounds that no moderate number reaches."""
    if isinstance(x, Whole):
        low, high = integers(min, max)
        return Whole(np.clip(x.value, low, high))
    found = real(x)
    if max is None and isinstance(min, int | Fraction) and not -SMALL < min < SMALL:
        return larger(found, found.constant(min))
    if not (is_below(min, SMALL) and is_below(MODERATE, max)):
        raise Refusal(f"a clamp between {min} and {max}")
    if min is None:
        return found
    if min < 0:
        raise Refusal("a clamp at a negative number")
    return found.filled(found.signs() <= 0, ring.number(Fraction(min)))


def is_below(low: Any, high: Any) -> bool:
    """Whether a bound is beyond another; one that is not given is."""
    if low is None or high is None:
        return True
    return all(isinstance(b, int | Fraction) for b in (low, high)) and bool(low < high)


@known("torch.promote_types")
def promote_types(ring: Residues, a: Any, b: Any) -> Kind:
    """The narrower type that holds the numbers of both."""
    if not all(isinstance(k, Kind) and k.floating for k in (a, b)):
        raise Refusal("promote_types of types that are not floating")
    if a != b and {a.name, b.name} <= HALF:
        return Kind("float32")
    return Kind(builtins.max(a.name, b.name, key=RANK.index))


@known("torch.finfo")
def finfo(ring: Residues, kind: Any) -> Limits:
    """(2 - 2^(1 - digits)) 2^(exponent - 1)."""
    digits, exponent = FLOATS[kind.name]
    return Limits((2**digits - 1) << (exponent - digits))


@known("torch.linalg.vector_norm")
def vector_norm(
    ring: Residues, x: Any, *, dim: Any, keepdim: bool = False, dtype: Kind | None = None
) -> Norm:
    """√Σ_dim x²."""
    found = real(x) if dtype is None else replace(real(x), dtype=floating(dtype))
    return Norm((found * found).total(axes_of(x, dim), keepdim))


@known("Norm.square")
def norm_squared(ring: Residues, x: Norm) -> Exact:
    """Σ_dim x²."""
    return x.square


@known("torch.addcmul")
def addcmul(ring: Residues, x: Any, first: Any, second: Any, *, value: Any = 1) -> Exact:
    """X + value·first·second."""
    return real(x) + exact(ring, value) * real(first) * real(second)


@known("Tensor.addcmul_")
def addcmul_in_place(ring: Residues, x: Any, first: Any, second: Any, *, value: Any = 1) -> Exact:
    """X + value·first·second, put where x stands, and wherever its elements are looked at."""
    found = addcmul(ring, x, first, second, value=value)
    pairs = ((x.value, found.value), (x.tangent, found.tangent), (x.infinite, found.infinite))
    for old, new in pairs:
        if old is None or new is None:
            if old is not new:
                raise Refusal("a sum that does not fit where it is to be put")
        elif old.shape != new.shape:
            raise Refusal(f"a sum of shape {new.shape} in place of {old.shape}")
        else:
            overwrite(old, new)
    return replace(found, value=x.value, tangent=x.tangent, infinite=x.infinite, dtype=x.dtype)


def overwrite(old: Array, new: Array) -> None:
    """Put numbers where others stand, in all arrays that look at them."""
    looked_at = [old]
    while isinstance(looked_at[-1].base, np.ndarray):
        looked_at.append(looked_at[-1].base)
    for array in reversed(looked_at):
        array.flags.writeable = True
    old[...] = new
    for array in looked_at:
        array.flags.writeable = False


# ---------------------------------------------------------------------- masks
@known("Tensor.masked_fill", "torch.masked_fill")
def masked_fill(ring: Residues, x: Any, mask: Any, value: Any) -> Exact:
    """``value`` where the mask holds, else x.

    ∞ is put where what stands under a root is 0. Where it is not 0 it counts as positive, so that a
    point at which it does not is drawn again.
    """
    found = real(x)
    flags = np.broadcast_to(truth(mask), found.shape)
    if not isinstance(value, float):
        number = exact(ring, value)
        if number.shape != ():
            raise Refusal("a mask is filled with one number")
        return found.filled(flags, int(number.value[()]))
    if value > 0 and np.any(found.value[flags] % PRIME != 0):
        raise NoRoot
    before = np.zeros(found.shape, np.int8) if found.infinite is None else found.infinite
    infinite = np.where(flags, np.int8(1 if value > 0 else -1), before)
    return replace(found.filled(flags, 0), infinite=infinite)


@known("Tensor.nan_to_num")
def nan_to_num(ring: Residues, x: Any) -> Exact:
    """X: no number is NaN, or beyond the largest."""
    return real(x)


def truth(mask: Any) -> Array:
    """The truth values of a mask.

    Raises:
        Refusal: If it is none.
    """
    if whole(mask).value.dtype != np.bool_:
        raise Refusal("a mask holds truth values")
    return np.asarray(mask.value)


@known("torch.where")
def where(ring: Residues, mask: Any, a: Any, b: Any) -> Exact:
    """A where the mask holds, else b."""
    flags, left, right = truth(mask), exact(ring, a).finite, exact(ring, b).finite

    def choose(parts: Sequence[Array]) -> Array:
        return objects(np.where(flags, *parts))

    return stacked([left, right], choose)


@known("Tensor.all", "torch.all")
def every(ring: Residues, x: Any, dim: int) -> Whole:
    """Whether all hold along an axis."""
    return Whole(np.asarray(truth(x).all(axis=axis_of(x, dim))))
