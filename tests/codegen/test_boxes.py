"""Box sums: the helper against torch's windows of ones, its adjoint, and the form chosen."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from codegen import generate
from codegen.helpers import helper_code
from derive import load_spec
from tests.codegen.specs import spec
from tests.support import SPEC_FILES

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SPATIAL = (11, 9, 8)
# Kernel, stride, padding and dilation of an axis; the first axis takes the first, and so on.
AXES = tuple(itertools.product((1, 2, 3, 4), (1, 2, 3), (0, 2), (1, 2)))
STEPS = tuple(AXES[k : k + 3] for k in range(len(AXES) - 2))
every_step = pytest.mark.parametrize("axes", STEPS, ids=str)
every_rank = pytest.mark.parametrize("rank", [1, 2, 3])


def helpers(*names: str) -> dict[str, object]:
    """The functions that a generated file would carry along."""
    found: dict[str, object] = {"Tensor": Tensor, "F": F, "math": math, "torch": torch}
    exec("from __future__ import annotations\n" + "\n".join(helper_code(names)), found)
    return found


HELPERS = helpers("_box_sum", "_box_adjoint")
box_sum, box_adjoint = HELPERS["_box_sum"], HELPERS["_box_adjoint"]


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ones_window(call, x: Tensor, kernel: tuple[int, ...], **steps) -> Tensor:
    return call(x.unsqueeze(1), x.new_ones(1, 1, *kernel), **steps).squeeze(1)


def columns(axes, rank: int) -> list[tuple[int, ...]]:
    """Kernel sizes, strides, paddings and dilations."""
    return [tuple(part[k] for part in axes[:rank]) for k in range(4)]


@every_rank
@every_step
def test_a_box_sum_is_a_window_of_ones(axes, rank):
    kernel, stride, padding, dilation = columns(axes, rank)
    x = image(2, *SPATIAL[:rank])
    wanted = ones_window(CONV[rank], x, kernel, stride=stride, padding=padding, dilation=dilation)
    torch.testing.assert_close(box_sum(x, kernel, stride, padding, dilation), wanted)


def inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


@every_rank
@every_step
def test_the_adjoint_of_a_box_sum(axes, rank):
    """⟨box(u), v⟩ = ⟨u, adjoint(v)⟩, in integers: there is no rounding."""
    steps = columns(axes, rank)
    u = image(2, *SPATIAL[:rank]).mul(100).round()
    summed = box_sum(u, *steps)
    v = image(*summed.shape, seed=1).mul(100).round()
    spread = box_adjoint(v, u.shape[1:], *steps)
    assert spread.shape == u.shape
    assert inner(summed, v) == inner(u, spread)


@every_rank
def test_another_kernel_padding_or_dilation_has_another_adjoint(rank):
    steps = [(3,) * rank, (2,) * rank, (1,) * rank, (1,) * rank]
    u = image(2, *SPATIAL[:rank]).mul(100).round()
    summed = box_sum(u, *steps)
    v = image(*summed.shape, seed=1).mul(100).round()
    for place, other in ((0, 2), (2, 0), (3, 2)):
        wrong = [*steps]
        wrong[place] = (other,) * rank
        spread = box_adjoint(v, u.shape[1:], *wrong)
        assert spread.shape != u.shape or inner(summed, v) != inner(u, spread)


def test_gradients_of_both_orders():
    steps = ((3, 2), (2, 1), (1, 2), (2, 1))
    x = image(1, 5, 4).requires_grad_()
    for call in (
        lambda t: box_sum(t, *steps),
        lambda t: box_adjoint(box_sum(t, *steps), (5, 4), *steps),
    ):
        assert torch.autograd.gradcheck(call, (x,))
        assert torch.autograd.gradgradcheck(lambda t, call=call: call(t).square(), (x,))


def test_a_window_of_one_position_costs_nothing():
    x = image(2, 5, 4)
    assert box_sum(x, (1, 1), (1, 1), (0, 0), (1, 1)).data_ptr() == x.data_ptr()
    assert box_sum(x, (2, 1), (1, 1), (0, 0), (1, 1)).data_ptr() != x.data_ptr()


def test_a_large_kernel_takes_few_additions(monkeypatch):
    """Twice the logarithm at most, where a sum over offsets would take 399."""
    calls = []
    add = Tensor.__add__
    monkeypatch.setattr(Tensor, "__add__", lambda a, b: calls.append(0) or add(a, b))
    box_sum(image(1, 1000), (400,), (160,), (0,), (1,))
    assert 0 < len(calls) <= 2 * math.log2(400)


# ---------------------------------------------------------------------- the form that is chosen
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d", "locally_connected1d"])
def test_a_map_that_is_summed_over_channels_is_shifted(name):
    text = generate(load_spec(SPEC_FILES[name])).text
    assert "_box_sum(squares," in "".join(text.split())
    assert "new_ones" not in text


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_scatter_is_a_transposed_window_of_ones(rank):
    text = generate(load_spec(SPEC_FILES[f"conv_transpose{rank}d"])).text
    assert "new_ones" in text
    assert "_box_sum(" not in text


def depthwise(rank: int):
    """A depthwise convolution of a user's own, over some axes."""
    positions, offsets, inputs = "pqr"[:rank], "klm"[:rank], "uvw"[:rank]
    reads = ", ".join(f"{p} + {k}" for p, k in zip(positions, offsets, strict=True))
    own = [("kernel_" + k) for k in offsets]
    return spec(
        f"Own{rank}",
        f"z[n, c, {', '.join(positions)}] = W[c, {', '.join(offsets)}]*x[n, c, {reads}] + b[c]",
        f"n {' '.join(positions)}",
        "c",
        sizes={
            "c": "channels",
            **dict(zip(offsets, own, strict=True)),
            **{p: f"{u} - {k} + 1" for p, u, k in zip(positions, inputs, offsets, strict=True)},
        },
        inputs={"x": f"n c {' '.join(inputs)}"},
    )


@pytest.mark.parametrize(("rank", "form"), [(1, "F.conv1d("), (2, "F.conv2d("), (3, "_box_sum(")])
def test_a_map_with_all_channels_is_a_window_of_ones_over_up_to_two_axes(rank, form):
    text = generate(depthwise(rank)).text
    energy = text[text.index("squares = ") :]
    assert form in energy
    assert ("new_ones" in energy) == (rank < 3)


def test_only_a_gauge_that_may_be_infinite_is_widened():
    text = generate(load_spec(SPEC_FILES["conv2d"])).text
    affine, norm = (
        text[text.index(f"def {name}_gauge(") :].split("class ")[0]
        for name in ("_patch_norm_conv2d", "_norm_like_patch_norm_conv2d")
    )
    without, full = affine[affine.index("if bias is None:") :].split("return torch.rsqrt")
    assert "_wide(energy)" in without
    assert full.startswith("(1 + energy)")
    assert "_wide(energy)" in norm
