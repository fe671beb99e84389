"""The pictures: what they measure, and that they are the same bytes each time."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from verify.figures import RATE, AffineLayers, linear_source, overview, samples
from verify.report_measure import (
    effective_rate,
    interference,
    own_steps,
    rate_curves,
    single_steps,
    step,
)
from verify.sources import subjects


@pytest.fixture(scope="module")
def layers():
    return AffineLayers(linear_source())


def test_modules_take_the_derived_steps(layers):
    """What the pictures plot as points lies on what they plot as lines."""
    x, g = samples(12)
    norms = x.norm(dim=-1).numpy()
    expected = {"plain": layers.predicted(norms)}
    expected |= {kind: np.full(12, rate) for kind, rate in layers.rates().items()}
    assert layers.rates() == {"affine-like": 1.0, "norm-like": 2.0}
    np.testing.assert_allclose(expected["plain"], 1 + norms**2)
    for name, module in layers.corrected().items():
        measured = effective_rate(single_steps(module, x, g, RATE), g, RATE)
        np.testing.assert_allclose(measured.numpy(), expected[name], rtol=1e-9)


def test_a_step_leaves_the_module_alone(layers):
    module = layers.corrected()["affine-like"]
    before = {k: v.clone() for k, v in module.state_dict().items()}
    x, g = samples(3)
    step(module, (x,), g, 1.0)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_interference_of_one_sample_is_none(layers):
    x, g = samples(1)
    assert interference(layers.corrected()["plain"], x, g) == pytest.approx(0, abs=1e-12)


def test_interference_is_the_off_diagonal_kernel(layers):
    """For the plain layer: Σ_{s'≠s} (x_s·x_s' + 1) g_s' over (‖x_s‖² + 1) g_s."""
    x, g = samples(5)
    kernel = x @ x.T + 1
    own = kernel.diagonal()[:, None] * g
    others = kernel @ g - own
    expected = float(others.norm() / own.norm())
    measured = interference(layers.corrected()["plain"], x, g)
    assert measured == pytest.approx(expected, rel=1e-6)


def test_own_steps_of_batch_norm_are_those_of_the_batch(layers):
    """The normaliser sees the whole batch although one sample's gradient acts."""
    x, g = samples(6)
    own = own_steps(layers.rivals()["BatchNorm"], x, g, RATE, 2)
    h = (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)
    expected = -RATE * (1 + (h * h).sum(-1, keepdim=True)) * g
    torch.testing.assert_close(own, expected[:2])


def test_rate_curves_of_any_layer():
    found = tuple(s for s in subjects(linear_source()) if not s.absent)
    curves = {c.label: c for c in rate_curves(found)}
    np.testing.assert_allclose(curves["AffineLikeLinear"].rate, 1.0)
    np.testing.assert_allclose(curves["NormLikeLinear"].rate, 2.0)
    assert curves["uncorrected"].rate.max() > 50
    assert len(curves["uncorrected"].rate) == len(curves["uncorrected"].scale)


def test_overview_is_the_same_each_time(tmp_path):
    overview(tmp_path / "a.svg")
    overview(tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert root.get("aria-label")
    identifiers = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(identifiers) == len(set(identifiers))
    assert "Created with" not in text
    assert "data:" not in text
