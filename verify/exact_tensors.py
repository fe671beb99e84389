"""Calls that make tensors, add up over axes, or tell of a tensor. There is one device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from verify.exact_array import Exact, Refusal, Whole, check_size, constant
from verify.exact_table import (
    ATTRIBUTES,
    Autocast,
    Device,
    Kind,
    axes_of,
    axis_of,
    exact,
    floating,
    integers,
    known,
    moved,
    real,
)
from verify.residues import Residues, Singular


@known("torch.eye")
def eye(ring: Residues, n: int, *, dtype: Kind | None = None, device: Any = None) -> Exact:
    """[i = j]."""
    check_size(n * n)
    return constant(ring, np.eye(n, dtype=np.int64).astype(object), floating(dtype))


def filled(number: int, shape: Sequence[Any], dtype: Any, ring: Residues) -> Exact:
    """One number everywhere."""
    sizes = integers(*shape)
    check_size(math.prod(sizes))
    value = np.full(sizes, number, dtype=object)
    return constant(ring, value, floating(dtype) if dtype is not None else "")


@known("torch.zeros")
def zeros(ring: Residues, *shape: Any, dtype: Kind | None = None, device: Any = None) -> Exact:
    """0 everywhere."""
    return filled(0, shape, dtype, ring)


@known("torch.ones")
def ones(ring: Residues, *shape: Any, dtype: Kind | None = None, device: Any = None) -> Exact:
    """1 everywhere."""
    return filled(1, shape, dtype, ring)


@known("torch.arange")
def arange(ring: Residues, *limits: int, device: Any = None) -> Whole:
    """start, start + step, … below end."""
    found = range(*integers(*limits))
    check_size(len(found))
    return Whole(np.arange(found.start, found.stop, found.step))


@known("torch.tensor")
def tensor(ring: Residues, value: int, device: Any = None) -> Whole:
    """An integer."""
    (found,) = integers(value)
    return Whole(np.array(found))


@known("Tensor.new_ones")
def new_ones(ring: Residues, x: Any, *shape: Any) -> Exact:
    """1 everywhere."""
    return filled(1, shape, kind(real(x)), ring)


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


def matrix_transposed(x: Any) -> Any:
    """The transpose of a matrix.

    Raises:
        Refusal: If it is none.
    """
    if len(x.shape) != 2:
        raise Refusal("a transpose of what is no matrix")
    return transposed(x)


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
    "T": matrix_transposed,
}


@known("torch.autocast")
def autocast(ring: Residues, device_type: str, *, enabled: bool) -> Autocast:
    """A block in which nothing is rounded to half precision."""
    if device_type != "cpu" or enabled is not False:
        raise Refusal("autocast that is not switched off")
    return Autocast()


@known("math.prod")
def product(ring: Residues, sizes: Any) -> int:
    """The product of integers."""
    return math.prod(integers(sizes))


def of_number(name: str, f: Callable[[Exact], Exact]) -> None:
    """Enter a function of a number, exactly."""

    def apply(ring: Residues, x: Any) -> Exact:
        return f(exact(ring, x))

    known(f"math.{name}")(apply)


of_number("sqrt", lambda x: x.power(Fraction(1, 2)))  # √x
of_number("log", Exact.log)  # log(x)
of_number("exp", Exact.exp)  # exp(x)
of_number("tanh", Exact.tanh)  # tanh(x)
of_number("erf", Exact.erf)  # erf(x)
