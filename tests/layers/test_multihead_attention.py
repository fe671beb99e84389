"""The generated attention: parity with torch, kernels, and what users do to layers."""

import copy
import importlib
import itertools
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from codegen import generate
from derive.spec import load_spec
from tests.layers.attention_reference import evaluate_attention
from tests.support import SPEC_FILES
from verify.contracts.example import Example
from verify.contracts.stage import COMPILERS, CONTRACTS, broken

# torch's own compiler and forward mode still use torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

mha: Any = importlib.import_module("truestep.layers.multihead_attention")
Layer = Any
LAYERS: list[Any] = [mha.AffineLikeMultiheadAttention, mha.ValueMixMultiheadAttention]
E, H, D = 8, 2, 4
N, L, S = 3, 5, 6

# float64, sums of fewer than 100 terms of order one, a few layers deep.
TOLERANCE: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}


@cache
def derived() -> Any:
    """The layer as it is derived."""
    return generate(load_spec(SPEC_FILES["multihead_attention"])).attention


def close(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, **TOLERANCE)


def make(cls: type[Layer], seed: int = 0, **options: Any) -> Layer:
    """Return a float64 layer whose biases are not zero."""
    torch.manual_seed(seed)
    layer = cls(E, H, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return layer


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every gauge the identity; the derived backward pass is that of the true one."""
    monkeypatch.setattr(mha, "_takes_derived", lambda x: False)
    monkeypatch.setattr(mha, "_affine_gauge", lambda x, has_bias: x.new_ones(()))
    monkeypatch.setattr(mha, "_value_mix_gauge", lambda r_bar: r_bar.new_ones(()))
    monkeypatch.setattr(mha, "_score_gauge", lambda q, k: q.new_ones(()))


def twin_of(layer: Layer, **options: Any) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(E, H, dtype=torch.float64, **options)
    twin.load_state_dict(layer.state_dict(), strict=True)
    return twin


def inputs(
    batched: bool, batch_first: bool, kind: str, kdim: int = E, vdim: int = E
) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key, value: one tensor ("self"), two ("cross") or three ("apart")."""

    def shape(length: int, width: int) -> tuple[int, ...]:
        if not batched:
            return (length, width)
        return (N, length, width) if batch_first else (length, N, width)

    query = random(*shape(L, E)).requires_grad_()
    if kind == "self":
        return query, query, query
    key = random(*shape(S, kdim)).requires_grad_()
    value = key if kind == "cross" else random(*shape(S, vdim)).requires_grad_()
    return query, key, value


def masks(kind: str, batched: bool, source: int) -> dict[str, Any]:
    """Return mask arguments that leave every query at least its first key."""
    batch = N if batched else 1
    padding = torch.zeros(batch, source, dtype=torch.bool)
    padding[-1, -2:] = True
    padding = padding if batched else padding[0]
    causal = torch.ones(L, source, dtype=torch.bool).triu(1)
    per_head = torch.rand(batch * H, L, source) < 0.4
    per_head[..., 0] = False
    arguments: dict[str, dict[str, Any]] = {
        "none": {},
        "padding": {"key_padding_mask": padding},
        "padding float": {"key_padding_mask": random(*padding.shape)},
        "attn": {"attn_mask": causal},
        "attn float": {"attn_mask": random(L, source)},
        "attn 3d": {"attn_mask": per_head},
        "attn 3d float": {"attn_mask": random(*per_head.shape)},
        "both": {"key_padding_mask": padding, "attn_mask": per_head},
        "both float": {
            "key_padding_mask": random(*padding.shape),
            "attn_mask": random(L, source),
        },
        "causal": {"attn_mask": causal, "is_causal": True},
        "causal padding": {
            "attn_mask": causal,
            "is_causal": True,
            "key_padding_mask": padding,
        },
    }
    return arguments[kind]


MASKS = [
    "none",
    "padding",
    "padding float",
    "attn",
    "attn float",
    "attn 3d",
    "attn 3d float",
    "both",
    "both float",
    "causal",
    "causal padding",
]
OPTIONS = [
    dict(zip(("bias", "add_bias_kv", "add_zero_attn"), flags, strict=True))
    for flags in itertools.product([True, False], repeat=3)
]


FEW = [OPTIONS[0], OPTIONS[3], OPTIONS[4], OPTIONS[6]]


def named(options: dict[str, bool]) -> str:
    return "".join(str(int(v)) for v in options.values())


def assert_same(
    layer: Layer, twin: nn.MultiheadAttention, args: tuple[Tensor, ...], **call: Any
) -> None:
    """Compare outputs, weights and the gradients by inputs and parameters."""
    outputs, gradients = [], []
    modules: tuple[nn.Module, ...] = (layer, twin)
    for module in modules:
        torch.manual_seed(7)
        output, weights = module(*args, **call)
        loss = (output * torch.linspace(-1, 2, output.numel()).view_as(output)).sum()
        if weights is not None:
            loss = loss + (weights * torch.linspace(0, 3, weights.numel()).view_as(weights)).sum()
        leaves: dict[str, Tensor] = dict(module.named_parameters())
        leaves |= {f"input {i}": x for i, x in enumerate(args)}
        found = torch.autograd.grad(loss, list(leaves.values()))
        outputs.append((output, weights))
        gradients.append(dict(zip(leaves, found, strict=True)))
    assert (outputs[0][1] is None) == (outputs[1][1] is None)
    close(outputs[0], outputs[1])
    close(gradients[0], gradients[1])


# Parity with nn.MultiheadAttention


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("options", FEW, ids=named)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["self", "apart"])
def test_identity_gauges_give_torch(
    cls: type[Layer], options: dict[str, bool], mask: str, kind: str
) -> None:
    for batched, batch_first in [(True, True), (False, False)]:
        layer = make(cls, batch_first=batch_first, **options)
        twin = twin_of(layer, batch_first=batch_first, **options)
        args = inputs(batched, batch_first, kind)
        call = masks(mask, batched, args[1].size(-2 if batch_first or not batched else 0))
        for need_weights, average in [(True, False), (False, True)]:
            flags = {"need_weights": need_weights, "average_attn_weights": average}
            assert_same(layer, twin, args, **call, **flags)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("options", FEW, ids=named)
@pytest.mark.parametrize(("kdim", "vdim"), [(3, 10), (None, 10)])
@pytest.mark.parametrize("need_weights", [True, False])
def test_identity_gauges_give_torch_with_kdim_and_vdim(
    cls: type[Layer],
    options: dict[str, bool],
    kdim: int | None,
    vdim: int | None,
    need_weights: bool,
) -> None:
    layer = make(cls, kdim=kdim, vdim=vdim, **options)
    twin = twin_of(layer, kdim=kdim, vdim=vdim, **options)
    kind = "cross" if kdim == vdim else "apart"
    args = inputs(True, False, kind, kdim or E, vdim or E)
    assert_same(layer, twin, args, **masks("both", True, S), need_weights=need_weights)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("mask", ["padding float", "attn float", "attn 3d float", "both float"])
def test_masks_that_are_learned_get_the_gradients_of_torch(cls: type[Layer], mask: str) -> None:
    layer = make(cls)
    twin = twin_of(layer)
    args = inputs(True, False, "apart")
    learned = {k: v.requires_grad_() for k, v in masks(mask, True, S).items()}
    weights = random(L, N, E)
    found, wanted = (
        torch.autograd.grad((module(*args, **learned)[0] * weights).sum(), list(learned.values()))
        for module in (layer, twin)
    )
    close(found, wanted)


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize(
    ("shared", "width", "options"),
    [
        ("xxx", E, {}),
        ("xxy", E, {}),
        ("xyx", E, {}),
        ("xyy", E, {}),
        ("xyy", 3, {"kdim": 3, "vdim": 3}),
        ("xyy", 3, {"kdim": 3, "vdim": 3, "bias": False}),
    ],
)
def test_which_inputs_are_one_tensor_means_nothing(
    cls: type[Layer], shared: str, width: int, options: dict[str, Any]
) -> None:
    layer = make(cls, **options)
    one = {"x": random(N, L, E), "y": random(N, L, width)}
    close(layer(*(one[x] for x in shared)), layer(*(one[x].clone() for x in shared)))


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cls", LAYERS)
def test_dropout_is_that_of_torch(cls: type[Layer], training: bool, need_weights: bool) -> None:
    layer = make(cls, dropout=0.4).train(training)
    twin = twin_of(layer, dropout=0.4).train(training)
    assert_same(layer, twin, inputs(True, False, "apart"), need_weights=need_weights)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("cls", LAYERS)
def test_empty_rows_are_those_of_torch(cls: type[Layer]) -> None:
    layer = make(cls)
    twin = twin_of(layer)
    args = inputs(True, False, "apart")
    mask = torch.zeros(L, S, dtype=torch.bool)
    mask[2] = True
    for need_weights in (True, False):
        found = layer(*args, attn_mask=mask, need_weights=need_weights)[0]
        wanted = twin(*args, attn_mask=mask, need_weights=need_weights)[0]
        torch.testing.assert_close(found, wanted, equal_nan=True, **TOLERANCE)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("cls", LAYERS)
def test_masks_of_two_types_mix(cls: type[Layer]) -> None:
    layer = make(cls)
    padding, attn = masks("both", True, S).values()
    as_float = torch.zeros(attn.shape, dtype=torch.float64).masked_fill(attn, -torch.inf)
    args = inputs(True, False, "apart")
    found = layer(*args, key_padding_mask=padding, attn_mask=as_float)
    close(found, layer(*args, key_padding_mask=padding, attn_mask=attn))


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("options", [*OPTIONS, {"kdim": 3, "vdim": 10, "add_bias_kv": True}])
def test_parameters_are_those_of_torch(cls: type[Layer], options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    layer = cls(E, H, **options)
    torch.manual_seed(3)
    twin = nn.MultiheadAttention(E, H, **options)
    assert list(layer.state_dict()) == list(twin.state_dict())
    torch.testing.assert_close(layer.state_dict(), twin.state_dict(), rtol=0, atol=0)
    torch.manual_seed(3)
    again = cls(E, H, **options)
    torch.manual_seed(3)
    again.reset_parameters()
    torch.testing.assert_close(again.state_dict(), twin.state_dict(), rtol=0, atol=0)
    twin.load_state_dict(cls(E, H, **options).state_dict(), strict=True)
    layer.load_state_dict(twin.state_dict(), strict=True)
    assert not list(layer.buffers())


@pytest.mark.parametrize("cls", LAYERS)
def test_no_part_is_an_attention_or_linear_of_torch(cls: type[Layer]) -> None:
    for module in make(cls).modules():
        assert not isinstance(module, nn.Linear | nn.MultiheadAttention)


@pytest.mark.parametrize("cls", LAYERS)
def test_transformer_encoder_layer_keeps_the_correction(cls: type[Layer]) -> None:
    block = nn.TransformerEncoderLayer(E, H, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    block.add_module("self_attn", make(cls, batch_first=True))
    x = random(N, L, E)
    wanted = block(x)
    with torch.no_grad():
        close(block.eval()(x), wanted.detach())


# The corrections


def kernel(
    function: Callable[[dict[str, Tensor]], Tensor], parameters: dict[str, Tensor]
) -> Tensor:
    """Return K(s, s') of a function of parameters with output (*sites, units), all sites flat."""
    with torch.no_grad():
        jacobians = jacrev(function)(parameters)
        units = function(parameters).numel()
    flat = torch.cat([j.reshape(units, -1) for j in jacobians.values()], dim=1)
    return flat @ flat.T


def self_kernels(
    function: Callable[[dict[str, Tensor]], Tensor], parameters: dict[str, Tensor], units: int
) -> Tensor:
    """Return K(s, s), shape (s, units, units)."""
    K = kernel(function, parameters)
    sites = K.size(0) // units
    return torch.einsum("sisj->sij", K.view(sites, units, sites, units))


def parameters_of(layer: Layer) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in layer.named_parameters()}


def output_of(
    layer: nn.Module, parameters: dict[str, Tensor], args: tuple[Tensor, ...], **call: Any
) -> Tensor:
    """Return the first output of a layer as a function of its parameters."""
    output = functional_call(layer, parameters, args, call)[0]
    assert isinstance(output, Tensor)
    return output


class Method(nn.Module):
    """A method of a layer as a forward, for functional_call."""

    def __init__(self, layer: nn.Module, name: str) -> None:
        super().__init__()
        self.layer = layer
        self.name = name

    def forward(self, *args: Tensor) -> object:
        return getattr(self.layer, self.name)(*args)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kdim", [None, 3])
@pytest.mark.parametrize("kind", ["self", "cross", "apart"])
@pytest.mark.parametrize(("cls", "index"), [(LAYERS[0], i) for i in range(3)] + [(LAYERS[1], 0)])
def test_self_kernel_of_in_projections_is_identity(
    cls: type[Layer], index: int, kind: str, kdim: int | None, bias: bool
) -> None:
    if kdim is not None:
        kind = "apart"
    layer = make(cls, bias=bias, kdim=kdim, batch_first=True)
    args = tuple(x.detach() for x in inputs(True, True, "apart", kdim or E))
    if kind == "self":
        args = (args[0],) * 3
    if kind == "cross":
        args = (args[0], args[1], args[1])
    project = Method(layer, "_project")

    def token(parameters: dict[str, Tensor]) -> Tensor:
        named = {f"layer.{name}": p for name, p in parameters.items()}
        projected: tuple[Tensor, ...] = functional_call(project, named, args)
        return projected[index].transpose(1, 2).flatten(2)

    K = self_kernels(token, parameters_of(layer), E)
    close(K, torch.eye(E, dtype=torch.float64).expand_as(K))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cls", LAYERS)
def test_self_kernel_of_output_projection_is_identity(cls: type[Layer], bias: bool) -> None:
    layer = make(cls, bias=bias)
    args = tuple(x.detach() for x in inputs(True, False, "apart"))
    names = [n for n in parameters_of(layer) if n.startswith("out_proj")]
    parameters = {n: parameters_of(layer)[n] for n in names}
    K = self_kernels(lambda p: output_of(layer, p, args), parameters, E)
    close(K, torch.eye(E, dtype=torch.float64).expand_as(K))


def value_mix(
    layer: Layer, args: tuple[Tensor, ...], **call: Any
) -> tuple[Callable[[dict[str, Tensor]], Tensor], dict[str, Tensor]]:
    """Return y as a function of W_v, b_v, bias_v, and those parameters."""
    layer.add_module("out_proj", nn.Identity())
    everything = parameters_of(layer)
    packed = {n: p for n, p in everything.items() if n in ("in_proj_weight", "in_proj_bias")}
    values = {n: p.chunk(3)[2] for n, p in packed.items()}
    values |= {n: p for n, p in everything.items() if n in ("v_proj_weight", "bias_v")}

    def mix(parameters: dict[str, Tensor]) -> Tensor:
        whole = {n: torch.cat([*p.chunk(3)[:2], parameters[n]]) for n, p in packed.items()}
        whole |= {n: p for n, p in parameters.items() if n not in packed}
        torch.manual_seed(5)
        return output_of(layer, whole, args, **call)

    return mix, values


@pytest.mark.parametrize(("need_weights", "score_gauge"), [(True, True), (False, False)])
@pytest.mark.parametrize("vdim", [None, 10])
@pytest.mark.parametrize("options", FEW, ids=named)
@pytest.mark.parametrize("mask", ["none", "both", "causal padding"])
def test_self_kernel_of_value_mix_is_identity(
    mask: str, options: dict[str, bool], vdim: int | None, score_gauge: bool, need_weights: bool
) -> None:
    layer = make(LAYERS[1], vdim=vdim, score_gauge=score_gauge, **options)
    args = tuple(x.detach() for x in inputs(True, False, "apart", vdim=vdim or E))
    mix, values = value_mix(layer, args, need_weights=need_weights, **masks(mask, True, S))
    K = self_kernels(mix, values, E)
    close(K, torch.eye(E, dtype=torch.float64).expand_as(K))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("options", FEW, ids=named)
def test_self_kernel_of_value_mix_under_dropout_is_identity_or_zero(
    options: dict[str, bool], need_weights: bool
) -> None:
    layer = make(LAYERS[1], dropout=0.7, **options)
    args = tuple(x.detach() for x in inputs(True, False, "apart"))
    mix, values = value_mix(layer, args, need_weights=need_weights)
    K = self_kernels(mix, values, E)
    kept = torch.diagonal(K, dim1=1, dim2=2).round()
    assert set(kept.flatten().tolist()) == {0.0, 1.0} or bool((kept == 1).all())
    close(K, torch.diag_embed(kept))


def test_dropout_leaves_some_rows_empty_and_their_gradients_finite() -> None:
    layer = make(LAYERS[1], dropout=0.9)
    args = inputs(True, False, "apart")
    layer.add_module("out_proj", nn.Identity())
    torch.manual_seed(5)
    for need_weights in (True, False):
        y = layer(*args, need_weights=need_weights)[0].unflatten(-1, (H, D))
        empty = (y == 0).all(dim=-1)
        assert bool(empty.any())
        assert not bool(empty.all())
        leaves = [*args, *layer.parameters()]
        for gradient in torch.autograd.grad(y.sum(), leaves):
            assert bool(gradient.isfinite().all())


def test_zero_row_of_the_masks_has_finite_gradients() -> None:
    layer = make(LAYERS[1])
    args = inputs(True, False, "apart")
    mask = torch.zeros(L, S, dtype=torch.bool)
    mask[2] = True
    output, _ = layer(*args, attn_mask=mask, need_weights=False)
    close(output[2].detach(), layer.state_dict()["out_proj.bias"].expand(N, E))
    for gradient in torch.autograd.grad(output.sum(), [*args, *layer.parameters()]):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("eta", [1e-3, 1.0, 50.0])
def test_one_step_moves_the_value_mix_by_the_true_step(eta: float) -> None:
    layer = make(LAYERS[1], add_bias_kv=True, add_zero_attn=True)
    args = tuple(x.detach() for x in inputs(True, False, "apart"))
    mix, values = value_mix(layer, args, **masks("both", True, S))
    g = random(E)
    gradients = grad(lambda p: mix(p)[1, 2] @ g)(values)
    moved = {n: p - eta * gradients[n] for n, p in values.items()}
    torch.testing.assert_close(
        mix(moved)[1, 2] - mix(values)[1, 2], -eta * g, rtol=1e-12, atol=1e-12 * eta
    )


@pytest.mark.parametrize("need_weights", [True, False])
def test_value_mix_does_not_see_the_scale_of_a_row(need_weights: bool) -> None:
    args = inputs(True, False, "apart")
    wanted = make(LAYERS[1])(*args, need_weights=need_weights)[0]
    close(make(LAYERS[1], add_zero_attn=True)(*args, need_weights=need_weights)[0], wanted)


def test_uncorrected_value_mix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    args = tuple(x.detach() for x in inputs(True, False, "apart"))
    gauge = mha._value_mix_gauge
    wrong = {
        "none": lambda r_bar: r_bar.new_ones(()),
        "no bias": lambda r_bar: gauge(r_bar[..., :-1]),
        "squared": lambda r_bar: gauge(r_bar).square(),
        "rows sum to one": lambda r_bar: gauge(
            torch.nn.functional.pad(r_bar[..., :-1], (0, 1), value=1.0)
        ),
    }
    for name, corrupted in wrong.items():
        monkeypatch.setattr(mha, "_value_mix_gauge", corrupted)
        layer = make(LAYERS[1], add_zero_attn=True)
        mix, values = value_mix(layer, args)
        K = self_kernels(mix, values, E)
        assert float((K - torch.eye(E)).abs().max()) > 1e-3, name


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"bias": False}])
@pytest.mark.parametrize("cls", LAYERS)
def test_self_kernel_of_gauged_score_is_one(
    cls: type[Layer], options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(cls, score_gauge=True, batch_first=True, **options)
    args = tuple(x.detach() for x in inputs(True, True, "self"))
    softmax = torch.nn.functional.softmax
    seen: list[Tensor] = []

    def spy(scores: Tensor, dim: int) -> Tensor:
        seen.append(scores)
        return softmax(scores, dim=dim)

    monkeypatch.setattr(torch.nn.functional, "softmax", spy)

    def scores(parameters: dict[str, Tensor]) -> Tensor:
        functional_call(layer, parameters, args)
        return seen.pop()

    K = self_kernels(scores, parameters_of(layer), 1)
    assert K.size(0) == N * H * L * (L + int("add_bias_kv" in options))
    close(K, torch.ones_like(K))


@pytest.mark.parametrize("cls", LAYERS)
def test_score_gauge_is_frozen_and_applies_without_weights(cls: type[Layer]) -> None:
    layer = make(cls, score_gauge=True)
    args = inputs(True, False, "apart")
    close(layer(*args, need_weights=False)[0], layer(*args)[0])
    difference = layer(*args)[0] - make(cls)(*args)[0]
    assert float(difference.detach().abs().max()) > 1e-6
    q, k = random(N, H, L, D).requires_grad_(), random(N, H, S, D).requires_grad_()
    assert not mha._score_gauge(q, k).requires_grad
    x = q.detach()
    tangent = jvp(lambda q: mha._score_gauge(q, k.detach()), (x,), (torch.ones_like(x),))[1]
    close(tangent, torch.zeros_like(tangent))


@pytest.mark.parametrize("score_gauge", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cls", LAYERS)
def test_zero_inputs_have_finite_gradients(cls: type[Layer], bias: bool, score_gauge: bool) -> None:
    layer = make(cls, bias=bias, score_gauge=score_gauge)
    for need_weights in (True, False):
        x = torch.zeros(L, N, E, dtype=torch.float64)
        x[1:3] = random(2, N, E)
        x.requires_grad_()
        for args in ((x, x, x), (x * 0, x * 0, x * 0)):
            output, _ = layer(*args, need_weights=need_weights)
            for gradient in torch.autograd.grad(output.sum(), [x, *layer.parameters()]):
                assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("cls", LAYERS)
def test_one_token_norm_for_self_attention(
    cls: type[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    gauge = mha._affine_gauge

    def spy(x: Tensor, has_bias: bool) -> Tensor:
        calls.append(x)
        return gauge(x, has_bias)

    monkeypatch.setattr(mha, "_affine_gauge", spy)
    for batched, batch_first in itertools.product([True, False], repeat=2):
        calls.clear()
        make(cls, batch_first=batch_first)(*inputs(batched, batch_first, "self"))
        assert len(calls) == 2  # the tokens, the output projection


# The formulas


@pytest.mark.parametrize("score_gauge", [True, False])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize(
    "options", [*FEW, {"kdim": 7, "vdim": 10, "add_bias_kv": True}, {"bias": False}]
)
@pytest.mark.parametrize("cls", LAYERS)
def test_output_is_that_of_the_derived_formulas(
    cls: type[Layer], options: dict[str, Any], mask: bool, score_gauge: bool
) -> None:
    layer = make(cls, batch_first=True, score_gauge=score_gauge, **options)
    widths = (E, options.get("kdim", E), options.get("vdim", E))
    args = tuple(random(N, L, width) for width in widths)
    additive = random(L, L) if mask else None
    if additive is not None:
        additive[0, -1] = -torch.inf
    wanted = evaluate_attention(derived(), layer, args, additive, cls is LAYERS[1])
    for need_weights in (True, False):
        found = layer(*args, attn_mask=additive, need_weights=need_weights)[0]
        close(found.detach(), torch.from_numpy(wanted))


# What users do to layers

USES = [
    {},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"bias": False},
    {"kdim": 7, "vdim": 10},
    {"score_gauge": True},
]


def self_or_cross(options: dict[str, Any]) -> tuple[Tensor, ...]:
    args = inputs(True, False, "apart", options.get("kdim", E), options.get("vdim", E))
    return tuple(x.detach() for x in args)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("options", USES)
@pytest.mark.parametrize("cls", LAYERS)
def test_autocast_types_are_those_of_torch(
    cls: type[Layer], options: dict[str, Any], need_weights: bool
) -> None:
    layer = cls(E, H, **options)
    twin_options = {k: v for k, v in options.items() if k != "score_gauge"}
    twin = nn.MultiheadAttention(E, H, **twin_options)
    args = tuple(x.float() for x in self_or_cross(options))
    call = {"key_padding_mask": torch.zeros(N, S).bool(), "need_weights": need_weights}
    exact = layer(*args, **call)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = layer(*args, **call), twin(*args, **call)
        found[0].float().square().sum().backward()
    assert found[0].dtype == wanted[0].dtype == torch.bfloat16
    assert (found[1] is None) == (wanted[1] is None)
    if found[1] is not None:
        assert found[1].dtype == wanted[1].dtype
    # bfloat16 keeps 8 bits; four roundings of values of order one.
    torch.testing.assert_close(found[0].float(), exact, rtol=2**-6, atol=2**-6)
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", USES)
@pytest.mark.parametrize("cls", LAYERS)
def test_half_precision_accumulates_in_float32(
    cls: type[Layer], options: dict[str, Any], dtype: torch.dtype
) -> None:
    layer = cls(E, H, dtype=dtype, **options)
    # ||x||^2 = 2e6 overflows float16, and W x itself does not.
    args = tuple(x.to(dtype).sign() * 500 for x in self_or_cross(options))
    wanted = copy.deepcopy(layer).double()(*(x.double() for x in args))[0]
    for need_weights in (True, False):
        output, _ = layer(*args, need_weights=need_weights)
        assert output.dtype == dtype
        torch.testing.assert_close(output.double(), wanted, rtol=2**-5, atol=2**-5)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("options", USES)
@pytest.mark.parametrize("cls", LAYERS)
def test_empty_batch(cls: type[Layer], options: dict[str, Any], need_weights: bool) -> None:
    layer = make(cls, **options)
    args = tuple(x[:, :0].requires_grad_() for x in self_or_cross(options))
    padding, attn = torch.zeros(0, S, dtype=torch.bool), torch.zeros(0, L, S, dtype=torch.bool)
    for call in ({}, {"key_padding_mask": padding, "attn_mask": attn}):
        output, weights = layer(*args, need_weights=need_weights, **call)
        assert output.shape == (L, 0, E)
        assert weights is None or weights.shape[:2] == (0, L)
        output.sum().backward()


@pytest.mark.parametrize("cls", LAYERS)
def test_modes_are_one_function(cls: type[Layer]) -> None:
    layer = make(cls, batch_first=True)
    x = random(N, L, E)
    wanted = layer(x, x, x)[0]
    with torch.inference_mode():
        close(layer.eval()(x, x, x)[0], wanted.detach())
    close(layer(x, x.clone(), x.clone())[0], wanted)
    close(layer(x[0], x[0], x[0])[0], wanted[0])


@pytest.mark.parametrize("cls", LAYERS)
def test_errors_name_what_is_wrong(cls: type[Layer]) -> None:
    for sizes in ((8, 3), (0, 2), (8, 0)):
        with pytest.raises(ValueError, match="embed_dim"):
            cls(*sizes)
    assert cls(1, 1).out_proj.weight.shape == (1, 1)
    layer = make(cls)
    query, key, value = (x.detach() for x in inputs(True, False, "apart"))
    with pytest.raises(RuntimeError, match="is_causal"):
        layer(query, key, value, is_causal=True)
    with pytest.raises(ValueError, match="got 3-D, 2-D and 3-D"):
        layer(query, key[0], value)
    with pytest.raises(ValueError, match="got 4-D, 4-D and 4-D"):
        layer(query[None], key[None], value[None])
    with pytest.raises(ValueError, match="length"):
        layer(query, key, value[1:])
    with pytest.raises(ValueError, match="batch size"):
        layer(query[:, :1], key, value)
    with pytest.raises(ValueError, match="key_padding_mask must have shape"):
        layer(query, key, value, key_padding_mask=torch.zeros(S, N))
    with pytest.raises(ValueError, match="attn_mask must have shape"):
        layer(query, key, value, attn_mask=torch.zeros(1, S))
    with pytest.raises(ValueError, match="attn_mask must be bool"):
        layer(query, key, value, attn_mask=torch.zeros(L, S, dtype=torch.int64))


@pytest.mark.parametrize("cls", LAYERS)
def test_repr_shows_the_arguments(cls: type[Layer]) -> None:
    text = repr(make(cls, bias=False, kdim=3, score_gauge=True))
    for part in (cls.__name__, "embed_dim=8", "bias=False", "kdim=3", "score_gauge=True"):
        assert part in text
    for bias in (True, False):
        assert f"(features=8, bias={bias})" in repr(make(cls, bias=bias).out_proj)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cls", LAYERS)
def test_the_output_projection_is_reset_as_that_of_torch(cls: type[Layer], bias: bool) -> None:
    found = make(cls, bias=bias).out_proj
    twin = nn.Linear(E, E, bias=bias, dtype=torch.float64)
    for projection in (found, twin):
        torch.manual_seed(3)
        projection.reset_parameters()
    for name, wanted in twin.named_parameters():
        close(getattr(found, name), wanted)


@pytest.mark.parametrize(("options", "need_weights"), [(USES[1], True), (USES[0], False)])
@pytest.mark.parametrize("cls", LAYERS)
def test_compile(cls: type[Layer], options: dict[str, Any], need_weights: bool) -> None:
    torch._dynamo.reset()
    layer = make(cls, **options)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    args = self_or_cross(options)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for take in (slice(None), slice(0, 2)):
            batch = tuple(x[:, take].clone().requires_grad_() for x in args)
            padding = torch.zeros(batch[0].size(1), S, dtype=torch.bool)
            padding[0, -1] = True
            call = {"key_padding_mask": padding, "need_weights": need_weights}
            found, wanted = compiled(*batch, **call), layer(*batch, **call)
            close(found, wanted)
            for a, b in zip(
                torch.autograd.grad(found[0].square().sum(), batch),
                torch.autograd.grad(wanted[0].square().sum(), batch),
                strict=True,
            ):
                close(a, b)


@pytest.mark.parametrize(
    ("options", "need_weights", "strict"), [(USES[1], True, False), (USES[4], False, False)]
)
@pytest.mark.parametrize("cls", LAYERS)
def test_export(
    cls: type[Layer], options: dict[str, Any], need_weights: bool, strict: bool
) -> None:
    layer = make(cls, **options).eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    args = self_or_cross(options)
    program = torch.export.export(
        layer,
        args,
        {"need_weights": need_weights},
        dynamic_shapes={
            "query": {1: batch},
            "key": {1: batch},
            "value": {1: batch},
            "need_weights": None,
        },
        strict=strict,
    )
    other = tuple(torch.cat([x, x], dim=1) for x in args)
    close(
        program.module()(*other, need_weights=need_weights),
        layer(*other, need_weights=need_weights),
    )


# The fused kernel has no batching rule on the CPU: torch loops over the samples and says so.
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("options", USES)
@pytest.mark.parametrize("cls", LAYERS)
def test_func(cls: type[Layer], options: dict[str, Any]) -> None:
    layer = make(cls, **options)
    args = self_or_cross(options)
    parameters = parameters_of(layer)

    def output(parameters: dict[str, Tensor], *args: Tensor) -> Tensor:
        return output_of(layer, parameters, args)

    wanted = layer(*args)[0].detach()
    close(vmap(output, in_dims=(None, 1, 1, 1), out_dims=1)(parameters, *args), wanted)
    fused = vmap(lambda *a: layer(*a, need_weights=False)[0], in_dims=(1, 1, 1), out_dims=1)(*args)
    close(fused.detach(), wanted)

    def loss(parameters: dict[str, Tensor], *args: Tensor) -> Tensor:
        return output(parameters, *args).sin().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 1, 1, 1))(parameters, *args)
    summed = {name: g.sum(dim=0) for name, g in per_sample.items()}
    gradients = grad(loss)(parameters, *args)
    close(summed, gradients)

    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}
    slope = jvp(lambda p: loss(p, *args), (parameters,), (tangents,))[1]
    wanted = torch.stack([(gradients[n] * tangents[n]).sum() for n in parameters]).sum()
    close(slope, wanted)

    def fused_loss(parameters: dict[str, Tensor]) -> Tensor:
        return output_of(layer, parameters, args, need_weights=False).sin().sum()

    with sdpa_kernel(SDPBackend.MATH):
        close(jvp(fused_loss, (parameters,), (tangents,))[1], wanted)


@pytest.mark.parametrize("options", USES[:-1])
@pytest.mark.parametrize("cls", LAYERS)
def test_double_backward(cls: type[Layer], options: dict[str, Any]) -> None:
    layer = make(cls, **options)
    args = tuple(x[:3, :2].contiguous().requires_grad_() for x in self_or_cross(options))
    names = list(parameters_of(layer))
    leaves = [p.detach().requires_grad_() for p in layer.parameters()]

    def output(*tensors: Tensor, need_weights: bool = True) -> Tensor:
        named = dict(zip(names, tensors[3:], strict=True))
        return output_of(layer, named, tensors[:3], need_weights=need_weights)

    assert torch.autograd.gradcheck(output, (*args, *leaves), fast_mode=True)
    assert torch.autograd.gradgradcheck(output, (*args, *leaves), fast_mode=True)
    with sdpa_kernel(SDPBackend.MATH):
        fused = partial(output, need_weights=False)
        assert torch.autograd.gradgradcheck(fused, (*args, *leaves), fast_mode=True)


@pytest.mark.parametrize("cls", LAYERS)
def test_double_backward_with_frozen_score_gauge(
    cls: type[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(cls, score_gauge=True)
    args = tuple(x[:3, :2].contiguous().requires_grad_() for x in self_or_cross({}))
    fixed = mha._score_gauge(random(2, H, 3, D), random(2, H, 3, D))
    monkeypatch.setattr(mha, "_score_gauge", lambda q, k: fixed)
    assert torch.autograd.gradgradcheck(lambda *a: layer(*a)[0], args)


@pytest.mark.parametrize("cls", LAYERS)
def test_hessian(cls: type[Layer]) -> None:
    layer = make(cls)
    x = random(2, 2, E)
    H_ = hessian(lambda x: layer(x, x, x)[0].sin().sum())(x).reshape(x.numel(), x.numel())
    assert bool(H_.isfinite().all())
    close(H_, H_.T)


@pytest.mark.parametrize("options", USES)
@pytest.mark.parametrize("cls", LAYERS)
def test_contracts(cls: type[Layer], options: dict[str, Any]) -> None:
    args = self_or_cross(options)
    found = Example(cls, (E, H), args, (False,) * 3, False, 1e-12, options)
    for contract in CONTRACTS.values():
        if contract.applies(found):
            assert broken(contract, found) == ""


def self_attention(cls: type[Layer], bias: bool) -> Example:
    options = {"batch_first": True, "bias": bias}
    args, twin = (random(N, L, E),) * 3, nn.MultiheadAttention
    return Example(cls, (E, H), args, (True,) * 3, True, 1e-12, options, twin)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cls", LAYERS)
def test_contracts_of_self_attention(cls: type[Layer], bias: bool) -> None:
    for contract in CONTRACTS.values():
        assert broken(contract, self_attention(cls, bias)) == ""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cls", LAYERS)
def test_compiled_self_attention_keeps_contracts(cls: type[Layer], bias: bool) -> None:
    for contract in COMPILERS.values():
        assert broken(contract, self_attention(cls, bias)) == ""
