"""Random sizes, hyperparameters and values of a layer's tree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from verify.fuzz.tree import (
    QUOTIENTS,
    Const,
    Layer,
    Node,
    Number,
    Size,
    SizeOf,
    Sum,
    Token,
    Window,
)
from verify.fuzz.walk import reads, walk
from verify.instances import Seeded

LARGEST = 48
"""Elements that an output may have for its Jacobian to be quick, where so few are possible."""
DRAWS = 60
SHIFTS = (Const("1"), Const("-1"))
FREE = ("argument", "read", "rest")
"""Sizes that are drawn."""
SHIFTED = 3
"""Elements along which an index is shifted by one, so that two of them read something."""
LONGEST = 12
"""Elements that the input's axis of a window may have."""
PATIENCE = 3
"""How many numbers of units are tried where they shall be many."""


class NoPoint(Exception):  # noqa: N818 - an answer, not a mishap
    """No sizes of a layer fit together and are small."""


@dataclass(frozen=True)
class Point:
    """A layer at concrete sizes.

    Attributes:
        sizes: Letter that stands for itself → size.
        numbers: Hyperparameter → value.
        tensors: Inputs, tokens and parameters over their letters.
    """

    sizes: Mapping[str, int]
    numbers: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]

    def with_tensors(self, **tensors: torch.Tensor) -> Point:
        """The same sizes with other values."""
        return Point(self.sizes, self.numbers, {**self.tensors, **tensors})


def number(value: Number, numbers: Mapping[str, Any]) -> Any:
    """A literal, or the value of a hyperparameter."""
    if isinstance(value, Const):
        return int(value.text)
    found = numbers[value.name]
    return found if value.element is None else found[value.element]


def moves(w: Window, numbers: Mapping[str, Any]) -> tuple[int, int, int]:
    """Stride, dilation and padding of a window."""
    s, d, q = (int(number(x, numbers)) for x in (w.stride, w.dilation, w.padding))
    return s, d, q


def extent(length: int, offsets: int, w: Window, numbers: Mapping[str, Any]) -> int:
    """The number of positions of a window over an axis."""
    s, d, q = moves(w, numbers)
    if w.transposed:
        return (length - 1) * s - 2 * q + d * (offsets - 1) + 1
    return (length + 2 * q - d * (offsets - 1) - 1) // s + 1


def draw_point(
    layer: Layer, source: Seeded, *, least: int = 2, wide: bool = False, alone: str = ""
) -> Point:
    """Sizes that fit together, and normal values.

    Args:
        layer: The layer.
        source: Where choices come from.
        least: The least size of what is free to choose.
        wide: Whether the units shall outnumber everything else, where a kernel loses rank first.
        alone: A letter whose size is 1: windows with one offset leave positions out.

    Raises:
        NoPoint: If nothing small fits.
    """
    many = 5 if len(layer.unit) == 1 else 3
    needed = least_sizes(layer, least)
    for attempt in range(DRAWS):
        # Small ones are tried at once, twice as large ones only where no others fit.
        most = LARGEST * (2 if len(layer.output.letters) > 4 or 2 * attempt >= DRAWS else 1)
        numbers = draw_numbers(layer, source, wide, bool(alone) and attempt == 0)
        # Fewer where so many do not fit: where units are many, little else is left to chance.
        units = max(2, many - PATIENCE * attempt // DRAWS) if wide else 0
        sizes = draw_sizes(layer, source, numbers, least, units, alone, needed)
        output = math.prod(sizes[layer.stands_for(x)] for x in layer.output.letters)
        held = all(sizes[x] >= few for x, few in needed.items())
        if held and all(v >= 1 for v in sizes.values()) and output <= most:
            return Point(sizes, numbers, draw_tensors(layer, source, sizes))
    raise NoPoint(f"no small sizes fit {layer.name}")


def draw_numbers(
    layer: Layer, source: Seeded, defaults: bool, largest: bool = False
) -> dict[str, Any]:
    """Hyperparameters near their defaults, or the largest of those: these leave most out."""

    def near(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(near(v) for v in value)
        if isinstance(value, bool) or defaults:
            return value
        if isinstance(value, float):
            return value * (1 + source.integer(-2, 2) / 8)
        least = min(1, value)
        return least + 1 if largest else source.integer(least, least + 1)

    return {name: near(value) for name, value in layer.hypers}


def draw_sizes(
    layer: Layer,
    source: Seeded,
    numbers: Mapping[str, Any],
    least: int,
    many: int,
    alone: str,
    needed: Mapping[str, int],
) -> dict[str, int]:
    """A size for every letter that stands for itself; with ``many`` units, all else is 1."""
    sizes: dict[str, int] = {}
    units = {layer.stands_for(x) for x in layer.unit}
    for size in layer.sizes:
        if size.how == "hyper":
            sizes[size.letter] = int(numbers[size.source])
        elif size.how == "number":
            sizes[size.letter] = int(size.source)
        elif size.how != "window" and size.how not in QUOTIENTS:
            high = max(least, 3 if len(layer.output.letters) < 4 else 2)
            sizes[size.letter] = source.integer(least, high)
            if many:
                sizes[size.letter] = many if size.letter in units else 1
            if size.letter == alone:
                sizes[size.letter] = 1
            sizes[size.letter] = max(sizes[size.letter], needed.get(size.letter, 1))
    for size in layer.sizes:
        if size.how == "window":
            fit_window(layer, size, sizes, numbers, needed, bool(many))
    for size in layer.sizes:
        if size.how in QUOTIENTS:
            above, below = sizes[layer.stands_for(size.source)], int(numbers[size.partner])
            sizes[size.letter] = above // below + 1 if size.how == "floor" else -(-above // below)
    return sizes


def least_sizes(layer: Layer, least: int) -> dict[str, int]:
    """Letters and how large they are at least.

    A constant index exists, and size(j) - 1 is not 0: where a layer is degenerate for its sizes
    alone nothing is said of it. Where sizes of 1 are not drawn, shifted indices meet.
    """
    found = [(layer.stands_for(x), 2) for line in layer.lines for x in lessened(line.value)]
    parts = [layer.size(x) for x in layer.unit if least > 1 and layer.size(x).how in QUOTIENTS]
    found += [(layer.stands_for(size.source), 3) for size in parts]  # two units are two
    for read in itertools.chain.from_iterable(reads(line.value) for line in layer.lines):
        for letter, index in zip(letters_of(layer, read.tensor), read.indices, strict=True):
            if isinstance(index, Const):
                size, place = layer.size(letter), int(index.text)
                if size.how in QUOTIENTS:  # by 1 or 2
                    found.append((layer.stands_for(size.source), 2 * place + 1))
                else:
                    found.append((size.letter, place + 1))
            elif isinstance(index, Window) and is_shift(layer, index) and least > 1:
                free = (x for x in (letter, index.position) if layer.size(x).how in FREE)
                few = SHIFTED + int(index.stride != Const("1"))
                found += [(layer.stands_for(x), few) for x in free]
    return {x: max(size for y, size in found if y == x) for x, _ in found}


def lessened(value: Node) -> list[str]:
    """The letters j of every size(j) - 1."""
    return [
        term.letter
        for node in walk(value)
        if isinstance(node, Sum) and Const("-1") in node.terms
        for term in node.terms
        if isinstance(term, SizeOf)
    ]


def is_shift(layer: Layer, w: Window) -> bool:
    """Whether an index is t + 1 or t - 1, and no window from which the size of t is computed."""
    computed = layer.size(w.position).how == "window"
    return not w.offset and w.padding in SHIFTS and not computed


def fit_window(
    layer: Layer,
    size: Size,
    sizes: dict[str, int],
    numbers: Mapping[str, Any],
    needed: Mapping[str, int],
    wide: bool,
) -> None:
    """Make the input's axis as long as a window needs for a few positions, of which one reads."""
    w, length = size.window, layer.stands_for(size.source)
    assert w is not None
    offsets = sizes[layer.stands_for(w.offset)] if w.offset else 1
    wanted = 1 if wide and layer.stands_for(size.letter) not in layer.unit else 2
    wanted = max(wanted, needed.get(size.letter, 1))
    free = layer.size(length).how != "number"
    positions = extent(sizes[length], offsets, w, numbers)
    while free and sizes[length] < LONGEST:
        if positions >= wanted and reads_some(sizes[length], offsets, positions, w, numbers):
            break
        sizes[length] += 1
        positions = extent(sizes[length], offsets, w, numbers)
    sizes[size.letter] = positions


def reads_some(
    length: int, offsets: int, positions: int, w: Window, numbers: Mapping[str, Any]
) -> bool:
    """Whether a position of a window reads an element: where none does, K is 0 and says nothing."""
    s, d, q = moves(w, numbers)
    for p, k in itertools.product(range(positions), range(offsets)):
        place, rest = divmod(p + q - d * k, s) if w.transposed else (s * p + d * k - q, 0)
        if rest == 0 and 0 <= place < length:
            return True
    return False


def draw_tensors(layer: Layer, source: Seeded, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Normal inputs and parameters in float64, tokens uniform in the range that they index."""
    generator = torch.Generator().manual_seed(source.integer(0, 2**31 - 1))
    found: dict[str, torch.Tensor] = {}
    for tensor in layer.tensors:
        shape = [sizes[layer.stands_for(x)] for x in tensor.letters]
        if tensor.kind == "token":
            high = token_range(layer, tensor.name, sizes)
            found[tensor.name] = torch.randint(0, high, shape, generator=generator)
            continue
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        found[tensor.name] = value.abs() + 0.1 if tensor.positive else value
    return found


def token_range(layer: Layer, name: str, sizes: Mapping[str, int]) -> int:
    """The size of the smallest axis that a token indexes."""
    found = []
    for read in itertools.chain.from_iterable(reads(line.value) for line in layer.lines):
        for index, letter in zip(read.indices, letters_of(layer, read.tensor), strict=True):
            if isinstance(index, Token) and index.tensor == name:
                found.append(sizes[layer.stands_for(letter)])
    return min(found, default=1)


def letters_of(layer: Layer, name: str) -> tuple[str, ...]:
    """The letters of a tensor or of a line."""
    line = next((line for line in layer.lines if line.target == name), None)
    return line.letters if line is not None else layer.tensor(name).letters
