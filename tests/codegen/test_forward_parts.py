"""The forward pass in parts: leading axes, sizes read off inputs, and the code of a gauge."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest
import sympy
import torch
from sympy import Rational, Symbol
from torch import Tensor

from codegen.forward import ForwardWriter, batch_letters, input_value, shape_codes
from codegen.helpers import helper_code
from codegen.values import BATCH, Level, Value
from derive.derivation import derive
from derive.nodes import Read
from derive.resolve import resolve
from tests.codegen.specs import spec

PARAMETERS = {"W": {"torch": "weight"}, "V": {"torch": "other"}, "b": {"torch": "bias"}}
SIZES = {x: f"{x}_size" for x in "ijkl"}


def layer(forward, site="n", *, unit="i", sizes=(), inputs=None, **more):
    """A spec with the parameters, and the sizes of parameters, that stand in its formula."""
    used = {s: PARAMETERS[s] for s in PARAMETERS if f"{s}[" in forward}
    known = {x: s for x, s in SIZES.items() if x in forward} | {x: f"{x}_size" for x in sizes}
    return spec("S", forward, site, unit, parameters=used, sizes=known, inputs=inputs, **more)


def program_of(forward, site="n", **more):
    return resolve(layer(forward, site, **more), frozenset())


# ---------------------------------------------------------------------- leading axes
@pytest.mark.parametrize(
    ("forward", "site", "wanted"),
    [
        ("z[n, i] = W[i, j]*x[n, j]", "n", "n"),
        ("z[n, m, i] = W[i, j]*x[n, m, j]", "n m", "n m"),
        ("z[n, m, i] = W[i, j]*x[n, j, m]", "n m", "n"),
        ("z[n, i] = W[i, j]*x[j, n]", "n", ""),
        ("z[(n, m), i] = W[i, j]*x[n, m, j]", "n m", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[n, k]", "n", "n"),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[k]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[k, n]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[m, j]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[n + 1, j]", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j]/size(n)", "n", ""),
        ("z[n, i] = W[i, j]*x[n, j]*size(j)", "n", "n"),
        ("z[n, i] = W[i, j]*softmax[m](x[m, j])*x[n, j]", "n", ""),
        ("z[n, i] = W[i, j]*softmax[j](x[n, j])", "n", "n"),
        ("h[j] = x[n, j]\nz[n, i] = W[i, j]*x[n, j]*h[j]", "n", ""),
        ("h[i] = V[i, j]*x[n, j]\nz[n, i] = W[i, j]*x[n, j]*h[i]", "n", ""),
        ("h[n, j] = x[n, j]**2\nz[n, i] = W[i, j]*h[n, j]", "n", "n"),
    ],
)
def test_leading_letters_are_those_that_a_layer_only_passes_through(forward, site, wanted):
    assert " ".join(x.name for x in batch_letters(program_of(forward, site))) == wanted


@pytest.mark.parametrize("forward", ["z[n, i] = W[n, i]*x[n]", "z[n, i] = W[n]*V[i]*x[n, i]"])
def test_a_parameter_of_a_letter_keeps_it_from_being_passed_through(forward):
    assert batch_letters(program_of(forward, sizes="n")) == ()


def test_a_number_handed_in_lets_letters_pass_through():
    program = program_of("z[n, i] = W[i, j]*x[n, j]*t", inputs={"t": ""})
    assert [x.name for x in batch_letters(program)] == ["n"]


def test_letters_that_pass_through_are_one_leading_axis():
    program = program_of("z[n, m, i] = W[i, j]*x[n, m, j]", "n m")
    (x,) = program.inputs
    batch = batch_letters(program)
    assert input_value(x, batch) == Value("x", (BATCH, x.axes[2]))
    assert input_value(x, batch[:1]) == Value("x", (BATCH, *x.axes[1:]))
    assert input_value(x, ()) == Value("x", x.axes)


# ---------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    ("axes", "shape", "wanted"),
    [
        ("n c p", (2, 3, 5), {"n": 2, "c": 3, "p": 5}),
        ("n (g c) p", (2, 21, 5), {"n": 2, "c": 3, "p": 5}),
        ("n (c g) p", (2, 21, 5), {"n": 2, "c": 3, "p": 5}),
        ("(n c p) n p", (30, 2, 5), {"n": 2, "c": 3, "p": 5}),
        ("n (g c) (p h)", (2, 21, 55), {"n": 2, "c": 3, "p": 5}),
        ("(n c) p", (6, 5), {"p": 5}),
    ],
)
def test_sizes_are_read_off_the_axes_of_an_input(axes, shape, wanted):
    """The sizes of g and h are 7 and 11, arguments of the layer."""
    sizes = {"g": "groups", "h": "heads"}
    known = {x: sizes[x] for x in sizes if x in axes}
    letters = ", ".join(x for x in "ncpgh" if x in axes)
    indices = re.sub(r"(?<=\w) (?=[\w(])|(?<=\)) ", ", ", axes)
    program = resolve(
        spec(
            "S",
            f"z[{letters}] = W*x[{indices}]",
            letters.replace(",", ""),
            "",
            parameters={"W": {"torch": "weight"}},
            sizes=known,
            inputs={"x": axes},
        ),
        frozenset(),
    )
    given = [input_value(t, ()) for t in program.inputs]
    attributes = {"groups": "self.groups", "heads": "self.heads"}
    found = shape_codes(program, given, attributes)
    names = {"x": torch.empty(shape), "self": SimpleNamespace(groups=7, heads=11)}
    assert {size: eval(code.code, names) for size, code in found.items()} == wanted
    for code in found.values():
        assert code.scalar
        assert (code.level == Level.PRODUCT) == ("//" in code.code)


# ---------------------------------------------------------------------- the writer
def writer_of(made, ansatz="output gauge", absent=frozenset()):
    derivation = derive(made, absent)
    names = (*derivation.program.arguments, *made.hyperparameters)
    attributes = {n: f"self.{n}" for n in names}
    correction = derivation.correction(ansatz)
    return ForwardWriter(derivation, correction, attributes, general=False, fused={})


def plain(**more):
    return layer("z[n, i] = W[i]*x[n] + V[i]*y[n]", **more)


def test_names_of_the_file_and_of_inputs_are_taken():
    low = writer_of(plain()).lowering
    assert low.names == {"x", "y", "self", "torch", "F", "nn", "math"}
    assert low.device == "x.device"


def test_a_layer_without_inputs_is_where_its_parameter_is():
    assert writer_of(layer("z[i] = W[i]", "")).lowering.device == "self.weight.device"


X, Y = (Read(Symbol(name), Symbol("n")) for name in "xy")
NUMBERS = (-2.0, -1.0, -0.5, 0.0, 0.25, 3.0)


def evaluated(code, low, **tensors):
    """The value of a piece of code beside what was written before it."""
    names = {"Tensor": Tensor, "math": math, "torch": torch, **tensors}
    text = "\n".join(helper_code(low.helpers))
    exec("\n".join(["from __future__ import annotations", text, *low.statements]), names)
    return eval(code, names)


@pytest.fixture(scope="module")
def writer():
    """The writer of a layer with inputs x[n] and y[n]."""
    return writer_of(plain())


@pytest.fixture
def reads(writer):
    """Its inputs as they stand in formulas."""
    found = {r.tensor: r for r in writer.program.output.value.atoms(Read)}
    return found["x"], found["y"]


GAUGES = {
    "1/x": (lambda x, y: 1 / x, True),
    "1/x**2": (lambda x, y: x**-2, True),
    "1/x**3": (lambda x, y: x**-3, True),
    "2/x": (lambda x, y: 2 / x, True),
    "y/x": (lambda x, y: y / x, True),
    "y**2": (lambda x, y: y**2, False),
    "1/sqrt(1 + x**2)": (lambda x, y: (1 + x**2) ** Rational(-1, 2), False),
    "1/(1 + x**2)": (lambda x, y: 1 / (1 + x**2), False),
    "(1 + x**2)**(-3/2)": (lambda x, y: (1 + x**2) ** Rational(-3, 2), False),
    "1/sqrt(x**2 + y**2)": (lambda x, y: (x**2 + y**2) ** Rational(-1, 2), True),
    "1/(x**2 + y**2)": (lambda x, y: 1 / (x**2 + y**2), True),
    "(x**2 + y**2)**(-1/3)": (lambda x, y: (x**2 + y**2) ** Rational(-1, 3), True),
    "(x**2 + y**2)**(-2/3)": (lambda x, y: (x**2 + y**2) ** Rational(-2, 3), True),
    "1/(x + y)": (lambda x, y: 1 / (x + y), True),
    "1/(x*(x**2 + y**2))": (lambda x, y: 1 / (x * (x**2 + y**2)), True),
}


@pytest.mark.parametrize("name", GAUGES)
def test_the_code_of_a_gauge_gives_its_value_and_0_where_it_is_infinite(name, writer, reads):
    formula, singular = GAUGES[name]
    writer.singular = False
    value = writer.inverse_powers(formula(*reads))
    assert writer.singular is singular
    a, b = sympy.symbols("a b")
    for x in NUMBERS:
        for y in NUMBERS:
            given = {"x": torch.tensor([x]).double(), "y": torch.tensor([y]).double()}
            found = float(evaluated(value.code, writer.lowering, **given).squeeze())
            wanted = formula(a, b).subs({a: Rational(x), b: Rational(y)})
            wanted = float(wanted) if wanted.is_finite else 0.0
            assert found == pytest.approx(wanted, rel=1e-12), (x, y)


@pytest.mark.parametrize(
    ("x", "y", "wanted"), [(0.0, 5e-324, 0.0), (5e-324, 0.0, 0.0), (2.0, 4.0, 0.125)]
)
def test_inverse_powers_of_the_least_numbers_are_0_beside_what_is_0(x, y, wanted, writer, reads):
    """1/y is infinite for the least number y, and 1/x is put to 0 where x is 0."""
    left, right = reads
    value = writer.inverse_powers(1 / (left * right))
    given = {"x": torch.tensor([x]).double(), "y": torch.tensor([y]).double()}
    assert evaluated(value.code, writer.lowering, **given).item() == wanted


@pytest.mark.parametrize(
    ("powers", "guarded"),
    [
        ((1,), False),
        ((2,), False),
        ((Rational(1, 2), 1), True),
        ((1, 1), True),
        ((Rational(1, 2), Rational(1, 2)), False),
        ((2, 1), True),
    ],
)
def test_infinities_are_taken_out_where_a_product_may_hold_them(powers, guarded, writer, reads):
    """Beside the least of the powers: where one factor is 0, the others may be infinite."""
    x, y = reads
    bases = (x**2 + y**2, x)
    product = sympy.Mul(*(b**-p for b, p in zip(bases, powers, strict=False)))
    assert ("nan_to_num" in writer.inverse_powers(product).code) is guarded
