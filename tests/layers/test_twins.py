"""Where torch.nn has the layer: same constructor and parameters, same output but for the gauge."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import truestep
from tests.layers.cases import (
    ALL,
    BILINEAR,
    CONVOLUTIONS,
    LINEAR,
    TRANSPOSED,
    TWINS,
    energy,
    expected,
)

every_twin = pytest.mark.parametrize("case", TWINS, ids=str)
every_convolution = pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
"""Float64, sums of some hundred terms of order one."""


DEPTHWISE = (truestep.UnitGaugeDepthwiseConv1d, truestep.UnitGaugeDepthwiseConv2d)


def pair(case, dtype=torch.float64, **more):
    """The generated layer and its twin with the same parameters."""
    module, twin = case.build(dtype=dtype, **more), case.build_twin(dtype=dtype, **more)
    module.load_state_dict(twin.state_dict(), strict=True)
    return module, twin


@every_twin
def test_initial_values_are_the_twins(case):
    module, twin = case.build(), case.build_twin()
    for name, value in twin.named_parameters():
        torch.testing.assert_close(getattr(module, name), value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_fan_in_of_one_gives_values_up_to_one(case):
    torch.manual_seed(0)
    module = case.cls(*(1 for _ in case.args))
    drawn = [module.reset_parameters() or next(module.parameters()).item() for _ in range(40)]
    assert 0.75 < max(map(abs, drawn)) <= 1


@every_twin
@pytest.mark.parametrize("bias", [True, False])
def test_output_is_the_twins_but_for_the_gauge(case, bias):
    module, twin = pair(case, bias=bias)
    inputs = case.inputs(torch.float64)
    torch.testing.assert_close(module(*inputs), expected(module, twin, inputs), **CLOSE)


@pytest.mark.parametrize("case", [c for c in TWINS if c.name.startswith("NormLike")], ids=str)
def test_radius_sets_the_length_of_the_mapped_input(case):
    module, twin = pair(case)
    module.radius = 1.75
    inputs = case.inputs(torch.float64)
    torch.testing.assert_close(module(*inputs), expected(module, twin, inputs), **CLOSE)
    assert case.build(radius=1.75).radius == 1.75


@pytest.mark.parametrize("case", LINEAR + BILINEAR, ids=str)
@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (2, 1, 3, 2)])
def test_any_number_of_leading_axes(case, leading):
    module, twin = pair(case)
    inputs = tuple(
        torch.randn(*leading, x.shape[-1], dtype=x.dtype) for x in case.inputs(torch.float64)
    )
    torch.testing.assert_close(module(*inputs), expected(module, twin, inputs), **CLOSE)


@pytest.mark.parametrize("case", [c for c in ALL if "MatrixGauge" in c.name], ids=str)
def test_any_leading_axes_of_a_matrix_gauge(case):
    module = case.build(dtype=torch.float64)
    x = torch.randn(2, 3, *case.shapes[0][1:], dtype=torch.float64)
    torch.testing.assert_close(module(x), torch.stack([module(rows) for rows in x]), **CLOSE)


@pytest.mark.parametrize("case", CONVOLUTIONS + TRANSPOSED, ids=str)
def test_unbatched_input(case):
    module, _ = pair(case)
    (x,) = case.inputs(torch.float64)
    torch.testing.assert_close(module(x[0]), module(x)[0], **CLOSE)


@every_convolution
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(case, mode, bias):
    module, twin = pair(case, padding_mode=mode, bias=bias)
    (x,) = case.inputs(torch.float64)
    x.requires_grad_()
    ours, theirs = module(x), expected(module, twin, (x,))
    torch.testing.assert_close(ours, theirs, **CLOSE)
    upstream = torch.randn_like(ours)
    found, wanted = (torch.autograd.grad(z, x, upstream)[0] for z in (ours, theirs))
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("cls", DEPTHWISE)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes_of_depthwise_convolutions(cls, mode):
    module = cls(3, 3, padding=2, padding_mode=mode, dtype=torch.float64)
    bare = cls(3, 3, dtype=torch.float64)
    bare.load_state_dict(module.state_dict())
    count = module.weight.dim() - 1
    x = torch.randn(2, 3, *(6,) * count, dtype=torch.float64, requires_grad=True)
    padded = F.pad(x, (2,) * (2 * count), mode="constant" if mode == "zeros" else mode)
    ours, theirs = module(x), bare(padded)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    upstream = torch.randn_like(ours)
    found, wanted = (torch.autograd.grad(z, x, upstream)[0] for z in (ours, theirs))
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("cls", DEPTHWISE)
def test_a_depthwise_convolution_of_empty_windows_can_be_built(cls):
    assert cls(3, 0).weight.numel() == 0


@every_convolution
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [2, 3])
def test_padding_by_name(case, padding, mode, kernel):
    case = case.with_(4, 6, kernel, stride=1, padding=padding, padding_mode=mode)
    module, twin = pair(case)
    inputs = case.inputs(torch.float64)
    torch.testing.assert_close(module(*inputs), expected(module, twin, inputs), **CLOSE)


@pytest.mark.parametrize("case", CONVOLUTIONS + TRANSPOSED, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_one_number_an_axis(case, groups):
    dims = len(case.shapes[0]) - 2
    numbers = {
        "stride": (2, 1, 3)[:dims],
        "padding": (1, 2, 0)[:dims],
        "dilation": (2, 1, 2)[:dims],
        "groups": groups,
    }
    if case in TRANSPOSED:
        numbers["output_padding"] = (1, 0, 2)[:dims]
    case = case.with_(4, 6, (3, 2, 2)[:dims], **numbers)
    module, twin = pair(case)
    inputs = case.inputs(torch.float64)
    torch.testing.assert_close(module(*inputs), expected(module, twin, inputs), **CLOSE)


REFUSED = (
    {"args": (5, 6, 3)},
    {"args": (4, 5, 3)},
    {"padding_mode": "mirror"},
    {"padding": "same"},
    {"padding": "full"},
    {"groups": 0},
)


@every_convolution
@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_refuses_what_the_twin_refuses(case, change):
    changed = dict(change)
    case = case.with_(*changed.pop("args", ()), **changed)
    for build in (case.build_twin, case.build):
        with pytest.raises(ValueError):  # noqa: PT011 - the words are each layer's own
            build()


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
@pytest.mark.parametrize("args", [(5, 6, 3), (4, 5, 3)])
def test_transposed_refuses_what_the_twin_refuses(case, args):
    for build in (case.with_(*args).build_twin, case.with_(*args).build):
        with pytest.raises(ValueError, match="divisible by groups"):
            build()


@every_twin
def test_wrong_shapes_are_refused(case):
    module, twin = pair(case)
    inputs = tuple(
        x[..., :-1] if case in LINEAR + BILINEAR else x[:, :-1] for x in case.inputs(torch.float64)
    )
    for layer in (module, twin):
        with pytest.raises(RuntimeError):
            layer(*inputs)


def test_the_oracle_knows_a_patch():
    twin = nn.Conv2d(1, 1, 2, bias=False)
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    wanted = F.conv2d(x * x, torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(energy(twin, twin, (x,)), wanted)
