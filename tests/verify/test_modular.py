"""The prime field obeys the laws that its atoms stand for."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from verify.modular import PRIME, SHADOW, NonResidue, Prime, Singular, is_square, root_of_unity

residues = st.integers(1, PRIME - 1)


@given(residues, residues)
def test_roots_multiply(a: int, b: int) -> None:
    field = Prime(0)
    a, b = a * a % PRIME, b * b % PRIME
    assert field.root(a) ** 2 % PRIME == a
    assert field.root(a) * field.root(b) % PRIME == field.root(a * b % PRIME)


@given(residues)
def test_one_of_two_has_a_root(a: int) -> None:
    assert is_square(a) != is_square(-a % PRIME)
    field = Prime(0)
    with pytest.raises(NonResidue):
        field.root(a if is_square(-a % PRIME) else -a % PRIME)


@given(st.integers(0, PRIME * SHADOW - 1), st.integers(0, PRIME * SHADOW - 1))
def test_exp_turns_sums_into_products(a: int, b: int) -> None:
    field = Prime(3, shadow=True)
    product = field.exponential(a) * field.exponential(b) % PRIME
    assert product == field.exponential((a + b) % field.modulus) % PRIME


def test_exp_of_zero_is_one_and_its_order_is_full() -> None:
    assert Prime(3, shadow=True).exponential(0) % PRIME == 1
    assert pow(root_of_unity(), SHADOW, PRIME) == 1


@given(residues)
def test_odd_functions_are_odd(a: int) -> None:
    field = Prime(1)
    for name in ("tanh", "erf"):
        assert (field.apply(name, a) + field.apply(name, -a % PRIME)) % PRIME == 0
    assert field.apply("Step", a) + field.apply("Step", -a % PRIME) == 1
    relu = field.apply("relu", a) - field.apply("relu", -a % PRIME)
    assert (relu - a) % PRIME == 0


@given(residues)
def test_inverse(a: int) -> None:
    assert a * Prime(0).inverse(a) % PRIME == 1
    assert a * Prime(0, shadow=True).inverse(a) % PRIME == 1


def test_division_by_zero_is_singular() -> None:
    with pytest.raises(Singular):
        Prime(0).inverse(0)


def test_rationals_are_exact() -> None:
    field = Prime(0)
    assert field.number(sympy.Rational(1, 3)) * 3 % PRIME == 1
    assert field.number(sympy.Float("0.5")) * 2 % PRIME == 1


def test_an_atom_depends_on_seed_name_and_argument() -> None:
    atoms = {Prime(s).atom(n, a) for s in (0, 1) for n in ("f", "g") for a in (1, 2)}
    assert len(atoms) == 8


def test_arrays_stay_python_integers() -> None:
    field = Prime(0)
    a = field.array(np.array([PRIME - 1, 2], dtype=object))
    product = field.multiply(a, a)
    assert product.dtype == object
    assert list(product) == [1, 4]
    assert all(type(v) is int for v in field.total(product.reshape(2, 1), (1,)))
