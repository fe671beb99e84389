"""Transposed windows: the scatter of a transposed convolution, and of its box sum."""

from __future__ import annotations

from itertools import islice

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
    apart,
    arguments,
    counts,
    elements,
    size_fits,
    weight_and_image,
)
from derive.nodes import Contraction, Delta, Letter, Read, reads


def transposed(lowering: Lowering, e: Contraction) -> Window | None:
    """The scatter Σ_q [p + padding = stride q + dilation k] x[n, c, q] ..., taken apart."""
    deltas = [f for f in factors_of(e) if isinstance(f, Delta)]
    tensors = lowering.program.tensors
    images = [r for r in reads(e.body) if tensors[r.tensor].kind == "input"]
    # torch's convolutions take one leading axis, or none.
    if not deltas or len(images) != 1 or len(lowering.batch) > 1:
        return None
    (image,) = images
    if any(not isinstance(i, Letter) for i in image.indices):
        return None
    found = [transposed_slide(lowering, d, image, {*e.letters}) for d in deltas]
    own = {(s.axis,): s for s in found if s is not None}
    slides: list[Slide] = []
    heads: list[tuple[Letter, ...]] = []
    batch: tuple[Axis, ...] = ()
    indices = iter(image.indices)
    for axis in tensors[image.tensor].axes:
        parts = tuple(islice(indices, len(axis)))
        if parts in own:
            slides.append(own[parts])
        elif slides:
            return None
        elif set(parts) <= set(lowering.batch):
            batch = (BATCH,)
        else:
            heads.append(parts)
    if len(slides) != len(deltas) or len(slides) > 3 or len(heads) != 1:
        return None
    (head,) = heads
    *group, channel = head
    within = {channel, *(s.kernel for s in slides), *(s.axis for s in slides)}
    if len(group) > 1 or {*e.letters} - within or not apart(head, slides):
        return None
    axes = (*batch, head, *((s.axis,) for s in slides))
    return Window(image, axes, tuple(slides), next(iter(group), None), channel)


def transposed_slide(
    lowering: Lowering, delta: Delta, image: Read, bound: set[Letter]
) -> Slide | None:
    """One [p + padding - dilation k - stride q = 0], if p's size is a transposed convolution's."""
    (e,) = delta.args
    letters = [x for x in e.free_symbols if isinstance(x, Letter)]
    outs = [x for x in letters if x not in bound]
    inside = [x for x in letters if x in image.indices]
    kernels = [x for x in letters if x in bound and x not in image.indices]
    if len(outs) != 1 or len(inside) != 1 or len(kernels) != 1:
        return None
    (p,), (q,), (k,) = outs, inside, kernels
    # The sign of p; of another multiple of p something is left below.
    e = sympy.expand(e * e.coeff(p))
    stride, dilation = -e.coeff(q), -e.coeff(k)
    steps = stride, dilation, sympy.expand(e - p + stride * q + dilation * k)
    used = {s.name for x in steps for s in x.free_symbols}
    for output_padding in output_paddings(lowering, used):
        s = Slide(q, p, k, *steps, output_padding)
        if size_fits(lowering, s, scattered):
            return s
    return None


def output_paddings(lowering: Lowering, used: set[str]) -> list[Expr]:
    """None, and the hyperparameters that the index does not use."""
    program = lowering.program
    whole = [n for n, v in program.spec.hyperparameters.items() if not isinstance(v, bool | float)]
    names = [x for n in whole for x in elements(n, counts(program)[n]) if x not in used]
    return [Integer(0), *(sympy.Symbol(x, integer=True) for x in names)]


def scattered(length: int, kernel: int, s: Steps) -> int:
    """(l - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1."""
    reach = s.dilation * (kernel - 1) + s.output_padding + 1
    return (length - 1) * s.stride - 2 * s.padding + reach


def transposed_convolution(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ckq [p + padding = stride q + dilation k] W[c, o, k] x[n, c, q] = F.conv_transposeNd."""
    if lowering.wide:
        return None
    total, e = e, flattened(e)
    w = transposed(lowering, e)
    rest = [f for f in factors_of(e) if not isinstance(f, Delta)]
    pair = weight_and_image(lowering, rest)
    if w is None or pair is None:
        return None
    weight, image = pair
    kernels = tuple((s.kernel,) for s in w.slides)
    matrix = lowering.read(weight)
    head: tuple[Letter | None, ...] = (w.channel,) if w.group is None else (w.group, w.channel)
    if len(matrix.axes) != len(kernels) + 2 or matrix.axes[0] != head or matrix.axes[2:] != kernels:
        return None
    inner = matrix.axes[1]
    assert isinstance(inner, tuple)
    if w.channel not in e.letters or not apart(inner, w.slides):
        return None
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
    w = transposed(lowering, e)
    if w is None or len(reads(e.body)) != 1:
        return None
    return window_sum(lowering, e, w, "conv_transpose"), False
