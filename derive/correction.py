"""One ansatz, solved or refused: what the solvers return and what every later room reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sympy import Expr

ANSATZE = ("output gauge", "input map", "split gauge", "unit gauge", "matrix gauge")
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
