"""The derived backward pass of layers with sliding windows beside their plain operations."""

import copy

import pytest
import torch
from torch.func import functional_call, grad, jacrev, vmap

from codegen import generate
from tests.codegen.specs import spec
from tests.layers.cases import TRANSPOSED
from tests.layers.test_derived import CLOSE, DERIVED, Kept, double, gradients, module_of, plainly
from truestep import (
    NormLikePatchNormConv2d,
    PatchNormConv1d,
    PatchNormConv2d,
    PatchNormConv3d,
    UnitGaugeDepthwiseConv2d,
)
from verify.load import load_module

STEPS = {
    "plain": {},
    "no bias": {"bias": False},
    "stride": {"stride": 2},
    "strides that skip the end": {"stride": (3, 2), "kernel_size": (2, 1)},
    "padding": {"padding": 1},
    "more padding than the kernel reaches": {"padding": 2, "kernel_size": 2},
    "dilation": {"dilation": (2, 1), "padding": (0, 2)},
    "groups": {"groups": 2},
    "all at once": {"stride": 2, "padding": (2, 1), "dilation": 2, "groups": 2, "bias": False},
    "same": {"padding": "same", "kernel_size": (2, 3)},
    "same and dilation": {"padding": "same", "dilation": 2},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "one position": {"kernel_size": 1},
}
every_step = pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
CONVOLUTIONS = (PatchNormConv2d, NormLikePatchNormConv2d)
WINDOWS = [case for case in DERIVED if "Conv" in case.name]


def layer_of(cls, steps):
    torch.manual_seed(0)
    return cls(4, 6, **{"kernel_size": 3, **steps}).double()


def rank_of(case):
    return len(case.shapes[0]) - 2


def image(*shape):
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def check(layer, x, monkeypatch):
    """Value and both derivatives are those of plain operations."""
    upstream = torch.randn_like(layer(x)).requires_grad_()
    assert "Function" in layer(x).grad_fn.name()
    ours = gradients(layer, (x,), upstream)
    plainly(monkeypatch, layer)
    assert "Function" not in layer(x).grad_fn.name()
    for a, b in zip(ours, gradients(layer, (x,), upstream), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@every_step
@pytest.mark.parametrize("cls", CONVOLUTIONS)
def test_convolutions(cls, steps, monkeypatch):
    check(layer_of(cls, steps), image(2, 4, 8, 9), monkeypatch)


@pytest.mark.parametrize("more", [0, 1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_transposed_convolutions(case, groups, more, monkeypatch):
    """With an output padding of a stride there are more windows than positions."""
    steps = {"stride": 2, "padding": 1, "dilation": 3, "output_padding": more, "groups": groups}
    check(layer_of(case.cls, steps), image(2, 4, *(5, 6, 2)[: rank_of(case)]), monkeypatch)


@every_step
@pytest.mark.parametrize("case", [c for c in WINDOWS if "Depthwise" in c.name], ids=str)
def test_depthwise_convolutions(case, steps, monkeypatch):
    torch.manual_seed(0)
    rank = rank_of(case)
    own = {
        name: value[:rank] if isinstance(value, tuple) else value
        for name, value in {"kernel_size": 3, **steps}.items()
        if name != "groups"
    }
    check(case.cls(4, **own).double(), image(2, 4, *(8, 9)[:rank]), monkeypatch)


@pytest.mark.parametrize("order", ["c, q, p", "p, c, q", "p, q, c", "q, p, c"])
def test_outputs_with_their_axes_in_any_order(order, monkeypatch):
    own = spec(
        "Own",
        f"z[n, {order}] = W[c, k, m]*x[n, c, p + k, q + m]",
        "n p q",
        "c",
        parameters={"W": {"torch": "weight"}},
        sizes={"c": "channels", "k": 2, "m": 3, "p": "u - k + 1", "q": "v - m + 1"},
        inputs={"x": "n c u v"},
    )
    module = load_module(generate(own).text, "own")
    torch.manual_seed(0)
    check(module.UnitGaugeOwn(4).double(), image(2, 4, 6, 5), monkeypatch)


@pytest.mark.parametrize(("cls", "rank"), [(PatchNormConv1d, 1), (PatchNormConv3d, 3)])
def test_over_one_and_three_axes(cls, rank, monkeypatch):
    steps = {"stride": 2, "padding": 1, "groups": 2}
    check(layer_of(cls, steps), image(2, 4, *(7, 6, 5)[:rank]), monkeypatch)


def test_a_wrong_spread_would_differ(monkeypatch):
    layer, x = layer_of(PatchNormConv2d, {}), image(2, 4, 8, 9)
    right = torch.autograd.grad(layer(x).square().sum(), x)[0]
    own = module_of(layer)._box_adjoint
    monkeypatch.setattr(module_of(layer), "_box_adjoint", lambda *given: 2 * own(*given))
    wrong = torch.autograd.grad(layer(x).square().sum(), x)[0]
    assert not torch.allclose(right, wrong)


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_without_a_leading_axis_plain_operations_run(case):
    layer, (x,) = double(case)
    z, samples = layer(x[0]), layer(x)
    assert "Function" not in z.grad_fn.name()
    assert "Function" in samples.grad_fn.name()
    torch.testing.assert_close(z, samples[0], **CLOSE)


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_a_traced_graph_has_the_derived_pass_of_depthwise_convolutions_alone(case, monkeypatch):
    layer, (x,) = double(case)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert ("Function" in layer(x).grad_fn.name()) is ("Depthwise" in case.name)


@pytest.mark.parametrize("groups", [1, 2])
def test_no_output_is_a_view(groups):
    layer, x = layer_of(PatchNormConv2d, {"groups": groups}), image(2, 4, 8, 9)
    wanted = torch.autograd.grad(layer(x).relu().sum(), x)
    found = torch.autograd.grad(layer(x).relu_().sum(), x)
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("groups", [1, 2])
def test_channels_last_stays(groups):
    layer, x = layer_of(PatchNormConv2d, {"groups": groups, "padding": 1}), image(2, 4, 8, 9)
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    z = layer(last)
    assert z.is_contiguous(memory_format=torch.channels_last)
    found = torch.autograd.grad(z.sin().sum(), last)[0]
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, torch.autograd.grad(layer(x).sin().sum(), x)[0], **CLOSE)


@pytest.mark.parametrize(
    ("build", "maps"),
    [
        (lambda: PatchNormConv2d(8, 64, 3, padding=1), 1 + 1 / 64),
        (lambda: PatchNormConv2d(8, 64, 3, padding=1, groups=4), 1 + 4 / 64),
        (lambda: UnitGaugeDepthwiseConv2d(64, 3, padding=1), 1),
    ],
    ids=["convolution", "groups", "depthwise"],
)
def test_what_is_kept(build, maps, monkeypatch):
    """z and the scale; of a depthwise convolution, whose scale is as large, z alone."""
    layer = build()
    x = torch.randn(2, layer.weight.shape[0] if maps == 1 else 8, 16, 16, requires_grad=True)
    known = [x, *layer.parameters()]
    kept, output = Kept(known).of(layer, (x,))
    assert kept == maps * output
    plainly(monkeypatch, layer)
    more, _ = Kept(known).of(layer, (x,))
    assert more >= kept


@pytest.mark.parametrize("frozen", ["weight", "bias", "input"])
def test_only_what_needs_a_gradient_gets_one(frozen):
    layer, x = layer_of(PatchNormConv2d, {}), image(2, 4, 8, 9)
    upstream = torch.randn_like(layer(x))
    leaves = {"input": x, "weight": layer.weight, "bias": layer.bias}
    wanted = dict(
        zip(leaves, torch.autograd.grad(layer(x), list(leaves.values()), upstream), strict=True)
    )
    other, again = copy.deepcopy(layer), x.detach().clone().requires_grad_()
    leaves = {"input": again, "weight": other.weight, "bias": other.bias}
    leaves.pop(frozen).requires_grad_(False)
    found = torch.autograd.grad(other(again), list(leaves.values()), upstream)
    for name, g in zip(leaves, found, strict=True):
        torch.testing.assert_close(g, wanted[name], **CLOSE)


@pytest.mark.parametrize("cls", CONVOLUTIONS)
def test_transforms_of_torch_func(cls, monkeypatch):
    layer, x = layer_of(cls, {"groups": 2}), image(2, 4, 5, 5).detach()
    own = {n: p.detach() for n, p in layer.named_parameters()}

    def loss(parameters, x):
        return functional_call(layer, parameters, (x[None],)).square().sum()

    found = vmap(grad(loss), (None, 0))(own, x), jacrev(layer)(x)
    plainly(monkeypatch, layer)
    torch.testing.assert_close(
        found, (vmap(grad(loss), (None, 0))(own, x), jacrev(layer)(x)), **CLOSE
    )


def test_batched_upstream_gradients():
    layer, x = layer_of(PatchNormConv2d, {}), image(2, 4, 5, 5)
    z = layer(x)
    upstream = torch.randn(3, *z.shape, dtype=z.dtype)
    found = torch.autograd.grad(z, x, upstream, is_grads_batched=True)[0]
    for k in range(3):
        torch.testing.assert_close(
            found[k], torch.autograd.grad(layer(x), x, upstream[k])[0], **CLOSE
        )


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("cls", CONVOLUTIONS)
def test_compiled_whole(cls, dynamic):
    torch._dynamo.reset()
    layer = layer_of(cls, {"padding": 1})
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n in (2, 3):
        x = image(n, 4, 8, 9)
        leaves = [x, *layer.parameters()]
        found = torch.autograd.grad(compiled(x).square().sum(), leaves)
        wanted = torch.autograd.grad(layer(x).square().sum(), leaves)
        torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_gradients_in_every_format(dtype):
    layer, exact = PatchNormConv2d(4, 6, 3).to(dtype), PatchNormConv2d(4, 6, 3).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 8, 9).to(dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    g = torch.randn(2, 6, 6, 7).to(dtype)
    found = torch.autograd.grad(layer(x), [x, *layer.parameters()], g)
    wanted = torch.autograd.grad(exact(wide), [wide, *exact.parameters()], g.double())
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).abs().max() <= 32 * torch.finfo(dtype).eps * b.abs().max()


@pytest.mark.parametrize("is_derived", [False, True], ids=["plain", "derived"])
def test_compiled_where_every_size_is_unknown(is_derived):
    """The images of a batch, and their height and width too, where windows skip positions."""
    torch._dynamo.reset()
    if is_derived:
        layer = UnitGaugeDepthwiseConv2d(4, 3, stride=2, padding=1).double()
    else:
        layer = layer_of(PatchNormConv2d, {"stride": 2, "padding": 1, "groups": 2})
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="inductor")
    for shape in ((2, 4, 8, 9), (3, 4, 11, 10)):
        x = image(*shape)
        found = torch.autograd.grad(compiled(x).square().sum(), [x, layer.weight])
        wanted = torch.autograd.grad(layer(x).square().sum(), [x, layer.weight])
        torch.testing.assert_close(found, wanted, **CLOSE)
