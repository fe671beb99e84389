"""Sums over letters, as the solver closes them, and the sign of a factor."""

import pytest
from sympy import Add, Integer, Mul, Symbol, exp, oo, sqrt

from derive.budget import TooLargeError
from derive.fractions import apart, cancel
from derive.functions import Step, relu
from derive.nodes import Contraction, Delta, Letter, Read, size_symbol
from derive.normal import contract, normal
from derive.roots import vanishes
from derive.squares import complete_squares
from derive.structure import _nonnegative, at_zero_input

J, K = Letter("j", "j"), Letter("k", "k")
A, B = Read(Symbol("a"), J), Read(Symbol("b"), K)
N, M = size_symbol("j"), size_symbol("k")


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (Integer(3), 3 * N * M),
        (A, contract(A, [J]) * M),
        (A * B, contract(A, [J]) * contract(B, [K])),
        (A * B / (B + A * B), contract(A / (1 + A), [J]) * M),
    ],
)
def test_a_letter_that_a_summand_lacks_gives_its_size(body, wanted):
    assert (contract(body, [J, K]) - wanted).expand() == 0


@pytest.mark.parametrize(("power", "sign"), [(2, True), (3, False), (4, True)])
def test_an_even_power_is_not_negative_and_an_odd_one_may_be(power, sign):
    x = Symbol("x", real=True)
    assert _nonnegative(5 * x**power) is sign
    assert not _nonnegative(-5 * sqrt(2) * x**power)


@pytest.mark.parametrize(
    ("factor", "positive"),
    [
        (1 / Contraction(exp(A), J), True),
        (Contraction(A**2 + 1, J) ** -3, True),
        (1 / Contraction(A, J), False),
        (1 / Contraction(Delta(J - K) * A**2, J), False),
        (Contraction(relu(A) ** 2, J), False),
        (A**2 - 1, False),
    ],
)
def test_sums_and_quotients_of_what_is_positive_are_no_part_of_a_step(factor, positive):
    assert (Step(factor * B) == Step(B)) is positive


def test_deltas_of_three_letters_that_are_not_summed_end():
    a, b, c = (Letter(x, "j") for x in "abc")
    deltas = Delta(a - b) * Delta(a - c)
    assert contract(deltas * B, [K]) == deltas * contract(B, [K])


def test_a_window_and_its_shift_by_a_stride_join():
    a, b, offset = Letter("a", "j"), Letter("b", "j"), Letter("c", "k")
    found = contract(Delta(offset - 2 * a) * Delta(offset - 2 * b) * B, [K])
    assert Delta(a - b) in found.args


def test_a_delta_that_is_not_summed_stays_outside_of_a_quotient():
    a, b = Letter("a", "k"), Letter("b", "k")
    found = contract(Delta(a - b) * (A + A**2) / (1 + A * B), [J])
    assert Delta(a - b) in found.args


@pytest.mark.parametrize(("power", "large"), [(3, False), (30, True)])
def test_a_fraction_is_counted_before_it_is_cancelled(power, large):
    symbols = [Symbol(name, positive=True) for name in "pqrs"]
    quotient = sum(symbols) ** power / (1 + symbols[0]) - symbols[1] ** power
    if not large:
        assert (cancel(quotient) - quotient).equals(0)
    else:
        with pytest.raises(TooLargeError, match="multiplied out"):
            cancel(quotient**2)


def test_exponentials_of_sums_cancel_apart():
    x, y = Symbol("x", real=True), Symbol("y", real=True)
    product = exp(x + y) * exp(-x - y)
    assert cancel(product) != 1
    assert cancel(apart(product)) == 1
    assert cancel(apart(exp(x + y) * exp(-x))) != 1


def test_an_exponential_stays_in_the_numerator():
    """Multiplied into the denominator it would overflow there."""
    found = contract(exp(-(A**2)) * (A + B) / (1 + A**2), [K])
    assert {n for n in found.atoms(exp)} == {exp(-(A**2))}


@pytest.mark.parametrize(("height", "finite"), [(4, True), (5, False)])
def test_a_tower_of_exponentials_at_zero_is_not_computed(height, finite):
    value = A
    for _ in range(height):
        value = exp(value)
    assert (at_zero_input(value, ("a",)) != oo) is finite


def test_sums_that_cancel_within_are_zero():
    j, n = Letter("j", "j"), Letter("n", "n")
    x = Read(Symbol("x"), n, j)
    square = Contraction((2 + x) ** 2 / (1 + x) ** 2, j)
    parts = size_symbol("j") + Contraction(1 / (1 + x) ** 2, j) + 2 * Contraction(1 / (1 + x), j)
    assert vanishes(square - parts)
    assert vanishes((parts + 1) / (square + 1) - 1)
    assert not vanishes(square - parts + 1)
    assert not vanishes(square - parts + size_symbol("j"))
    assert not vanishes(square - parts - Contraction(1 / (1 + x), j))


SUM, SQUARES = contract(A, [J]), contract(A**2, [J])
X, Y = Symbol("x", real=True), Symbol("y", real=True)
C = Read(Symbol("c"), J, K)
SQUARE = SQUARES - 2 * X * SUM + N * X**2


@pytest.mark.parametrize(
    ("expression", "sums"),
    [
        (SQUARE, 1),
        (SQUARES + 2 * SUM + N, 1),
        (contract(C**2 - 2 * X * C, [J, K]) + N * M * X**2, 1),
        (3 * SQUARES - 6 * X * SUM + 3 * N * X**2, 1),
        (Y**2 * SQUARES - 2 * X * Y * SUM + N * X**2, 1),
        (SQUARE + 5, 2),
        (SQUARE + Y**2, 2),
        (SQUARE + B, 2),
        (X**2 - 2 * X**2 * Y + X**2 * Y**2, 1),
        (X**2 - 2 * X**2 * Y + X**2 * Y**2 + 1, 2),
    ],
)
def test_squares_are_put_together_again(expression, sums):
    found = complete_squares(expression)
    assert found != expression
    assert len(Add.make_args(found)) == sums
    (square,) = [t for t in Add.make_args(found) if t not in expression.args]
    bodies = [f.body if isinstance(f, Contraction) else f for f in Mul.make_args(square)]
    powers = [p for b in bodies for p in Mul.make_args(b)]
    assert any(p.is_Pow and p.exp == 2 and p.base.is_Add for p in powers)
    assert normal(found - expression) == 0
    root = sqrt(1 + expression)
    assert complete_squares(X * root) == X * sqrt(complete_squares(1 + expression))


@pytest.mark.parametrize(
    "expression",
    [
        SQUARES - 3 * X * SUM + N * X**2,
        SQUARES + N * X**2,
        contract(C**2 - 2 * X * C, [J, K]) + N * X**2,
        contract(C**2 - 2 * X * C, [J, K]) + (N + M) * X**2,
        SQUARES - 2 * X * SUM,
        -SQUARE.expand(),
        SUM,
        X**2 + X**2 * Y + X**2 * Y**2,
        X**2 + 2 * X**2 * Y,
        X**3 - 2 * X**3 * Y + X**3 * Y**2,
        -(X**2) + 2 * X**2 * Y - X**2 * Y**2,
    ],
)
def test_what_is_no_square_stays(expression):
    assert complete_squares(expression) == expression
