"""The degree of a tree in its real inputs, where it is a polynomial in them."""

from __future__ import annotations

from collections.abc import Mapping

from verify.fuzz.tree import (
    Div,
    Ein,
    Fun,
    Layer,
    Mul,
    Node,
    Pow,
    Read,
    Reduce,
    Sum,
)
from verify.fuzz.walk import (
    children,
)

NOTHING = -1
"""The degree of 0, which is what an absent parameter makes of a product."""


def degree(layer: Layer, absent: frozenset[str] = frozenset()) -> int | None:
    """The degree of the output in the real inputs, or ``None`` if it is no polynomial in them."""
    known: dict[str, int | None] = {t.name: int(t.kind == "input") for t in layer.tensors}
    known |= dict.fromkeys(absent, NOTHING)
    for line in layer.lines:
        known[line.target] = node_degree(line.value, known)
    return known[layer.output.target]


def node_degree(node: Node, known: Mapping[str, int | None]) -> int | None:
    """The degree of a node, given that of every tensor and line."""
    if isinstance(node, Read):
        return known[node.tensor]
    parts = [node_degree(child, known) for child in children(node)]
    if isinstance(node, Mul) and NOTHING in parts:
        return NOTHING
    if isinstance(node, Div) and parts[0] == NOTHING:
        return NOTHING
    degrees = [d for d in parts if d is not None]
    if len(degrees) < len(parts):
        return None
    if isinstance(node, Mul):
        return sum(degrees)
    if isinstance(node, Pow):
        return degrees[0] if degrees[0] <= 0 else degrees[0] * node.exponent
    if isinstance(node, Sum | Ein) or (isinstance(node, Reduce) and node.kind in ("sum", "mean")):
        return max(degrees)
    if isinstance(node, Div):
        return degrees[0] if degrees[1] <= 0 else None
    if isinstance(node, Fun | Reduce):
        return 0 if max(degrees) <= 0 else None
    return 0
