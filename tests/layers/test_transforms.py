"""Compilers, exporters and function transforms see plain PyTorch."""

import copy

import onnxruntime
import pytest
import torch
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

from tests.layers.cases import ALL, CONVOLUTIONS, LINEAR, OTHERS, TRANSPOSED, TWINS

every = pytest.mark.parametrize("case", ALL, ids=str)
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
"""Float64 by two orders of summation."""
# Statistics over the batch and inputs that are no sample's own: a sample is no layer of its own.
WHOLE = ("AffineLikeBatchNormLinear", "AffineLikeBatchNormEvalLinear")
NO_BATCHING_RULE = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
"""torch has none for the bilinear form, whoever calls it."""


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def grown(case, count):
    """Inputs with another number of samples; what has no sample axis stays."""
    batch = case.shapes[0][0]
    return tuple(
        torch.randn(count, *s[1:], dtype=torch.float64) if s[0] == batch else x
        for s, x in zip(case.shapes, case.inputs(torch.float64), strict=True)
    )


@every
@pytest.mark.parametrize("backend", ["eager"])
def test_compiles_as_one_graph_of_any_batch(case, backend):
    module = case.build(dtype=torch.float64)
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, dynamic=True, backend=backend)
    for count in (2, 5):
        inputs = grown(case, count)
        torch.testing.assert_close(compiled(*inputs), module(*inputs), **CLOSE)


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


@every
def test_exports(case):
    module = case.build(dtype=torch.float64)
    inputs = case.inputs(torch.float64)
    batch = torch.export.Dim("batch", min=2)
    first = case.shapes[0][0]
    shapes = tuple({0: batch} if s[0] == first else None for s in case.shapes)
    program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
    for count in (first, 6):
        more = grown(case, count)
        torch.testing.assert_close(program.module()(*more), module(*more), **CLOSE)


@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_runs_in_onnxruntime(case, tmp_path):
    module = case.build().eval()
    (x,) = case.inputs()
    file = tmp_path / "layer.onnx"
    torch.onnx.export(module, (x,), file, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), module(x).detach(), rtol=1e-5, atol=1e-5)


@NO_BATCHING_RULE
@pytest.mark.parametrize("case", [c for c in ALL if c.name not in WHOLE], ids=str)
def test_vmap_over_samples(case):
    module = case.build(dtype=torch.float64)
    inputs = case.inputs(torch.float64)
    torch.testing.assert_close(vmap(module)(*inputs), module(*inputs), **CLOSE)


@NO_BATCHING_RULE
@every
def test_vmap_over_an_ensemble(case):
    modules = [case.build(dtype=torch.float64) for _ in range(2)]
    with torch.no_grad():
        for p in modules[1].parameters():
            p.add_(torch.randn_like(p))
    stacked, _ = torch.func.stack_module_state(modules)
    inputs = case.inputs(torch.float64)
    found = vmap(lambda p: functional_call(modules[0], p, inputs))(stacked)
    torch.testing.assert_close(found, torch.stack([m(*inputs) for m in modules]), **CLOSE)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@NO_BATCHING_RULE
@every
def test_forward_mode_agrees_with_reverse_mode(case):
    module = case.build(dtype=torch.float64)
    inputs = case.inputs(torch.float64)
    parameters = {k: v.detach() for k, v in module.named_parameters()}

    def call(p, *x):
        return functional_call(module, p, x)

    tangents = (
        {k: torch.randn_like(v) for k, v in parameters.items()},
        *map(torch.randn_like, inputs),
    )
    out, pushed = jvp(call, (parameters, *inputs), tangents)
    torch.testing.assert_close(out, module(*inputs), **CLOSE)
    covector = torch.randn_like(out)
    pulled = vjp(call, parameters, *inputs)[1](covector)
    paired = sum((pulled[0][k] * tangents[0][k]).sum() for k in parameters)
    paired += sum((a * b).sum() for a, b in zip(pulled[1:], tangents[1:], strict=True))
    torch.testing.assert_close((covector * pushed).sum(), paired, **CLOSE)


@NO_BATCHING_RULE
@pytest.mark.parametrize("case", [c for c in TWINS if c.name not in WHOLE], ids=str)
def test_gradients_of_single_samples(case):
    module = case.build(dtype=torch.float64)
    inputs = case.inputs(torch.float64)
    parameters = {k: v.detach() for k, v in module.named_parameters()}

    def loss(p, *x):
        return functional_call(module, p, x).square().sum()

    single = vmap(grad(loss), in_dims=(None, *(0 for _ in inputs)))(parameters, *inputs)
    for index in range(inputs[0].shape[0]):
        wanted = grad(loss)(parameters, *(x[index] for x in inputs))
        for name, value in wanted.items():
            torch.testing.assert_close(single[name][index], value, **CLOSE)


@NO_BATCHING_RULE
@pytest.mark.parametrize("case", LINEAR + OTHERS, ids=str)
def test_jacobian_of_the_parameters(case):
    module = case.build(dtype=torch.float64)
    inputs = case.inputs(torch.float64)
    parameters = {k: v.detach() for k, v in module.named_parameters()}
    found = jacrev(lambda p: functional_call(module, p, inputs))(parameters)
    out = module(*inputs)
    for name, value in found.items():
        assert value.shape == (*out.shape, *parameters[name].shape)
        assert value.isfinite().all()


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


@pytest.mark.parametrize("case", [c for c in TWINS if "Bilinear" not in c.name], ids=str)
def test_a_gradient_penalty_trains_the_layer(case):
    module = case.build(dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in case.inputs(torch.float64))
    slopes = torch.autograd.grad(module(*inputs).square().sum(), inputs, create_graph=True)
    sum(s.square().sum() for s in slopes).backward()
    for p in module.parameters():
        assert p.grad.isfinite().all()
        assert p.grad.abs().max() > 0
