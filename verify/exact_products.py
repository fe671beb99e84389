"""Calls that multiply tensors: linear maps, einsum, factorisations, attention."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from verify.exact_array import Exact, Refusal, Whole, multilinear, objects, stacked
from verify.exact_table import Factored, exact, known, real
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
