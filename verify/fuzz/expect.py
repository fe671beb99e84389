"""What a right derivation must say, from measurements of the tree alone.

A layer's character is measured at random points: the same inputs with other parameters, the same
parameters with other inputs, and the inputs times μ. :func:`expected` turns it into the ansätze
that have to be offered; where ``derive`` documents a limit of its own, the limit is a rule here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from verify.fuzz.degree import degree
from verify.fuzz.measure import Measured, Sides, activation, measure, self_blocks, without
from verify.fuzz.points import NoPoint, Point, draw_point, letters_of
from verify.fuzz.tree import Fun, Layer, Reduce, Window
from verify.fuzz.walk import reads, walk
from verify.instances import Seeded

CLOSE = 1e-9
"""Relative difference of two measurements of one number."""
DUST = 1e-24
"""A share of K that is smaller than this part of it is what rounding leaves of 0."""
REDRAWS = 5
INPUTS = (1.0,) * 2
KINKED_INPUTS = (1.0,) * 4 + (4.0,) * 4
"""Draws of inputs, and how large; more where a function is flat somewhere, as max(y, 0.5)."""
RANK_DRAWS = 4
KINKED_RANK_DRAWS = 12
SPARSE_DRAWS = 2
SCALES = (1.0, 0.25, 0.0625)


@dataclass(frozen=True)
class InputScale:
    """κ(μx) as a polynomial in μ, measured.

    Attributes:
        degrees: The powers of μ that occur, without 0.
        offset_varies: Whether the coefficient of μ⁰ changes with the input or the site.
        offset: That coefficient at the first site.
    """

    degrees: tuple[int, ...]
    offset_varies: bool
    offset: float

    @property
    def solvable(self) -> bool:
        """One power of μ, or two of which one is the double of the other."""
        step = math.gcd(*self.degrees)
        alone = len(self.degrees) == 1
        return alone or self.degrees == (step, 2 * step)


@dataclass(frozen=True)
class Character:
    """What was measured of a layer, for one choice of its optional parameters.

    Attributes:
        kind: ``zero``, ``isotropic``, ``diagonal`` or ``anisotropic``.
        constant: Whether K(s,s) is the same for every input and parameter.
        parameter_dependent: Whether K(s,s) changes with the parameters.
        affine: Whether z is affine in all parameters.
        vanishing: Whether some parameters make a diagonal entry 0 that others do not.
        deficient: Whether K(s,s) loses rank at some sizes, other than where it is 0.
        polynomial: Whether no real input stands in a function or a denominator.
        scale: κ(μx), where it is a polynomial and the kernel isotropic.
        has_input: Whether an input holds real numbers.
        shares: Parameter → (isotropic, varies with the input) of its own kernel.
    """

    kind: str
    constant: bool
    parameter_dependent: bool
    affine: bool
    vanishing: bool
    deficient: bool
    polynomial: bool
    scale: InputScale | None
    has_input: bool
    shares: Mapping[str, tuple[bool, bool]]


def spread(values: list[Tensor]) -> Tensor:
    """The largest difference from the first of equal shapes, relative to the largest entry."""
    stack = torch.stack(values)
    scale = stack.abs().max().clamp_min(1e-300)
    return (stack - stack[0]).abs().max(0).values / scale


def kind_of(own: Tensor) -> str:
    """The class of one measured K(s,s), (sites, units, units)."""
    diagonal = own.diagonal(dim1=1, dim2=2)
    scale = float(diagonal.abs().max())
    if scale == 0:
        return "zero"
    if float((own - torch.diag_embed(diagonal)).abs().max()) > CLOSE * scale:
        return "anisotropic"
    uneven = float((diagonal - diagonal[:, :1]).abs().max()) > CLOSE * scale
    return "diagonal" if uneven else "isotropic"


def is_still(layer: Layer, absent: frozenset[str], source: Seeded) -> bool:
    """Whether no parameter moves z: K(s,s) is 0, or what rounding leaves of 0.

    That shrinks with the spacing of the numbers, which no other K does.
    """
    point = draw_point(layer, source)
    single = {k: v.float() for k, v in point.tensors.items() if v.is_floating_point()}
    fine, coarse = (
        float(measure(layer, p, absent).own.abs().max())
        for p in (point, point.with_tensors(**single))
    )
    return fine <= CLOSE * coarse


ORDER = ("zero", "isotropic", "diagonal", "anisotropic")


def redrawn(layer: Layer, point: Point, kind: str, source: Seeded) -> Point:
    """The point with other parameters, or with other inputs."""
    generator = torch.Generator().manual_seed(source.integer(0, 2**31 - 1))
    found = {}
    for tensor in layer.tensors:
        value = point.tensors[tensor.name]
        if (tensor.kind == "parameter") != (kind == "parameters") or tensor.kind == "token":
            continue
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        found[tensor.name] = drawn.abs() + 0.1 if tensor.positive else drawn
    return point.with_tensors(**found)


def characterise(
    layer: Layer, absent: frozenset[str], source: Seeded
) -> tuple[Character, list[tuple[Point, Measured]]]:
    """Measure a layer; also returns the points that a derivation is to be compared at.

    Raises:
        NoPoint: If no small sizes fit.
    """
    points = [draw_point(layer, source) for _ in range(2)]
    at = [(point, measure(layer, point, absent)) for point in points]
    base = points[0]
    moved = [redrawn(layer, base, "parameters", source) for _ in range(REDRAWS)]
    sizes = KINKED_INPUTS if is_kinked(layer) else INPUTS
    fed = [scaled(layer, redrawn(layer, base, "inputs", source), size) for size in sizes]
    own = [m.own for _, m in at]
    by_parameters = [own[0], *(measure(layer, p, absent).own for p in moved)]
    by_inputs = [measure(layer, p, absent) for p in fed]
    every = [*own, *by_parameters, *(m.own for m in by_inputs)]
    kind = max((kind_of(o) for o in every), key=ORDER.index)
    dependent = bool((spread(by_parameters) > CLOSE).any())
    varies = bool((spread([own[0], *(m.own for m in by_inputs)]) > CLOSE).any())
    polynomial = degree(layer, absent) is not None
    has_input = any(t.kind == "input" for t in layer.inputs)
    plain = kind == "isotropic" and not dependent and varies and polynomial and has_input
    character = Character(
        kind,
        not dependent and not varies,
        dependent,
        is_affine(layer, base, absent, source),
        is_kinked(layer) and vanishes(by_parameters),
        loses_rank(layer, absent, source, points) if kind == "anisotropic" else False,
        polynomial,
        input_scale(layer, absent, [base, *fed]) if plain else None,
        has_input,
        shares([at[0][1], *by_inputs]),
    )
    return character, at


def is_affine(layer: Layer, point: Point, absent: frozenset[str], source: Seeded) -> bool:
    """Whether second differences along random directions of the parameters vanish."""
    for _ in range(2):
        way = redrawn(layer, point, "parameters", source)
        values = []
        for sign in (1.0, 0.0, -1.0):
            step = {
                t.name: point.tensors[t.name] + 2 * sign * way.tensors[t.name]
                for t in layer.parameters
            }
            moved = without(layer, point.with_tensors(**step), absent)
            values.append(activation(layer, moved))
        bend = (values[0] - 2 * values[1] + values[2]).abs().max()
        if float(bend) > CLOSE * max(float(v.abs().max()) for v in values):
            return False
    return True


def vanishes(kernels: list[Tensor]) -> bool:
    """Whether a diagonal entry is 0 for some parameters and not for others."""
    diagonal = torch.stack([k.diagonal(dim1=1, dim2=2) for k in kernels])
    zero = diagonal == 0
    return bool((zero.any(0) & ~zero.all(0)).any())


def is_kinked(layer: Layer) -> bool:
    """Whether a function in it is flat somewhere: an analytic K is 0 everywhere or almost nowhere.

    Float64 says more often that it is 0, as tanh' is of 20.
    """
    nodes = [node for line in layer.lines for node in walk(line.value)]
    return any(isinstance(n, Fun) and n.name in ("relu", "max") for n in nodes) or any(
        isinstance(n, Reduce) and n.kind == "max" for n in nodes
    )


def loses_rank(layer: Layer, absent: frozenset[str], source: Seeded, points: list[Point]) -> bool:
    """Whether K(s,s) is singular at ordinary sizes, or where units outnumber everything else.

    Sites where it is 0 under other parameters too, as at a window that lies outside of its input,
    have no gauge and do not count.
    """
    draws = KINKED_RANK_DRAWS if is_kinked(layer) else RANK_DRAWS
    wide = [draw_point(layer, source, least=1, wide=number % 2 == 0) for number in range(draws)]
    for point in (*points, *wide, *sparse(layer, source)):
        rank, width = ranks(layer, absent, point)
        if bool((rank == 0).any()):
            moved = [redrawn(layer, point, "parameters", source) for _ in range(REDRAWS)]
            others = torch.stack([ranks(layer, absent, p)[0] for p in moved])
            rank = torch.where((rank == 0) & (others == 0).all(0), width, rank)
        if bool((rank < width).any()):
            return True
    return False


def sparse(layer: Layer, source: Seeded) -> list[Point]:
    """Points where one window has a single offset or element, so that it leaves positions out."""
    letters: list[str] = []
    for read in (read for line in layer.lines for read in reads(line.value)):
        for index, axis in zip(read.indices, letters_of(layer, read.tensor), strict=True):
            if isinstance(index, Window) and index.offset:
                letters += [index.offset, axis]
    found = []
    for letter in dict.fromkeys(layer.stands_for(x) for x in letters):
        for _ in range(SPARSE_DRAWS):
            with suppress(NoPoint):
                found.append(draw_point(layer, source, alone=letter))
    return found


def ranks(layer: Layer, absent: frozenset[str], point: Point) -> tuple[Tensor, int]:
    """The rank of K(s,s) at each site, and the number of units.

    A site counts with the largest rank that it has when everything is made smaller, where functions
    do not saturate; but relu and max stay on their side: what they take away is lost.
    """
    sides, found = Sides(), torch.zeros((), dtype=torch.long)
    for scale in SCALES:
        own = measure(layer, smaller(point, scale), absent, sides).own
        rank = torch.linalg.matrix_rank(even(own), hermitian=True)
        found, width = torch.maximum(rank, found), own.shape[1]
        if bool((found == width).all()):
            break
        sides.again()
    return found, width


def smaller(point: Point, scale: float) -> Point:
    """Every number of a point times a factor."""
    real = {k: scale * v for k, v in point.tensors.items() if v.is_floating_point()}
    return point.with_tensors(**real)


def even(own: Tensor) -> Tensor:
    """K(s,s) with ones on its diagonal: a unit that hardly moves is still a unit that moves."""
    root = own.diagonal(dim1=1, dim2=2).sqrt().clamp_min(1e-150)
    return own / root[:, :, None] / root[:, None, :]


def shares(measured: list[Measured]) -> dict[str, tuple[bool, bool]]:
    """Each parameter's own kernel: whether it is isotropic, and whether it varies."""
    found = {}
    dust = DUST * max(float(m.own.abs().max()) for m in measured)
    for name in measured[0].parts:
        blocks = [self_blocks(m.parts[name]) for m in measured]
        blocks = [b if float(b.abs().max()) > dust else torch.zeros_like(b) for b in blocks]
        round_ = all(kind_of(b) in ("isotropic", "zero") for b in blocks)
        found[name] = (round_, bool((spread(blocks) > CLOSE).any()))
    return found


# ------------------------------------------------------------------ the input's scale
def scaled(layer: Layer, point: Point, mu: float) -> Point:
    """Every real input times μ."""
    names = [t.name for t in layer.inputs if t.kind == "input"]
    return point.with_tensors(**{n: mu * point.tensors[n] for n in names})


def kappas(layer: Layer, absent: frozenset[str], point: Point, mu: float) -> Tensor:
    """κ(μx) of an isotropic layer at every site."""
    return measure(layer, scaled(layer, point, mu), absent).own[:, 0, 0]


def coefficients(
    layer: Layer, absent: frozenset[str], point: Point, powers: Sequence[int] | None = None
) -> Tensor:
    """κ(μx) = Σ_d a_d μ^d at every site, by interpolation; (powers, sites).

    Args:
        layer: The layer.
        absent: Optional parameters that it is without.
        point: Where.
        powers: Which d occur, if that is known; else all up to the degree of κ.
    """
    count = 2 * (degree(layer, absent) or 0) + 1
    # On both sides of 0, where powers of μ differ most: a polynomial knows no sign.
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    values = torch.stack([kappas(layer, absent, point, float(mu)) for mu in nodes])
    matrix = np.vander(nodes, count, increasing=True)[:, powers or range(count)]
    found: Tensor = torch.linalg.lstsq(torch.from_numpy(matrix), values).solution
    return found


def input_scale(layer: Layer, absent: frozenset[str], points: list[Point]) -> InputScale:
    """The powers of μ in κ(μx), over several inputs."""
    found = torch.stack([coefficients(layer, absent, p) for p in points])
    scale = float(found.abs().max())
    present = (found.abs() > 1e-7 * scale).any(2).any(0)
    degrees = tuple(d for d in range(1, found.shape[1]) if bool(present[d]))
    offset = found[:, 0]
    varies = float((offset - offset[0, 0]).abs().max()) > 1e-7 * scale
    return InputScale(degrees, varies, float(offset[0, 0]))


# ------------------------------------------------------------------ what has to be offered
def expected(c: Character) -> dict[str, bool | None]:
    """Ansatz → whether it must be offered; ``None`` where a documented limit may refuse it."""
    isotropic = c.kind == "isotropic"
    own = list(c.shares.values())
    return {
        "output gauge": isotropic and not c.vanishing,
        "input map": input_map(c),
        "split gauge": isotropic
        and not c.parameter_dependent
        and c.affine
        and all(round_ for round_, _ in own)
        and any(varies for _, varies in own)
        and any(not varies for _, varies in own),
        "unit gauge": c.kind == "diagonal" and not c.vanishing,
        "matrix gauge": c.kind == "anisotropic" and not c.deficient,
    }


def input_map(c: Character) -> bool | None:
    """κ(μx) = c for a polynomial of degree at most two in a power of μ.

    An input inside a function or a denominator is a documented limit: its κ(μx) need not have a
    closed form, and is not searched for one.
    """
    possible = c.kind == "isotropic" and not c.parameter_dependent and c.has_input
    if not possible or c.constant:
        return False
    if not c.polynomial:
        return None
    assert c.scale is not None
    return bool(c.scale.degrees) and not c.scale.offset_varies and c.scale.solvable


def exactness(c: Character, rate: float) -> str:
    """The exactness class of a correction with this rate."""
    if c.parameter_dependent:
        return "frozen"
    if not c.affine:
        return "first-order"
    return "exact" if abs(rate - 1) < CLOSE else "constant-rate"
