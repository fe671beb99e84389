"""The five ansätze: set up as equations, solved, re-substituted and re-derived.

A correction is a map z̃ built from the layer with K̃(s,s) = c·I for every input. Each ansatz puts an
unknown into the forward map, sends the result through the same derivation as any layer, and solves
the equation that comes out; no solution is written down here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MappingProxyType

import sympy
from sympy import Add, Expr, Integer, Symbol

from derive.correction import ANSATZE, LAMBDA, MU, NU, RADIUS, RATE, Correction, SideConditions
from derive.errors import DerivationError
from derive.extended import scaled
from derive.fractions import cancel
from derive.input_map import InputMapSolver
from derive.nodes import Letter, reads
from derive.normal import inline, normal
from derive.rank import generic_rank
from derive.roots import solve_positive, vanishes
from derive.structure import (
    Structure,
    is_diagonal,
    on_diagonal,
)
from derive.update import Update, definitions, derive_update

__all__ = [
    "ANSATZE",
    "LAMBDA",
    "MU",
    "NU",
    "RADIUS",
    "RATE",
    "Correction",
    "SideConditions",
    "Solver",
    "solve_corrections",
]


class Solver(InputMapSolver):
    """Solves every ansatz for one layer."""

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
        if s.full == 1:
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

    def split_gauge(self) -> Correction:
        """z̃ = λ(s) A + ν(s) B: A's parameters have a varying kernel, B's a constant one."""
        s, program, update = self.structure, self.program, self.update
        if s.kind != "isotropic":
            return self.refuse("split gauge", f"K(s,s) is {s.kind}")
        if not update.affine:
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
            MappingProxyType(self.members(equation)),
            (
                ("split z by parameters with varying and with constant kernel: κ̃ - c", equation),
                ("solve for λ with ν free", family),
            ),
        )

    def members(self, equation: Expr) -> dict[str, dict[str, Expr]]:
        """The members of the split family that other ansätze come to: its equation holds there."""
        affine, norm = self.solve("output gauge"), self.solve("input map")
        found: dict[str, dict[str, Expr]] = {}
        if affine.applies:
            found["affine-like"] = {LAMBDA: affine.gauge, NU: affine.gauge, RATE: affine.rate}
        # What holds no parameter may be of another degree, and then z(μ x) is no λ A + ν B.
        if {d for d, _ in norm.terms} == {0, 1}:
            found["norm-like"] = {LAMBDA: norm.gauge, NU: Integer(1), RATE: norm.rate}
        known = definitions(self.program)
        return {
            name: member
            for name, member in found.items()
            if vanishes(
                equation.xreplace(
                    {Symbol(k, positive=True): inline(v, known) for k, v in member.items()}
                )
            )
        }

    def matrix_gauge(self) -> Correction:
        """z̃ = Λ(s) z with Λ K Λᵀ = c I, by the Cholesky factor K = L Lᵀ: Λ = √c L⁻¹."""
        s, program = self.structure, self.program
        if s.kind != "anisotropic":
            scalar = "output" if s.kind == "isotropic" else "unit"
            return self.refuse(
                "matrix gauge",
                f"K(s,s) is {s.kind}: the {scalar} gauge does it",
            )
        defect = generic_rank(program, self.update.self_kernel)
        if defect:
            return self.refuse("matrix gauge", defect)
        size = Symbol("U")
        factor, unknown = sympy.MatrixSymbol("L", size, size), sympy.MatrixSymbol("Λ", size, size)
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


def solve_corrections(update: Update, structure: Structure) -> tuple[Correction, ...]:
    """Solve every ansatz for a layer.

    Args:
        update: The layer's induced update.
        structure: Its classified self-kernel.

    Returns:
        One :class:`Correction` an ansatz, in the order of :data:`ANSATZE`.
    """
    return Solver(update, structure).all()
