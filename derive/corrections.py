"""The five ansätze of design §2: set up as equations, solved, re-substituted and re-derived.

A correction is a map z̃ built from the layer with K̃(s,s) = c·I for every input. Each ansatz puts an
unknown into the forward map, sends the result through the same derivation as any layer, and solves
the equation that comes out; no solution is written down here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import sympy
from sympy import Add, Expr, Integer, Mul, Symbol

from derive.errors import DerivationError
from derive.formula import formula
from derive.nodes import BINDERS, Letter, Read, reads, substitute
from derive.normal import cancel, expand, inline, normal
from derive.program import Line, Program, Tensor
from derive.rank import generic_rank, unchanged_by_scale
from derive.squares import complete_squares
from derive.structure import (
    Structure,
    at_zero_input,
    is_diagonal,
    is_positive_sum,
    on_diagonal,
)
from derive.update import Update, definitions, depends_on_parameters, derive_update

ANSATZE = ("output gauge", "input map", "split gauge", "unit gauge", "matrix gauge")
NO_CLOSED_FORM = "κ(μx) = c has no closed form: the input stands inside a function or a denominator"
Definitions = Mapping[str, tuple[tuple[Letter, ...], Expr]]
LAMBDA, MU, NU, RATE, RADIUS = "λ", "μ", "ν", "c", "radius"


@dataclass(frozen=True)
class SideConditions:
    """What a correction costs and keeps.

    Attributes:
        scale_invariant: Whether x → t·x (t > 0) leaves z̃ as it is.
        smooth_at_zero: Whether the gauge is smooth where all inputs are 0.
        parameter_free: Whether the gauge is free of the parameters.
        freedom_lost: Degrees of freedom of the input that z̃ cannot see any more.
    """

    scale_invariant: bool
    smooth_at_zero: bool
    parameter_free: bool
    freedom_lost: int


@dataclass(frozen=True)
class Correction:
    """One ansatz, solved or refused.

    Attributes:
        ansatz: One of :data:`ANSATZE`.
        applies: Whether a corrected map came out.
        reason: Why not, or in what sense.
        unknown: The unknown as shown, e.g. ``λ(s)``.
        equation: What had to vanish.
        gauge: The solved unknown: λ, μ, λ_i, or for the matrix gauge the kernel K to be factored.
        rate: c, with K̃(s,s) = c·I.
        exactness: ``exact``, ``constant-rate``, ``first-order``, ``frozen`` or ``none``.
        terms: The corrected output as Σ gauge**degree · value, where the ansatz scales terms apart.
        kernel: The corrected kernel K̃(s,s'), interference included.
        side: The side conditions.
        members: For a family: name → the gauges of that member.
        steps: How it was found, ``(text, expression)`` pairs.
    """

    ansatz: str
    applies: bool
    reason: str
    unknown: str = ""
    equation: Expr | None = None
    gauge: Expr | None = None
    rate: Expr | None = None
    exactness: str = "none"
    terms: tuple[tuple[int, Expr], ...] = ()
    kernel: Expr | None = None
    side: SideConditions | None = None
    members: Mapping[str, Mapping[str, Expr]] = field(default_factory=dict)
    steps: tuple[tuple[str, Expr], ...] = ()

    @property
    def frozen(self) -> bool:
        """Whether the gauge depends on the parameters and is held fixed during a step."""
        return self.exactness == "frozen"


# ---------------------------------------------------------------------- solving
def hide_atoms(expression: Expr, keep: set[Expr]) -> tuple[Expr, dict[Expr, Expr]]:
    """Replace every atom but those in ``keep`` by a symbol, positive where the atom is ≥ 0."""
    atoms: dict[Expr, Expr] = {}

    def hide(node: Expr) -> Expr:
        if node in keep or node.is_number:
            return node
        if isinstance(node, Add | Mul):
            return node.func(*(hide(a) for a in node.args))
        if isinstance(node, sympy.Pow) and node.exp.is_Rational:
            return hide(node.base) ** node.exp
        sign = {"positive": True} if node.is_nonnegative else {"real": True}
        return atoms.setdefault(node, sympy.Dummy(f"a{len(atoms)}", **sign))

    return hide(expression), {v: k for k, v in atoms.items()}


def solve_positive(equation: Expr, unknown: Symbol) -> Expr:
    """The positive root of a polynomial ``equation`` = 0 in ``unknown``, re-substituted.

    Each coefficient is handed to SymPy as one symbol whose sign is read off the coefficient; a sign
    that cannot be read off leaves a real symbol. What comes back is believed only after it went into
    the equation again.

    Raises:
        DerivationError: If the equation is no polynomial, no root is positive, or the root is wrong.
    """
    coefficients = powers_of(equation, unknown)
    if coefficients is None:
        raise DerivationError(f"{equation} = 0 is no polynomial equation for {unknown}")
    shape = []
    for degree, coefficient in sorted(coefficients.items()):
        sign = -1 if is_positive_sum(-coefficient) else 1
        # A coefficient of λ² or μ² is itself the diagonal of a Gram matrix, so it is not negative.
        known = degree > 0 or sign == -1 or is_positive_sum(coefficient)
        shape.append((degree, sign, known))
    roots = positive_roots(tuple(shape), unknown)
    if len(roots) != 1:
        raise DerivationError(f"{len(roots)} positive roots of {equation} = 0 for {unknown}")
    names = {_coefficient(d, known): sign * coefficients[d] for d, sign, known in shape}
    root = roots[0].xreplace(names)
    if not vanishes(equation.xreplace({unknown: root})):
        raise DerivationError(f"the root {root} does not solve {equation} = 0")
    return root


def _coefficient(degree: int, known: bool) -> Symbol:
    assumptions = {"positive": True} if known else {"real": True}
    return Symbol(f"a{degree}", **assumptions)


@functools.cache
def positive_roots(shape: tuple[tuple[int, int, bool], ...], unknown: Symbol) -> list[Expr]:
    """Positive roots of Σ ± a_d unknown^d, an entry ``(d, sign, a_d is positive)`` a term."""
    names = [_coefficient(d, known) for d, _, known in shape]
    equation = Add(*(s * a * unknown**d for a, (d, s, _) in zip(names, shape, strict=True)))
    samples = {a: sympy.Rational(3 if a.is_positive else -7, 5) for a in names}
    return [r for r in sympy.solve(equation, unknown) if r.xreplace(samples).is_positive]


def vanishes(expression: Expr) -> bool:
    """Whether an expression is 0 after cancelling; a miss counts as no."""
    return bool(cancel(normal(expression)) == 0)


# ---------------------------------------------------------------------- extended programs
def with_line(
    program: Program, name: str, letters: tuple[Letter, ...], value: Expr, output: Expr
) -> Program:
    """The program with a gauge line (or, for ``value=None``, a gauge input) and a new output."""
    tensors = dict(program.tensors)
    tensors[name] = Tensor(name, "intermediate", tuple((x,) for x in letters))
    tensors["z̃"] = Tensor("z̃", "output", tuple((x,) for x in program.output.letters))
    lines = (
        *program.lines,
        Line(name, letters, value, 0),
        Line("z̃", program.output.letters, output, 0),
    )
    return replace(program, tensors=MappingProxyType(tensors), lines=lines)


def scaled(program: Program, factor: Expr) -> Program:
    """z̃ = factor · z with an opaque factor."""
    z = Read(Symbol(program.output.target), *program.output.letters)
    tensors = dict(program.tensors)
    tensors["z̃"] = Tensor("z̃", "output", tuple((x,) for x in program.output.letters))
    lines = (*program.lines, Line("z̃", program.output.letters, factor * z, 0))
    return replace(program, tensors=MappingProxyType(tensors), lines=lines)


def rescaled_inputs(program: Program, factor: Expr, names: tuple[str, ...]) -> Program:
    """z(factor · x) as one line; ``factor`` may hold the output's letters."""
    value = scale_reads(inline(program.output.value, definitions(program)), factor, names)
    line = Line(program.output.target, program.output.letters, value, 0)
    return replace(program, lines=(line,))


def scale_reads(expression: Expr, factor: Expr, names: tuple[str, ...]) -> Expr:
    """Every read of the named tensors times ``factor``, binders renamed apart from it."""
    if isinstance(expression, Read):
        return factor * expression if expression.tensor in names else expression
    if not expression.args or expression.is_Symbol:
        return expression
    if isinstance(expression, BINDERS):
        fresh = {x: x.fresh() for x in expression.letters}
        body = scale_reads(substitute(expression.body, fresh), factor, names)
        return expression.func(body, *fresh.values(), *expression.args[1 + len(fresh) :])
    return expression.func(*(scale_reads(a, factor, names) for a in expression.args))


def float_inputs(program: Program) -> tuple[str, ...]:
    """Inputs that hold real numbers."""
    return tuple(t.name for t in program.inputs if t.kind == "input")


# ---------------------------------------------------------------------- the ansätze
class Solver:
    """Solves every ansatz for one layer."""

    def __init__(self, update: Update, structure: Structure) -> None:
        """Keep the derivation that the ansätze start from."""
        self.update = update
        self.program = update.program
        self.structure = structure
        self.site, self.unit = self.program.site, self.program.unit

    def all(self) -> tuple[Correction, ...]:
        """Every ansatz in the order of :data:`ANSATZE`."""
        return tuple(self.solve(name) for name in ANSATZE)

    @functools.cache  # noqa: B019 - a solver lives as long as one derivation
    def solve(self, name: str) -> Correction:
        """One ansatz; a step that fails refuses it and says why."""
        methods: dict[str, Callable[[], Correction]] = {
            "output gauge": self.output_gauge,
            "input map": self.input_map,
            "split gauge": self.split_gauge,
            "unit gauge": self.unit_gauge,
            "matrix gauge": self.matrix_gauge,
        }
        try:
            return methods[name]()
        except DerivationError as error:
            return Correction(name, False, str(error))

    def refuse(self, ansatz: str, reason: str) -> Correction:
        return Correction(ansatz, False, reason)

    # -------------------------------------------------------------- gauges on the output
    def output_gauge(self) -> Correction:
        """z̃ = λ(s) z with λ²κ = c."""
        s = self.structure
        if s.kind != "isotropic":
            return self.refuse(
                "output gauge", f"K(s,s) is {s.kind}, and one factor for all units keeps it so"
            )
        return self.scalar_gauge("output gauge", self.site, "λ(s)")

    def unit_gauge(self) -> Correction:
        """z̃_i = λ_i(s) z_i with λ_i²κ_i = c."""
        s = self.structure
        if s.kind == "isotropic":
            return self.refuse(
                "unit gauge", "K(s,s) is isotropic: the unit gauge is the output gauge"
            )
        if s.kind == "anisotropic":
            return self.refuse(
                "unit gauge", "K(s,s) is not diagonal, and factors per unit cannot make it so"
            )
        return self.scalar_gauge("unit gauge", self.program.output.letters, "λ_i(s)")

    def scalar_gauge(self, ansatz: str, letters: tuple[Letter, ...], shown: str) -> Correction:
        """Solve λ²κ = c at c = 1 and send λ z through the derivation again."""
        s = self.structure
        if s.vanishing:
            return self.refuse(ansatz, s.vanishing)
        used = tuple(x for x in letters if x in s.kappa.free_symbols)
        unknown = Symbol(LAMBDA, positive=True)
        opaque = derive_update(scaled(self.program, unknown))
        kappa = on_diagonal(opaque.self_kernel, self.unit)
        kappa = self.expressed(kappa, unknown)
        rate = Symbol(RATE, positive=True)
        equation = kappa - rate
        general = solve_positive(equation, unknown)
        gauge = general.xreplace({rate: Integer(1)})
        corrected = self.certify(gauge, used, Integer(1))
        exactness = self.exactness(gauge, Integer(1))
        reason = ""
        if s.constant and s.full == 1:
            reason = "K(s,s) = I already: there is nothing to correct"
        return Correction(
            ansatz,
            True,
            reason,
            shown,
            equation,
            gauge,
            Integer(1),
            exactness,
            ((1, self.program.output.value),),
            corrected,
            self.side_conditions(gauge, (gauge * self.program.output.value)),
            {},
            (
                (f"put z̃ = {shown} z through the derivation: K̃(s,s) = κ̃ I with κ̃", kappa),
                (f"solve κ̃ = c for {shown}", general),
                ("choose c = 1", gauge),
            ),
        )

    def expressed(self, kappa: Expr, unknown: Symbol) -> Expr:
        """λ²κ with κ in its simplest form; falls back to the derived form."""
        wanted = unknown**2 * self.structure.kappa
        if not self.equal(kappa, wanted):
            raise DerivationError("the scaled layer's kernel is not λ² times the layer's")
        return wanted

    def certify(self, gauge: Expr, letters: tuple[Letter, ...], rate: Expr) -> Expr:
        """Re-derive the kernel of λ z with the solved λ in place; it must be c·I at s' = s.

        Returns:
            K̃(s,s').
        """
        frozen = depends_on_parameters(self.program, gauge)
        factor = Read(Symbol(LAMBDA), *letters)
        if frozen:
            update = derive_update(scaled(self.program, factor))
        else:
            z = Read(Symbol(self.program.output.target), *self.program.output.letters)
            update = derive_update(with_line(self.program, LAMBDA, letters, gauge, factor * z))
        self.must_be(update.self_kernel, {LAMBDA: (letters, gauge)}, rate)
        return update.kernel

    def must_be(self, self_kernel: Expr, solved: Definitions, rate: Expr) -> None:
        """K̃(s,s) - c·I = 0 with the solved unknown written out, or an error."""
        found = normal(inline(self_kernel, solved))
        if not is_diagonal(found, self.unit):
            found = normal(inline(found, definitions(self.program)))
        if not is_diagonal(found, self.unit):
            raise DerivationError("the corrected map's self-kernel is not diagonal")
        found = on_diagonal(found, self.unit)
        if not self.equal(found, rate):
            rest = cancel(normal(inline(found - rate, definitions(self.program))))
            raise DerivationError(
                f"the corrected map's self-kernel is not {rate}·I: {rest} is left over"
            )

    def equal(self, left: Expr, right: Expr) -> bool:
        """Whether two expressions agree, in terms of the intermediates or with them written out."""
        difference = left - right
        return vanishes(difference) or vanishes(inline(difference, definitions(self.program)))

    def exactness(self, gauge: Expr, rate: Expr) -> str:
        """The class of design §2."""
        if depends_on_parameters(self.program, gauge):
            return "frozen"
        if not self.update.affine:
            return "first-order"
        return "exact" if rate == 1 else "constant-rate"

    def side_conditions(self, gauge: Expr, corrected: Expr) -> SideConditions:
        """Evaluate the side conditions of a corrected map."""
        program = self.program
        names = float_inputs(program)
        whole = inline(corrected, definitions(program))
        invariant = unchanged_by_scale(program, whole, names)
        smooth = self.smooth_at_zero(inline(1 / gauge, definitions(program)), names)
        return SideConditions(
            invariant,
            bool(smooth),
            not depends_on_parameters(program, gauge),
            1 if invariant and names else 0,
        )

    def smooth_at_zero(self, inverse: Expr, names: tuple[str, ...]) -> bool:
        """Whether 1/gauge is a finite number other than 0 where all inputs are 0."""
        undefined = (sympy.zoo, sympy.nan, sympy.oo)
        at_zero = at_zero_input(inverse, names)
        if at_zero.has(*undefined):
            # 0/0 may be a removable singularity.
            at_zero = at_zero_input(cancel(normal(inverse)), names)
        return at_zero != 0 and not at_zero.has(*undefined)

    # -------------------------------------------------------------- input map
    def input_map(self) -> Correction:
        """z̃ = z(μ(s) x) with κ(μx) = c."""
        s, program = self.structure, self.program
        names = float_inputs(program)
        if s.kind != "isotropic":
            return self.refuse(
                "input map", f"K(s,s) is {s.kind}, and one factor on the input keeps it so"
            )
        if s.parameter_dependent:
            return self.refuse(
                "input map", "κ depends on the parameters, so a factor on the input would too"
            )
        if not names:
            return self.refuse("input map", "no input holds real numbers")
        if s.constant:
            return self.refuse("input map", "κ is constant: no factor on the input changes it")
        unknown = Symbol(MU, positive=True)
        # Cheap look first; what is solved below is derived anew.
        if powers_of(cancel(normal(scale_reads(s.full, unknown, names))), unknown) is None:
            return self.refuse("input map", NO_CLOSED_FORM)
        stretched = derive_update(rescaled_inputs(program, unknown, names))
        kappa = cancel(on_diagonal(stretched.self_kernel, self.unit))
        if unknown not in kappa.free_symbols:
            return self.refuse(
                "input map", "κ(μx) does not depend on μ: the layer ignores the input's scale"
            )
        coefficients = powers_of(kappa, unknown)
        if coefficients is None:
            return self.refuse("input map", NO_CLOSED_FORM)
        constant = coefficients.pop(0, Integer(0))
        if reads(constant):
            return self.refuse(
                "input map",
                f"the part {formula(constant, program, unicode=True)} of κ(μx) does not depend on μ, "
                "yet varies with the input",
            )
        degrees = sorted(coefficients)
        step = math.gcd(*degrees)
        if len(degrees) > 2 or degrees[-1] > 2 * step or (degrees[0] != step and len(degrees) > 1):
            return self.refuse(
                "input map",
                "κ(μx) = c is a polynomial of degree above two in a power of μ: no usable closed form",
            )
        # The leading coefficient is ≥ 0, since κ(μx) ≥ 0 for every μ: one positive root, for every input.
        return self.solved_input_map(unknown, kappa, constant, coefficients, step, names)

    def solved_input_map(
        self,
        unknown: Symbol,
        kappa: Expr,
        constant: Expr,
        coefficients: dict[int, Expr],
        step: int,
        names: tuple[str, ...],
    ) -> Correction:
        program = self.program
        radius = Symbol(RADIUS, positive=True)
        root = Symbol("w", positive=True)
        rate = constant + radius**2
        equation = kappa - Symbol(RATE, positive=True)
        in_root = Add(*(c * root ** (d // step) for d, c in coefficients.items())) - radius**2
        if list(coefficients) == [step]:
            coefficients = {step: self.readable(coefficients[step], constant)}
            in_root = coefficients[step] * root - radius**2
        gauge = root_of(stable_root(solve_positive(in_root, root)), step)
        if not vanishes(kappa.xreplace({unknown: inline(gauge, definitions(program))}) - rate):
            raise DerivationError("the solved factor does not satisfy κ(μx) = c")
        letters = tuple(x for x in self.site if x in gauge.free_symbols)
        read = Read(Symbol(MU), *letters)
        update = derive_update(self.rescaled_with_line(read, letters, gauge, names))
        self.must_be(update.self_kernel, {MU: (letters, gauge)}, rate)
        terms = self.homogeneous_terms(names)
        corrected = rescaled_inputs(program, gauge, names).output.value
        side = self.side_conditions(gauge, corrected)
        return Correction(
            "input map",
            True,
            "",
            "μ(s)",
            equation,
            gauge,
            rate,
            self.exactness(gauge, rate.subs(radius, 1))
            if constant != 0
            else self.exactness(gauge, Integer(1)),
            terms,
            update.kernel,
            side,
            {},
            (
                ("put z̃ = z(μ(s) x) through the derivation: κ(μx)", kappa),
                ("choose c = κ(0) + radius²", rate),
                ("solve κ(μx) = c for μ(s)", gauge),
            ),
        )

    def readable(self, coefficient: Expr, constant: Expr) -> Expr:
        """κ's part of highest degree by way of the intermediates, as a sum of squares if it is one."""
        candidate = complete_squares(self.structure.kappa - constant)
        difference = inline(candidate, definitions(self.program)) - coefficient
        return candidate if vanishes(difference) else complete_squares(coefficient)

    def rescaled_with_line(
        self, read: Expr, letters: tuple[Letter, ...], gauge: Expr, names: tuple[str, ...]
    ) -> Program:
        """z(μ x) with μ as a line of its own."""
        program = self.program
        value = scale_reads(inline(program.output.value, definitions(program)), read, names)
        tensors = dict(program.tensors)
        tensors[MU] = Tensor(MU, "intermediate", tuple((x,) for x in letters))
        full = inline(gauge, definitions(program))
        lines = (
            Line(MU, letters, full, 0),
            Line(program.output.target, program.output.letters, value, 0),
        )
        return replace(program, tensors=MappingProxyType(tensors), lines=lines)

    def homogeneous_terms(self, names: tuple[str, ...]) -> tuple[tuple[int, Expr], ...]:
        """The output as Σ_d μ^d · part, so that the factor is applied to terms and not to inputs."""
        unknown = Symbol(MU, positive=True)
        program = self.program
        collected: dict[int, list[Expr]] = {}
        for term in Add.make_args(program.output.value):
            degree = self.degree(term, names)
            if degree is None:
                whole = normal(scale_reads(inline(term, definitions(program)), unknown, names))
                powers = powers_of(whole, unknown)
                if powers is None:
                    raise DerivationError(
                        "the input stands inside a function: no factor can be drawn out of it"
                    )
                for d, part in powers.items():
                    collected.setdefault(d, []).append(part)
            else:
                collected.setdefault(degree, []).append(term)
        return tuple((d, Add(*parts)) for d, parts in sorted(collected.items()))

    def degree(self, term: Expr, names: tuple[str, ...]) -> int | None:
        """The degree of a term in the inputs, if it is homogeneous."""
        unknown = Symbol(MU, positive=True)
        whole = inline(term, definitions(self.program))
        stretched = normal(scale_reads(whole, unknown, names))
        powers = powers_of(stretched, unknown)
        return next(iter(powers)) if powers is not None and len(powers) == 1 else None

    # -------------------------------------------------------------- split gauge
    def split_gauge(self) -> Correction:
        """z̃ = λ(s) A + ν(s) B for the parts A, B of z whose parameters have varying and constant kernels."""
        s, program, update = self.structure, self.program, self.update
        if s.kind != "isotropic":
            return self.refuse("split gauge", f"K(s,s) is {s.kind}")
        if s.parameter_dependent or not update.affine:
            return self.refuse("split gauge", "z is not a sum of parts with one parameter each")
        varying: list[Expr] = []
        constant: list[Expr] = []
        for part in update.self_parts.values():
            if not is_diagonal(part, self.unit):
                return self.refuse("split gauge", "a parameter's own kernel is not isotropic")
            value = cancel(on_diagonal(normal(inline(part, definitions(program))), self.unit))
            if set(self.unit) & value.free_symbols:
                return self.refuse("split gauge", "a parameter's own kernel is not isotropic")
            (varying if reads(value) else constant).append(value)
        if not varying or not constant:
            which = (
                "no parameter has a constant kernel (no bias)"
                if varying
                else "every parameter has a constant kernel"
            )
            return self.refuse("split gauge", f"{which}: there is nothing to split")
        a, b = Add(*varying), Add(*constant)
        lam, nu, rate = (
            Symbol(LAMBDA, positive=True),
            Symbol(NU, positive=True),
            Symbol(RATE, positive=True),
        )
        equation = lam**2 * a + nu**2 * b - rate
        family = solve_positive(equation, lam)
        members = {}
        affine_like = self.solve("output gauge")
        if affine_like.applies and affine_like.gauge is not None:
            gauge = inline(affine_like.gauge, definitions(program))
            if vanishes(equation.xreplace({lam: gauge, nu: gauge, rate: Integer(1)})):
                members["affine-like"] = {
                    LAMBDA: affine_like.gauge,
                    NU: affine_like.gauge,
                    RATE: Integer(1),
                }
        norm_like = self.solve("input map")
        if (
            norm_like.applies
            and norm_like.gauge is not None
            and norm_like.rate is not None
            and norm_like.terms
        ):
            if {d for d, _ in norm_like.terms} == {0, 1}:
                gauge = inline(norm_like.gauge, definitions(program))
                if vanishes(equation.xreplace({lam: gauge, nu: Integer(1), rate: norm_like.rate})):
                    members["norm-like"] = {
                        LAMBDA: norm_like.gauge,
                        NU: Integer(1),
                        RATE: norm_like.rate,
                    }
        return Correction(
            "split gauge",
            True,
            "a one-parameter family: ν is free",
            "λ(s), ν(s)",
            equation,
            family,
            rate,
            "constant-rate",
            (),
            None,
            None,
            MappingProxyType(members),
            (
                ("split z by parameters with varying and with constant kernel: κ̃ - c", equation),
                ("solve for λ with ν free", family),
            ),
        )

    # -------------------------------------------------------------- matrix gauge
    def matrix_gauge(self) -> Correction:
        """z̃ = Λ(s) z with Λ K Λᵀ = c I, by the Cholesky factor K = L Lᵀ: Λ = √c L⁻¹."""
        s, program = self.structure, self.program
        if s.kind != "anisotropic":
            return self.refuse(
                "matrix gauge",
                f"K(s,s) is {s.kind}: the {'output' if s.kind == 'isotropic' else 'unit'} gauge does it",
            )
        defect = generic_rank(program, self.update.self_kernel)
        if defect:
            return self.refuse("matrix gauge", defect)
        size = Symbol("U", integer=True, positive=True)
        factor, unknown = sympy.MatrixSymbol("L", size, size), sympy.MatrixSymbol("Λ", size, size)
        root = factor.inverse()
        product = (root * (factor * factor.T) * root.T).doit()
        if product != sympy.Identity(size):
            raise DerivationError("the Cholesky solution does not satisfy Λ K Λᵀ = I")
        dependent = s.parameter_dependent
        exactness = "frozen" if dependent else ("exact" if self.update.affine else "first-order")
        side = SideConditions(False, False, not dependent, 0)
        return Correction(
            "matrix gauge",
            True,
            "",
            "Λ(s)",
            unknown * (factor * factor.T) * unknown.T,
            s.kappa,
            Integer(1),
            exactness,
            ((1, program.output.value),),
            None,
            side,
            {},
            (
                ("K(s,s) is positive definite; factor it", s.kappa),
                ("K = L Lᵀ, Λ = L⁻¹ solves Λ K Λᵀ = I", s.kappa),
            ),
        )


def root_of(power: Expr, step: int) -> Expr:
    """``power ** (1/step)`` with the root drawn into numerator and denominator."""
    hidden, atoms = hide_atoms(power, set())
    return (hidden ** sympy.Rational(1, step)).xreplace(atoms)


def stable_root(root: Expr) -> Expr:
    """(√D - a)/b written as a quotient without cancellation: (D - a²)/(b (√D + a))."""
    numerator, denominator = sympy.fraction(sympy.together(root))
    terms = Add.make_args(sympy.expand(numerator))
    radical = [
        t
        for t in terms
        if any(isinstance(f, sympy.Pow) and f.exp == sympy.Rational(1, 2) for f in Mul.make_args(t))
    ]
    rest = Add(*(t for t in terms if t not in radical))
    if len(radical) != 1 or rest == 0:
        return root
    square = expand(radical[0] ** 2 - rest**2)
    return cancel(square / denominator) / (radical[0] - rest)


def powers_of(expression: Expr, symbol: Symbol) -> dict[int, Expr] | None:
    """Coefficients by power of a symbol, or ``None`` if the expression is no polynomial in it."""
    found: dict[int, list[Expr]] = {}
    for term in Add.make_args(expand(expression)):
        coefficient, dependent = term.as_independent(symbol, as_Add=False)
        if dependent == 1:
            found.setdefault(0, []).append(coefficient)
            continue
        base, exponent = dependent.as_base_exp()
        if base != symbol or not exponent.is_Integer or exponent < 0:
            return None
        found.setdefault(int(exponent), []).append(coefficient)
    return {d: Add(*parts) for d, parts in found.items()}


def solve_corrections(update: Update, structure: Structure) -> tuple[Correction, ...]:
    """Solve every ansatz for a layer.

    Args:
        update: The layer's induced update.
        structure: Its classified self-kernel.

    Returns:
        One :class:`Correction` an ansatz, in the order of :data:`ANSATZE`.
    """
    return Solver(update, structure).all()
