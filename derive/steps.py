"""The numbered steps of a derivation, as statements that every written form shares.

A :class:`Statement` holds words, a formula as text and the same formula as LaTeX; :func:`steps`
goes from the forward map over ∂z/∂θ, K(s,s'), its self part and its class to one step an ansatz.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sympy import Add, Expr, Symbol

from derive.corrections import RATE, Correction
from derive.derivation import Derivation
from derive.formula import Latex, Unicode, formula, grouped, latex, latex_name
from derive.nodes import Delta, Letter, Read
from derive.structure import named, unit_delta

EXACTNESS = {
    "exact": "c = 1 at every finite η",
    "constant-rate": "the true step at learning rate c·η, at every finite η",
    "first-order": "as η → 0 only; what is left over is O(η²)",
    "frozen": "the gauge depends on the parameters and is held fixed during the step",
    "none": "no such correction",
}
MAPS = {
    "output gauge": "z̃ = λ(s) z",
    "input map": "z̃ = z(μ(s) x)",
    "split gauge": "z̃ = λ(s) (varying part) + ν(s) (constant part)",
    "unit gauge": "z̃_i = λ_i(s) z_i",
    "matrix gauge": "z̃ = Λ(s) z",
}
# The left sides of ``Correction.steps``, text and LaTeX.
SIDES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "output gauge": (("κ̃", r"\tilde{\kappa}"), ("λ(s)", r"\lambda(s)"), ("λ(s)", r"\lambda(s)")),
    "unit gauge": (
        ("κ̃_i", r"\tilde{\kappa}_i"),
        ("λ_i(s)", r"\lambda_i(s)"),
        ("λ_i(s)", r"\lambda_i(s)"),
    ),
    "input map": (("κ(μx)", r"\kappa(\mu x)"), ("c", "c"), ("μ(s)", r"\mu(s)")),
}
DEFINITION = "K(s,s') = Σ_θ (∂z_s/∂θ) (∂z_s'/∂θ)ᵀ"
DEFINITION_LATEX = (
    r"K(s,s') = \sum_{\theta} \frac{\partial z_s}{\partial \theta} "
    r"\left(\frac{\partial z_{s'}}{\partial \theta}\right)^{\top}"
)
KAPPA = {
    "isotropic": ("κ(s) I", ("κ(s)", r"\kappa(s)")),
    "diagonal": ("diag κ_i(s)", ("κ_i(s)", r"\kappa_i(s)")),
}


@dataclass(frozen=True)
class Statement:
    """One line: words, then perhaps a formula.

    Attributes:
        words: Plain words.
        text: The formula as Unicode text, or ``""``.
        latex: The formula as LaTeX, or ``""``.
    """

    words: str = ""
    text: str = ""
    latex: str = ""


@dataclass(frozen=True)
class Step:
    """A numbered step.

    Attributes:
        number: Counted from 1.
        title: What the step does.
        statements: Its lines.
        correction: The ansatz that it solves, or ``None``.
    """

    number: int
    title: str
    statements: tuple[Statement, ...]
    correction: Correction | None = None


class Writer:
    """Writes equations of one derivation in both notations."""

    def __init__(self, derivation: Derivation) -> None:
        """Keep the derivation; its output's letters are never lent to bound ones."""
        self.derivation = derivation
        self.program = derivation.program
        self.reserved = tuple(x.name for x in self.program.output.letters)

    def equation(
        self, left: Expr | tuple[str, str], right: Expr, words: str = "", *, norms: bool = False
    ) -> Statement:
        """``left = right``; both sides name their letters alike."""
        texts = []
        for k, notation in enumerate((Unicode, Latex)):
            writer = notation(self.program, self.reserved, norms)
            shown = left[k] if isinstance(left, tuple) else writer.show(left)
            texts.append(f"{shown} = {writer.show(right)}")
        return Statement(words, texts[0], texts[1])

    def derivative(self, parameter: str, axes: tuple[Letter, ...], gradient: Expr) -> Statement:
        """∂z/∂θ at one element of the parameter."""
        output = self.program.output
        above = Read(Symbol(output.target), *output.letters)
        below = Read(Symbol(parameter), *axes)
        text, tex = Unicode(self.program, self.reserved), Latex(self.program, self.reserved)
        value = grouped(gradient)
        left = f"∂{text.show(above)}/∂{text.show(below)}"
        tex_left = rf"\frac{{\partial {tex.show(above)}}}{{\partial {tex.show(below)}}}"
        return Statement("", f"{left} = {text.show(value)}", f"{tex_left} = {tex.show(value)}")

    def plain(self, expr: Expr, *, norms: bool = False) -> tuple[str, str]:
        """An expression as text and as LaTeX."""
        return (
            formula(expr, self.program, unicode=True, norms=norms, reserved=self.reserved),
            latex(expr, self.program, norms=norms, reserved=self.reserved),
        )

    # ------------------------------------------------------------------ from z to K
    def forward(self) -> Iterator[Statement]:
        """The lines of the layer."""
        program = self.program
        site = ", ".join(x.name for x in program.site)
        unit = ", ".join(x.name for x in program.unit) or "none (a scalar activation)"
        names = ", ".join(t.name for t in program.parameters)
        yield Statement(f"Site s: {site}. Unit: {unit}. Parameters: {names}.")
        for line in program.lines:
            yield self.equation(Read(Symbol(line.target), *line.letters), line.value)

    def gradients(self) -> Iterator[Statement]:
        """∂z/∂θ for every parameter."""
        update = self.derivation.update
        for name, gradient in update.gradients.items():
            yield self.derivative(name, update.axes[name], gradient)
        if update.affine:
            yield Statement("No gradient depends on a parameter: z is affine in the parameters.")
        else:
            yield Statement("A gradient depends on a parameter: z is not affine in the parameters.")

    def kernel(self) -> Iterator[Statement]:
        """K(s,s'), by parameter and in total."""
        update = self.derivation.update
        yield Statement("Definition:", DEFINITION, DEFINITION_LATEX)
        if len(update.parts) > 1:
            for k, (name, part) in enumerate(update.parts.items()):
                sides = (f"K_{name}(s,s')", rf"K_{{{latex_name(name)}}}(s,s')")
                yield self.equation(sides, grouped(part), "" if k else "By parameter:")
        words = "In total:" if len(update.parts) > 1 else "Here:"
        yield self.equation(("K(s,s')", "K(s,s')"), grouped(update.kernel), words)

    def parts(self) -> Iterator[Statement]:
        """Self part and interference."""
        update = self.derivation.update
        yield self.equation(("K(s,s)", "K(s,s)"), grouped(update.self_kernel), "At s' = s:")
        separate = separated(update.kernel, self.program.site)
        if len(separate) == len(self.program.site):
            yield Statement("Interference: none, K(s,s') = 0 for s' ≠ s.")
            return
        yield Statement(
            "Interference: K(s,s') of the step before, for s' ≠ s. "
            "No map that looks at one site removes it."
        )
        if separate:
            yield Statement(f"Sites that differ in {', '.join(separate)} do not interfere.")

    def classes(self) -> Iterator[Statement]:
        """The class of K(s,s) and the divergence that follows."""
        structure, update = self.derivation.structure, self.derivation.update
        kappa = structure.kappa
        if structure.kind == "anisotropic":
            yield Statement("K(s,s) is anisotropic: not a multiple of δ in the units.")
            divergence = grouped(update.self_kernel) - unit_delta(self.program.unit)
        else:
            shape, sides = KAPPA[structure.kind]
            words = f"K(s,s) is {structure.kind}, K(s,s) = {shape} with"
            yield self.equation(sides, kappa, words, norms=True)
            if structure.full != kappa and not structure.parameter_dependent:
                written = named(self.program, structure.full)
                yield self.equation(sides, written, "Written out:", norms=True)
            divergence = unit_delta(self.program.unit) * (kappa - 1)
        yield from self.nature()
        rest, rest_tex = ("", "") if update.affine else (" + O(η²)", r" + O(\eta^{2})")
        yield Statement(
            "Induced update:",
            f"Δz_s = -η K(s,s) g_s - η Σ_{{s'≠s}} K(s,s') g_s'{rest}",
            r"\Delta z_s = -\eta \, K(s,s) \, g_s - \eta \sum_{s' \neq s} K(s,s') \, g_{s'}"
            + rest_tex,
        )
        yield Statement("Ideal update:", "Δ*z_s = -η g_s", r"\Delta^{*} z_s = -\eta \, g_s")
        sides = ("K(s,s) - I", "K(s,s) - I")
        yield self.equation(sides, divergence, "Self-divergence:", norms=True)
        order = "exact at every finite η" if update.affine else "first order in η"
        yield Statement(f"The induced update is {order}.")

    def nature(self) -> Iterator[Statement]:
        """What κ depends on."""
        structure = self.derivation.structure
        if structure.constant:
            yield Statement("It is the same for every input and every parameter value.")
        elif structure.parameter_dependent:
            yield Statement("It depends on the parameters.")
        else:
            yield Statement("It depends on the input and not on the parameters.")
        if structure.mean is not None:
            letters, value = structure.mean
            names = ", ".join(x.name for x in letters)
            sides = (f"mean_{names} κ", rf"\operatorname{{mean}}_{{{names}}} \kappa")
            yield self.equation(sides, value, f"Only its mean over {names} is constant:")
        if structure.vanishing:
            yield Statement(f"{structure.vanishing}.")
        if self.derivation.nothing_to_correct:
            yield Statement("K(s,s) = I already: there is nothing to correct.")

    # ------------------------------------------------------------------ corrections
    def correction(self, c: Correction) -> Iterator[Statement]:
        """One ansatz: equation, solution and what it is worth; or why there is none."""
        if not c.applies:
            yield Statement(f"Does not apply: {c.reason}.")
            return
        yield from self.solution(c)
        if c.rate is not None and c.ansatz != "split gauge":
            words = f"Rate of K̃(s,s) = c I; {c.exactness}: {EXACTNESS[c.exactness]}."
            yield self.equation(("c", "c"), c.rate, words)
        else:
            yield Statement(f"Exactness {c.exactness}: {EXACTNESS[c.exactness]}.")
        if c.reason:
            yield Statement(f"{c.reason[0].upper()}{c.reason[1:]}.")
        if c.kernel is not None:
            sides = ("K̃(s,s')", r"\tilde{K}(s,s')")
            words = "Corrected kernel, interference included:"
            yield self.equation(sides, grouped(c.kernel), words)
        for name, gauges in c.members.items():
            texts = [self.assignment(k, v) for k, v in gauges.items()]
            listed = ", ".join(text for text, _ in texts)
            yield Statement(f"Member {name}:", listed, r", \quad ".join(tex for _, tex in texts))
        if c.side is not None:
            yield Statement(
                f"Unchanged by scaling the input: {yes(c.side.scale_invariant)}. "
                f"Smooth at zero input: {yes(c.side.smooth_at_zero)}. "
                f"Free of the parameters: {yes(c.side.parameter_free)}. "
                f"Degrees of freedom of the input lost: {c.side.freedom_lost}."
            )

    def solution(self, c: Correction) -> Iterator[Statement]:
        """Equation and solution."""
        if c.ansatz == "matrix gauge":
            tex = r"\Lambda \, K(s,s) \, \Lambda^{\top} = c \, I"
            yield Statement("Equation:", "Λ K(s,s) Λᵀ = c I", tex)
            yield Statement(
                "K(s,s) is positive definite; with its Cholesky factor L:",
                "K(s,s) = L Lᵀ, Λ = L⁻¹",
                r"K(s,s) = L \, L^{\top}, \quad \Lambda = L^{-1}",
            )
            return
        if c.ansatz == "split gauge":
            if c.equation is not None:
                balance = Add(c.equation, Symbol(RATE, positive=True))
                text, tex = self.plain(balance, norms=True)
                yield Statement("Equation:", f"{text} = c", f"{tex} = c")
            if c.gauge is not None:
                sides = ("λ(s)", r"\lambda(s)")
                yield self.equation(sides, c.gauge, "Solution, ν and c free:", norms=True)
            return
        for (words, value), sides in zip(c.steps, SIDES[c.ansatz], strict=True):
            yield self.equation(sides, value, f"{words[0].upper()}{words[1:]}:", norms=True)
        if c.terms and c.gauge is not None:
            corrected = Add(*(c.gauge**degree * part for degree, part in c.terms))
            output = Read(Symbol("z̃"), *self.program.output.letters)
            yield self.equation(output, corrected, "The corrected layer:", norms=True)

    def assignment(self, name: str, value: Expr) -> tuple[str, str]:
        """``λ = ...`` as text and LaTeX."""
        text, tex = self.plain(value, norms=True)
        return f"{name} = {text}", f"{latex_name(name)} = {tex}"


def yes(value: bool) -> str:
    """``yes`` or ``no``."""
    return "yes" if value else "no"


def separated(kernel: Expr, site: tuple[Letter, ...]) -> list[str]:
    """The site letters whose δ stands in every term of K(s,s')."""
    terms = [t.args if t.is_Mul else (t,) for t in Add.make_args(kernel)]
    return [x.name for x in site if all(Delta(x - x.primed) in term for term in terms)]


def steps(derivation: Derivation) -> tuple[Step, ...]:
    """All steps of a derivation, numbered from 1."""
    write = Writer(derivation)
    found: list[tuple[str, tuple[Statement, ...], Correction | None]] = [
        ("Forward map", tuple(write.forward()), None),
        ("Gradient of z with respect to each parameter", tuple(write.gradients()), None),
        ("Kernel K(s,s')", tuple(write.kernel()), None),
        ("Self part and interference", tuple(write.parts()), None),
        ("Class and divergence", tuple(write.classes()), None),
    ]
    for c in derivation.corrections:
        title = f"{c.ansatz[0].upper()}{c.ansatz[1:]}: {MAPS[c.ansatz]}"
        found.append((title, tuple(write.correction(c)), c))
    return tuple(Step(k, *entry) for k, entry in enumerate(found, start=1))
