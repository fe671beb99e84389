"""What normalisers do: constant, on average or not at all, and what a gain adds."""

import json

import numpy as np
import pytest
import sympy

from derive import DerivationError, derive
from derive.audit import (
    EXACTLY,
    NOT_AT_ALL,
    ON_AVERAGE,
    audit,
    audit_row,
    to_json,
    to_markdown,
    to_text,
    with_gain,
)
from derive.nodes import size_symbol, tensors
from derive.resolve import resolve

ROWS = {
    # spec → constant, value in sizes, mean over, scale-invariant, directions lost
    "layer_norm_linear": (EXACTLY, "j + 1", "", True, "2*n"),
    "rms_norm_linear": (EXACTLY, "j + 1", "", True, "n"),
    "l2_norm_linear": (EXACTLY, "2", "", True, "n"),
    "group_norm_linear": (EXACTLY, "g*j + 1", "", True, "2*n*g"),
    "batch_norm_linear": (ON_AVERAGE, "j + 1", "n", True, "2*j"),
    "batch_norm_eval_linear": (NOT_AT_ALL, None, "", False, "0"),
    "instance_norm_conv": (ON_AVERAGE, "c + 1", "p", True, "2*n*c"),
    "local_response_norm_linear": (NOT_AT_ALL, None, "", False, "0"),
    "dyt_linear": (NOT_AT_ALL, None, "", False, "0"),
    "reweighted_layer_norm_linear": (EXACTLY, "j + 1", "", True, "n"),
    "reweighted_layer_norm_sigma_linear": (NOT_AT_ALL, None, "", True, "n"),
}


def in_sizes(text):
    return sympy.sympify(text, locals={x: size_symbol(x) for x in "nigjcp"})


@pytest.mark.parametrize("stem", ROWS)
def test_row(shipped, stem):
    constant, value, over, invariant, lost = ROWS[stem]
    row = audit_row(shipped(stem))
    assert row.constant == constant
    assert (row.value is None) == (value is None)
    if value is not None:
        assert sympy.expand(row.value - in_sizes(value)) == 0
    assert "".join(x.name for x in row.over) == over
    assert row.scale_invariant == invariant
    assert sympy.expand(row.freedom_lost - in_sizes(lost)) == 0
    assert [(t.symbol, t.kind, t.parameter_dependent) for t in row.gain] == [
        ("gain", "anisotropic", True),
        ("shift", "anisotropic", True),
    ]
    assert row.gained_kind == "anisotropic"


def test_layer_norm_with_epsilon_is_written_in_its_variance(shipped, draw):
    row = audit_row(shipped("layer_norm_linear"))
    point = draw(shipped("layer_norm_linear").with_(hyperparameters={"eps": 0.3}), low=2)
    n = point.program.letters["n"]
    v = point["x"].var(axis=1)
    np.testing.assert_allclose(point.over(row.kappa, n), point["x"].shape[1] * v / (v + 0.3) + 1)
    assert tensors(row.kappa) == {"v"}


def test_gain_term_in_numpy(shipped, draw):
    program = with_gain(resolve(shipped("layer_norm_linear")))
    point = draw(program.spec, low=2)
    row = audit_row(shipped("layer_norm_linear"))
    letters = point.program.output.letters
    both = (*letters, *(x.primed for x in letters))
    h, W = point["h"], point["W"]
    np.testing.assert_allclose(
        point.over(row.gain[0].kernel, *both), np.einsum("ij,kj,nj,mj->nimk", W, W, h, h)
    )
    shift = np.broadcast_to(
        (W @ W.T)[None, :, None, :], point.over(row.gain[1].kernel, *both).shape
    )
    np.testing.assert_allclose(point.over(row.gain[1].kernel, *both), shift)


def test_kernel_with_gain_is_the_gram_matrix(shipped, draw):
    point = draw(with_gain(resolve(shipped("rms_norm_linear"))).spec, low=2)
    jacobian = point.jacobian()
    np.testing.assert_allclose(point.kernel(), jacobian @ jacobian.T, rtol=1e-6, atol=1e-6)


def test_tables(shipped):
    rows = audit([shipped("layer_norm_linear"), shipped("batch_norm_linear")])
    text, markdown = to_text(rows), to_markdown(rows)
    assert [line.split()[0] for line in text.splitlines()] == [
        "layer",
        "-" * 15,
        "LayerNormLinear",
        "BatchNormLinear",
    ]
    assert len({line.count("|") for line in markdown.splitlines()}) == 1
    data = json.loads(json.dumps(to_json(rows)))
    assert [entry["constant"] for entry in data] == [EXACTLY, ON_AVERAGE]
    assert data[1]["over"] == ["n"]
    assert to_text([]) == to_markdown([]) == ""


def test_a_layer_without_one_kappa_is_refused(shipped):
    with pytest.raises(DerivationError, match="diagonal"):
        audit([shipped("scale")])


def test_mean_of_batch_norm_over_the_batch(shipped, draw):
    plain = shipped("batch_norm_linear")
    plain = plain.with_(forward=plain.forward.replace(" + eps", ""), hyperparameters={})
    structure = derive(plain).structure
    letters, value = structure.mean
    assert [x.name for x in letters] == ["n"]
    assert value == size_symbol("j") + 1
    point = draw(plain, low=2)
    kappa = point.over(structure.full, *letters)
    assert kappa.mean() == pytest.approx(point["x"].shape[1] + 1)
