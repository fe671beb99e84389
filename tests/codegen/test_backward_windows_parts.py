"""Adjoints of windows: the code of a gradient against the sum that it stands for."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from sympy import Expr, Integer, Mul, Symbol

from codegen.backward_forms import BACKWARD_RECOGNISERS
from codegen.backward_windows import (
    SUMMED,
    WINDOW_RECOGNISERS,
    Joint,
    box_gradient,
    channelless,
    convolution_gradient,
    joint_of,
    over_sites,
    upstream_of,
)
from codegen.forms import RECOGNISERS
from codegen.forward import batch_letters, input_value, shape_codes
from codegen.helpers import helper_code
from codegen.lower import Lowering
from codegen.sizes import SizeCode
from codegen.values import BATCH, Value
from derive.evaluate import Evaluator, evaluate_size
from derive.gradients import Step, pullback
from derive.nodes import Contraction, Delta, Read, reads, substitute
from derive.normal import normal
from derive.program import Tensor
from derive.resolve import resolve
from tests.codegen.specs import spec

PARAMETERS = {"W": "weight", "V": "other", "b": "bias", "d": "more_bias"}
RNG = np.random.default_rng(0)


class Layer:
    """A layer whose sums a forward pass computes by windows, and numbers for all that it reads.

    Besides its tensors there are u and g with the axes of z, and a and s with those of its gauge.
    """

    def __init__(self, forward: str, symbols: Mapping[str, Any], lengths: str, **more: Any) -> None:
        own = {s: {"torch": t} for s, t in PARAMETERS.items() if f"{s}[" in forward}
        self.program = program = resolve(spec("Tried", forward, parameters=own, **more))
        self.letters = program.letters
        self.batch = batch_letters(program)
        values = {t.name: input_value(t, self.batch) for t in program.inputs}
        names = {n: f"self.{n}" for n in (*program.arguments, *program.spec.hyperparameters)}
        self.sizes = SizeCode(program, names, shape_codes(program, [*values.values()], names))
        values |= {
            t.name: Value(f"self.{PARAMETERS[t.name]}", tuple(t.axes)) for t in program.parameters
        }
        low = Lowering(program, self.batch, values, self.sizes, "x.device", recognisers=RECOGNISERS)
        low.of(program.output.value)
        # The sum over a window's squares, as a gauge has it.
        found = sympy.preorder_traversal(program.output.value)
        total = next(e for e in found if isinstance(e, Contraction) and reads(e, "x"))
        image = next(f for f in Mul.make_args(total.body) if reads(f, "x"))
        summed = [x for x in total.letters if x in image.free_symbols]
        self.energy = normal(Contraction(image**2, *summed))
        low.wide = True
        low.of(self.energy)
        self.slid = tuple(low.slid)
        output = program.tensors[program.output.target]
        self.site = tuple(x for x in output.letters if x in self.energy.free_symbols)
        added = {
            **{n: Tensor(n, "intermediate", output.axes) for n in "ug"},
            **{n: Tensor(n, "intermediate", tuple((x,) for x in self.site)) for n in "as"},
        }
        self.program = replace(program, tensors={**program.tensors, **added})
        self.values = values | {n: input_value(t, self.batch) for n, t in added.items()}
        self.numbers(symbols, dict(pair.split("=") for pair in lengths.split()))

    def numbers(self, symbols: Mapping[str, Any], lengths: Mapping[str, str]) -> None:
        """Draw every tensor, for a brute-force reading and as generated code is handed it."""
        flat = dict(symbols)
        for name, value in symbols.items():
            if isinstance(value, tuple):
                flat |= {f"{name}[{k}]": x for k, x in enumerate(value)}
        sizes = {x: int(n) for x, n in lengths.items()}
        while left := [x for x in self.program.sizes if x not in sizes]:
            for x in left:
                with suppress(KeyError):
                    sizes[x] = evaluate_size(self.program.sizes[x], sizes, flat)
        arrays = {
            t.name: RNG.standard_normal([sizes[x.size] for x in t.letters])
            for t in self.program.tensors.values()
        }
        self.evaluator = Evaluator(sizes, arrays, flat)
        stored = {
            t.name: torch.from_numpy(arrays[t.name]).reshape(
                [int(np.prod([sizes[x.size] for x in axis])) for axis in t.axes]
            )
            for t in self.program.tensors.values()
        }
        module = {PARAMETERS[n]: stored[n] for n in PARAMETERS if n in stored}
        self.names = {**stored, "self": SimpleNamespace(**symbols, **module), "torch": torch}
        self.names |= {"F": F, "Tensor": torch.Tensor, "math": math}

    def lowering(self, *slid: Any) -> Lowering:
        """One of the backward pass, which knows what slid."""
        found = (*WINDOW_RECOGNISERS, *BACKWARD_RECOGNISERS, *RECOGNISERS)
        low = Lowering(
            self.program, self.batch, self.values, self.sizes, "x.device", recognisers=found
        )
        low.slid, low.source, low.reversing = [*(slid or self.slid)], "x", True
        return low

    def read(self, name: str) -> Read:
        """A tensor at its own letters."""
        return Read(Symbol(name), *self.program.tensors[name].letters)

    @functools.cache  # noqa: B019 - a layer of the tests lives as long as they do
    def gradient(self, name: str, weight: str = "u") -> Expr:
        """Σ u ∂z/∂T."""
        output = self.program.output
        return pullback(self.program, self.read(weight), output.value, name, output.letters)

    def spread(self, weight: Expr) -> Contraction:
        """The sum in Σ f ∂E/∂x, E the sum of squares."""
        value = pullback(self.program, weight, self.energy, "x", self.site)
        return next(x for x in value.atoms(Contraction) if x.has(Delta))

    def run(self, low: Lowering, code: str, **given: Any) -> Any:
        """What code gives after the statements before it."""
        names = self.names | given
        exec("\n".join([*helper_code(low.helpers), *low.statements]), names)
        return eval(code, names)

    def right(self, low: Lowering, value: Value, e: Expr, **given: Any) -> None:
        """The code gives what the sum gives, in the axes that it says."""
        found = self.run(low, value.code, **given)
        letters = [x for a in value.axes for x in (self.batch if a is BATCH else a)]
        wanted = self.evaluator.array(e, letters)
        sizes = self.evaluator.sizes
        axes = [self.batch if a is BATCH else a for a in value.axes]
        assert [*found.shape] == [int(np.prod([sizes[x.size] for x in a])) for a in axes]
        np.testing.assert_allclose(found.numpy().reshape(wanted.shape), wanted, atol=1e-12)


INDEX = "stride{i}*{p} + dilation{i}*{k} - padding{i}"
SIZE = "({l} + 2*padding{i} - dilation{i}*({k} - 1) - 1)//stride{i} + 1"
BACK = "({p} + padding{i} - dilation{i}*{k})/stride{i}"
LENGTH = "({l} - 1)*stride{i} - 2*padding{i} + dilation{i}*({k} - 1) + more{i} + 1"
CHANNELS = {"c": "in_channels", "o": "out_channels", "k": "kernel_size"}
KERNELS = {"c": "in_channels", "o": "out_channels", "k": "kernel[0]", "m": "kernel[1]"}
GROUPS = {"(g, c)": "in_channels", "(g, o)": "out_channels", "k": "kernel_size", "g": "groups"}
# The last window ends before the last two positions, and the first begins before the first.
STEPS = {"stride": 3, "dilation": 2, "padding": 1}
PAIRS = {"stride": (2, 3), "dilation": (3, 2), "padding": (1, 2)}
# As large an output padding is more than a stride.
SCATTER = {"stride": 2, "dilation": 4, "padding": 1, "more": 3}
PAIRED = {"stride": (2, 1), "dilation": (3, 2), "padding": (1, 1), "more": (2, 1)}


def along(text: str, *names: str) -> str:
    """A formula for every window axis, whose letters are named in the order l, p, k."""
    if len(names) == 1:
        return text.format(**dict(zip("lpk", names[0], strict=True)), i="")
    parts = [
        text.format(**dict(zip("lpk", n, strict=True)), i=f"[{i}]") for i, n in enumerate(names)
    ]
    return ", ".join(parts)


def hyper(steps: Mapping[str, Any]) -> dict[str, Any]:
    """Steps as a spec has them."""
    return {n: list(v) if isinstance(v, tuple) else v for n, v in steps.items()}


def one(more: str = "+ b[o]", channels: int = 2, inputs: str = "x") -> Layer:
    """A convolution along one axis."""
    index, size = along(INDEX, "lpk"), along(SIZE, "lpk")
    return Layer(
        f"z[n, o, p] = W[o, c, k]*x[n, c, {index}] {more.replace('INDEX', index)}",
        {"in_channels": channels, "out_channels": 3, "kernel_size": 2, **STEPS},
        "n=2 l=9",
        site="n p",
        unit="o",
        sizes={**CHANNELS, "p": size},
        inputs=dict.fromkeys(inputs, "n c l"),
        hyperparameters=hyper(STEPS),
    )


def grouped(bias: str = "b[(g, o)]") -> Layer:
    return Layer(
        f"z[n, (g, o), p] = W[(g, o), c, k]*x[n, (g, c), {along(INDEX, 'lpk')}] + {bias}",
        {"in_channels": 4, "out_channels": 6, "groups": 2, "kernel_size": 2, **STEPS},
        "n=2 l=9",
        site="n g p",
        unit="o",
        sizes={**GROUPS, "p": along(SIZE, "lpk")},
        inputs={"x": "n (g c) l"},
        hyperparameters=hyper(STEPS),
    )


def depthwise(channels: int = 3) -> Layer:
    return Layer(
        f"z[n, c, p] = W[c, k]*x[n, c, {along(INDEX, 'lpk')}] + b[c]",
        {"channels": channels, "kernel_size": 2, **STEPS},
        "n=2 l=9",
        site="n p",
        unit="c",
        sizes={"c": "channels", "k": "kernel_size", "p": along(SIZE, "lpk")},
        inputs={"x": "n c l"},
        hyperparameters=hyper(STEPS),
    )


def images() -> Layer:
    p, q = along(SIZE, "vpk", "wqm").split(", ")
    return Layer(
        f"z[n, o, p, q] = W[o, c, k, m]*x[n, c, {along(INDEX, 'vpk', 'wqm')}] + b[o]",
        {"in_channels": 2, "out_channels": 3, "kernel": (2, 3), **PAIRS},
        "n=2 v=7 w=8",
        site="n p q",
        unit="o",
        sizes={**KERNELS, "p": p, "q": q},
        inputs={"x": "n c v w"},
        hyperparameters=hyper(PAIRS),
    )


def transposed() -> Layer:
    return Layer(
        f"z[n, (g, o), p] = W[(g, c), o, k]*x[n, (g, c), {along(BACK, 'lpk')}] + b[(g, o)]",
        {"in_channels": 4, "out_channels": 6, "groups": 2, "kernel_size": 2, **SCATTER},
        "n=2 l=5",
        site="n g p",
        unit="o",
        sizes={**GROUPS, "p": along(LENGTH, "lpk")},
        inputs={"x": "n (g c) l"},
        hyperparameters=hyper(SCATTER),
    )


def transposed_images() -> Layer:
    p, q = along(LENGTH, "vpk", "wqm").split(", ")
    return Layer(
        f"z[n, o, p, q] = W[c, o, k, m]*x[n, c, {along(BACK, 'vpk', 'wqm')}] + b[o]",
        {"in_channels": 2, "out_channels": 3, "kernel": (2, 3), **PAIRED},
        "n=2 v=4 w=3",
        site="n p q",
        unit="o",
        sizes={**KERNELS, "p": p, "q": q},
        inputs={"x": "n c v w"},
        hyperparameters=hyper(PAIRED),
    )


LAYERS = {
    "one axis": one,
    "one channel": lambda: one(channels=1),
    "groups": grouped,
    "depthwise": depthwise,
    "depthwise, one channel": lambda: depthwise(1),
    "two axes": images,
    "transposed": transposed,
    "transposed, two axes": transposed_images,
}
MADE = {name: make() for name, make in LAYERS.items()}
every_layer = pytest.mark.parametrize("layer", MADE.values(), ids=MADE)


class TestConvolutions:
    @every_layer
    def test_a_gradient_is_one_call_of_which_all_is_noted(self, layer):
        low = layer.lowering()
        convolved = next(s for s in layer.slid if s.weight is not None)
        weight = convolved.weight[1]
        for name in "xW":
            e = layer.gradient(name)
            value, used = convolution_gradient(low, e, None)
            assert used is False
            assert value.axes == layer.values[name].axes
            layer.right(low, value, e)
            stored = ".squeeze(1)" if name == "W" and weight.endswith(".unsqueeze(1)") else ""
            assert value.code.endswith(f"]{stored}")
            found = low.adjoints[value.code]
            assert (found.slid, found.name, found.stored) == (convolved, name, stored)
            assert found.upstream == layer.read("u")
            assert found.given == ("u", "x", weight)

    def test_a_gradient_in_another_layout_is_arranged(self):
        layer = MADE["groups"]
        low, e = layer.lowering(), layer.gradient("x")
        _, g, o, p = layer.program.output.letters
        low.values["u"] = Value("u", (BATCH, (g,), (o,), (p,)))
        u = layer.names["u"].unflatten(1, (2, 3))
        layer.right(low, convolution_gradient(low, e, None)[0], e, u=u)

    def test_sums_that_are_no_gradient(self):
        layer = MADE["one axis"]
        convolved = layer.slid[0]
        c, k = (layer.letters[x].fresh() for x in "ck")
        weight = layer.read("W")
        kernel = Contraction(Read(Symbol("W"), weight.indices[0], c, k), c, k)
        x, right = layer.gradient("x"), layer.gradient("W")
        assert upstream_of(layer.lowering(), x, convolved, "x", "W") == layer.read("u")
        assert upstream_of(layer.lowering(), right, convolved, "W", "x") == layer.read("u")
        others = [
            kernel,  # of one tensor
            layer.gradient("b"),
            Contraction(x.body * layer.read("s"), *x.letters),  # of three
            Contraction(2 * x.body, *x.letters),
            Contraction(x.body**2, *x.letters),
            right,
        ]
        for e in others:
            assert upstream_of(layer.lowering(), e, convolved, "x", "W") is None
        for e in [kernel, layer.gradient("b"), Contraction(2 * x.body, *x.letters)]:
            assert convolution_gradient(layer.lowering(), e, None) is None


class TestBoxes:
    @every_layer
    def test_a_sum_is_spread_out(self, layer):
        low, e = layer.lowering(), layer.spread(layer.read("a") * layer.read("s") ** 2)
        value, used = box_gradient(low, e, None)
        assert used is False
        assert value.code == "spread"
        layer.right(low, value, e)

    def test_sums_that_spread_nothing(self):
        layer = MADE["one axis"]
        e = layer.spread(layer.read("a"))
        p, k = (next(x for x in e.letters if x.name == name) for name in "pk")
        (held,) = reads(e.body)
        shifted = Read(Symbol("a"), held.indices[0], p + 1)
        weight = Read(Symbol("W"), *layer.read("W").indices[:2], k)
        others = [
            layer.gradient("b"),
            Contraction(e.body.xreplace({held: Integer(1)}), *e.letters),
            Contraction(e.body * weight, *e.letters),  # it varies within the window
            layer.spread(layer.read("u")),  # and along channels
            Contraction(e.body.xreplace({held: shifted}), *e.letters),
            substitute(e, {Symbol("dilation", integer=True): Integer(1)}),
            substitute(e, {Symbol("padding", integer=True): Integer(0)}),
            layer.gradient("x"),
        ]
        assert box_gradient(layer.lowering(), e, None) is not None
        for other in others:
            assert box_gradient(layer.lowering(), other, None) is None
        convolved = [s for s in layer.slid if s.weight is not None]
        assert box_gradient(layer.lowering(*convolved), e, None) is None

    def test_each_window_is_tried(self):
        layer = MADE["one axis"]
        convolved, box = layer.slid
        (s,) = box.window.slides
        known = {Symbol("dilation", integer=True): Integer(1)}
        read = substitute(box.window.read, known)
        other = replace(box.window, read=read, slides=(replace(s, dilation=Integer(1)),))
        before = replace(box, window=other, total=substitute(box.total, known))
        e = layer.spread(layer.read("a"))
        low = layer.lowering(convolved, before, box)
        layer.right(low, box_gradient(low, e, None)[0], e)

    @pytest.mark.parametrize(
        ("name", "axes"), [("one axis", "nl"), ("groups", "ngl"), ("depthwise", "ncl")]
    )
    def test_a_box_sum_is_one_of_a_map_without_the_channels_that_are_summed(self, name, axes):
        layer = MADE[name]
        box = next(s for s in layer.slid if s.weight is None)
        e, y = channelless(layer.lowering(), box)
        assert y.axes == tuple((layer.letters[x],) for x in axes)
        kernel = [x for x in box.total.letters if x.name == "k"]
        assert list(e.letters) == kernel
        (read,) = reads(e)
        assert read.tensor == y.name == SUMMED
        assert read.indices[-1] == box.window.read.indices[-1]


def joint(layer: Layer, **others: Expr) -> tuple[Lowering, Joint | None]:
    """The call for all gradients, some of which may be others than derived."""
    low = layer.lowering()
    names = ["x", *(t.name for t in layer.program.parameters)]
    found = {n: others.get(n, layer.gradient(n)) for n in names}
    codes = {n: low.of(e).code for n, e in found.items()}
    steps = {n: Step(f"d{n}", layer.read(n).indices, e) for n, e in found.items()}
    return low, joint_of(low, codes.pop("x"), codes, steps)


class TestJoint:
    @every_layer
    def test_one_call_gives_three_gradients(self, layer):
        low, found = joint(layer)
        assert found.bias == "b"
        name, stored = found.weight
        assert name == "W"
        given = layer.run(low, f"{found.call}(True, True, True))")
        for code, n in (("given[0]", "x"), (f"given[1]{stored}", "W"), ("given[2]", "b")):
            value = Value(code, layer.values[n].axes)
            layer.right(low, value, layer.gradient(n), given=given)

    @pytest.mark.parametrize("more", ["", "+ 2*b[o]", "+ tanh(b[o])"])
    def test_a_bias_that_is_not_added_as_it_is_has_a_gradient_of_its_own(self, more):
        assert joint(one(more))[1].bias == ""

    def test_a_bias_that_is_stored_otherwise_has_a_gradient_of_its_own(self):
        layer = grouped("b[g, o]")
        assert [len(layer.values[n].axes) for n in "bW"] == [2, 3]
        assert joint(layer)[1].bias == ""

    def test_a_bias_whose_gradient_comes_of_another_tensor_has_its_own(self):
        layer = MADE["one axis"]
        assert joint(layer, b=layer.gradient("b", "g"))[1].bias == ""

    def test_one_of_two_biases_is_given(self):
        assert joint(one("+ b[o] + d[o]"))[1].bias in ("b", "d")

    def test_no_call_gives_gradients_of_several_convolutions(self):
        layer = one("+ V[o, c, k]*y[n, c, INDEX]", inputs="xy")
        low = layer.lowering()
        u, z = layer.read("u"), layer.program.output
        convolved = {s.weight[0]: s for s in layer.slid if s.weight is not None}
        assert set(convolved) == {"V", "W"}

        def code(name: str, other: str) -> str:
            total = convolved[other].total
            e = pullback(layer.program, u, total, name, z.letters)
            return convolution_gradient(low, e, None)[0].code

        x, w, v = code("x", "W"), code("W", "W"), code("V", "V")
        steps = {n: Step(f"d{n}", layer.read(n).indices, layer.gradient(n)) for n in "VW"}
        assert joint_of(low, x, {"W": w}, steps).weight == ("W", "")
        assert joint_of(low, x, {"W": w, "V": "dv"}, steps).weight == ("W", "")
        for parameters in ({"V": v}, {"V": v, "W": "dw"}, {"V": v, "W": w}, {"W": "dw"}, {}):
            assert joint_of(low, x, parameters, steps) is None
        assert joint_of(low, "dx", {"W": w}, steps) is None


class TestSites:
    @every_layer
    def test_a_sum_over_sites(self, layer):
        low, e = layer.lowering(), layer.gradient("b")
        value, used = over_sites(low, e, None)
        assert used is False
        layer.right(low, value, e)

    def test_a_sum_over_units_too(self):
        layer = MADE["two axes"]
        low = layer.lowering()
        n, o, p, q = (x.fresh() for x in layer.program.output.letters)
        e = Contraction(Read(Symbol("u"), n, o, p, q), n, o, q)
        e = e.xreplace({p: layer.letters["p"]})
        layer.right(low, over_sites(low, e, None)[0], e)

    def test_other_sums_are_left_to_others(self):
        layer = MADE["one axis"]
        n, o, p = (x.fresh() for x in layer.program.output.letters)
        u = Symbol("u")
        known = layer.program.output.letters
        for e in (
            Contraction(Read(u, known[0], known[1], p), p),
            Contraction(Read(u, known[0], o, p), o, p),
            Contraction(2 * Read(u, n, known[1], p), n, p),
            layer.gradient("x"),
        ):
            assert over_sites(layer.lowering(), e, None) is None
        # Without a window the leading axes are any number.
        low = layer.lowering()
        low.slid = []
        assert over_sites(low, layer.gradient("b"), None) is None
