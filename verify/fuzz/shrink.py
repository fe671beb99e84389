"""The smallest layer that fails in the same way, by greedy deletion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from verify.fuzz.sizing import (
    sized,
)
from verify.fuzz.sums import (
    ambiguous,
)
from verify.fuzz.text import toml
from verify.fuzz.tree import (
    Const,
    Div,
    Ein,
    Fun,
    Hyper,
    Layer,
    Line,
    Mul,
    Node,
    Pow,
    Read,
    Reduce,
    Sum,
    Window,
)
from verify.fuzz.walk import (
    changed,
    children,
    free_letters,
    index_letters,
    names_in,
    rebuilt,
)

MAX_SECONDS = 90.0
ONE = Const("1")


def shrink(layer: Layer, fails: Callable[[Layer], bool], seconds: float = MAX_SECONDS) -> Layer:
    """Take away what can be taken away.

    Args:
        layer: A failing layer.
        fails: Whether a smaller one still fails in the same way.
        seconds: When to be content with what was reached.

    Returns:
        A layer that fails, none of whose one-step reductions does (or the time was up).
    """
    end = time.monotonic() + seconds
    smaller = True
    while smaller:
        smaller = False
        for candidate in candidates(layer):
            if time.monotonic() > end:
                return layer
            if weight(candidate) < weight(layer) and sound(candidate) and fails(candidate):
                layer, smaller = candidate, True
                break
    return layer


def weight(layer: Layer) -> tuple[int, int]:
    """What is made smaller: the spec's length, then the number of flags and defaults."""
    optional = sum(t.optional for t in layer.tensors)
    return len(toml(layer)), optional


def sound(layer: Layer) -> bool:
    """Whether a reduction left a layer that means what it prints."""
    names = {t.name for t in layer.parameters}
    reached: set[str] = set()
    for line in layer.lines:
        left, right = set(line.letters), free_letters(line.value)
        if left != right or ambiguous(line.value):
            return False
        if names_in(line.value) & (names | reached):
            reached.add(line.target)
    return layer.output.target in reached and bool(layer.site)


def candidates(layer: Layer) -> Iterator[Layer]:
    """One-step reductions, the boldest first."""
    yield from without_letters(layer)
    for place, line in enumerate(layer.lines):
        for value in reductions(line.value):
            lines = list(layer.lines)
            lines[place] = Line(line.target, line.axes, closed(value))
            yield sized(layer.with_(lines=tuple(lines)))
    yield from plainer_windows(layer)
    for tensor in layer.tensors:
        changes = [{"optional": False}, {"axes": tuple((x,) for x in tensor.letters)}]
        for change in changes:
            other = replace(tensor, **change)  # type: ignore[arg-type]
            tensors = tuple(other if t.name == tensor.name else t for t in layer.tensors)
            yield sized(layer.with_(tensors=tensors))


def reductions(node: Node) -> Iterator[Node]:
    """The node with one part replaced by something smaller."""
    parts = children(node)
    if isinstance(node, Sum | Mul):
        kind = type(node)
        for place in range(len(parts)):
            rest = parts[:place] + parts[place + 1 :]
            yield rest[0] if len(rest) == 1 else kind(rest)
    elif isinstance(node, Fun | Div):
        yield parts[0]
    elif isinstance(node, Pow):
        yield node.base
        if node.exponent > 2:
            yield Pow(node.base, 2)
    elif isinstance(node, Reduce) and node.kind != "softmax":
        yield Ein(node.letters, node.body)
    elif isinstance(node, Reduce):
        yield node.body
    elif isinstance(node, Read | Hyper):
        yield ONE
    for place, part in enumerate(parts):
        for smaller in reductions(part):
            yield rebuilt(node, (*parts[:place], smaller, *parts[place + 1 :]))


def closed(node: Node) -> Node:
    """Sums over letters that are gone, and factors of 1, drop out."""

    def change(part: Node) -> Node:
        if isinstance(part, Ein | Reduce):
            free = free_letters(part.body)
            letters = tuple(x for x in part.letters if x in free)
            return replace(part, letters=letters) if letters else part.body
        if isinstance(part, Mul):
            factors = tuple(f for f in part.factors if f != ONE)
            if len(factors) < 2:
                return factors[0] if factors else ONE
            return Mul(factors)
        return part

    return changed(node, change)


def without_letters(layer: Layer) -> Iterator[Layer]:
    """The layer without one of its letters, wherever that stands alone in an index."""
    letters = dict.fromkeys(x for found in layer.letters.values() for x in found)
    for letter in letters:
        gone = {x for x in letters if layer.stands_for(x) == layer.stands_for(letter)} | {letter}
        gone |= {a for a, b in layer.same if b == layer.stands_for(letter)}
        windows = {
            w
            for line in layer.lines
            for node in _reads(line.value)
            for w in node.indices
            if isinstance(w, Window) and set(index_letters(w)) & gone
        }
        if not windows:
            yield drop_letter(layer, gone)


def _reads(node: Node) -> Iterator[Read]:
    if isinstance(node, Read):
        yield node
    for child in children(node):
        yield from _reads(child)


def drop_letter(layer: Layer, gone: set[str]) -> Layer:
    """The layer without these letters' axes."""
    kept = {
        name: [k for k, x in enumerate(letters) if x not in gone]
        for name, letters in layer.letters.items()
    }

    def change(node: Node) -> Node:
        if isinstance(node, Read):
            return Read(node.tensor, tuple(node.indices[k] for k in kept[node.tensor]))
        return node

    def axes(old: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        rest = (tuple(x for x in axis if x not in gone) for axis in old)
        return tuple(axis for axis in rest if axis)

    lines = tuple(
        Line(x.target, axes(x.axes), closed(changed(x.value, change))) for x in layer.lines
    )
    tensors = tuple(replace(t, axes=axes(t.axes)) for t in layer.tensors)
    site, unit = (tuple(x for x in s if x not in gone) for s in (layer.site, layer.unit))
    return sized(layer.with_(lines=lines, tensors=tensors, site=site, unit=unit))


def plainer_windows(layer: Layer) -> Iterator[Layer]:
    """Strides, dilations and paddings as the literals 1 and 0."""
    windows = {
        index
        for line in layer.lines
        for read in _reads(line.value)
        for index in read.indices
        if isinstance(index, Window)
    }
    for window in sorted(windows, key=str):
        for field, value in (("stride", "1"), ("dilation", "1"), ("padding", "0")):
            other = replace(window, **{field: Const(value)})  # type: ignore[arg-type]
            if other != window:
                yield sized(exchanged(layer, window, other))


def exchanged(layer: Layer, old: Window, new: Window) -> Layer:
    """The layer with another window in the place of one."""

    def change(node: Node) -> Node:
        if isinstance(node, Read):
            return Read(node.tensor, tuple(new if i == old else i for i in node.indices))
        return node

    lines = tuple(replace(line, value=changed(line.value, change)) for line in layer.lines)
    sizes = tuple(replace(s, window=new) if s.window == old else s for s in layer.sizes)
    return layer.with_(lines=lines, sizes=sizes)
