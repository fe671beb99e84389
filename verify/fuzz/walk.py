"""Going through a tree: parts, reads, letters, and trees with other parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from verify.fuzz.tree import (
    Const,
    Div,
    Ein,
    Fun,
    Index,
    Mul,
    Node,
    Pow,
    Read,
    Reduce,
    SizeOf,
    Sum,
    Token,
)


def children(node: Node) -> tuple[Node, ...]:
    """The parts of a node, indices excluded."""
    if isinstance(node, Sum):
        return node.terms
    if isinstance(node, Mul):
        return node.factors
    if isinstance(node, Div):
        return (node.above, node.below)
    if isinstance(node, Pow):
        return (node.base,)
    if isinstance(node, Fun):
        return node.arguments
    if isinstance(node, Reduce | Ein):
        return (node.body,)
    return ()


def rebuilt(node: Node, parts: tuple[Node, ...]) -> Node:
    """The node with other parts."""
    if isinstance(node, Sum):
        return Sum(parts)
    if isinstance(node, Mul):
        return Mul(parts)
    if isinstance(node, Div):
        return Div(*parts)
    if isinstance(node, Pow):
        return Pow(parts[0], node.exponent)
    if isinstance(node, Fun):
        return Fun(node.name, parts)
    if isinstance(node, Reduce | Ein):
        return replace(node, body=parts[0])
    return node


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def changed(node: Node, change: Callable[[Node], Node]) -> Node:
    """A tree rebuilt bottom up."""
    return change(rebuilt(node, tuple(changed(child, change) for child in children(node))))


def reads(node: Node) -> list[Read]:
    """Every read in a tree."""
    return [n for n in walk(node) if isinstance(n, Read)]


def names_in(node: Node) -> set[str]:
    """Every tensor that a tree reads, tokens included."""
    found = set()
    for read in reads(node):
        found.add(read.tensor)
        found |= {i.tensor for i in read.indices if isinstance(i, Token)}
    return found


def index_letters(index: Index) -> tuple[str, ...]:
    """The letters in an index."""
    if isinstance(index, str):
        return (index,)
    if isinstance(index, Const):
        return ()
    if isinstance(index, Token):
        return index.letters
    return (index.position, index.offset) if index.offset else (index.position,)


def free_letters(node: Node) -> set[str]:
    """Letters that a tree's value depends on."""
    if isinstance(node, Read):
        return {x for index in node.indices for x in index_letters(index)}
    found: set[str] = set().union(*(free_letters(child) for child in children(node)))
    bound = isinstance(node, Ein) or (isinstance(node, Reduce) and node.kind != "softmax")
    return found - set(node.letters) if bound and isinstance(node, Ein | Reduce) else found


def all_letters(node: Node) -> set[str]:
    """Every letter in a tree, bound ones too."""
    found: set[str] = set()
    for part in walk(node):
        if isinstance(part, Read):
            found |= {x for index in part.indices for x in index_letters(index)}
        elif isinstance(part, SizeOf):
            found.add(part.letter)
        elif isinstance(part, Ein | Reduce):
            found |= set(part.letters)
    return found


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """A tree with other letters."""

    def index(old: Index) -> Index:
        if isinstance(old, str):
            return names.get(old, old)
        if isinstance(old, Const):
            return old
        if isinstance(old, Token):
            return Token(old.tensor, tuple(names.get(x, x) for x in old.letters))
        return replace(
            old,
            position=names.get(old.position, old.position),
            offset=names.get(old.offset, old.offset),
        )

    def change(part: Node) -> Node:
        if isinstance(part, Read):
            return Read(part.tensor, tuple(index(i) for i in part.indices))
        if isinstance(part, SizeOf):
            return SizeOf(names.get(part.letter, part.letter))
        if isinstance(part, Ein | Reduce):
            return replace(part, letters=tuple(names.get(x, x) for x in part.letters))
        return part

    return changed(node, change)
