"""Windows: which reads are some, and convolutions against the sums that they stand for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from sympy import Expr, Symbol, exp

from codegen.forward import batch_letters, input_value, shape_codes
from codegen.lower import Lowering
from codegen.sizes import SizeCode
from codegen.transposed import scattered
from codegen.values import BATCH, Value
from codegen.windows import (
    Slide,
    Steps,
    arguments,
    convolution,
    convolved,
    every_axis,
    is_step,
    numbers,
    size_fits,
    slide,
    steps_of,
    weight_and_image,
    window,
)
from derive.evaluate import Evaluator
from derive.nodes import Contraction, Letter, Read, TokenRead, size_symbol
from derive.points import random_sizes
from derive.resolve import resolve
from tests.codegen.specs import spec


def lowering(forward: str, **more: Any) -> Lowering:
    """A lowering as a forward pass has it, of weights W and, where the line has one, a bias b."""
    found = {s: {"torch": t} for s, t in (("W", "weight"), ("b", "bias")) if f"{s}[" in forward}
    program = resolve(spec("Tried", forward, parameters=found, **more))
    batch = batch_letters(program)
    values = {t.name: input_value(t, batch) for t in program.inputs}
    names = {n: f"self.{n}" for n in (*program.arguments, *program.spec.hyperparameters)}
    sizes = SizeCode(program, names, shape_codes(program, [*values.values()], names))
    for tensor in program.parameters:
        name = program.spec.parameters[tensor.name].torch
        values[tensor.name] = Value(f"self.{name}", tuple(tensor.axes))
    return Lowering(program, batch, values, sizes, "x.device")


def total(low: Lowering) -> Contraction:
    """The sum of the last line."""
    return next(
        n for n in sympy.preorder_traversal(low.program.output.value) if isinstance(n, Contraction)
    )


def image(low: Lowering) -> Read:
    """The read of x in it."""
    return next(n for n in sympy.preorder_traversal(total(low)) if getattr(n, "tensor", "") == "x")


X = Symbol("x")
PLAIN = {"c": "in_channels", "o": "out_channels", "k": "kernel_size"}
GROUPED = {"(g, c)": "in_channels", "(g, o)": "out_channels", "g": "groups", "k": "kernel_size"}
STEPS = {"stride": 2, "dilation": 3, "padding": 1}
PAIRS = {"stride": [2, 3], "dilation": [3, 2], "padding": [1, 2]}
SIZE = "({l} + 2*padding{i} - dilation{i}*({k} - 1) - 1)//stride{i} + 1"
INDEX = "stride{i}*{p} + dilation{i}*{k} - padding{i}"


def size(length: str = "l", kernel: str = "k", i: str = "") -> str:
    return SIZE.format(l=length, k=kernel, i=i)


def index(out: str = "p", kernel: str = "k", i: str = "") -> str:
    return INDEX.format(p=out, k=kernel, i=i)


def one(read: str = index(), length: str = size(), **hyper: Any) -> Lowering:
    """A convolution along one axis."""
    return lowering(
        f"z[n, o, p] = W[o, c, k]*x[n, c, {read}]",
        site="n p",
        unit="o",
        sizes={**PLAIN, "p": length},
        inputs={"x": "n c l"},
        hyperparameters=hyper or STEPS,
    )


def grouped(x: str = "n (g c) l", **more: Any) -> Lowering:
    """A grouped one, with a leading axis or without."""
    lead = "n, " if "n" in x else ""
    return lowering(
        f"z[{lead}(g, o), p] = W[(g, o), c, k]*x[{lead}(g, c), {index()}] + b[(g, o)]",
        site=f"{lead.replace(',', '')}g p",
        unit="o",
        sizes={**GROUPED, "p": size()},
        inputs={"x": x},
        hyperparameters=STEPS,
        **more,
    )


def depthwise(x: str = "n c l", weight: str = "c, k") -> Lowering:
    lead = "n, " if "n" in x else ""
    return lowering(
        f"z[{lead}c, p] = W[{weight}]*x[{lead}c, {index()}] + b[c]",
        site=f"{lead.replace(',', '')}p",
        unit="c",
        sizes={"c": "channels", "k": "kernel_size", "p": size()},
        inputs={"x": x},
        hyperparameters=STEPS,
    )


def images() -> Lowering:
    """Two axes, whose steps are pairs."""
    return lowering(
        f"z[n, o, p, q] = W[o, c, k, m]*x[n, c, {index(i='[0]')}, {index('q', 'm', '[1]')}]",
        site="n p q",
        unit="o",
        sizes={
            **{"c": "in_channels", "o": "out_channels", "k": "kernel[0]", "m": "kernel[1]"},
            "p": size("v", "k", "[0]"),
            "q": size("w", "m", "[1]"),
        },
        inputs={"x": "n c v w"},
        hyperparameters=PAIRS,
    )


def volumes() -> Lowering:
    """Three axes, with groups, of which each moves by itself."""
    return lowering(
        "z[n, (g, o), p, q, r] = W[(g, o), c, k, m, f]*x[n, (g, c), 2*p + k, q + 2*m - 1, r + f]",
        site="n g p q r",
        unit="o",
        sizes={
            **{**GROUPED, "k": "depth", "m": "height", "f": "width"},
            **{"p": "(u - k)//2 + 1", "q": "v + 4 - 2*m", "r": "w - f + 1"},
        },
        inputs={"x": "n (g c) u v w"},
    )


CONVOLUTIONS = {
    "one axis": one(),
    "numbers": one("2*p + 3*k - 1", "(l + 1 - 3*(k - 1))//2 + 1"),
    "size in other words": one("p + k", "l + 1 - kernel_size"),
    "no leading axis": lowering(
        "z[o, p] = W[o, c, k]*x[c, p + k]",
        site="p",
        unit="o",
        sizes={**PLAIN, "p": "l - k + 1"},
        inputs={"x": "c l"},
    ),
    "groups": grouped(),
    "groups, no leading axis": grouped("(g c) l"),
    "depthwise": depthwise(),
    "depthwise, no leading axis": depthwise("c l"),
    "two axes": images(),
    "three axes": volumes(),
}
every_convolution = pytest.mark.parametrize("low", CONVOLUTIONS.values(), ids=CONVOLUTIONS)


class Instance:
    """Numbers for everything in a program, as the evaluator has them and as a module has them."""

    def __init__(self, low: Lowering) -> None:
        rng = np.random.default_rng(0)
        self.program, self.batch = low.program, low.batch
        drawn = (random_sizes(low.program, rng, 2, 4) for _ in range(100))
        # An axis of size 1 could stand anywhere.
        sizes, symbols = next(found for found in drawn if min(found[0].values()) > 1)
        tensors = {
            t.name: rng.standard_normal([sizes[x.size] for x in t.letters])
            for t in (*low.program.inputs, *low.program.parameters)
        }
        self.evaluator = Evaluator(sizes, tensors, symbols)
        self.module = SimpleNamespace()
        for name, value in symbols.items():
            stem = name.partition("[")[0]
            before = getattr(self.module, stem, ())
            setattr(self.module, stem, value if stem == name else (*before, value))
        for tensor in low.program.parameters:
            name = low.program.spec.parameters[tensor.name].torch
            setattr(self.module, name, self.stored(tensor.name))

    def stored(self, name: str) -> torch.Tensor:
        """A tensor with its axes composed."""
        sizes = self.evaluator.sizes
        axes = self.program.tensors[name].axes
        shape = [int(np.prod([sizes[x.size] for x in axis])) for axis in axes]
        return torch.from_numpy(self.evaluator.tensors[name].reshape(shape))

    def run(self, value: Value) -> np.ndarray:
        """What code gives, its axes taken apart."""
        found = eval(value.code, {"F": F, "torch": torch, "self": self.module} | self.inputs())
        return found.numpy().reshape(self.evaluator.array(sympy.S.Zero, self.letters(value)).shape)

    def inputs(self) -> dict[str, torch.Tensor]:
        return {t.name: self.stored(t.name) for t in self.program.inputs}

    def letters(self, value: Value) -> list[Letter]:
        return [x for a in value.axes for x in (self.batch if a is BATCH else a)]

    def right(self, value: Value, expression: Expr) -> None:
        wanted = self.evaluator.array(expression, self.letters(value))
        np.testing.assert_allclose(self.run(value), wanted, atol=1e-12)


class TestConvolutions:
    @every_convolution
    def test_it_computes_the_sum(self, low):
        e = total(low)
        found = convolution(low, e, None)
        assert found is not None
        value, used = found
        assert used is False
        assert value.code.startswith("F.conv")
        Instance(low).right(value, e)

    @every_convolution
    def test_what_moved_is_noted_for_the_backward_pass(self, low):
        e = total(low)
        low.slid.clear()
        value, _ = convolution(low, e, None)
        (slid,) = low.slid
        assert (slid.total, slid.kind, slid.axes) == (e, "conv", value.axes)
        assert slid.window == window(low, image(low), set(e.letters))
        tensor, code = slid.weight
        assert tensor == "W"
        assert code in ("self.weight", "self.weight.unsqueeze(1)")
        assert value.code.startswith(f"F.conv{len(slid.window.slides)}d(x, {code}")
        assert slid.groups is None or value.code.endswith(f", groups={slid.groups})")
        assert (slid.groups is None) == ("groups" not in value.code)
        assert slid.shifted is False

    @pytest.mark.parametrize("low", [grouped(), depthwise()], ids=["groups", "depthwise"])
    def test_a_bias_along_the_channels_goes_in(self, low):
        e = total(low)
        outer = low.values["b"].axes[0]
        value, used = convolution(low, e, Value("self.bias", (outer,)))
        assert used is True
        assert low.fused == {"self.weight": "self.bias"}
        bias = Read(Symbol("b"), *outer)
        Instance(low).right(value, e + bias)

    @pytest.mark.parametrize("low", [grouped(), depthwise()], ids=["groups", "depthwise"])
    def test_a_bias_along_another_axis_stays_out(self, low):
        e = total(low)
        value, used = convolution(low, e, Value("self.bias", ((Letter("k", "k"),),)))
        assert used is False
        Instance(low).right(value, e)

    def test_none_runs_inside_a_gauge(self):
        low = one()
        low.wide = True
        assert convolution(low, total(low), None) is None

    @pytest.mark.parametrize(
        ("forward", "site", "unit"),
        [
            # the weight's axes in another order, or others
            ("z[n, o, p] = W[c, o, k]*x[n, c, p + k]", "n p", "o"),
            ("z[n, o, p] = W[o, k, c]*x[n, c, p + k]", "n p", "o"),
            ("z[n, o, p] = W[o, c]*x[n, c, p + k]", "n p", "o"),
            ("z[n, o, p] = W[o, c, k, m]*x[n, c, p + k]", "n p", "o"),
            ("z[n, o, m, p] = W[o, m, c, k]*x[n, c, p + k]", "n m p", "o"),
            ("z[n, (m, o), p] = W[(m, o), c, k]*x[n, c, p + k]", "n m p", "o"),
            ("z[n, c, p] = W[k, c]*x[n, c, p + k]", "n p", "c"),
            ("z[n, c, o, p] = W[c, o, k]*x[n, c, p + k]", "n c p", "o"),
            # a sum over the output's channels
            ("z[n, p] = W[o, c, k]*x[n, c, p + k]", "n p", ""),
            # more or fewer factors, or others
            ("z[n, o, p] = W[o, c, k]*x[n, c, p + k]**2", "n p", "o"),
            ("z[n, o, p] = W[o, c, k]*x[n, c, p + k]*y[n, c]", "n p", "o"),
            ("z[n, o, p] = W[o, c, k]*2*x[n, c, p + k]", "n p", "o"),
            ("z[n, o, p] = W[o, c, k]*tanh(x[n, c, p + k])", "n p", "o"),
        ],
    )
    def test_others_are_left_to_the_general_path(self, forward, site, unit):
        used = {s for s in "comk" if f"{s}," in forward or f"{s}]" in forward or f"{s})" in forward}
        sizes = {s: n for s, n in {**PLAIN, "m": "more"}.items() if s in used}
        inputs = {"x": "n c l"} | ({"y": "n c"} if "y[" in forward else {})
        low = lowering(
            forward, site=site, unit=unit, sizes={**sizes, "p": "l - k + 1"}, inputs=inputs
        )
        assert convolution(low, total(low), None) is None
        assert low.slid == []

    def test_groups_in_another_order_are_no_groups_of_a_convolution(self):
        low = lowering(
            "z[n, (o, g), p] = W[(o, g), c, k]*x[n, (g, c), p + k]",
            site="n g p",
            unit="o",
            sizes={"(g, c)": "own", "o": "out", "g": "groups", "k": "kernel", "p": "l - k + 1"},
            inputs={"x": "n (g c) l"},
        )
        assert window(low, image(low), set(total(low).letters)) is not None
        assert convolution(low, total(low), None) is None

    def test_without_channels_there_is_none(self):
        low = lowering(
            "z[n, p] = W[k]*x[n, p + k]",
            site="n p",
            unit="",
            sizes={"k": "kernel", "p": "l - k + 1"},
            inputs={"x": "n l"},
        )
        assert window(low, image(low), set(total(low).letters)) is not None
        assert convolution(low, total(low), None) is None

    def test_one_kernel_for_all_channels_of_a_group_is_not_depthwise(self):
        low = lowering(
            "z[n, (g, c), p] = W[c, k]*x[n, (g, c), p + k]",
            site="n g p",
            unit="c",
            sizes={"c": "own", "g": "groups", "k": "kernel", "p": "l - k + 1"},
            inputs={"x": "n (g c) l"},
        )
        assert window(low, image(low), set(total(low).letters)) is not None
        assert convolution(low, total(low), None) is None

    @pytest.mark.parametrize("low", [one(), depthwise()], ids=["full", "depthwise"])
    def test_a_sum_over_more_than_the_window_is_another(self, low):
        e = total(low)
        more = Contraction(e.body, *e.letters, Letter("again", e.letters[0].size))
        assert convolution(low, e, None) is not None
        assert convolution(low, more, None) is None


class TestSizes:
    @pytest.mark.parametrize("length", [7, 12])
    @pytest.mark.parametrize("kernel", [1, 2, 3])
    @pytest.mark.parametrize("steps", [(1, 1, 0), (2, 1, 3), (3, 2, 1), (2, 3, 2)])
    def test_convolved_is_the_length_that_torch_gives(self, length, kernel, steps):
        stride, dilation, padding = steps
        found = F.conv1d(
            torch.ones(1, 1, length),
            torch.ones(1, 1, kernel),
            stride=stride,
            dilation=dilation,
            padding=padding,
        )
        assert convolved(length, kernel, Steps(*steps, 0)) == found.shape[-1]

    @pytest.mark.parametrize(
        ("read", "length", "hyper"),
        [
            ("p + k", "l - k + 1", {}),
            ("p + k", "1 - kernel_size + l", {}),
            ("p + k", "l - width*k//width + 1", {"width": 2}),
            ("stride*p + k", "(l - k)//stride + 1", {"stride": 2}),
            ("stride*p + k", "(l + stride - k)//stride", {"stride": 2}),
            ("stride*p + stride*k", "(l - 1 - stride*(k - 1))//stride + 1", {"stride": 2}),
            ("2*stride*p + k", "(l - k)//(2*stride) + 1", {"stride": 2}),
            ("p + k - many[1]", "l + 2*many[1] - k + 1", {"many": [4, 2]}),
            ("p + k - 3 - pad", "l + 2*pad + 7 - k", {"pad": 1}),
            ("p + rate*k", "l - rate*(k - 1)", {"rate": 2, "mask": True, "share": 0.5}),
        ],
    )
    def test_the_formula_may_be_written_in_any_way(self, read, length, hyper):
        low = one(read, length, **hyper)
        assert convolution(low, total(low), None) is not None

    @pytest.mark.parametrize(
        ("read", "length", "hyper"),
        [
            ("p + k", "l - k", {}),
            ("p + k", "l", {}),
            ("p + k - 1", "l - k + 2", {}),
            ("2*p + k", "l//2", {}),
            # wrong for some numbers alone
            ("stride*p + k", "(l - k)//stride + 1 + 1//stride", {"stride": 2}),
            ("stride*p + k", "(l - k)//stride + 1 + stride//4", {"stride": 2}),
            ("many[0]*p + k", "(l - k)//many[0] + 1 + 1//many[0]", {"many": [2]}),
            ("p + k", "l - k + 1 + 1//kernel_size", {}),
            ("p + k", "l - k + 1 + kernel_size//4", {}),
            # a formula without a value for some numbers
            ("p + k", "(l - k)//(rate - 1) + 1", {"rate": 2}),
            ("p + k", "l - k + (rate - 1)//(rate - 1)", {"rate": 2}),
        ],
    )
    def test_another_size_is_no_convolution(self, read, length, hyper):
        low = one(read, length, **hyper)
        assert window(low, image(low), set(total(low).letters)) is None

    @pytest.mark.parametrize(
        ("read", "length", "hyper"),
        [
            # turned round, or starting within: the size fits, and torch takes no such steps
            ("k - p", "l - k + 1", {}),
            ("p - k", "l + k - 1", {}),
            ("p + k + 1", "l - k - 1", {}),
            # negative for some numbers
            ("p + k - pad + 1", "l + 2*pad - k - 1", {"pad": 1}),
            ("p + k - wide + near", "l + 2*wide - 2*near - k + 1", {"wide": 1, "near": 1}),
            ("p + k - near + wide", "l + 2*near - 2*wide - k + 1", {"wide": 1, "near": 1}),
            ("rate*p - p + k", "(l - k)//(rate - 1) + 1", {"rate": 2}),
            # a size is no step
            ("p + k - size(k)", "l + k + 1", {}),
            ("p + size(k)*k", "l - k*(k - 1)", {}),
            ("p + k + rate*k - size(k)", "l + 2*k - (1 + rate)*(k - 1)", {"rate": 1}),
        ],
    )
    def test_steps_that_torch_does_not_take(self, read, length, hyper):
        low = one(read, length, **hyper)
        assert window(low, image(low), set(total(low).letters)) is None

    @pytest.mark.parametrize(
        ("length", "fits"),
        [
            ("(l - 1)*stride - 2*padding + dilation*(k - 1) + more + 1", True),
            ("(l - 1)*stride - 2*more + dilation*(k - 1) + padding + 1", False),
            ("(l - 1)*dilation - 2*padding + stride*(k - 1) + more + 1", False),
        ],
    )
    def test_a_transposed_window_has_an_output_padding_besides(self, length, fits):
        low = one(index(), length, **STEPS, more=1)
        letters = low.program.letters
        steps = (Symbol(n, integer=True) for n in ("stride", "dilation", "padding", "more"))
        s = Slide(letters["l"], letters["p"], letters["k"], *steps)
        assert size_fits(low, s, scattered) is fits

    def test_a_step_may_hold_every_number(self):
        program = images().program
        found = [Symbol(n, integer=True) for n in numbers(program)]
        assert len(found) == len({"c", "o", "k", "m"}) + 2 * len(PAIRS)
        assert is_step(program, sympy.Add(*found))
        assert not is_step(program, sympy.Add(*found, Symbol("other", integer=True)))

    def test_other_sizes_are_computed_on_the_way(self):
        low = lowering(
            "z[n, o, p] = W[o, c, k]*x[n, c, p + k]*y[n, q]",
            site="n p",
            unit="o",
            sizes={**PLAIN, "p": "q - k", "q": "l + 1"},
            inputs={"x": "n c l", "y": "n q"},
        )
        assert window(low, image(low), set(total(low).letters)) is not None

    @pytest.mark.parametrize("x", ["n c p", "n c l"])
    def test_an_output_whose_size_an_input_tells_is_no_window(self, x):
        low = lowering(
            "z[n, o, p] = W[o, c, k]*x[n, c, p + k - reach] + y[n, p]",
            site="n p",
            unit="o",
            sizes={**PLAIN, "k": "2*reach + 1"},
            inputs={"x": x, "y": "n p"},
            hyperparameters={"reach": 1},
        )
        assert window(low, image(low), set(total(low).letters)) is None


class TestWindows:
    def test_the_parts_of_a_read(self):
        low = grouped()
        g, c, p, k, axis = (low.program.letters[x] for x in "gcpkl")
        w = window(low, image(low), {c, k})
        assert w.read == image(low)
        assert w.axes == (BATCH, (g, c), (axis,))
        assert (w.group, w.channel) == (g, c)
        (s,) = w.slides
        stride, dilation, padding = (Symbol(x, integer=True) for x in STEPS)
        assert s == Slide(axis, p, k, stride, dilation, padding, sympy.S.Zero)
        assert s.steps == (stride, dilation, padding, 0)
        # Groups that are summed too are channels like the others, which torch has none of.
        assert window(low, image(low), {g, c, k}) is None
        fewer = grouped("(g c) l")
        assert window(fewer, image(fewer), {c, k}).axes == ((g, c), (axis,))

    def test_a_channel_need_not_be_summed(self):
        low = depthwise()
        c, k = (low.program.letters[x] for x in "ck")
        for bound in ({k}, {c, k}):
            w = window(low, image(low), bound)
            assert (w.group, w.channel) == (None, c)

    @pytest.mark.parametrize(
        "indices",
        [
            "n, g, c, p",
            "n, g, c, 2*p",
            "n, g, c, k + 1",
            "n, g, c, p + k + c",
            "n, g, c, p + k + o",
            "n, g, c + 1, stride*p + dilation*k - padding",
            "n, g, o, stride*p + dilation*k - padding",
            "n, k, c, stride*p + dilation*k - padding",
            "n + 1, g, c, stride*p + dilation*k - padding",
            "n, g, c, stride*(p + k)",
            "n, g, c, stride*p + dilation*k - t",
            "n, g, c, stride*p + dilation*k - u",
            "n, g, c, stride*p + dilation*k - v",
        ],
    )
    def test_reads_that_are_none(self, indices):
        low = grouped()
        known = dict(low.program.letters) | {s: Symbol(s, integer=True) for s in STEPS}
        # What a token says is no step, nor is a size.
        known |= {
            "t": TokenRead(Symbol("t"), known["p"]),
            "u": TokenRead(Symbol("t"), sympy.S.Zero),
            "v": size_symbol("c"),
        }
        read = Read(X, *(eval(i, dict(known)) for i in indices.split(",")))
        assert window(low, read, {known["c"], known["k"]}) is None

    @pytest.mark.parametrize("name", ["h", "unknown"])
    def test_what_is_no_input_has_none(self, name):
        low = lowering(
            "h[n, c, l] = tanh(x[n, c, l])\nz[n, o, p] = W[o, c, k]*h[n, c, p + k]",
            site="n p",
            unit="o",
            sizes={**PLAIN, "p": "l - k + 1"},
            inputs={"x": "n c l"},
        )
        n, c, p, k = (low.program.letters[x] for x in "ncpk")
        assert window(low, Read(X, n, c, p + k), {c, k}) is not None
        assert window(low, Read(Symbol(name), n, c, p + k), {c, k}) is None

    @pytest.mark.parametrize(
        ("x", "read", "found"),
        [
            ("n c l", "n, c, p + k", True),
            ("c l", "c, p + k", True),
            ("n l", "n, p + k", True),
            ("l", "p + k", True),
            ("n e l", "n, e, p + k", True),
            # nothing that slides, two leading axes, a window before a plain axis, axes not composed
            ("n c", "n, c", False),
            ("n m c l", "n, m, c, p + k", False),
            ("n l c", "n, p + k, c", False),
            ("n e c l", "n, e, c, p + k", False),
            ("e c l", "e, c, p + k", False),
            ("n (e c d) l", "n, (e, c, d), p + k", False),
            ("n (c d) l", "n, (c, d), p + k", False),
            ("n d (e c) l", "n, d, (e, c), p + k", False),
            ("n (e c) l", "n, (e, c), p + k", True),
            # no more than three window axes
            ("n c r s l", "n, c, v + h, w + i, p + k", True),
            ("n c q r s l", "n, c, u + f, v + h, w + i, p + k", False),
        ],
    )
    def test_axes(self, x, read, found):
        held = [s for s in "nmedc" if s in read.replace("(", "").replace(")", "").split(", ")]
        kept = [s for s in "nme" if s in held]
        windows = [part.split(" + ") for part in read.split(", ") if "+" in part]
        outs, kernels = [a for a, _ in windows], [b for _, b in windows]
        lengths = dict(zip(outs, [s for s in x.split() if s in "qrsl"], strict=True))
        # A weight that has a letter of its own keeps it from being a leading axis.
        weight = ", ".join([*(s for s in "edc" if s in held), *kernels])
        site = [*kept, *outs]
        low = lowering(
            f"z[{', '.join(site)}] = W[{weight}]*x[{read}]",
            site=" ".join(site),
            unit="",
            sizes={
                **{s: f"size_{s}" for s in ("e", "d", "c") if s in held},
                **{k: f"kernel_{k}" for k in kernels},
                **{p: f"{lengths[p]} - {k} + 1" for p, k in windows},
            },
            inputs={"x": x},
        )
        w = window(low, image(low), set(total(low).letters))
        assert (w is not None) is found
        if found:
            assert [s.axis.name for s in w.slides] == [lengths[p] for p in outs]
            assert len(w.axes) == len(x.replace("(e c)", "e").split())


class TestCode:
    @pytest.mark.parametrize(
        ("read", "length", "hyper", "options", "steps"),
        [
            ("p + k", "l - k + 1", {}, "", "(1,) (0,) (1,) (0,)"),
            ("2*p + k", "(l - k)//2 + 1", {}, ", stride=2", "(2,) (0,) (1,) (0,)"),
            ("p + 2*k", "l - 2*k + 2", {}, ", dilation=2", "(1,) (0,) (2,) (0,)"),
            ("p + k - 1", "l - k + 3", {}, ", padding=1", "(1,) (1,) (1,) (0,)"),
            (
                index(),
                size(),
                STEPS,
                ", stride=self.stride, padding=self.padding, dilation=self.dilation",
                "(self.stride,) (self.padding,) (self.dilation,) (0,)",
            ),
            # the only number of a tuple, and one of two
            (
                "many[0]*p + k",
                "(l - k)//many[0] + 1",
                {"many": [2]},
                ", stride=self.many",
                "self.many (0,) (1,) (0,)",
            ),
            (
                "many[0]*p + k",
                "(l - k)//many[0] + 1",
                {"many": [2, 3]},
                ", stride=self.many[0]",
                "(self.many[0],) (0,) (1,) (0,)",
            ),
        ],
    )
    def test_defaults_are_left_out_and_tuples_named(self, read, length, hyper, options, steps):
        low = one(read, length, **(hyper or {"unused": 1}))
        s = slide(low, image(low).indices[-1], low.program.letters["l"], set(total(low).letters))
        assert arguments(low, [s], None) == options
        assert arguments(low, [s], "self.groups") == f"{options}, groups=self.groups"
        assert " ".join(steps_of(low, [s])) == steps

    def test_several_axes(self):
        low = images()
        one, other = window(low, image(low), set(total(low).letters)).slides
        assert arguments(low, [one, other], None) == (
            ", stride=self.stride, padding=self.padding, dilation=self.dilation"
        )
        assert steps_of(low, [one, other]) == (
            *("self.stride", "self.padding", "self.dilation"),
            "(0, 0)",
        )
        assert arguments(low, [other, one], None) == (
            ", stride=(self.stride[1], self.stride[0])"
            ", padding=(self.padding[1], self.padding[0])"
            ", dilation=(self.dilation[1], self.dilation[0])"
        )
        assert every_axis(low, ["self.kernel[0]", "self.kernel[1]"]) == "self.kernel"

    def test_a_transposed_window_has_an_output_padding(self):
        low = one(index(), size(), **STEPS, more=1)
        letters = low.program.letters
        more = Symbol("more", integer=True)
        s = Slide(letters["l"], letters["p"], letters["k"], *map(sympy.Integer, (1, 1, 0)), more)
        assert arguments(low, [s], None) == ", output_padding=self.more"
        s = Slide(letters["l"], letters["p"], letters["k"], *map(sympy.Integer, (1, 1, 0, 1)))
        assert arguments(low, [s], None) == ", output_padding=1"
        assert steps_of(low, [s]) == ("(1,)", "(0,)", "(1,)", "(1,)")
        without = replace(s, output_padding=sympy.S.Zero)
        assert arguments(low, [s, without], None) == ", output_padding=(1, 0)"


class TestFactors:
    def test_a_weight_and_an_image_in_any_order(self):
        low = one()
        x = image(low)
        w = next(n for n in sympy.preorder_traversal(total(low)) if getattr(n, "tensor", "") == "W")
        for factors in ([w, x], [x, w]):
            assert weight_and_image(low, factors) == (w, x)
        k = low.program.letters["k"]
        shifted = Read(Symbol("W"), *w.indices[:2], k + 1)
        for factors in ([w], [x], [w, w], [x, x], [w, exp(x)], [x, exp(w)], [w, x, exp(x)]):
            assert weight_and_image(low, factors) is None
        # A weight that is read elsewhere than at its own places is no weight of a convolution's.
        assert weight_and_image(low, [shifted, x]) is None
