"""Layers that the derivation or the generator says it cannot write, as the tree shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from verify.fuzz.tree import Layer, Reduce, Token
from verify.fuzz.walk import names_in, reads, walk


def looks_up_composed_axes(layer: Layer) -> bool:
    """Whether a token indexes a tensor with composed axes, or beside another index than letters."""
    composed = {t.name for t in layer.tensors if any(len(axis) > 1 for axis in t.axes)}
    for read in (r for line in layer.lines for r in reads(line.value)):
        others = [i for i in read.indices if not isinstance(i, Token)]
        looked_up = len(others) < len(read.indices)
        if looked_up and (read.tensor in composed or not all(isinstance(i, str) for i in others)):
            return True
    return False


def takes_a_max_that_moves(layer: Layer) -> bool:
    """Whether a ``max[...]`` runs over something that depends on a parameter."""
    moving = {t.name for t in layer.parameters}
    for line in layer.lines:
        if names_in(line.value) & moving:
            moving.add(line.target)
        maxima = [n for n in walk(line.value) if isinstance(n, Reduce) and n.kind == "max"]
        if any(names_in(n) & moving for n in maxima):
            return True
    return False


LIMITS: Mapping[str, Callable[[Layer], bool]] = {
    "a token may index one plain axis of a tensor with plain axes": looks_up_composed_axes,
    "max[...] over something that depends on a parameter has no derivative to build on": (
        takes_a_max_that_moves
    ),
}
"""Refusal of a whole layer → whether the tree bears it out."""
