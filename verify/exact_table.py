"""The table of calls that an emitted file may make, and what its entries are written with.

Keys are the names under which a file calls them, with ``Tensor.`` for methods and attributes of
tensors. Every entry takes the ring first; its first line says what it computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from verify.exact_array import Array, Exact, Refusal, Whole, constant
from verify.residues import Residues

Entry = TypeVar("Entry", bound=Callable[..., Any])
TABLE: dict[str, Callable[..., Any]] = {}
ATTRIBUTES: dict[str, Callable[[Any], Any]] = {}
CONSTANTS: dict[str, Callable[[Residues], Any]] = {
    "math.pi": lambda ring: constant(ring, ring.pi()),
    "math.e": lambda ring: constant(ring, 1).exp(),
    "math.inf": lambda ring: math.inf,
    "forward_ad._current_level": lambda ring: -1,
}


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
class Norm:
    """A norm, whose root need not exist as long as only its square is asked for."""

    square: Exact


@dataclass(frozen=True)
class Magnitude:
    """How large numbers are, which residues do not say: whether they are in the range asked for."""

    in_range: bool


@dataclass(frozen=True)
class Limits:
    """``torch.finfo``: the largest number."""

    max: int


KINDS = {
    f"torch.{k}": Kind(k) for k in ["float16", "bfloat16", "float32", "float64", "int64", "bool"]
}


def known(*names: str) -> Callable[[Entry], Entry]:
    """Enter a function in the table."""

    def enter(function: Entry) -> Entry:
        for name in names:
            TABLE[name] = function
        return function

    return enter


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
