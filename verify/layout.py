"""Storage axes and letters: ``(g o)`` is one axis of a module and two letters of a formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from derive.program import Program, Tensor

Array = np.ndarray[Any, Any]


def logical_shape(tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """One size a letter."""
    return tuple(sizes[x.size] for x in tensor.letters)


def storage_shape(tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """One size a storage axis: composed letters multiply, first letter slowest."""
    return tuple(math.prod(sizes[x.size] for x in axis) for axis in tensor.axes)


def to_storage(array: Array, tensor: Tensor, sizes: Mapping[str, int]) -> Array:
    """Merge the letters of composed axes."""
    return np.ascontiguousarray(array).reshape(storage_shape(tensor, sizes))


def to_logical(array: Array, tensor: Tensor, sizes: Mapping[str, int]) -> Array:
    """Split composed axes into their letters."""
    return array.reshape(logical_shape(tensor, sizes))


def output_tensor(program: Program) -> Tensor:
    """The output with its axes."""
    return program.tensors[program.output.target]


def site_shape(program: Program, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Sizes of the site's letters."""
    return tuple(sizes[x.size] for x in program.site)


def unit_count(program: Program, sizes: Mapping[str, int]) -> int:
    """Number of units U."""
    return math.prod(sizes[x.size] for x in program.unit)


def site_count(program: Program, sizes: Mapping[str, int]) -> int:
    """Number of sites."""
    return math.prod(site_shape(program, sizes))


def sites_by_units(array: Array, program: Program, sizes: Mapping[str, int]) -> Array:
    """An array over the output's letters as ``(sites, units)``."""
    letters = program.output.letters
    order = [letters.index(x) for x in (*program.site, *program.unit)]
    return np.transpose(array, order).reshape(
        site_count(program, sizes), unit_count(program, sizes)
    )


def from_sites_by_units(array: Array, program: Program, sizes: Mapping[str, int]) -> Array:
    """The inverse of :func:`sites_by_units`."""
    letters = program.output.letters
    grouped = (*program.site, *program.unit)
    shaped = array.reshape(tuple(sizes[x.size] for x in grouped))
    return np.transpose(shaped, [grouped.index(x) for x in letters])


def kernel_by_sites(kernel: Array, program: Program, sizes: Mapping[str, int]) -> Array:
    """K over the output's letters and their primed twins as ``(site, unit, site', unit')``."""
    letters = program.output.letters
    grouped = (*program.site, *program.unit)
    order = [letters.index(x) for x in grouped]
    order += [len(letters) + k for k in order]
    s, u = site_count(program, sizes), unit_count(program, sizes)
    return np.transpose(kernel, order).reshape(s, u, s, u)
