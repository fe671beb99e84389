"""Layers with what random formulas do not hold.

That is: constant indices, a letter twice in one tensor or window, shifted reads, lines that are
numbers, and sizes that are quotients. Number ``k`` of a seed is that of the grammar with one or two
of these put in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from verify.fuzz.grammar import random_layer
from verify.fuzz.parts import SPARE, Choices
from verify.fuzz.points import SHIFTS
from verify.fuzz.shrink import closed, sound
from verify.fuzz.sizing import SPECIAL, sized
from verify.fuzz.sums import unpaired
from verify.fuzz.text import axes_of
from verify.fuzz.tree import (
    Const,
    Div,
    Fun,
    Index,
    Layer,
    Line,
    Mul,
    Node,
    Read,
    Size,
    SizeOf,
    Sum,
    Tensor,
    Token,
    Window,
)
from verify.fuzz.walk import changed, index_letters, reads
from verify.instances import Seeded

RATIO = "ratio"
Twist = Callable[["Rare"], Layer | None]


def rare_layer(seed: int, number: int) -> Layer:
    """The layer number ``number`` of a seed, with one or two rare constructs."""
    layer, source = random_layer(seed, number), Seeded(seed, number, 4)
    wanted = source.integer(1, 2)
    rest = list(TWISTS)
    while rest and wanted:
        twist = rest.pop(source.integer(0, len(rest) - 1))
        other = twist(Rare(layer, source))
        if other is not None and sound(other):
            layer, wanted = other, wanted - 1
    return layer


class Rare(Choices):
    """Puts one rare construct into a layer; ``None`` where it has no place there."""

    def __init__(self, layer: Layer, source: Seeded) -> None:
        """Every choice comes from ``source``."""
        super().__init__(source)
        self.layer = layer

    # -------------------------------------------------------------- indices
    def constant_axis(self) -> Layer | None:
        """x[n, j, 1]: a new axis of a tensor, read at one place."""
        tensor = self.some_tensor()
        if tensor is None:
            return None
        return self.widened(tensor, self.letter(), lambda _: self.place(), declared=True)

    def constant_index(self) -> Layer | None:
        """W[i, 0] for W[i, j]: one read takes one place of an axis that it ran over."""

        def chosen(line: Line, index: Index) -> Index | None:
            inner = isinstance(index, str) and index not in line.letters
            return self.place() if inner else None

        return self.with_index(chosen)

    def diagonal(self) -> Layer | None:
        """W[i, j, j]: a new axis of a tensor, read at a letter that it has already."""
        tensor = self.some_tensor()
        if tensor is None:
            return None
        plain = all(any(isinstance(i, str) for i in r.indices) for r in self.reads_of(tensor))
        twins = [x for axis in tensor.axes if len(axis) == 1 for x in axis]
        declared = tensor.declared or not plain or self.flip(0.5)
        same = declared and bool(twins) and self.flip(0.3)
        letter = self.pick(twins) if same else self.letter()

        def again(read: Read) -> Index:
            letters = [i for i in read.indices if isinstance(i, str)]
            return self.pick(letters) if letters else self.place()

        return self.widened(tensor, letter, again, declared=declared)

    def window_twice(self) -> Layer | None:
        """x[n, c, p + k, p + k], or x[n, c, p + k, q + k] where there are two windows."""
        windows = [i for r in self.reads() for i in r.indices if isinstance(i, Window) and i.offset]
        tensors = [
            t
            for t in self.tensors()
            if all(any(i in windows for i in r.indices) for r in self.reads_of(t))
        ]
        if not tensors:
            return None
        positions = list(dict.fromkeys(w.position for w in windows))
        other = self.pick(positions) if self.flip(0.6) else ""

        def again(read: Read) -> Index:
            window = next(i for i in read.indices if isinstance(i, Window) and i.offset)
            return replace(window, position=other or window.position)

        return self.widened(self.pick(tensors), self.letter(), again, declared=True)

    def shifted(self) -> Layer | None:
        """x[n, t + 1, j]: one read moves along one of its axes, or skips every other element."""
        # Not 2*t + 1, which leaves its axis at once: certificates are of small sizes.
        stride, shift = self.pick(((ONE, SHIFTS[0]), (ONE, SHIFTS[1]), (TWO, SHIFTS[0])))

        def chosen(_: Line, index: Index) -> Index | None:
            # No unit: where nothing moves the last one, no certificate of a unit gauge is accepted.
            if isinstance(index, str) and index not in self.layer.unit:
                return Window(index, "", stride, ONE, shift)
            return None

        return self.with_index(chosen)

    def place(self) -> Const:
        """A constant index, which every size that is a number holds."""
        return Const(str(self.source.integer(0, 1)))

    # -------------------------------------------------------------- numbers
    def number_line(self) -> Layer | None:
        """A line without letters, ``m = 3*size(j)``, and a read that is multiplied by it."""
        name = self.letter("m")
        letters = [s.letter for s in self.layer.sizes]
        size = SizeOf(self.pick(letters))
        factor = Const(self.pick(("3", "0.5", "-2")))
        vanishing = Fun("sqrt", (Sum((size, Const("-1"))),))
        values: Sequence[Node] = (
            Mul((factor, size)),
            Div(ONE, size),
            Fun("sqrt", (size,)),
            vanishing,
            factor,
        )
        value = self.pick(values)
        place = self.source.integer(0, len(self.layer.lines) - 1)
        line = self.layer.lines[place]
        factors = reads(line.value)
        if not factors:
            return None
        target = self.pick(factors)
        number = Read(name, ())
        below = value != vanishing and self.flip(0.3)
        product: Node = Div(target, number) if below else Mul((number, target))

        def change(node: Node) -> Node:
            return product if node == target else node

        lines = list(self.layer.lines)
        lines[place] = Line(line.target, line.axes, changed(line.value, change))
        return self.finished(self.layer.with_(lines=(Line(name, (), value), *lines)))

    # -------------------------------------------------------------- sizes
    def quotient_size(self) -> Layer | None:
        """A size that is a rounded part of another, ``j//ratio + 1`` or ``-(-j//ratio)``."""
        windowed = {x for w in self.windows() for x in index_letters(w)}
        windowed |= {s.source for s in self.layer.sizes if s.how == "window"}
        composed = {x for axis in self.layer.composed for x in axis}
        apart = {self.layer.stands_for(x) for x in windowed | composed}
        free = [s for s in self.layer.sizes if s.letter not in apart]
        whole = [s.letter for s in free if s.how in ("argument", "read", "number")]
        parts = [s for s in free if s.how == "argument" and len(whole) > 1]
        if not parts:
            return None
        part = self.pick(parts)
        other = self.pick([x for x in whole if x != part.letter])
        how = self.pick(("floor", "ceil"))
        sizes = [
            Size(part.letter, how, other, partner=RATIO) if s == part else s
            for s in self.layer.sizes
        ]
        hypers = (*self.layer.hypers, (RATIO, 2))
        return self.finished(self.layer.with_(sizes=tuple(sizes), hypers=hypers))

    # -------------------------------------------------------------- parts
    def letter(self, wanted: str = "a") -> str:
        """A new letter or name, the wanted one if it is free."""
        layer = self.layer
        taken = {x for s in layer.sizes for x in (s.letter, s.source, s.partner)}
        taken |= {x for pair in layer.same for x in pair} | set(layer.letters)
        taken |= {x for letters in layer.letters.values() for x in letters}
        taken |= {x for r in self.reads() for i in r.indices for x in index_letters(i)}
        names: Sequence[str] = (wanted, *SPARE, *(f"{wanted}{k}" for k in range(99)))
        return next(x for x in names if x not in taken)

    def reads(self) -> list[Read]:
        """Every read of every line."""
        return [r for line in self.layer.lines for r in reads(line.value)]

    def reads_of(self, tensor: Tensor) -> list[Read]:
        """Every read of a tensor."""
        return [r for r in self.reads() if r.tensor == tensor.name]

    def windows(self) -> list[Window]:
        """Every window that is read."""
        return [i for r in self.reads() for i in r.indices if isinstance(i, Window)]

    def tensors(self) -> list[Tensor]:
        """Inputs and parameters that no token indexes."""
        looked_up = {r.tensor for r in self.reads() if any(isinstance(i, Token) for i in r.indices)}
        return [t for t in self.layer.tensors if t.kind != "token" and t.name not in looked_up]

    def some_tensor(self) -> Tensor | None:
        """One of :meth:`tensors`."""
        tensors = self.tensors()
        return self.pick(tensors) if tensors else None

    # -------------------------------------------------------------- changes
    def widened(
        self, tensor: Tensor, letter: str, index: Callable[[Read], Index], *, declared: bool
    ) -> Layer | None:
        """The layer whose tensor has one more axis, and where each of its reads finds it."""
        place = self.source.integer(0, len(tensor.axes))
        before = sum(len(axis) for axis in tensor.axes[:place])
        axes = (*tensor.axes[:place], (letter,), *tensor.axes[place:])

        def change(node: Node) -> Node:
            if isinstance(node, Read) and node.tensor == tensor.name:
                indices = (*node.indices[:before], index(node), *node.indices[before:])
                return Read(node.tensor, indices)
            return node

        layer = self.with_tensor(replace(tensor, axes=axes, declared=declared))
        lines = [Line(x.target, x.axes, changed(x.value, change)) for x in layer.lines]
        return self.finished(layer.with_(lines=tuple(lines)))

    def with_index(self, change: Callable[[Line, Index], Index | None]) -> Layer | None:
        """The layer with another index in one place, of those for which there is another."""
        # What is positive may stand below a line, where a 0 from outside has no place.
        names = {t.name for t in self.tensors() if not t.positive}
        names |= {x.target for x in self.layer.lines}
        places = [
            (number, read, place, other)
            for number, line in enumerate(self.layer.lines)
            for read in reads(line.value)
            if read.tensor in names
            for place, index in enumerate(read.indices)
            if not self.is_composed(read.tensor, place)
            if (other := change(line, index)) is not None
        ]
        if not places:
            return None
        number, read, place, other = self.pick(places)
        moved = Read(read.tensor, (*read.indices[:place], other, *read.indices[place + 1 :]))

        def move(node: Node) -> Node:
            return moved if node == read else node

        layer, lines = self.layer, list(self.layer.lines)
        line = lines[number]
        lines[number] = Line(line.target, line.axes, closed(changed(line.value, move)))
        for tensor in layer.tensors:
            if tensor.name == read.tensor:
                layer = self.with_tensor(replace(tensor, declared=True))
        return self.finished(layer.with_(lines=tuple(lines)))

    def is_composed(self, name: str, place: int) -> bool:
        """Whether an axis shares its storage with another, which takes plain letters."""
        axes = axes_of(self.layer, name)
        return [len(axis) > 1 for axis in axes for _ in axis][place]

    def with_tensor(self, tensor: Tensor) -> Layer:
        """The layer with another tensor of the same name."""
        tensors = [tensor if t.name == tensor.name else t for t in self.layer.tensors]
        return self.layer.with_(tensors=tuple(tensors))

    def finished(self, layer: Layer) -> Layer | None:
        """The layer with a size for every letter; ``None`` where one would have two."""
        lines = [Line(x.target, x.axes, unpaired(x.value)) for x in layer.lines]
        found = sized(layer.with_(lines=tuple(lines)), partial(self.size_entry, plain=0.2))
        given = [found.stands_for(s.letter) for s in layer.sizes if s.how in SPECIAL]
        return found if len(set(given)) == len(given) else None


ONE, TWO = Const("1"), Const("2")
TWISTS: Sequence[Twist] = (
    Rare.constant_axis,
    Rare.constant_index,
    Rare.diagonal,
    Rare.window_twice,
    Rare.shifted,
    Rare.number_line,
    Rare.quotient_size,
)
