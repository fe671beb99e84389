"""Sizes as code against Python's own arithmetic, recognised forms against sums by brute force."""

import ast
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from sympy import Integer, Rational, Symbol, exp, log, pi, sqrt, tanh

from codegen.forms import bilinear, linear, trailing
from codegen.lower import Lowering
from codegen.sizes import SizeCode, decimal
from codegen.values import BATCH, Level, Value
from derive import grammar as g
from derive.errors import DerivationError
from derive.evaluate import Evaluator
from derive.nodes import Contraction, Delta, Letter, Read, size_symbol
from derive.program import Tensor
from derive.resolve import resolve
from tests.codegen.specs import LENGTH, spec
from verify.emitted_syntax import literal

LEVELS = {ast.Add: "SUM", ast.Sub: "SUM", ast.MatMult: "MATRIX", ast.Pow: "POWER"}


def level_of(code):
    """How tightly the outermost operator of a text binds."""
    node = ast.parse(code, mode="eval").body
    if isinstance(node, ast.BinOp):
        return Level[LEVELS.get(type(node.op), "PRODUCT")]
    return Level.UNARY if isinstance(node, ast.UnaryOp) else Level.ATOM


def number_of(value, names):
    """What a Python number's code gives; its level and kind are what they are said to be."""
    assert value.scalar is True
    assert not value.axes
    assert value.level == level_of(value.code)
    return eval(value.code, {"math": math, "self": SimpleNamespace(**names), **names})


NUMBERS = {"stride": 3, "rate": 2, "pads": (1, 4)}


def sized(text, length, kernel):
    """The code of a size, and its value where the sizes it is made of are these."""
    layer = spec(
        "Sized",
        "z[n, o, p] = W[o, c, k]*x[n, c, p + k]",
        "n p",
        "o",
        parameters={"W": {"torch": "weight"}},
        sizes={**LENGTH, "p": text},
        hyperparameters=NUMBERS,
        inputs={"x": "n c l"},
    )
    attributes = {n: f"self.{n}" for n in (*NUMBERS, *LENGTH.values())}
    code = SizeCode(resolve(layer), attributes, {"l": Value("length", scalar=True)})
    value = code.letter(Letter("q", "p"))
    return value.code, number_of(value, {"length": length, "kernel_size": kernel, **NUMBERS})


class TestSizes:
    @pytest.mark.parametrize(
        "text",
        [
            "l",
            "7",
            "0",
            "k",
            "pads[1] + pads[0]",
            "stride*l*k - l",
            "l - k + 1",
            "k - (l - 3)",
            "l - 2*(k - 1)",
            "-l + 3*k",
            "-(l - k)",
            "-(-l)",
            "-(l*k)*2",
            "-1*-1*-1",
            "(l + 2*pads[1] - rate*(k - 1) - 1)//stride + 1",
            # Rounded up: of a quotient that is rounded down, the sign is not the numerator's.
            "-(-l//stride)",
            "-(l//stride) + k",
            "k - l//2",
            "k + -l//2",
            "k + (-l*k)//2",
            "k + (-l + k)//2",
            "2*(-(l//2) + 3)",
            "-2*(l//2)",
            "stride*(l//stride)",
            "(l//stride)*stride",
            "(-l//2)*k",
            "l*k//(2*k)",
            "l//(stride//2)",
            "l//1",
            "-l//1 + k",
            "(l + 1)**2",
            "k*l**2",
            "-k**2 + l",
            "(-2)**2*l",
            "(-k)**3 + l",
        ],
    )
    def test_a_size_is_what_the_spec_says(self, text):
        for length, kernel in [(7, 2), (8, 3), (5, 5), (12, 1)]:
            names = {"l": length, "k": kernel, **NUMBERS}
            code, value = sized(text, length, kernel)
            assert value == eval(text, {}, names), code

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("(l - k)//stride + 1", "(length - self.kernel_size) // self.stride + 1"),
            ("l*(2*k)", "length * 2 * self.kernel_size"),
            ("2*l//k", "2 * length // self.kernel_size"),
            ("1*l", "length"),
            ("l//1", "length"),
            ("-(l*k)", "-length * self.kernel_size"),
        ],
    )
    def test_no_parentheses_but_those_that_mean_something(self, text, shown):
        assert sized(text, 5, 2)[0] == shown

    @pytest.mark.parametrize("number", [0, 1, -1, -7])
    def test_a_whole_number_is_itself(self, number):
        assert number_of(CODE.tree(g.Number(Fraction(number))), {}) == number

    def test_what_is_no_size_is_refused(self):
        code = SizeCode(SimpleNamespace(sizes={"j": None}), {"a": "a", "b": "b"}, {})
        with pytest.raises(DerivationError, match="`j` cannot be read off"):
            code.size("j")
        a, b = g.Name("a"), g.Name("b")
        for tree in (g.Reference("x", ((a,),)), g.Call("max", (a, b)), g.Reduction("sum", (), a)):
            with pytest.raises(DerivationError, match=f"{type(tree).__name__} cannot stand"):
                code.tree(tree)

    def test_a_sum_or_product_of_one_is_itself(self):
        code = SizeCode(SimpleNamespace(sizes={}), {}, {})
        for one in (Value("a", scalar=True), Value("a - b", level=Level.SUM, scalar=True)):
            assert code.total([one]) == one
            assert code.product([Value("1", scalar=True), one]) == one
        assert number_of(code.product([]), {}) == 1
        minus = code.product([Value("-1", level=Level.UNARY, scalar=True)])
        assert number_of(minus, {}) == -1


A, B, V, U = (Symbol(s, positive=True) for s in ("a", "b", "v[1]", "u[12]"))
N, P = size_symbol("j"), size_symbol("p")
SYMBOLS = {A: 0.7, B: 2.3, V: 1.9, U: 0.4, N: 5, P: -4}
CODE = SizeCode(
    SimpleNamespace(
        sizes={
            "j": None,
            "p": g.Call(
                "//", (g.Total((g.Name("c"), g.Number(Fraction(-1)))), g.Number(Fraction(2)))
            ),
        }
    ),
    {"a": "self.a", "b": "self.b", "v": "self.v", "u": "self.u", "c": "self.c"},
    {"j": Value("x.shape[-1]", scalar=True)},
)
NAMES = {
    "a": 0.7,
    "b": 2.3,
    "v": (0, 1.9),
    "u": (*[0] * 12, 0.4),
    "c": -6,
    "x": SimpleNamespace(shape=(9, 5)),
}


class TestNumbers:
    @pytest.mark.parametrize(
        ("expression", "shown"),
        [
            (A, "self.a"),
            (V, "self.v[1]"),
            (V * U, "self.u[12] * self.v[1]"),
            (N, "x.shape[-1]"),
            (pi, "math.pi"),
            (sympy.E, "math.e"),
            (sympy.GoldenRatio, "1.618033988749895"),
            (sympy.sin(1), "0.8414709848078965"),
            # Numbers last, and what is taken away after what it is taken from.
            (A + 1, "self.a + 1"),
            (1 - A, "1 - self.a"),
            (A - B - 1, "self.a - self.b - 1"),
            (-A - B, None),
            (B - 2 * A + pi, None),
            # Numbers first.
            (2 * pi * A * B, "2 * math.pi * self.a * self.b"),
            (-3 * B * A, "-3 * self.a * self.b"),
            (-A, "-self.a"),
            (-A * B, "-self.a * self.b"),
            (-2 * (A + B), None),
            (-P, None),
            (3 - P, None),
            (A - P * N, None),
            (2 * P + A, None),
            (P / A, None),
            (A / P**2, None),
            (A / 3, "self.a / 3"),
            (2 * A / (3 * B), "2 * self.a / (3 * self.b)"),
            (-A / 3, None),
            (A / B, "self.a / self.b"),
            (A / B**2, "self.a / self.b ** 2"),
            (A / (B + 1), None),
            (A / (B * sqrt(N)), None),
            (A / sqrt(N), "1 / math.sqrt(x.shape[-1]) * self.a"),
            (1 / sqrt(A + B), None),
            (sqrt(A + B), "math.sqrt(self.a + self.b)"),
            (sqrt(2) / 2, "math.sqrt(2) / 2"),
            (A**2, "self.a ** 2"),
            (A**3 * B, None),
            (A**-2, "self.a ** -2"),
            (1 / A, "self.a ** -1"),
            (A ** Rational(1, 3), None),
            (A ** Rational(-3, 2), None),
            (A ** Rational(-1, 2), "1 / math.sqrt(self.a)"),
            ((A + B) ** 3, None),
            ((A - B) ** -1, None),
            (sympy.Pow(-2, sympy.Rational(2), evaluate=False), "(-2) ** 2"),
            (abs(Symbol("a") - B), None),
            (exp(A - 1), "math.exp(self.a - 1)"),
            (log(A) * tanh(B), None),
            (sympy.erf(A), "math.erf(self.a)"),
            (B * exp(-A), None),
            (Integer(0), "0"),
            (Integer(-3), "-3"),
        ],
    )
    def test_a_number_is_what_the_expression_says(self, expression, shown):
        value = CODE.number(expression)
        exact = expression.subs({Symbol("a"): 0.7, **{k: v for k, v in SYMBOLS.items()}})
        np.testing.assert_allclose(number_of(value, NAMES), float(exact), rtol=1e-14)
        assert shown is None or value.code == shown

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            (Read(Symbol("x")), "no number"),
            (sympy.Function("f")(A), "no number"),
            (Symbol("tau"), "no code for the symbol tau"),
        ],
    )
    def test_what_is_no_number_is_refused(self, expression, message):
        with pytest.raises(DerivationError, match=message):
            CODE.number(expression)


LARGEST = 10**30


class TestFractions:
    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize(
        "number",
        [
            Fraction(0),
            Fraction(1),
            Fraction(3, 4),
            Fraction(1, 3),
            Fraction(22, 7),
            Fraction(1, 999999),
            Fraction(1, 1000003),
            Fraction(123456789012345, 7),
            Fraction(10**25 + 1, 10**6),
            Fraction(7978845608028654, 10**16),
            Fraction(10**20),
            Fraction(10**23),
            Fraction(2**63 - 1),
            Fraction(2**63),
            Fraction(2**63 + 1),
            Fraction(LARGEST),
            Fraction(1, LARGEST),
            Fraction(LARGEST - 1, LARGEST),
        ],
    )
    def test_the_exact_reading_reads_it_and_torch_multiplies_by_it(self, number, sign):
        number *= sign
        value = CODE.rational(Rational(number.numerator, number.denominator))
        node = ast.parse(value.code, mode="eval").body
        parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node]
        top, bottom = [*(literal(part) for part in parts), 1][:2]
        assert Fraction(top) / bottom == number
        assert float(number_of(value, {})) == float(number)
        assert (torch.ones((), dtype=torch.float64) * eval(value.code)).item() == float(number)

    @pytest.mark.parametrize(
        ("number", "shown"),
        [
            ("2/5", "0.4"),
            ("-1/3", "-0.3333333333333333"),
            ("1/1000000", "1e-06"),
            ("1/999999", "1.000001000001e-06"),
            ("1/1000003", "1 / 1000003"),
            (str(2**63 - 1), str(2**63 - 1)),
            (str(1 - 2**63), str(1 - 2**63)),
            (str(2**63), "9.223372036854776e+18"),
            (str(2**63 + 1), f"{2**63 + 1} / 1"),
            (str(10**20), "1e+20"),
        ],
    )
    def test_an_integer_else_a_decimal_else_a_quotient(self, number, shown):
        assert CODE.rational(Rational(number)).code == shown

    @pytest.mark.parametrize("number", [Integer(LARGEST + 1), -1 / Integer(LARGEST + 1)])
    def test_out_of_all_proportion(self, number):
        with pytest.raises(DerivationError, match="a number of 31 digits"):
            CODE.rational(number)

    @pytest.mark.parametrize(
        ("number", "fraction"),
        [(0.2, "1/5"), (1 / 3, "1/3"), (1 / 999983, "1/999983"), (1 / 1000003, repr(1 / 1000003))],
    )
    def test_a_decimal_stands_for_a_simple_fraction_if_one_rounds_to_it(self, number, fraction):
        assert decimal(number) == Fraction(fraction)


SIZES = dict(zip("nmijklad", (2, 3, 4, 5, 3, 2, 2, 3), strict=True))
LETTERS = {name: Letter(name, name) for name in SIZES}
n, m, i, j, k, l, a, d = LETTERS.values()  # noqa: E741 - an index of the notation


class World:
    """Tensors by words of letters, of which one is an axis: ``W="i jk"`` has (j, k) for its second.

    Names in upper case are parameters.
    """

    def __init__(self, batch="n", bias=(), **tensors):
        self.batch = tuple(LETTERS[x] for x in batch)
        found = {
            name: Tensor(name, "", tuple(tuple(LETTERS[x] for x in word) for word in words.split()))
            for name, words in tensors.items()
        }
        self.program = SimpleNamespace(
            tensors=found,
            parameters=[t for t in found.values() if t.name.isupper()],
            inputs=[],
            lines=[],
            sizes={x: g.Number(Fraction(size)) for x, size in SIZES.items()},
            output=SimpleNamespace(letters=()),
        )
        values = {t.name: Value(t.name, self.axes(t.axes)) for t in found.values()}
        self.lowering = Lowering(
            self.program, self.batch, values, SizeCode(self.program, {}, {}), ""
        )
        rng = np.random.default_rng(0)
        self.arrays = {
            t.name: rng.standard_normal([SIZES[x.size] for x in t.letters]) for t in found.values()
        }

    def axes(self, axes):
        within = [axis for axis in axes if not set(axis) <= set(self.batch)]
        return (*([BATCH] if len(within) < len(axes) else []), *within)

    def spread(self, axes):
        """Letters of axes, and the sizes of the axes."""
        whole = [(x,) for x in self.batch]
        flat = [one for axis in axes for one in (whole if axis is BATCH else [axis])]
        letters = [x for axis in flat for x in axis]
        return letters, [math.prod(SIZES[x.size] for x in axis) for axis in flat]

    def assert_equal(self, value, expression):
        """The code gives the expression, with the axes it is said to have."""
        names = {"F": F, "torch": torch}
        for t in self.program.tensors.values():
            shape = [math.prod(SIZES[x.size] for x in axis) for axis in t.axes]
            names[t.name] = torch.from_numpy(self.arrays[t.name].reshape(shape))
        letters, shape = self.spread(value.axes)
        found = eval(value.code, names).numpy()
        wanted = Evaluator(SIZES, self.arrays, {}).array(expression, letters).reshape(shape)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
        assert value.level == level_of(value.code)


def read(name, *indices):
    return Read(Symbol(name), *indices)


class Indexed:
    """``x[n, j]`` as the notation has it."""

    def __init__(self, name):
        self.name = name

    def __getitem__(self, indices):
        return read(self.name, *(indices if isinstance(indices, tuple) else (indices,)))


def contraction(tensors, body, bound):
    """A world with some tensors, and a sum over letters in it."""
    names = {name: Indexed(name) for name in tensors}
    body = eval(body.replace("[]", "[()]"), {"Delta": Delta, **names, **LETTERS})
    return World(**tensors), Contraction(body, *(LETTERS[x] for x in bound))


class TestLinear:
    @pytest.mark.parametrize(
        ("tensors", "body", "bound", "shown"),
        [
            ({"W": "i j", "x": "n j"}, "W[i,j]*x[n,j]", "j", "F.linear(x, W)"),
            ({"W": "i j", "x": "n m j"}, "W[i,j]*x[n,m,j]", "j", "F.linear(x, W)"),
            ({"W": "i j", "x": "n j", "y": "n"}, "W[i,j]*x[n,j]*y[n]", "j", None),
            ({"W": "i j", "x": "m j", "V": "m"}, "W[i,j]*x[m,j]*V[m]", "j", None),
            ({"W": "i j", "x": "n j", "C": ""}, "W[i,j]*x[n,j]*C[]", "j", "F.linear(C * x, W)"),
            ({"W": "i j", "x": "n j"}, "W[i,j]*x[n,j]**2", "j", "F.linear(x.square(), W)"),
            (
                {"W": "i j k", "x": "n j k"},
                "W[i,j,k]*x[n,j,k]",
                "jk",
                "F.linear(x.flatten(-2), W.flatten(1))",
            ),
            ({"W": "i jk", "x": "n j k"}, "W[i,j,k]*x[n,j,k]", "jk", "F.linear(x.flatten(-2), W)"),
            ({"W": "i j k", "x": "n jk"}, "W[i,j,k]*x[n,j,k]", "kj", "F.linear(x, W.flatten(1))"),
            ({"W": "i jk", "x": "n jk"}, "W[i,j,k]*x[n,j,k]", "jk", "F.linear(x, W)"),
            (
                {"W": "ad j k", "x": "n j k"},
                "W[a,d,j,k]*x[n,j,k]",
                "jk",
                "F.linear(x.flatten(-2), W.flatten(1))",
            ),
            (
                {"W": "i j k", "x": "n j k", "y": "n j k"},
                "W[i,j,k]*x[n,j,k]*y[n,j,k]",
                "jk",
                "F.linear((x * y).flatten(-2), W.flatten(1))",
            ),
            # The weight the other way round.
            ({"W": "j i", "x": "n j"}, "W[j,i]*x[n,j]", "j", "x @ W"),
            ({"W": "j ad", "x": "n m j"}, "W[j,a,d]*x[n,m,j]", "j", "x @ W"),
            ({"W": "jk i", "x": "n m jk"}, "W[j,k,i]*x[n,m,j,k]", "jk", "x @ W"),
            ({"W": "j i", "x": "m j", "y": "m j"}, "W[j,i]*(x[m,j] + y[m,j])", "j", "(x + y) @ W"),
            # The summed axis before the last one.
            ({"W": "i j", "x": "j m"}, "W[i,j]*x[j,m]", "j", "W @ x"),
            ({"W": "i j", "x": "n k j m"}, "W[i,j]*x[n,k,j,m]", "j", "W @ x"),
            ({"W": "ad jk", "x": "l jk m"}, "W[a,d,j,k]*x[l,j,k,m]", "jk", "W @ x"),
            ({"W": "i j", "x": "j m", "y": "j m"}, "W[i,j]*x[j,m]*y[j,m]", "j", "W @ (x * y)"),
        ],
    )
    def test_a_matrix_times_what_is_left(self, tensors, body, bound, shown):
        world, e = contraction(tensors, body, bound)
        value, used = linear(world.lowering, e, None)
        assert used is False
        assert shown is None or value.code == shown
        world.assert_equal(value, e)

    @pytest.mark.parametrize(
        ("tensors", "body", "bound"),
        [
            # No weight or two, nothing that it multiplies.
            ({"x": "n j", "y": "n j"}, "x[n,j]*y[n,j]", "j"),
            ({"W": "i j", "V": "k j"}, "W[i,j]*V[k,j]", "j"),
            ({"W": "i j"}, "W[i,j]", "j"),
            ({"W": "i j", "C": ""}, "W[i,j]*C[]", "j"),
            # No axis of the result or two.
            ({"W": "j", "x": "n j"}, "W[j]*x[n,j]", "j"),
            ({"W": "i k j", "x": "n j"}, "W[i,k,j]*x[n,j]", "j"),
            ({"W": "ij", "x": "n j"}, "W[i,j]*x[n,j]", "j"),
            # The result's axis is one of the features' too.
            ({"W": "i j", "x": "n i j"}, "W[i,j]*x[n,i,j]", "j"),
            ({"W": "i j", "x": "j i"}, "W[i,j]*x[j,i]", "j"),
            ({"W": "j i", "x": "i j"}, "W[j,i]*x[i,j]", "j"),
            # A letter that the weight does not hold, or not all of the features.
            ({"W": "i j", "x": "n k j"}, "W[i,j]*x[n,k,j]", "jk"),
            ({"W": "i j k", "x": "n j k", "y": "n j"}, "W[i,j,k]*x[n,j,k]*y[n,j]", "jk"),
            ({"W": "i j k", "x": "n j", "y": "n k"}, "W[i,j,k]*x[n,j]*y[n,k]", "jk"),
            # Orders that torch has no product for.
            ({"W": "i j k", "x": "n k j"}, "W[i,j,k]*x[n,k,j]", "jk"),
            ({"W": "i j", "x": "j m k"}, "W[i,j]*x[j,m,k]", "j"),
            ({"W": "j i", "x": "j m"}, "W[j,i]*x[j,m]", "j"),
            ({"W": "j k i", "x": "n j k"}, "W[j,k,i]*x[n,j,k]", "jk"),
            ({"W": "j i k", "x": "n j k"}, "W[j,i,k]*x[n,j,k]", "jk"),
            # A bracket picks elements: there is nothing to multiply.
            ({"W": "i j", "x": "n j"}, "W[i,j]*x[n,j]*Delta(j - k)", "j"),
        ],
    )
    def test_no_such_product(self, tensors, body, bound):
        world, e = contraction(tensors, body, bound)
        assert linear(world.lowering, e, None) is None

    @pytest.mark.parametrize(
        ("bias", "fits"), [("i", True), ("j", False), ("n", False), ("", False)]
    )
    def test_a_bias_along_the_result_goes_in(self, bias, fits):
        world, e = contraction({"W": "i j", "x": "n j", "B": bias}, "W[i,j]*x[n,j]", "j")
        given = world.lowering.values["B"]
        value, used = linear(world.lowering, e, given)
        assert used is fits
        assert ("B" in value.code) is fits
        assert world.lowering.fused == ({"W": "B"} if fits else {})
        world.assert_equal(value, e + read("B", LETTERS[bias]) if fits else e)

    def test_a_product_in_another_layout_takes_no_bias(self):
        for tensors, body in (
            ({"W": "j i", "x": "n j"}, "W[j,i]*x[n,j]"),
            ({"W": "i j", "x": "j m"}, "W[i,j]*x[j,m]"),
        ):
            world, e = contraction({**tensors, "B": "i"}, body, "j")
            value, used = linear(world.lowering, e, world.lowering.values["B"])
            assert used is False
            world.assert_equal(value, e)

    def test_the_absent_bias_of_the_full_layer_stands_in_its_place(self):
        for form, tensors, body, bound in (
            (linear, {"W": "i j", "x": "n j"}, "W[i,j]*x[n,j]", "j"),
            (bilinear, {"W": "i j k", "x": "n j", "y": "n k"}, "W[i,j,k]*x[n,j]*y[n,k]", "jk"),
        ):
            world, e = contraction(tensors, body, bound)
            world.lowering.absent_fused = {"W": "None"}
            value, used = form(world.lowering, e, None)
            assert value.code.endswith(", W, None)")
            assert used is False

    @pytest.mark.parametrize("form", [linear, bilinear])
    def test_within_a_gauge_there_is_no_form(self, form):
        for tensors, body, bound in (
            ({"W": "i j", "x": "n j"}, "W[i,j]*x[n,j]", "j"),
            ({"W": "i j k", "x": "n j", "y": "n k"}, "W[i,j,k]*x[n,j]*y[n,k]", "jk"),
        ):
            world, e = contraction(tensors, body, bound)
            world.lowering.wide = True
            assert form(world.lowering, e, None) is None

    @pytest.mark.parametrize(
        ("axes", "letters", "count"),
        [
            ([BATCH, (j,), (k,)], [j, k], 2),
            ([BATCH, (j,), (k,)], [k], 1),
            ([BATCH, (j, k)], [j, k], 1),
            ([(j,), (k, l)], [j, k, l], 2),
            ([(j,)], [j], 1),
            ([(j,), (k,)], [j, k], 2),
            ([BATCH, (j,), (k,)], [k, j], 0),
            ([BATCH, (j, k)], [k], 0),
            ([BATCH, (j,), (k,)], [j], 0),
            ([BATCH, (k,)], [j, k], 0),
            ([], [j], 0),
        ],
    )
    def test_the_last_axes_hold_the_letters_in_their_order(self, axes, letters, count):
        assert trailing(Value("x", tuple(axes)), letters) == count


class TestBilinear:
    @pytest.mark.parametrize(
        ("tensors", "body", "shown"),
        [
            ({"W": "i j k", "x": "n j", "y": "n k"}, "W[i,j,k]*x[n,j]*y[n,k]", "x, y"),
            ({"W": "i k j", "x": "n j", "y": "n k"}, "W[i,k,j]*x[n,j]*y[n,k]", "y, x"),
            ({"W": "i j k", "x": "n m j", "y": "n m k"}, "W[i,j,k]*x[n,m,j]*y[n,m,k]", "x, y"),
            ({"W": "ad j k", "x": "n j", "y": "n k"}, "W[a,d,j,k]*x[n,j]*y[n,k]", "x, y"),
            ({"W": "i j k", "x": "j", "y": "k"}, "W[i,j,k]*x[j]*y[k]", "x, y"),
        ],
    )
    @pytest.mark.parametrize("bound", ["jk", "kj"])
    def test_a_form_of_two_features(self, tensors, body, shown, bound):
        world, e = contraction(tensors, body, bound)
        value, used = bilinear(world.lowering, e, None)
        assert used is False
        assert value.code == f"F.bilinear({shown}, W)"
        world.assert_equal(value, e)

    @pytest.mark.parametrize(
        ("tensors", "body", "bound"),
        [
            # No weight or two, one that is no cube, another number of factors.
            ({"w": "i j k", "x": "n j", "y": "n k"}, "w[i,j,k]*x[n,j]*y[n,k]", "jk"),
            ({"W": "i j k", "X": "n j", "y": "n k"}, "W[i,j,k]*X[n,j]*y[n,k]", "jk"),
            ({"W": "j k", "x": "n j", "y": "n k"}, "W[j,k]*x[n,j]*y[n,k]", "jk"),
            ({"W": "i j k", "x": "n j", "y": "n k", "u": "n"}, "W[i,j,k]*x[n,j]*y[n,k]*u[n]", "jk"),
            ({"W": "i j k", "x": "n k"}, "W[i,j,k]*x[n,k]", "jk"),
            # A sum over other letters than those of the features.
            ({"W": "i j k", "x": "n j", "y": "n k"}, "W[i,j,k]*x[n,j]*y[n,k]", "j"),
            ({"W": "i j k", "x": "n j", "y": "n k"}, "W[i,j,k]*x[n,j]*y[n,k]", "ijk"),
            ({"W": "j k i", "x": "n j", "y": "n k"}, "W[j,k,i]*x[n,j]*y[n,k]", "jk"),
            # Features in other places, with other axes in front, or with the result's.
            ({"W": "i j k", "x": "j m", "y": "m k"}, "W[i,j,k]*x[j,m]*y[m,k]", "jk"),
            ({"W": "i j k", "x": "m j", "y": "k m"}, "W[i,j,k]*x[m,j]*y[k,m]", "jk"),
            ({"W": "i j k", "x": "n m j", "y": "n k"}, "W[i,j,k]*x[n,m,j]*y[n,k]", "jk"),
            ({"W": "i j k", "x": "i j", "y": "i k"}, "W[i,j,k]*x[i,j]*y[i,k]", "jk"),
        ],
    )
    def test_no_such_form(self, tensors, body, bound):
        world, e = contraction(tensors, body, bound)
        assert bilinear(world.lowering, e, None) is None

    @pytest.mark.parametrize(("bias", "fits"), [("i", True), ("j", False)])
    def test_a_bias_along_the_result_goes_in(self, bias, fits):
        tensors = {"W": "i j k", "x": "n j", "y": "n k", "B": bias}
        world, e = contraction(tensors, "W[i,j,k]*x[n,j]*y[n,k]", "jk")
        value, used = bilinear(world.lowering, e, world.lowering.values["B"])
        assert used is fits
        assert world.lowering.fused == ({"W": "B"} if fits else {})
        world.assert_equal(value, e + read("B", i) if fits else e)
