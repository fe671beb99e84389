"""Properties decided by evaluation at random points and sizes: generic rank, scale invariance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sympy import Expr, Function, Rational

from derive.budget import check_time
from derive.errors import DerivationError
from derive.evaluate import Array, Evaluator, Float64
from derive.functions import FLAT, Step
from derive.nodes import Contraction, Letter, letters_in, reads
from derive.points import (
    crowded_point,
    hyper_values,
    missed_points,
    random_point,
    random_sizes,
    random_tensors,
    scaled_point,
    with_lines,
    with_parameters,
)
from derive.program import Program

# A relative difference that rounding cannot make; it only ever decides that two things differ.
WITNESS = 1e-6
# What is so much smaller than in single precision is what rounding leaves of a 0.
ROUNDING = 1e-5
SCALES = (1.0, 0.25, 0.0625)
# Draws that have to agree that K(s,s) is 0: all units of a function that is flat may be off in one.
REDRAWS = 8
# An analytic K that is 0 in a random draw is 0, but for numbers that are too small for a float.
ANALYTIC_REDRAWS = 2
# A tower of powers overflows at random points; an infinite or undefined value shows nothing.
QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}


@np.errstate(**QUIET)
def witness_off_diagonal(program: Program, self_kernel: Expr) -> bool:
    """Whether a random point shows that K(s,s) is not diagonal; false proves nothing."""
    point = random_point(program, np.random.default_rng(20251222), 2, 3)
    kernel = kernels(program, self_kernel, point)
    diagonal = np.einsum("sii->si", kernel)
    off = np.abs(kernel - diagonal[:, :, None] * np.eye(kernel.shape[1])).max()
    return bool(off > WITNESS * np.abs(diagonal).max())


@np.errstate(**QUIET)
def witness_parameters(program: Program, expression: Expr) -> bool:
    """Whether two random points with equal inputs show that an expression depends on parameters."""
    rng = np.random.default_rng(20251222)
    try:
        first = random_point(program, rng, 2, 3)
    except DerivationError:
        # An ansatz's unknown has no value: nothing can be shown.
        return False
    return _differ(program, expression, first, with_parameters(program, first, rng))


@np.errstate(**QUIET)
def witness_mean(program: Program, kappa: Expr, letters: tuple[Letter, ...]) -> bool:
    """Whether two random points show that the mean of κ over some site letters varies."""
    rng = np.random.default_rng(20251222)
    first = random_point(program, rng, 2, 3)
    inputs = random_tensors(program, dict(first.sizes), rng)
    second = with_lines(program, Evaluator(first.sizes, inputs, first.symbols))
    return _differ(program, Contraction(kappa, *letters), first, second)


def _differ(program: Program, expression: Expr, first: Evaluator, second: Evaluator) -> bool:
    if any(r.tensor not in first.tensors for r in reads(expression)):
        return False
    letters = tuple(sorted(letters_in([expression]), key=str))
    values = [point.array(expression, letters) for point in (first, second)]
    gap = np.abs(values[0] - values[1]).max()
    return bool(gap > WITNESS * np.abs(values[0]).max())


@np.errstate(**QUIET)
def generic_rank(program: Program, self_kernel: Expr, instances: int = 12) -> str:
    """Why K(s,s) cannot be inverted at some sizes, or ``""`` if it always can at random points.

    A site where K(s,s) is 0 whatever the parameters are, as where no window reaches, has no gauge
    and says nothing about the others.
    """
    rng = np.random.default_rng(20251222)
    points = (random_point(program, rng) for _ in range(instances))
    crowded = (crowded_point(program, rng) for _ in range(2))
    for point in itertools.chain(points, crowded, missed_points(program, rng)):
        ranks = largest_ranks(program, self_kernel, point)
        if ranks is None:
            return "K(s,s) overflows at random points, so its rank is not known"
        width = math.prod(point.sizes[x.size] for x in program.unit)
        if ranks.min() < width:
            zero = always_zero(program, self_kernel, point, rng, ranks < width)
            ranks = np.where(zero, width, ranks)
        if ranks.min() < width:
            numbers = {k: point.symbols[k] for k in hyper_values(program)}
            named = {f"size({k})": v for k, v in sorted(point.sizes.items())} | numbers
            return (
                f"K(s,s) has rank {ranks.min()} < {width} at random points (e.g. "
                f"{', '.join(f'{k}={v}' for k, v in named.items())}): no Λ makes it c·I"
            )
    return ""


class OneSided(Float64):
    """Float64 in which a function that is flat somewhere stays on the side where it was first.

    What is evaluated is analytic then, and agrees with the layer around the first point.
    """

    def __init__(self, sides: list[Array] | None = None) -> None:
        """Note the sides, or take them one after the other in the order of an earlier run."""
        self.noted: list[Array] = []
        self.sides = None if sides is None else iter(sides)

    def function(self, node: Function, arguments: Sequence[Array]) -> Array:
        """A function of the notation; steps, relu and max on their side."""
        if not isinstance(node, FLAT):
            return super().function(node, arguments)
        a, b = (*arguments, np.zeros(()))[:2]
        side = np.asarray(a > b) if self.sides is None else next(self.sides)
        self.noted.append(side)
        return np.where(side, *((1.0, 0.0) if isinstance(node, Step) else (a, b)))


def largest_ranks(program: Program, self_kernel: Expr, point: Evaluator) -> Array | None:
    """The rank of K(s,s) at each site of a point; ``None`` if it overflows.

    A rank that an analytic K has at one point it has at almost all. Where functions saturate, or
    numbers are too large, a smaller point of the same sizes shows what this one cannot; but what is
    off because a function is flat there is off at almost all points nearby, and stays off.
    """
    width = math.prod(point.sizes[x.size] for x in program.unit)
    found, field = None, OneSided()
    for scale in SCALES:
        check_time()
        ranks = site_ranks(program, self_kernel, scaled_point(program, point, scale, field))
        if ranks is not None:
            found = ranks if found is None else np.maximum(found, ranks)
            if (found == width).all():
                break
        field = OneSided(None if found is None else field.noted)
    return found


class Float32(Float64):
    """Single precision: what rounding leaves of a 0 is larger by far, and nothing else is."""

    dtype = np.float32

    def power(self, base: Array, exponent: Rational) -> Array:
        """A rational power."""
        return super().power(base, exponent).astype(np.float32)

    def function(self, node: Function, arguments: Sequence[Array]) -> Array:
        """A function of the notation."""
        return super().function(node, arguments).astype(np.float32)


def always_zero(
    program: Program,
    self_kernel: Expr,
    point: Evaluator,
    rng: np.random.Generator,
    asked: Array,
) -> Array:
    """Which of the sites asked about have K(s,s) = 0 under other parameters too, but for rounding.

    Rounding is looked at only where K is not plainly 0 at all of them, as outside of every window.
    """
    draws = REDRAWS if self_kernel.has(*FLAT) else ANALYTIC_REDRAWS
    others = [with_parameters(program, point, rng) for _ in range(draws)]
    ranks = [largest_ranks(program, self_kernel, other) for other in others]
    zero = np.array([asked if r is None else asked & (r == 0) for r in ranks])
    if np.array_equal(zero.all(axis=0), asked):
        return asked
    # A single one may happen to be 0 in single precision and not in double.
    drawn = (with_parameters(program, point, rng) for _ in range(REDRAWS))
    coarse = [
        traces(program, self_kernel, with_lines(program, replace(other, field=Float32())))
        for other in drawn
    ]
    left = ROUNDING * np.max(np.where(np.isfinite(coarse), np.abs(coarse), 0), axis=0)
    small = [np.abs(traces(program, self_kernel, other)) <= left for other in others]
    return np.asarray(asked & (zero | small).all(axis=0))


def traces(program: Program, self_kernel: Expr, point: Evaluator) -> Array:
    """The trace of K(s,s) at each site of a point."""
    return np.asarray(np.einsum("sii->s", kernels(program, self_kernel, point)))


def site_ranks(program: Program, self_kernel: Expr, point: Evaluator) -> Array | None:
    """The rank of K(s,s) at each site of a point, as it is; ``None`` if it overflows."""
    found = kernels(program, self_kernel, point)
    if not np.isfinite(found).all():
        return None
    return np.array([np.linalg.matrix_rank(equilibrated(k), hermitian=True) for k in found])


def kernels(program: Program, self_kernel: Expr, point: Evaluator) -> Array:
    """K(s,s) at each site of a point, a matrix over the units."""
    width = math.prod(point.sizes[x.size] for x in program.unit)
    letters = (*program.site, *program.unit, *(x.primed for x in program.unit))
    return point.array(self_kernel, letters).reshape(-1, width, width)


def equilibrated(matrix: Array) -> Array:
    """A Gram matrix with ones on its diagonal: of the same rank, however its rows are scaled."""
    diagonal = np.diagonal(matrix)
    if not (diagonal > 0).all():
        return matrix
    # One root after the other: their product may be too small for a float.
    root = np.sqrt(diagonal)
    return np.asarray(matrix / root[:, None] / root[None, :])


def unchanged_by_scale(
    program: Program, expression: Expr, names: tuple[str, ...], instances: int = 2
) -> bool:
    """Whether an expression over inputs and parameters keeps its value when the inputs are scaled.

    Args:
        program: The layer that the expression belongs to.
        expression: An expression free in the output's letters.
        names: The inputs to scale.
        instances: Random instances that have to agree to 1e-9.
    """
    rng = np.random.default_rng(20251222)
    for _ in range(instances):
        sizes, symbols = random_sizes(program, rng, 2, 4)
        tensors = random_tensors(program, sizes, rng)
        stretched = {k: 3.0 * v if k in names else v for k, v in tensors.items()}
        with np.errstate(**QUIET):
            values = [
                Evaluator(sizes, point, {**symbols, "radius": 1.0}).array(
                    expression, program.output.letters
                )
                for point in (tensors, stretched)
            ]
        # A window that lies outside its input is all zero, and a gauge may be infinite there.
        regular = np.isfinite(values[0]) & np.isfinite(values[1])
        if not regular.any():
            return False
        if not np.allclose(values[0][regular], values[1][regular], rtol=1e-9, atol=1e-12):
            return False
    return True
