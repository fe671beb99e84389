"""Transposed windows: the scatter of a transposed convolution, and of its box sum."""

from __future__ import annotations

import sympy
from sympy import Expr, Integer

from codegen.boxes import window_sum
from codegen.calls import Found, bias_code, factors_of, flattened
from codegen.lower import Lowering
from codegen.values import BATCH, Axis, Value
from codegen.windows import (
    Slid,
    Slide,
    Steps,
    Window,
    arguments,
    size_fits,
    weight_and_image,
)
from derive.nodes import Contraction, Delta, Letter, Read, reads


def transposed(lowering: Lowering, e: Contraction) -> tuple[Window, set[Letter]] | None:
    """The scatter Σ_q [p + padding = stride q + dilation k] x[n, c, q] ..., taken apart."""
    bound = set(e.letters)
    deltas = [f for f in factors_of(e) if isinstance(f, Delta)]
    found = sorted(
        (r for r in reads(e.body) if lowering.program.tensors[r.tensor].kind == "input"), key=str
    )
    # torch's convolutions take one leading axis, or none.
    if not deltas or not found or len(lowering.batch) > 1:
        return None
    image = found[0]
    tensor = lowering.program.tensors[image.tensor]
    if any(not isinstance(i, Letter) for i in image.indices) or len(set(image.indices)) < len(
        image.indices
    ):
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
    if (
        len(ordered) != len(slides)
        or len(ordered) > 3
        or len(plain) > 2
        or not plain
        or axes[-len(ordered) :] != [(s.axis,) for s in ordered]
    ):
        return None
    group = plain[0] if len(plain) == 2 else None
    if group is not None and (axes[-len(ordered) - 1] != tuple(plain) or group in bound):
        return None
    return Window(image, tuple(axes), tuple(ordered), group, plain[-1]), bound


def transposed_slide(
    lowering: Lowering, delta: Delta, image: Read, bound: set[Letter]
) -> Slide | None:
    """One [p + padding - dilation k - stride q = 0], if p's size is a transposed convolution's."""
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
    used = {s.name for x in (stride, dilation, padding) for s in x.free_symbols}
    for extra in (Integer(0), *_spare_hyperparameters(lowering, used)):
        s = Slide(q, p, k, stride, dilation, padding, extra)
        if size_fits(lowering, s, scattered):
            return s
    return None


def _spare_hyperparameters(lowering: Lowering, used: set[str]) -> list[Expr]:
    spare: list[Expr] = []
    for name, value in lowering.program.spec.hyperparameters.items():
        keys = [f"{name}[{k}]" for k in range(len(value))] if isinstance(value, tuple) else [name]
        if not isinstance(value, bool | float):
            spare += [sympy.Symbol(k, integer=True) for k in keys if k not in used]
    return spare


def scattered(length: int, kernel: int, s: Steps) -> int:
    """(l - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1."""
    reach = s.dilation * (kernel - 1) + s.output_padding + 1
    return (length - 1) * s.stride - 2 * s.padding + reach


def transposed_convolution(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ckq [p + padding = stride q + dilation k] W[c, o, k] x[n, c, q] = F.conv_transposeNd."""
    if lowering.wide:
        return None
    total, e = e, flattened(e)
    found = transposed(lowering, e)
    rest = [f for f in factors_of(e) if not isinstance(f, Delta)]
    pair = weight_and_image(lowering, rest)
    if found is None or pair is None:
        return None
    w, bound = found
    weight, image = pair
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
    options = arguments(lowering, w.slides, groups)
    lowering.transposed = [
        {
            "output_padding": lowering.sizes.number(s.output_padding).code,
            "stride": lowering.sizes.number(s.stride).code,
            "dilation": lowering.sizes.number(s.dilation).code,
        }
        for s in w.slides
    ]
    call = f"F.conv_transpose{len(kernels)}d({source.code}, {matrix.code}{argument}{options})"
    batch = (BATCH,) if BATCH in w.axes else ()
    axes = (*batch, outer, *((s.out,) for s in w.slides))
    given = weight.tensor, matrix.code
    lowering.slid.append(Slid(total, w, "conv_transpose", axes, given, groups))
    return Value(call, axes), used


def transposed_box(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ckq [p + padding = stride q + dilation k] f(x[n, c, q]): a box sum that scatters."""
    found = transposed(lowering, e)
    if found is None:
        return None
    w, bound = found
    if len(reads(e.body)) != 1 or bound - {
        w.channel,
        *(s.kernel for s in w.slides),
        *(s.axis for s in w.slides),
    }:
        return None
    return window_sum(lowering, e, w, "conv_transpose"), False
