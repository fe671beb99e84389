"""z and K(s,s') of a tree by brute force: letters are array axes, Jacobians are autograd's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from verify.fuzz.points import Point, moves
from verify.fuzz.tree import (
    Const,
    Div,
    Ein,
    Fun,
    Hyper,
    Index,
    Layer,
    Mul,
    Node,
    Pow,
    Read,
    Reduce,
    SizeOf,
    Sum,
    Token,
    Window,
)

FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
}


@dataclass(frozen=True)
class Labelled:
    """A tensor whose axes are letters."""

    letters: tuple[str, ...]
    value: Tensor

    def over(self, letters: Sequence[str]) -> Tensor:
        """The value with these axes, of size 1 where it has none."""
        value = self.value.permute([self.letters.index(x) for x in letters if x in self.letters])
        for place, letter in enumerate(letters):
            if letter not in self.letters:
                value = value.unsqueeze(place)
        return value


class Sides:
    """On which side of its kink each relu or max is: a first run notes it, later ones keep it."""

    def __init__(self) -> None:
        """Nothing is noted yet."""
        self.noted: list[Tensor] = []
        self.place: int | None = None

    def again(self) -> None:
        """What is evaluated next keeps the sides, from the first on."""
        self.place = 0

    def larger(self, a: Tensor, b: Tensor) -> Tensor:
        """The larger of two numbers, or the one that was."""
        if self.place is None:
            self.noted.append(a > b)
            return torch.where(self.noted[-1], a, b)
        self.place += 1
        return torch.where(self.noted[self.place - 1], a, b)


class Evaluation:
    """One layer at one point."""

    def __init__(self, layer: Layer, point: Point, sides: Sides | None = None) -> None:
        """Keep all; ``tensors`` grows by every line."""
        self.layer = layer
        self.point = point
        self.sides = sides or Sides()
        self.tensors: dict[str, Tensor] = dict(point.tensors)

    def run(self) -> Tensor:
        """Every line in order; the output over (site letters, unit letters)."""
        for line in self.layer.lines:
            value = self.of(line.value).over(line.letters)
            shape = [self.size(x) for x in line.letters]
            self.tensors[line.target] = value.expand(shape)
        output = self.layer.output
        order = [output.letters.index(x) for x in (*self.layer.site, *self.layer.unit)]
        return self.tensors[output.target].permute(order)

    def size(self, letter: str) -> int:
        """The size of a letter."""
        return self.point.sizes[self.layer.stands_for(letter)]

    def of(self, node: Node) -> Labelled:
        """The value of a node."""
        if isinstance(node, Read):
            return self.read(node)
        if isinstance(node, Const):
            return scalar(float(node.text))
        if isinstance(node, Hyper):
            value = self.point.numbers[node.name]
            return scalar(float(value if node.element is None else value[node.element]))
        if isinstance(node, SizeOf):
            return scalar(float(self.size(node.letter)))
        if isinstance(node, Ein):
            return self.reduce("sum", node.letters, self.of(node.body))
        if isinstance(node, Reduce):
            return self.reduce(node.kind, node.letters, self.of(node.body))
        return self.combine(node)

    def combine(self, node: Sum | Mul | Div | Pow | Fun) -> Labelled:
        """An operation element by element."""
        if isinstance(node, Pow):
            base = self.of(node.base)
            return Labelled(base.letters, base.value**node.exponent)
        if isinstance(node, Fun) and node.name == "relu":
            return self.fold(self.sides.larger, (*node.arguments, Const("0")))
        if isinstance(node, Fun):
            function = self.sides.larger if node.name == "max" else FUNCTIONS[node.name]
            return self.fold(function, node.arguments)
        if isinstance(node, Div):
            return self.fold(torch.div, (node.above, node.below))
        if isinstance(node, Sum):
            return self.fold(lambda *parts: sum(parts), node.terms)
        return self.fold(lambda *parts: math.prod(parts), node.factors)

    def fold(self, function: Callable[..., Any], nodes: Sequence[Node]) -> Labelled:
        """A function of several values over the letters of all."""
        values = [self.of(node) for node in nodes]
        letters = tuple(dict.fromkeys(x for v in values for x in v.letters))
        return Labelled(letters, function(*(v.over(letters) for v in values)))

    def reduce(self, kind: str, letters: tuple[str, ...], body: Labelled) -> Labelled:
        """A sum, mean, maximum or softmax over letters."""
        for letter in letters:
            place = body.letters.index(letter)
            rest = tuple(x for x in body.letters if x != letter)
            if kind == "softmax":
                body = Labelled(body.letters, torch.softmax(body.value, place))
            elif kind == "sum":
                body = Labelled(rest, body.value.sum(place))
            elif kind == "mean":
                body = Labelled(rest, body.value.mean(place))
            else:
                body = Labelled(rest, body.value.amax(place))
        return body

    def read(self, node: Read) -> Labelled:
        """A gather that is 0 outside the range."""
        source = self.tensors[node.tensor]
        if not node.indices:
            return Labelled((), source)
        positions = [self.position(index) for index in node.indices]
        letters = tuple(dict.fromkeys(x for p, _ in positions for x in p.letters))
        inside = torch.ones([self.size(x) for x in letters], dtype=torch.bool)
        places = []
        for (position, exact), size in zip(positions, source.shape, strict=True):
            at = position.over(letters)
            inside = inside & exact.over(letters) & (at >= 0) & (at < size)
            places.append(at.clamp(0, size - 1))
        zero = torch.zeros((), dtype=source.dtype)
        return Labelled(letters, torch.where(inside, source[tuple(places)], zero))

    def position(self, index: Index) -> tuple[Labelled, Labelled]:
        """Where an index points, and whether it points at an element at all."""
        if isinstance(index, str):
            at = Labelled((index,), torch.arange(self.size(index)))
            return at, Labelled((), torch.tensor(True))
        if isinstance(index, Const):
            return Labelled((), torch.tensor(int(index.text))), Labelled((), torch.tensor(True))
        if isinstance(index, Token):
            tokens = Labelled(index.letters, self.tensors[index.tensor])
            return tokens, Labelled((), torch.tensor(True))
        return self.windowed(index)

    def windowed(self, w: Window) -> tuple[Labelled, Labelled]:
        """``stride*p + dilation*k - padding`` or its inverse."""
        stride, dilation, padding = moves(w, self.point.numbers)
        letters = (w.position, w.offset) if w.offset else (w.position,)
        p = torch.arange(self.size(w.position))
        k = torch.arange(self.size(w.offset)) if w.offset else torch.zeros((), dtype=torch.long)
        p = p[:, None] if w.offset else p
        if not w.transposed:
            at = stride * p + dilation * k - padding
            return Labelled(letters, at), Labelled((), torch.tensor(True))
        above = p + padding - dilation * k
        return Labelled(letters, above // stride), Labelled(letters, above % stride == 0)


def scalar(value: float) -> Labelled:
    """A number."""
    return Labelled((), torch.tensor(value, dtype=torch.float64))


@dataclass(frozen=True)
class Measured:
    """A layer measured at a point.

    Attributes:
        z: The activation, (sites, units).
        parts: Parameter → its share of K, (sites, units, sites, units).
    """

    z: Tensor
    parts: Mapping[str, Tensor]

    @property
    def kernel(self) -> Tensor:
        """K(s,s') over (sites, units, sites, units)."""
        return torch.stack(list(self.parts.values())).sum(0)

    @property
    def own(self) -> Tensor:
        """K(s,s) over (sites, units, units)."""
        return self_blocks(self.kernel)


def self_blocks(kernel: Tensor) -> Tensor:
    """K(s,s) of a kernel over (sites, units, sites, units)."""
    return kernel.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def without(layer: Layer, point: Point, absent: frozenset[str]) -> Point:
    """The point with absent parameters at 0."""
    zeros = {t.name: torch.zeros_like(point.tensors[t.name]) for t in layer.parameters}
    return point.with_tensors(**{k: v for k, v in zeros.items() if k in absent})


def activation(layer: Layer, point: Point, sides: Sides | None = None) -> Tensor:
    """The uncorrected z, (sites, units)."""
    z = Evaluation(layer, point, sides).run()
    sites = math.prod(z.shape[: len(layer.site)])
    return z.reshape(sites, -1)


def measure(
    layer: Layer,
    point: Point,
    absent: frozenset[str] = frozenset(),
    sides: Sides | None = None,
) -> Measured:
    """The activation and kernel of a layer without its absent parameters."""
    names = [t.name for t in layer.parameters if t.name not in absent]
    leaves = {n: point.tensors[n].clone().requires_grad_() for n in names}
    z = activation(layer, without(layer, point, absent).with_tensors(**leaves), sides)
    jacobians = jacobian(z, list(leaves.values()))
    parts = {}
    for name, j in zip(names, jacobians, strict=True):
        flat = j.reshape(z.numel(), -1)
        parts[name] = (flat @ flat.T).reshape(*z.shape, *z.shape)
    return Measured(z.detach(), parts)


def jacobian(z: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """∂z/∂θ for every leaf, element of z by element."""
    rows: list[list[Tensor]] = [[] for _ in leaves]
    for element in z.reshape(-1):
        found: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if element.requires_grad:
            found = torch.autograd.grad(element, leaves, retain_graph=True, allow_unused=True)
        for row, leaf, gradient in zip(rows, leaves, found, strict=True):
            row.append(torch.zeros_like(leaf) if gradient is None else gradient)
    return [torch.stack(row) for row in rows]
