"""A tree as the TOML that a user would write."""

from __future__ import annotations

import json

from verify.fuzz.tree import (
    Const,
    Div,
    Fun,
    Hyper,
    Index,
    Layer,
    Line,
    Mul,
    Node,
    Number,
    Pow,
    Read,
    Reduce,
    Size,
    SizeOf,
    Sum,
    Tensor,
    Token,
    Window,
)

ONE, ZERO = Const("1"), Const("0")


def toml(layer: Layer) -> str:
    """The spec file of a layer."""
    forward = "\n".join(line_text(layer, line) for line in layer.lines)
    blocks = [
        f"name = {json.dumps(layer.name)}\n"
        f'forward = """\n{forward}\n"""\n'
        f"site = {json.dumps(' '.join(layer.site))}\n"
        f"unit = {json.dumps(' '.join(layer.unit))}"
    ]
    blocks += table("parameters", [(t.name, parameter_text(t)) for t in layer.parameters])
    blocks += table("sizes", [e for size in layer.sizes for e in size_entry(size)])
    blocks += table("hyperparameters", [(k, value_text(v)) for k, v in layer.hypers])
    declared = [t for t in layer.inputs if t.declared]
    blocks += table("inputs", [(t.name, json.dumps(axes_text(t.axes))) for t in declared])
    return "\n\n".join(blocks) + "\n"


def table(name: str, entries: list[tuple[str, str]]) -> list[str]:
    """A TOML table, if it has entries."""
    if not entries:
        return []
    return ["\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in entries)])]


def parameter_text(tensor: Tensor) -> str:
    """A parameter's entry."""
    parts = [f"torch = {json.dumps(tensor.torch)}"]
    if tensor.optional:
        parts.append("optional = true")
    if tensor.declared:
        parts.append(f"axes = {json.dumps(axes_text(tensor.axes))}")
    return f"{{ {', '.join(parts)} }}"


def axes_text(axes: tuple[tuple[str, ...], ...]) -> str:
    """Axes as ``n (g c) l``."""
    return " ".join(axis[0] if len(axis) == 1 else f"({' '.join(axis)})" for axis in axes)


def value_text(value: object) -> str:
    """A hyperparameter's default."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def size_entry(size: Size) -> list[tuple[str, str]]:
    """A letter's entry in [sizes]; none where the size is read off an input."""
    if size.how == "read":
        return []
    if size.how == "rest":
        return [(f'"({size.partner}, {size.letter})"', json.dumps(size.source))]
    if size.how == "number":
        return [(size.letter, size.source)]
    if size.how == "floor":
        return [(size.letter, json.dumps(f"{size.source}//{size.partner} + 1"))]
    if size.how == "ceil":
        return [(size.letter, json.dumps(f"-(-{size.source}//{size.partner})"))]
    if size.how == "window":
        assert size.window is not None
        return [(size.letter, json.dumps(window_size_text(size.window, size.source)))]
    return [(size.letter, json.dumps(size.source))]


def number_text(number: Number) -> str:
    """A literal or a hyperparameter."""
    if isinstance(number, Const):
        return number.text
    return number.name if number.element is None else f"{number.name}[{number.element}]"


def window_size_text(w: Window, length: str) -> str:
    """The size of a window's position letter."""
    s, d, q = number_text(w.stride), number_text(w.dilation), number_text(w.padding)
    span = f"({w.offset} - 1)" if w.offset else "0"
    if w.transposed:
        return f"({length} - 1)*{s} - 2*{q} + {d}*{span} + 1"
    return f"({length} + 2*{q} - {d}*{span} - 1)//{s} + 1"


def index_text(index: Index) -> str:
    """An index expression."""
    if isinstance(index, str):
        return index
    if isinstance(index, Const):
        return index.text
    if isinstance(index, Token):
        return f"{index.tensor}[{', '.join(index.letters)}]" if index.letters else index.tensor
    stride, dilation = number_text(index.stride), number_text(index.dilation)
    offset = index.offset if index.dilation == ONE else f"{dilation}*{index.offset}"
    padding = number_text(index.padding)
    if index.transposed:
        above = index.position + ("" if index.padding == ZERO else f" + {padding}")
        above += f" - {offset}" if index.offset else ""
        return f"({above})/{stride}"
    position = index.position if index.stride == ONE else f"{stride}*{index.position}"
    text = position + (f" + {offset}" if index.offset else "")
    if index.padding == ZERO:
        return text
    return f"{text} + {padding[1:]}" if padding.startswith("-") else f"{text} - {padding}"


def read_text(layer: Layer, read: Read) -> str:
    """A read, its composed axes in parentheses."""
    axes = axes_of(layer, read.tensor)
    if not axes:
        return read.tensor
    parts, place = [], 0
    for axis in axes:
        texts = [index_text(i) for i in read.indices[place : place + len(axis)]]
        place += len(axis)
        parts.append(texts[0] if len(texts) == 1 else f"({', '.join(texts)})")
    return f"{read.tensor}[{', '.join(parts)}]"


def axes_of(layer: Layer, name: str) -> tuple[tuple[str, ...], ...]:
    """The axes of a tensor or of a line."""
    line = next((line for line in layer.lines if line.target == name), None)
    return line.axes if line is not None else layer.tensor(name).axes


def line_text(layer: Layer, line: Line) -> str:
    """A line of ``forward``."""
    left = read_text(layer, Read(line.target, line.letters))
    return f"{left} = {Writer(layer).text(line.value, 0)}"


class Writer:
    """Formulas with parentheses where they are needed: 0 within sums, 1 within products, 2 else."""

    def __init__(self, layer: Layer) -> None:
        """Keep the layer, whose tensors say how reads are composed."""
        self.layer = layer

    def text(self, node: Node, strength: int) -> str:
        """A node where an operator of this strength surrounds it."""
        plain, own = self.parts(node)
        return f"({plain})" if own < strength else plain

    def parts(self, node: Node) -> tuple[str, int]:
        """A node's text and its own strength."""
        if isinstance(node, Const):
            return node.text, 0 if node.text.startswith("-") else 3
        if isinstance(node, Hyper):
            return number_text(node), 3
        if isinstance(node, SizeOf):
            return f"size({node.letter})", 3
        if isinstance(node, Read):
            return read_text(self.layer, node), 3
        if isinstance(node, Sum):
            return " + ".join(self.text(t, 1) for t in node.terms), 0 if len(node.terms) > 1 else 1
        if isinstance(node, Mul):
            return "*".join(self.text(f, 2) for f in node.factors), 1
        if isinstance(node, Div):
            return f"{self.text(node.above, 1)}/{self.text(node.below, 3)}", 1
        if isinstance(node, Pow):
            return f"{self.text(node.base, 3)}**{node.exponent}", 2
        if isinstance(node, Fun):
            return f"{node.name}({', '.join(self.text(a, 0) for a in node.arguments)})", 3
        if isinstance(node, Reduce):
            return f"{node.kind}[{', '.join(node.letters)}]({self.text(node.body, 0)})", 3
        return self.parts(node.body)
