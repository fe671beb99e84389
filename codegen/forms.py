"""Recognised forms: contractions that torch has a function for, found by their structure alone.

Each recogniser looks at one sum of products and either returns the call that computes it, or ``None``
and leaves it to the general path. None of them knows a layer's name.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import sympy
from sympy import Expr, Integer, Mul, Pow

from codegen.lower import Lowering
from codegen.values import BATCH, Axis, Level, Value
from derive.evaluate import evaluate_size
from derive.nodes import Contraction, Delta, Letter, Read, reads

Found = tuple[Value, bool] | None


def factors_of(e: Contraction) -> list[Expr]:
    """The factors of a summand, powers of reads kept whole."""
    return list(Mul.make_args(e.body))


def parameter_read(lowering: Lowering, factor: Expr) -> Read | None:
    """A parameter read at distinct plain letters, if the factor is one."""
    names = {t.name for t in lowering.program.parameters}
    if isinstance(factor, Read) and factor.tensor in names:
        plain = all(isinstance(i, Letter) for i in factor.indices)
        if plain and len(set(factor.indices)) == len(factor.indices):
            return factor
    return None


def bias_code(lowering: Lowering, weight: str, bias: Value | None, axis: Axis) -> tuple[str, bool]:
    """The bias argument: the one that is offered if its axis fits, or the full layer's absent one."""
    if bias is not None and bias.axes == (axis,):
        if bias.level == Level.ATOM:
            lowering.fused[weight] = bias.code
        return f", {bias.code}", True
    if bias is None and weight in lowering.absent_fused:
        return f", {lowering.absent_fused[weight]}", False
    return "", False


# ---------------------------------------------------------------------- F.linear
def linear(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_j W[i, j] v[..., j] = F.linear(v, W), and matrix products in the other layouts."""
    if lowering.wide:
        return None
    weight, rest = _weight_and_rest(lowering, e)
    if weight is None or not rest:
        return None
    matrix = lowering.read(weight)
    bound = set(e.letters)
    inner = [a for a in matrix.axes if isinstance(a, tuple) and set(a) <= bound]
    outer = [a for a in matrix.axes if a not in inner]
    if len(outer) != 1 or {x for a in inner for x in a if isinstance(a, tuple)} != bound or BATCH in matrix.axes:
        return None
    feature = lowering.product([lowering.of(f) for f in rest])
    if feature.scalar or set(outer[0]) & set(feature.letters):  # type: ignore[arg-type]
        return None
    count = len(inner)
    tail = trailing(feature, [x for a in inner if isinstance(a, tuple) for x in a])
    if tail and matrix.axes == (outer[0], *inner):
        left = feature.code if tail == 1 else f"{feature.at(Level.ATOM)}.flatten({-tail})"
        right = matrix.code if count == 1 else f"{matrix.code}.flatten(1)"
        argument, used = bias_code(lowering, matrix.code, bias, outer[0])
        return Value(f"F.linear({left}, {right}{argument})", (*feature.axes[:-tail], outer[0])), used
    if count == 1 and feature.axes[-1:] == (inner[0],) and matrix.axes == (inner[0], outer[0]):
        return Value(f"{feature.at(Level.PRODUCT)} @ {matrix.code}", (*feature.axes[:-1], outer[0]), Level.PRODUCT), False
    if count == 1 and len(feature.axes) > 1 and feature.axes[-2] == inner[0] and matrix.axes == (outer[0], inner[0]):
        axes = (*feature.axes[:-2], outer[0], feature.axes[-1])
        return Value(f"{matrix.code} @ {feature.at(Level.UNARY)}", axes, Level.PRODUCT), False
    return None


def trailing(value: Value, letters: Sequence[Letter]) -> int:
    """How many last axes hold exactly these letters in this order; 0 if none do."""
    for count in range(1, len(value.axes) + 1):
        held = [x for a in value.axes[-count:] for x in (a if isinstance(a, tuple) else (None,))]
        if held == list(letters):
            return count
    return 0


def _weight_and_rest(lowering: Lowering, e: Contraction) -> tuple[Read | None, list[Expr]]:
    """The one parameter that carries bound letters, and the other factors."""
    factors = factors_of(e)
    found = [(f, r) for f in factors if (r := parameter_read(lowering, f)) is not None]
    bearing = [(f, r) for f, r in found if set(e.letters) & set(r.indices)]
    if len(bearing) != 1 or e.body.has(Delta):
        return None, []
    factor, read = bearing[0]
    rest = [f for f in factors if f is not factor]
    # Every remaining factor must hold all of the sum's letters or none of them.
    if any(set(e.letters) & f.free_symbols and not set(e.letters) <= f.free_symbols for f in rest):
        return None, []
    return read, rest


# ---------------------------------------------------------------------- F.bilinear
def bilinear(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_jk W[i, j, k] x[..., j] y[..., k] = F.bilinear(x, y, W)."""
    if lowering.wide or len(e.letters) != 2:
        return None
    factors = factors_of(e)
    weights = [(f, r) for f in factors if (r := parameter_read(lowering, f)) is not None]
    if len(factors) != 3 or len(weights) != 1:
        return None
    factor, weight = weights[0]
    matrix = lowering.read(weight)
    if len(matrix.axes) != 3 or any(not isinstance(a, tuple) for a in matrix.axes):
        return None
    outer, first, second = matrix.axes
    others = [lowering.of(f) for f in factors if f is not factor]
    left = next((v for v in others if v.axes[-1:] == (first,)), None)
    right = next((v for v in others if v.axes[-1:] == (second,)), None)
    if left is None or right is None or left is right or left.axes[:-1] != right.axes[:-1]:
        return None
    if {(x,) for x in e.letters} != {first, second}:
        return None
    argument, used = bias_code(lowering, matrix.code, bias, outer)
    return Value(f"F.bilinear({left.code}, {right.code}, {matrix.code}{argument})", (*left.axes[:-1], outer)), used


# ---------------------------------------------------------------------- windows
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
    output_padding: Expr = Integer(0)


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
    if any(_known_negative(x) or _depends_on_size(x) for x in (stride, dilation, padding)):
        return None
    found = Slide(axis, p, k, stride, dilation, padding)
    return found if _size_fits(lowering, found) else None


def _known_negative(e: Expr) -> bool:
    return bool(e.is_Integer and e < 0) or e.could_extract_minus_sign()


def _depends_on_size(e: Expr) -> bool:
    return any(s.name.startswith("size(") for s in e.free_symbols)


def _size_fits(lowering: Lowering, s: Slide) -> bool:
    """Whether p's declared size is floor((l + 2 padding - dilation (k - 1) - 1) / stride) + 1.

    Decided at random sizes: the formula may be written in any way.
    """
    program = lowering.program
    if program.sizes[s.out.size] is None:
        return False
    generator = random.Random(0)
    for _ in range(40):
        sizes, symbols = _draw(lowering, generator)
        sizes[s.axis.size] = generator.randint(8, 40)
        values = {str(x): v for x, v in symbols.items()}
        if not _complete(lowering, sizes, values, skip=s.out.size):
            return False
        number = {sympy.Symbol(n, integer=True): v for n, v in values.items()}
        stride, dilation, padding = (int(x.subs(number)) for x in (s.stride, s.dilation, s.padding))
        if stride < 1:
            continue
        expected = (sizes[s.axis.size] + 2 * padding - dilation * (sizes[s.kernel.size] - 1) - 1) // stride + 1
        tree = program.sizes[s.out.size]
        assert tree is not None
        if evaluate_size(tree, sizes, values) != expected:
            return False
    return True


def _draw(lowering: Lowering, generator: random.Random) -> tuple[dict[str, int], dict[str, int]]:
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


def _complete(lowering: Lowering, sizes: dict[str, int], symbols: dict[str, int], skip: str) -> bool:
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
    needed = {str(n.letter) for n in _size_nodes(tree)}
    return not (needed & set(pending))


def _size_nodes(tree: object) -> list[object]:
    from derive import grammar as g

    if tree is None:
        return []
    nodes: list[object] = [tree] if isinstance(tree, g.SizeOf) else []
    for child in g.children(tree):  # type: ignore[arg-type]
        nodes += _size_nodes(child)
    return nodes


def per_axis(lowering: Lowering, values: Sequence[Expr], default: int, *, bare: bool = False) -> str | None:
    """Hyperparameters of all window axes as one argument: ``self.stride`` or a tuple; ``None`` if default."""
    if all(v == default for v in values):
        return None
    codes = [lowering.sizes.number(v).code for v in values]
    heads = {c[: c.rindex("[")] for c in codes if c.endswith("]")}
    if len(heads) == 1 and codes == [f"{next(iter(heads))}[{k}]" for k in range(len(codes))]:
        head = next(iter(heads))
        name = next((n for n, code in lowering.sizes.attributes.items() if code == head), "")
        declared = lowering.program.spec.hyperparameters.get(name, lowering.program.arguments.get(name))
        length = len(declared) if isinstance(declared, tuple) else declared
        if length == len(codes):
            return head
    if len(codes) == 1:
        return codes[0]
    return f"({', '.join(codes)})"


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


def window(lowering: Lowering, read: Read, bound: set[Letter]) -> Window | None:
    """A read such as x[n, (g, c), stride*p + dilation*k - padding], taken apart."""
    program = lowering.program
    tensor = program.tensors.get(read.tensor)
    if tensor is None or tensor.kind != "input":
        return None
    source = lowering.values[read.tensor]
    slides: list[Slide] = []
    plain: list[Letter] = []
    axes: list[Axis] = [BATCH] if BATCH in source.axes else []
    position = 0
    for axis in tensor.axes:
        parts = read.indices[position : position + len(axis)]
        position += len(axis)
        if all(isinstance(i, Letter) and i.size == x.size for i, x in zip(parts, axis, strict=True)):
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
    weight, image = _weight_and_image(lowering, factors_of(e))
    if weight is None or image is None:
        return None
    w = window(lowering, image, bound)
    if w is None or w.channel is None or w.channel not in bound:
        return None
    kernels = tuple((s.kernel,) for s in w.slides)
    matrix = lowering.read(weight)
    if len(matrix.axes) != len(kernels) + 2 or matrix.axes[1:] != ((w.channel,), *kernels):
        return None
    outer = matrix.axes[0]
    if not isinstance(outer, tuple) or bound != {w.channel, *(s.kernel for s in w.slides)}:
        return None
    if (w.group is None) != (len(outer) == 1) or w.group is not None and outer[0] != w.group:
        return None
    groups = None if w.group is None else lowering.sizes.letter(w.group).code
    argument, used = bias_code(lowering, matrix.code, bias, outer)
    source = lowering.values[image.tensor]
    call = f"F.conv{len(kernels)}d({source.code}, {matrix.code}{argument}{arguments(lowering, w.slides, groups)})"
    batch = (BATCH,) if BATCH in w.axes else ()
    return Value(call, (*batch, outer, *((s.out,) for s in w.slides))), used


def _weight_and_image(lowering: Lowering, factors: Sequence[Expr]) -> tuple[Read | None, Read | None]:
    """A parameter and an input, if those are the factors."""
    if len(factors) != 2:
        return None, None
    weights = [r for f in factors if (r := parameter_read(lowering, f)) is not None]
    images = [f for f in factors if isinstance(f, Read) and f not in weights]
    return (weights[0], images[0]) if len(weights) == 1 and len(images) == 1 else (None, None)


def box_sum(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ck f(x[n, c, stride p + dilation k - padding]) = a window of ones over Σ_c f(x).

    f is a product of reads at the same window, so that it is 0 outside the range.
    """
    bound = set(e.letters)
    found = sorted(reads(e.body), key=str)
    if not found or e.body.has(Delta):
        return None
    windows = [window(lowering, r, bound) for r in found]
    first = windows[0]
    if first is None or any(w is None or w.slides != first.slides or w.axes != first.axes for w in windows):
        return None
    if not all(isinstance(f, Read) or isinstance(f, Pow) and isinstance(f.base, Read) and f.exp.is_Integer and f.exp > 0 for f in factors_of(e)):
        return None
    if not {s.kernel for s in first.slides} <= bound or bound - {s.kernel for s in first.slides} - {first.channel}:
        return None
    return _ones_window(lowering, e, first, "conv"), False


def _ones_window(lowering: Lowering, e: Contraction, w: Window, kind: str) -> Value:
    """Sum the integrand over channels on the input's own grid, then slide a window of ones."""
    mapping: dict[Expr, Expr] = {}
    for read in reads(e.body):
        position, indices = 0, list(read.indices)
        for axis in lowering.program.tensors[read.tensor].axes:
            for letter in axis:
                if any(s.axis == letter for s in w.slides):
                    indices[position] = letter
                position += 1
        mapping[read] = Read(read.args[0], *indices)
    integrand = _replace(e.body, mapping)
    letters = [w.channel] if w.channel in e.letters else []
    value = lowering.of(integrand)
    batch = (BATCH,) if BATCH in value.axes else ()
    positions = tuple((s.axis,) for s in w.slides)
    if letters:
        assert w.channel is not None
        if w.group is None:
            value = value.with_code(f"{value.at(Level.ATOM)}.sum({value.position((w.channel,))}, keepdim=True)")
        else:
            value = lowering.reduced(lowering.split(value), letters, "sum")
    elif w.channel is None:
        value = value.with_code(f"{value.at(Level.ATOM)}.unsqueeze({-len(w.slides) - 1})")
    value = lowering.assign("squares", value)
    if letters or w.channel is None:
        groups = None if w.group is None else lowering.sizes.letter(w.group).code
    else:
        groups = lowering.sizes.letter(w.channel).code
    kernel = ", ".join(lowering.sizes.letter(s.kernel).code for s in w.slides)
    sizes = f"{groups or 1}, 1, {kernel}"
    shared = per_kernel(lowering, w.slides)
    if shared is not None:
        sizes = f"{groups or 1}, 1, *{shared}"
    ones = f"{value.code}.new_ones({sizes})"
    name = "conv_transpose" if kind == "conv_transpose" else "conv"
    call = f"F.{name}{len(w.slides)}d({value.code}, {ones}{arguments(lowering, w.slides, groups)})"
    out = tuple((s.out,) for s in w.slides)
    if not letters and w.channel is not None:
        head: tuple[Axis, ...] = ((w.channel,),) if w.group is None else ((w.group, w.channel),)
        return Value(call, (*batch, *head, *out))
    if w.group is not None:
        return Value(call, (*batch, (w.group,), *out))
    del positions
    return Value(f"{call}.squeeze({-len(out) - 1})", (*batch, *out))


def per_kernel(lowering: Lowering, slides: Sequence[Slide]) -> str | None:
    """``self.kernel_size`` if it is the tuple of all kernel sizes."""
    if len(slides) < 2:
        return None
    codes = [lowering.sizes.letter(s.kernel).code for s in slides]
    head = codes[0][: codes[0].rindex("[")] if codes[0].endswith("]") else ""
    if head and codes == [f"{head}[{k}]" for k in range(len(codes))]:
        name = head.rsplit(".", 1)[-1]
        if lowering.program.arguments.get(name) == len(codes):
            return head
    return None


def _replace(expression: Expr, mapping: dict[Expr, Expr]) -> Expr:
    if expression in mapping:
        return mapping[expression]
    if not expression.args or expression.is_Symbol:
        return expression
    return expression.func(*(_replace(a, mapping) for a in expression.args))


# ---------------------------------------------------------------------- transposed windows
def transposed(lowering: Lowering, e: Contraction) -> tuple[Window, set[Letter]] | None:
    """Σ_q [p + padding = stride q + dilation k] x[n, c, q] ...: the scatter of a transposed convolution."""
    bound = set(e.letters)
    deltas = [f for f in factors_of(e) if isinstance(f, Delta)]
    found = sorted((r for r in reads(e.body) if lowering.program.tensors[r.tensor].kind == "input"), key=str)
    if not deltas or not found:
        return None
    image = found[0]
    tensor = lowering.program.tensors[image.tensor]
    if any(not isinstance(i, Letter) for i in image.indices) or len(set(image.indices)) < len(image.indices):
        return None
    slides: dict[Letter, Slide] = {}
    for delta in deltas:
        s = transposed_slide(lowering, delta, image, bound)
        if s is None:
            return None
        slides[s.axis] = s
    axes: list[Axis] = []
    plain: list[Letter] = []
    ordered: list[Slide] = []
    position = 0
    for axis in tensor.axes:
        parts = image.indices[position : position + len(axis)]
        position += len(axis)
        if len(parts) == 1 and parts[0] in slides:
            ordered.append(slides[parts[0]])
            axes.append(parts)
        elif set(parts) <= set(lowering.batch):
            axes += [BATCH] if BATCH not in axes else []
        else:
            plain += parts
            axes.append(parts)
    if len(ordered) != len(slides) or len(plain) > 2 or not plain or axes[-len(ordered) :] != [(s.axis,) for s in ordered]:
        return None
    group = plain[0] if len(plain) == 2 else None
    if group is not None and group in bound:
        return None
    return Window(image, tuple(axes), tuple(ordered), group, plain[-1]), bound


def transposed_slide(lowering: Lowering, delta: Delta, image: Read, bound: set[Letter]) -> Slide | None:
    """[p + padding - dilation k - stride q = 0] taken apart, if p's size is a transposed convolution's."""
    e = delta.args[0]
    letters = [x for x in e.free_symbols if isinstance(x, Letter)]
    outs = [x for x in letters if x not in bound]
    inside = [x for x in letters if x in bound and x in image.indices]
    kernels = [x for x in letters if x in bound and x not in image.indices]
    if len(outs) != 1 or len(inside) != 1 or len(kernels) != 1:
        return None
    p, q, k = outs[0], inside[0], kernels[0]
    if abs(e.coeff(p)) != 1:
        return None
    e = sympy.expand(e * e.coeff(p))
    stride, dilation = -e.coeff(q), -e.coeff(k)
    padding = sympy.expand(e - p + stride * q + dilation * k)
    if any(x.has(Letter) or _known_negative(x) or _depends_on_size(x) for x in (stride, dilation, padding)):
        return None
    used = {s.name for x in (stride, dilation, padding) for s in x.free_symbols}
    for extra in (Integer(0), *_spare_hyperparameters(lowering, used)):
        s = Slide(q, p, k, stride, dilation, padding, extra)
        if _transposed_size_fits(lowering, s):
            return s
    return None


def _spare_hyperparameters(lowering: Lowering, used: set[str]) -> list[Expr]:
    spare: list[Expr] = []
    for name, value in lowering.program.spec.hyperparameters.items():
        keys = [f"{name}[{k}]" for k in range(len(value))] if isinstance(value, tuple) else [name]
        if not isinstance(value, bool | float):
            spare += [sympy.Symbol(k, integer=True) for k in keys if k not in used]
    return spare


def _transposed_size_fits(lowering: Lowering, s: Slide) -> bool:
    tree = lowering.program.sizes[s.out.size]
    if tree is None:
        return False
    generator = random.Random(1)
    for _ in range(40):
        sizes, symbols = _draw(lowering, generator)
        sizes[s.axis.size] = generator.randint(8, 40)
        if not _complete(lowering, sizes, symbols, skip=s.out.size):
            return False
        number = {sympy.Symbol(n, integer=True): v for n, v in symbols.items()}
        stride, dilation, padding, extra = (
            int(x.subs(number)) for x in (s.stride, s.dilation, s.padding, s.output_padding)
        )
        expected = (sizes[s.axis.size] - 1) * stride - 2 * padding + dilation * (sizes[s.kernel.size] - 1) + extra + 1
        if evaluate_size(tree, sizes, symbols) != expected:
            return False
    return True


def transposed_convolution(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ckq [p + padding = stride q + dilation k] W[c, o, k] x[n, c, q] = F.conv_transpose{1,2,3}d."""
    if lowering.wide:
        return None
    found = transposed(lowering, e)
    rest = [f for f in factors_of(e) if not isinstance(f, Delta)]
    weight, image = _weight_and_image(lowering, rest)
    if found is None or weight is None or image is None:
        return None
    w, bound = found
    kernels = tuple((s.kernel,) for s in w.slides)
    matrix = lowering.read(weight)
    head: tuple[Letter | None, ...] = (w.channel,) if w.group is None else (w.group, w.channel)
    if len(matrix.axes) != len(kernels) + 2 or matrix.axes[0] != head or matrix.axes[2:] != kernels:
        return None
    if bound != {w.channel, *(s.kernel for s in w.slides), *(s.axis for s in w.slides)}:
        return None
    inner = matrix.axes[1]
    assert isinstance(inner, tuple)
    outer: Axis = inner if w.group is None else (w.group, *inner)
    groups = None if w.group is None else lowering.sizes.letter(w.group).code
    argument, used = bias_code(lowering, matrix.code, bias, outer)
    source = lowering.values[image.tensor]
    call = f"F.conv_transpose{len(kernels)}d({source.code}, {matrix.code}{argument}{arguments(lowering, w.slides, groups)})"
    batch = (BATCH,) if BATCH in w.axes else ()
    return Value(call, (*batch, outer, *((s.out,) for s in w.slides))), used


def transposed_box(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ckq [p + padding = stride q + dilation k] f(x[n, c, q]): a transposed window of ones."""
    found = transposed(lowering, e)
    if found is None:
        return None
    w, bound = found
    rest = [f for f in factors_of(e) if not isinstance(f, Delta)]
    if len(reads(e.body)) != 1 or bound - {w.channel, *(s.kernel for s in w.slides), *(s.axis for s in w.slides)}:
        return None
    body = Contraction(Mul(*rest), *e.letters)
    return _ones_window(lowering, body, w, "conv_transpose"), False


RECOGNISERS = (linear, bilinear, convolution, transposed_convolution, transposed_box, box_sum)


