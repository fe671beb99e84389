"""Calls that multiply tensors: linear maps, convolutions, einsum, factorisations, attention."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from verify.exact_array import Array, Exact, Refusal, Whole, multilinear, objects, stacked
from verify.exact_table import Factored, exact, integers, known, real
from verify.residues import PRIME, Residues, Singular


@known("torch.matmul", "Tensor.matmul")
def matmul(ring: Residues, a: Any, b: Any) -> Exact:
    """Σ_j a[…, i, j] b[…, j, k]."""
    of_one_type(a, b)
    return multilinear(lambda x, y: objects(np.matmul(x, y)), real(a), real(b))


def of_one_type(*tensors: Any) -> None:
    """Refuse operands of different types, as torch does in these calls."""
    if len({real(x).dtype for x in tensors if x is not None}) > 1:
        raise Refusal("operands of different types")


EQUATION = re.compile(r"(\.\.\.)?[a-zA-Z]*(,(\.\.\.)?[a-zA-Z]*)*->(\.\.\.)?[a-zA-Z]*")


@known("torch.einsum")
def einsum(ring: Residues, equation: str, *operands: Any) -> Exact:
    """Σ over the letters that the right side lacks of the product."""
    if not EQUATION.fullmatch(equation):
        raise Refusal(f"the equation {equation!r}")
    of_one_type(*operands)
    factors = [real(x) for x in operands]
    return multilinear(lambda *arrays: objects(np.einsum(equation, *arrays)), *factors)


def with_bias(z: Exact, bias: Any, axis: int) -> Exact:
    """Z + bias along an axis.

    Raises:
        Refusal: If the bias does not have one number a place of the axis.
    """
    if bias is None:
        return z
    of_one_type(z, bias)
    added = real(bias)
    if added.shape != (z.shape[axis],):
        raise Refusal(f"a bias of shape {added.shape} for {z.shape[axis]} outputs")
    shape = (-1, *(1,) * (len(z.shape) - 1 - axis))
    return z + added.moved(lambda b: b.reshape(shape))


@known("F.linear")
def linear(ring: Residues, x: Any, weight: Any, bias: Any = None) -> Exact:
    """Σ_j W[i, j] x[…, j] + b[i]."""
    if len(real(weight).shape) != 2:
        raise Refusal("F.linear with a weight that is no matrix")
    z = einsum(ring, "...j,ij->...i", x, weight)
    return with_bias(z, bias, len(z.shape) - 1)


@known("F.bilinear")
def bilinear(ring: Residues, x: Any, y: Any, weight: Any, bias: Any = None) -> Exact:
    """Σ_jk W[i, j, k] x[…, j] y[…, k] + b[i]."""
    if real(x).shape[:-1] != real(y).shape[:-1]:
        raise Refusal("F.bilinear of inputs that differ in shape")
    z = einsum(ring, "...j,ijk,...k->...i", x, weight, y)
    return with_bias(z, bias, len(z.shape) - 1)


# ---------------------------------------------------------------------- convolutions
def per_axis(value: Any, count: int) -> tuple[int, ...]:
    """One number for every axis or one an axis.

    Raises:
        Refusal: If there is another number of them.
    """
    if isinstance(value, int):
        return (value,) * count
    found = integers(value)
    if len(found) != count:
        raise Refusal(f"{len(found)} numbers for {count} axes")
    return found


def batched(x: Exact, count: int) -> tuple[Exact, bool]:
    """With a batch axis, and whether it had one.

    Raises:
        Refusal: If the number of axes is another.
    """
    if len(x.shape) == count + 2:
        return x, True
    if len(x.shape) == count + 1:
        return x.moved(lambda a: a[None]), False
    raise Refusal(f"a convolution over {count} axes of a tensor of {len(x.shape)}")


def grouped_weight(weight: Exact, groups: int, count: int) -> Exact:
    """(g, channels of the group, others, kernel …).

    Raises:
        Refusal: If the groups do not divide the channels.
    """
    shape = weight.shape
    if len(shape) != count + 2 or groups < 1 or shape[0] % groups:
        raise Refusal(f"a weight of shape {shape} in {groups} groups")
    return weight.moved(lambda w: w.reshape(groups, shape[0] // groups, *shape[1:]))


def grouped_input(x: Exact, groups: int, channels: int) -> Exact:
    """(n, g, channels, position …).

    Raises:
        Refusal: If there is another number of channels.
    """
    if x.shape[1] != groups * channels:
        raise Refusal(f"{x.shape[1]} channels in {groups} groups of {channels}")
    return x.moved(lambda a: a.reshape(a.shape[0], groups, channels, *a.shape[2:]))


def convolution(count: int, names: str) -> None:
    """Enter the convolution over that many axes, their positions as einsum letters."""

    @known(f"F.conv{count}d")
    def convolve(
        ring: Residues,
        x: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Exact:
        """Σ_ck W[(g, o), c, k] x[n, (g, c), stride p + dilation k - padding] + b[(g, o)]."""
        (steps, pads, gaps) = (per_axis(v, count) for v in (stride, padding, dilation))
        of_one_type(x, weight)
        given, had_batch = batched(real(x), count)
        w = grouped_weight(real(weight), groups, count)
        given = grouped_input(given, groups, w.shape[2])
        kernel = w.shape[3:]
        reach = [
            s + 2 * p - d * (k - 1) - 1
            for s, p, d, k in zip(given.shape[3:], pads, gaps, kernel, strict=True)
        ]
        if min(reach) < 0 or min(steps) < 1 or min(gaps) < 1 or min(pads) < 0:
            raise Refusal("a kernel larger than what it reads")
        sizes = [r // s + 1 for r, s in zip(reach, steps, strict=True)]

        def products(a: Array, b: Array) -> Array:
            lengths = a.shape[3:]
            padded = np.zeros(
                (*a.shape[:3], *(n + 2 * p for n, p in zip(lengths, pads, strict=True))),
                dtype=object,
            )
            inner = tuple(slice(p, p + n) for n, p in zip(lengths, pads, strict=True))
            padded[(slice(None),) * 3 + inner] = a
            found = 0
            for k in itertools.product(*map(range, kernel)):
                windows = tuple(
                    slice(d * i, d * i + s * (n - 1) + 1, s)
                    for d, i, s, n in zip(gaps, k, steps, sizes, strict=True)
                )
                patch = padded[(slice(None),) * 3 + windows]
                found = found + np.einsum(
                    f"ngc{names},goc->ngo{names}", patch, b[(slice(None),) * 3 + k]
                )
            return objects(found)

        return finished(multilinear(products, given, w), bias, had_batch)


def transposed_convolution(count: int, names: str) -> None:
    """Enter the transposed convolution over that many axes."""

    @known(f"F.conv_transpose{count}d")
    def convolve(
        ring: Residues,
        x: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Exact:
        """Σ_ck W[(g, c), o, k] x[n, (g, c), (p + padding - dilation k)/stride] + b[(g, o)]."""
        (steps, pads, more, gaps) = (
            per_axis(v, count) for v in (stride, padding, output_padding, dilation)
        )
        if min(steps) < 1 or min(gaps) < 1 or min(pads) < 0 or min(more) < 0:
            raise Refusal("a stride or dilation below 1")
        if any(m >= max(s, d) for m, s, d in zip(more, steps, gaps, strict=True)):
            raise Refusal("output_padding must be smaller than stride or dilation")
        of_one_type(x, weight)
        given, had_batch = batched(real(x), count)
        w = grouped_weight(real(weight), groups, count)
        given = grouped_input(given, groups, w.shape[1])
        kernel, lengths = w.shape[3:], given.shape[3:]
        whole = [
            (n - 1) * s + d * (k - 1) + 1 + m
            for n, s, d, k, m in zip(lengths, steps, gaps, kernel, more, strict=True)
        ]
        ends = [n - p for n, p in zip(whole, pads, strict=True)]
        if any(e <= p for e, p in zip(ends, pads, strict=True)):
            raise Refusal("a padding that leaves nothing")

        def products(a: Array, b: Array) -> Array:
            found = np.zeros((a.shape[0], groups, b.shape[2], *whole), dtype=object)
            for k in itertools.product(*map(range, kernel)):
                windows = tuple(
                    slice(d * i, d * i + s * (n - 1) + 1, s)
                    for d, i, s, n in zip(gaps, k, steps, lengths, strict=True)
                )
                found[(slice(None),) * 3 + windows] += np.einsum(
                    f"ngc{names},gco->ngo{names}", a, b[(slice(None),) * 3 + k]
                )
            crop = tuple(slice(p, e) for p, e in zip(pads, ends, strict=True))
            return objects(found[(slice(None),) * 3 + crop])

        return finished(multilinear(products, given, w), bias, had_batch)


def finished(z: Exact, bias: Any, had_batch: bool) -> Exact:
    """Groups merged, the bias added, the batch as it was."""
    merged = z.moved(lambda a: a.reshape(a.shape[0], -1, *a.shape[3:]))
    merged = with_bias(merged, bias, 1)
    return merged if had_batch else merged.moved(lambda a: a[0])


for number, letters in ((1, "p"), (2, "pq"), (3, "pqr")):
    convolution(number, letters)
    transposed_convolution(number, letters)


# ---------------------------------------------------------------------- factorisations
def square_matrix(x: Any) -> int:
    """The size of square matrices.

    Raises:
        Refusal: If they are not square.
    """
    shape = real(x).shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise Refusal(f"matrices of shape {shape[-2:]} are not square")
    return int(shape[-1])


@known("torch.linalg.cholesky_ex")
def cholesky_ex(ring: Residues, x: Any) -> Factored:
    """``info``: 0 where elimination meets no pivot that is 0; pivots count as positive."""
    size, rest = square_matrix(x), real(x).finite.value
    info = np.zeros(rest.shape[:-2], dtype=np.int64)
    for index in np.ndindex(*info.shape):
        block = rest[index]
        for k in range(size):
            if block[k, k] % PRIME == 0:
                info[index] = k + 1
                break
            column = block[:, k] * ring.inverse(int(block[k, k]))
            block = objects((block - np.outer(column, block[k])) % ring.modulus)
    return Factored(Whole(info))


@known("torch.linalg.cholesky")
def cholesky(ring: Residues, x: Any) -> Exact:
    """L with L Lᵀ = x, lower triangular, with a positive diagonal; x is read below the diagonal."""
    size, rest = square_matrix(x), real(x).finite
    columns = []
    for k in range(size):
        below = (np.arange(size) >= k).astype(np.int64).astype(object)
        pivot = rest.moved(lambda a, k=k: objects(a[..., k, k, None]))  # type: ignore[misc]
        if np.any(pivot.value % PRIME == 0):
            raise Singular("a pivot is 0")
        column = rest.moved(lambda a, k=k: a[..., k]) * pivot.power(Fraction(-1, 2))  # type: ignore[misc]
        column = column * exact(ring, 1).constant(below)
        columns.append(column)
        row = column.moved(lambda a: a[..., None, :])
        rest = rest - column.moved(lambda a: a[..., None]) * row
    return stacked(columns, lambda arrays: np.stack(arrays, axis=-1))


@known("torch.linalg.solve_triangular")
def solve_triangular(ring: Residues, a: Any, b: Any, *, upper: bool) -> Exact:
    """X with A X = B, A read on and below (above) its diagonal; leading axes are broadcast."""
    of_one_type(a, b)
    size, rest = square_matrix(a), real(b).finite
    pairs = zip(reversed(rest.shape[:-2]), reversed(a.shape[:-2]), strict=False)
    if rest.shape[-2] != size or any(1 < m != n > 1 for m, n in pairs):
        raise Refusal(f"a right side of shape {rest.shape} for {a.shape}")
    found: list[Exact] = []
    order = list(range(size))[:: -1 if upper else 1]
    for place, i in enumerate(order):
        row = rest.moved(lambda x, i=i: x[..., i, :])  # type: ignore[misc]
        for j, solved in zip(order[:place], found, strict=True):
            row = row - entry(a, i, j) * solved
        found.append(row / entry(a, i, i))
    ordered = found[:: -1 if upper else 1]
    return stacked(ordered, lambda arrays: np.stack(arrays, axis=-2))


def entry(a: Exact, i: int, j: int) -> Exact:
    """a[…, i, j] with a last axis of size 1."""
    return a.moved(lambda x: objects(x[..., i, j, None]))


@known("F.scaled_dot_product_attention")
def attention(
    ring: Residues,
    q: Any,
    k: Any,
    v: Any,
    *,
    attn_mask: Any = None,
    dropout_p: Any = 0,
    is_causal: bool = False,
) -> Exact:
    """Softmax_u(q·k/√D + mask) v; the causal mask is -∞ where u > t."""
    if dropout_p != 0 or (is_causal and attn_mask is not None):
        raise Refusal("attention with dropout, or with two masks")
    scale = exact(ring, real(q).shape[-1]).power(Fraction(-1, 2))
    scores = matmul(ring, q, real(k).moved(lambda a: np.swapaxes(a, -1, -2))) * scale
    if is_causal:
        above = np.triu(np.ones(scores.shape[-2:], np.int8), 1)
        zero = scores.constant(np.zeros(above.shape, dtype=object))
        attn_mask = replace(zero, infinite=-above)
    if attn_mask is not None:
        scores = scores + real(attn_mask)
    return matmul(ring, scores.softmax(len(scores.shape) - 1), v)
