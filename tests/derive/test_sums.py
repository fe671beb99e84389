"""Sums over letters, as the solver closes them, and the sign of a factor."""

import pytest
from sympy import Integer, Symbol, sqrt

from derive.nodes import Letter, Read, size_symbol
from derive.normal import contract
from derive.structure import _nonnegative

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
