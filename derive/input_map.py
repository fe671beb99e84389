"""The ansatz z̃ = z(μ(s) x): a factor on the input with κ(μx) = c."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

from sympy import Add, Expr, Integer, Symbol

from derive.certify import Certifier
from derive.correction import MU, RADIUS, RATE, Correction
from derive.errors import DerivationError
from derive.extended import float_inputs, rescaled_inputs, scale_reads
from derive.formula import formula
from derive.fractions import cancel
from derive.nodes import Letter, Read, reads
from derive.normal import inline, normal
from derive.program import Line, Program, Tensor
from derive.roots import powers_of, root_of, solve_positive, stable_root, vanishes
from derive.squares import complete_squares
from derive.structure import on_diagonal, subtracts
from derive.update import definitions, derive_update

NO_CLOSED_FORM = "κ(μx) = c has no closed form: the input stands inside a function or a denominator"


class InputMapSolver(Certifier):
    """Solves κ(μx) = c for μ(s)."""

    def input_map(self) -> Correction:
        """z̃ = z(μ(s) x) with κ(μx) = c.

        Raises:
            DerivationError: If the equation has no closed form, or a step does not go through.
        """
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
        closed_form(cancel(normal(scale_reads(s.full, unknown, names))), unknown)
        stretched = derive_update(rescaled_inputs(program, unknown, names))
        kappa = cancel(on_diagonal(stretched.self_kernel, self.unit))
        if unknown not in kappa.free_symbols:
            return self.refuse(
                "input map", "κ(μx) does not depend on μ: the layer ignores the input's scale"
            )
        coefficients = closed_form(kappa, unknown)
        constant = coefficients.pop(0, Integer(0))
        if reads(constant):
            part = formula(constant, program, unicode=True)
            return self.refuse(
                "input map",
                f"the part {part} of κ(μx) does not depend on μ, yet varies with the input",
            )
        step = math.gcd(*coefficients)
        if max(coefficients) > 2 * step:
            return self.refuse(
                "input map",
                "κ(μx) = c has a degree above two in a power of μ: no usable closed form",
            )
        # κ(μx) ≥ 0, so its leading coefficient is ≥ 0: one positive root for every input.
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
        """The corrected map for a polynomial κ(μx) whose positive root is known to exist.

        Raises:
            DerivationError: If the solved factor does not satisfy κ(μx) = c.
        """
        program = self.program
        radius = Symbol(RADIUS, positive=True)
        root = Symbol("w")
        rate = constant + radius**2
        equation = kappa - Symbol(RATE, positive=True)
        if len(coefficients) == 1:
            coefficients = {step: self.readable(coefficients[step], constant)}
        in_root = Add(*(c * root ** (d // step) for d, c in coefficients.items())) - radius**2
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
            self.exactness(gauge, rate.subs(radius, 1)),
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
        """κ's part of highest degree in terms of the intermediates, a sum of squares if it is."""
        shifted = self.structure.kappa - constant
        candidate = complete_squares(shifted)
        if subtracts(candidate):
            # κ may stand over a denominator, where the constant is no term of its own.
            cancelled = complete_squares(cancel(shifted))
            candidate = candidate if subtracts(cancelled) else cancelled
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
            Line(MU, letters, full),
            Line(program.output.target, program.output.letters, value),
        )
        return replace(program, tensors=MappingProxyType(tensors), lines=lines)

    def homogeneous_terms(self, names: tuple[str, ...]) -> tuple[tuple[int, Expr], ...]:
        """The output as Σ_d μ^d · part: the factor is applied to terms, not to inputs.

        Raises:
            DerivationError: If the input stands inside a function that no factor can be drawn out
                of.
        """
        unknown = Symbol(MU, positive=True)
        program = self.program
        collected: dict[int, list[Expr]] = {}
        for term in Add.make_args(program.output.value):
            whole = normal(scale_reads(inline(term, definitions(program)), unknown, names))
            powers = powers_of(whole, unknown)
            if powers is None:
                raise DerivationError(
                    "the input stands inside a function: no factor can be drawn out of it"
                )
            # A homogeneous term stays as it is, in terms of the intermediates.
            kept = powers if len(powers) > 1 else dict.fromkeys(powers, term)
            for degree, part in kept.items():
                collected.setdefault(degree, []).append(part)
        return tuple((d, Add(*parts)) for d, parts in sorted(collected.items()))


def closed_form(kappa: Expr, unknown: Symbol) -> dict[int, Expr]:
    """Coefficients of κ(μx) by power of μ.

    Raises:
        DerivationError: If it is no polynomial in μ.
    """
    found = powers_of(kappa, unknown)
    if found is None:
        raise DerivationError(NO_CLOSED_FORM)
    return found
