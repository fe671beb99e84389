"""The one table of tolerances, and the rule that makes a tolerance out of an operation count.

Two ways to compute one number in floating point differ by at most about
ε · operations · condition · scale: each of the operations rounds by ε relative to what it produces,
and the condition number says by how much the formulas amplify that. The condition number is not
guessed but measured at each instance (:func:`verify.reference.condition`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy
from sympy import Expr

from derive.nodes import BINDERS, Letter, Read
from derive.program import Program


@dataclass(frozen=True)
class Tolerances:
    """Every number that decides a verdict.

    Attributes:
        epsilon: Spacing of float64 at 1.
        useless: An instance whose tolerance would exceed this judges nothing and is not counted.
        perturbation: Relative change that measures condition numbers.
        slope, slope_slack: A first-order layer's remainder shrinks as η**slope, up to the slack; a
            fit over two decades of η with 3 % curvature stays well within it.
        slope_steps: The learning rates of the fit, relative to one that moves z by about one unit.
        exact_steps: The learning rates at which an exact layer takes the exact step.
        noise: A remainder counts for the fit where it exceeds the rounding bound this many times.
        gradcheck_step, gradcheck_absolute, gradcheck_relative: Of torch's finite differences, whose
            error is step² plus epsilon/step, amplified by third derivatives.
        control_epsilon: The ε that the corrupted gauge hides inside its root.
        control_factor: The constant that the corrupted gauge is off by.
        control_margin: A corrupted layer must miss its tolerance this many times over.
        emitted_bits: The emitted stage must leave a chance of error of at most 2**-emitted_bits.
    """

    epsilon: float = 2.0**-52
    useless: float = 1e-6
    perturbation: float = 2.0**-26
    slope: float = 2.0
    slope_slack: float = 0.1
    slope_steps: tuple[float, ...] = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    exact_steps: tuple[float, ...] = (1e-3, 1.0, 10.0)
    noise: float = 10.0
    gradcheck_step: float = 1e-6
    gradcheck_absolute: float = 1e-5
    gradcheck_relative: float = 1e-4
    control_epsilon: float = 1e-3
    control_factor: float = 1.001
    control_margin: float = 100.0
    emitted_bits: int = 100

    @property
    def gradcheck_useless(self) -> float:
        """As ``useless`` for finite differences, which enlarge rounding by 1/step."""
        return self.gradcheck_step * (self.gradcheck_absolute + self.gradcheck_relative)

    def bound(self, operations: int, condition: float = 1.0, scale: float = 1.0) -> float:
        """ε · operations · condition · scale."""
        return self.epsilon * operations * max(condition, 1.0) * scale


TOLERANCES = Tolerances()


def operations(expression: Expr, sizes: Mapping[str, int]) -> int:
    """Additions, multiplications and function calls in one value of an expression.

    Args:
        expression: Any expression; reads of intermediates count as one.
        sizes: Size class → size.
    """
    if isinstance(expression, Read | Letter) or not expression.args:
        return 1
    if isinstance(expression, BINDERS):
        volume = math.prod(sizes.get(x.size, 1) for x in expression.letters)
        return volume * (operations(expression.args[0], sizes) + 1)
    own = sum(operations(a, sizes) for a in expression.args) + len(expression.args)
    if isinstance(expression, sympy.Function):
        return own + 4
    return own


def program_operations(program: Program, sizes: Mapping[str, int]) -> int:
    """Operations behind one value of the output, intermediates counted once a line."""
    return sum(operations(line.value, sizes) for line in program.lines)


def volume(expression: Expr, letters: Sequence[Letter], sizes: Mapping[str, int]) -> int:
    """The largest number of elements that a brute-force evaluation holds at once."""
    outer = math.prod(sizes[x.size] for x in letters)

    def depth(node: Expr) -> int:
        inner = max((depth(a) for a in node.args), default=1) if node.args else 1
        if isinstance(node, BINDERS):
            inner *= math.prod(sizes.get(x.size, 1) for x in node.letters)
        return inner

    return outer * depth(expression)
