"""Sums that the notation leaves implicit, and where the printed text would mean another one."""

from __future__ import annotations

from verify.fuzz.tree import (
    Div,
    Ein,
    Mul,
    Node,
    Read,
    Reduce,
    Sum,
)
from verify.fuzz.walk import (
    changed,
    children,
    free_letters,
    index_letters,
    reads,
    walk,
)


def summed_letters(node: Node) -> set[str]:
    """Letters that are summed without saying so."""
    return {x for part in walk(node) if isinstance(part, Ein) for x in part.letters}


def flat_factors(node: Node) -> list[Node]:
    """What a printed product multiplies: parentheses within it make no difference."""
    if isinstance(node, Mul):
        return [f for factor in node.factors for f in flat_factors(factor)]
    if isinstance(node, Ein):
        return flat_factors(node.body)
    if isinstance(node, Div):
        return [*flat_factors(node.above), node.below]
    return [node]


def ambiguous(value: Node) -> bool:
    """Whether the printed text would sum otherwise than the tree does.

    A letter that two factors, or two arguments, sum on their own is read as one sum over both; a
    letter that one factor alone holds is summed over the whole term, unless one tensor holds it
    twice: then that is summed.
    """
    terms = value.terms if isinstance(value, Sum) else (value,)
    paired = any(paired_letters(node) for node in walk(value) if isinstance(node, Ein))
    return paired or any(merged(term) or loose(term, True) for term in terms)


def merged(node: Node) -> bool:
    """Whether two sums over one letter would be read as one."""
    for part in walk(node):
        parts = children(part)
        if not isinstance(part, Sum) and len(parts) > 1:
            found = [x for child in parts for x in summed_letters(child)]
            if len(found) > len(set(found)):
                return True
        if isinstance(part, Ein) and set(part.letters) & summed_letters(part.body):
            return True
    return False


def loose(node: Node, outermost: bool) -> bool:
    """Whether a sum within a term has a letter that one factor alone holds."""
    if isinstance(node, Ein) and not outermost and lone_letters(node):
        return True
    outermost = outermost and isinstance(node, Mul | Ein)
    return any(loose(child, outermost) for child in children(node))


def lone_letters(node: Ein) -> tuple[str, ...]:
    """The letters of a sum that one factor alone holds."""
    held = [free_letters(f) for f in flat_factors(node.body)]
    return tuple(x for x in node.letters if sum(x in h for h in held) < 2)


def paired_letters(node: Ein) -> tuple[str, ...]:
    """The letters of a sum that one factor alone holds, and a read within that factor twice."""
    inner = [r for f in flat_factors(node.body) if not isinstance(f, Read) for r in reads(f)]
    letters = [[x for index in read.indices for x in index_letters(index)] for read in inner]
    return tuple(x for x in lone_letters(node) if any(found.count(x) > 1 for found in letters))


def unpaired(node: Node) -> Node:
    """The same value, with sums written out that would be read as those of one tensor."""

    def change(part: Node) -> Node:
        return explicit(part) if isinstance(part, Ein) and paired_letters(part) else part

    return changed(node, change)


def explicit(node: Node) -> Node:
    """The same value wherever it stands: sums that would be read otherwise are written out."""

    def change(part: Node) -> Node:
        if not isinstance(part, Ein) or not (lone := lone_letters(part)):
            return part
        rest = tuple(x for x in part.letters if x not in lone)
        body = Ein(rest, part.body) if rest else part.body
        return Reduce("sum", lone, body)

    return changed(node, change)
