"""The attention module follows its spec: other lines give other gauges, with the same template."""

import dataclasses

import pytest
import torch
from torch.func import functional_call, jacrev

import codegen.attention
from codegen import NothingToGenerate, generate
from codegen.attention import generate_attention
from codegen.attention_stages import AttentionError
from derive.errors import SpecError
from derive.spec import load_spec
from tests.support import SPEC_FILES
from verify.load import load_module

SPEC = load_spec(SPEC_FILES["multihead_attention"])
CHANGES = {
    "bias of the query": ("+ a[(h, d)]", "+ 2*a[(h, d)]", "torch.rsqrt(4 + energy)"),
    "bias of the value": ("+ c[(h, d)]", "+ 2*c[(h, d)]", "F.pad(value, (0, 1), value=2.0)"),
    "weight of the value": ("V[(h, d), j]*x", "3*V[(h, d), j]*x", "torch.rsqrt(1 + 9 * energy)"),
    "input of the value": ("*x[n, u, j] + c", "*tanh(x[n, u, j]) + c", "torch.tanh(value)"),
    "factor of the score": ("k[n, u, h, d]/", "k[n, u, h, d]*3/", "9 * energy"),
    "no factor of the score": ("/sqrt(size(d))", "", "scale=1,"),
}


def changed(before, after):
    assert before in SPEC.forward
    return SPEC.with_(forward=SPEC.forward.replace(before, after))


def layers(text):
    module = load_module(text, "multihead_attention")
    for name in ("AffineLikeMultiheadAttention", "ValueMixMultiheadAttention"):
        torch.manual_seed(0)
        yield getattr(module, name)(6, 2, batch_first=True, score_gauge=True, dtype=torch.float64)


def self_kernel(function, parameters, units):
    blocks = [
        j.reshape(-1, units, parameters[n].numel()) for n, j in jacrev(function)(parameters).items()
    ]
    flat = torch.cat(blocks, dim=-1)
    return flat @ flat.mT


class Scores(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") == "softmax":
            self.scores = args[0]
        return func(*args, **(kwargs or {}))


class Projected(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        q, k, v = self.layer._project(x, x, x)
        return q, k, v[..., :3]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_lines_give_other_gauges(change):
    before, after, wanted = change
    text = generate(changed(before, after)).text
    assert wanted in text
    assert wanted not in generate(SPEC).text
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    for number, layer in enumerate(layers(text)):
        own = {f"layer.{n}": p.detach() for n, p in layer.named_parameters()}
        for index in (0, 1, 2)[: 3 - number]:
            kernel = self_kernel(
                lambda p, i=index, y=layer: functional_call(Projected(y), p, x)[i], own, 3
            )
            torch.testing.assert_close(kernel, torch.eye(3).double().expand_as(kernel))
        own = {n: p.detach() for n, p in layer.named_parameters()}

        def scores(parameters, layer=layer):
            with Scores() as seen:
                functional_call(layer, parameters, (x, x, x))
            return seen.scores

        kernel = self_kernel(scores, own, 1)
        torch.testing.assert_close(kernel, torch.ones_like(kernel))
        if number == 1:
            layer.out_proj = torch.nn.Identity()
            value = {n: p.detach() for n, p in layer.named_parameters()}
            third = {n: p.chunk(3)[2] for n, p in value.items()}

            def mix(parameters, layer=layer, value=value):
                whole = {n: torch.cat([*p.chunk(3)[:2], parameters[n]]) for n, p in value.items()}
                return functional_call(layer, whole, (x, x, x))[0]

            kernel = self_kernel(mix, third, 3)
            torch.testing.assert_close(kernel, torch.eye(3).double().expand_as(kernel))


def test_equal_gauges_are_shared_and_others_are_not():
    assert "_project_corrected" in generate(SPEC).text
    text = generate(changed("+ a[(h, d)]", "+ 2*a[(h, d)]")).text
    assert "_project_corrected" not in text
    assert "_affine_gauge" not in text
    assert "q = _query_projection(query, *self._in_proj(0))" in text


def test_general_lowering_is_the_same_layer():
    one, other = generate(SPEC), generate(SPEC, general=True)
    assert "F.linear" not in other.text
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    for ours, theirs in zip(layers(one.text), layers(other.text), strict=True):
        torch.testing.assert_close(ours(x, x, x), theirs(x, x, x), rtol=1e-13, atol=1e-13)


def test_classes_and_their_corrections():
    source = generate(SPEC)
    assert [(c.name, c.kind) for c in source.classes] == [
        ("AffineLikeMultiheadAttention", "affine-like"),
        ("ValueMixMultiheadAttention", "value-mix"),
    ]
    assert all(set(c.corrections) == set(source.derivations) for c in source.classes)
    assert {
        s.correction.exactness for (n, _), s in source.attention.stages.items() if n == "score"
    } == {"frozen"}
    assert {
        s.correction.exactness for (n, _), s in source.attention.stages.items() if n != "score"
    } == {"exact"}


def test_unknown_layout_is_refused():
    with pytest.raises(SpecError, match="unknown layout `ring`") as caught:
        SPEC.with_(layout="ring")
    assert "attention" in str(caught.value)


def test_layout_is_part_of_the_digest():
    assert SPEC.layout == "attention"
    assert SPEC.with_(layout="").digest != SPEC.digest


def test_missing_stage_is_named():
    stages = {k: v for k, v in SPEC.stages.items() if k != "mix"}
    with pytest.raises(SpecError, match="needs the stage `mix`"):
        generate(SPEC.with_(stages=stages))


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ("= w[n, h", "= 2*w[n, h", "the mix must be"),
        ("= q[n, t, h, d]*k", "= q[n, t, h, d] + k", "no multiple"),
    ],
)
def test_lines_of_another_layer_are_refused(before, after, match):
    with pytest.raises(AttentionError, match=match):
        generate(changed(before, after))


def test_stage_without_a_correction_stops_with_the_reason(monkeypatch):
    attention = codegen.attention.derive_attention(SPEC)
    stage = attention.stages["key", True]
    refused = tuple(
        dataclasses.replace(c, applies=False, reason="because")
        for c in stage.derivation.corrections
    )
    derivation = dataclasses.replace(stage.derivation, corrections=refused)
    stages = {**attention.stages, ("key", True): dataclasses.replace(stage, derivation=derivation)}
    broken = dataclasses.replace(attention, stages=stages)
    monkeypatch.setattr(codegen.attention, "derive_attention", lambda spec: broken)
    with pytest.raises(NothingToGenerate, match="the stage key: because"):
        generate_attention(SPEC)
