"""Canonical names of bound letters, so that equal sums compare equal.

The names are chosen among those of a set that does not depend on the letters' names before: all
orders of the letters of each size class if these are few, else those that the letters' places in
the summand leave open, one size class after the other, so that a choice in one decides the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import sympy
from sympy import Expr

from derive.budget import check_orders, check_time
from derive.nodes import Contraction, Letter, MaxOver, substitute

Naming = dict[Expr, Expr]
# Orders that are all tried.
MANY = 24


def rename_bound(node: Contraction) -> Expr:
    """Give bound letters their canonical names: by size class, ties broken by the smallest text."""
    by_size: dict[str, list[Letter]] = {}
    for letter in node.letters:
        by_size.setdefault(letter.size, []).append(letter)
    first = {size: _first_rank(node, size) for size in by_size}
    best: tuple[str, Expr] | None = None
    for mapping in _namings(node, by_size, first):
        check_time()
        body = substitute(node.body, mapping)
        candidate = Contraction(body, *sorted(mapping.values(), key=lambda x: (x.name, x.mark)))
        key = str(body) if len(mapping) > 1 else ""
        if best is None or key < best[0]:
            best = (key, candidate)
    assert best is not None
    return best[1]


def _namings(
    node: Contraction, by_size: Mapping[str, list[Letter]], first: Mapping[str, int]
) -> Iterable[Naming]:
    """The names to try: all of a few letters, of many only those that their places leave open."""
    blank = {x: Letter(x.size, x.size, "~") for x in node.letters}
    groups = {
        size: [letters] if len(letters) <= 2 else _places(node.body, letters, blank)
        for size, letters in by_size.items()
    }
    sizes = [len(group) for found in groups.values() for group in found]
    if math.prod(map(math.factorial, sizes)) > MANY:
        return _refined(node.body, list(by_size.items()), first, blank)
    choices = (_named(size, found, first[size]) for size, found in groups.items())
    return (
        {k: v for naming in chosen for k, v in naming.items()}
        for chosen in itertools.product(*choices)
    )


def _refined(
    body: Expr,
    classes: Sequence[tuple[str, list[Letter]]],
    first: Mapping[str, int],
    blank: Mapping[Expr, Expr],
) -> Iterator[Naming]:
    """One size class after the other, the places of each told apart by the names given before."""
    if not classes:
        yield {}
        return
    (size, letters), *rest = classes
    groups = _places(body, letters, blank)
    check_orders(math.prod(math.factorial(len(group)) for group in groups))
    for naming in _named(size, groups, first[size]):
        for more in _refined(substitute(body, naming), rest, first, blank):
            yield naming | more


def _places(
    body: Expr, letters: Sequence[Letter], blank: Mapping[Expr, Expr]
) -> list[list[Letter]]:
    """Letters in groups that stand in the same places, if all others look alike."""
    found: dict[str, list[Letter]] = {}
    for letter in letters:
        here = substitute(body, {**blank, letter: Letter(letter.size, letter.size, "~~")})
        found.setdefault(str(here), []).append(letter)
    return [found[place] for place in sorted(found)]


def _named(size: str, groups: Sequence[Sequence[Letter]], first: int) -> list[Naming]:
    """The names of one size class for every order within its groups."""
    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    return [
        {
            letter: Letter(size, size, f"~{first + rank}")
            for rank, letter in enumerate(itertools.chain(*order))
        }
        for order in orders
    ]


def _first_rank(node: Contraction, size: str) -> int:
    """The first number that no sum within gives to a letter of this size.

    Only sums that hold a bound letter of the node matter: elsewhere the same name does no harm.
    """
    ranks = [
        int(letter.mark[1:])
        for inner in sympy.preorder_traversal(node.body)
        if isinstance(inner, Contraction | MaxOver) and inner.free_symbols & set(node.letters)
        for letter in inner.letters
        if letter.size == size and letter.mark.startswith("~")
    ]
    return max(ranks, default=-1) + 1
