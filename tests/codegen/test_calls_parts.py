"""What recognised forms share, and which radicands cannot be zero."""

from types import SimpleNamespace

import numpy as np
import pytest
from sympy import Integer, Mul, Rational, Symbol, exp, sqrt

from codegen.calls import bias_code, flattened, parameter_read
from codegen.signs import bounded, positive
from codegen.values import Level, Value
from derive.evaluate import Evaluator
from derive.nodes import Contraction, Letter, Read, size_symbol

U, J, K = (Letter(x, x) for x in "ijk")


def read(name, *indices):
    return Read(Symbol(name), *indices)


X, Y, C = read("x", J), read("y", J), read("c")
SQUARES = Contraction(X**2, J)
SIZE = size_symbol("j")
SIGNED, EPS = Symbol("a", real=True), Symbol("eps", positive=True)


class TestSigns:
    @pytest.mark.parametrize(
        "radicand",
        [
            Integer(2),
            SIZE,
            1 + SQUARES,
            Rational(1, 2) + 3 * SQUARES + C**2,
            SIZE / 3 + C**4,
            SIZE * size_symbol("k") + SQUARES,
            1 + EPS + SQUARES,
            1 + exp(C),
        ],
    )
    def test_a_positive_constant_and_what_is_not_negative(self, radicand):
        assert positive(radicand)

    @pytest.mark.parametrize(
        "radicand",
        [
            Integer(0),
            Integer(-1),
            SQUARES,
            SQUARES - 1,
            1 - SQUARES,
            1 + C,
            1 + C + SQUARES,
            1 + SIGNED,
            # One of them alone.
            SIZE - 1,
            SIZE - 1 + SQUARES,
            1 - SIZE + SQUARES,
            # Positive numbers that underflow to 0, or may be as small as one likes.
            exp(C) + SQUARES,
            EPS + SQUARES,
            SIZE * EPS + SQUARES,
        ],
    )
    def test_others_may_be_zero(self, radicand):
        assert not positive(radicand)
        assert not bounded(radicand)

    @pytest.mark.parametrize("radicand", [Integer(2), 1 + SQUARES, SIZE + C**4 + 3 * SQUARES])
    def test_a_positive_polynomial_is_bounded(self, radicand):
        assert bounded(radicand)

    @pytest.mark.parametrize(
        "other",
        [1 / C**2, sqrt(1 + C**2), (1 + C**2) ** Rational(3, 2), 1 / sqrt(1 + C**2)],
    )
    def test_roots_and_fractions_are_no_polynomials(self, other):
        assert positive(1 + other)
        assert not bounded(1 + other)
        assert not bounded(1 + other + C**2)


class TestFlattened:
    @pytest.mark.parametrize(
        ("total", "letters"),
        [
            (Contraction(read("w", U, K) * Contraction(read("x", K, J), J), K), 2),
            # One letter twice, and a letter of the sum within that stands free outside.
            (Contraction(read("w", U, J) * Contraction(read("x", J), J), J), 2),
            (Contraction(read("w", U, K) * Contraction(read("x", K, U), U), K), 2),
            (
                Contraction(
                    read("w", K, U)
                    * Contraction(read("x", J, K), J)
                    * Contraction(read("w", K, J) * read("y", J), J),
                    K,
                ),
                3,
            ),
            (Contraction(read("w", U, K) * read("y", K), K), 1),
            (Contraction(3 * C * Contraction(read("x", U, K), K) ** 2, U), 1),
        ],
    )
    def test_one_sum_of_the_same_value(self, total, letters):
        found = flattened(total)
        assert len(set(found.letters)) == letters
        assert not any(isinstance(f, Contraction) for f in Mul.make_args(found.body))
        rng = np.random.default_rng(0)
        tensors = {"w": rng.standard_normal((4, 4)), "c": np.asarray(0.5)}
        for name in "xy":
            held = [r for r in total.atoms(Read) if r.tensor == name]
            shape = (4,) * max((len(r.indices) for r in held), default=0)
            tensors[name] = rng.standard_normal(shape)
        at = Evaluator(dict.fromkeys("ijk", 4), tensors, {})
        np.testing.assert_allclose(at.array(found, (U,)), at.array(total, (U,)))

    def test_letters_that_are_not_taken_stay(self):
        found = flattened(Contraction(read("w", U, K) * Contraction(read("x", K, J), J), K))
        assert found == Contraction(read("w", U, K) * read("x", K, J), K, J)


class TestCalls:
    W = SimpleNamespace(name="w")
    lowering = SimpleNamespace(program=SimpleNamespace(parameters=[W]))

    @pytest.mark.parametrize("found", [read("w", U, J), read("w", J), read("w")])
    def test_a_parameter_at_distinct_letters(self, found):
        assert parameter_read(self.lowering, found) == found

    @pytest.mark.parametrize(
        "other",
        [
            read("x", U, J),
            read("w", U, U),
            read("w", U, J + 1),
            read("w", Integer(0)),
            read("w", U) ** 2,
            Integer(2),
        ],
    )
    def test_other_factors(self, other):
        assert parameter_read(self.lowering, other) is None

    @pytest.mark.parametrize(
        ("bias", "absent", "wanted", "fused"),
        [
            (Value("bias", ((U,),)), {}, (", bias", True), {"w": "bias"}),
            (Value("bias", ((U,),)), {"w": "no_bias"}, (", bias", True), {"w": "bias"}),
            (Value("3 * bias", ((U,),), Level.PRODUCT), {}, (", 3 * bias", True), {}),
            (Value("bias", ((J,),)), {"w": "no_bias"}, ("", False), {}),
            (Value("bias", ((U,), (J,))), {}, ("", False), {}),
            (None, {"w": "no_bias"}, (", no_bias", False), {}),
            (None, {"v": "no_bias"}, ("", False), {}),
        ],
    )
    def test_the_bias_argument(self, bias, absent, wanted, fused):
        lowering = SimpleNamespace(fused={}, absent_fused=absent)
        assert bias_code(lowering, "w", bias, (U,)) == wanted
        assert lowering.fused == fused
