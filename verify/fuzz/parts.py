"""The workshop of a random layer: letters, tensors, sizes and lines, each named and registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from verify.fuzz.sizing import (
    sized,
)
from verify.fuzz.tree import (
    Const,
    Hyper,
    Index,
    Layer,
    Line,
    Node,
    Number,
    Read,
    Size,
    Tensor,
    Token,
    Window,
)
from verify.instances import Seeded

T = TypeVar("T")
SPARE = "abcdefghijklmnopqrstuvwxy"
SYMBOLS = {"parameter": ("W", "V", "A", "B", "C", "E", "Q"), "input": ("x", "y", "u", "v")}
REAL = (("alpha", 0.5), ("beta", 2.0), ("eps", 0.25))


@dataclass(frozen=True)
class Signal:
    """Something that a line can read: an input, or an intermediate.

    Attributes:
        name: Its symbol.
        axes: Its letters, composed as in storage.
        at: Letter → the index expression at which that axis is read.
    """

    name: str
    axes: tuple[tuple[str, ...], ...]
    at: Mapping[str, Index] = field(default_factory=dict)

    @property
    def letters(self) -> tuple[str, ...]:
        """One letter a logical axis."""
        return tuple(x for axis in self.axes for x in axis)


class Choices:
    """What is drawn from one source."""

    def __init__(self, source: Seeded) -> None:
        """Every choice comes from ``source``."""
        self.source = source

    def flip(self, chance: float) -> bool:
        """True with a probability, to a thousandth."""
        return self.source.integer(1, 1000) <= 1000 * chance

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return self.source.choice(options)

    def some(self, options: Sequence[T], chance: float) -> list[T]:
        """Each of the options with a probability."""
        return [x for x in options if self.flip(chance)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in random order."""
        rest, found = list(options), []
        while rest:
            found.append(rest.pop(self.source.integer(0, len(rest) - 1)))
        return found

    def size_entry(self, letter: str, told: bool, needed: bool, plain: float = 0.05) -> Size:
        """A constructor argument, a number, or nothing where an input tells the size."""
        if told and not needed and self.flip(0.7):
            return Size(letter, "read")
        if not told and self.flip(plain):
            return Size(letter, "number", str(self.source.integer(2, 3)))
        return Size(letter, "argument", f"{letter}_size")


class Workshop(Choices):
    """Names and registers the parts of one layer."""

    def __init__(self, source: Seeded) -> None:
        """Start empty; every choice comes from ``source``."""
        super().__init__(source)
        self.tensors: dict[str, Tensor] = {}
        self.lines: list[Line] = []
        self.same: dict[str, str] = {}
        self.sizes: dict[str, Size] = {}
        self.hypers: dict[str, float | int | bool | tuple[int, ...]] = {}
        self.taken: set[str] = {"z"}
        self.signals: list[Signal] = []
        self.site: tuple[str, ...] = ()
        self.unit: tuple[str, ...] = ()
        self.composed: tuple[tuple[str, str], ...] = ()

    # -------------------------------------------------------------- names
    def letter(self, wanted: str) -> str:
        """A new letter, the wanted one if it is free."""
        free = [wanted, *(x for x in SPARE if x != wanted), *(f"{wanted}{k}" for k in range(2, 99))]
        found = next(x for x in free if x not in self.taken)
        self.taken.add(found)
        return found

    def alias(self, letter: str) -> str:
        """A new letter with the size of another."""
        found = self.letter(letter)
        self.same[found] = self.same.get(letter, letter)
        return found

    def symbol(self, kind: str, wanted: str = "") -> str:
        """A new tensor symbol."""
        names = [wanted] if wanted else list(SYMBOLS[kind])
        names += [f"{names[0]}{k}" for k in range(2, 99)]
        found = next(x for x in names if x not in self.taken)
        self.taken.add(found)
        return found

    def hyper(self, name: str, default: float | int | tuple[int, ...]) -> Hyper:
        """A hyperparameter, registered."""
        self.hypers.setdefault(name, default)
        self.taken.add(name)
        return Hyper(name)

    def count(self, name: str, low: int, high: int) -> Number:
        """A small integer: a literal, a hyperparameter or an element of a tuple of them."""
        value = self.source.integer(low, high)
        way = self.source.integer(1, 10)
        if way <= 4:
            return Const(str(value))
        if way <= 9:
            return self.hyper(name, value)
        self.hyper(name, (value, value))
        return Hyper(name, self.source.integer(0, 1)) if self.is_tuple(name) else Hyper(name)

    def is_tuple(self, name: str) -> bool:
        """Whether a hyperparameter is a tuple."""
        return isinstance(self.hypers[name], tuple)

    # -------------------------------------------------------------- tensors
    def compose(self, letters: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Axes of letters, where neighbours of a composed pair share one."""
        axes: list[tuple[str, ...]] = []
        for letter in letters:
            pair = (axes[-1][0], letter) if axes and len(axes[-1]) == 1 else ("", letter)
            if pair in self.composed:
                axes[-1] = pair
            else:
                axes.append((letter,))
        return tuple(axes)

    def parameter(self, letters: Sequence[str], *, wanted: str = "") -> Read:
        """A new parameter over these letters, read there."""
        name = self.symbol("parameter", wanted)
        stem = "bias" if wanted == "b" else "weight"
        names = {t.torch for t in self.tensors.values()}
        free = [stem, *(f"{stem}{k}" for k in range(2, 99))]
        torch = next(x for x in free if x not in names)
        self.tensors[name] = Tensor(name, "parameter", self.compose(letters), torch)
        return Read(name, tuple(letters))

    def add_input(
        self,
        letters: Sequence[str],
        *,
        at: Mapping[str, Index] | None = None,
        wanted: str = "",
        positive: bool = False,
    ) -> Signal:
        """A new input over these letters."""
        name = self.symbol("input", wanted)
        declared = bool(at) or self.flip(0.2)
        axes = self.compose(letters)
        self.tensors[name] = Tensor(name, "input", axes, positive=positive, declared=declared)
        return Signal(name, axes, at or {})

    def token(self, letters: Sequence[str]) -> Token:
        """A new token input over these letters."""
        name = self.symbol("input", "tok")
        self.tensors[name] = Tensor(name, "token", self.compose(letters))
        return Token(name, tuple(letters))

    def read(
        self, signal: Signal, left: Sequence[str], *, fresh: bool = False
    ) -> tuple[Read, list[str]]:
        """A signal, read at the left side's letters, and the letters that are left to sum."""
        indices: list[Index] = []
        free: list[str] = []
        for letter in signal.letters:
            index = signal.at.get(letter, letter)
            if isinstance(index, Window) and index.offset:
                free.append(index.offset)
            elif isinstance(index, str) and letter not in left:
                index = self.alias(letter) if fresh else letter
                free.append(index)
            indices.append(index)
        return Read(signal.name, tuple(indices)), free

    def define(self, target: str, letters: Sequence[str], value: Node) -> Signal:
        """A new line, as a signal for later ones."""
        axes = self.compose(letters) if target == "z" else tuple((x,) for x in letters)
        self.lines.append(Line(target, axes, value))
        return Signal(target, axes)

    # -------------------------------------------------------------- the whole
    def layer(self, name: str) -> Layer:
        """Everything that the output needs, with a size for every letter."""
        sizes = tuple(self.sizes.values())
        tensors = tuple(self.tensors.values())
        layer = Layer(
            name,
            tuple(self.lines),
            self.site,
            self.unit,
            tensors,
            sizes,
            tuple(self.same.items()),
            tuple(self.hypers.items()),
        )
        layer = sized(layer, self.size_entry)
        return layer.with_(sizes=tuple(self.shuffled(layer.sizes)))
