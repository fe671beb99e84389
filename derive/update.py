"""How one gradient step moves an activation: ∂z/∂θ, the kernel K(s, s') and its self part.

A step Δθ = -η Σ_s' (∂z_s'/∂θ)ᵀ g_s' moves the activation by Δz_s = -η Σ_s' K(s,s') g_s' + O(η²)
with K(s,s') = Σ_θ (∂z_s/∂θ)(∂z_s'/∂θ)ᵀ ("The Affine Divergence", arXiv 2512.22247).

Index legend: unprimed letters belong to the site s and its unit i, primed ones to s' and i'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sympy import Add, Expr, Function, Integer, Mul, Pow, Symbol

from derive.budget import concerning
from derive.errors import DerivationError
from derive.nodes import (
    Contraction,
    Delta,
    Letter,
    MaxOver,
    Read,
    Softmax,
    reads,
    substitute,
)
from derive.normal import contract, expand, inline, normal
from derive.program import Program, Tensor
from derive.rank import witness_parameters


@dataclass(frozen=True)
class Update:
    """The induced update of an activation.

    Attributes:
        program: The layer.
        gradients: Parameter → ∂z_si/∂θ_m, free in the output's letters and in ``axes[parameter]``.
        axes: Parameter → the letters m of its element.
        parts: Parameter → its share of K(s,s'), a sum over that parameter's elements.
        kernel: K(s,s') at units i, i', the sum of the parts.
        self_parts, self_kernel: The same at s' = s.
        affine: Whether z is affine in all parameters jointly: then Δz has no O(η²).
        assumptions: What the contraction relied on, e.g. that a stride is not 0.
    """

    program: Program
    gradients: Mapping[str, Expr]
    axes: Mapping[str, tuple[Letter, ...]]
    parts: Mapping[str, Expr]
    kernel: Expr
    self_parts: Mapping[str, Expr]
    self_kernel: Expr
    affine: bool

    @property
    def interference(self) -> Expr:
        """K(s,s') for s ≠ s': the same expression as the kernel, read off the diagonal."""
        return self.kernel


class Differentiator:
    """Derivatives with respect to a parameter's element θ[m], by the chain rule through lines."""

    def __init__(self, program: Program, parameter: Tensor) -> None:
        """Fix the parameter and the letters m of its element."""
        self.program = program
        self.parameter = parameter
        self.element = tuple(Letter(x.name, x.size, "@") for x in parameter.letters)
        self.of_line: dict[str, Expr] = {}
        self.line = program.output
        for line in program.lines:
            self.line = line
            self.of_line[line.target] = sum_softmax(program, normal(self.of(line.value)))

    def of(self, e: Expr) -> Expr:
        """∂e/∂θ[m].

        Raises:
            DerivationError: If a ``max[...]`` depends on a parameter, or a node has no derivative
                rule.
        """
        if not self.depends(e):
            return Integer(0)
        if isinstance(e, Read):
            return self.of_read(e)
        if isinstance(e, Contraction):
            fresh = {x: x.fresh() for x in e.letters}
            return Contraction(self.of(substitute(e.body, fresh)), *fresh.values())
        if isinstance(e, Softmax):
            return self.of_softmax(e)
        if isinstance(e, MaxOver):
            raise DerivationError(
                "max[...] over something that depends on a parameter has no derivative to build on"
            )
        if isinstance(e, Add):
            return Add(*(self.of(a) for a in e.args))
        if isinstance(e, Mul):
            return Add(
                *(
                    Mul(*(self.of(b) if k == j else b for k, b in enumerate(e.args)))
                    for j in range(len(e.args))
                )
            )
        if isinstance(e, Pow):
            base, exponent = e.args
            if exponent.is_number:
                return exponent * base ** (exponent - 1) * self.of(base)
        if isinstance(e, Function):
            return Add(*(e.fdiff(k + 1) * self.of(a) for k, a in enumerate(e.args)))
        raise DerivationError(f"no rule for the derivative of {type(e).__name__}")

    def of_softmax(self, e: Softmax) -> Expr:
        """a_u (s_u' - Σ_v a_v s_v') for a = softmax(s); a is read off its line if it has one.

        The output is no line to read from: gauges are computed before it.
        """
        score, summed, at = e.args
        bound = summed.fresh()
        own = e == self.line.value and self.line is not self.program.output
        if own and isinstance(at, Letter):
            value = Read(Symbol(self.line.target), *self.line.letters)
        else:
            value = e
        inner = substitute(self.of(score), {summed: bound})
        there = substitute(value, {at: bound}) if value is not e else Softmax(score, summed, bound)
        return value * (substitute(inner, {bound: at}) - Contraction(there * inner, bound))

    def of_read(self, e: Read) -> Expr:
        """δ for the parameter itself, the line's own derivative for an intermediate."""
        if e.tensor == self.parameter.name:
            return Mul(*(Delta(i - m) for i, m in zip(e.indices, self.element, strict=True)))
        line = self.program.line(e.tensor)
        assert line is not None, "what depends on the parameter and is not it is a line"
        return substitute(
            self.of_line[line.target], dict(zip(line.letters, e.indices, strict=True))
        )

    def depends(self, e: Expr) -> bool:
        """Whether e can depend on the parameter."""
        names = {self.parameter.name, *(k for k, v in self.of_line.items() if v != 0)}
        return any(r.tensor in names for r in reads(e))

    @property
    def output(self) -> Expr:
        """∂z/∂θ[m]."""
        return self.of_line[self.program.output.target]


def sum_softmax(program: Program, expression: Expr) -> Expr:
    """Use Σ_u a_u = 1 for every line a = softmax[u](...)."""
    axes = program.softmax_axes
    if not axes:
        return expression
    ones = {}
    for total in expression.atoms(Contraction):
        read = total.body
        if isinstance(read, Read) and read.tensor in axes:
            u = read.indices[axes[read.tensor]]
            if total.letters == (u,) and [i for i in read.indices if i.has(u)] == [u]:
                ones[total] = Integer(1)
    return expand(substitute(expression, ones)) if ones else expression


def prime(expression: Expr, letters: tuple[Letter, ...]) -> Expr:
    """The expression at the second site."""
    return substitute(expression, {x: x.primed for x in letters})


def definitions(program: Program) -> dict[str, tuple[tuple[Letter, ...], Expr]]:
    """Every line's letters and value, for :func:`derive.normal.inline`.

    The output's too: with a factor behind it, it is read like the others.
    """
    return {line.target: (line.letters, line.value) for line in program.lines}


def derive_update(program: Program) -> Update:
    """Derive the induced update of a layer.

    Args:
        program: The resolved layer.

    Returns:
        Gradients, kernel, self-kernel and whether Δz is exact at finite η.

    Raises:
        DerivationError: If a rule is missing or the expressions grow too large.
    """
    letters = program.output.letters
    gradients: dict[str, Expr] = {}
    axes: dict[str, tuple[Letter, ...]] = {}
    parts: dict[str, Expr] = {}
    self_parts: dict[str, Expr] = {}
    at_site = {x.primed: x for x in program.site}
    for parameter in program.parameters:
        with concerning(f"the kernel of `{parameter.name}`"):
            differentiator = Differentiator(program, parameter)
            gradient = differentiator.output
            gradients[parameter.name] = gradient
            axes[parameter.name] = differentiator.element
            product = gradient * prime(gradient, letters)
            bound = {m: m.fresh() for m in differentiator.element}
            part = sum_softmax(program, contract(substitute(product, bound), list(bound.values())))
            parts[parameter.name] = part
            self_parts[parameter.name] = sum_softmax(program, normal(substitute(part, at_site)))
    kernel = Add(*parts.values())
    return Update(
        program,
        gradients,
        axes,
        parts,
        normal(kernel),
        self_parts,
        normal(Add(*self_parts.values())),
        is_affine(program, gradients),
    )


def is_affine(program: Program, gradients: Mapping[str, Expr]) -> bool:
    """Whether z is affine in all parameters jointly, i.e. no gradient depends on a parameter."""
    return not any(depends_on_parameters(program, e) for e in gradients.values())


def depends_on_parameters(program: Program, expression: Expr) -> bool:
    """Whether an expression reads a parameter, also through intermediates, after simplification."""
    if not any(r.tensor in program.dependent for r in reads(expression)):
        return False
    if witness_parameters(program, expression):
        return True
    names = {t.name for t in program.parameters}
    expanded = normal(inline(expression, definitions(program)))
    return any(r.tensor in names for r in reads(expanded))
