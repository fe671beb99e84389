"""The backward pass of a corrected layer, derived, in the form that keeps the fewest tensors.

A corrected output is z̃ = σ A + B with a scale σ = c κᵉ of the site, a part A that it scales and a
part B that it does not. With g = ∂L/∂z̃, u = σ g and a = Σ_i u_i A_i, every tensor T that the output
line reads has the gradient

    ∂L/∂T = Σ u ∂A/∂T + Σ g ∂B/∂T + Σ_s e a_s (∂κ_s/∂T) / κ_s,    1/κ = (σ/c)^(-1/e),

whose derivatives and sums come from the same rules as the kernel. A itself need not be kept for
``a`` where A is homogeneous of degree p in a tensor x that each site has to itself: by Euler's
identity Σ_i u_i A_i = Σ_j x_j h_j / p + Σ_i u_i R_i, h = Σ u ∂A/∂x being a part of ∂L/∂x anyway and
R what of A does not depend on x. A window shares x among sites, so there A is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Add, Expr, Integer, Mul, Pow, Symbol

from derive.correction import Correction
from derive.errors import DerivationError
from derive.extended import scale_reads
from derive.nodes import Contraction, Delta, Letter, Read, reads, substitute, tensors
from derive.normal import contract, expand, inline, normal
from derive.program import Program
from derive.roots import powers_of, vanishes
from derive.update import Differentiator

NAMES = UPSTREAM, SCALE, ADJOINT, LOCAL, INNER = "grad", "scale", "u", "h", "a"


@dataclass(frozen=True)
class Step:
    """``name[letters] = value``, a named value of the backward pass."""

    name: str
    letters: tuple[Letter, ...]
    value: Expr

    @property
    def read(self) -> Read:
        """The value at its own letters."""
        return Read(Symbol(self.name), *self.letters)


@dataclass(frozen=True)
class Gradients:
    """The gradients of a corrected layer by everything that its output line reads.

    Attributes:
        sources: The inputs and intermediates that the output line and the gauge read, in order.
        parameters: The parameters that they read, in order.
        upstream: ∂L/∂z̃ as a read.
        scale: The scale σ of the part that is scaled, and its formula.
        kept: The part A of the output if the backward pass reads it, else ``None``.
        steps: What several gradients share, in order.
        of: Tensor → ∂L/∂T in terms of the tensors, the scale, the steps and the upstream gradient.
    """

    sources: tuple[str, ...]
    parameters: tuple[str, ...]
    upstream: Read
    scale: Step
    kept: Step | None
    steps: tuple[Step, ...]
    of: Mapping[str, Step]


def derive_gradients(program: Program, correction: Correction) -> Gradients:
    """Derive the backward pass of a corrected layer.

    Args:
        program: The layer.
        correction: An output gauge, unit gauge or input map of it.

    Raises:
        DerivationError: If the corrected map is not of the form σ A + B with one power σ = c κᵉ,
            or a derivative is not known.
    """
    return _Deriver(program, correction).gradients()


class _Deriver:
    """Derives the gradients of one corrected layer."""

    def __init__(self, program: Program, correction: Correction) -> None:
        """Split the corrected output into σ A + B, and σ into c κᵉ."""
        self.letters = program.output.letters
        # The lines before the last hand their values on, like inputs.
        self.program = replace(program, lines=(program.output,))
        self.names = _names(program)
        self.scaled, self.fixed, scale = _split(correction)
        self.frozen = correction.frozen
        self.factor, self.kappa, self.exponent = _power_of_kappa(scale)
        held = [x for x in self.letters if x in scale.free_symbols]
        self.site = tuple(held)
        self.scale = Step(self.names[SCALE], self.site, scale)
        self.upstream = Read(Symbol(self.names[UPSTREAM]), *self.letters)
        self.adjoint = Step(self.names[ADJOINT], self.letters, self.scale.read * self.upstream)

    def gradients(self) -> Gradients:
        """All gradients, and what they share."""
        found = tensors(self.scaled) | tensors(self.fixed) | tensors(self.kappa)
        parameters = [t.name for t in self.program.parameters if t.name in found]
        sources = [n for n in self.program.tensors if n in found and n not in parameters]
        if any(self.program.tensors[n].kind == "token" for n in sources):
            raise DerivationError("a tensor of integers has no gradient")
        direct = {name: self.direct(name) for name in (*sources, *parameters)}
        steps, kept = [self.adjoint], None
        indirect = {name: self.indirect(name) for name in sources}
        if any(value != 0 for value in indirect.values()):
            source, inner, kept = self.inner(direct, sources)
            local = Step(self.names[LOCAL], self.own(source), direct[source])
            steps += [local, inner]
            direct[source] = local.read
        gradients = {
            name: Step(f"d{name}", self.own(name), expand(direct[name] + indirect.get(name, 0)))
            for name in direct
        }
        return Gradients(
            tuple(sources),
            tuple(parameters),
            self.upstream,
            self.scale,
            kept,
            tuple(steps),
            gradients,
        )

    def own(self, name: str) -> tuple[Letter, ...]:
        """The letters of a tensor's element."""
        return self.program.tensors[name].letters

    # ------------------------------------------------------------------ the three terms
    def direct(self, name: str) -> Expr:
        """Σ u ∂A/∂T + Σ g ∂B/∂T."""
        return expand(
            self.summed(self.adjoint.read, self.scaled, name, self.letters)
            + self.summed(self.upstream, self.fixed, name, self.letters)
        )

    def indirect(self, name: str) -> Expr:
        """Σ_s e a_s (∂κ_s/∂T)/κ_s."""
        if self.frozen:
            return Integer(0)
        inner = Read(Symbol(self.names[INNER]), *self.site)
        inverse = (self.scale.read / self.factor) ** (-1 / self.exponent)
        return self.summed(self.exponent * inverse * inner, self.kappa, name, self.site)

    def summed(self, weight: Expr, e: Expr, name: str, letters: tuple[Letter, ...]) -> Expr:
        """Σ over letters of weight · ∂e/∂T[m], at m named as T's own letters."""
        return pullback(self.program, weight, e, name, letters)

    # ------------------------------------------------------------------ Σ_i u_i A_i
    def inner(
        self, direct: Mapping[str, Expr], sources: list[str]
    ) -> tuple[str, Step, Step | None]:
        """The source whose direct part gets a name, ``a``, and the part A if it is kept."""
        name = self.names[INNER]
        units = [x for x in self.letters if x not in self.site]
        for source in sources:
            value = self.by_homogeneity(source, direct[source], units)
            if value is not None:
                return source, Step(name, self.site, value), None
        kept = Step(self.program.output.target, self.letters, self.scaled)
        fresh = {x: x.fresh() for x in units}
        body = substitute(self.adjoint.read * kept.read, fresh)
        return sources[0], Step(name, self.site, contract(body, list(fresh.values()))), kept

    def by_homogeneity(self, source: str, local: Expr, units: list[Letter]) -> Expr | None:
        """``a`` by Euler's identity in one tensor, shown equal to Σ_i u_i A_i; else ``None``.

        It is another sum where sites share the tensor.
        """
        scaling = Symbol("t", positive=True)
        powers = powers_of(normal(scale_reads(self.scaled, scaling, (source,))), scaling) or {}
        degrees = [d for d in powers if d > 0]
        if not units or len(degrees) != 1:
            return None
        (degree,) = degrees
        own = self.own(source)
        step = Step(self.names[LOCAL], own, local)
        x = Read(Symbol(source), *own)
        along = {letter: letter.fresh() for letter in own if letter not in self.site}
        across = {letter: letter.fresh() for letter in units}
        rest = substitute(self.adjoint.read * powers.get(0, 0), across)
        value = expand(
            contract(substitute(x * step.read / degree, along), list(along.values()))
            + contract(rest, list(across.values()))
        )
        whole = contract(
            normal(substitute(self.adjoint.read * self.scaled, across)), list(across.values())
        )
        written = inline(value, {step.name: (own, local)})
        return value if vanishes(normal(written) - whole) else None


def pullback(
    program: Program, weight: Expr, e: Expr, name: str, letters: tuple[Letter, ...]
) -> Expr:
    """Σ over letters of weight · ∂e/∂T[m], at m named as T's own letters.

    Args:
        program: The layer, its intermediate lines read like inputs.
        weight: What the derivative is summed with.
        e: An expression in the letters.
        name: The tensor T.
        letters: The letters to sum over.
    """
    if not reads(e, name):
        return Integer(0)
    rules = Differentiator(program, program.tensors[name])
    own = program.tensors[name].letters
    fresh = {x: x.fresh() for x in letters}
    body = substitute(normal(weight * rules.of(e)), fresh)
    at = dict(zip(rules.element, own, strict=True))
    total = normal(contract(substitute(body, at), list(fresh.values())))
    return normal(_on_support(total, name, own))


def _names(program: Program) -> dict[str, str]:
    """The names of the backward pass, apart from those of the layer's tensors."""
    spec = program.spec
    taken = {*program.tensors, *program.letters, *program.arguments, *spec.hyperparameters}
    taken |= {*spec.parameters, *(p.torch for p in spec.parameters.values())}
    found: dict[str, str] = {}
    for wanted in NAMES:
        numbered = (f"{wanted}{k}" for k in itertools.count(2))
        found[wanted] = next(n for n in itertools.chain([wanted], numbered) if n not in taken)
    return found


def _split(correction: Correction) -> tuple[Expr, Expr, Expr]:
    """A, B and σ of a corrected output σ A + B."""
    scaled = [(degree, part) for degree, part in correction.terms if degree and part != 0]
    fixed = Add(*(part for degree, part in correction.terms if not degree))
    if correction.gauge is None or len(scaled) != 1:
        raise DerivationError("the output is not one scaled part and one that is not scaled")
    ((degree, part),) = scaled
    return part, fixed, correction.gauge**degree


def _power_of_kappa(scale: Expr) -> tuple[Expr, Expr, Expr]:
    """σ = c κᵉ as (c, κ, e).

    Raises:
        DerivationError: If several powers vary, or none does.
    """
    match [f for f in Mul.make_args(scale) if reads(f)]:
        case [Pow(args=(kappa, exponent)) as power] if exponent.is_Rational:
            return scale / power, kappa, exponent
    raise DerivationError("the gauge is not a constant times one power")


def _on_support(e: Expr, name: str, own: tuple[Letter, ...]) -> Expr:
    """T[f] as T[m] wherever a factor [f = m] stands beside it, so that it leaves the sum."""
    if isinstance(e, Contraction):
        factors = Mul.make_args(e.body)
        equal = {}
        for read in reads(e.body, name):
            pairs = zip(read.indices, own, strict=True)
            indices = [m if Delta(i - m) in factors else i for i, m in pairs]
            equal[read] = Read(Symbol(name), *indices)
        return Contraction(substitute(e.body, equal), *e.letters)
    if isinstance(e, Add | Mul):
        return e.func(*(_on_support(a, name, own) for a in e.args))
    return e
