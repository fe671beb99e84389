"""The exact stage: derived and measured kernels agree modulo a prime, with no rounding to hide in.

Numbers are drawn modulo p = 2⁶¹ - 1. The *measured* K(s,s') is the product of derivatives that dual
numbers propagate through the program's lines; the *predicted* one is the derived expression,
evaluated. They must be the same residues, at s' = s and for the interference, and so must

- λ²κ and c for an output or unit gauge,
- the measured self-kernel of the program at inputs μ(s) x and c·I for an input map, site by site,
- Λ⁻¹ Λ⁻ᵀ and K(s,s) for a matrix gauge, in the square-root-free form K = L D Lᵀ.

An identity of rational functions that is wrong for some numbers, and whose difference has degree at
most d, is wrong for a random choice with probability at least 1 - d/p (Schwartz-Zippel). Drawing
again until every radicand is a square conditions the choice, which costs a factor of the number of
draws.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from derive.corrections import RADIUS
from derive.evaluate import Evaluator, run_program
from derive.functions import gelu
from derive.nodes import Softmax
from derive.program import Program
from verify.degree import degree_bound, exponent_degree
from verify.dual import Dual, DualArithmetic
from verify.instances import EXACT, Instance, sample
from verify.interpret import Interpreter
from verify.layout import kernel_by_sites, site_count, sites_by_units
from verify.modular import PRIME, SHADOW_PRIMES, NonResidue, Prime, Singular
from verify.results import VerificationError
from verify.stage import Place, Record, Settings
from verify.subject import Subject
from verify.tolerances import TOLERANCES

Array = np.ndarray[Any, Any]
KINDS = ("varied", "equal sizes", "one site", "varied")
DRAWS = 3000
# A division by 0 has chance 1/p; after this many in a row the sizes themselves are singular.
SINGULAR_DRAWS = 6


@dataclass(frozen=True)
class Point:
    """An instance with residues in place of reals, and every line's value."""

    instance: Instance
    field: Prime
    symbols: dict[str, Any]
    tensors: dict[str, Array]

    def array(self, expression: sympy.Expr, letters: Sequence[Any]) -> Array:
        """A derived expression's residues modulo PRIME."""
        evaluator = Evaluator(self.instance.sizes, self.tensors, self.symbols, self.field)
        return np.asarray(evaluator.array(expression, letters) % PRIME, dtype=object)


def has_exponents(subject: Subject) -> bool:
    """Whether exp can occur, also in a derivative, so that shadows are needed."""
    values = [line.value for line in subject.program.lines]
    return any(v.atoms(sympy.exp, sympy.erf, gelu, Softmax) for v in values)


def draw_point(subject: Subject, instance: Instance, attempt: int, gauge: bool) -> Point:
    """Residues for inputs, parameters, real hyperparameters and the radius.

    Raises:
        NonResidue: If a radicand in the program or in the gauge is no square.
    """
    program = subject.program
    rng = random.Random(instance.seed * DRAWS + attempt)
    field = Prime(rng.getrandbits(64), shadow=has_exponents(subject))
    tensors: dict[str, Array] = {}
    for tensor in (*program.inputs, *program.parameters):
        given = instance.tensors[tensor.name]
        if tensor.kind == "token":
            tensors[tensor.name] = given
            continue
        values = [rng.randrange(1, field.modulus) for _ in range(given.size)]
        tensors[tensor.name] = np.array(values, dtype=object).reshape(given.shape)
    symbols = {
        k: rng.randrange(1, field.modulus) if isinstance(v, float) else v
        for k, v in instance.symbols.items()
    }
    # A square, so that √(radius²) = radius as for a positive number.
    symbols[RADIUS] = pow(rng.randrange(1, field.modulus), 2, field.modulus)
    evaluator = Evaluator(instance.sizes, tensors, symbols, field)
    point = Point(instance, field, symbols, {**tensors, **run_program(program, evaluator)})
    if gauge and subject.correction.ansatz != "matrix gauge":
        point.array(subject.correction.gauge, program.output.letters)
    return point


def measured_kernel(program: Program, point: Point, scale: int = 1) -> Array:
    """K(s,s') by dual numbers, as (site, unit, site', unit'); real inputs times ``scale``.

    Raises:
        VerificationError: If the output depends on no parameter.
    """
    arithmetic = DualArithmetic(point.field)
    sizes = point.instance.sizes
    count = sum(point.tensors[t.name].size for t in program.parameters)
    tensors: dict[str, Any] = {}
    offset = 0
    for tensor in program.inputs:
        value = point.tensors[tensor.name]
        real = tensor.kind == "input"
        tensors[tensor.name] = arithmetic.constant(value * scale) if real else value
    for tensor in program.parameters:
        value = point.tensors[tensor.name]
        tangent = np.zeros((count, value.size), dtype=object)
        for k in range(value.size):
            tangent[offset + k, k] = 1
        offset += value.size
        tensors[tensor.name] = Dual(value, tangent.reshape(count, *value.shape))
    output: Dual = Interpreter(sizes, point.symbols, tensors, arithmetic).run(program)
    if output.tangent is None:
        raise VerificationError("the output depends on no parameter")
    flat = output.tangent.reshape(count, -1) % PRIME
    shape = tuple(sizes[x.size] for x in program.output.letters)
    return kernel_by_sites((flat.T.dot(flat) % PRIME).reshape(shape + shape), program, sizes)


def predicted_kernel(subject: Subject, point: Point) -> Array:
    """The derived K(s,s') as (site, unit, site', unit')."""
    letters = subject.program.output.letters
    both = (*letters, *(x.primed for x in letters))
    predicted = point.array(subject.derivation.update.kernel, both)
    return kernel_by_sites(predicted, subject.program, point.instance.sizes)


def blocks_of(kernel: Array) -> Array:
    """K(s,s) as (site, unit, unit)."""
    return np.stack([kernel[s, :, s, :] for s in range(kernel.shape[0])])


def times_identity(diagonal: Array) -> Array:
    """(site, unit) → (site, unit, unit)."""
    return np.asarray(
        diagonal[:, :, None] * np.eye(diagonal.shape[1], dtype=np.int64).astype(object)
    )


def same(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same residues."""
    return a.shape == b.shape and bool(((a - b) % PRIME == 0).all())


def check_gauge(subject: Subject, point: Point, measured: Array) -> str:
    """What the gauge has to satisfy; the reason if it does not, else ``""``."""
    program, correction = subject.program, subject.correction
    sizes = point.instance.sizes
    if correction.ansatz == "matrix gauge":
        return "" if factors(blocks_of(measured)) else "K(s,s) has no factorisation L D Lᵀ"
    gauge = sites_by_units(point.array(correction.gauge, program.output.letters), program, sizes)
    rate = int(point.array(correction.rate, ())[()])
    wanted = times_identity(np.full(gauge.shape, rate, dtype=object))
    if correction.ansatz == "input map":
        for site in range(site_count(program, sizes)):
            kernel = measured_kernel(program, point, int(gauge[site, 0]))
            if not same(blocks_of(kernel)[site], wanted[site]):
                return f"K at μ(s) x is not c·I at site {site}"
        return ""
    corrected = blocks_of(measured) * gauge[:, :, None] * gauge[:, None, :]
    return "" if same(corrected, wanted) else "λ² K(s,s) is not c·I"


def factors(blocks: Array) -> bool:
    """Whether K = L D Lᵀ by elimination without pivoting gives K back, for every block.

    Raises:
        Singular: If a pivot is 0.
    """
    for block in blocks:
        size = block.shape[0]
        lower = np.eye(size, dtype=np.int64).astype(object)
        rest = block.copy() % PRIME
        pivots = []
        for k in range(size):
            pivot = int(rest[k, k])
            if pivot == 0:
                raise Singular("a pivot is 0")
            pivots.append(pivot)
            lower[:, k] = (
                np.where(np.arange(size) >= k, rest[:, k] * pow(pivot, -1, PRIME), 0) % PRIME
            )
            rest = (rest - pivot * np.outer(lower[:, k], lower[:, k])) % PRIME
        if not same((lower * np.array(pivots, dtype=object)).dot(lower.T), block):
            return False
    return True


def judge_point(subject: Subject, point: Point, gauge: bool) -> str:
    """Every identity at one point; the reason of the first that fails, else ``""``."""
    program, derivation = subject.program, subject.derivation
    measured = measured_kernel(program, point)
    if not same(measured, predicted_kernel(subject, point)):
        return "the derived K(s,s') is not the measured one"
    unit = program.unit
    letters = (*program.site, *unit, *(x.primed for x in unit))
    derived = point.array(derivation.update.self_kernel, letters)
    blocks = blocks_of(measured)
    if not same(derived.reshape(blocks.shape), blocks):
        return "the derived K(s,s) is not the measured one"
    structure = derivation.structure
    if structure.kind != "anisotropic":
        for kappa in (structure.kappa, structure.full):
            value = sites_by_units(
                point.array(kappa, program.output.letters), program, point.instance.sizes
            )
            if not same(times_identity(value), blocks):
                return f"K(s,s) is not δ κ with κ = {kappa}"
    return check_gauge(subject, point, measured) if gauge else ""


def judge_instance(subject: Subject, instance: Instance, gauge: bool) -> tuple[str, int, int]:
    """Draw residues until every radicand is a square, and judge K, κ and, if wanted, the gauge.

    Returns:
        The reason of a failure or ``""``, how many draws it took, and how many radicands.

    Raises:
        Singular: If the layer has no gauge at these sizes, a size that stands under a root is no
            square modulo p, whatever is drawn, or so many roots are needed that no draw has all.
    """
    singular = 0
    seen: set[int] = set()
    for attempt in range(DRAWS):
        try:
            point = draw_point(subject, instance, attempt, gauge)
            reason = judge_point(subject, point, gauge)
        except Singular:
            singular += 1
            if singular == SINGULAR_DRAWS:
                raise
            continue
        except NonResidue as error:
            if error.radicand in seen:
                raise Singular(f"{error}, whatever is drawn") from error
            seen.add(error.radicand)
            continue
        if reason and point.field.tainted:
            continue
        return reason, attempt + 1, len(point.field.roots)
    raise Singular(f"no residues of {DRAWS} draws give every root at these sizes")


def bits(subject: Subject, instance: Instance, draws: int, roots: int) -> float:
    """-log2 of a bound of the chance that a wrong identity passes at one instance.

    A difference of degree d in the numbers drawn, which holds R independent roots, has a norm of
    degree d 2^R. Where formulas hold exp, two different exponents of degree e may agree in the
    shadow, with chance at most Π min(1, e/q) over its primes q.
    """
    chance = math.log2(PRIME) - math.log2(degree_bound(subject, instance.sizes)) - roots
    if has_exponents(subject):
        exponent = exponent_degree(subject, instance.sizes)
        shadow = sum(max(0.0, math.log2(q / exponent)) for q in SHADOW_PRIMES)
        chance = min(chance, shadow) - 1
    return max(0.0, chance - math.log2(draws))


def judge_subject(subject: Subject, settings: Settings, record: Record) -> tuple[float, float]:
    """Judge as many instances as wanted, or more where each of them proves little.

    Sizes at which the layer is singular are passed over.

    Returns:
        The bits of the weakest instance and of all together.

    Raises:
        VerificationError: If too few sizes are regular.
    """
    wanted = max(2, settings.instances // 2)
    found: list[float] = []
    drawn = sample(subject.derivation, 4 * wanted, settings.seed, kinds=KINDS, limits=EXACT)
    if settings.pinned is not None:
        wanted, drawn = 1, [settings.pinned]
    for gauge in (True, False):
        for instance in drawn:
            try:
                reason, draws, roots = judge_instance(subject, instance, gauge)
            except Singular:
                record.note("passed over sizes that are singular or have no root")
                continue
            if not gauge:
                # A window that is empty at some site of every size, or an odd root: the symbolic
                # and the numeric stage judge the gauge there, this one K and κ.
                record.note("the gauge has no value modulo p at any size: K and κ alone")
            record.instances += 1
            record.judge(1.0 if reason else 0.0, 0.0, reason, Place(subject, instance))
            found.append(bits(subject, instance, draws, roots))
            if len(found) >= wanted and sum(found) >= TOLERANCES.exact_bits:
                return min(found), sum(found)
        if len(found) >= wanted:
            return min(found), sum(found)
    raise VerificationError(
        f"only {len(found)} of {wanted} instances of {subject.name} are regular"
    )


def exact_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Kernel, self-kernel, κ and gauge at random small sizes, modulo the prime."""
    found = [judge_subject(subject, settings, record) for subject in variants]
    least, total = (min(values) for values in zip(*found, strict=True))
    short = max(0.0, TOLERANCES.exact_bits - total)
    record.judge(short, 0.0, f"the chance of error is 2^-{total:.0f} only")
    record.note(
        f"identities hold modulo 2^61 - 1; a wrong one passes an instance with chance below "
        f"2^-{least:.0f}, all of them below 2^-{total:.0f}"
    )
