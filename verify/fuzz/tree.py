"""A layer as a tree that says outright what the notation leaves implicit.

The tree shares nothing with :mod:`derive.grammar`: sums are explicit (:class:`Ein` prints as its
body alone), every tensor lists its axes, and every letter's size has one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace


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
Index = str | Window | Token
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
            ``rest`` (of a composed axis) or ``window`` (computed).
        source: The argument, hyperparameter or number; of a window the letter of the input's axis;
            of a rest the argument of the whole.
        window: What a computed size is computed from.
        partner: The other letter of a composed axis.
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


# ------------------------------------------------------------------ walking
def children(node: Node) -> tuple[Node, ...]:
    """The parts of a node, indices excluded."""
    if isinstance(node, Sum):
        return node.terms
    if isinstance(node, Mul):
        return node.factors
    if isinstance(node, Div):
        return (node.above, node.below)
    if isinstance(node, Pow):
        return (node.base,)
    if isinstance(node, Fun):
        return node.arguments
    if isinstance(node, Reduce | Ein):
        return (node.body,)
    return ()


def rebuilt(node: Node, parts: tuple[Node, ...]) -> Node:
    """The node with other parts."""
    if isinstance(node, Sum):
        return Sum(parts)
    if isinstance(node, Mul):
        return Mul(parts)
    if isinstance(node, Div):
        return Div(*parts)
    if isinstance(node, Pow):
        return Pow(parts[0], node.exponent)
    if isinstance(node, Fun):
        return Fun(node.name, parts)
    if isinstance(node, Reduce | Ein):
        return replace(node, body=parts[0])
    return node


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def changed(node: Node, change: Callable[[Node], Node]) -> Node:
    """A tree rebuilt bottom up."""
    return change(rebuilt(node, tuple(changed(child, change) for child in children(node))))


def reads(node: Node) -> list[Read]:
    """Every read in a tree."""
    return [n for n in walk(node) if isinstance(n, Read)]


def names_in(node: Node) -> set[str]:
    """Every tensor that a tree reads, tokens included."""
    found = set()
    for read in reads(node):
        found.add(read.tensor)
        found |= {i.tensor for i in read.indices if isinstance(i, Token)}
    return found


def index_letters(index: Index) -> tuple[str, ...]:
    """The letters in an index."""
    if isinstance(index, str):
        return (index,)
    if isinstance(index, Token):
        return index.letters
    return (index.position, index.offset) if index.offset else (index.position,)


def free_letters(node: Node) -> set[str]:
    """Letters that a tree's value depends on."""
    if isinstance(node, Read):
        return {x for index in node.indices for x in index_letters(index)}
    found: set[str] = set().union(*(free_letters(child) for child in children(node)))
    bound = isinstance(node, Ein) or (isinstance(node, Reduce) and node.kind != "softmax")
    return found - set(node.letters) if bound and isinstance(node, Ein | Reduce) else found


def all_letters(node: Node) -> set[str]:
    """Every letter in a tree, bound ones too."""
    found: set[str] = set()
    for part in walk(node):
        if isinstance(part, Read):
            found |= {x for index in part.indices for x in index_letters(index)}
        elif isinstance(part, SizeOf):
            found.add(part.letter)
        elif isinstance(part, Ein | Reduce):
            found |= set(part.letters)
    return found


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """A tree with other letters."""

    def index(old: Index) -> Index:
        if isinstance(old, str):
            return names.get(old, old)
        if isinstance(old, Token):
            return Token(old.tensor, tuple(names.get(x, x) for x in old.letters))
        return replace(
            old,
            position=names.get(old.position, old.position),
            offset=names.get(old.offset, old.offset),
        )

    def change(part: Node) -> Node:
        if isinstance(part, Read):
            return Read(part.tensor, tuple(index(i) for i in part.indices))
        if isinstance(part, SizeOf):
            return SizeOf(names.get(part.letter, part.letter))
        if isinstance(part, Ein | Reduce):
            return replace(part, letters=tuple(names.get(x, x) for x in part.letters))
        return part

    return changed(node, change)


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
    return found | {s.source for s in layer.sizes if s.how == "hyper"}


# ------------------------------------------------------------------ keeping only what is used
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
