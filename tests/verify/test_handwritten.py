"""Layers written by hand pass every stage; the same layers with one planted mistake do not."""

from __future__ import annotations

import pytest

from tests.verify.handwritten import TEXTS, source
from verify import verify_layer
from verify.results import Report, StageResult

INSTANCES = 4


def verify(name: str, **mistake: str) -> Report:
    layer = source(name, **mistake)
    return verify_layer(layer, instances=INSTANCES, general=source(name))


def judged(report: Report) -> list[StageResult]:
    """Every stage but ``declared``: these classes have constructors of their own."""
    return [s for s in report.stages if s.stage != "declared"]


def failures(report: Report) -> list[StageResult]:
    return [s for s in judged(report) if not s.passed]


@pytest.mark.parametrize("name", TEXTS)
def test_passes(name: str) -> None:
    report = verify(name)
    assert not failures(report), report.summary()
    assert all(s.instances for s in judged(report))


def test_a_constructor_of_its_own_is_not_as_declared() -> None:
    report = verify("linear")
    assert not report.passed
    assert {s.stage for s in report.failures} == {"declared"}


MISTAKES = {
    "wrong exponent": ("linear", "factor = torch.rsqrt(1 + total)", "factor = 1 / (1 + total)"),
    "epsilon inside": ("linear", "torch.rsqrt(1 + total)", "torch.rsqrt(1 + 1e-9 + total)"),
    "wrong site": ("linear", "torch.rsqrt(1 + total)", "torch.rsqrt(1 + total.mean())"),
    "bias not corrected": (
        "bilinear",
        "torch.rsqrt(1 + total) * F.bilinear(x, y, self.weight, self.bias)",
        "torch.rsqrt(1 + total) * F.bilinear(x, y, self.weight) + self.bias",
    ),
    "bias without its term": ("linear", "torch.rsqrt(1 + total)", "torch.rsqrt(total)"),
    "nan at zero": ("scale", "torch.where(zero, 1.0, x).abs()", "x.abs()"),
    "radius ignored": ("linear", "self.radius * torch.rsqrt", "1.0 * torch.rsqrt"),
    "wrong padding": ("conv", "total = F.conv1d(x.square(), ones, None, stride, padding",
                      "total = F.conv1d(x.square(), ones, None, stride, 0 * padding"),
    "groups mixed up": ("conv", "factor.repeat_interleave(z.shape[1] // groups, 1)",
                        "factor.repeat(1, z.shape[1] // groups, 1)"),
    "detached input": ("linear", "factor = torch.rsqrt(1 + total)",
                       "factor = torch.rsqrt(1 + total).detach()"),
    "gauge not frozen": ("gate", "torch.rsqrt(torch.where(zero, 1.0, kappa))).detach()",
                         "torch.rsqrt(torch.where(zero, 1.0, kappa)))"),
    "upper factor": ("low rank", "upper=False", "upper=True"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_refuses_mistake(mistake: str) -> None:
    name, old, new = MISTAKES[mistake]
    report = verify(name, old=old, new=new)
    assert failures(report)
    assert all(s.detail for s in failures(report))


def test_detached_input_fails_where_derivatives_by_the_input_are_judged() -> None:
    name, old, new = MISTAKES["detached input"]
    report = verify(name, old=old, new=new)
    failed = {(s.class_name, s.stage) for s in failures(report)}
    # K̃ and the step are those of the right layer; only what reaches the input is wrong.
    assert failed == {("AffineLikeLinear", s) for s in ("emitted", "gradients", "lowering")}


def test_frozen_layers_report_slope_and_drift() -> None:
    report = verify("gate")
    (order,) = [s for s in report.stages if s.stage == "order"]
    assert "remainder slope" in order.detail
    assert "frozen gauge drifts" in order.detail


def test_same_seed_same_report() -> None:
    assert verify("scale").to_json() == verify("scale").to_json()


def refusing(condition: str) -> Report:
    """A convolution that does not take some arguments."""
    old = "self.options = (stride, padding, dilation, groups)"
    new = f"{old}\n        if {condition}:\n            raise ValueError('not this padding')"
    return verify("conv", old=old, new=new)


def test_arguments_that_the_class_refuses_are_drawn_again() -> None:
    report = refusing("padding == 2")
    assert not failures(report), report.summary()
    assert any("not this padding" in s.detail for s in report.stages)
    assert min(s.instances for s in report.stages if s.stage == "numeric") == INSTANCES


def test_a_class_that_refuses_everything_is_not_verified() -> None:
    report = refusing("padding >= 0")
    assert {s.stage for s in report.failures} >= {"numeric", "order", "gradients", "controls"}
