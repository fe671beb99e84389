"""Positive roots, sums that cancel within, and squares, against numbers put in for the atoms."""

import numpy as np
import pytest
from sympy import (
    Abs,
    Add,
    Dummy,
    Expr,
    Integer,
    Mul,
    Pow,
    Rational,
    Symbol,
    cbrt,
    exp,
    fraction,
    sqrt,
)

from derive.errors import DerivationError
from derive.evaluate import Evaluator
from derive.nodes import Contraction, Letter, Read, size_symbol
from derive.roots import (
    gathered,
    hide_atoms,
    positive_roots,
    powers_of,
    root_of,
    solve_positive,
    stable_root,
    vanishes,
    what_is_left,
)
from derive.squares import complete_squares

J, K = Letter("j", "j"), Letter("k", "k")
N, M = size_symbol("j"), size_symbol("k")
A, B, C, D = Read(Symbol("a"), J), Read(Symbol("b"), K), Read(Symbol("c")), Read(Symbol("d"))
P, Q = Contraction(A**2, J) + 1, exp(C)
X, Y = Symbol("x", real=True), Symbol("y", real=True)
T, R, W = (Symbol(s, positive=True) for s in "trw")
SIZES = {"j": 3, "k": 2}
SYMBOLS = {"x": 0.7, "y": -1.3, "t": 0.6, "r": 1.9, "w": 2.3}


def value(expression: Expr, letters: tuple[Letter, ...] = (), **symbols: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    tensors = {"a": rng.standard_normal(3), "b": rng.standard_normal(2), "c": -1.7, "d": 0.4}
    tensors = {name: np.asarray(v) for name, v in tensors.items()}
    return Evaluator(SIZES, tensors, SYMBOLS | symbols).array(expression, letters)


def assert_equal(found: Expr, expression: Expr, letters: tuple[Letter, ...] = ()) -> None:
    np.testing.assert_allclose(value(found, letters), value(expression, letters), rtol=1e-10)


class TestRoots:
    @pytest.mark.parametrize(
        ("equation", "root"),
        [
            (W**2 * P - R, sqrt(R / P)),
            (R - W**2 * P, sqrt(R / P)),
            (W**2 * P - 4, 2 / sqrt(P)),
            (W * D - R**2, R**2 / D),
            (3 * W - 2 * R, 2 * R / 3),
            (W**2 * D - R, sqrt(R) / sqrt(D)),
            (W**2 * P + Y, sqrt(-Y) / sqrt(P)),
            (W * P + Y, -Y / P),
            (W**2 * P + W * Q + Y, (sqrt(Q**2 - 4 * P * Y) - Q) / (2 * P)),
            (W**2 * P + R**2 * Q - T, None),
            (W**2 * P + W * Q - R**2, (sqrt(Q**2 + 4 * P * R**2) - Q) / (2 * P)),
            (W**2 * P - W * Q - R**2, (sqrt(Q**2 + 4 * P * R**2) + Q) / (2 * P)),
        ],
    )
    def test_the_positive_root(self, equation, root):
        found = solve_positive(equation, W)
        assert W not in found.free_symbols
        assert vanishes(equation.xreplace({W: found}))
        if root is not None:
            assert_equal(found, root)

    @pytest.mark.parametrize(
        ("equation", "message"),
        [
            (W**2 * P + 1, "0 positive roots"),
            (W**2 * P + Q, "0 positive roots"),
            (-W * P - R, "0 positive roots"),
            (W**4 * P - 3 * W**2 + T, "0 positive roots"),
            (W**4 - 1 / W - R, "no polynomial equation"),
            (exp(W) * P - R, "no polynomial equation"),
        ],
    )
    def test_without_one_positive_root_there_is_none(self, equation, message):
        with pytest.raises(DerivationError, match=message):
            solve_positive(equation, W)

    @pytest.mark.parametrize(
        ("above", "below"),
        [
            (R**2, P),
            (3 * R, 2 * T),
            (R * exp(C), P**2 * (1 + P)),
            (R, Integer(1)),
            (R**2, D),
            (R, P * (D - C)),
        ],
    )
    @pytest.mark.parametrize("step", [1, 2, 3])
    def test_a_root_is_drawn_into_numerator_and_denominator(self, above, below, step):
        found = root_of(above / below, step)
        assert_equal(found, (above / below) ** Rational(1, step))
        roots = [p for p in found.atoms(Pow) if not p.exp.is_Integer]
        assert all(fraction(p.base)[1] == 1 for p in roots)
        assert len(roots) >= (step > 1)

    def test_a_root_of_what_may_be_negative_over_what_may_be_negative_is_one(self):
        found = root_of(C / D, 2)
        assert found == sqrt(C / D)
        assert found != sqrt(C) / sqrt(D)

    def test_hidden_atoms_keep_their_signs_and_come_back(self):
        expression = 3 * sqrt(P) * C + D ** Rational(2, 3) * Abs(C) - 2 * X / (1 + Q) + T**D
        hidden, atoms = hide_atoms(expression)
        assert hidden.xreplace(atoms) == expression
        assert hidden.free_symbols == set(atoms)
        assert all(isinstance(x, Dummy) for x in atoms)
        assert set(atoms.values()) == {Contraction(A**2, J), Abs(C), Q, T**D, C, D, X}
        for symbol, atom in atoms.items():
            assert symbol.is_real
            assert bool(symbol.is_positive) is (atom in (Contraction(A**2, J), Abs(C), Q, T**D))


class TestStableRoots:
    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("rest", [R, Integer(1), 3 * R, R + T, R**2])
    @pytest.mark.parametrize("denominator", [Integer(1), 2 * T])
    def test_equal_and_accurate_where_the_difference_cancels(self, sign, rest, denominator):
        root = sqrt(rest**2 + 4 * T * W) - sign * rest
        found = stable_root(root / denominator)
        assert_equal(found, root / denominator)
        if sign == 1:
            assert found != root / denominator
            small = {"w": 1e-18, "t": 1.0, "r": 1e3}
            exact = (root / denominator).evalf(
                60, subs={Symbol(k, positive=True): v for k, v in small.items()}
            )
            np.testing.assert_allclose(value(found, **small), float(exact), rtol=1e-12)

    @pytest.mark.parametrize(
        "root",
        [
            sqrt(R + T) / W,
            3 * sqrt(R + T),
            R / W - 1,
            sqrt(R + T) - sqrt(R + W),
            sqrt(R + T) - sqrt(R + W) - 1,
            cbrt(R + T) - R,
            (R + T) ** 2 - R * W,
        ],
    )
    def test_without_one_root_less_something_it_stays(self, root):
        assert stable_root(root) == root


F = C / (1 + A) + A
G = 1 / (2 + B)
SUM = Contraction(F, J)


def sums(expression: Expr) -> int:
    return len(expression.atoms(Contraction))


class TestSumsThatCancelWithin:
    @pytest.mark.parametrize(
        ("expression", "left"),
        [
            (SUM + Contraction(A, J) - N, 1),
            (2 * C * SUM - 3 * C * Contraction(A, J) + Rational(1, 2) * C * N, 1),
            (SUM - 2 * Contraction(G, K) + M + 5 * N, 2),
            (Contraction(A * G, J, K) - 2 * Contraction(A, J, K) + 7 * N * M + C, 1),
            (C * SUM + D * Contraction(A, J) - D * N, 2),
            (SUM * Contraction(G, K) + Contraction(A, J) + C * N, 3),
            (SUM**2 + SUM + D, 2),
            (SUM + C * N + N * M + 3, 1),
            (C + D * N, 0),
        ],
    )
    def test_sums_over_the_same_letters_are_one(self, expression, left):
        found = gathered(expression)
        assert_equal(found, expression)
        assert sums(found) == left
        kept = [t for t in Add.make_args(expression) if not t.has(Contraction, N, M)]
        assert set(kept) <= set(Add.make_args(found))

    @pytest.mark.parametrize("factor", [Integer(1), C, -3 * C * D])
    @pytest.mark.parametrize("bound", [(J,), (K,), (J, K)])
    def test_what_is_nothing_for_every_letter_is_nothing(self, factor, bound):
        x = sum((Read(Symbol("a" if y is J else "b"), y) for y in bound), Integer(1))
        parts = [x / (x + 2), 2 / (x + 2)]
        number = Mul(*(size_symbol(y.size) for y in bound))
        nothing = Add(*(Contraction(p, *bound) for p in parts)) - number
        for something in (nothing, factor * nothing, factor * nothing / (1 + C**2)):
            assert what_is_left(something) == 0
            assert what_is_left(something + D - 1) != 0
        other = Contraction(1 / (1 + A), J) + Contraction(A / (1 + A), J) - N
        assert vanishes(factor * nothing + D * other)
        assert not vanishes(factor * nothing + D * other - number)

    @pytest.mark.parametrize("expression", [C, Integer(1), Integer(-1), SUM - N, C / (1 + D)])
    def test_what_is_left_is_as_much(self, expression):
        found = what_is_left(expression)
        assert found != 0
        assert_equal(found, expression)


class TestPowers:
    @pytest.mark.parametrize(
        "expression",
        [
            W**2 * P - 3 * W + C,
            (W + C) * (W + D),
            (W + C) ** 3,
            W * C + W * D - 2,
            C + D,
            C - C * W**2 + D * W**2 + D + 1,
            Integer(1),
            W,
            W**5 / (1 + P),
        ],
    )
    def test_coefficients_by_power(self, expression):
        found = powers_of(expression, W)
        assert found is not None
        assert all(W not in c.free_symbols for c in found.values())
        for w in (0.5, 2.0, 3.0):
            whole = Add(*(c * W**d for d, c in found.items()))
            np.testing.assert_allclose(value(whole, w=w), value(expression, w=w), rtol=1e-10)

    @pytest.mark.parametrize(
        "other",
        [1 / W, W**-2, sqrt(W), W ** Rational(5, 2), exp(W), W**T, 2**W, 1 / (1 + W), W * exp(W)],
    )
    def test_what_is_no_polynomial_has_none(self, other):
        assert powers_of(other, W) is None
        assert powers_of(C * other + W**2 + 1, W) is None


SQUARE = A**2 - 2 * X * A
INNER = Contraction(A, J)
WHOLE = [Contraction(A**2, J), -2 * X * Contraction(A, J), N * X**2]


def powered(base: Expr, other: Expr) -> Expr:
    return Add(*(base * t for t in (Integer(1), -2 * other, other**2)))


class TestSquares:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (Contraction(SQUARE, J) + N * X**2, Contraction((X - A) ** 2, J)),
            (Add(*(T * t for t in WHOLE)), T * Contraction((X - A) ** 2, J)),
            (Add(*(M * Y**2 * t for t in WHOLE)), M * Y**2 * Contraction((X - A) ** 2, J)),
            (
                Contraction(A * B, J, K) * 2 + Contraction(A**2, J, K) + Contraction(B**2, J, K),
                Contraction((A + B) ** 2, J, K),
            ),
            (powered(T * X**2, Y), T * X**2 * (Y - 1) ** 2),
            (powered(X**2, Y) + powered(T**2, B), X**2 * (Y - 1) ** 2 + T**2 * (B - 1) ** 2),
        ],
    )
    def test_a_square_is_found(self, expression, wanted):
        found = complete_squares(expression)
        assert found == wanted
        assert_equal(found, expression, (K,))

    @pytest.mark.parametrize(
        "expression",
        [
            # An odd power, a factor that may be negative, a number that is.
            Contraction(A**3 + 3 * A**2 * X + 3 * A * X**2, J) + N * X**3,
            Add(*(X * t for t in WHOLE)),
            Add(*(-t for t in WHOLE)),
            # A positive sum is no square, nor is a sum of squares.
            Contraction(A**2, J) + C**2 * Contraction(A**2, J),
            # Over letters of its own the second sum is none of the first one's.
            Contraction(A**2, J) - 2 * X * Contraction(A, J, K) + N * X**2,
            Contraction(A**2, J) - 2 * X * Contraction(B, K) + N * X**2,
            # One term alone has nothing to be put together with.
            N * X**2 + Contraction(A, J) * Contraction(B, K),
            Contraction(A**2, J) + X,
        ],
    )
    def test_others_stay(self, expression):
        assert complete_squares(expression) == expression

    @pytest.mark.parametrize(
        "expression",
        [
            Contraction(A**2, J) - 2 * C * A * Contraction(A, J) + N * C**2 * A**2,
            Contraction(A**2, J) + 2 * N * A * INNER + N * INNER**2,
        ],
    )
    def test_a_free_letter_is_not_captured(self, expression):
        assert_equal(complete_squares(expression), expression, (J,))


def test_a_letter_that_is_free_in_a_term_is_bound_by_no_sum():
    """Σ_j a_j² + N a_j² with j outside too is no Σ_j 2 a_j²."""
    expression = Contraction(A**2, J) + N * A**2
    assert complete_squares(expression) == expression
    assert complete_squares(Add(*WHOLE)) != Add(*WHOLE)


@pytest.mark.parametrize(("linear", "root"), [(2, 1), (-2, 3)])
def test_the_positive_root_is_the_same_formula_whatever_the_sign_of_a_middle_term(linear, root):
    """w² + a w = 3, where nothing is known of a."""
    unknown = Symbol("w")
    (found,) = positive_roots(((2, 1, True), (1, 1, False), (0, -1, True)), unknown)
    values = {"a2": 1, "a1": linear, "a0": 3}
    assert found.xreplace({s: Integer(values[s.name]) for s in found.free_symbols}) == root
