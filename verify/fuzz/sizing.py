"""Which letters share a size, and an entry for every size: what makes a changed tree legal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from verify.fuzz.tree import (
    QUOTIENTS,
    Hyper,
    Layer,
    Read,
    Size,
    Tensor,
    Window,
)
from verify.fuzz.walk import (
    all_letters,
    index_letters,
    names_in,
    reads,
    walk,
)

SPECIAL = ("window", "rest", "hyper", "number", *QUOTIENTS)
"""How sizes are given that keep their letter where it is found to be another's too."""
Choice = Callable[[str, bool, bool], Size]
"""Letter, whether an input tells its size, whether a parameter needs it → its entry."""


def argument(letter: str, told: bool, needed: bool) -> Size:
    """A constructor argument, which is always legal."""
    del told, needed
    return Size(letter, "argument", f"{letter}_size")


def sized(layer: Layer, choice: Choice = argument) -> Layer:
    """The layer without what nothing uses, and with one entry a size.

    A computed size whose input's axis is gone, a rest whose composed axis is gone, and a size that
    no input tells any more get a new entry.
    """
    found = with_entries(layer, choice)
    # A letter that was given a size of its own may have shared one with an input's axis before.
    while linked(found).same != found.same:
        found = with_entries(found, choice)
    return found


def with_entries(layer: Layer, choice: Choice) -> Layer:
    """The layer with an entry for every size, as letters share them now."""
    layer = linked(pruned(read_windows(layer)))
    on_inputs = {layer.stands_for(x) for t in layer.inputs for x in t.letters}
    used = {layer.stands_for(x) for x in used_letters(layer)}
    kept = [s for s in layer.sizes if holds(s, layer, on_inputs, used)]
    layer = layer.with_(sizes=tuple(kept))
    needed = required(layer)
    entries = {s.letter: s for s in kept}
    for letter in dict.fromkeys(layer.stands_for(x) for x in used_letters(layer)):
        if letter not in entries or (entries[letter].how == "read" and letter in needed):
            entries[letter] = choice(letter, letter in on_inputs, letter in needed)
    return pruned(layer.with_(sizes=tuple(entries.values())))


def read_windows(layer: Layer) -> Layer:
    """The layer whose computed sizes are those of windows that are read, by their letters."""
    windows = [i for r in plain_reads(layer) for i in r.indices if isinstance(i, Window)]
    # A window of one element comes after others: a shifted index may stand beside one.
    windows.sort(key=lambda w: bool(w.offset))
    last = {window.position: window for window in windows}
    sizes = []
    for size in layer.sizes:
        if size.how != "window":
            sizes.append(size)
        elif size.letter in last:
            sizes.append(replace(size, window=last[size.letter]))
    return layer.with_(sizes=tuple(sizes))


def holds(size: Size, layer: Layer, on_inputs: set[str], used: set[str]) -> bool:
    """Whether an entry still makes sense."""
    if layer.stands_for(size.letter) != size.letter:
        return False
    if size.how == "window":
        return size.source in on_inputs
    if size.how == "rest":
        return (size.partner, size.letter) in layer.composed
    if size.how in QUOTIENTS:
        above = layer.stands_for(size.source)
        return above in used and above != size.letter
    return size.how != "read" or size.letter in on_inputs


def plain_reads(layer: Layer) -> Iterator[Read]:
    """Every read of every line."""
    for line in layer.lines:
        yield from reads(line.value)


def linked(layer: Layer) -> Layer:
    """The layer in which letters share a size if and only if they address one axis of a tensor.

    A letter with an entry of its own that reads the axis of a declared input runs over a part of
    it, or beyond, where it is 0.
    """
    layer = layer.with_(tensors=tuple(first_read(layer, t) for t in layer.tensors))
    axes = layer.letters
    given = [s.letter for s in layer.sizes if s.how not in ("read", "rest")]
    declared = {t.name for t in layer.inputs if t.declared}
    special = [s.letter for s in layer.sizes if s.how in SPECIAL]
    parent: dict[str, str] = {}

    def root(letter: str) -> str:
        while letter in parent:
            letter = parent[letter]
        return letter

    for read in plain_reads(layer):
        for letter, index in zip(axes[read.tensor], read.indices, strict=True):
            if isinstance(index, str) and root(letter) != root(index):
                if read.tensor in declared and root(index) in map(root, given):
                    continue
                keep, drop = root(letter), root(index)
                if drop in special:
                    keep, drop = drop, keep
                parent[drop] = keep
    return layer.with_(same=tuple((x, root(x)) for x in sorted(parent)))


def first_read(layer: Layer, tensor: Tensor) -> Tensor:
    """A tensor whose axes are nowhere declared has the letters of its first read."""
    if tensor.declared or tensor.kind == "token":
        return tensor
    for read in plain_reads(layer):
        if read.tensor == tensor.name:
            letters = iter(read.indices)
            axes = tuple(tuple(str(next(letters)) for _ in axis) for axis in tensor.axes)
            return replace(tensor, axes=axes)
    return tensor


def used_letters(layer: Layer) -> list[str]:
    """Every letter of a layer's tensors, lines and indices, in order."""
    found = [x for line in layer.lines for x in line.letters]
    for read in plain_reads(layer):
        found += [x for index in read.indices for x in index_letters(index)]
    found += [x for t in layer.tensors for x in t.letters]
    for size in layer.sizes:
        if size.window is not None and size.letter in {layer.stands_for(x) for x in found}:
            found += [size.source, *index_letters(size.window)]
    return list(dict.fromkeys(found))


def required(layer: Layer) -> set[str]:
    """Letters whose size a parameter needs."""
    needed = {layer.stands_for(x) for t in layer.parameters for x in t.letters}
    for size in layer.sizes:
        window = size.window
        if size.letter in needed and window is not None:
            needed |= {layer.stands_for(x) for x in (size.source, window.offset) if x}
        if size.letter in needed and size.how in QUOTIENTS:
            needed.add(layer.stands_for(size.source))
    return needed


# ------------------------------------------------------------------ keeping only what is used
def hypers_in(layer: Layer) -> set[str]:
    """Every hyperparameter that formulas, indices or sizes use."""
    found: set[str] = set()
    windows = [s.window for s in layer.sizes if s.window is not None]
    for line in layer.lines:
        for node in walk(line.value):
            if isinstance(node, Hyper):
                found.add(node.name)
            if isinstance(node, Read):
                windows += [i for i in node.indices if isinstance(i, Window)]
    for window in windows:
        numbers = (window.stride, window.dilation, window.padding)
        found |= {x.name for x in numbers if isinstance(x, Hyper)}
    found |= {s.partner for s in layer.sizes if s.how in QUOTIENTS}
    return found | {s.source for s in layer.sizes if s.how == "hyper"}


def pruned(layer: Layer) -> Layer:
    """The layer without lines, tensors, sizes and hyperparameters that nothing uses."""
    needed, lines = {layer.output.target}, []
    for line in reversed(layer.lines):
        if line.target in needed:
            lines.append(line)
            needed |= names_in(line.value)
    tensors = tuple(t for t in layer.tensors if t.name in needed)
    layer = layer.with_(lines=tuple(lines[::-1]), tensors=tensors)
    used = {x for line in lines for x in (*line.letters, *all_letters(line.value))}
    used |= {x for t in tensors for x in t.letters}
    same = tuple((a, b) for a, b in layer.same if a in used)
    used |= {b for _, b in same}
    for size in layer.sizes:
        if size.window is not None and size.letter in used:
            used |= {size.source, *index_letters(size.window)}
    sizes = tuple(s for s in layer.sizes if s.letter in used)
    layer = layer.with_(same=same, sizes=sizes)
    kept = hypers_in(layer) | {t.torch for t in tensors if t.optional}
    return layer.with_(hypers=tuple((k, v) for k, v in layer.hypers if k in kept))
