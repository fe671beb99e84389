"""Sums, products, powers and functions as code, and named axes lined up: by text and by value.

One small program whose tensors have any number of leading axes; what is written is run, and must be
what the expression says by brute force over its letters.
"""

import math

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from sympy import Abs, Expr, Rational, Symbol, exp, log, sqrt, tanh

from codegen.elementwise import FUNCTION_CODE
from codegen.forms import RECOGNISERS
from codegen.helpers import HELPERS, helper_code
from codegen.lower import Lowering
from codegen.sizes import LARGEST_INTEGER, SizeCode
from codegen.values import BATCH, Level, Value
from derive.errors import DerivationError
from derive.evaluate import FLOAT_FUNCTIONS, Evaluator
from derive.functions import FUNCTIONS, Step, gelu, maximum, relu, sigmoid, silu
from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax, TokenRead, size_symbol
from derive.program import Line, Program, Tensor

N, I, J, K, C, D = (Letter(x, x) for x in "nijkcd")  # noqa: E741 - as in a formula
J2 = Letter("u", "j")  # another letter of j's size
SIZES = {"n": 6, "i": 3, "j": 4, "k": 2, "c": 5, "d": 2, "e": 7}
LEADING = (2, 3)  # what n stands for
KINDS = {
    "x": ("input", (N,), (I,)),
    "y": ("input", (N,), (I,)),  # positive
    "p": ("input", (N,), (I,), (J,)),
    "q": ("input", (N,), (J,), (J2,)),
    "s": ("input", (N,), (J,)),
    "u": ("input", (N,)),
    "a": ("input", (I,)),
    "t": ("token", (N,)),
    "g": ("input", (N,), (I,), (C, D), (J,)),
    "h": ("input", (N,), (C, D)),
    "W": ("parameter", (I,), (J,)),
    "R": ("parameter", (I,), (J,)),
    "b": ("parameter", (I,)),
    "v": ("parameter", (I,)),
    "w": ("parameter", (J,)),
    "T": ("parameter", (J,), (I,)),  # rows for tokens
}
TENSORS = {name: Tensor(name, kind, axes) for name, (kind, *axes) in KINDS.items()}
PROGRAM = Program(
    spec=None,
    absent=frozenset(),
    tensors=TENSORS,
    lines=(Line("z", (N, I), Read(Symbol("x"), N, I)),),
    site=(N,),
    unit=(I,),
    letters={},
    sizes=dict.fromkeys(SIZES),
    arguments={},
)
VALUES = {
    name: Value(name, tuple(BATCH if axis == (N,) else axis for axis in tensor.axes))
    for name, tensor in TENSORS.items()
}
SHAPES = {x: Value(f"size_{x}", scalar=True) for x in SIZES}
HELPER = {"torch": torch, "F": F, "math": math, "Tensor": torch.Tensor}
exec("\n\n".join(helper_code(HELPERS)), HELPER)


def drawn(name: str) -> np.ndarray:
    rng = np.random.default_rng(ord(name))
    shape = [SIZES[x.size] for x in TENSORS[name].letters]
    if name == "t":
        return rng.integers(0, SIZES["j"], shape)
    return rng.random(shape) + 0.5 if name == "y" else rng.standard_normal(shape)


ARRAYS = {name: drawn(name) for name in TENSORS}


def read(name: str, *letters: Expr) -> Read:
    return Read(Symbol(name), *(letters or TENSORS[name].letters))


X, Y, P, S, U, A, W, R, B, V = (read(x) for x in "xypsuaWRbv")
G = read("g")
ROW = read("T", TokenRead(Symbol("t"), N), I)  # a row of a parameter, picked by a token
NJ, NK = size_symbol("j"), size_symbol("k")
WS, RS = Contraction(W * S, J), Contraction(R * S, J)
WA = Contraction(read("w") * S, J)


def lowering(**options: object) -> Lowering:
    sizes = SizeCode(PROGRAM, {}, SHAPES)
    options = {"recognisers": RECOGNISERS, **options}
    return Lowering(PROGRAM, (N,), VALUES, sizes, "x.device", **options)


def shape_of(value: Value) -> list[int]:
    sizes: list[int] = []
    for axis in value.axes:
        sizes += LEADING if axis is BATCH else [math.prod(SIZES[x.size] for x in axis)]
    return sizes


def run(low: Lowering, value: Value) -> np.ndarray:
    """What statements and a value compute, its shape as its axes say."""
    held = {f"size_{x}": size for x, size in SIZES.items()} | HELPER
    for name, own in VALUES.items():
        held[name] = torch.from_numpy(ARRAYS[name]).reshape(shape_of(own))
    for statement in low.statements:
        exec(statement, held)
    result = eval(value.code, held)
    assert list(result.shape) == shape_of(value)
    return result.numpy()


def assert_computes(low: Lowering, value: Value, expression: Expr) -> None:
    letters = [N if axis is BATCH else axis for axis in value.axes]
    letters = [x for axis in letters for x in (axis if isinstance(axis, tuple) else (axis,))]
    wanted = Evaluator(SIZES, ARRAYS, {}).array(expression, letters)
    np.testing.assert_allclose(run(low, value), wanted.reshape(shape_of(value)), rtol=1e-10)


def check(expression: Expr, code: str, low: Lowering | None = None) -> Lowering:
    """That an expression is written so and computes what it says."""
    low = lowering() if low is None else low
    value = low.of(expression)
    assert value.code == code
    assert not value.scalar
    assert_computes(low, value, expression)
    return low


class TestSums:
    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            (X - Y, "x - y"),
            (-X - Y, "-x - y"),
            (-U - X - Y, "(-u).unsqueeze(-1) - x - y"),
            (X - 2 * Y, "x - 2 * y"),
            # Numbers first, then the largest term, parameters last; what is equal, by its name.
            (X + 2, "2 + x"),
            (-X - 1, "-1 - x"),
            (X * Y - 2, "x * y - 2"),
            (X + U * Y, "u.unsqueeze(-1) * y + x"),
            (A + X * B, "b * x + a"),
            (B + X, "x + b"),
            (ROW + X, "x + F.embedding(t, T)"),
            (V + B, "b + v"),
            (Y + X + 3 * V + 2, "2 + x + y + 3 * v"),
            (X * (Y - U), "(y - u.unsqueeze(-1)) * x"),
        ],
    )
    def test_terms_in_order_with_their_signs(self, expression, code):
        check(expression, code)

    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            (WS + B, "F.linear(s, W, b)"),
            (WS - 2 * B, "F.linear(s, W, -2 * b)"),
            (WS + B + X, "F.linear(s, W, b) + x"),
            (WS + B - X, "F.linear(s, W, b) - x"),
            (RS + WS + B + V, "F.linear(s, R, b) + F.linear(s, W, v)"),
            # What is no parameter is not handed over, and no other sum takes a bias.
            (WS + A, "F.linear(s, W) + a"),
            (Contraction(P * S, J) + B, 'torch.einsum("...j,...ij->...i", s, p) + b'),
            (WA + B, 'torch.einsum("j,...j->...", w, s).unsqueeze(-1) + b'),
        ],
    )
    def test_a_sum_takes_a_parameter_as_its_bias(self, expression, code):
        check(expression, code)

    @pytest.mark.parametrize(
        ("expression", "code", "deferred"),
        [
            (X + B, "x", ["b"]),
            (X + B - 2 * V, "x", ["-2 * v", "b"]),
            (X - Y + B, "x - y", ["b"]),
            (WS + B + V, "F.linear(s, W, b)", ["v"]),
            (X + Y, "x + y", []),
            (B + V, "b + v", []),  # nothing would be left
        ],
    )
    def test_the_output_leaves_other_biases_to_statements_of_their_own(
        self, expression, code, deferred
    ):
        low = lowering()
        low.outermost = expression
        value = low.of(expression)
        assert value.code == code
        assert [v.code for v in low.deferred] == deferred
        assert_computes(low, low.total([value, *low.deferred]), expression)

    def test_only_the_output_leaves_biases(self):
        low = lowering()
        low.outermost = X + B
        check(Y + B, "y + b", low)
        assert low.deferred == []

    def test_a_sum_of_values(self):
        low = lowering()
        x, y, u = (low.of(e) for e in (X, Y, U))
        number = Value("2", scalar=True)
        total = low.total([x, number, low.negated(y)], [number, low.total([u, x]), y])
        assert total.code == "x + 2 - y - 2 - (u.unsqueeze(-1) + x) - y"
        assert (total.axes, total.level, total.scalar) == (x.axes, Level.SUM, False)
        assert_computes(low, total, -2 * Y - U)
        assert low.total([total]) is total

    def test_a_sum_is_negated_in_brackets_and_a_product_is_not(self):
        low = lowering()
        assert low.negated(low.of(X + Y)).code == "-(x + y)"
        assert low.negated(low.of(X * Y)) == Value("-x * y", low.of(X).axes, Level.UNARY)
        assert low.negated(Value("2", scalar=True)) == Value("-2", (), Level.UNARY, scalar=True)


class TestProducts:
    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            (2 * X, "2 * x"),
            (-X, "-x"),
            (X / 2, "x / 2"),
            (-X / 2, "-x / 2"),
            (3 * X / 2, "3 * x / 2"),
            (X / Y, "x / y"),
            (1 / (X * Y), "1 / (x * y)"),
            (1 / (2 * Y), "1 / (2 * y)"),
            (-2 * X / (U * Y), "-2 * x / (u.unsqueeze(-1) * y)"),
            (X * Y**2, "x * y.square()"),
            (X / Y**2, "x * y.pow(-2)"),
            (-(X**2), "-x.square()"),
            ((X + Y) * U, "u.unsqueeze(-1) * (x + y)"),
            ((X + Y) / U, "(x + y) / u.unsqueeze(-1)"),
            (U / (X + Y), "u.unsqueeze(-1) / (x + y)"),
            (X * exp(-Y), "torch.exp(-y) * x"),
            (NJ * X, "size_j * x"),
            (X / NJ, "x / size_j"),
            # Parameters first, and what is read nowhere before them.
            (X * B, "b * x"),
            (A * V, "v * a"),
            (
                Delta(J - J2) * read("w"),
                "torch.eye(size_j, dtype=x.dtype, device=x.device) * w.unsqueeze(-1)",
            ),
            # Integers that torch would not multiply by are one quotient, and no two.
            (X * LARGEST_INTEGER / 3, "9223372036854775808 / 3 * x"),
            (X * 3 / LARGEST_INTEGER, "3 / 9223372036854775808 * x"),
            (X * (LARGEST_INTEGER - 1) / 3, "9223372036854775807 * x / 3"),
        ],
    )
    def test_factors_in_order_and_divisions_as_such(self, expression, code):
        check(expression, code)

    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            (Contraction(S, J) / NJ, "s.mean(-1)"),
            (-2 * Contraction(S, J) / NJ, "-2 * s.mean(-1)"),
            (X * Contraction(S, J) / NJ, "s.mean(-1).unsqueeze(-1) * x"),
            (Contraction(P, I, J) / NJ / size_symbol("i"), "p.mean((-2, -1))"),
            (Contraction(P, J, I) / NJ / size_symbol("i"), "p.mean((-2, -1))"),
            (
                Contraction(read("h"), C) / size_symbol("c"),
                "torch.unflatten(h, -1, (size_c, size_d)).mean(-2)",
            ),
            # Of two sums that which is divided; each size divides once.
            (
                Contraction(S, J) * Contraction(P, I) / size_symbol("i"),
                "p.mean(-2) * s.sum(-1).unsqueeze(-1)",
            ),
            (Contraction(P, I, J) / NJ, "p.sum((-2, -1)) / size_j"),
            (Contraction(read("q"), J, J2) / NJ, "q.sum((-2, -1)) / size_j"),
            (Contraction(S, J) / NK, "s.sum(-1) / size_k"),
            (Contraction(S, J) * NJ, "size_j * s.sum(-1)"),
        ],
    )
    def test_a_sum_divided_by_its_sizes_is_a_mean(self, expression, code):
        check(expression, code)

    def test_without_recognised_forms_it_is_a_sum(self):
        check(Contraction(S, J) / NJ, "s.sum(-1) / size_j", lowering(general=True))

    def test_a_product_of_values(self):
        low = lowering()
        one, two, three = (Value(x, scalar=True) for x in "123")
        total, u = low.of(X + Y), low.of(U)
        assert low.product([total]) is total
        assert low.product([one, total]) is total
        assert low.product([two, one, three]) == Value("2 * 3", (), Level.PRODUCT, scalar=True)
        product = low.product([u, two, total, three])
        assert product.code == "2 * 3 * u.unsqueeze(-1) * (x + y)"
        assert (product.axes, product.level, product.scalar) == (total.axes, Level.PRODUCT, False)


class TestPowersAndFunctions:
    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            (Y**2, "y.square()"),
            ((X + Y) ** 2, "(x + y).square()"),
            (sqrt(Y), "y.sqrt()"),
            (1 / sqrt(1 + Y), "torch.rsqrt(1 + y)"),
            (1 / Y, "y.reciprocal()"),
            (Y**3, "y.pow(3)"),
            (Y**-2, "y.pow(-2)"),
            (Y ** Rational(3, 2), "y.pow(1.5)"),
        ],
    )
    def test_powers_by_their_names(self, expression, code):
        check(expression, code)

    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            (sqrt(Y), "_root(_wide(y))"),  # it may be 0, where a plain root has no gradient
            (sqrt(1 + Y**2), "(1 + _wide(y).square()).sqrt()"),
            (Y**3, "_wide(y).pow(3)"),
            (1 / Y, "_wide(y).reciprocal()"),
        ],
    )
    def test_in_a_gauge_a_root_of_what_may_vanish_is_smooth(self, expression, code):
        low = lowering()
        low.wide = True
        check(expression, code, low)

    @pytest.mark.parametrize("exponent", [Y, sympy.pi, sqrt(2)])
    def test_there_are_rational_powers_alone(self, exponent):
        with pytest.raises(DerivationError, match="no code for the power"):
            lowering().of(X**exponent)

    def test_every_function_of_the_notation_has_code(self):
        named = {f(X).func.__name__ for f in (exp, log, tanh, sympy.erf, Abs, sympy.sign)}
        named |= {f.__name__ for f in (sigmoid, relu, silu, gelu)}
        assert set(FUNCTION_CODE) == named == set(FLOAT_FUNCTIONS) - {"Step", "maximum"}
        assert {f.__name__ for f in FUNCTIONS.values()} <= {*named, "sqrt", "maximum", "softmax"}

    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            *((f(X), f"torch.{f.__name__}(x)") for f in (exp, tanh, sympy.erf, sigmoid)),
            *((f(X), f"F.{f.__name__}(x)") for f in (relu, silu, gelu)),
            (log(Y), "torch.log(y)"),
            (Abs(X), "torch.abs(x)"),
            (sympy.sign(X), "torch.sign(x)"),
            (exp(X + U), "torch.exp(u.unsqueeze(-1) + x)"),
            (Step(X), "(x > 0).to(x.dtype)"),
            (Step(X + U), "(u.unsqueeze(-1) + x > 0).to((u.unsqueeze(-1) + x).dtype)"),
            (maximum(X, 0), "x.clamp(min=0)"),
            (maximum(Rational(1, 2), X), "x.clamp(min=0.5)"),
            (maximum(NJ, X + Y), "(x + y).clamp(min=size_j)"),
            (maximum(X, Y), "torch.maximum(x, y)"),
            (maximum(Y, X), "torch.maximum(y, x)"),
            (maximum(X, U), "torch.maximum(x, u.unsqueeze(-1))"),
        ],
    )
    def test_functions(self, expression, code):
        check(expression, code)

    def test_other_functions_have_no_code(self):
        with pytest.raises(DerivationError, match="no code for the function cosh"):
            lowering().of(sympy.cosh(X))


class TestReductions:
    @pytest.mark.parametrize(
        ("expression", "code"),
        [
            (Softmax(S, J, J), "torch.softmax(s, dim=-1)"),
            (Softmax(read("s", N, J2), J2, J), "torch.softmax(s, dim=-1)"),
            (Softmax(P, I, I), "torch.softmax(p, dim=-2)"),
            (Softmax(P + U, J, J), "torch.softmax(p + u[..., None, None], dim=-1)"),
            (
                Softmax(read("h"), C, C),
                "torch.softmax(torch.unflatten(h, -1, (size_c, size_d)), dim=-2)",
            ),
            (MaxOver(S, J), "s.amax(-1)"),
            (MaxOver(P, I), "p.amax(-2)"),
            (MaxOver(P, J, I), "p.amax((-2, -1))"),
            (MaxOver(X * Y, I), "(x * y).amax(-1)"),
            (MaxOver(read("h"), C), "torch.unflatten(h, -1, (size_c, size_d)).amax(-2)"),
            (Contraction(P, I), "p.sum(-2)"),
        ],
    )
    def test_softmax_maximum_and_sum_along_their_axes(self, expression, code):
        check(expression, code)

    @pytest.mark.parametrize("at", [K, K + 1])
    def test_a_softmax_elsewhere_than_along_its_axis_is_a_quotient(self, at):
        low = lowering()
        softmax = low.of(Softmax(S, J, at))
        assert softmax.code.endswith(" / torch.exp(s).sum(-1).unsqueeze(-1)")
        assert_computes(low, softmax, Softmax(S, J, at))

    def test_a_sum_of_squares_in_a_gauge(self):
        low = lowering()
        low.wide = True
        check(Contraction(P**2, J), "_energy(p, -1)", low)
        check(Contraction(P**2, J, I), "_energy(p, (-2, -1))", low)
        assert "_energy" in low.helpers


class TestNames:
    def test_a_lowering_starts_outside_of_everything(self):
        low = lowering()
        assert not any([low.wide, low.windowed, low.bounded, low.reversing, low.general])
        assert (low.fused, low.absent_fused, low.recognisers) == ({}, {}, RECOGNISERS)
        assert lowering(general=True).recognisers == ()

    def test_what_is_handed_to_the_same_call_elsewhere_is_known_and_kept_apart(self):
        low = lowering(fused={"W": "b"})
        check(RS + V, "F.linear(s, R, v)", low)
        assert low.fused == {"W": "b", "R": "v"}
        assert low.absent_fused == {"W": "b"}

    def test_taken_names_are_numbered(self):
        low = lowering()
        assert [low.name("x") for _ in range(4)] == ["x", "x2", "x3", "x4"]
        assert low.name("y") == "y"

    def test_a_statement_names_a_value(self):
        low = lowering()
        for name in ("total", "total2"):
            assert low.assign("total", low.of(X + Y)) == Value(name, low.of(X).axes)
        assert low.statements == ["total = x + y", "total2 = x + y"]

    def test_what_torch_gives_no_type_is_given_one(self):
        low = lowering()
        low.assign("z", Value("F.bilinear(x, y, W)"))
        assert low.statements == ["z: Tensor = F.bilinear(x, y, W)"]


def held(*axes: object) -> Value:
    """A tensor with axes, (N,) standing for the leading ones."""
    return Value("x", tuple(BATCH if a == (N,) else a for a in axes))


class TestAxes:
    def test_leading_letters_are_one_axis(self):
        low = Lowering(PROGRAM, (N, K), VALUES, SizeCode(PROGRAM, {}, SHAPES), "x.device")
        assert low.axes_of([N, K, I, J]) == (BATCH, (I,), (J,))
        assert low.axes_of([I]) == ((I,),)

    def test_composed_axes_are_taken_apart(self):
        low = lowering()
        split = low.split(low.of(G))
        assert split.code == "torch.unflatten(g, -2, (size_c, size_d))"
        assert split.axes == (BATCH, (I,), (C,), (D,), (J,))
        assert_computes(low, split, G)
        assert low.split(split) is split
        three = low.split(held((N,), (C, D), (I,), (J, K)))
        assert three.axes == (BATCH, (C,), (D,), (I,), (J,), (K,))
        low.reversing = True
        assert low.split(low.of(G)).code == "_unflatten(g, -2, (size_c, size_d))"
        assert "_unflatten" in low.helpers

    @pytest.mark.parametrize(
        ("expression", "axes", "code"),
        [
            (P, ((N,), (I,), (J,)), "p"),
            (P, ((N,), (J,), (I,)), "p.mT"),
            (X + Y, ((N,), (I,)), "x + y"),
            # Axes that it lacks.
            (A, ((J,), (I,)), "a.expand(size_j, size_i)"),
            (A, ((I,), (J,)), "a.unsqueeze(-1).expand(size_i, size_j)"),
            (X, ((N,), (J,), (I,)), "value.expand(*value.shape[: -2], size_j, size_i)"),
            (X + Y, ((N,), (I,), (J,)), "value.expand(*value.shape[: -2], size_i, size_j)"),
            # Composed ones.
            (G, ((N,), (I,), (C, D), (J,)), "g"),
            (
                G,
                ((N,), (J,), (I,), (C,), (D,)),
                "torch.unflatten(g, -2, (size_c, size_d))"
                ".movedim((-1, -4, -3, -2), (-4, -3, -2, -1))",
            ),
            (G, ((N,), (I,), (C,), (D, J)), "torch.unflatten(g, -2, (size_c, size_d))"
                ".flatten(-2, -1)"),
            (G, ((N,), (I, C), (D,), (J,)), "torch.unflatten(g, -2, (size_c, size_d))"
                ".flatten(-4, -3)"),
            (G, ((N,), (I, C, D), (J,)), "torch.unflatten(g, -2, (size_c, size_d))"
                ".flatten(-4, -2)"),
        ],
    )  # fmt: skip
    def test_arranged(self, expression, axes, code):
        low = lowering()
        axes = tuple(BATCH if a == (N,) else a for a in axes)
        value = low.arranged(low.of(expression), axes)
        assert (value.code, value.axes) == (code, axes)
        assert_computes(low, value, expression)

    def test_composed_axes_in_a_backward_pass(self):
        low = lowering()
        low.reversing = True
        value = low.arranged(low.of(P), (BATCH, (I, J)))
        assert value.code == "_flatten(p, -2, -1)"
        assert "_flatten" in low.helpers
        assert_computes(low, value, P)

    def test_leading_axes_come_from_nowhere(self):
        with pytest.raises(DerivationError, match="without the leading axes"):
            lowering().arranged(held((I,)), (BATCH, (I,)))

    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            ("abc", "abc", "x"),
            ("abc", "acb", "x.mT"),
            ("abc", "bac", "x.transpose(-3, -2)"),
            ("abc", "cba", "x.transpose(-3, -1)"),
            ("abc", "bca", "x.movedim((-2, -1, -3), (-3, -2, -1))"),
            ("nabc", "nbca", "x.movedim((-2, -1, -3), (-3, -2, -1))"),
            ("nabc", "nacb", "x.mT"),
            ("nabcd", "ncadb", "x.movedim((-2, -4, -1, -3), (-4, -3, -2, -1))"),
        ],
    )
    def test_permuted(self, old, new, code):
        of = {x: (Letter(x, x),) for x in "abcd"} | {"n": BATCH}
        value = Value("x", tuple(of[x] for x in old))
        found = lowering().permuted(value, [of[x] for x in new])
        assert (found.code, found.axes) == (code, tuple(of[x] for x in new))
        sizes = {"a": (2,), "b": (3,), "c": (4,), "d": (5,), "n": (6, 7)}
        tensor = torch.zeros([size for x in old for size in sizes[x]])
        shape = eval(found.code, {"x": tensor}).shape
        assert list(shape) == [size for x in new for size in sizes[x]]

    def test_values_line_up(self):
        low = lowering()
        number = Value("2", scalar=True)
        values, axes = low.aligned([low.of(A), number, low.of(read("p")), low.of(read("W", I, J))])
        assert [v.code for v in values] == ["a.unsqueeze(-1)", "2", "p", "W"]
        assert axes == (BATCH, (I,), (J,))
        values, axes = low.aligned([low.of(P), held((J,), (I,))])
        assert [v.code for v in values] == ["p", "x.mT"]

    def test_composed_axes_stay_where_all_agree(self):
        low = lowering()
        h, u = low.of(read("h")), low.of(U)
        for values in ([h], [h, h], [Value("2", scalar=True), h]):
            assert low.aligned(values) == (values, h.axes)
        (one, other), axes = low.aligned([h, u])
        assert one.code == "torch.unflatten(h, -1, (size_c, size_d))"
        assert other.code == "u[..., None, None]"
        assert axes == (BATCH, (C,), (D,))
