"""What a corrected layer should give, in NumPy from the spec and the solved gauge alone.

Nothing here sees generated code. ``z`` and K(s,s') come from :mod:`derive.evaluate`; the gauge is the
solved expression evaluated the same way:

- output and unit gauge: z̃ = λ z, K̃(s,s') = λ(s) K(s,s') λ(s'),
- input map: z̃_s = z_s(μ(s) x), site by site,
- matrix gauge: z̃_s = L⁻¹ z_s with K(s,s) = L Lᵀ, K̃(s,s') = L⁻¹ K(s,s') L'⁻ᵀ.

Where κ(s) = 0 no factor makes K̃(s,s) = c·I; there the factor is 0 by the layer's documented policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from derive.corrections import MU, RADIUS
from derive.evaluate import Evaluator, run_program
from derive.nodes import reads
from verify.instances import Instance
from verify.layout import kernel_by_sites, sites_by_units
from verify.subject import Subject
from verify.tolerances import TOLERANCES, operations, program_operations

Array = np.ndarray[Any, Any]


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
    """

    output: Array
    kernel: Array
    rate: float
    regular: Array
    gauge: Array
    uncorrected: Array

    @property
    def finite(self) -> bool:
        """Whether the layer is defined at this instance at all."""
        arrays = (self.output, self.kernel, self.gauge, self.uncorrected)
        return all(bool(np.isfinite(a).all()) for a in arrays)

    @property
    def ideal(self) -> Array:
        """What K̃(s,s) has to be as (site, unit, unit): c·I at regular sites, the prediction elsewhere."""
        sites, units = self.regular.shape
        wanted = np.tile(self.rate * np.eye(units), (sites, 1, 1))
        predicted = self_blocks(self.kernel)
        keep = self.regular[:, :, None] & self.regular[:, None, :]
        return np.where(keep, wanted, predicted)


def self_blocks(kernel: Array) -> Array:
    """K(s,s) as (site, unit, unit) of a kernel (site, unit, site', unit')."""
    return np.einsum("siSj,sS->sij", kernel, np.eye(kernel.shape[0]))


class ReferenceLayer:
    """Evaluates the reference of one subject at one instance."""

    def __init__(self, subject: Subject, instance: Instance) -> None:
        """Run the uncorrected program once."""
        self.subject = subject
        self.instance = instance
        self.program = subject.program
        self.symbols = {**instance.symbols, RADIUS: instance.radius}
        self.tensors = self.lines(instance.tensors)

    def lines(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs, parameters and every line's value."""
        evaluator = Evaluator(self.instance.sizes, tensors, self.symbols)
        return {**tensors, **run_program(self.program, evaluator)}

    def evaluator(self, tensors: Mapping[str, Array]) -> Evaluator:
        """An evaluator that also knows the lines' values."""
        return Evaluator(self.instance.sizes, tensors, self.symbols)

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
        """Where the gauge's reciprocal is exactly 0, as (sites, units)."""
        letters = self.program.output.letters
        reciprocal = self.evaluator(self.tensors).array(1 / self.subject.correction.gauge, letters)
        return self.by_sites(reciprocal) == 0

    def factor(self, gauge: Array, regular: Array) -> Reference:
        """λ z and λ K λ'."""
        z = self.by_sites(self.tensors[self.program.output.target])
        kernel = self.kernel() * gauge[:, :, None, None] * gauge[None, None, :, :]
        return Reference(gauge * z, kernel, self.rate(), regular, gauge, z)

    def input_map(self, gauge: Array, regular: Array) -> Reference:
        """The program at μ(s) x, a run for every site; K̃ from the re-derived kernel with μ in place."""
        floats = [t.name for t in self.program.inputs if t.kind == "input"]
        z = self.by_sites(self.tensors[self.program.output.target])
        output = np.empty_like(z)
        for site in range(z.shape[0]):
            factor = gauge[site, 0]
            scaled = {k: factor * v if k in floats else v for k, v in self.instance.tensors.items()}
            output[site] = self.uncorrected(scaled)[site]
        return Reference(output, self.rescaled_kernel(gauge), self.rate(), regular, gauge, z)

    def rescaled_kernel(self, gauge: Array) -> Array:
        """The published K̃(s,s') with the solved μ as a tensor."""
        kernel = self.subject.correction.kernel
        letters = self.program.output.letters
        held = next(
            (
                r.indices
                for r in reads(kernel, MU)
                if not any(getattr(i, "mark", "") for i in r.indices)
            ),
            None,
        )
        tensors = dict(self.tensors)
        if held is not None:
            whole = self.evaluator(self.tensors).array(self.subject.correction.gauge, letters)
            axes = tuple(letters.index(x) for x in held)
            rest = tuple(k for k in range(len(letters)) if k not in axes)
            first = np.transpose(whole, (*axes, *rest)).reshape(*(whole.shape[a] for a in axes), -1)
            tensors[MU] = np.where(np.isfinite(first[..., 0]), first[..., 0], 0.0)
        both = (*letters, *(x.primed for x in letters))
        predicted = self.evaluator(tensors).array(kernel, both)
        return kernel_by_sites(predicted, self.program, self.instance.sizes)

    def matrix(self) -> Reference:
        """L⁻¹ z and L⁻¹ K L'⁻ᵀ; Λ = 0 where K(s,s) is not positive definite."""
        z = self.by_sites(self.tensors[self.program.output.target])
        kernel = self.kernel()
        blocks = self_blocks(kernel)
        gauge = np.zeros_like(blocks)
        regular = np.zeros(z.shape, dtype=bool)
        for site, block in enumerate(blocks):
            values = np.linalg.eigvalsh(block)
            if values[0] > TOLERANCES.epsilon * len(values) * abs(values[-1]):
                gauge[site] = np.linalg.inv(np.linalg.cholesky(block))
                regular[site] = True
        output = np.einsum("sij,sj->si", gauge, z)
        corrected = np.einsum("sij,sjSk,Slk->siSl", gauge, kernel, gauge)
        return Reference(output, corrected, self.rate(), regular, gauge, z)


def evaluate_reference(subject: Subject, instance: Instance) -> Reference:
    """The reference of a subject at an instance."""
    with np.errstate(all="ignore"):  # what is undefined shows as inf or nan and is judged as such
        return ReferenceLayer(subject, instance).evaluate()


def condition(subject: Subject, instance: Instance, at: Reference) -> float:
    """How much the corrected map and its kernel amplify a relative change of their inputs, at least 1.

    All real tensors are changed by a relative ±2⁻²⁶, signs drawn from the instance's seed, and the
    change of z̃ and of K̃ is measured against their size.
    """
    step = TOLERANCES.perturbation
    rng = np.random.default_rng(instance.seed + 1)
    tensors = {
        k: v if v.dtype.kind == "i" else v * (1 + step * rng.choice([-1.0, 1.0], v.shape))
        for k, v in instance.tensors.items()
    }
    near = evaluate_reference(subject, replace(instance, tensors=tensors))
    found = 1.0
    for here, there in ((at.output, near.output), (at.kernel, near.kernel)):
        if here.size:
            scale = max(float(np.abs(here).max()), np.finfo(np.float64).tiny)
            found = max(found, float(np.abs(there - here).max()) / scale / step)
    return found


def tolerance(subject: Subject, instance: Instance, at: Reference) -> float:
    """ε · operations · condition for values of order one."""
    sizes = instance.sizes
    count = program_operations(subject.program, sizes)
    count += operations(subject.derivation.update.kernel, sizes)
    count += operations(subject.correction.gauge, sizes)
    parameters = sum(instance.tensors[t.name].size for t in subject.program.parameters)
    return TOLERANCES.bound(count + parameters, condition(subject, instance, at))
