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
from derive.evaluate import evaluate_size
from derive.nodes import Contraction, Letter, Read
from derive.program import Program


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

    @property
    def steps(self) -> tuple[Expr, Expr, Expr, Expr]:
        """What :class:`Steps` holds the numbers of."""
        return self.stride, self.dilation, self.padding, self.output_padding


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
    (k,), (p,) = kernels, outs
    stride, dilation = index.coeff(p), index.coeff(k)
    padding = sympy.expand(stride * p + dilation * k - index)
    found = Slide(axis, p, k, stride, dilation, padding)
    return found if size_fits(lowering, found, convolved) else None


def convolved(length: int, kernel: int, s: Steps) -> int:
    """floor((l + 2 padding - dilation (k - 1) - 1) / stride) + 1."""
    return (length + 2 * s.padding - s.dilation * (kernel - 1) - 1) // s.stride + 1


def size_fits(lowering: Lowering, s: Slide, expected: Callable[[int, int, Steps], int]) -> bool:
    """Whether p's size is what a convolution gives for the input's and kernel's, at torch's steps.

    Decided at random sizes: the formula may be written in any way.
    """
    program = lowering.program
    # An axis that the output shares is no other axis to slide along.
    if s.out.size == s.axis.size or not all(is_step(program, e) for e in s.steps):
        return False
    generator = random.Random(0)
    for _ in range(40):
        sizes = Sizes(program, generator)
        number = {sympy.Symbol(n, integer=True): v for n, v in sizes.symbols.items()}
        steps = Steps(*(int(e.xreplace(number)) for e in s.steps))
        try:
            length = sizes[s.out.size]
        except ZeroDivisionError:
            return False
        if length != expected(sizes[s.axis.size], sizes[s.kernel.size], steps):
            return False
    return True


def is_step(program: Program, e: Expr) -> bool:
    """Whether an expression is a number of hyperparameters alone, and negative for none of them."""
    known = {sympy.Symbol(n, integer=True) for n in numbers(program)}
    return e.free_symbols <= known and not any(
        term.could_extract_minus_sign() for term in sympy.Add.make_args(e)
    )


class Sizes(dict[str, int]):
    """Random sizes, each drawn or computed when it is asked for.

    Args:
        program: The layer.
        generator: The source of those that are read off inputs, and of ``symbols``: arguments and
            hyperparameters.
    """

    def __init__(self, program: Program, generator: random.Random) -> None:
        """Draw the numbers that the constructor is given."""
        super().__init__()
        self.program = program
        self.generator = generator
        self.symbols = {name: generator.randint(1, 4) for name in numbers(program)}

    def __missing__(self, size: str) -> int:
        tree = self.program.sizes[size]
        self[size] = (
            self.generator.randint(8, 40)
            if tree is None
            else evaluate_size(tree, self, self.symbols)
        )
        return self[size]


def counts(program: Program) -> dict[str, int]:
    """Constructor argument or hyperparameter → its number of elements (0 for a plain number)."""
    given = program.spec.hyperparameters
    own = {n: len(v) if isinstance(v, tuple) else 0 for n, v in given.items()}
    return {**program.arguments, **own}


def numbers(program: Program) -> list[str]:
    """Arguments and hyperparameters as formulas name them, tuples taken apart."""
    return [x for name, count in counts(program).items() for x in elements(name, count)]


def elements(name: str, count: int) -> list[str]:
    """A tuple's elements as formulas name them; of no count: a plain number."""
    return [f"{name}[{k}]" for k in range(count)] if count else [name]


def per_axis(lowering: Lowering, values: Sequence[Expr], default: int) -> str | None:
    """One argument for all window axes: ``self.stride`` or a tuple; ``None`` if the default."""
    if all(v == default for v in values):
        return None
    codes = [lowering.sizes.number(v).code for v in values]
    head = whole_tuple(lowering, codes)
    if head is not None:
        return head
    shown = ", ".join(codes)
    return shown if len(codes) == 1 else f"({shown})"


def whole_tuple(lowering: Lowering, codes: Sequence[str]) -> str | None:
    """``self.stride`` for ``self.stride[0], self.stride[1]``, if that is all of the tuple."""
    for name, count in counts(lowering.program).items():
        code = lowering.sizes.attributes.get(name)
        if list(codes) == [f"{code}[{k}]" for k in range(count)]:
            return code
    return None


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
    whole = whole_tuple(lowering, codes)
    return whole or f"({', '.join(codes)}{',' if len(codes) == 1 else ''})"


def steps_of(lowering: Lowering, slides: Sequence[Slide]) -> tuple[str, str, str, str]:
    """Stride, padding, dilation and output padding, each as a tuple."""
    stride, dilation, padding, more = (
        every_axis(lowering, [lowering.sizes.number(e).code for e in axis])
        for axis in zip(*(s.steps for s in slides), strict=True)
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
                axes.append(parts)
            continue
        if len(axis) > 1:
            return None
        (index,), (letter,) = parts, axis
        found = slide(lowering, index, letter, bound)
        if found is None:
            return None
        slides.append(found)
        axes.append(axis)
    if not slides or len(slides) > 3 or len(plain) > 2 or not apart(plain, slides):
        return None
    group = plain[0] if len(plain) == 2 else None
    channel = plain[-1] if plain else None
    if group is not None and (axes[-len(slides) - 1] != (group, channel) or group in bound):
        return None
    return Window(read, tuple(axes), tuple(slides), group, channel)


def apart(letters: Sequence[Letter], slides: Sequence[Slide]) -> bool:
    """Whether letters, positions and offsets all differ: x[n, c, p + k, q + k] reads a diagonal."""
    every = {*letters, *(s.out for s in slides), *(s.kernel for s in slides)}
    return len(every) == len(letters) + 2 * len(slides)


def convolution(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ck W[o, c, k] x[n, c, stride p + dilation k - padding] = F.conv{1,2,3}d."""
    if lowering.wide:
        return None
    bound = set(e.letters)
    found = weight_and_image(lowering, factors_of(e))
    if found is None:
        return None
    weight, image = found
    w = window(lowering, image, bound)
    if w is None:
        return None
    kernels = tuple((s.kernel,) for s in w.slides)
    matrix = lowering.read(weight)
    if w.channel not in bound:
        return depthwise(lowering, e, w, weight, bias)
    if matrix.axes[1:] != ((w.channel,), *kernels):
        return None
    outer = matrix.axes[0]
    assert isinstance(outer, tuple)
    group = outer[0] if len(outer) > 1 else None
    if group != w.group or bound != {w.channel, *(s.kernel for s in w.slides)}:
        return None
    if not apart(outer, w.slides):
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
    lowering: Lowering, e: Contraction, w: Window, weight: Read, bias: Value | None
) -> Found:
    """Σ_k W[o, k] x[n, o, stride p + dilation k - padding]: one kernel and group a channel."""
    kernels = tuple((s.kernel,) for s in w.slides)
    matrix = lowering.read(weight)
    if w.group is not None or {*e.letters} != {s.kernel for s in w.slides}:
        return None
    if matrix.axes != ((w.channel,), *kernels):
        return None
    assert w.channel is not None
    outer: Axis = (w.channel,)
    source = lowering.values[w.read.tensor]
    argument, used = bias_code(lowering, matrix.code, bias, outer)
    groups, kernel = lowering.sizes.letter(w.channel).code, f"{matrix.code}.unsqueeze(1)"
    options = arguments(lowering, w.slides, groups)
    call = f"F.conv{len(kernels)}d({source.code}, {kernel}{argument}{options})"
    batch = (BATCH,) if BATCH in w.axes else ()
    axes = (*batch, outer, *((s.out,) for s in w.slides))
    lowering.slid.append(Slid(e, w, "conv", axes, (weight.tensor, kernel), groups))
    return Value(call, axes), used


def weight_and_image(lowering: Lowering, factors: Sequence[Expr]) -> tuple[Read, Read] | None:
    """A parameter and an input, if those are the factors."""
    weights = [r for f in factors if (r := parameter_read(lowering, f)) is not None]
    images = [f for f in factors if f not in weights]
    match weights, images:
        case [weight], [Read() as image]:
            return weight, image
    return None
