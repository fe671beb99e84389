"""Positive roots of polynomial equations in one unknown, believed only after re-substitution."""

from __future__ import annotations

import functools

import sympy
from sympy import Add, Expr, Integer, Mul, Symbol

from derive.errors import DerivationError
from derive.fractions import apart, cancel
from derive.nodes import Contraction, Letter, size_symbol
from derive.normal import expand, normal
from derive.structure import (
    is_positive_sum,
)


def hide_atoms(expression: Expr) -> tuple[Expr, dict[Expr, Expr]]:
    """Replace every atom by a symbol, positive where the atom is ≥ 0; the atoms by symbol."""
    atoms: dict[Expr, Expr] = {}

    def hide(node: Expr) -> Expr:
        if node.is_number:
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
    that cannot be read off leaves a symbol of any. What comes back is believed only after it went
    into the equation again.

    Raises:
        DerivationError: If the equation is no polynomial, or no root is positive and right.
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
    (general,) = roots
    root = general.xreplace(names)
    if not vanishes(equation.xreplace({unknown: root})):
        raise DerivationError(f"the root {root} does not solve {equation} = 0")
    return root


def _coefficient(degree: int, known: bool) -> Symbol:
    name = f"a{degree}"
    return Symbol(name, positive=True) if known else Symbol(name)


@functools.cache
def positive_roots(shape: tuple[tuple[int, int, bool], ...], unknown: Symbol) -> list[Expr]:
    """Positive roots of Σ ± a_d unknown^d, an entry ``(d, sign, a_d is positive)`` a term."""
    names = [_coefficient(d, known) for d, _, known in shape]
    equation = Add(*(s * a * unknown**d for a, (d, s, _) in zip(names, shape, strict=True)))
    samples = {a: sympy.Rational(3 if a.is_positive else -7, 5) for a in names}
    return [r for r in sympy.solve(equation, unknown) if r.xreplace(samples).is_positive]


def vanishes(expression: Expr) -> bool:
    """Whether an expression is 0 after cancelling; a miss counts as no."""
    return bool(what_is_left(expression) == 0)


def what_is_left(expression: Expr) -> Expr:
    """An expression after cancelling: 0 where it is 0, also within sums; a miss is possible."""
    found = cancel(apart(normal(expression)))
    if gathered(sympy.fraction(found)[0]) == 0:
        return Integer(0)
    return found


def gathered(expression: Expr) -> Expr:
    """Sums over the same letters as one whose summand is cancelled, size(j) as Σ_j 1."""
    summands: dict[tuple[Expr, tuple[Letter, ...]], list[Expr]] = {}
    rest: list[Expr] = []
    for term in Add.make_args(expand(expression)):
        number, factors = term.as_coeff_mul()
        sums = [f for f in factors if isinstance(f, Contraction)]
        if len(sums) == 1:
            (total,) = sums
            outer = Mul(*(f for f in factors if f is not total))
            summands.setdefault((outer, total.letters), []).append(number * total.body)
        else:
            rest.append(term)
    for (outer, letters), bodies in summands.items():
        every = Mul(outer, *(size_symbol(x.size) for x in letters))
        constant = [t for t in rest if (t / every).is_number]
        rest = [t for t in rest if t not in constant]
        body = cancel(Add(*bodies, *(t / every for t in constant)))
        rest.append(outer * Contraction(body, *letters) if body != 0 else body)
    return Add(*rest)


def root_of(power: Expr, step: int) -> Expr:
    """``power ** (1/step)`` of what is ≥ 0, the root drawn into numerator and denominator."""
    hidden, atoms = hide_atoms(power)

    def drawn(base: Expr, exponent: Expr) -> Expr:
        # A denominator under a positive numerator is positive, whether or not its form shows it.
        above, below = sympy.fraction(base)
        return above**exponent * below**-exponent if above.is_positive else base**exponent

    root = hidden ** sympy.Rational(1, step)
    return root.replace(sympy.Pow, drawn).xreplace(atoms)


def stable_root(root: Expr) -> Expr:
    """(√D - a)/b written as a quotient without cancellation: (D - a²)/(b (√D + a))."""
    numerator, denominator = sympy.fraction(sympy.together(root))
    terms = Add.make_args(sympy.expand(numerator))
    radicals = [
        t
        for t in terms
        if any(isinstance(f, sympy.Pow) and f.exp == sympy.Rational(1, 2) for f in Mul.make_args(t))
    ]
    rest = Add(*(t for t in terms if t not in radicals))
    if len(radicals) != 1 or rest == 0:
        return root
    (radical,) = radicals
    square = expand(radical**2 - rest**2)
    return cancel(square / denominator) / (radical - rest)


def powers_of(expression: Expr, symbol: Symbol) -> dict[int, Expr] | None:
    """Coefficients by power of a symbol, or ``None`` if the expression is no polynomial in it."""
    found: dict[int, list[Expr]] = {}
    for term in Add.make_args(expand(expression)):
        coefficient, dependent = term.as_independent(symbol, as_Add=False)
        if dependent == 1:
            found.setdefault(0, []).append(coefficient)
            continue
        base, exponent = dependent.as_base_exp()
        if base != symbol or not (exponent.is_Integer and exponent.is_positive):
            return None
        found.setdefault(int(exponent), []).append(coefficient)
    return {d: Add(*parts) for d, parts in found.items()}
