"""Sums that the notation leaves implicit, and where the printed text would mean another one."""

from __future__ import annotations

from verify.fuzz.tree import (
    Div,
    Ein,
    Mul,
    Node,
    Reduce,
    Sum,
)
from verify.fuzz.walk import (
    changed,
    children,
    free_letters,
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
    letter that one factor alone holds is summed over the whole term.
    """
    terms = value.terms if isinstance(value, Sum) else (value,)
    return any(merged(term) or loose(term, True) for term in terms)


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


def explicit(node: Node) -> Node:
    """The same value wherever it stands: sums that would be read otherwise are written out."""

    def change(part: Node) -> Node:
        if not isinstance(part, Ein) or not (lone := lone_letters(part)):
            return part
        rest = tuple(x for x in part.letters if x not in lone)
        body = Ein(rest, part.body) if rest else part.body
        return Reduce("sum", lone, body)

    return changed(node, change)
