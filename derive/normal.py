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
from sympy import Add, Expr, Integer, Mul, Pow, Symbol

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
    """Multiply out products and positive integer powers, and drop products of exclusive deltas.

    Raises:
        TooLargeError: If that gives more terms than the limits of :mod:`derive.budget`.
    """
    if _multiplies_out(expression):
        check_product(expression)
        expression = _multiplied_out(expression)
    check_terms(expression)
    if expression.is_Add:
        return Add(*(_clean(t) for t in expression.args))
    return _clean(expression)


def _multiplied_out(expression: Expr) -> Expr:
    """The products multiplied out by SymPy.

    It takes exp(-a) for a denominator: exp(-a)/(1 + b) would become 1/(exp(a) + exp(a) b), which is
    0/0 where exp(a) overflows. So exponentials are symbols to it.
    """
    found = {n: sympy.Dummy(positive=True) for n in surface(expression) if isinstance(n, sympy.exp)}
    expanded = sympy.expand(
        expression.xreplace(found),
        deep=False,
        mul=True,
        multinomial=True,
        log=False,
        power_base=False,
        power_exp=False,
    )
    return expanded.xreplace({symbol: e for e, symbol in found.items()})


def _multiplies_out(expression: Expr) -> bool:
    """Whether a term holds a sum as a factor: elsewhere SymPy's expansion only costs time."""
    return any(
        factor.is_Add or (factor.is_Pow and factor.base.is_Add and factor.exp.is_Integer)
        for term in Add.make_args(expression)
        for factor in (term.args if term.is_Mul else (term,))
        if term is not expression or not expression.is_Add
    )


def _clean(term: Expr) -> Expr:
    """On the support of a free delta δ(a-b) write one letter for both."""
    if not term.is_Mul:
        return term
    changed = True
    while changed:
        changed = False
        for factor in term.args if term.is_Mul else ():
            pair = letter_pair(factor)
            if pair is None:
                continue
            keep, drop = sorted(pair, key=lambda x: (x.mark != "", x.mark, x.name))
            rest = [f for f in term.args if f is not factor]
            if any(drop in free(f) for f in rest):
                term = factor * substitute(Mul(*rest), {drop: keep})
                changed = True
                break
    return term


@functools.lru_cache(maxsize=1 << 12)
def letter_pair(factor: Expr) -> tuple[Letter, Letter] | None:
    """The two letters of one size of δ(a-b), if that is what it is."""
    if not isinstance(factor, Delta):
        return None
    symbols = factor.args[0].free_symbols
    letters = [s for s in symbols if isinstance(s, Letter)]
    if len(symbols) == 2 and len(letters) == 2 and letters[0].size == letters[1].size:
        difference = factor.args[0]
        if difference in (letters[0] - letters[1], letters[1] - letters[0]):
            return letters[0], letters[1]
    return None


def _power(base: Expr, exponent: Expr) -> Expr:
    if exponent.is_Integer and exponent.is_positive:
        return expand(base**exponent)
    base = cancel(base)
    # A common factor leaves the power: sqrt(v**2 u) prints and cancels better as |v| sqrt(u).
    if base.is_Add:
        content, rest = base.primitive()
        return content**exponent * rest**exponent
    return base**exponent


# ---------------------------------------------------------------------- sums
def contract(body: Expr, letters: Sequence[Letter]) -> Expr:
    """Σ over ``letters`` of a normal ``body``, closed as far as it goes."""
    body = expand(body)
    letters = list(letters)
    factor: Expr = Integer(1)
    for letter in [x for x in letters if x not in free(body)]:
        factor *= size_symbol(letter.size)
        letters.remove(letter)
    if not letters or body == 0:
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
    hard = (
        _opaque_letters(body, letters)
        if not body.is_Add
        else set().union(*(_opaque_letters(t, letters) for t in body.args))
    )
    easy = [x for x in letters if x not in hard]
    if easy:
        inner = Add(*(contract(t, easy) for t in Add.make_args(body)))
        return contract(expand(cancel(inner)), [x for x in letters if x in hard])
    reduced = cancel(body)
    if not any(_opaque_letters(t, letters) for t in Add.make_args(expand(reduced))):
        return contract(expand(reduced), letters)
    constant, dependent = reduced.as_independent(*letters, as_Add=False)
    common, dependent = factored(dependent).as_independent(*letters, as_Add=False)
    used = [x for x in letters if x in free(dependent)]
    unused = [size_symbol(x.size) for x in letters if x not in used]
    outside = constant * common * Mul(*unused)
    return outside * rename_bound(Contraction(dependent, *used))


def _contract_term(term: Expr, letters: Sequence[Letter]) -> Expr:
    """Σ over letters of one monomial."""
    check_time()
    bound = set(letters)
    factors, bound = _flatten(list(Mul.make_args(term)), bound)
    collapsed = _apply_deltas(Mul(*factors), bound)
    if collapsed is None:
        return Integer(0)
    term, bound = collapsed
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
    return Mul(*outside) * Mul(*(_close(part, held) for part, held in _components(inside, bound)))


def _flatten(factors: list[Expr], bound: set[Letter]) -> tuple[list[Expr], set[Letter]]:
    """Σ_j f Σ_k g → Σ_{j,k} f g where g depends on j."""
    bound = set(bound)
    flat: list[Expr] = []
    queue = list(factors)
    while queue:
        factor = queue.pop()
        base, exponent = factor.as_base_exp() if isinstance(factor, Pow) else (factor, Integer(1))
        if (
            isinstance(base, Contraction)
            and exponent.is_Integer
            and exponent > 0
            and free(base) & bound
        ):
            for _ in range(int(exponent)):
                fresh = {x: x.fresh() for x in base.letters}
                bound |= set(fresh.values())
                queue += Mul.make_args(substitute(base.body, fresh))
        else:
            flat.append(factor)
    return flat, bound


def _apply_deltas(term: Expr, bound: set[Letter]) -> tuple[Expr, set[Letter]] | None:
    """Use every δ that fixes a bound letter; ``None`` if the term vanishes."""
    bound = set(bound)
    progress = True
    while progress and term != 0 and not term.is_Add:
        progress = False
        deltas = [f for f in Mul.make_args(term) if isinstance(f, Delta)]
        for delta in deltas:
            solved = _solve_delta(delta, bound)
            if solved is None:
                continue
            letter, value = solved
            rest = Mul(*(f for f in Mul.make_args(term) if f is not delta))
            term = expand(substitute(rest, {letter: value}))
            bound.discard(letter)
            progress = True
            break
        if not progress:
            for first, second in itertools.combinations(deltas, 2):
                joined = _join_deltas(first, second)
                if joined is not None:
                    rest = Mul(*(f for f in Mul.make_args(term) if f is not second))
                    term = rest * joined
                    progress = True
                    break
    return None if term == 0 else (term, bound)


def _solve_delta(delta: Delta, bound: set[Letter]) -> tuple[Letter, Expr] | None:
    """δ(b - e) with bound b and e a letter of the same size or a token: b := e, always in range."""
    pair = letter_pair(delta)
    if pair is not None:
        for letter, other in (pair, pair[::-1]):
            if letter in bound and (
                other not in bound or _letter_key(other) <= _letter_key(letter)
            ):
                return letter, other
        return None
    terms = Add.make_args(delta.args[0])
    if len(terms) == 2:
        for left, right in (terms, terms[::-1]):
            for sign in (1, -1):
                if sign * left in bound and isinstance(-sign * right, TokenRead):
                    return sign * left, -sign * right
    return None


@functools.lru_cache(maxsize=1 << 12)
def _join_deltas(first: Delta, second: Delta) -> Expr | None:
    """δ(e) δ(e + s(a-b)) → δ(e) δ(a-b) for letters a, b of one size and a positive s (a stride).

    Not where the second is of two letters already: δ(a-b) δ(a-c) would become another for ever.
    """
    if letter_pair(second) is not None:
        return None
    for sign in (1, -1):
        difference = first.args[0] + sign * second.args[0]
        letters = [s for s in difference.free_symbols if isinstance(s, Letter)]
        if len(letters) == 2 and letters[0].size == letters[1].size:
            a, b = letters
            coefficient = difference.coeff(a)
            if (
                not coefficient.has(Letter)
                and sympy.expand(coefficient * (a - b) - difference) == 0
            ):
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
        groups = [*rest, merged]
    return [(Mul(*fs), sorted(held, key=_letter_key)) for fs, held in groups]


def _letter_key(letter: Letter) -> tuple[bool, str, str]:
    return (letter.mark != "", letter.name, letter.mark)


def _close(summand: Expr, letters: list[Letter]) -> Expr:
    coefficient, rest = summand.as_coeff_Mul()
    return coefficient * rename_bound(Contraction(rest, *letters))


def inline(expression: Expr, definitions: Mapping[str, tuple[tuple[Letter, ...], Expr]]) -> Expr:
    """Replace reads of intermediates by their definitions, everywhere and repeatedly."""
    if isinstance(expression, Read) and expression.tensor in definitions:
        letters, value = definitions[expression.tensor]
        return inline(
            substitute(value, dict(zip(letters, expression.indices, strict=True))), definitions
        )
    if isinstance(expression, Softmax):
        return inline(expression.expanded(), definitions)
    if not expression.args or isinstance(expression, Symbol):
        return expression
    if isinstance(expression, BINDERS):
        return _inline_binder(expression, definitions)
    arguments = [inline(a, definitions) for a in expression.args]
    if all(a is b for a, b in zip(arguments, expression.args, strict=True)):
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
