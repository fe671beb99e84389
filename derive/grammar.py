"""The notation as a closed syntax tree, and the operations on trees that need no names resolved.

A tree is a :class:`Number`, :class:`Name`, :class:`SizeOf`, :class:`Reference`, :class:`Total`,
:class:`Product`, :class:`Power`, :class:`Call` or :class:`Reduction`. :func:`close_sums` makes the
Einstein sums explicit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NoReturn


@dataclass(frozen=True)
class Number:
    """A rational number."""

    value: Fraction


@dataclass(frozen=True)
class Name:
    """A bare name, or an element ``name[element]`` of a tuple hyperparameter."""

    name: str
    element: int | None = None


@dataclass(frozen=True)
class SizeOf:
    """``size(j)``."""

    letter: str


@dataclass(frozen=True)
class Reference:
    """``tensor[index, ...]``; a composed axis is a tuple of trees."""

    tensor: str
    indices: tuple[tuple[Tree, ...], ...]


@dataclass(frozen=True)
class Total:
    """A sum of terms."""

    terms: tuple[Tree, ...]


@dataclass(frozen=True)
class Product:
    """A product of factors."""

    factors: tuple[Tree, ...]


@dataclass(frozen=True)
class Power:
    """An integer power (``-1`` stands for division)."""

    base: Tree
    exponent: int


@dataclass(frozen=True)
class Call:
    """A function of the list in :mod:`derive.functions`."""

    function: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True)
class Reduction:
    """``sum[j](...)``, ``mean[j](...)``, ``max[j](...)`` or ``softmax[u](...)``."""

    kind: str
    letters: tuple[str, ...]
    body: Tree


Tree = Number | Name | SizeOf | Reference | Total | Product | Power | Call | Reduction


@dataclass(frozen=True)
class Statement:
    """One line ``target[letters] = value``; ``number`` counts lines of ``forward`` from 1."""

    target: str
    axes: tuple[tuple[str, ...], ...]
    value: Tree
    number: int
    text: str


# ---------------------------------------------------------------------- building and walking
def total(*terms: Tree) -> Tree:
    """A flat sum."""
    flat = [t for term in terms for t in (term.terms if isinstance(term, Total) else (term,))]
    return flat[0] if len(flat) == 1 else Total(tuple(flat))


def product(*factors: Tree) -> Tree:
    """A flat product."""
    flat = [
        f
        for factor in factors
        for f in (factor.factors if isinstance(factor, Product) else (factor,))
    ]
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def children(tree: Tree) -> tuple[Tree, ...]:
    """The parts of a tree, indices included."""
    if isinstance(tree, Total):
        return tree.terms
    if isinstance(tree, Product):
        return tree.factors
    if isinstance(tree, Power):
        return (tree.base,)
    if isinstance(tree, Call):
        return tree.arguments
    if isinstance(tree, Reduction):
        return (tree.body,)
    if isinstance(tree, Reference):
        return tuple(index for axis in tree.indices for index in axis)
    return ()


def rebuild(tree: Tree, parts: list[Tree]) -> Tree:
    """The tree with other parts; a reference keeps its own."""
    if isinstance(tree, Total):
        return total(*parts)
    if isinstance(tree, Product):
        return product(*parts)
    if isinstance(tree, Power):
        return replace(tree, base=parts[0])
    if isinstance(tree, Call):
        return replace(tree, arguments=tuple(parts))
    if isinstance(tree, Reduction):
        return replace(tree, body=parts[0])
    return tree


def map_tree(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    """Rebuild a tree bottom up with ``change(node)``."""
    parts = [map_tree(child, change) for child in children(tree)]
    if isinstance(tree, Reference):
        iterator = iter(parts)
        tree = Reference(
            tree.tensor, tuple(tuple(next(iterator) for _ in axis) for axis in tree.indices)
        )
    elif parts:
        tree = rebuild(tree, parts)
    return change(tree)


def nodes(tree: Tree) -> Iterator[Tree]:
    """The tree and everything in it."""
    yield tree
    for child in children(tree):
        yield from nodes(child)


def references(tree: Tree) -> list[Reference]:
    """References in a tree."""
    return [n for n in nodes(tree) if isinstance(n, Reference)]


def is_plain(tree: Tree) -> bool:
    """Whether a tree is a bare name."""
    return isinstance(tree, Name) and tree.element is None


def element_of(tree: Tree) -> Tree | None:
    """``kernel_size[0]`` as an element of a tuple, if it is one."""
    if isinstance(tree, Reference) and len(tree.indices) == 1 and len(tree.indices[0]) == 1:
        index = tree.indices[0][0]
        if isinstance(index, Number) and index.value.denominator == 1 and 0 <= index.value < 16:
            return Name(tree.tensor, int(index.value))
    return None


def free_names(tree: Tree) -> list[str]:
    """Bare names that occur free inside indices, in order of appearance, with repetitions."""
    if isinstance(tree, Reference):
        return [n for axis in tree.indices for index in axis for n in index_names(index)]
    if isinstance(tree, Reduction):
        inner = free_names(tree.body)
        # softmax[u](s[t, u]) is a function of u: it binds u within, and is read at u without.
        return inner if tree.kind == "softmax" else [n for n in inner if n not in tree.letters]
    return [n for child in children(tree) for n in free_names(child)]


def index_names(tree: Tree) -> list[str]:
    """Bare names in an index expression."""
    if isinstance(tree, Name):
        return [tree.name] if tree.element is None else []
    return [n for child in children(tree) for n in index_names(child)]


def all_index_names(tree: Tree) -> list[str]:
    """Bare names inside all indices, bound ones too."""
    names = []
    for node in nodes(tree):
        if isinstance(node, Reference):
            names += [n for axis in node.indices for index in axis for n in index_names(index)]
    return names


def check_hyperparameter(
    tree: Name, value: object, fail: Callable[[str, str, str], NoReturn]
) -> None:
    """A hyperparameter is read whole if it is a number, and by element if it is a tuple."""
    if isinstance(value, bool):
        fail(f"the flag `{tree.name}` cannot stand in a formula", tree.name, "use a number")
    if isinstance(value, tuple) != (tree.element is not None):
        how = f"{tree.name}[0]" if isinstance(value, tuple) else tree.name
        fail(f"`{tree.name}` is read in the wrong way", tree.name, f"write {how}")
    if isinstance(value, tuple) and (tree.element or 0) >= len(value):
        fail(f"`{tree.name}` has {len(value)} elements", tree.name, "use a smaller element")


def without(tree: Tree, absent: frozenset[str]) -> Tree | None:
    """A tree with absent parameters set to zero; ``None`` if nothing is left."""
    if isinstance(tree, Reference) and tree.tensor in absent:
        return None
    if isinstance(tree, Total):
        kept = [t for t in (without(term, absent) for term in tree.terms) if t is not None]
        return total(*kept) if kept else None
    parts = [without(child, absent) for child in children(tree)]
    if any(part is None for part in parts):
        vanishes = isinstance(tree, Product | Reference)
        vanishes |= isinstance(tree, Reduction) and tree.kind != "softmax"
        if vanishes or (isinstance(tree, Power) and tree.exponent > 0):
            return None
        return rebuild(tree, [Number(Fraction(0)) if p is None else p for p in parts])
    if isinstance(tree, Reference) or not parts:
        return tree
    return rebuild(tree, [p for p in parts if p is not None])


# ---------------------------------------------------------------------- Einstein sums
def close_sums(tree: Tree, bound: set[str], is_letter: Callable[[str], bool]) -> Tree:
    """Make the Einstein sums explicit.

    An index that the left side lacks is summed, term by term: over the smallest product that holds
    all of its occurrences in the term or, where it occurs in one factor only, over the whole term;
    where one tensor alone holds it twice, over that tensor, so that W[j, j]**2 is a squared trace.

    Args:
        tree: The right side.
        bound: The letters of the left side.
        is_letter: Tells index letters from hyperparameters.
    """
    terms = tree.terms if isinstance(tree, Total) else (tree,)
    return total(*(_close_term(term, bound, is_letter) for term in terms))


def _close_term(term: Tree, bound: set[str], is_letter: Callable[[str], bool]) -> Tree:
    for letter in dict.fromkeys(free_names(term)):
        if letter in bound or not is_letter(letter):
            continue
        closed, done = _close(term, letter)
        term = closed if done else Reduction("sum", (letter,), term)
    return term


def _close(tree: Tree, letter: str) -> tuple[Tree, bool]:
    """Sum ``letter`` inside ``tree`` if its occurrences pair up there."""
    if isinstance(tree, Reference):
        paired = free_names(tree).count(letter) > 1
        return (Reduction("sum", (letter,), tree), True) if paired else (tree, False)
    holders = [child for child in children(tree) if letter in free_names(child)]
    if isinstance(tree, Product) and len(holders) > 1:
        return Reduction("sum", (letter,), tree), True
    if isinstance(tree, Reduction) and tree.kind == "softmax" and letter in tree.letters:
        return tree, False
    results = [
        _close(child, letter) if child in holders else (child, True) for child in children(tree)
    ]
    if not all(done for _, done in results):
        return tree, False
    return rebuild(tree, [child for child, _ in results]), True
