"""Calls that only move elements: shapes, axes, indices and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from verify.exact_array import Array, Exact, Refusal, Whole, objects, stacked
from verify.exact_table import axes_of, axis_of, exact, integers, known, moved, real, whole
from verify.residues import Residues

OUTSIDE = -1


@known("torch.reshape", "Tensor.reshape", "Tensor.view", "torch.ops.aten._unsafe_view")
def reshape(ring: Residues, x: Any, *shape: Any) -> Any:
    """The same elements in order, in another shape."""
    return moved(x, lambda a: a.reshape(integers(*shape)))


@known("torch.flatten", "Tensor.flatten")
def flatten(ring: Residues, x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Axes from start to end as one."""
    if not x.shape:
        return moved(x, lambda a: a.reshape(1))
    first, last = axis_of(x, start_dim), axis_of(x, end_dim)
    if first > last:
        raise Refusal("flatten from an axis to one before it")
    shape = (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return moved(x, lambda a: a.reshape(shape))


@known("torch.unflatten", "Tensor.unflatten")
def unflatten(ring: Residues, x: Any, dim: int, sizes: Any) -> Any:
    """One axis as several."""
    axis, found = axis_of(x, dim), integers(sizes)
    if -1 not in found and math.prod(found) != x.shape[axis]:
        raise Refusal(f"an axis of size {x.shape[axis]} as {found}")
    shape = (*x.shape[:axis], *found, *x.shape[axis + 1 :])
    return moved(x, lambda a: a.reshape(shape))


@known("torch.unsqueeze", "Tensor.unsqueeze")
def unsqueeze(ring: Residues, x: Any, dim: int) -> Any:
    """A new axis of size 1."""
    ndim = len(x.shape) + 1
    (axis,) = integers(dim)
    if not -ndim <= axis < ndim:
        raise Refusal(f"no place {dim} for an axis among {ndim}")
    return moved(x, lambda a: np.expand_dims(a, axis))


@known("torch.squeeze", "Tensor.squeeze")
def squeeze(ring: Residues, x: Any, dim: Any) -> Any:
    """Without those of some axes whose size is 1."""
    axes = tuple(k for k in axes_of(x, integers(dim)) if x.shape[k] == 1)
    return moved(x, lambda a: a.squeeze(axes)) if axes else x


@known("torch.transpose", "Tensor.transpose")
def transpose(ring: Residues, x: Any, dim0: int, dim1: int) -> Any:
    """Two axes exchanged."""
    first, second = axis_of(x, dim0), axis_of(x, dim1)
    return moved(x, lambda a: np.swapaxes(a, first, second))


@known("torch.permute", "Tensor.permute")
def permute(ring: Residues, x: Any, *dims: Any) -> Any:
    """Axes in another order."""
    order = axes_of(x, integers(*dims))
    return moved(x, lambda a: np.transpose(a, order))


@known("torch.movedim", "Tensor.movedim")
def movedim(ring: Residues, x: Any, source: Any, destination: Any) -> Any:
    """Axes at other places, the rest in order."""
    sources = integers(source)
    places = integers(destination)
    axes_of(x, sources)
    axes_of(x, places)
    return moved(x, lambda a: np.moveaxis(a, sources, places))


@known("Tensor.expand", "torch.expand")
def expand(ring: Residues, x: Any, *sizes: Any) -> Any:
    """Repeated along axes of size 1 and along new ones in front; -1 keeps a size."""
    wanted = integers(*sizes)
    new = len(wanted) - len(x.shape)
    if new < 0 or -1 in wanted[:new]:
        raise Refusal(f"a tensor of shape {x.shape} cannot be expanded to {wanted}")
    shape = tuple(x.shape[k - new] if size == -1 else size for k, size in enumerate(wanted))
    return moved(x, lambda a: np.broadcast_to(a, shape))


@known("torch.cat")
def cat(ring: Residues, tensors: Any, dim: int = 0) -> Exact:
    """One after the other along an axis."""
    parts = [real(t) for t in tensors]
    axis = axis_of(parts[0], dim)
    return stacked(parts, lambda arrays: np.concatenate(arrays, axis=axis))


@known("torch.stack")
def stack(ring: Residues, tensors: Any, dim: int = 0) -> Any:
    """Side by side along a new axis."""
    if all(isinstance(t, Whole) for t in tensors):
        return Whole(np.stack([t.value for t in tensors], axis=dim))
    parts = [real(t) for t in tensors]
    return stacked(parts, lambda arrays: np.stack(arrays, axis=dim))


@known("torch.chunk", "Tensor.chunk")
def chunk(ring: Residues, x: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """Pieces of size ⌈size/chunks⌉ along an axis."""
    axis = axis_of(x, dim)
    step = -(-x.shape[axis] // chunks)
    cuts = list(range(step, x.shape[axis], step))
    return pieces(x, cuts, axis)


@known("torch.tensor_split", "Tensor.tensor_split")
def tensor_split(ring: Residues, x: Any, indices: Any, dim: int = 0) -> tuple[Any, ...]:
    """Pieces between positions along an axis."""
    if not isinstance(indices, tuple | list):
        raise Refusal("tensor_split at positions alone")
    return pieces(x, list(integers(indices)), axis_of(x, dim))


def pieces(x: Any, cuts: Sequence[int], axis: int) -> tuple[Any, ...]:
    """What lies between positions."""
    ends = [0, *cuts, x.shape[axis]]

    def between(a: Array, low: int, high: int) -> Array:
        return a[(*(slice(None),) * axis, slice(low, high))]

    return tuple(
        moved(x, lambda a, low=low, high=high: between(a, low, high))  # type: ignore[misc]
        for low, high in pairwise(ends)
    )


@known("torch.diagonal", "Tensor.diagonal")
def diagonal(ring: Residues, x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Elements whose places on two axes are the same; their axis is the last."""
    first, second = axis_of(x, dim1), axis_of(x, dim2)
    (shift,) = integers(offset)
    return moved(x, lambda a: np.diagonal(a, shift, first, second))


# ---------------------------------------------------------------------- elements at positions
@known("torch.index_select", "Tensor.index_select")
def index_select(ring: Residues, x: Any, dim: int, index: Any) -> Any:
    """Elements at positions along an axis."""
    axis, positions = axis_of(x, dim), whole(index).value
    if positions.ndim != 1 or np.any((positions < 0) | (positions >= x.shape[axis])):
        raise Refusal("index_select out of range")
    return moved(x, lambda a: np.take(a, positions, axis=axis))


@known("F.embedding")
def embedding(ring: Residues, tokens: Any, weight: Any) -> Exact:
    """weight[token]."""
    positions = whole(tokens).value
    if np.any((positions < 0) | (positions >= real(weight).shape[0])):
        raise Refusal("a token out of range")
    return weight.moved(lambda a: a[positions])  # type: ignore[no-any-return]


def item(x: Any, key: Any) -> Any:
    """``x[key]`` with integers, slices, ``None``, ``...`` and index tensors side by side.

    Raises:
        Refusal: If the key holds anything else, or index tensors apart from each other.
    """
    parts = key if isinstance(key, tuple) else (key,)
    places = [k for k, part in enumerate(parts) if isinstance(part, Whole)]
    if places and (places[-1] - places[0] >= len(places) or None in parts):
        raise Refusal("index tensors that do not stand side by side")
    if places and any(isinstance(p, int) for p in parts):
        raise Refusal("index tensors beside integers")
    found: list[Any] = []
    for part in parts:
        if isinstance(part, Whole):
            if part.value.dtype == np.bool_:
                raise Refusal("a mask as an index")
            found.append(part.value)
        elif part is None or part is Ellipsis or isinstance(part, slice):
            found.append(part)
        else:
            found += integers(part)
    if any(isinstance(p, slice) and (p.step or 1) < 1 for p in found):
        raise Refusal("a slice that runs backwards")
    return moved(x, lambda a: objects(a[tuple(found)]) if a.dtype == object else a[tuple(found)])


# ---------------------------------------------------------------------- padding
def positions(mode: str, size: int, left: int, right: int) -> Array:
    """Which element stands at each place of a padded axis; OUTSIDE for none.

    Raises:
        Refusal: If torch would not pad so far.
    """
    places = np.arange(-left, size + right)
    if mode == "constant":
        if left + right + size < 0:
            raise Refusal("a padding to less than nothing")
        return np.where((places >= 0) & (places < size), places, OUTSIDE)
    most = {"reflect": size - 1, "circular": size, "replicate": math.inf}
    if mode not in most or not all(0 <= k <= most[mode] for k in (left, right)) or size == 0:
        raise Refusal(f"padding by {left} and {right} of {size} in mode {mode!r}")
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    if mode == "circular":
        return places % size
    inner = np.abs(places)
    return np.where(inner >= size, 2 * (size - 1) - inner, inner)


@known("Tensor.repeat_interleave")
def repeat_interleave(ring: Residues, x: Any, repeats: Any, dim: Any) -> Any:
    """Every element along an axis several times in a row."""
    (times,), axis = integers(repeats), axis_of(x, dim)
    return moved(x, lambda a: np.repeat(a, times, axis=axis))


@known("F.pad")
def pad(ring: Residues, x: Any, pads: Any, mode: str = "constant", value: Any = None) -> Exact:
    """Elements at both ends of the last axes, the last axis first."""
    ends = integers(pads)
    found = real(x)
    if len(ends) % 2 or len(ends) > 2 * len(found.shape):
        raise Refusal(f"{len(ends)} paddings for {len(found.shape)} axes")
    padded = len(ends) // 2
    if mode != "constant" and (value is not None or len(found.shape) - padded not in (1, 2)):
        raise Refusal(f"padding of {padded} of {len(found.shape)} axes in mode {mode!r}")
    fill = exact(ring, 0 if value is None else value)
    for k in range(padded):
        axis = len(found.shape) - 1 - k
        places = positions(mode, found.shape[axis], *ends[2 * k : 2 * k + 2])
        found = taken(found, axis, places, int(fill.value[()]))
    return found


def taken(x: Exact, axis: int, places: Array, fill: int) -> Exact:
    """Elements at places along an axis, a constant OUTSIDE."""
    if x.shape[axis] == 0:
        raise Refusal("padding of nothing")
    outside = (places == OUTSIDE).reshape(-1, *(1,) * (len(x.shape) - 1 - axis))
    picked = x.moved(lambda a: np.take(a, np.maximum(places, 0), axis=axis))
    return picked.filled(np.broadcast_to(outside, picked.shape), fill)
