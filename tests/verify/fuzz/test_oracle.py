"""The oracle agrees with what is known of small layers, and a text says what its tree means."""

import math
from dataclasses import replace

import pytest
import torch

from derive.derivation import derive
from derive.spec import read_spec
from tests.verify.fuzz.layers import LINEAR, MIXED, SQUARED, WAVE, B, W, X, affine
from verify.fuzz.codec import dumps, loads
from verify.fuzz.compare import compare_kernel
from verify.fuzz.degree import degree
from verify.fuzz.expect import characterise, exactness, expected, is_still, kind_of
from verify.fuzz.grammar import random_layer
from verify.fuzz.measure import Evaluation, measure
from verify.fuzz.points import Point, draw_point
from verify.fuzz.sizing import sized
from verify.fuzz.sums import ambiguous, explicit, unpaired
from verify.fuzz.text import toml
from verify.fuzz.tree import (
    Const,
    Ein,
    Fun,
    Mul,
    Pow,
    Read,
    Reduce,
    Size,
    Sum,
    Tensor,
    Window,
)
from verify.instances import Seeded

WHOLE = frozenset()


def test_affine_kernel():
    point = draw_point(LINEAR, Seeded(1))
    x = point.tensors["x"]
    found = measure(LINEAR, point).kernel
    wanted = torch.einsum("nm,ij->nimj", x @ x.T + 1, torch.eye(found.shape[1], dtype=x.dtype))
    torch.testing.assert_close(found, wanted)


def test_absent_parameter_is_zero_and_does_not_move():
    point = draw_point(LINEAR, Seeded(1))
    found = measure(LINEAR, point, frozenset({"b"}))
    x, weight = point.tensors["x"], point.tensors["W"]
    torch.testing.assert_close(found.z, x @ weight.T)
    assert set(found.parts) == {"W"}


@pytest.mark.parametrize("transposed", [False, True])
def test_window(transposed):
    """Against torch's own convolutions."""
    number = {"stride": Const("2"), "dilation": Const("1"), "padding": Const("1")}
    window = Window("p", "k", **number, transposed=transposed)
    point = draw_point(LINEAR, Seeded(1))
    evaluation = Evaluation(LINEAR, point)
    x = torch.randn(1, 1, 5, dtype=torch.float64)
    weight = torch.randn(1, 1, 3, dtype=torch.float64)
    function = torch.conv_transpose1d if transposed else torch.conv1d
    wanted = function(x, weight, stride=2, padding=1)[0, 0]
    evaluation.tensors |= {"u": x[0, 0], "v": weight[0, 0]}
    evaluation.point = type(point)({"p": len(wanted), "k": 3}, {}, {})
    found = evaluation.of(Ein(("k",), Mul((Read("u", (window,)), Read("v", ("k",))))))
    torch.testing.assert_close(found.value, wanted)


def test_known_characters():
    linear, _ = characterise(LINEAR, WHOLE, Seeded(3))
    assert (linear.kind, linear.affine, linear.parameter_dependent) == ("isotropic", True, False)
    assert linear.scale is not None
    assert linear.scale.degrees == (2,)
    assert math.isclose(linear.scale.offset, 1.0)
    assert expected(linear) == {
        "output gauge": True, "input map": True, "split gauge": True,
        "unit gauge": False, "matrix gauge": False,
    }  # fmt: skip
    assert exactness(linear, 1.0) == "exact"
    assert exactness(linear, 2.0) == "constant-rate"
    squared, _ = characterise(SQUARED, WHOLE, Seeded(3))
    assert (squared.kind, squared.affine, squared.parameter_dependent) == ("diagonal", False, True)
    assert expected(squared)["unit gauge"] is True
    assert exactness(squared, 1.0) == "frozen"
    wave, _ = characterise(WAVE, WHOLE, Seeded(3))
    assert expected(wave)["input map"] is None
    assert degree(WAVE) is None


def test_what_rounding_leaves_of_nothing_is_nothing():
    centred = Sum((X, Mul((Const("-1"), Reduce("mean", ("j",), X)))))
    nothing = affine(Ein(("j",), Mul((Reduce("sum", ("j",), centred), W))), parameters=("W",))
    assert is_still(nothing, WHOLE, Seeded(3))
    assert not is_still(LINEAR, WHOLE, Seeded(3))
    small = affine(Mul((Const("1e-30"), MIXED)), parameters=("W",))
    assert not is_still(small, WHOLE, Seeded(3))


def test_kinds():
    eye = torch.eye(3, dtype=torch.float64)[None]
    assert kind_of(2 * eye) == "isotropic"
    assert kind_of(0 * eye) == "zero"
    assert kind_of(eye + 1) == "anisotropic"
    assert kind_of(torch.diag_embed(torch.tensor([[1.0, 2.0, 3.0]]))) == "diagonal"


def test_text():
    assert "z[n, i] = W[i, j]*x[n, j] + b[i]" in toml(LINEAR)
    assert 'b = { torch = "bias", optional = true }' in toml(LINEAR)
    assert "(W[i, j]*x[n, j])**2 + b[i]" in toml(SQUARED)


def test_sums_that_the_text_would_change_are_ambiguous():
    assert not ambiguous(Sum((MIXED, B)))
    assert ambiguous(Mul((MIXED, Fun("tanh", (MIXED,)))))  # read as one sum over both
    alone = Fun("tanh", (Ein(("j",), Mul((X, B))),))
    assert ambiguous(alone)  # read as a sum over the whole term
    assert not ambiguous(explicit(alone))
    assert isinstance(explicit(alone).arguments[0], Reduce)
    assert not ambiguous(Fun("tanh", (MIXED,)))
    assert not ambiguous(Ein(("j",), Pow(X, 2)))


def test_a_letter_twice_in_one_tensor_is_summed_there():
    trace = Read("x", ("n", "j", "j"))
    assert not ambiguous(Mul((Ein(("j",), trace), B)))
    squares = Ein(("j",), Pow(trace, 2))
    assert ambiguous(squares)  # read as a squared trace
    assert unpaired(squares) == Reduce("sum", ("j",), Pow(trace, 2))
    assert not ambiguous(unpaired(squares))
    assert unpaired(MIXED) == MIXED


def test_a_constant_index_picks_one_and_nothing_outside():
    point = Point({"n": 2, "j": 3}, {}, {"x": torch.arange(6.0).reshape(2, 3)})
    evaluation = Evaluation(LINEAR, point)
    assert evaluation.of(Read("x", ("n", Const("1")))).value.tolist() == [1.0, 4.0]
    assert evaluation.of(Read("x", ("n", Const("3")))).value.tolist() == [0.0, 0.0]


def test_sizes_that_are_quotients():
    sizes = (*LINEAR.sizes[1:], Size("j", "floor", "i", partner="ratio"))
    quotient = LINEAR.with_(sizes=sizes, hypers=(("ratio", 2),))
    assert 'j = "i//ratio + 1"' in toml(quotient)
    for how, wanted in (("floor", lambda i, r: i // r + 1), ("ceil", lambda i, r: -(-i // r))):
        other = quotient.with_(sizes=(*sizes[:-1], replace(sizes[-1], how=how)))
        for seed in range(9):
            point = draw_point(other, Seeded(seed))
            assert point.sizes["j"] == wanted(point.sizes["i"], point.numbers["ratio"])


def test_a_letter_with_a_size_of_its_own_runs_over_a_part_of_an_input():
    x = Tensor("x", "input", (("n",), ("a",)), declared=True)
    ranged = LINEAR.with_(tensors=(x, *LINEAR.tensors[1:]))
    assert sized(ranged).same == ()
    unnamed = ranged.with_(sizes=LINEAR.sizes[1:])
    assert sized(unnamed).size("a").how == "argument"


def test_random_layers_are_unambiguous_and_survive_json():
    for number in range(200):
        layer = random_layer(5, number)
        assert not any(ambiguous(line.value) for line in layer.lines), number
        assert loads(dumps(layer)) == layer
        assert layer == random_layer(5, number)


def test_json_is_data():
    with pytest.raises(ValueError, match="no part"):
        loads('{"eval": ["1"]}')
    with pytest.raises(ValueError, match="no layer"):
        loads('{"Const": ["1"]}')


def test_affine_helper_declares_what_it_uses():
    assert {t.name for t in affine(Sum((Mul((W, X)), B))).tensors} == {"x", "W", "b"}


# ------------------------------------------------------------------ rounding
def saturated(factor, size=2.5):
    """What is said of tanh(W x) at a point where 1 - tanh² has lost digits."""
    layer = affine(Fun("tanh", (MIXED,)), parameters=("W",))
    derivation = derive(read_spec(toml(layer), "fuzzed.toml"))
    update = replace(derivation.update, kernel=factor * derivation.update.kernel)
    sizes = {"n": 1, "i": 1, "j": 1}
    far = {name: torch.full((1, 1), size, dtype=torch.float64) for name in ("W", "x")}
    point = Point(sizes, {}, far)
    measured = measure(layer, point)
    return compare_kernel(layer, replace(derivation, update=update), point, measured)


def test_rounding_of_a_saturated_function_is_no_difference():
    assert saturated(1) is None


def test_a_wrong_factor_of_a_saturated_function_is_one():
    assert saturated(2) is not None


@pytest.mark.parametrize("size", [4.0, 4.2])
def test_where_all_digits_are_lost_a_point_nearby_decides(size):
    assert saturated(1, size) is None
    assert "at all points nearby" in saturated(1.001, size)
