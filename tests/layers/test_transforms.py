"""Compilers, exporters and function transforms see plain PyTorch."""

import copy

import onnxruntime
import pytest
import torch
from torch.func import functional_call

from tests.layers.cases import CONVOLUTIONS, LINEAR, TRANSPOSED

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
"""Float64 by two orders of summation."""


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


COMPILED = (LINEAR[0], CONVOLUTIONS[2], TRANSPOSED[0])


@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_compiled_gradients(case):
    module = case.build(dtype=torch.float64)
    other = copy.deepcopy(module)
    compiled = torch.compile(other, fullgraph=True, dynamic=True, backend="aot_eager")
    inputs = case.inputs(torch.float64)
    module(*inputs).square().sum().backward()
    compiled(*inputs).square().sum().backward()
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)


def test_compiled_to_machine_code():
    case = LINEAR[0]
    module = case.build(dtype=torch.float64)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="inductor")
    inputs = case.inputs(torch.float64)
    torch.testing.assert_close(compiled(*inputs), module(*inputs), **CLOSE)


@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_runs_in_onnxruntime(case, tmp_path):
    module = case.build().eval()
    (x,) = case.inputs()
    file = tmp_path / "layer.onnx"
    torch.onnx.export(module, (x,), file, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), module(x).detach(), rtol=1e-5, atol=1e-5)


SMALL = (
    LINEAR[0].with_(3, 2),
    LINEAR[1].with_(3, 2),
    LINEAR[0].with_(3, 2, bias=False),
    CONVOLUTIONS[0].with_(2, 2, 2, groups=1, dilation=1),
    CONVOLUTIONS[1].with_(2, 2, 2, groups=2, dilation=1, padding=0),
    TRANSPOSED[0].with_(2, 2, 2, groups=1, dilation=1),
)
SMALL_SHAPES = {"AffineLikeLinear": (2, 3), "NormLikeLinear": (2, 3)}


@pytest.mark.parametrize("case", SMALL, ids=lambda c: f"{c.name}{dict(c.kwargs)}")
def test_second_derivatives(case):
    module = case.build(dtype=torch.float64)
    x = torch.randn(*SMALL_SHAPES.get(case.name, (1, 2, 4)), dtype=torch.float64)
    names, values = zip(*module.named_parameters(), strict=True)
    leaves = [x.requires_grad_(), *(v.detach().clone().requires_grad_() for v in values)]

    def call(x, *p):
        return functional_call(module, dict(zip(names, p, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)
