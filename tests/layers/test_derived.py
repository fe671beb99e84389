"""The derived backward pass beside the plain operations of a layer, and where each serves."""

import copy
import importlib
import sys

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils.checkpoint import checkpoint

from tests.layers.cases import ALL
from truestep import AffineLikeLinear, AffineLikeMultiheadAttention, NormLikeLinear

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
CLOSE = {"rtol": 1e-10, "atol": 1e-11}


def module_of(layer):
    return sys.modules[type(layer).__module__]


def derived(case):
    return "_takes_derived" in vars(importlib.import_module(f"truestep.layers.{case.module}"))


DERIVED = [case for case in ALL if derived(case)]


def plainly(monkeypatch, layer):
    monkeypatch.setattr(module_of(layer), "_takes_derived", lambda x, compiled=True: False)


def double(case):
    layer = case.build(dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in case.inputs(torch.float64))
    return layer, inputs


def first_of(result):
    return result[0] if isinstance(result, tuple) else result


def gradients(layer, inputs, upstream):
    """Value, first derivatives, and those of their squared sum."""
    leaves = [*inputs, *layer.parameters()]
    z = first_of(layer(*inputs))
    first = torch.autograd.grad(z, leaves, upstream, create_graph=True)
    total = sum(g.square().sum() for g in first)
    second = torch.autograd.grad(total, [*leaves, upstream], allow_unused=True)
    return [z, *first, *(torch.zeros(()) if g is None else g for g in second)]


def test_there_are_such_layers():
    names = {case.name for case in DERIVED}
    assert {"AffineLikeLinear", "NormLikeLinear", "AffineLikeLayerNormLinear"} <= names


@pytest.mark.parametrize("case", DERIVED, ids=str)
def test_value_and_both_derivatives_are_those_of_plain_operations(case, monkeypatch):
    layer, inputs = double(case)
    upstream = torch.randn_like(first_of(layer(*inputs))).requires_grad_()
    ours = gradients(layer, inputs, upstream)
    plainly(monkeypatch, layer)
    theirs = gradients(layer, inputs, upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_a_wrong_backward_pass_would_differ(monkeypatch):
    layer, x = AffineLikeLinear(4, 3).double(), torch.randn(5, 4).double().requires_grad_()
    upstream = torch.randn(5, 3).double().requires_grad_()
    right = gradients(layer, (x,), upstream)
    monkeypatch.setattr(module_of(layer), "_rows", lambda u: 2 * u)
    wrong = gradients(layer, (x,), upstream)
    assert not torch.allclose(right[2], wrong[2])


@pytest.mark.parametrize("case", DERIVED, ids=str)
def test_gradcheck_of_both_orders(case):
    layer, inputs = double(case)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def run(*given):
        own = dict(zip(names, given[len(inputs) :], strict=True))
        return first_of(functional_call(layer, own, given[: len(inputs)]))

    everything = (*inputs, *(p.detach().requires_grad_() for p in parameters))
    # Along random directions: for each element alone, three axes take a minute.
    assert torch.autograd.gradcheck(run, everything, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, everything, fast_mode=True)


class Kept:
    """What a forward pass keeps for the backward pass beyond some tensors, in bytes."""

    def __init__(self, known):
        self.known = {t.untyped_storage().data_ptr() for t in known}
        self.bytes = {}

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.bytes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def of(self, layer, inputs):
        with saved_tensors_hooks(self.pack, lambda x: x):
            z = first_of(layer(*inputs))
        return sum(self.bytes.values()), z.untyped_storage().nbytes()


@pytest.mark.parametrize("cls", [AffineLikeLinear, NormLikeLinear])
def test_rows_keep_a_number_a_row(cls, monkeypatch):
    layer, x = cls(64, 512), torch.randn(16, 64, requires_grad=True)
    known = [x, *layer.parameters()]
    kept, output = Kept(known).of(layer, (x,))
    assert kept == 16 * 4 <= 0.01 * output
    plainly(monkeypatch, layer)
    more, output = Kept(known).of(layer, (x,))
    assert more > output


def test_attention_keeps_what_plain_attention_keeps(monkeypatch):
    layer = AffineLikeMultiheadAttention(64, 4, batch_first=True)
    x = torch.randn(2, 8, 64, requires_grad=True)

    def kept():
        meter = Kept([x, *layer.parameters()])
        with saved_tensors_hooks(meter.pack, lambda t: t):
            layer(x, x, x, need_weights=False)
        return sum(meter.bytes.values())

    ours, output = kept(), x.untyped_storage().nbytes()
    plainly(monkeypatch, layer)
    assert kept() - ours > 3.5 * output


@pytest.mark.parametrize("case", DERIVED, ids=str)
def test_in_place_activations_may_follow(case):
    layer, inputs = double(case)
    z = first_of(layer(*inputs))
    wanted = torch.autograd.grad(z.relu().sum(), inputs)
    found = torch.autograd.grad(first_of(layer(*inputs)).relu_().sum(), inputs)
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4), (2, 3, 5, 4)])
@pytest.mark.parametrize("cls", [AffineLikeLinear, NormLikeLinear])
def test_no_output_is_a_view(cls, shape):
    """torch forbids to change a view that comes out of an autograd function."""
    layer, x = cls(4, 3), torch.randn(shape, requires_grad=True)
    layer(x).relu_().sum().backward()
    wanted = torch.autograd.grad(layer(x).relu().sum(), x)[0]
    torch.testing.assert_close(x.grad, wanted)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("case", DERIVED, ids=str)
def test_checkpointing(case, reentrant):
    layer, inputs = double(case)
    wanted = torch.autograd.grad(first_of(layer(*inputs)).square().sum(), inputs)
    again = [x.detach().requires_grad_() for x in inputs]
    z = checkpoint(lambda *x: first_of(layer(*x)), *again, use_reentrant=reentrant)
    z.square().sum().backward()
    for x, g in zip(again, wanted, strict=True):
        torch.testing.assert_close(x.grad, g, **CLOSE)


TRANSFORMS = {
    "grad": grad,
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "hessian": hessian,
    "jacrev of jacfwd": lambda f: jacrev(jacfwd(f)),
    "jvp of grad": lambda f: lambda x: jvp(grad(f), (x,), (x,)),
    "grad of jvp": lambda f: grad(lambda x: jvp(f, (x,), (x,))[1]),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("cls", [AffineLikeLinear, NormLikeLinear])
def test_transforms_of_torch_func(cls, transform, monkeypatch):
    layer, x = cls(4, 3).double(), torch.randn(5, 4).double()

    def loss(x):
        return layer(x).sin().sum()

    found = transform(loss)(x)
    plainly(monkeypatch, layer)
    torch.testing.assert_close(found, transform(loss)(x), **CLOSE)


def test_gradients_of_each_sample():
    layer, x = AffineLikeLinear(4, 3).double(), torch.randn(5, 4).double()
    own = {n: p.detach() for n, p in layer.named_parameters()}

    def loss(parameters, x):
        return functional_call(layer, parameters, (x,)).square().sum()

    each = vmap(grad(loss), (None, 0))(own, x)
    for k in range(5):
        wanted = grad(loss)(own, x[k])
        torch.testing.assert_close({n: g[k] for n, g in each.items()}, wanted, **CLOSE)


def test_forward_mode():
    layer, x = AffineLikeLinear(4, 3).double(), torch.randn(5, 4).double()
    direction = torch.randn_like(x)
    with forward_ad.dual_level():
        z = layer(forward_ad.make_dual(x, direction))
        found = forward_ad.unpack_dual(z).tangent
    torch.testing.assert_close(found, jvp(layer, (x,), (direction,))[1], **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("exponent", [-30, -10, 0, 10, 25, 37])
@pytest.mark.parametrize("cls", [AffineLikeLinear, NormLikeLinear])
def test_gradients_across_the_range_of_the_format(cls, exponent, dtype):
    """Squares beyond the range of float32 take the wide route, in the backward pass too."""
    torch.manual_seed(0)
    layer, exact = cls(6, 3).to(dtype), cls(6, 3).double()
    exact.load_state_dict(layer.state_dict())
    x = (torch.randn(5, 6) * 10.0**exponent).to(dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    g = torch.randn(5, 3).to(dtype)
    (found,) = torch.autograd.grad(layer(x), x, g)
    (wanted,) = torch.autograd.grad(exact(wide), wide, g.double())
    size = wanted.abs().max()
    if size > torch.finfo(dtype).max:
        return  # no format of that range holds it
    close = 64 * torch.finfo(dtype).eps
    assert (found.double() - wanted).abs().max() <= close * size + torch.finfo(dtype).tiny


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("cls", [AffineLikeLinear, NormLikeLinear])
def test_compiled_whole_with_the_derived_gradient(cls, dynamic):
    torch._dynamo.reset()
    layer = cls(4, 3).double()
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for rows in (5, 7):
        x = torch.randn(rows, 4).double().requires_grad_()
        leaves = [x, *layer.parameters()]
        found = torch.autograd.grad(compiled(x).square().sum(), leaves)
        wanted = torch.autograd.grad(layer(x).square().sum(), leaves)
        torch.testing.assert_close(found, wanted, **CLOSE)


def test_exported_as_plain_operations():
    layer = AffineLikeLinear(4, 3)
    program = torch.export.export(layer, (torch.randn(5, 4),))
    targets = {str(node.target) for node in program.graph.nodes}
    assert not any("autograd" in t for t in targets)
    x = torch.randn(5, 4)
    torch.testing.assert_close(program.module()(x), layer(x))


def test_autocast_has_gradients():
    layer, x = AffineLikeLinear(4, 3), torch.randn(5, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        z = layer(x)
    assert z.dtype == torch.bfloat16
    z.float().square().sum().backward()
    assert x.grad.dtype == torch.float32
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("frozen", ["weight", "bias", "input"])
def test_only_what_needs_a_gradient_gets_one(frozen):
    layer, x = AffineLikeLinear(4, 3).double(), torch.randn(5, 4).double().requires_grad_()
    upstream = torch.randn(5, 3).double()
    wanted = dict(
        zip(
            ("input", "weight", "bias"),
            torch.autograd.grad(layer(x), [x, layer.weight, layer.bias], upstream),
            strict=True,
        )
    )
    other = copy.deepcopy(layer)
    again = x.detach().clone().requires_grad_()
    leaves = {"input": again, "weight": other.weight, "bias": other.bias}
    leaves.pop(frozen).requires_grad_(False)
    found = torch.autograd.grad(other(again), list(leaves.values()), upstream)
    for name, g in zip(leaves, found, strict=True):
        torch.testing.assert_close(g, wanted[name], **CLOSE)


def test_a_copy_and_a_sequence_train():
    model = nn.Sequential(AffineLikeLinear(4, 8), nn.ReLU(inplace=True), NormLikeLinear(8, 1))
    twin = copy.deepcopy(model)
    x = torch.randn(16, 4)
    for net in (model, twin):
        net(x).square().sum().backward()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
