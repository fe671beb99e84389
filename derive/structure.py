"""What kind of kernel a layer has, read off the expression and never off the layer's name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import sympy
from sympy import Add, Expr, Integer, Mul

from derive.budget import TooLargeError
from derive.errors import DerivationError
from derive.formula import formula
from derive.fractions import cancel, factored
from derive.functions import Step, maximum, relu
from derive.nodes import Contraction, Delta, Letter, Read, reads, size_symbol, substitute
from derive.normal import contract, expand, inline, letter_pair, normal
from derive.program import Program
from derive.rank import witness_mean, witness_off_diagonal
from derive.squares import complete_squares
from derive.update import Update, definitions, depends_on_parameters

MAX_EXPANDED = 60
MAX_SIMPLIFIED = 12
MAX_TOWER = 4
MAX_STEPS = 4


@dataclass(frozen=True)
class Structure:
    """The self-kernel K(s,s), classified.

    Attributes:
        kind: ``isotropic`` (κ I), ``diagonal`` (κ_i δ_ii') or ``anisotropic``.
        kappa: κ(s), or κ_i(s), in terms of the intermediates; for an anisotropic kernel all of
            K_ii'(s).
        full: The same with every intermediate written out; for an anisotropic kernel only where
            that is short.
        parameter_dependent: Whether κ depends on the parameters.
        constant: Whether κ is the same for every input and parameter.
        mean: ``(letters, value)`` of the smallest set of site letters over which κ's mean is
            constant although κ is not, or ``None``.
        vanishing: Why κ is 0 on an open set, or ``None``.
    """

    kind: str
    kappa: Expr
    full: Expr
    parameter_dependent: bool
    constant: bool
    mean: tuple[tuple[Letter, ...], Expr] | None
    vanishing: str | None


def unit_delta(unit: tuple[Letter, ...]) -> Expr:
    """δ_ii' over all unit letters."""
    return Mul(*(Delta(x - x.primed) for x in unit))


def on_diagonal(expression: Expr, unit: tuple[Letter, ...]) -> Expr:
    """The expression at i' = i."""
    return normal(substitute(expression, {x.primed: x for x in unit}))


def is_diagonal(expression: Expr, unit: tuple[Letter, ...]) -> bool:
    """Whether every term carries δ_ii' for every unit letter."""
    wanted = {Delta(x - x.primed) for x in unit}
    return all(wanted <= set(Mul.make_args(t)) for t in Add.make_args(expand(expression)) if t != 0)


def simplest(expression: Expr) -> Expr:
    """As it is, cancelled, or factored, whichever is shortest."""
    candidates = [expression, cancel(expression)]
    if len(Add.make_args(expression)) > 3:
        candidates.append(factored(expression))
    return shortest(*candidates)


def shortest(*expressions: Expr) -> Expr:
    """The expression with the shortest text."""
    return min(expressions, key=lambda e: (len(str(e)), str(e)))


def subtracts(expression: Expr) -> bool:
    """Whether terms are subtracted outside of squares, so that rounding may cancel what is left."""
    if isinstance(expression, sympy.Pow) and expression.exp.is_even:
        return False
    if isinstance(expression, Add) and any(t.could_extract_minus_sign() for t in expression.args):
        return True
    inside = isinstance(expression, Add | Mul | sympy.Pow)
    return inside and any(subtracts(a) for a in expression.args)


def sum_of_squares(update: Update) -> Expr:
    """κ as Σ_θ (∂z/∂θ)², factored one parameter at a time, in terms of the intermediates.

    Multiplied out, a² - 2a²σ + a²σ² loses every digit where σ is near 1; a²(σ - 1)² does not.
    """
    parts = (factored(on_diagonal(p, update.program.unit)) for p in update.self_parts.values())
    hidden: dict[Expr, sympy.Dummy] = {}

    def hide(node: Expr) -> Expr:
        square = isinstance(node, sympy.Pow) and node.base.is_Add and node.exp == 2
        if square:
            return hidden.setdefault(node, sympy.Dummy("square"))
        return node.func(*(hide(a) for a in node.args)) if isinstance(node, Add | Mul) else node

    total = factored(hide(Add(*parts)))
    return total.xreplace({dummy: node for node, dummy in hidden.items()})


def sum_of_gradients(
    update: Update, kappa: Expr, primes: Mapping[Letter, Letter] | None = None
) -> Expr:
    """κ as Σ_θ Σ_m (∂z/∂θ[m])² with nothing multiplied out, or κ as it is where δ stay in the way.

    Multiplied out, Σ (x - m)² with m an expression and not a line loses every digit where x is m.

    Args:
        update: The layer's induced update.
        kappa: κ, or K_ii'(s).
        primes: Of K_ii'(s) = Σ_θ Σ_m (∂z_i/∂θ[m]) (∂z_i'/∂θ[m]) the letters i with their i'.
    """
    primes = primes or {}
    total: list[Expr] = []
    for name, gradient in update.gradients.items():
        terms = Add.make_args(expand(gradient))
        deltas = set.intersection(
            *({f for f in Mul.make_args(t) if isinstance(f, Delta)} for t in terms)
        )
        free = list(update.axes[name])
        fixed: dict[Letter, Expr] = {}
        for delta in sorted(deltas, key=str):
            pair = letter_pair(delta) or ()
            element = next((m for m in free if m in pair), None)
            if element is None:
                return kappa
            free.remove(element)
            (fixed[element],) = {*pair} - {element}
        rest = Add(*(Mul(*(f for f in Mul.make_args(t) if f not in deltas)) for t in terms))
        if primes:
            # A product of tensors, or else each of its elements would have to be held at each site.
            rest = factored(rest)
        if rest.has(Delta) or (primes and free and rest.is_Add):
            return kappa
        here = substitute(rest, {**fixed, **(bound := {m: m.fresh() for m in free})})
        equal = Mul(*(Delta(x - primes[x]) for x in fixed.values() if x in primes))
        product = here * substitute(here, dict(primes))
        held = [m for m in bound.values() if m in product.free_symbols]
        count = Mul(*(size_symbol(m.size) for m in bound.values() if m not in held))
        total.append(equal * count * (Contraction(product, *held) if held else product))
    candidate = Add(*total)
    known = definitions(update.program)
    return candidate if cancel(normal(inline(candidate - kappa, known))) == 0 else kappa


def without_subtraction(update: Update, kappa: Expr) -> Expr:
    """κ as a sum of squares where it subtracts and that is found, else as it is."""
    if not subtracts(kappa):
        return kappa
    squares = sum_of_squares(update)
    if subtracts(squares):
        squares = sum_of_gradients(update, kappa)
    return kappa if subtracts(squares) else squares


def classify(update: Update) -> Structure:
    """Classify the self-kernel of a layer.

    Raises:
        DerivationError: If the self-kernel is 0: the output does not depend on the parameters.
    """
    program, unit = update.program, update.program.unit
    compact = update.self_kernel
    if not is_diagonal(compact, unit) and witness_off_diagonal(program, compact):
        return _anisotropic(update)
    full = normal(inline(compact, definitions(program)))
    if full == 0:
        raise DerivationError("the self-kernel is 0: no parameter moves this activation")
    if not is_diagonal(full, unit):
        return _anisotropic(update)
    compact = on_diagonal(compact, unit)
    full = cancel(on_diagonal(full, unit))
    constant = not reads(full)
    dependent = _reads_parameter(program, full)
    if constant:
        factor = sympy.factor(full)
        compact = full = factor if len(str(factor)) < len(str(full)) else sympy.expand(full)
    else:
        # What vanishes once intermediates are written out must not stand in the way of one gauge.
        gone = set(unit) & compact.free_symbols - full.free_symbols
        if gone or (not dependent and _reads_parameter(program, compact)):
            compact = full
        compact = without_subtraction(update, complete_squares(simplest(compact)))
    isotropic = not set(unit) & full.free_symbols
    return Structure(
        "isotropic" if isotropic else "diagonal",
        compact,
        full,
        dependent,
        constant,
        None if constant or dependent else constant_mean(program, full),
        vanishing(full, program),
    )


def _anisotropic(update: Update) -> Structure:
    """A kernel that is no diagonal.

    Intermediates are written out only where that is short and takes the parameters away: as an
    intermediate a softmax does not overflow.
    """
    program, kernel = update.program, update.self_kernel
    kernel = simplest(kernel) if len(Add.make_args(kernel)) <= MAX_SIMPLIFIED else kernel
    full = kernel
    if expanded_terms(kernel, program) <= MAX_EXPANDED:
        full = simplest(normal(inline(kernel, definitions(program))))
        dependent = _reads_parameter(program, full)
    else:
        dependent = depends_on_parameters(program, kernel)
    shown = kernel if dependent or not depends_on_parameters(program, kernel) else full
    if subtracts(shown):
        shown = gram(update, shown)
    return Structure("anisotropic", shown, full, dependent, not reads(full), None, None)


def gram(update: Update, kernel: Expr) -> Expr:
    """K_ii'(s) as a sum of products of gradients, or as it is where that is not shown in time."""
    try:
        return sum_of_gradients(update, kernel, {x: x.primed for x in update.program.unit})
    except TooLargeError:
        return kernel


def expanded_terms(expression: Expr, program: Program) -> int:
    """About how many terms an expression has once intermediates are written out."""
    sizes: dict[str, int] = {}

    def count(node: Expr) -> int:
        if isinstance(node, Read):
            return sizes.get(node.tensor, 1)
        if isinstance(node, Add):
            return sum(count(a) for a in node.args)
        if isinstance(node, sympy.Pow):
            exponent = int(node.exp) if node.exp.is_Integer else 1
            return int(count(node.base) ** abs(exponent))
        return math.prod(count(a) for a in node.args)

    for line in program.lines:
        sizes[line.target] = count(line.value)
    return count(expression)


def _reads_parameter(program: Program, expression: Expr) -> bool:
    """Whether an expression reads a parameter, or a line that does."""
    return any(r.tensor in program.dependent for r in reads(expression))


def constant_mean(program: Program, kappa: Expr) -> tuple[tuple[Letter, ...], Expr] | None:
    """The smallest set of site letters whose mean of κ is constant, with that mean."""
    present = tuple(x for x in program.site if x in kappa.free_symbols)
    # A mean that is constant over some letters is constant over more of them too.
    if not present or witness_mean(program, kappa, present):
        return None
    for count, _ in enumerate(present, 1):
        for letters in itertools.combinations(present, count):
            fresh = {x: x.fresh() for x in letters}
            total = contract(expand(substitute(kappa, fresh)), list(fresh.values()))
            mean = cancel(normal(total) / Mul(*(size_symbol(x.size) for x in letters)))
            if not reads(mean):
                return letters, sympy.expand(mean)
    return None


def vanishing(kappa: Expr, program: Program) -> str | None:
    """Whether switching off units (a step of something that holds parameters) makes κ zero."""
    kappa = kappa.replace(relu, lambda a: a * Step(a))
    kappa = kappa.replace(maximum, lambda a, b: b + (a - b) * Step(a - b))
    found = [s for s in kappa.atoms(Step) if _reads_parameter(program, s)]
    steps = sorted(found, key=str)[:MAX_STEPS]
    for values in itertools.product((0, 1), repeat=len(steps)):
        chosen = {s: Integer(v) for s, v in zip(steps, values, strict=True)}
        if steps and normal(substitute(kappa, chosen)) == 0:
            off = ", ".join(
                f"{formula(argument, program, unicode=True)} {'>' if v else '<'} 0"
                for s, v in zip(steps, values, strict=True)
                for argument in s.args
            )
            return (
                f"κ = 0 wherever {off}: there no step moves the activation, whatever multiplies it"
            )
    return None


def is_positive_sum(expression: Expr) -> bool:
    """Whether an expression is plainly ≥ 0: a sum of squares and positive constants."""
    if expression.is_nonnegative:
        return True
    return all(_nonnegative(t) for t in Add.make_args(expand(expression)))


def _nonnegative(term: Expr) -> bool:
    coefficient, factors = term.as_coeff_mul()
    if coefficient.is_negative:
        return False
    return all(f.is_nonnegative or (isinstance(f, sympy.Pow) and f.exp.is_even) for f in factors)


def tower(expression: Expr) -> int:
    """How many exponentials stand inside of each other."""
    return max(map(tower, expression.args), default=0) + isinstance(expression, sympy.exp)


def at_zero_input(expression: Expr, inputs: tuple[str, ...]) -> Expr:
    """The expression with every element of the inputs set to 0; ∞ where exponentials tower.

    SymPy would compute the number: of five exponentials of 0 it has a million digits.
    """
    if tower(expression) > MAX_TOWER:
        return sympy.oo
    zeros = {r: Integer(0) for r in reads(expression) if r.tensor in inputs}
    return normal(_replace_reads(expression, zeros))


def _replace_reads(expression: Expr, mapping: dict[Read, Expr]) -> Expr:
    if isinstance(expression, Read):
        return mapping.get(expression, expression)
    if not expression.args:
        return expression
    found = expression.func(*(_replace_reads(a, mapping) for a in expression.args))
    # Two sums of 0 are one number, and their quotient none: they must not cancel.
    return Integer(0) if isinstance(found, Contraction) and found.body == 0 else found


def named(program: Program, expression: Expr) -> Expr:
    """Write an expanded expression in terms of intermediates where that is shorter.

    E.g. with v = Σ x²/n - (Σ x)²/n², the sum Σ x² is n v + (Σ x)²/n, and what is left after
    cancelling may be n v/(v + ε).
    """
    known = definitions(program)
    for line in reversed(program.lines):
        if line.target in program.dependent:
            continue
        value = normal(inline(line.value, known))
        symbol = Read(sympy.Symbol(line.target), *line.letters)
        for atom in sorted(expression.atoms(Contraction), key=str):
            hidden = sympy.Dummy("atom")
            equation = value.xreplace({atom: hidden})
            slope = sympy.diff(equation, hidden)
            if slope == 0 or hidden in slope.free_symbols or reads(slope):
                continue
            solved = hidden + (symbol - equation) / slope
            candidate = cancel(expression.xreplace({atom: sympy.expand(solved)}))
            if len(str(candidate)) < len(str(expression)):
                expression = candidate
    apart = cancel(expression - 1) + 1
    return shortest(expression, apart)
