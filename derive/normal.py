"""The normal form: sums closed, Kronecker deltas contracted, fractions cancelled.

A normal expression is a polynomial in *atoms*: reads, deltas, functions of normal expressions,
powers of sums, and *connected* sums, i.e. :class:`~derive.nodes.Contraction` nodes whose summand
does not split into parts that share no bound letter. Equal sums get equal bound letters, so that
equal things compare equal and cancel. What does not come out equal here is not called different:
equality is decided elsewhere, by exact evaluation.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence

import sympy
from sympy import Add, Expr, Integer, Mul, Pow

from derive.budget import check_product, check_terms, check_time
from derive.fractions import cancel, factored, surface
from derive.nodes import (
    BINDERS,
    Contraction,
    Delta,
    Letter,
    MaxOver,
    Read,
    Softmax,
    TokenRead,
    free,
    size_symbol,
    substitute,
)
from derive.renaming import rename_bound


@functools.lru_cache(maxsize=1 << 14)
def normal(expression: Expr) -> Expr:
    """The normal form of an expression.

    Raises:
        TooLargeError: If the expression grows beyond the limits of :mod:`derive.budget`.
        BudgetError: If the time is up.
    """
    check_time()
    if isinstance(expression, Read | Delta) or not expression.args:
        return expression
    if isinstance(expression, Contraction):
        fresh = {x: x.fresh() for x in expression.letters}
        return contract(normal(substitute(expression.body, fresh)), list(fresh.values()))
    if isinstance(expression, Softmax):
        return Softmax(normal(expression.body), *expression.args[1:])
    if isinstance(expression, MaxOver):
        fresh = {x: x.fresh() for x in expression.letters}
        body = normal(substitute(expression.body, fresh))
        renamed = rename_bound(Contraction(body, *fresh.values()))
        return MaxOver(renamed.body, *renamed.letters)
    parts = [normal(a) for a in expression.args]
    if isinstance(expression, Pow):
        return _power(parts[0], parts[1])
    if isinstance(expression, Mul):
        return expand(_clean(Mul(*parts)))
    return expand(expression.func(*parts))


def expand(expression: Expr) -> Expr:
    """Multiply out a product or a positive integer power, and drop products of exclusive deltas.

    A sum is one of terms that are expanded already, or whose factors are to be kept.

    Raises:
        TooLargeError: If that gives more terms than the limits of :mod:`derive.budget`.
    """
    if not expression.is_Add:
        expression = _multiplied_out(expression)
    check_terms(expression)
    return Add(*(_clean(t) for t in Add.make_args(expression)))


def _multiplied_out(term: Expr) -> Expr:
    """A product or power multiplied out by SymPy, where it holds a sum: elsewhere that costs time.

    It takes exp(-a) for a denominator: exp(-a)/(1 + b) would become 1/(exp(a) + exp(a) b), which is
    0/0 where exp(a) overflows. So exponentials are symbols to it.
    """
    powers = (factor.as_base_exp() for factor in Mul.make_args(term))
    if not any(base.is_Add and exponent.is_Integer for base, exponent in powers):
        return term
    check_product(term)
    found = {n: sympy.Dummy() for n in surface(term) if isinstance(n, sympy.exp)}
    expanded = sympy.expand(term.xreplace(found), deep=False)
    return expanded.xreplace({symbol: e for e, symbol in found.items()})


def _clean(term: Expr) -> Expr:
    """On the support of a free delta δ(a-b) write one letter for both."""
    factors = Mul.make_args(term)
    for factor in factors:
        pair = letter_pair(factor)
        if pair is not None:
            keep, drop = pair
            rest = Mul(*(f for f in factors if f is not factor))
            if drop in free(rest):
                return _clean(factor * substitute(rest, {drop: keep}))
    return term


@functools.lru_cache(maxsize=1 << 12)
def letter_pair(factor: Expr) -> tuple[Letter, Letter] | None:
    """The two letters of one size of δ(a-b), in order, if that is what it is."""
    if not isinstance(factor, Delta):
        return None
    letters = [x for x in factor.free_symbols if isinstance(x, Letter)]
    if len(letters) == 2:
        first, second = sorted(letters, key=_letter_key)
        if first.size == second.size and factor == Delta(first - second):
            return first, second
    return None


def _power(base: Expr, exponent: Expr) -> Expr:
    if exponent.is_Integer and exponent.is_positive:
        return expand(base**exponent)
    base = cancel(base)
    # A common factor leaves the power: sqrt(v**2 u) prints and cancels better as |v| sqrt(u).
    content, rest = base.primitive()
    return content**exponent * rest**exponent


# ---------------------------------------------------------------------- sums
def contract(body: Expr, letters: Sequence[Letter]) -> Expr:
    """Σ over ``letters`` of a normal ``body``, closed as far as it goes."""
    body = expand(body)
    letters = list(letters)
    factor: Expr = Integer(1)
    for letter in [x for x in letters if x not in free(body)]:
        factor *= size_symbol(letter.size)
        letters.remove(letter)
    if not letters:
        return expand(factor * body)
    terms = list(Add.make_args(body))
    opaque = [t for t in terms if _opaque_letters(t, letters)]
    if not opaque:
        return expand(factor * Add(*(_contract_term(t, letters) for t in terms)))
    plain = Add(*(_contract_term(t, letters) for t in terms if t not in opaque))
    groups = _by_free_deltas(opaque, letters).items()
    rest = Add(*(deltas * _contract_opaque(Add(*ts), letters) for deltas, ts in groups))
    return expand(factor * (plain + rest))


def _by_free_deltas(terms: Sequence[Expr], letters: Sequence[Letter]) -> dict[Expr, list[Expr]]:
    """Products of deltas without a bound letter → what they multiply: they stay outside of Σ."""
    bound = set(letters)
    groups: dict[Expr, list[Expr]] = {}
    for term in terms:
        factors = Mul.make_args(term)
        apart = [f for f in factors if isinstance(f, Delta) and not free(f) & bound]
        rest = Mul(*(f for f in factors if f not in apart))
        groups.setdefault(Mul(*apart), []).append(rest)
    return groups


def _opaque_letters(term: Expr, letters: Sequence[Letter]) -> set[Letter]:
    """Letters under a root or denominator of a sum: there Σ does not distribute."""
    found: set[Letter] = set()
    for factor in Mul.make_args(term):
        if isinstance(factor, Pow) and factor.base.is_Add:
            found |= free(factor.base) & set(letters)
    return found


def _contract_opaque(body: Expr, letters: list[Letter]) -> Expr:
    """Sum first over the letters that stand in numerators only, cancel, then over the others."""
    hard = set().union(*(_opaque_letters(t, letters) for t in Add.make_args(body)))
    easy = [x for x in letters if x not in hard]
    if easy:
        inner = Add(*(contract(t, easy) for t in Add.make_args(body)))
        return contract(expand(cancel(inner)), [x for x in letters if x in hard])
    reduced = cancel(body)
    expanded = expand(reduced)
    if not all(_opaque_letters(t, letters) for t in Add.make_args(expanded)):
        return contract(expanded, letters)
    constant, dependent = reduced.as_independent(*letters, as_Add=False)
    common, dependent = factored(dependent).as_independent(*letters, as_Add=False)
    used = [x for x in letters if x in free(dependent)]
    unused = [size_symbol(x.size) for x in letters if x not in used]
    outside = constant * common * Mul(*unused)
    return outside * rename_bound(Contraction(dependent, *used))


def _contract_term(term: Expr, letters: Sequence[Letter]) -> Expr:
    """Σ over letters of one monomial."""
    check_time()
    term, bound = _apply_deltas(*_flatten(term, letters))
    if term.is_Add:
        return contract(term, sorted(bound, key=_letter_key))
    outside: list[Expr] = []
    inside: list[Expr] = []
    for factor in Mul.make_args(term):
        (inside if free(factor) & bound else outside).append(factor)
    for letter in list(bound):
        if not any(letter in free(f) for f in inside):
            outside.append(size_symbol(letter.size))
            bound.discard(letter)
    parts = _components(inside, bound)
    return Mul(*outside, *(rename_bound(Contraction(part, *held)) for part, held in parts))


def _flatten(term: Expr, letters: Sequence[Letter]) -> tuple[Expr, set[Letter]]:
    """Σ_j f Σ_k g → Σ_{j,k} f g where g depends on j."""
    bound = set(letters)
    flat: list[Expr] = []
    queue = list(Mul.make_args(term))
    while queue:
        factor = queue.pop()
        base, exponent = factor.as_base_exp()
        if (
            isinstance(base, Contraction)
            and exponent.is_Integer
            and exponent.is_positive
            and free(base) & bound
        ):
            for _ in range(int(exponent)):
                fresh = {x: x.fresh() for x in base.letters}
                bound |= set(fresh.values())
                queue += Mul.make_args(substitute(base.body, fresh))
        else:
            flat.append(factor)
    return Mul(*flat), bound


def _apply_deltas(term: Expr, bound: set[Letter]) -> tuple[Expr, set[Letter]]:
    """Use every δ that fixes a bound letter."""
    factors = Mul.make_args(term)
    deltas = [f for f in factors if isinstance(f, Delta)]
    for delta in deltas:
        solved = _solve_delta(delta, bound)
        if solved is not None:
            letter, value = solved
            # The δ itself becomes 1.
            return _apply_deltas(expand(substitute(term, {letter: value})), bound - {letter})
    for first, second in itertools.combinations(deltas, 2):
        joined = _join_deltas(first, second)
        if joined is not None:
            rest = Mul(*(f for f in factors if f is not second))
            return _apply_deltas(rest * joined, bound)
    return term, bound


def _solve_delta(delta: Delta, bound: set[Letter]) -> tuple[Letter, Expr] | None:
    """δ(b - e) with bound b and e a letter of the same size or a token: b := e, always in range."""
    pair = letter_pair(delta)
    if pair is not None:
        first, second = pair
        return next(((x, y) for x, y in ((second, first), (first, second)) if x in bound), None)
    (difference,) = delta.args
    # A bracket's sign is that of its letter.
    fixed = ((x, x - difference) for x in bound)
    return next(((x, t) for x, t in fixed if isinstance(t, TokenRead) and x not in free(t)), None)


@functools.lru_cache(maxsize=1 << 12)
def _join_deltas(first: Delta, second: Delta) -> Expr | None:
    """δ(e) δ(e + s(a-b)) → δ(e) δ(a-b) for letters a, b of one size and a positive s (a stride).

    A difference of strides may be 0. And not where the second is of two letters already: δ(a-b)
    δ(a-c) would become another for ever.
    """
    if letter_pair(second) is not None:
        return None
    (one,) = first.args
    (other,) = second.args
    for difference in (one - other, one + other):
        letters = [s for s in difference.free_symbols if isinstance(s, Letter)]
        if len(letters) == 2:
            a, b = letters
            stride = difference.coeff(a)
            apart = difference == stride * a - stride * b
            if apart and a.size == b.size and not stride.has(Add, Letter):
                return Delta(a - b)
    return None


def _components(factors: list[Expr], bound: set[Letter]) -> list[tuple[Expr, list[Letter]]]:
    """Parts of a product that share no bound letter."""
    groups: list[tuple[list[Expr], set[Letter]]] = []
    for factor in factors:
        held = free(factor) & bound
        merged: tuple[list[Expr], set[Letter]] = ([factor], set(held))
        rest = []
        for group in groups:
            if group[1] & merged[1]:
                merged = (group[0] + merged[0], group[1] | merged[1])
            else:
                rest.append(group)
        rest.append(merged)
        groups = rest
    return [(Mul(*fs), sorted(held, key=_letter_key)) for fs, held in groups]


def _letter_key(letter: Letter) -> tuple[bool, str, str]:
    return (letter.mark != "", letter.name, letter.mark)


def inline(expression: Expr, definitions: Mapping[str, tuple[tuple[Letter, ...], Expr]]) -> Expr:
    """Replace reads of intermediates by their definitions, everywhere and repeatedly."""
    if isinstance(expression, Read) and expression.tensor in definitions:
        letters, value = definitions[expression.tensor]
        return inline(
            substitute(value, dict(zip(letters, expression.indices, strict=True))), definitions
        )
    if isinstance(expression, Softmax):
        return inline(expression.expanded(), definitions)
    if not expression.args:
        return expression
    if isinstance(expression, BINDERS):
        return _inline_binder(expression, definitions)
    arguments = tuple(inline(a, definitions) for a in expression.args)
    if arguments == expression.args:
        return expression
    return expression.func(*arguments)


def _inline_binder(
    expression: Expr, definitions: Mapping[str, tuple[tuple[Letter, ...], Expr]]
) -> Expr:
    """A sum or maximum; its letters are renamed apart first, so that no definition is captured."""
    nodes = list(sympy.preorder_traversal(expression.body))
    named = {n.tensor for n in nodes if isinstance(n, Read)}
    if named.isdisjoint(definitions) and not any(isinstance(n, Softmax) for n in nodes):
        return expression
    fresh = {x: x.fresh() for x in expression.letters}
    body = inline(substitute(expression.body, fresh), definitions)
    return expression.func(body, *fresh.values())
