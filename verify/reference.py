"""What a corrected layer should give, in NumPy from the spec and the solved gauge alone.

Nothing here sees generated code. z and K(s,s') come from :mod:`derive.evaluate`; the gauge is the
solved expression evaluated the same way:

- output and unit gauge: z̃ = λ z, K̃(s,s') = λ(s) K(s,s') λ(s'),
- input map: z̃_s = z_s(μ(s) x), site by site,
- matrix gauge: z̃_s = L⁻¹ z_s with K(s,s) = L Lᵀ, K̃(s,s') = L⁻¹ K(s,s') L'⁻ᵀ.

Where κ(s) = 0 no factor makes K̃(s,s) = c·I; there the factor is 0 by the layer's documented policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy

from derive.corrections import LAMBDA, MU, RADIUS
from derive.evaluate import Evaluator, Float64, run_program
from derive.nodes import reads
from verify.instances import Instance
from verify.layout import from_sites_by_units, kernel_by_sites, sites_by_units
from verify.subject import Subject
from verify.tolerances import TOLERANCES, operations, program_operations

Array = np.ndarray[Any, Any]
# A condition number that asks for a closer look, and how many evaluations that is.
SUSPECT = 1e3
SHAKES = 6
# Below it numbers lose digits when they are multiplied by what is less than 1.
SMALLEST = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Reference:
    """The reference at one instance.

    Attributes:
        output: z̃ as (sites, units).
        kernel: Predicted K̃ as (site, unit, site', unit').
        rate: c.
        regular: Which (site, unit) have a gauge; at the others K̃(s,s) = c·I is impossible.
        gauge: λ or μ as (sites, units); for the matrix gauge Λ as (sites, units, units).
        uncorrected: z as (sites, units).
        lost: Whether a gauge is singular and a number left the range, so that it may not be, or
            K(s,s) is so small that products with it lose digits.
    """

    output: Array
    kernel: Array
    rate: float
    regular: Array
    gauge: Array
    uncorrected: Array
    lost: bool = False

    @property
    def finite(self) -> bool:
        """Whether the layer is defined at this instance at all, within float64."""
        if self.lost:
            return False
        arrays = (self.output, self.kernel, self.gauge, self.uncorrected)
        return all(bool(np.isfinite(a).all()) for a in arrays)

    @property
    def ideal(self) -> Array:
        """What K̃(s,s) has to be, (site, unit, unit): c·I, or as predicted where it is singular."""
        sites, units = self.regular.shape
        wanted = np.tile(self.rate * np.eye(units), (sites, 1, 1))
        predicted = self_blocks(self.kernel)
        keep = self.regular[:, :, None] & self.regular[:, None, :]
        return np.where(keep, wanted, predicted)


def self_blocks(kernel: Array) -> Array:
    """K(s,s) as (site, unit, unit) of a kernel (site, unit, site', unit')."""
    return np.asarray(np.einsum("siSj,sS->sij", kernel, np.eye(kernel.shape[0])))


class ReferenceLayer:
    """Evaluates the reference of one subject at one instance."""

    def __init__(self, subject: Subject, instance: Instance, field: Float64 | None = None) -> None:
        """Run the uncorrected program once, in the given arithmetic."""
        self.field = field or Float64()
        self.subject = subject
        self.instance = instance
        self.program = subject.program
        self.symbols = {**instance.symbols, RADIUS: instance.radius}
        self.tensors = self.lines(instance.tensors)

    def lines(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs, parameters and every line's value."""
        evaluator = self.evaluator(tensors)
        return {**tensors, **run_program(self.program, evaluator)}

    def evaluator(self, tensors: Mapping[str, Array]) -> Evaluator:
        """An evaluator that also knows the lines' values."""
        return Evaluator(self.instance.sizes, tensors, self.symbols, self.field)

    def by_sites(self, array: Array) -> Array:
        """(sites, units)."""
        return sites_by_units(array, self.program, self.instance.sizes)

    def uncorrected(self, tensors: Mapping[str, Array]) -> Array:
        """Z as (sites, units)."""
        return self.by_sites(self.lines(tensors)[self.program.output.target])

    def kernel(self) -> Array:
        """K(s,s') of the uncorrected layer as (site, unit, site', unit')."""
        letters = self.program.output.letters
        both = (*letters, *(x.primed for x in letters))
        predicted = self.evaluator(self.tensors).array(self.subject.derivation.update.kernel, both)
        return kernel_by_sites(predicted, self.program, self.instance.sizes)

    def rate(self) -> float:
        """The rate c."""
        value = self.evaluator(self.tensors).array(self.subject.correction.rate, ())
        return float(value)

    def scalar_gauge(self) -> Array:
        """λ or μ as (sites, units), not yet cleaned of what is singular."""
        letters = self.program.output.letters
        gauge = self.evaluator(self.tensors).array(self.subject.correction.gauge, letters)
        return self.by_sites(gauge)

    def evaluate(self) -> Reference:
        """The reference; singular gauges are 0."""
        if self.subject.correction.ansatz == "matrix gauge":
            return self.matrix()
        gauge = self.scalar_gauge()
        regular = np.isfinite(gauge)
        singular = ~regular & self.vanishing()
        gauge = np.where(singular, 0.0, gauge)
        if self.subject.correction.ansatz == "input map":
            return self.input_map(gauge, regular)
        return self.factor(gauge, regular)

    def vanishing(self) -> Array:
        """Where the gauge's reciprocal, or κ, is exactly 0, as (sites, units).

        As SymPy writes it, the gauge |x|/x⁴ of κ = x⁶ has no reciprocal at 0.
        """
        letters = self.program.output.letters
        inverse = sympy.Pow(self.subject.correction.gauge, -1)
        evaluator = self.evaluator(self.tensors)
        found = (inverse, self.subject.derivation.structure.kappa)
        reciprocal, kappa = (self.by_sites(evaluator.array(e, letters)) for e in found)
        return np.asarray((reciprocal == 0) | (kappa == 0))

    def factor(self, gauge: Array, regular: Array) -> Reference:
        """λ z and λ K λ'."""
        z = self.by_sites(self.tensors[self.program.output.target])
        plain = self.kernel()
        lost = bool((np.einsum("sisi->si", plain)[regular] < SMALLEST).any())
        kernel = plain * gauge[:, :, None, None] * gauge[None, None, :, :]
        return Reference(gauge * z, kernel, self.rate(), regular, gauge, z, lost)

    def input_map(self, gauge: Array, regular: Array) -> Reference:
        """The program at μ(s) x, a run for every site; K̃ from the kernel with μ in place."""
        floats = [t.name for t in self.program.inputs if t.kind == "input"]
        z = self.by_sites(self.tensors[self.program.output.target])
        output = np.empty_like(z)
        for site in range(z.shape[0]):
            factor = gauge[site, 0]
            scaled = {k: factor * v if k in floats else v for k, v in self.instance.tensors.items()}
            output[site] = self.uncorrected(scaled)[site]
        return Reference(output, self.published_kernel(gauge), self.rate(), regular, gauge, z)

    def published_kernel(self, gauge: Array) -> Array:
        """The published K̃(s,s') with a given λ or μ, (sites, units), as a tensor."""
        kernel = self.subject.correction.kernel
        letters = self.program.output.letters
        tensors = dict(self.tensors)
        name = MU if self.subject.correction.ansatz == "input map" else LAMBDA
        for read in reads(kernel, name):
            if not any(getattr(x, "mark", "") for x in read.indices):
                whole = from_sites_by_units(gauge, self.program, self.instance.sizes)
                axes = [letters.index(x) for x in read.indices]
                rest = [k for k in range(len(letters)) if k not in axes]
                shape = [whole.shape[a] for a in axes]
                tensors[name] = np.transpose(whole, [*axes, *rest]).reshape([*shape, -1])[..., 0]
        both = (*letters, *(x.primed for x in letters))
        predicted = self.evaluator(tensors).array(kernel, both)
        return kernel_by_sites(predicted, self.program, self.instance.sizes)

    def matrix(self) -> Reference:
        """L⁻¹ z and L⁻¹ K L'⁻ᵀ; Λ = 0 where K(s,s) = 0, undefined where it is nearly singular."""
        z = self.by_sites(self.tensors[self.program.output.target])
        kernel = self.kernel()
        blocks = self_blocks(kernel)
        gauge = np.zeros_like(blocks)
        regular = np.zeros(z.shape, dtype=bool)
        for site, block in enumerate(blocks):
            if not block.any():
                continue
            values = np.linalg.eigvalsh(block) if np.isfinite(block).all() else np.zeros(1)
            regular[site] = values[0] > TOLERANCES.epsilon * len(values) * values[-1]
            inverse = np.linalg.inv(np.linalg.cholesky(block)) if regular[site].all() else np.nan
            gauge[site] = inverse
        output = np.einsum("sij,sj->si", gauge, z)
        corrected = np.einsum("sij,sjSk,Slk->siSl", gauge, kernel, gauge)
        return Reference(output, corrected, self.rate(), regular, gauge, z)


def evaluate_reference(
    subject: Subject, instance: Instance, field: Float64 | None = None
) -> Reference:
    """The reference of a subject at an instance; what is undefined shows as inf or nan."""
    seen: list[str] = []
    with np.errstate(all="ignore", under="call", over="call", call=lambda k, _: seen.append(k)):
        found = ReferenceLayer(subject, instance, field).evaluate()
    return replace(found, lost=found.lost or (bool(seen) and not bool(found.regular.all())))


class Shaken(Float64):
    """Float64 in which every operation is off by a relative ±2⁻²⁶, signs drawn from a seed.

    What comes out differs from the plain evaluation by as much as rounding does, enlarged by
    2⁻²⁶/ε: the difference measures how much a formula amplifies rounding, its own cancellations
    included.
    """

    def __init__(self, seed: int) -> None:
        """Draw from a seed."""
        self.rng = np.random.default_rng(seed)

    def shake(self, a: Array) -> Array:
        """Each element times 1 ± 2⁻²⁶."""
        signs = self.rng.choice([-1.0, 1.0], np.shape(a))
        return np.asarray(a * (1 + TOLERANCES.perturbation * signs))

    def add(self, a: Array, b: Array) -> Array:
        """A + b, shaken."""
        return self.shake(super().add(a, b))

    def multiply(self, a: Array, b: Array) -> Array:
        """A times b, shaken."""
        return self.shake(super().multiply(a, b))

    def power(self, base: Array, exponent: sympy.Rational) -> Array:
        """A power, shaken."""
        return self.shake(super().power(base, exponent))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """A sum of shaken terms."""
        return self.shake(super().total(self.shake(a), axes))

    def function(self, node: sympy.Function, arguments: Sequence[Array]) -> Array:
        """A function, shaken."""
        return self.shake(super().function(node, arguments))


def condition(subject: Subject, instance: Instance, at: Reference) -> float:
    """How much the corrected map and its kernel amplify rounding (:class:`Shaken`), at least 1.

    Where one evaluation shows that much is lost, more are made: signs may happen to cancel.
    """
    found = 1.0
    for number in range(1, SHAKES + 1):
        near = evaluate_reference(subject, instance, Shaken(instance.seed + number))
        found = max(found, amplification(at, near))
        if found < SUSPECT:
            break
    return found


def amplification(at: Reference, near: Reference) -> float:
    """The largest relative change of output, kernel and gauge, in units of the perturbation.

    The gauge counts where it is a matrix: L⁻¹ K L⁻ᵀ is 1 for any K, one of rounding errors too.
    """
    found = 0.0
    pairs = [(at.output, near.output), (at.kernel, near.kernel)]
    if at.gauge.ndim > 2:
        pairs.append((at.gauge, near.gauge))
    for here, there in pairs:
        scale = max(float(np.abs(here).max(initial=0.0)), float(np.finfo(np.float64).tiny))
        change = float(np.abs(there - here).max(initial=0.0)) / scale / TOLERANCES.perturbation
        found = max(found, change) if np.isfinite(change) else np.inf
    return found


def tolerance(subject: Subject, instance: Instance, at: Reference) -> float:
    """ε · operations · condition for values of order one."""
    sizes = instance.sizes
    count = program_operations(subject.program, sizes)
    count += operations(subject.derivation.update.kernel, sizes)
    count += operations(subject.correction.gauge, sizes)
    parameters = sum(instance.tensors[t.name].size for t in subject.program.parameters)
    return TOLERANCES.bound(count + parameters, condition(subject, instance, at))
