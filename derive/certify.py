"""A solved gauge goes back through the derivation; its self-kernel must be c·I."""

from __future__ import annotations

from collections.abc import Mapping

import sympy
from sympy import Expr, Symbol

from derive.correction import LAMBDA, Correction, SideConditions
from derive.errors import DerivationError
from derive.extended import float_inputs, scaled, with_line
from derive.fractions import cancel
from derive.nodes import Letter, Read
from derive.normal import inline, normal
from derive.rank import unchanged_by_scale
from derive.roots import vanishes
from derive.structure import (
    Structure,
    at_zero_input,
    is_diagonal,
    on_diagonal,
)
from derive.update import Update, definitions, depends_on_parameters, derive_update

Definitions = Mapping[str, tuple[tuple[Letter, ...], Expr]]


class Certifier:
    """Checks corrections of one layer, and evaluates what they cost and keep."""

    def __init__(self, update: Update, structure: Structure) -> None:
        """Keep the derivation that the ansätze start from."""
        self.update = update
        self.program = update.program
        self.structure = structure
        self.site, self.unit = self.program.site, self.program.unit

    def refuse(self, ansatz: str, reason: str) -> Correction:
        """An ansatz that gives no correction, with the reason."""
        return Correction(ansatz, False, reason)

    def expressed(self, kappa: Expr, unknown: Symbol) -> Expr:
        """λ²κ with κ in its simplest form, shown equal to the derived form.

        Raises:
            DerivationError: If the scaled layer's kernel is not λ² times the layer's.
        """
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
        """K̃(s,s) - c·I = 0 with the solved unknown written out, or an error.

        Raises:
            DerivationError: If the self-kernel is not diagonal, or is not ``rate`` times the
                identity.
        """
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
        """The exactness class."""
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
        smooth = self.smooth_at_zero(inline(gauge, definitions(program)), names)
        return SideConditions(
            invariant,
            bool(smooth),
            not depends_on_parameters(program, gauge),
            1 if invariant and names else 0,
        )

    def smooth_at_zero(self, gauge: Expr, names: tuple[str, ...]) -> bool:
        """Whether the gauge is a finite number other than 0 where all inputs are 0."""
        undefined = (sympy.zoo, sympy.nan, sympy.oo)
        at_zero = at_zero_input(gauge, names)
        if at_zero.has(*undefined):
            # 0/0 may be a removable singularity.
            at_zero = at_zero_input(cancel(normal(gauge)), names)
        return at_zero != 0 and not at_zero.has(*undefined)
