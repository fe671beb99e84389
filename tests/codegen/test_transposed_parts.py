"""Windows that scatter, and box sums: what their code computes, and what is none of them."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sympy import Mul, Symbol, sqrt
from torch import Tensor

from codegen.boxes import box_sum, ones_window
from codegen.calls import factors_of, flattened
from codegen.forward import ForwardWriter, batch_letters
from codegen.helpers import helper_code
from codegen.lower import Lowering
from codegen.transposed import (
    output_paddings,
    scattered,
    transposed,
    transposed_box,
    transposed_convolution,
)
from codegen.values import BATCH, Value
from codegen.windows import Slid, Steps, convolution, window
from derive import load_spec
from derive.evaluate import Evaluator
from derive.nodes import Contraction, Delta, Letter, Read, reads, substitute
from derive.points import random_sizes, random_tensors
from derive.program import Program
from derive.resolve import resolve
from tests.codegen.specs import W_ONLY, spec
from tests.support import SPEC_FILES

HELPERS = helper_code(("_wide", "_single", "_no_autocast", "_box_sum"))
NAMES: dict[str, Any] = {"torch": torch, "F": F, "math": math, "Tensor": Tensor}
exec("from __future__ import annotations\n" + "\n".join(HELPERS), NAMES)


# ---------------------------------------------------------------- sums, and what their code gives
NAMED = {"c": "in_channels", "o": "out_channels", "k": "kernel_size"}


def layer(forward: str, x: str, sizes: dict[str, str], **hyperparameters: Any) -> Program:
    """A layer of one weight whose units are the letters o and a."""
    given = "".join(sizes)
    named = {x: size for x, size in NAMED.items() if x not in given and x in forward}
    output = forward[2 : forward.index("]")]
    letters = [letter for letter in output if letter.isalpha()]
    return resolve(
        spec(
            "Own",
            forward,
            " ".join(x for x in letters if x not in "oa"),
            " ".join(x for x in letters if x in "oa"),
            parameters=W_ONLY,
            sizes={**named, **sizes},
            hyperparameters=hyperparameters,
            inputs={"x": x},
        )
    )


def shipped(name: str, **hyperparameters: Any) -> Program:
    """A layer of the package, with other defaults."""
    found = load_spec(SPEC_FILES[name])
    return resolve(replace(found, hyperparameters={**found.hyperparameters, **hyperparameters}))


def lowering(program: Program, *, wide: bool = False, bounded: bool = False) -> Lowering:
    names = (*program.arguments, *program.spec.hyperparameters)
    attributes = {n: f"self.{n}" for n in names}
    derivation: Any = SimpleNamespace(program=program)
    correction: Any = None
    low = ForwardWriter(derivation, correction, attributes, general=False, fused={}).lowering
    low.wide, low.bounded = wide, bounded
    return low


def layer_sum(low: Lowering) -> Contraction:
    """The layer's sum, without its bias."""
    value = low.program.output.value
    return next(t for t in (value, *value.args) if isinstance(t, Contraction))


def energy(low: Lowering, power: int = 2) -> Contraction:
    """The sum of a power of the input over what the layer sums, in letters of its own."""
    e = flattened(layer_sum(low))
    (read,) = reads(e.body, "x")
    body = Mul(*(f for f in factors_of(e) if isinstance(f, Delta)), read**power)
    own = {x: Letter(x.name, x.size, "~0") for x in e.letters if x in body.free_symbols}
    return Contraction(substitute(body, own), *own.values())


def assert_computes(low: Lowering, e: Contraction, value: Value, bias: str = "") -> None:
    """The statements and the code of a value give the sum, by brute force over all letters."""
    program, rng = low.program, np.random.default_rng(0)
    sizes, symbols = random_sizes(program, rng, 2, 3)
    tensors = random_tensors(program, sizes, rng)

    def stored(name: str) -> Tensor:
        """A tensor as the layer holds it, with composed axes."""
        shape = [math.prod(sizes[x.size] for x in axis) for axis in program.tensors[name].axes]
        return torch.as_tensor(tensors[name]).reshape(shape)

    def held(name: str, count: int) -> Any:
        keys = [f"{name}[{k}]" for k in range(count)]
        return tuple(symbols[key] for key in keys) if count else symbols.get(name)

    hyperparameters = program.spec.hyperparameters.items()
    counts = {n: len(v) if isinstance(v, tuple) else 0 for n, v in hyperparameters}
    attributes = {n: held(n, count) for n, count in (counts | {**program.arguments}).items()}
    own = {program.spec.parameters[t.name].torch: stored(t.name) for t in program.parameters}
    module = SimpleNamespace(**attributes | own)
    scope = {**NAMES, "self": module, **{t.name: stored(t.name) for t in program.inputs}}
    exec("\n".join(low.statements), scope)
    axes: list[Any] = [low.batch if a is BATCH else a for a in value.axes]
    wanted = Evaluator(sizes, tensors, symbols).array(e, [x for axis in axes for x in axis])
    if bias:
        wanted = wanted + tensors[bias].reshape(*tensors[bias].shape, *[1] * (len(axes) - 2))
    shape = [math.prod(sizes[x.size] for x in axis) for axis in axes]
    np.testing.assert_allclose(eval(value.code, scope), wanted.reshape(shape), 1e-9, 1e-12)


# ---------------------------------------------------------------- what scatters
UNBATCHED = layer("z[o, p] = W[c, o, k]*x[c, (p + 1 - 3*k)/2]", "c l", {"p": "2*l + 3*k - 6"})
GROUPED = layer(
    "z[(g, o), p] = W[(g, c), o, k]*x[(g, c), (p - k)/3]",
    "(g c) l",
    {"(g, c)": "in_channels", "g": "groups", "p": "3*l - 3 + k"},
)
# The letter of the position decides with which sign a bracket holds it.
OTHER_SIGN = layer("z[n, o, b] = W[c, o, k]*x[n, c, (b - k)/2]", "n c l", {"b": "2*l - 2 + k"})
TWO_UNITS = layer(
    "z[n, (a, o), p] = W[c, (a, o), k]*x[n, c, (p - k)/2]",
    "n c l",
    {"a": "heads", "p": "2*l - 2 + k"},
)
PADDED = layer(
    "z[n, o, p] = W[c, o, k]*x[n, c, (p - k)/stride]",
    "n c l",
    {"p": "(l - 1)*stride + k + more"},
    flag=True,
    tau=0.5,
    stride=3,
    more=2,
    groups=2,
)
RANK_1 = shipped("conv_transpose1d", stride=3, padding=1, output_padding=2, groups=2, dilation=2)
RANK_2 = shipped(
    "conv_transpose2d",
    stride=(3, 2),
    padding=(1, 2),
    output_padding=(2, 1),
    groups=2,
    dilation=(1, 3),
)
RANK_3 = shipped("conv_transpose3d", stride=(1, 2, 2), padding=(0, 1, 0), dilation=(2, 1, 1))
SCATTERS = {
    "unbatched": UNBATCHED,
    "grouped": GROUPED,
    "other sign": OTHER_SIGN,
    "two units": TWO_UNITS,
    "padded": PADDED,
    "rank 1": RANK_1,
    "rank 2": RANK_2,
    "rank 3": RANK_3,
}
every_scatter = pytest.mark.parametrize("own", SCATTERS.values(), ids=SCATTERS)


@every_scatter
def test_a_scatter_is_a_transposed_convolution(own):
    low = lowering(own)
    e = layer_sum(low)
    value, used = transposed_convolution(low, e, None)
    assert value.code.startswith("F.conv_transpose")
    assert not used
    assert not low.fused
    assert_computes(low, e, value)


@every_scatter
@pytest.mark.parametrize("wide", [False, True])
def test_its_energy_is_a_transposed_window_of_ones(own, wide):
    low = lowering(own, wide=wide)
    e = energy(low)
    assert transposed_convolution(low, e, None) is None
    value, used = transposed_box(low, e, None)
    (slid,) = low.slid
    assert (slid.total, slid.kind, slid.axes) == (e, "conv_transpose", value.axes)
    assert (slid.weight, slid.groups, slid.shifted) == (None, None, False)
    assert not used
    assert_computes(low, e, value)


def test_a_bias_of_the_units_goes_into_the_call():
    low = lowering(RANK_2)
    bias = Value("self.bias", low.program.tensors["b"].axes)
    e = layer_sum(low)
    value, used = transposed_convolution(low, e, bias)
    assert used
    assert low.fused == {"self.weight": "self.bias"}
    assert_computes(low, e, value, "b")


def test_a_bias_of_other_axes_does_not():
    low = lowering(UNBATCHED)
    bias = Value("self.bias", low.program.tensors["W"].axes[2:])
    _, used = transposed_convolution(low, layer_sum(low), bias)
    assert not used


def test_a_recognised_scatter_is_remembered():
    """A backward pass asks for the sum; checks of the arguments ask for the steps."""
    low = lowering(RANK_1)
    e = layer_sum(low)
    value, _ = transposed_convolution(low, e, None)
    w = transposed(low, flattened(e))
    given = "W", "self.weight"
    assert low.slid == [Slid(e, w, "conv_transpose", value.axes, given, "self.groups")]
    assert low.transposed == [
        {
            "output_padding": "self.output_padding",
            "stride": "self.stride",
            "dilation": "self.dilation",
        }
    ]
    low = lowering(UNBATCHED)
    transposed_convolution(low, layer_sum(low), None)
    assert low.transposed == [{"output_padding": "0", "stride": "2", "dilation": "3"}]


def test_a_window_taken_apart():
    low = lowering(RANK_2)
    e = flattened(layer_sum(low))
    w = transposed(low, e)
    (read,) = reads(e.body, "x")
    _n, g, c, v, u = read.indices
    assert (w.read, w.group, w.channel) == (read, g, c)
    assert w.axes == (BATCH, (g, c), (v,), (u,))
    assert [s.axis for s in w.slides] == [v, u]
    assert [s.out.name for s in w.slides] == ["p", "q"]
    assert [s.kernel.name for s in w.slides] == ["k", "m"]
    for place, s in enumerate(w.slides):
        steps = s.stride, s.padding, s.dilation, s.output_padding
        names = "stride", "padding", "dilation", "output_padding"
        assert [x.name for x in steps] == [f"{name}[{place}]" for name in names]


def test_inside_a_gauge_a_product_is_no_convolution():
    low = lowering(UNBATCHED, wide=True)
    assert transposed_convolution(low, layer_sum(low), None) is None


# ---------------------------------------------------------------- what does not
SIZE = {"p": "2*l - 2 + k"}
PLANE = {"p": "2*v - 2 + k", "q": "2*w - 2 + k"}
ELSE = {
    "no bracket": ("z[n, o] = W[c, o]*x[n, c]", "n c", {}),
    "another size": ("z[n, o, p] = W[c, o, k]*x[n, c, (p - k)/2]", "n c l", {"p": "2*l + k"}),
    "a negative padding": (
        "z[n, o, p] = W[c, o, k]*x[n, c, (p - 1 - k)/2]",
        "n c l",
        {"p": "2*l - 1 + k"},
    ),
    "a padding that is a size": (
        "z[n, o, p] = W[c, o, k]*x[n, c, (p + size(k) - 1 - k)/2]",
        "n c l",
        {"p": "2*l - k"},
    ),
    "a multiple of the position": (
        "z[n, o, p] = W[c, o, k]*x[n, c, (2*p - k)/3]",
        "n c l",
        {"p": "l"},
    ),
    "two positions": (
        "z[n, o, p, q] = W[c, o, k]*x[n, c, (p + q - k)/2]",
        "n c l",
        {**SIZE, "q": "steps"},
    ),
    "no position": ("z[n, o] = W[c, o, k]*x[n, c, k/2]", "n c l", {}),
    "no offset": ("z[n, o, p] = W[c, o]*x[n, c, p/2]", "n c l", {"o": "out", "p": "2*l - 1"}),
    "two offsets": (
        "z[n, o, p] = W[c, o, k, m]*x[n, c, (p - k - m)/2]",
        "n c l",
        {**SIZE, "m": "width"},
    ),
    "a position twice": (
        "z[n, o, p] = W[c, o, k, m]*x[n, c, (p - k)/2, (p - m)/2]",
        "n c l l",
        {**SIZE, "m": "kernel_size"},
    ),
    "an offset twice": (
        "z[n, o, p, q] = W[c, o, k]*x[n, c, (p - k)/2, (q - k)/2]",
        "n c v w",
        PLANE,
    ),
    "channels that are the positions": (
        "z[n, p, o] = W[o, k]*x[n, p, (p - k)/2]",
        "n p l",
        SIZE,
    ),
    "no channels": ("z[n, p, o] = W[k, o]*x[n, (p - k)/2]", "n l", SIZE),
    "channels last": ("z[n, o, p] = W[c, o, k]*x[n, (p - k)/2, c]", "n l c", SIZE),
    "channels on two axes": (
        "z[n, o, p, d] = W[c, o, k]*x[n, d, c, (p - k)/2]",
        "n d c l",
        SIZE,
    ),
    "three letters on the axis of the channels": (
        "z[n, o, p, d, e] = W[c, o, k]*x[n, (d, e, c), (p - k)/2]",
        "n (d e c) l",
        {**SIZE, "d": "first", "e": "second"},
    ),
    "groups that are summed": (
        "z[n, o, p] = W[(g, c), o, k]*x[n, (g, c), (p - k)/2]",
        "n (g c) l",
        {**SIZE, "g": "groups"},
    ),
    "channels that are shifted": (
        "z[n, o, p, c] = W[c, o, k]*x[n, c + 1, (p - k)/2]",
        "n d l",
        {**SIZE, "c": "channels"},
    ),
    "two leading axes": (
        "z[n, i, o, p] = W[c, o, k]*x[n, i, c, (p - k)/2]",
        "n i c l",
        SIZE,
    ),
    "four axes": (
        "z[n, o, p, q, r, s] = W[c, o, k, m, f, h]"
        "*x[n, c, (p - k)/2, (q - m)/2, (r - f)/2, (s - h)/2]",
        "n c t u v w",
        {
            "m": "second",
            "f": "third",
            "h": "fourth",
            "p": "2*t - 2 + k",
            "q": "2*u - 2 + m",
            "r": "2*v - 2 + f",
            "s": "2*w - 2 + h",
        },
    ),
}


def other(name: str) -> Program:
    forward, x, sizes = ELSE[name]
    return layer(forward, x, sizes)


@pytest.mark.parametrize("name", ELSE)
def test_what_is_no_scatter(name):
    low = lowering(other(name))
    e = flattened(layer_sum(low))
    assert transposed(low, e) is None
    assert transposed_convolution(low, layer_sum(low), None) is None
    assert transposed_box(low, energy(low), None) is None
    assert not low.slid
    assert not low.fused


def test_two_inputs_are_no_scatter():
    forward = "z[n, o, p] = W[c, o, k]*x[n, c, (p - k)/2]*y[n, c]"
    sizes = {**NAMED, **SIZE}
    inputs = {"x": "n c l", "y": "n c"}
    own = spec("Own", forward, "n p", "o", parameters=W_ONLY, sizes=sizes, inputs=inputs)
    low = lowering(resolve(own))
    assert transposed(low, flattened(layer_sum(low))) is None
    assert transposed_convolution(low, layer_sum(low), None) is None


def test_two_brackets_on_one_axis_are_no_scatter():
    low = lowering(UNBATCHED)
    e = flattened(layer_sum(low))
    p = low.program.letters["p"]
    (bracket,) = (f for f in factors_of(e) if isinstance(f, Delta))
    twice = Contraction(e.body * substitute(bracket, {p: p.primed}), *e.letters)
    assert transposed(low, e) is not None
    assert transposed(low, twice) is None


def test_a_step_that_is_another_cannot_be_the_output_padding():
    forward = "z[n, o, p] = W[c, o, k]*x[n, c, (p - k)/stride]"
    low = lowering(layer(forward, "n c l", {"p": "(l - 1)*stride + k + stride"}, stride=2))
    assert transposed(low, flattened(layer_sum(low))) is None


def test_which_hyperparameters_may_be_an_output_padding():
    zero, *spare = output_paddings(lowering(PADDED), {"stride"})
    assert zero == 0
    assert spare == [Symbol("more", integer=True), Symbol("groups", integer=True)]
    spare = output_paddings(lowering(RANK_2), {"padding[1]", "bias", "groups"})[1:]
    assert [str(x) for x in spare] == [
        "stride[0]",
        "stride[1]",
        "padding[0]",
        "output_padding[0]",
        "output_padding[1]",
        "dilation[0]",
        "dilation[1]",
    ]


@pytest.mark.parametrize("steps", [(3, 1, 2, 1), (1, 2, 0, 0), (2, 3, 1, 2), (5, 1, 0, 4)], ids=str)
@pytest.mark.parametrize(("length", "kernel"), [(4, 3), (5, 2), (2, 4)])
def test_the_size_of_a_scatter_is_that_of_torch(steps, length, kernel):
    s = Steps(*steps)
    x, ones = torch.ones(1, 1, length), torch.ones(1, 1, kernel)
    z = F.conv_transpose1d(x, ones, None, s.stride, s.padding, s.output_padding, 1, s.dilation)
    assert scattered(length, kernel, s) == z.shape[-1]


# Each is a scatter, but not the sum of its input with its weight over all channels.
WEIGHTS = {
    "units first": ("z[n, o, p] = W[o, c, k]*x[n, c, (p - k)/2]", SIZE),
    "offsets in another order": (
        "z[n, o, p, q] = W[c, o, m, k]*x[n, c, (p - k)/2, (q - m)/2]",
        {**PLANE, "q": "2*w - 2 + m", "m": "width"},
    ),
    "no units": ("z[n, p] = W[c, k]*x[n, c, (p - k)/2]", SIZE),
    "nothing": ("z[n, p] = W*x[n, c, (p - k)/2]", SIZE),
    "channels that are kept": ("z[n, c, o, p] = W[c, o, k]*x[n, c, (p - k)/2]", SIZE),
    "positions": ("z[n, p] = W[c, p, k]*x[n, c, (p - k)/2]", SIZE),
    "another axis": ("z[n, o, p] = W[c, o, k, h]*x[n, c, (p - k)/2]", SIZE),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_no_convolution_has_an_energy_of_windows(name):
    forward, sizes = WEIGHTS[name]
    more = {"h": "heads"} if "h" in forward else {}
    low = lowering(layer(forward, "n c v w" if "q" in forward else "n c l", {**sizes, **more}))
    assert transposed_convolution(low, layer_sum(low), None) is None
    assert not low.fused
    assert not low.slid
    # The weight depends on the offset.
    assert transposed_box(low, flattened(layer_sum(low)), None) is None
    low.wide = True
    e = energy(low)
    value, _ = transposed_box(low, e, None)
    assert_computes(low, e, value)


def test_where_a_position_is_divided_it_is_no_leading_axis():
    program = other("channels that are the positions")
    assert [x.name for x in batch_letters(program)] == ["n"]
    low = lowering(program)
    e = program.output.value
    assert_computes(low, e, low.of(e))


# ---------------------------------------------------------------- box sums
def depthwise(rank: int) -> Program:
    p, k, size = "pqr"[:rank], "kmf"[:rank], "uvw"[:rank]
    reads_at = ", ".join(f"{a} + 2*{b}" for a, b in zip(p, k, strict=True))
    return layer(
        f"z[n, c, o, {', '.join(p)}] = W[o, c, {', '.join(k)}]*x[n, c, {reads_at}]",
        f"n c {' '.join(size)}",
        {
            **{b: f"kernel_{b}" for b in k},
            **{a: f"{s} - 2*{b} + 2" for a, s, b in zip(p, size, k, strict=True)},
        },
    )


ONE_MAP = layer("z[n, p, o] = W[k, o]*x[n, p + k - 1]", "n l", {"p": "l + 3 - k"})
NARROW = layer("z[n, o, p] = W[o, c, k]*x[n, c, 2*p + k]", "n c l", {"p": "(l - k)//2 + 1"})
BOXES = {
    "one map": ONE_MAP,
    "summed": NARROW,
    "rank 1": shipped("conv1d", stride=2, padding=1, dilation=2, groups=2),
    "rank 2": shipped("conv2d", stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
    "rank 3": shipped("conv3d", stride=(2, 1, 1), padding=(0, 1, 0), dilation=(1, 1, 2)),
    "depthwise 1": depthwise(1),
    "depthwise 2": depthwise(2),
    "depthwise 3": depthwise(3),
}
SHIFTED = [name for name in BOXES if name not in ("depthwise 1", "depthwise 2")]
SUMMED = [name for name in BOXES if "depthwise" not in name]
every_box = pytest.mark.parametrize("name", BOXES)


@every_box
@pytest.mark.parametrize("bounded", [False, True])
def test_a_box_sum_in_a_gauge(name, bounded):
    """What is summed over channels may overflow where it is not bounded, and is then widened."""
    low = lowering(BOXES[name], wide=True, bounded=bounded)
    e = energy(low)
    value, used = box_sum(low, e, None)
    text = "\n".join(low.statements)
    (slid,) = low.slid
    assert slid == Slid(e, slid.window, "conv", value.axes, None, None, name in SHIFTED)
    assert ("_box_sum(squares, " in text) == (name in SHIFTED)
    assert ("new_ones" in text) == ("with _no_autocast(squares): " in text) == (name not in SHIFTED)
    assert value.code == ("wide" if name in SUMMED and not bounded else "energy")
    assert not used
    # A window has no more than float32 of narrow inputs; what follows it is wide again.
    assert text.startswith("squares = ")
    assert "_single(x).square()" in text
    assert low.widened(Value("x")).code == "_wide(x)"
    assert_computes(low, e, value)


@every_box
def test_a_box_sum_elsewhere(name):
    """Of half precision, in which each addition of shifted maps would round."""
    low = lowering(BOXES[name])
    e = energy(low, 3)
    value, _ = box_sum(low, e, None)
    assert value.code.startswith("F.conv")
    assert "_" not in low.statements[0].split("(")[0]
    assert not low.slid[0].shifted
    assert_computes(low, e, value)


@pytest.mark.parametrize("bounded", [False, True])
def test_the_energy_of_a_scatter_is_no_sum_of_shifted_maps(bounded):
    low = lowering(UNBATCHED, wide=True, bounded=bounded)
    transposed_box(low, energy(low), None)
    assert low.statements[1].startswith("with _no_autocast(squares): energy = F.conv_transpose1d(")
    assert low.statements[2:] == ([] if bounded else ["wide = _wide(energy)"])


PAIR = resolve(
    spec(
        "Pair",
        "z[n, o, p, q] = W[o, c, k]*x[n, c, p + k]*y[n, c, p + k]*u[n, c, q + k]*v[n, d, p + k]",
        "n p q",
        "o",
        parameters=W_ONLY,
        sizes={**NAMED, "d": "other", "p": "l - k + 1", "q": "l - k + 1"},
        inputs={"x": "n c l", "y": "n c l", "u": "n c l", "v": "n d l"},
    )
)


def pair(low: Lowering) -> tuple[Read, ...]:
    """Reads of four inputs, the first two at one window."""
    body = flattened(layer_sum(low)).body
    x, y, u, v = (next(iter(reads(body, name))) for name in "xyuv")
    return x, y, u, v


@pytest.mark.parametrize("wide", [False, True])
def test_a_product_at_one_window(wide):
    low = lowering(PAIR, wide=wide)
    x, y, _, _ = pair(low)
    c, k = x.indices[1], low.program.letters["k"]
    e = Contraction(x * y**2, c, k)
    value, _ = box_sum(low, e, None)
    assert_computes(low, e, value)


def test_what_is_no_box_sum():
    low = lowering(PAIR)
    x, y, u, v = pair(low)
    c, k, d = (low.program.letters[name] for name in "ckd")
    weight = next(iter(reads(low.program.output.value, "W")))
    none = {
        "no read": Contraction(Symbol("t"), k),
        "windows at other positions": Contraction(x * u, c, k),
        "windows over other channels": Contraction(x * v, c, k),
        "windows over some of the channels": Contraction(x * v, d, k),
        "no window": Contraction(x * Read(Symbol("y"), *y.indices[:2], 2 * k), c, k),
        "a weight": Contraction(x * weight, c, k),
        "a sum": Contraction(1 + x, c, k),
        "0 outside is lost": Contraction(x / y, c, k),
        "a root": Contraction(sqrt(x), c, k),
        "a bracket": Contraction(x * Delta(c - d), c, k),
        "another letter": Contraction(x**2, c, k, d),
    }
    assert {name: box_sum(low, e, None) for name, e in none.items()} == dict.fromkeys(none)
    assert box_sum(low, Contraction(x * y, c, k), None) is not None


# A letter that stands at two places is read along a diagonal, which no window of torch's is.
DIAGONALS = {
    "an offset twice": (
        "z[n, o, p, q] = W[o, c, k]*x[n, c, p + k, q + k]",
        "n c v w",
        {"p": "v - k + 1", "q": "w - k + 1"},
    ),
    "a position twice": (
        "z[n, o, p] = W[o, c, k, m]*x[n, c, p + k, p + m]",
        "n c l l",
        {"p": "l - k + 1", "m": "kernel_size"},
    ),
    "channels that are the offsets": (
        "z[n, o, p] = W[o, k]*x[n, k, p + k]",
        "n k l",
        {"p": "l - k + 1"},
    ),
    "channels that are the positions": (
        "z[n, p, o] = W[o, k]*x[n, p, p + k]",
        "n p l",
        {"p": "l - k + 1"},
    ),
}


@pytest.mark.parametrize("name", DIAGONALS)
def test_a_diagonal_is_no_window(name):
    low = lowering(layer(*DIAGONALS[name]))
    e = energy(low)
    (read,) = reads(e)
    assert window(low, read, {*e.letters}) is None
    assert box_sum(low, e, None) is None
    assert convolution(low, layer_sum(low), None) is None


def test_a_weight_of_each_position_is_no_convolution():
    low = lowering(layer("z[n, p] = W[p, c, k]*x[n, c, p + k]", "n c l", {"p": "l - k + 1"}))
    assert convolution(low, layer_sum(low), None) is None


def test_a_window_whose_size_is_not_read():
    low = lowering(UNBATCHED)
    w = transposed(low, flattened(layer_sum(low)))
    squares = Value("s", w.axes)
    code = ones_window(low, squares, w, "conv_transpose", "more")
    assert code.endswith(", output_padding=more)")
    assert "output_padding" not in ones_window(low, squares, w, "conv_transpose")
