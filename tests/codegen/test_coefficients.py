"""Coefficients of many digits are printed exactly, or refused by name."""

import pytest

from codegen import generate
from derive.errors import DerivationError
from derive.spec import read_spec

SPEC = """
name = "Scaled"
forward = "z[n, i] = {}*W[i, j]*x[n, j]"
site = "n"
unit = "i"
[parameters]
W = {{ torch = "weight" }}
[sizes]
i = "i_size"
j = "j_size"
"""


def code(coefficient):
    return generate(read_spec(SPEC.format(coefficient), "scaled.toml")).text


@pytest.mark.parametrize(
    ("coefficient", "shown"),
    [
        ("0.25", "4 * _inverse_root"),
        ("3", "0.3333333333333333 * _inverse_root"),
        ("1000000", "1e-06 * _inverse_root"),
        ("999999", "1.000001000001e-06 * _inverse_root"),
        ("1000003", "1 / 1000003 * _inverse_root"),
        ("999999999999999999", "1 / 999999999999999999 * _inverse_root"),
        ("0.7978845608028654", "5000000000000000 / 3989422804014327 * _inverse_root"),
        ("1e-20", "1e20 * _inverse_root"),
    ],
)
def test_a_number_says_which_fraction_it_is(coefficient, shown):
    assert shown in code(coefficient)


def test_a_number_out_of_all_proportion_is_refused():
    with pytest.raises(DerivationError, match="301 digits; use coefficients"):
        code("1e-300")
