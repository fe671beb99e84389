"""Half precision, large and vanishing inputs, memory formats."""

import pytest
import torch

from tests.layers.cases import ALL, BILINEAR, CONVOLUTIONS, LINEAR, TRANSPOSED, TWINS, expected

HALVES = (torch.bfloat16, torch.float16)
every = pytest.mark.parametrize("case", ALL, ids=str)
every_twin = pytest.mark.parametrize("case", TWINS, ids=str)
ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""The relative rounding of one number; an output is allowed a few of the largest one's."""
FEW = 8


def exact(case, module, inputs):
    """The correction in float64 of the same numbers."""
    twin = case.build_twin(dtype=torch.float64, bias=module.bias is not None)
    twin.load_state_dict({k: v.double() for k, v in module.state_dict().items()})
    return expected(module, twin, tuple(x.double() for x in inputs))


@every_twin
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [1.0, 100.0])
@pytest.mark.parametrize("bias", [True, False])
def test_half_precision(case, dtype, size, bias):
    if "Bilinear" in case.name:
        size = size**0.5
    module = case.build(dtype=dtype, bias=bias)
    inputs = tuple((size * x).to(dtype) for x in case.inputs())
    found = module(*inputs)
    assert found.dtype == dtype
    wanted = exact(case, module, inputs)
    assert (found.double() - wanted).abs().max() <= FEW * ROUNDING[dtype] * wanted.abs().max()


@pytest.mark.parametrize("case", LINEAR, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_norms_that_overflow_half_precision(case, bias):
    case = case.with_(4096, 2, bias=bias)
    module = case.build(dtype=torch.float16)
    x = torch.full((3, 4096), 20.0, dtype=torch.float16)
    found = module(x)
    wanted = exact(case, module, (x,))
    assert wanted.abs().max() > 0
    assert (found.double() - wanted).abs().max() <= FEW * ROUNDING[
        torch.float16
    ] * wanted.abs().max()


@every_twin
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_autocast(case, dtype, size):
    if "Bilinear" in case.name:
        size = size**0.5
    module, twin = case.build(), case.build_twin()
    inputs = tuple(size * x for x in case.inputs())
    with torch.autocast("cpu", dtype=dtype):
        found, plain = module(*inputs), twin(*inputs)
    assert found.dtype == plain.dtype
    wanted = exact(case, module, inputs)
    assert (found.double() - wanted).abs().max() <= FEW * ROUNDING[dtype] * wanted.abs().max()


@pytest.mark.parametrize("case", CONVOLUTIONS[2:4] + TRANSPOSED[2:4], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_channels_last(case, groups, bias):
    case = case.with_(groups=groups, bias=bias)
    module, twin = (
        m.to(memory_format=torch.channels_last) for m in (case.build(), case.build_twin())
    )
    (x,) = case.inputs()
    plain = module(x)
    x = x.to(memory_format=torch.channels_last)
    found = module(x)
    assert found.stride() == twin(x).stride()
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)


@every_twin
@pytest.mark.parametrize("bias", [True, False])
def test_zero_inputs_have_finite_gradients(case, bias):
    module = case.build(dtype=torch.float64, bias=bias)
    inputs = tuple(torch.zeros_like(x).requires_grad_() for x in case.inputs(torch.float64))
    out = module(*inputs)
    out.sum().backward()
    assert out.isfinite().all()
    if not bias:
        assert not out.any()
    for leaf in (*inputs, *module.parameters()):
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("case", LINEAR + BILINEAR, ids=str)
def test_a_zero_row_leaves_the_others_alone(case):
    module = case.build(dtype=torch.float64, bias=False)
    inputs = case.inputs(torch.float64)
    wanted = module(*inputs)[1:]
    inputs[0][0] = 0
    leaves = tuple(x.requires_grad_() for x in inputs)
    found = module(*leaves)
    torch.testing.assert_close(found[1:], wanted, rtol=0, atol=0)
    found.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)


@pytest.mark.parametrize("case", LINEAR, ids=str)
@pytest.mark.parametrize("exponent", [-40, -20, 20, 40, 60])
def test_sizes_across_the_range_of_float32(case, exponent):
    module = case.build()
    inputs = tuple(2.0**exponent * x for x in case.inputs())
    wanted = exact(case, module, inputs)
    torch.testing.assert_close(module(*inputs).double(), wanted, rtol=1e-5, atol=1e-6)
