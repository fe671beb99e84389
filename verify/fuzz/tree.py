"""A layer as a tree that says outright what the notation leaves implicit.

The tree shares nothing with :mod:`derive.grammar`: sums are explicit (:class:`Ein` prints as its
body alone), every tensor lists its axes, and every letter's size has one entry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

QUOTIENTS = ("floor", "ceil")
"""How a size is computed from another by division."""


@dataclass(frozen=True)
class Const:
    """A number, as it is written."""

    text: str


@dataclass(frozen=True)
class Hyper:
    """A hyperparameter, or an element of a tuple of them."""

    name: str
    element: int | None = None


@dataclass(frozen=True)
class SizeOf:
    """``size(j)``."""

    letter: str


@dataclass(frozen=True)
class Window:
    """``stride*p + dilation*k - padding``, or transposed ``(p + padding - dilation*k)/stride``."""

    position: str
    offset: str
    stride: Number
    dilation: Number
    padding: Number
    transposed: bool = False


@dataclass(frozen=True)
class Token:
    """An integer input that stands in an index."""

    tensor: str
    letters: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """``tensor[index, ...]``, one index a letter of the tensor's axes."""

    tensor: str
    indices: tuple[Index, ...]


@dataclass(frozen=True)
class Sum:
    """A sum of terms."""

    terms: tuple[Node, ...]


@dataclass(frozen=True)
class Mul:
    """A product."""

    factors: tuple[Node, ...]


@dataclass(frozen=True)
class Div:
    """A quotient."""

    above: Node
    below: Node


@dataclass(frozen=True)
class Pow:
    """An integer power."""

    base: Node
    exponent: int


@dataclass(frozen=True)
class Fun:
    """A function of the notation."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Reduce:
    """``sum[j](...)``, ``mean``, ``max`` or ``softmax``, written out."""

    kind: str
    letters: tuple[str, ...]
    body: Node


@dataclass(frozen=True)
class Ein:
    """A sum over letters that the left side lacks; prints as its body."""

    letters: tuple[str, ...]
    body: Node


Number = Const | Hyper
Index = str | Const | Window | Token
Node = Const | Hyper | SizeOf | Read | Sum | Mul | Div | Pow | Fun | Reduce | Ein


@dataclass(frozen=True)
class Tensor:
    """An input, token or parameter.

    Attributes:
        name: Its symbol.
        kind: ``input``, ``token`` or ``parameter``.
        axes: Letters of each storage axis; several letters compose it, the first slowest.
        torch: The name of a parameter in the module.
        optional: Whether a parameter may be left out.
        positive: Whether an input stands under a root.
        declared: Whether the axes are written down, in [inputs] or with the parameter.
    """

    name: str
    kind: str
    axes: tuple[tuple[str, ...], ...]
    torch: str = ""
    optional: bool = False
    positive: bool = False
    declared: bool = False

    @property
    def letters(self) -> tuple[str, ...]:
        """One letter a logical axis."""
        return tuple(x for axis in self.axes for x in axis)


@dataclass(frozen=True)
class Size:
    """How large a letter is.

    Attributes:
        letter: The letter that stands for all of its kind.
        how: ``read`` (off an input), ``argument`` (of the constructor), ``hyper``, ``number``,
            ``rest`` (of a composed axis), ``window`` (computed), ``floor`` or ``ceil`` (of the
            quotient of another size, the former plus 1).
        source: The argument, hyperparameter or number; of a window the letter of the input's axis;
            of a rest the argument of the whole; of a quotient the letter above.
        window: What a computed size is computed from.
        partner: The other letter of a composed axis; of a quotient the hyperparameter below.
    """

    letter: str
    how: str
    source: str = ""
    window: Window | None = None
    partner: str = ""


@dataclass(frozen=True)
class Line:
    """``target[axes] = value``."""

    target: str
    axes: tuple[tuple[str, ...], ...]
    value: Node

    @property
    def letters(self) -> tuple[str, ...]:
        """One letter a logical axis."""
        return tuple(x for axis in self.axes for x in axis)


@dataclass(frozen=True)
class Layer:
    """A whole spec.

    Attributes:
        name: The stem of the class names.
        lines: The last is the output.
        site, unit: The letters of the output.
        tensors: Inputs, tokens and parameters, parameters in declared order.
        sizes: One entry a letter that stands for others or for itself.
        same: Letter → the letter whose size it shares.
        hypers: Hyperparameter → default.
    """

    name: str
    lines: tuple[Line, ...]
    site: tuple[str, ...]
    unit: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    sizes: tuple[Size, ...]
    same: tuple[tuple[str, str], ...] = ()
    hypers: tuple[tuple[str, float | int | bool | tuple[int, ...]], ...] = ()

    @property
    def output(self) -> Line:
        """The last line."""
        return self.lines[-1]

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameters in declared order."""
        return tuple(t for t in self.tensors if t.kind == "parameter")

    @property
    def composed(self) -> set[tuple[str, ...]]:
        """The composed axes of tensors and lines."""
        axes = [t.axes for t in self.tensors] + [line.axes for line in self.lines]
        return {axis for entry in axes for axis in entry if len(axis) > 1}

    @property
    def letters(self) -> dict[str, tuple[str, ...]]:
        """Tensor or line → one letter a logical axis."""
        found = {t.name: t.letters for t in self.tensors}
        return found | {line.target: line.letters for line in self.lines}

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Inputs and tokens."""
        return tuple(t for t in self.tensors if t.kind != "parameter")

    def stands_for(self, letter: str) -> str:
        """The letter whose size a letter shares."""
        return dict(self.same).get(letter, letter)

    def size(self, letter: str) -> Size:
        """The entry of a letter's size."""
        return next(s for s in self.sizes if s.letter == self.stands_for(letter))

    def tensor(self, name: str) -> Tensor:
        """The tensor of a name."""
        return next(t for t in self.tensors if t.name == name)

    def with_(self, **changes: object) -> Layer:
        """A copy with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]
