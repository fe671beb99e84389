"""Box sums: what a sliding window sums with weights of one, on the input's own grid first.

Two forms, chosen by what they cost forward, backward and compiled. A map that was summed over
channels is small: additions of shifted maps, one axis after another, cost less than any window of
ones. A map as large as the layer's input costs least as a window of ones, but over three axes; and
so does one that scatters, whose shifted maps a compiler recomputes for each other.
"""

from __future__ import annotations

from sympy import Expr, Mul

from codegen.calls import Found, factors_of
from codegen.lower import Lowering
from codegen.values import Value
from codegen.windows import Slid, Window, arguments, every_axis, steps_of, window
from derive.nodes import Contraction, Delta, Read, reads, substitute


def box_sum(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_ck f(x[n, c, stride p + dilation k - padding]) = a box sum of Σ_c f(x).

    f is a product of reads at the same window, so that it is 0 outside the range.
    """
    powers = [f.as_base_exp() for f in factors_of(e)]
    if not all(isinstance(f, Read) and n.is_Integer and n.is_positive for f, n in powers):
        return None
    bound = set(e.letters)
    first, *others = (window(lowering, f, bound) for f, _ in sorted(powers, key=str))
    if first is None or any(
        w is None or w.slides != first.slides or w.axes != first.axes for w in others
    ):
        return None
    if bound - {first.channel, *(s.kernel for s in first.slides)}:
        return None
    return window_sum(lowering, e, first, "conv"), False


def window_sum(lowering: Lowering, e: Contraction, w: Window, kind: str) -> Value:
    """Sum the integrand over channels, then over windows.

    Args:
        lowering: The lowering.
        e: The sum.
        w: What it reads.
        kind: "conv" or "conv_transpose".
    """
    summed = w.channel is None or w.channel in e.letters
    squares = lowering.assign("squares", on_grid(lowering, e, w))
    shifted_maps = lowering.wide and kind == "conv" and (summed or len(w.slides) == 3)
    axes = (*squares.axes[: -len(w.slides)], *((s.out,) for s in w.slides))
    lowering.slid.append(Slid(e, w, kind, axes, shifted=shifted_maps))
    # Outside a gauge the map may be of half precision, in which each addition would round.
    if not lowering.wide:
        return Value(ones_window(lowering, squares, w, kind), axes)
    if shifted_maps:
        energy = lowering.assign("energy", Value(shifted(lowering, squares, w), axes))
    else:
        ones = Value(ones_window(lowering, squares, w, kind), axes)
        energy = sheltered(lowering, squares, ones)
    if not summed or lowering.bounded:
        return energy
    return lowering.assign("wide", Value(f"{lowering.helper('_wide')}({energy.code})", axes))


def on_grid(lowering: Lowering, e: Contraction, w: Window) -> Value:
    """The integrand where the input stands, summed over channels where the sum is."""
    own = {s.axis for s in w.slides}
    mapping: dict[Expr, Expr] = {}
    for read in reads(e.body):
        letters = lowering.program.tensors[read.tensor].letters
        indices = (x if x in own else i for x, i in zip(letters, read.indices, strict=True))
        mapping[read] = Read(read.args[0], *indices)
    lowering.windowed = True
    integrand = Mul(*(f for f in factors_of(e) if not isinstance(f, Delta)))
    value = lowering.of(substitute(integrand, mapping))
    lowering.windowed = False
    if w.channel not in e.letters:
        return value
    assert w.channel is not None
    return lowering.reduced(lowering.split(value), [w.channel], "sum")


# -------------------------------------------------------------- the forms
def shifted(lowering: Lowering, squares: Value, w: Window) -> str:
    """Sums of shifted maps, as a helper's call."""
    return f"{lowering.helper('_box_sum')}({squares.code}, {moves_of(lowering, w)})"


def moves_of(lowering: Lowering, w: Window) -> str:
    """Kernel sizes and how the windows move, each as a tuple."""
    stride, padding, dilation, _ = steps_of(lowering, w.slides)
    return f"{kernel_of(lowering, w)}, {stride}, {padding}, {dilation}"


def kernel_of(lowering: Lowering, w: Window) -> str:
    """The kernel sizes as a tuple."""
    return every_axis(lowering, [lowering.sizes.letter(s.kernel).code for s in w.slides])


def ones_window(lowering: Lowering, squares: Value, w: Window, kind: str, unread: str = "") -> str:
    """A convolution with ones, each channel by itself.

    Args:
        lowering: The lowering.
        squares: The map.
        w: The window.
        kind: "conv" or "conv_transpose".
        unread: The code of the output padding, where the sizes of the maps alone tell it.
    """
    count = len(w.slides)
    groups, ones = ones_of(lowering, squares, w)
    code = squares.code if groups else f"{squares.code}.unsqueeze({-count - 1})"
    more = f", output_padding={unread}" if unread else ""
    call = f"F.{kind}{count}d({code}, {ones}{arguments(lowering, w.slides, groups)}{more})"
    return call if groups else f"{call}.squeeze({-count - 1})"


def ones_of(lowering: Lowering, squares: Value, w: Window) -> tuple[str | None, str]:
    """The number of channels, ``None`` where they have no axis, and a kernel of ones for each."""
    head = [x for a in squares.axes[: -len(w.slides)] if isinstance(a, tuple) for x in a]
    groups = lowering.sizes.product([lowering.sizes.letter(x) for x in head]).code if head else None
    kernel = kernel_of(lowering, w)
    sizes = kernel[1:-1].rstrip(",") if kernel.startswith("(") else f"*{kernel}"
    return groups, f"{squares.code}.new_ones({groups or 1}, 1, {sizes})"


def sheltered(lowering: Lowering, squares: Value, window: Value) -> Value:
    """A window without autocast, which would round to half precision, where squares overflow."""
    found = lowering.name("energy")
    lowering.statements.append(
        f"with {lowering.helper('_no_autocast')}({squares.code}): {found} = {window.code}"
    )
    return Value(found, window.axes)
