"""What was derived and generated at one point, against what was measured there."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from derive.corrections import Correction
from derive.derivation import Derivation
from derive.evaluate import Evaluator, Field, Float64
from derive.points import with_lines
from verify.fuzz.expect import CLOSE, Character, coefficients, kappas, scaled, smaller
from verify.fuzz.measure import (
    Measured,
    activation,
    jacobian,
    measure,
    self_blocks,
    without,
)
from verify.fuzz.points import Point
from verify.fuzz.tree import (
    Layer,
)
from verify.load import load_module
from verify.reference import Shaken
from verify.tolerances import TOLERANCES

LOOSE = 1e-7
"""Relative difference of a module from its measured reference, whose κ cancels digits."""
SINGULAR = 1e-10
"""Sites whose kernel is this much smaller than the largest one are singular."""
SHAKES = 3
NEARBY = (0.25, 0.0625, 4.0)
UNSTEADY = 1e4 * TOLERANCES.perturbation
"""An entry of K, relative to its diagonal, that changes so under a perturbation has lost digits."""
ROUNDING = 4 * float(np.finfo(np.float64).eps) / TOLERANCES.perturbation
"""A difference that rounding explains, in units of what :class:`Shaken` makes of the formula."""
RADIUS = 1.5
ETA = 0.5
TAKES_DERIVED = "_takes_derived"
"""The helper of a generated file that says whether its derived backward pass serves."""


# ------------------------------------------------------------------ the derived kernel
def compare_kernel(
    layer: Layer, derivation: Derivation, point: Point, measured: Measured
) -> str | None:
    """How the derived K(s,s'), evaluated, differs from the measured one by more than rounding.

    Multiplied out, (1 - tanh²)² of a large number is a difference of rounded numbers. What rounding
    explains at one point has to agree at a smaller or larger one.
    """
    found, wanted = derived_kernel(layer, derivation, point), measured.kernel
    error = distance(found, wanted, wanted)
    if error <= CLOSE:
        return None
    what = f"differs by {error:.1e} of its largest entry at sizes {dict(point.sizes)}"
    shaken = [derived_kernel(layer, derivation, point, Shaken(k)) for k in range(SHAKES)]
    if error > ROUNDING * max(distance(s, found, wanted) for s in shaken):
        return what
    moves = bool(wanted.any())
    for scale in NEARBY:
        near = smaller(point, scale)
        there = measure(layer, near, derivation.program.absent).kernel
        found = derived_kernel(layer, derivation, near)
        if there.any() and distance(found, there, there) <= CLOSE:
            return None
        moves = moves or bool(there.any())
    # What is off, as relu below 0, stays off: 1 - 1 of other numbers is what rounding leaves of 0.
    return f"{what}, and at all points nearby" if moves else None


def steady(
    layer: Layer, derivation: Derivation, at: tuple[Point, Measured]
) -> tuple[Point, Measured]:
    """The point or a smaller one, where formulas keep the digits that a module is judged by.

    What 1 - tanh² of a large number has lost no module can have: see :func:`compare_kernel`.
    """
    point, measured = at
    for scale in (1.0, *NEARBY):
        near = smaller(point, scale)
        there = measured if scale == 1.0 else measure(layer, near, derivation.program.absent)
        size = there.own.diagonal(dim1=1, dim2=2).sqrt()
        unit = (size[:, :, None, None] * size[None, None]).clamp_min(1e-300)
        plain = derived_kernel(layer, derivation, near)
        shaken = derived_kernel(layer, derivation, near, Shaken(0))
        if float(((shaken - plain).abs() / unit).max()) <= UNSTEADY:
            return near, there
    return at


def distance(left: Tensor, right: Tensor, unit: Tensor) -> float:
    """The largest difference, in units of the largest entry of a third."""
    return float((left - right).abs().max()) / max(float(unit.abs().max()), 1e-300)


def derived_kernel(
    layer: Layer, derivation: Derivation, point: Point, field: Field | None = None
) -> Tensor:
    """The derived K(s,s') at a point, (sites, units, sites, units)."""
    program = derivation.program
    sizes = {
        program.letters[x].size: size
        for x, size in all_sizes(layer, point).items()
        if x in program.letters
    }
    symbols: dict[str, Any] = {}
    for name, value in point.numbers.items():
        symbols |= {name: value}
        if isinstance(value, tuple):
            symbols |= {f"{name}[{k}]": v for k, v in enumerate(value)}
    tensors = {k: v.numpy() for k, v in point.tensors.items() if k in program.tensors}
    evaluator = with_lines(program, Evaluator(sizes, tensors, symbols, field or Float64()))
    order = [next(y for y in program.output.letters if y.name == x) for x in order_of(layer)]
    kernel = evaluator.array(derivation.update.kernel, (*order, *(x.primed for x in order)))
    sites, units = (
        math.prod(sizes[program.letters[x].size] for x in names)
        for names in (layer.site, layer.unit)
    )
    return torch.from_numpy(np.asarray(kernel)).reshape(sites, units, sites, units)


def order_of(layer: Layer) -> tuple[str, ...]:
    """The output's letters, site first."""
    return (*layer.site, *layer.unit)


def all_sizes(layer: Layer, point: Point) -> dict[str, int]:
    """Every letter's size, those of letters that share one included."""
    return {**point.sizes, **{a: point.sizes[b] for a, b in layer.same if b in point.sizes}}


# ------------------------------------------------------------------ the generated module
def arguments(layer: Layer, point: Point, absent: frozenset[str]) -> dict[str, Any]:
    """The constructor's arguments by name."""
    found: dict[str, Any] = {}
    for size in layer.sizes:
        if size.how == "argument":
            found[size.source] = point.sizes[size.letter]
        elif size.how == "rest":
            other = layer.stands_for(size.partner)
            found[size.source] = point.sizes[size.letter] * point.sizes[other]
    found |= {k: point.numbers[k] for k, v in layer.hypers if not isinstance(v, bool)}
    return found | {t.torch: t.name not in absent for t in layer.parameters if t.optional}


def stored(layer: Layer, point: Point, name: str) -> Tensor:
    """A tensor with its composed axes merged."""
    sizes = all_sizes(layer, point)
    axes = layer.tensor(name).axes
    return point.tensors[name].reshape([math.prod(sizes[x] for x in axis) for axis in axes])


def built(
    layer: Layer, cls: type[nn.Module], point: Point, absent: frozenset[str], **more: Any
) -> nn.Module:
    """The class at a point's sizes, holding its parameters."""
    module = cls(**arguments(layer, point, absent), **more, dtype=torch.float64)
    with torch.no_grad():
        for t in layer.parameters:
            if t.name not in absent:
                getattr(module, t.torch).copy_(stored(layer, point, t.name))
    return module


class Ran:
    """A module's output and self-kernel at a point.

    Attributes:
        z: (sites, units).
        own: K̃(s,s), (sites, units, units).
    """

    def __init__(self, layer: Layer, module: nn.Module, inputs: list[Tensor], point: Point) -> None:
        """Run it and differentiate every element of its output."""
        self.leaves = list(module.parameters())
        self.z = by_site(layer, module(*inputs), point)
        flat = torch.cat([j.reshape(len(j), -1) for j in jacobian(self.z, self.leaves)], 1)
        kernel = (flat @ flat.T).reshape(*self.z.shape, *self.z.shape)
        self.own = self_blocks(kernel).detach()


def by_site(layer: Layer, output: Tensor, point: Point) -> Tensor:
    """A module's output as (sites, units)."""
    sizes, letters = all_sizes(layer, point), layer.output.letters
    logical: Tensor = output.reshape([sizes[x] for x in letters])
    ordered = logical.permute([letters.index(x) for x in order_of(layer)])
    found: Tensor = ordered.reshape(math.prod(sizes[x] for x in layer.site), -1)
    return found


def compare_module(
    layer: Layer,
    source: Any,
    name: str,
    correction: Correction,
    absent: frozenset[str],
    point: Point,
    measured: Measured,
    character: Character,
) -> Iterator[tuple[str, str]]:
    """How a class differs from what its ansatz must make of the measured layer."""
    cls = getattr(load_module(source.text, source.module), name)
    radius = {"radius": RADIUS} if correction.ansatz == "input map" else {}
    order = [t.name for t in next(iter(source.derivations.values())).program.inputs]
    try:
        module = built(layer, cls, point, absent, **radius)
        inputs = [stored(layer, point, n) for n in order]
        ran = Ran(layer, module, inputs, point)
    except Exception as error:
        yield f"module: {type(error).__name__}", repr(error)
        return
    if not bool(torch.isfinite(ran.z).all()):
        yield "module: not finite", "z̃ is not finite"
        return
    regular = regular_sites(measured.own)
    if correction.ansatz == "input map":
        regular = regular & moved_by_scale(layer, absent, point, measured)
        rate = rate_of(layer, absent, point, ran, regular, character)
        yield from compare_input_map(layer, absent, point, ran, regular, rate, character)
    else:
        rate = 1.0
        wanted, found = gauged(correction.ansatz, measured, ran)
        yield from far("module: output", found[regular], wanted[regular], measured.own[regular])
    ideal = rate * torch.eye(ran.own.shape[1], dtype=torch.float64).expand_as(ran.own)
    yield from far("module: self-kernel", ran.own[regular], ideal[regular], measured.own[regular])
    yield from backward(layer, module, inputs, point, regular)
    if correction.exactness in ("exact", "constant-rate") and bool(regular.any()):
        yield from step(layer, module, inputs, point, int(regular.nonzero()[0]), rate)


def regular_sites(own: Tensor) -> Tensor:
    """Sites whose kernel is not singular."""
    values = torch.linalg.eigvalsh(own)
    found: Tensor = values[:, 0] > SINGULAR * values.max()
    return found


def moved_by_scale(
    layer: Layer, absent: frozenset[str], point: Point, measured: Measured
) -> Tensor:
    """Sites whose κ is larger than without any input, so that a factor on the input changes it."""
    still = kappas(layer, absent, point, 0.0).nan_to_num(0.0)
    kappa = measured.own[:, 0, 0]
    found: Tensor = (kappa - still).abs() > SINGULAR * kappa.abs().max()
    return found


def far(kind: str, found: Tensor, wanted: Tensor, own: Tensor) -> Iterator[tuple[str, str]]:
    """A finding where two tensors differ by more than their conditioning explains."""
    if found.numel() == 0:
        return
    values = torch.linalg.eigvalsh(own)
    condition = float((values[:, -1] / values[:, 0]).max()) if values.numel() else 1.0
    scale = max(float(wanted.abs().max()), 1e-12)
    error = float((found - wanted).abs().max())
    bound = LOOSE * max(1.0, condition * 1e-4) * scale
    if not error <= bound:
        yield kind, f"differs by {error:.1e} where {bound:.1e} is allowed"


def gauged(ansatz: str, measured: Measured, ran: Ran) -> tuple[Tensor, Tensor]:
    """What z̃ must be, and is: z/√κ, z_i/√κ_i, or of the length √(zᵀK⁻¹z)."""
    z, own = measured.z, measured.own
    diagonal = own.diagonal(dim1=1, dim2=2)
    if ansatz != "matrix gauge":
        return z / diagonal.sqrt(), ran.z.detach()
    solved = torch.linalg.lstsq(own, z[..., None]).solution[..., 0]
    return (z * solved).sum(1, keepdim=True), ran.z.detach().square().sum(1, keepdim=True)


def rate_of(
    layer: Layer,
    absent: frozenset[str],
    point: Point,
    ran: Ran,
    regular: Tensor,
    character: Character,
) -> float:
    """C = κ(0) + radius², or where κ(0) is not to be had the rate that the module shows."""
    if character.scale is not None:
        return float(coefficients(layer, absent, point)[0, 0]) + RADIUS**2
    shown = ran.own[regular].diagonal(dim1=1, dim2=2)
    return float(shown.mean()) if shown.numel() else 1.0


def compare_input_map(
    layer: Layer,
    absent: frozenset[str],
    point: Point,
    ran: Ran,
    regular: Tensor,
    rate: float,
    character: Character,
) -> Iterator[tuple[str, str]]:
    """z̃_s = z_s(μ x) at the positive root μ of the measured κ_s(μx) = c."""
    if character.scale is None:
        return
    powers = [0, *character.scale.degrees]
    table = coefficients(layer, absent, point, powers).T.numpy()
    for site in regular.nonzero()[:3, 0].tolist():
        polynomial = np.zeros(powers[-1] + 1)
        polynomial[powers] = table[site]
        polynomial[np.abs(polynomial) < SINGULAR * np.abs(polynomial).max()] = 0.0
        if not polynomial[1:].any():
            continue
        polynomial[0] -= rate
        roots = np.roots(polynomial[::-1])
        real = sorted(r.real for r in roots if abs(r.imag) < 1e-9 * abs(r) and r.real > 0)
        if len(real) != 1:
            yield "module: root", f"κ(μx) = c has {len(real)} positive roots"
            return
        moved = without(layer, scaled(layer, point, real[0]), absent)
        wanted = activation(layer, moved)[site]
        scale = max(float(wanted.abs().max()), 1e-12)
        error = float((ran.z[site].detach() - wanted).abs().max())
        if not error <= 1e-5 * scale:
            yield "module: output", f"differs by {error / scale:.1e} from z(μ x), μ = {real[0]:.4f}"
            return


def backward(
    layer: Layer, module: nn.Module, inputs: list[Tensor], point: Point, regular: Tensor
) -> Iterator[tuple[str, str]]:
    """The derived backward pass gives inputs the gradients that torch finds without it."""
    home = sys.modules[type(module).__module__]
    if not hasattr(home, TAKES_DERIVED):
        return
    moving = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    leaves = [x for x in moving if x.requires_grad]

    def gradients() -> tuple[Tensor, ...]:
        z = by_site(layer, module(*moving), point)[regular]
        weights = torch.linspace(0.1, 1.1, z.numel(), dtype=z.dtype).reshape(z.shape)
        return (z, *torch.autograd.grad((weights * z).sum(), leaves, materialize_grads=True))

    try:
        _, *ours = gradients()
    except Exception as raised:
        yield f"module: {type(raised).__name__}", repr(raised)
        return
    with patch.object(home, TAKES_DERIVED, return_value=False):
        z, *theirs = gradients()
    for x, found, wanted in zip(leaves, ours, theirs, strict=True):
        # Where a gradient is 0, parts of the size of z̃/x cancel.
        largest = [float(t.detach().abs().max()) if t.numel() else 0.0 for t in (wanted, z, x)]
        scale = max(largest[0], largest[1] / max(largest[2], 1e-12))
        error = float((found - wanted).abs().max()) if found.numel() else 0.0
        if not error <= LOOSE * scale:
            yield "module: input gradient", f"differs by {error:.1e} from that of plain operations"


def step(
    layer: Layer, module: nn.Module, inputs: list[Tensor], point: Point, site: int, rate: float
) -> Iterator[tuple[str, str]]:
    """One step of gradient descent on one site's own gradient moves z̃ by -η c g."""
    # A copy: a layer may return a parameter itself, which the step changes in place.
    before = by_site(layer, module(*inputs), point)[site].clone()
    g = torch.linspace(-1.0, 1.0, before.numel() + 1, dtype=torch.float64)[1:] + 0.1
    leaves = list(module.parameters())
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
        (g * before).sum(), leaves, allow_unused=True
    )
    with torch.no_grad():
        for leaf, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                leaf.sub_(ETA * gradient)
        after = by_site(layer, module(*inputs), point)[site]
        error = float((after - before.detach() + ETA * rate * g).abs().max())
    if not error <= LOOSE * (rate + float(before.detach().abs().max())):
        yield "module: step", f"a step of η = {ETA} misses the true one by {error:.1e}"
