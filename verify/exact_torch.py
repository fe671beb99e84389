"""What torch's calls mean in exact arithmetic: one table, one line of formula an entry.

Keys are the names under which an emitted file calls them, with ``Tensor.`` for methods and
attributes of tensors. Every entry takes the ring first; what it does not take by name or place is
not known, and neither is a call that has no entry. Conversions between floating-point types are the
identity, as nothing is rounded here. Devices are one.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from verify.residues import PRIME, NoRoot, Residues, Singular

TABLE: dict[str, Callable[..., Any]] = {}
ATTRIBUTES: dict[str, Callable[[Any], Any]] = {}


@dataclass(frozen=True)
class Kind:
    """A dtype."""

    name: str

    @property
    def floating(self) -> bool:
        """Whether numbers of it are real."""
        return self.name.startswith(("float", "bfloat"))


@dataclass(frozen=True)
class Device:
    """The one device."""


@dataclass(frozen=True)
class Autocast:
    """A block without autocast."""


@dataclass(frozen=True)
class Factored:
    """What ``cholesky_ex`` returns, but for the factor itself, which is not known."""

    info: Whole


@dataclass(frozen=True)
class Limits:
    """``torch.finfo``: the largest number."""

    max: int


FLOATS = {"float16": (11, 16), "bfloat16": (8, 128), "float32": (24, 128), "float64": (53, 1024)}
# A number that is positive counts as lying between its reciprocal and this.
MODERATE = 2**60
KINDS = {
    f"torch.{k}": Kind(k) for k in ["float16", "bfloat16", "float32", "float64", "int64", "bool"]
}


def known(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in the table."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            TABLE[name] = function
        return function

    return enter


@functools.cache
def signature(name: str) -> inspect.Signature:
    """The arguments that an entry takes, the ring first."""
    return inspect.signature(TABLE[name])


def call(ring: Residues, name: str, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """A call by its name in the table.

    Raises:
        Refusal: If the name or an argument is not known, or the arguments do not fit together.
    """
    if name not in TABLE:
        raise Refusal(f"`{name}` is not known")
    try:
        bound = signature(name).bind(ring, *args, **keywords)
    except TypeError as error:
        raise Refusal(f"`{name}`: {error}") from error
    try:
        return TABLE[name](*bound.args, **bound.kwargs)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise Refusal(f"`{name}` does not take these arguments: {error}") from error


def exact(ring: Residues, x: Any) -> Exact:
    """A tensor or number as an array of numbers.

    Raises:
        Refusal: If it is neither.
    """
    if isinstance(x, Exact):
        return x
    if isinstance(x, Whole):
        return constant(ring, x.value.astype(np.int64).astype(object))
    if isinstance(x, int | Fraction):
        return constant(ring, Fraction(x))
    raise Refusal(f"{x!r} is no number")


def real(x: Any) -> Exact:
    """A tensor of numbers.

    Raises:
        Refusal: If it is none.
    """
    if not isinstance(x, Exact):
        raise Refusal(f"a {type(x).__name__} where a tensor of real numbers is wanted")
    return x


def whole(x: Any) -> Whole:
    """A tensor of integers or truth values.

    Raises:
        Refusal: If it is none.
    """
    if not isinstance(x, Whole):
        raise Refusal(f"a {type(x).__name__} where a tensor of integers is wanted")
    return x


def moved(x: Any, f: Callable[[Array], Array]) -> Any:
    """Either kind of tensor with its elements at other places."""
    if isinstance(x, Whole):
        return Whole(f(x.value))
    return real(x).moved(f)


def integers(*found: Any) -> tuple[int, ...]:
    """Integers given one by one or as one tuple.

    Raises:
        Refusal: If they are none.
    """
    if len(found) == 1 and isinstance(found[0], tuple | list):
        found = tuple(found[0])
    if not all(isinstance(k, int) and not isinstance(k, bool) for k in found):
        raise Refusal(f"{found} are no integers")
    return tuple(found)


def axes_of(x: Any, dim: Any) -> tuple[int, ...]:
    """Axes counted from the front, each once.

    Raises:
        Refusal: If there is no such axis or one comes twice.
    """
    ndim = len(x.shape)
    found = tuple(range(ndim)) if dim is None else integers(dim)
    if not all(-ndim <= k < ndim for k in found) or len({k % ndim for k in found}) < len(found):
        raise Refusal(f"axes {found} of a tensor of {ndim} axes")
    return tuple(k % ndim for k in found)


def axis_of(x: Any, dim: Any) -> int:
    """One axis, counted from the front."""
    (axis,) = axes_of(x, integers(dim))
    return axis


# ---------------------------------------------------------------------- functions of each element
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
    """min(max(x, low), high); of numbers only with bounds that no moderate number reaches."""
    if isinstance(x, Whole):
        return Whole(np.clip(x.value, *integers(min, max)))
    found = real(x)
    for bound, beyond in (
        (min, lambda b: b < Fraction(1, MODERATE)),
        (max, lambda b: b > MODERATE),
    ):
        if bound is not None and not (isinstance(bound, int | Fraction) and beyond(bound)):
            raise Refusal(f"a clamp at {bound}")
    if min is None:
        return found
    if min < 0:
        raise Refusal("a clamp at a negative number")
    return found.filled(found.signs() <= 0, ring.number(Fraction(min)))


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
def vector_norm(ring: Residues, x: Any, *, dim: Any, keepdim: bool = False) -> Exact:
    """√Σ_dim x²."""
    return (real(x) * x).total(axes_of(x, dim), keepdim).power(Fraction(1, 2))


# ---------------------------------------------------------------------- masks
@known("Tensor.masked_fill", "torch.masked_fill")
def masked_fill(ring: Residues, x: Any, mask: Any, value: Any) -> Exact:
    """``value`` where the mask holds, else x.

    ∞ is put where what stands under a root is 0. Where it is not 0 it counts as positive, so that a
    point at which it does not is drawn again.
    """
    flags = np.broadcast_to(truth(mask), real(x).shape)
    if not isinstance(value, float):
        number = exact(ring, value)
        if number.shape != ():
            raise Refusal("a mask is filled with one number")
        return x.filled(flags, int(number.value[()]))  # type: ignore[no-any-return]
    if value > 0 and np.any(x.value[flags] % PRIME != 0):
        raise NoRoot
    before = np.zeros(x.shape, np.int8) if x.infinite is None else x.infinite
    infinite = np.where(flags, np.int8(1 if value > 0 else -1), before)
    zeroed = x.filled(flags, 0)
    return replace(zeroed, infinite=infinite)


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


# ---------------------------------------------------------------------- making tensors
@known("torch.eye")
def eye(ring: Residues, n: int, *, dtype: Kind | None = None, device: Any = None) -> Exact:
    """[i = j]."""
    return constant(ring, np.eye(n, dtype=np.int64).astype(object), floating(dtype))


def floating(dtype: Any) -> str:
    """The name of a floating-point type; the default one if none is given.

    Raises:
        Refusal: If it is another type.
    """
    if dtype is None:
        return "float32"
    if not (isinstance(dtype, Kind) and dtype.floating):
        raise Refusal(f"{dtype!r} is no type of real numbers")
    return dtype.name


@known("torch.arange")
def arange(ring: Residues, *limits: int, device: Any = None) -> Whole:
    """start, start + step, … below end."""
    return Whole(np.arange(*integers(*limits)))


@known("Tensor.new_ones")
def new_ones(ring: Residues, x: Any, *shape: Any) -> Exact:
    """1 everywhere."""
    return constant(ring, np.ones(integers(*shape), dtype=object), real(x).dtype)


@known("torch.zeros_like")
def zeros_like(ring: Residues, x: Any, *, dtype: Kind | None = None) -> Exact:
    """0 everywhere; of an integer tensor only as real numbers."""
    name = x.dtype if isinstance(x, Exact) and dtype is None else floating(dtype)
    return constant(ring, np.zeros(x.shape, dtype=object), name)


@known("Tensor.to")
def to(ring: Residues, x: Any, dtype: Any) -> Exact:
    """X, of another type; nothing is rounded. Of that type already, it is the same object."""
    found, name = exact(ring, x), floating(dtype)
    return found if found.dtype == name else replace(found, dtype=name)


# ---------------------------------------------------------------------- sums over axes
@known("Tensor.sum", "torch.sum")
def total(ring: Residues, x: Any, dim: Any = None, keepdim: bool = False) -> Exact:
    """Σ_dim x."""
    return real(x).total(axes_of(x, dim), keepdim)


@known("Tensor.mean", "torch.mean")
def mean(ring: Residues, x: Any, dim: Any = None, keepdim: bool = False) -> Exact:
    """1/size Σ_dim x."""
    axes = axes_of(x, dim)
    size = math.prod(x.shape[k] for k in axes)
    if size == 0:
        raise Singular("the mean of nothing")
    return real(x).total(axes, keepdim) * constant(ring, Fraction(1, size))


@known("Tensor.amax", "torch.amax")
def amax(ring: Residues, x: Any, dim: Any, keepdim: bool = False) -> Exact:
    """Max_dim x."""
    return real(x).largest(axes_of(x, dim), keepdim)


# ---------------------------------------------------------------------- what tensors tell of them
@known("Tensor.dim")
def dim(ring: Residues, x: Any) -> int:
    """Number of axes."""
    return len(x.shape)


@known("Tensor.size")
def size(ring: Residues, x: Any, dim: int | None = None) -> Any:
    """The shape or the size of an axis."""
    return x.shape if dim is None else x.shape[axis_of(x, dim)]


@known("Tensor.numel")
def numel(ring: Residues, x: Any) -> int:
    """Number of elements."""
    return math.prod(x.shape)


@known("Tensor.is_floating_point")
def is_floating_point(ring: Residues, x: Any) -> bool:
    """Whether it holds real numbers."""
    return isinstance(x, Exact)


def transposed(x: Any) -> Any:
    """The last two axes exchanged.

    Raises:
        Refusal: If there are fewer.
    """
    if len(x.shape) < 2:
        raise Refusal("a transpose of less than two axes")
    return moved(x, lambda a: np.swapaxes(a, -1, -2))


def kind(x: Any) -> Kind:
    """The dtype."""
    return Kind(x.dtype if isinstance(x, Exact) else str(x.value.dtype))


ATTRIBUTES |= {
    "shape": lambda x: x.shape,
    "ndim": lambda x: len(x.shape),
    "dtype": kind,
    "device": lambda x: Device(),
    "is_meta": lambda x: False,
    "mT": transposed,
}


@known("torch.autocast")
def autocast(ring: Residues, device_type: str, *, enabled: bool) -> Autocast:
    """A block in which nothing is rounded to half precision."""
    if device_type != "cpu" or enabled is not False:
        raise Refusal("autocast that is not switched off")
    return Autocast()


@known("math.sqrt")
def root(ring: Residues, x: Any) -> Exact:
    """√x, exactly."""
    return exact(ring, x).power(Fraction(1, 2))
