"""z̃ as the derivation says it, in the exact arithmetic in which an emitted file is read.

The program's lines and the solved gauge are evaluated by :mod:`verify.interpret`, letter by letter:

- output and unit gauge: z̃ = λ z,
- input map: z̃_s = z_s(μ(s) x), a run for every site,
- matrix gauge: z̃_s = L⁻¹ z_s with K(s,s) = L Lᵀ.

Where 1/λ = 0, or K(s,s) is singular, the factor is 0 by the layer's documented policy. A frozen
gauge has derivative 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from derive.corrections import Correction
from derive.errors import DerivationError
from derive.program import Program
from verify.exact_array import Array, Exact, Whole, constant, larger, objects, stacked
from verify.exact_elementwise import masked_fill, where
from verify.exact_products import cholesky, cholesky_ex, solve_triangular
from verify.interpret import Interpreter
from verify.layout import from_sites_by_units, sites_by_units
from verify.residues import PRIME, Residues

FUNCTIONS: Mapping[str, Callable[..., Exact]] = {
    "exp": Exact.exp,
    "log": Exact.log,
    "tanh": Exact.tanh,
    "erf": Exact.erf,
    "sigmoid": Exact.sigmoid,
    "relu": Exact.relu,
    "silu": Exact.silu,
    "gelu": Exact.gelu,
    "Abs": Exact.abs,
    "maximum": larger,
}


@dataclass(frozen=True)
class ExactArithmetic:
    """Exact arrays for :class:`verify.interpret.Interpreter`.

    Attributes:
        ring: The numbers.
    """

    ring: Residues

    def number(self, value: sympy.Expr) -> Exact:
        """A rational; π and e.

        Raises:
            DerivationError: If the number is none of these.
        """
        value = sympy.sympify(value)
        if value.is_Float:
            value = sympy.Rational(str(value))
        if value.is_Rational:
            return constant(self.ring, Fraction(int(value.p), int(value.q)))
        if value == sympy.pi:
            return constant(self.ring, self.ring.pi())
        if value == sympy.E:
            return constant(self.ring, 1).exp()
        raise DerivationError(f"no exact value for the number {value}")

    def flags(self, mask: Array) -> Exact:
        """1 where the mask holds."""
        return constant(self.ring, np.asarray(mask).astype(np.int64).astype(object))

    def add(self, a: Exact, b: Exact) -> Exact:
        """A + b."""
        return a + b

    def multiply(self, a: Exact, b: Exact) -> Exact:
        """A times b."""
        return a * b

    def power(self, base: Exact, exponent: sympy.Rational) -> Exact:
        """``base ** exponent``."""
        return base.power(Fraction(int(exponent.p), int(exponent.q)))

    def function(self, name: str, arguments: Sequence[Exact]) -> Exact:
        """A function of the notation.

        Raises:
            DerivationError: If it has no rule.
        """
        if name in ("sign", "Step"):
            signs = arguments[0].signs()
            return self.flags(signs > 0) if name == "Step" else constant(self.ring, objects(signs))
        if name not in FUNCTIONS:
            raise DerivationError(f"no exact rule for the function {name}")
        return FUNCTIONS[name](*arguments)

    def total(self, a: Exact, shape: tuple[int, ...], axes: tuple[int, ...]) -> Exact:
        """Broadcast and sum."""
        return self.shaped(a, shape).total(axes)

    def largest(self, a: Exact, shape: tuple[int, ...], axes: tuple[int, ...]) -> Exact:
        """Broadcast and take the maximum."""
        return self.shaped(a, shape).largest(axes)

    def gather(self, tensor: Exact, positions: tuple[Array, ...], valid: Array) -> Exact:
        """Elements at positions, 0 where not valid."""
        return tensor.moved(lambda a: objects(a[positions])).filled(~valid, 0)

    def shaped(self, a: Exact, shape: tuple[int, ...]) -> Exact:
        """Broadcast."""
        return a.moved(lambda x: np.broadcast_to(x, shape))


@dataclass(frozen=True)
class ExactLayer:
    """A layer with its solved correction, at concrete sizes and numbers.

    Attributes:
        program: The layer.
        correction: The correction.
        ring: The numbers.
        sizes: Size class → size.
        symbols: Hyperparameters and the radius; real ones as residues.
        tensors: Inputs and parameters over their logical letters; tokens as integer arrays.
    """

    program: Program
    correction: Correction
    ring: Residues
    sizes: Mapping[str, int]
    symbols: Mapping[str, Any]
    tensors: Mapping[str, Any]

    def corrected(self) -> Exact:
        """z̃ over the output's logical letters."""
        interpreter = self.interpreter(self.tensors)
        z = interpreter.run(self.program)
        if self.correction.ansatz == "matrix gauge":
            return self.whitened(z, self.held(interpreter))
        factor = self.factor(self.held(interpreter))
        return self.mapped(factor) if self.correction.ansatz == "input map" else z * factor

    def interpreter(self, tensors: Mapping[str, Any]) -> Interpreter:
        """Reads expressions with these tensors."""
        return Interpreter(self.sizes, self.symbols, tensors, ExactArithmetic(self.ring))

    def held(self, interpreter: Interpreter) -> Interpreter:
        """Lines for the gauge: as they are, or without derivative if it is held fixed."""
        if not self.correction.frozen:
            return interpreter
        return self.interpreter(
            {k: v.detached() if isinstance(v, Exact) else v for k, v in interpreter.tensors.items()}
        )

    def factor(self, interpreter: Interpreter) -> Exact:
        """λ or μ over the output's letters: 0 where 1/λ is."""
        below = interpreter.over(sympy.Pow(self.correction.gauge, -1), self.program.output.letters)
        zero = np.asarray(below.value % PRIME == 0, dtype=bool)
        return below.filled(zero, 1).power(-1).filled(zero, 0)  # type: ignore[no-any-return]

    def mapped(self, factor: Exact) -> Exact:
        """z_s(μ(s) x) for every site."""
        rows = []
        by_sites = self.by_sites(factor)
        for site in range(by_sites.shape[0]):
            mu = by_sites.moved(lambda a, s=site: objects(a[s, 0]))  # type: ignore[misc]
            real = {t.name for t in self.program.inputs if t.kind == "input"}
            scaled = {k: v * mu if k in real else v for k, v in self.tensors.items()}
            z = self.by_sites(self.interpreter(scaled).run(self.program))
            rows.append(z.moved(lambda a, s=site: a[s]))  # type: ignore[misc]
        return self.from_sites(stacked(rows, np.stack))

    def whitened(self, z: Exact, interpreter: Interpreter) -> Exact:
        """L⁻¹ z with K(s,s) = L Lᵀ, 0 where K(s,s) is singular."""
        unit = self.program.unit
        letters = (*self.program.site, *unit, *(x.primed for x in unit))
        rows = self.by_sites(z)
        sites, units = rows.shape
        given = interpreter.over(self.correction.gauge, letters)
        kernel = given.moved(lambda a: a.reshape(sites, units, units))
        info = cholesky_ex(self.ring, kernel).info.value
        singular = Whole(info[:, None, None] != 0)
        identity = constant(self.ring, np.eye(units, dtype=np.int64).astype(object))
        factor = cholesky(self.ring, where(self.ring, singular, identity, kernel))
        column = rows.moved(lambda a: a[:, :, None])
        # A kernel of plain numbers has no type of its own.
        factor = replace(factor, dtype=column.dtype)
        solved = solve_triangular(self.ring, factor, column, upper=False)
        found = masked_fill(self.ring, solved, singular, 0)
        return self.from_sites(found.moved(lambda a: a[:, :, 0]))

    def by_sites(self, a: Exact) -> Exact:
        """(site, unit)."""
        return a.moved(lambda x: sites_by_units(x, self.program, self.sizes))

    def from_sites(self, a: Exact) -> Exact:
        """Over the output's letters again."""
        return a.moved(lambda x: from_sites_by_units(x, self.program, self.sizes))
