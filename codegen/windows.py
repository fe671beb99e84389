"""Sliding windows: reads of an input at stride p + dilation k - padding, and convolutions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sympy
from sympy import Expr

from codegen.calls import Found, bias_code, factors_of, parameter_read
from codegen.lower import Lowering
from codegen.values import BATCH, Axis, Value
from derive import grammar as g
from derive.evaluate import evaluate_size
from derive.nodes import Contraction, Letter, Read


@dataclass(frozen=True)
class Slide:
    """One axis of a sliding window: the input position q = stride·p + dilation·k - padding.

    Attributes:
        axis: The input's axis letter.
        out: The output position p.
        kernel: The kernel offset k.
        stride, dilation, padding: Expressions in hyperparameters.
        output_padding: Only for transposed windows.
    """

    axis: Letter
    out: Letter
    kernel: Letter
    stride: Expr
    dilation: Expr
    padding: Expr
    output_padding: Expr = sympy.S.Zero


class Steps(NamedTuple):
    """The numbers of a slide at drawn hyperparameters."""

    stride: int
    dilation: int
    padding: int
    output_padding: int


def slide(lowering: Lowering, index: Expr, axis: Letter, bound: set[Letter]) -> Slide | None:
    """An index expression as a slide, if it is one and if the output's size is a convolution's."""
    letters = [x for x in index.free_symbols if isinstance(x, Letter)]
    kernels = [x for x in letters if x in bound]
    outs = [x for x in letters if x not in bound]
    if len(kernels) != 1 or len(outs) != 1:
        return None
    k, p = kernels[0], outs[0]
    stride, dilation = index.coeff(p), index.coeff(k)
    padding = sympy.expand(stride * p + dilation * k - index)
    if {stride, dilation, padding} and any(x.has(Letter) for x in (stride, dilation, padding)):
        return None
    if any(known_negative(x) or depends_on_size(x) for x in (stride, dilation, padding)):
        return None
    found = Slide(axis, p, k, stride, dilation, padding)
    return found if size_fits(lowering, found, convolved) else None


def known_negative(e: Expr) -> bool:
    """Whether an expression in hyperparameters carries a minus sign."""
    return bool(e.is_Integer and e < 0) or e.could_extract_minus_sign()


def depends_on_size(e: Expr) -> bool:
    """Whether an expression holds a size."""
    return any(s.name.startswith("size(") for s in e.free_symbols)


def convolved(length: int, kernel: int, s: Steps) -> int:
    """floor((l + 2 padding - dilation (k - 1) - 1) / stride) + 1."""
    return (length + 2 * s.padding - s.dilation * (kernel - 1) - 1) // s.stride + 1


def size_fits(lowering: Lowering, s: Slide, expected: Callable[[int, int, Steps], int]) -> bool:
    """Whether p's declared size is what a convolution gives for the input's and kernel's sizes.

    Decided at random sizes: the formula may be written in any way.
    """
    tree = lowering.program.sizes[s.out.size]
    if tree is None:
        return False
    generator = random.Random(0)
    for _ in range(40):
        sizes, symbols = draw_sizes(lowering, generator)
        sizes[s.axis.size] = generator.randint(8, 40)
        if not complete_sizes(lowering, sizes, symbols, skip=s.out.size):
            return False
        if s.kernel.size not in sizes:
            return False  # it waits for the size that is asked about
        number = {sympy.Symbol(n, integer=True): v for n, v in symbols.items()}
        given = (s.stride, s.dilation, s.padding, s.output_padding)
        steps = Steps(*(int(x.xreplace(number)) for x in given))
        if steps.stride < 1:
            continue
        wanted = expected(sizes[s.axis.size], sizes[s.kernel.size], steps)
        if evaluate_size(tree, sizes, symbols) != wanted:
            return False
    return True


def draw_sizes(
    lowering: Lowering, generator: random.Random
) -> tuple[dict[str, int], dict[str, int]]:
    """Random sizes read off inputs, and random arguments and hyperparameters."""
    program = lowering.program
    symbols: dict[str, int] = {}
    for name, value in program.spec.hyperparameters.items():
        if isinstance(value, tuple):
            symbols.update({f"{name}[{k}]": generator.randint(1, 3) for k in range(len(value))})
        elif isinstance(value, int) and not isinstance(value, bool):
            symbols[name] = generator.randint(1, 3)
    for name, count in program.arguments.items():
        keys = [f"{name}[{k}]" for k in range(count)] if count else [name]
        symbols.update({k: generator.randint(1, 4) for k in keys})
    sizes = {size: generator.randint(8, 40) for size, tree in program.sizes.items() if tree is None}
    return sizes, symbols


def complete_sizes(
    lowering: Lowering, sizes: dict[str, int], symbols: dict[str, int], skip: str
) -> bool:
    """Compute the other sizes but one; false if what that one needs is missing."""
    pending = [s for s in lowering.program.sizes if s not in sizes and s != skip]
    for _ in range(len(pending) + 1):
        for size in list(pending):
            tree = lowering.program.sizes[size]
            assert tree is not None
            try:
                sizes[size] = evaluate_size(tree, sizes, symbols)
            except (KeyError, ZeroDivisionError):
                continue
            pending.remove(size)
    tree = lowering.program.sizes[skip]
    return not _sizes_in(tree) & set(pending)


def _sizes_in(tree: g.Tree | None) -> set[str]:
    if tree is None:
        return set()
    found = {tree.letter} if isinstance(tree, g.SizeOf) else set()
    return found.union(*(_sizes_in(child) for child in g.children(tree)))


def per_axis(lowering: Lowering, values: Sequence[Expr], default: int) -> str | None:
    """One argument for all window axes: ``self.stride`` or a tuple; ``None`` if the default."""
    if all(v == default for v in values):
        return None
    codes = [lowering.sizes.number(v).code for v in values]
    head = whole_tuple(lowering, codes)
    if head is not None:
        return head
    if len(codes) == 1:
        return codes[0]
    return f"({', '.join(codes)})"


def whole_tuple(lowering: Lowering, codes: Sequence[str]) -> str | None:
    """``self.stride`` for ``self.stride[0], self.stride[1]``, if that is all of the tuple."""
    head = codes[0][: codes[0].rindex("[")] if codes[0].endswith("]") else ""
    if not head or list(codes) != [f"{head}[{k}]" for k in range(len(codes))]:
        return None
    name = next((n for n, code in lowering.sizes.attributes.items() if code == head), "")
    declared = lowering.program.spec.hyperparameters.get(name, lowering.program.arguments.get(name))
    length = len(declared) if isinstance(declared, tuple) else declared
    return head if length == len(codes) else None


def arguments(lowering: Lowering, slides: Sequence[Slide], groups: str | None) -> str:
    """The keyword arguments of a convolution call."""
    parts = {
        "stride": per_axis(lowering, [s.stride for s in slides], 1),
        "padding": per_axis(lowering, [s.padding for s in slides], 0),
        "output_padding": per_axis(lowering, [s.output_padding for s in slides], 0),
        "dilation": per_axis(lowering, [s.dilation for s in slides], 1),
        "groups": groups,
    }
    return "".join(f", {name}={code}" for name, code in parts.items() if code is not None)


@dataclass(frozen=True)
class Window:
    """A read of an input through a window.

    Attributes:
        read: The read.
        axes: The input's axes in storage order, window axes by their own letters.
        slides: One slide a window axis, in storage order.
        group: The group letter composed with the channel, or ``None``.
        channel: The channel letter, or ``None``.
    """

    read: Read
    axes: tuple[Axis, ...]
    slides: tuple[Slide, ...]
    group: Letter | None
    channel: Letter | None


@dataclass(frozen=True)
class Slid:
    """A sum that a window computes.

    Attributes:
        total: The sum.
        window: What it reads.
        kind: "conv" or "conv_transpose".
        axes: The axes of what the call gives.
        weight: The parameter, with its code; ``None``: ones.
        groups: The code of the number of groups, or ``None``.
        shifted: Whether shifted maps are added instead.
    """

    total: Contraction
    window: Window
    kind: str
    axes: tuple[Axis, ...]
    weight: tuple[str, str] | None = None
    groups: str | None = None
    shifted: bool = False


def every_axis(lowering: Lowering, codes: Sequence[str]) -> str:
    """A tuple with one number an axis: ``self.stride``, or one that is written out."""
    whole = whole_tuple(lowering, codes) if len(codes) > 1 else None
    return whole or f"({', '.join(codes)}{',' if len(codes) == 1 else ''})"


def steps_of(lowering: Lowering, slides: Sequence[Slide]) -> tuple[str, str, str, str]:
    """Stride, padding, dilation and output padding, each as a tuple."""
    steps = (
        [s.stride for s in slides],
        [s.padding for s in slides],
        [s.dilation for s in slides],
        [s.output_padding for s in slides],
    )
    stride, padding, dilation, more = (
        every_axis(lowering, [lowering.sizes.number(e).code for e in axis]) for axis in steps
    )
    return stride, padding, dilation, more


def window(lowering: Lowering, read: Read, bound: set[Letter]) -> Window | None:
    """A read such as x[n, (g, c), stride*p + dilation*k - padding], taken apart."""
    program = lowering.program
    tensor = program.tensors.get(read.tensor)
    # torch's convolutions take one leading axis, or none.
    if tensor is None or tensor.kind != "input" or len(lowering.batch) > 1:
        return None
    source = lowering.values[read.tensor]
    slides: list[Slide] = []
    plain: list[Letter] = []
    axes: list[Axis] = [BATCH] if BATCH in source.axes else []
    position = 0
    for axis in tensor.axes:
        parts = read.indices[position : position + len(axis)]
        position += len(axis)
        if all(
            isinstance(i, Letter) and i.size == x.size for i, x in zip(parts, axis, strict=True)
        ):
            if slides:
                return None
            if not set(parts) <= set(lowering.batch):
                plain += parts
                axes.append(tuple(parts))
            continue
        found = slide(lowering, parts[0], axis[0], bound) if len(axis) == 1 else None
        if found is None:
            return None
        slides.append(found)
        axes.append((axis[0],))
    if not slides or len(slides) > 3 or len(plain) > 2 or len(axes) - len(slides) > 2:
        return None
    group = plain[0] if len(plain) == 2 else None
    channel = plain[-1] if plain else None
    if group is not None and (axes[-len(slides) - 1] != (group, channel) or group in bound):
        return None
    return Window(read, tuple(axes), tuple(slides), group, channel)


def convolution(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ck W[o, c, k] x[n, c, stride p + dilation k - padding] = F.conv{1,2,3}d."""
    if lowering.wide:
        return None
    bound = set(e.letters)
    weight, image = weight_and_image(lowering, factors_of(e))
    if weight is None or image is None:
        return None
    w = window(lowering, image, bound)
    if w is None or w.channel is None:
        return None
    kernels = tuple((s.kernel,) for s in w.slides)
    matrix = lowering.read(weight)
    if w.channel not in bound:
        return depthwise(lowering, e, w, matrix, bias)
    if len(matrix.axes) != len(kernels) + 2 or matrix.axes[1:] != ((w.channel,), *kernels):
        return None
    outer = matrix.axes[0]
    if not isinstance(outer, tuple) or bound != {w.channel, *(s.kernel for s in w.slides)}:
        return None
    if (w.group is None) != (len(outer) == 1) or (w.group is not None and outer[0] != w.group):
        return None
    groups = None if w.group is None else lowering.sizes.letter(w.group).code
    argument, used = bias_code(lowering, matrix.code, bias, outer)
    source = lowering.values[image.tensor]
    options = arguments(lowering, w.slides, groups)
    call = f"F.conv{len(kernels)}d({source.code}, {matrix.code}{argument}{options})"
    batch = (BATCH,) if BATCH in w.axes else ()
    axes = (*batch, outer, *((s.out,) for s in w.slides))
    lowering.slid.append(Slid(e, w, "conv", axes, (weight.tensor, matrix.code), groups))
    return Value(call, axes), used


def depthwise(
    lowering: Lowering, e: Contraction, w: Window, matrix: Value, bias: Value | None
) -> Found:
    """Σ_k W[o, k] x[n, o, stride p + dilation k - padding]: one kernel and group a channel."""
    kernels = tuple((s.kernel,) for s in w.slides)
    if w.group is not None or w.channel is None or {*e.letters} != {s.kernel for s in w.slides}:
        return None
    outer: Axis = (w.channel,)
    if matrix.axes != (outer, *kernels):
        return None
    source = lowering.values[w.read.tensor]
    argument, used = bias_code(lowering, matrix.code, bias, outer)
    groups, kernel = lowering.sizes.letter(w.channel).code, f"{matrix.code}.unsqueeze(1)"
    options = arguments(lowering, w.slides, groups)
    call = f"F.conv{len(kernels)}d({source.code}, {kernel}{argument}{options})"
    weight, _ = weight_and_image(lowering, factors_of(e))
    assert weight is not None
    batch = (BATCH,) if BATCH in w.axes else ()
    axes = (*batch, outer, *((s.out,) for s in w.slides))
    lowering.slid.append(Slid(e, w, "conv", axes, (weight.tensor, kernel), groups))
    return Value(call, axes), used


def weight_and_image(
    lowering: Lowering, factors: Sequence[Expr]
) -> tuple[Read | None, Read | None]:
    """A parameter and an input, if those are the factors."""
    if len(factors) != 2:
        return None, None
    weights = [r for f in factors if (r := parameter_read(lowering, f)) is not None]
    images = [f for f in factors if isinstance(f, Read) and f not in weights]
    return (weights[0], images[0]) if len(weights) == 1 and len(images) == 1 else (None, None)
