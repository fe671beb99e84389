"""Calls mean in exact arithmetic what torch means, and residues keep the laws of the reals."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch.nn import functional as F

from verify import exact_torch
from verify.exact_array import Exact, Refusal, Whole, constant
from verify.residues import BASE, PRIME, SUBGROUP, NoRoot, Residues, is_positive

RING = Residues(7, exponents=True)


def integers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).integers(-3, 4, shape)


def exact(values: Any) -> Exact:
    return constant(RING, values.astype(object), "float64")


def floats(x: Exact) -> Any:
    signed = [int(v) % PRIME for v in x.value.ravel()]
    found = [v - PRIME if v > PRIME // 2 else v for v in signed]
    return np.array(found, dtype=np.float64).reshape(x.shape)


def check(name: str, function: Any, *arrays: Any, **keywords: Any) -> None:
    """A call gives in exact arithmetic what torch gives for the same integers."""
    found = exact_torch.call(RING, name, [exact(a) for a in arrays], keywords)
    tensors = [torch.tensor(a, dtype=torch.float64) for a in arrays]
    np.testing.assert_array_equal(floats(found), function(*tensors, **keywords).numpy())


@pytest.mark.parametrize("batch", [(), (2,)])
def test_convolutions(batch: tuple[int, ...]) -> None:
    x, w, b = integers(*batch, 4, 7, 6), integers(6, 2, 3, 2), integers(6)
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
    check("F.conv2d", F.conv2d, x, w, b, **options)
    w, b = integers(4, 3, 3, 2), integers(6)
    check("F.conv_transpose2d", F.conv_transpose2d, x, w, b, output_padding=(1, 1), **options)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding(mode: str) -> None:
    x = integers(2, 3, 4, 5)
    found = exact_torch.call(RING, "F.pad", [exact(x), [1, 2, 3, 0]], {"mode": mode})
    wanted = F.pad(torch.tensor(x, dtype=torch.float64), [1, 2, 3, 0], mode=mode)
    np.testing.assert_array_equal(floats(found), wanted.numpy())


def test_products() -> None:
    check("F.linear", F.linear, integers(2, 3, 4), integers(5, 4), integers(5))
    check("F.bilinear", F.bilinear, integers(2, 3), integers(2, 4), integers(5, 3, 4))
    check("torch.matmul", torch.matmul, integers(2, 3, 4), integers(2, 4, 5))
    check("Tensor.flatten", torch.flatten, integers(2, 3, 4), start_dim=1)
    check("Tensor.movedim", torch.movedim, integers(2, 3, 4), source=(0, 1), destination=(2, 0))
    check("torch.unflatten", torch.unflatten, integers(2, 6), dim=-1, sizes=(2, 3))


def test_integers_that_stand_in_the_text() -> None:
    found = exact_torch.call(RING, "torch.tensor", [3], {"device": "cpu"})
    assert (found.value.shape, int(found.value)) == ((), 3)
    found = exact_torch.call(RING, "torch.arange", [1, 7, 2], {})
    assert found.value.tolist() == [1, 3, 5]
    with pytest.raises(Refusal):
        exact_torch.call(RING, "torch.tensor", [exact(integers(2))], {})


def test_a_cholesky_factor_solves_its_matrix() -> None:
    root = np.array([[2, 0, 0], [1, 3, 0], [4, 5, 1]])
    factor = exact_torch.call(RING, "torch.linalg.cholesky", [exact(root @ root.T)], {})
    np.testing.assert_array_equal(np.abs(floats(factor)), np.abs(root))
    right = exact(integers(3, 2))
    solve = [factor, right]
    solved = exact_torch.call(RING, "torch.linalg.solve_triangular", solve, {"upper": False})
    again = exact_torch.call(RING, "torch.matmul", [factor, solved], {})
    np.testing.assert_array_equal(floats(again), floats(right))


def test_a_clamp_is_the_larger_of_two() -> None:
    """Which of two residues is larger is drawn, the same way whoever asks."""
    x, half = exact(integers(20)), Fraction(1, 2)
    found = exact_torch.call(RING, "Tensor.clamp", [x], {"min": half})
    bound = constant(RING, np.full(20, RING.number(half), dtype=object))
    maximum = exact_torch.call(RING, "torch.maximum", [bound, x], {})
    np.testing.assert_array_equal(found.value % PRIME, maximum.value % PRIME)
    assert {int(v) % PRIME for v in found.value} > {RING.number(half) % PRIME}
    with pytest.raises(Refusal, match="a clamp between"):
        exact_torch.call(RING, "Tensor.clamp", [x], {"min": half, "max": 2})


def test_powers_of_what_is_infinite() -> None:
    numbers = np.array([0, 4, 0, 9])
    filled = {"mask": Whole(numbers == 0), "value": math.inf}
    x = exact_torch.call(RING, "Tensor.masked_fill", [exact(numbers)], filled)
    root = exact_torch.call(RING, "torch.sqrt", [x], {})
    inverse = exact_torch.call(RING, "Tensor.reciprocal", [root], {})
    assert [int(v) * r % PRIME for v, r in zip(inverse.value, (1, 2, 1, 3), strict=True)] == [
        0,
        1,
        0,
        1,
    ]
    for name in ("torch.square", "torch.exp"):  # with gradients that are not finite
        with pytest.raises(Refusal, match="infinite"):
            exact_torch.call(RING, name, [x], {})
    for exponent in (0, 1, 3):
        with pytest.raises(Refusal, match="infinite"):
            exact_torch.call(RING, "torch.pow", [x, exponent], {})


def test_unknown_calls_and_arguments_are_refused() -> None:
    x = exact(integers(2, 3))
    with pytest.raises(Refusal, match="not known"):
        exact_torch.call(RING, "torch.arctan", [x], {})
    with pytest.raises(Refusal, match="out"):
        exact_torch.call(RING, "torch.exp", [x], {"out": x})
    half = constant(RING, integers(4, 3).astype(object), "float16")
    with pytest.raises(Refusal, match="different types"):
        exact_torch.call(RING, "F.linear", [x, half], {})


def test_the_prime_is_safe_and_small_primes_are_positive() -> None:
    assert PRIME == 2 * SUBGROUP + 1
    assert sympy.isprime(PRIME)
    assert sympy.isprime(SUBGROUP)
    assert pow(BASE, SUBGROUP, PRIME) == 1
    assert all(is_positive(p) and not is_positive(-p) for p in (2, 3, 5, 7, 11, 13, 17, 19))


def test_roots_and_exponentials_obey_their_laws() -> None:
    a, b = (pow(n, 2, RING.modulus) for n in (12345, 67890))
    third = Fraction(1, 3)
    for e in (Fraction(1, 2), Fraction(-3, 4), third):
        product = RING.power(a * b % RING.modulus, e)
        assert product % PRIME == RING.power(a, e) * RING.power(b, e) % PRIME
    assert pow(RING.power(a, third), 3, PRIME) == a % PRIME
    assert RING.exponential(a + b) % PRIME == RING.exponential(a) * RING.exponential(b) % PRIME
    assert (RING.sigmoid(a) + RING.sigmoid(-a % RING.modulus)) % PRIME == 1
    with pytest.raises(NoRoot):
        RING.power(-a % RING.modulus, Fraction(1, 2))


def test_a_logarithm_has_the_sign_of_what_is_beyond_1() -> None:
    signs = [RING.sign(RING.log(RING.number(Fraction(*a)))) for a in ((2, 1), (1, 1), (1, 2))]
    assert signs == [1, 0, -1]
    assert RING.log(RING.number(Fraction(3))) == RING.log(RING.number(Fraction(6, 2)))


def test_derivatives_are_those_of_difference_quotients() -> None:
    """(f(x + t) - f(x))/t at t = 0, by the polynomial f(x) = x³ and its chain with 1/x."""
    x = Exact(RING, np.array([5, 7], dtype=object), np.array([1, 2], dtype=object))
    cube = x * x * x
    assert [int(t) % PRIME for t in cube.tangent] == [75, 294]
    inverse = x.power(-1)
    one = x * inverse
    assert not any(int(t) % PRIME for t in one.tangent)
    root = (x * x).power(Fraction(1, 2))
    assert [int(t) ** 2 % PRIME for t in root.tangent] == [1, 4]
