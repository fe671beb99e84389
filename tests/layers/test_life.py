"""What users do to a module between building it and throwing it away."""

import copy
import inspect
import io
import pickle
import re

import pytest
import torch
from torch import nn

from tests.layers.cases import ALL, TWINS

every = pytest.mark.parametrize("case", ALL, ids=str)


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@every
def test_no_buffers_and_only_parameters_in_the_state(case):
    module = case.build()
    assert not list(module.buffers())
    assert list(module.state_dict()) == [name for name, _ in module.named_parameters()]


@every
def test_same_values_from_the_same_seed_and_from_a_reset(case):
    module = case.build()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(float("nan"))
    torch.manual_seed(0)
    module.reset_parameters()
    for name, value in module.state_dict().items():
        same(value, before[name])
        assert value.isfinite().all()


@every
def test_meta_device_then_to_empty_then_reset(case):
    module = case.build(device="meta")
    assert all(p.is_meta for p in module.parameters())
    module = module.to_empty(device="cpu")
    torch.manual_seed(0)
    module.reset_parameters()
    for a, b in zip(module.parameters(), case.build().parameters(), strict=True):
        same(a, b)
    with torch.device("meta"):
        assert all(p.is_meta for p in case.build().parameters())


@every
def test_meta_inputs_give_meta_outputs(case):
    module = case.build(device="meta")
    shape = case.build()(*case.inputs()).shape
    out = module(*(x.to("meta") for x in case.inputs()))
    assert out.is_meta
    assert out.shape == shape


@every
def test_skip_init_makes_parameters_and_no_values(case):
    module = nn.utils.skip_init(case.cls, *case.args, **case.kwargs)
    wanted = case.build()
    assert {k: v.shape for k, v in module.state_dict().items()} == {
        k: v.shape for k, v in wanted.state_dict().items()
    }
    module.load_state_dict(wanted.state_dict())
    same(module(*case.inputs()), wanted(*case.inputs()))


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_of_the_constructor(case, dtype):
    module = case.build(dtype=dtype)
    assert {p.dtype for p in module.parameters()} == {dtype}


@every
def test_deepcopy_and_pickle(case):
    module = case.build()
    wanted = module(*case.inputs())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copies = (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    )
    for other in copies:
        same(other(*case.inputs()), wanted)
        for a, b in zip(other.parameters(), module.parameters(), strict=True):
            assert a is not b


@every
def test_train_and_eval_are_one_function(case):
    module = case.build()
    before = copy.deepcopy(module.state_dict())
    first = module.train()(*case.inputs())
    same(module.eval()(*case.inputs()), first)
    same(module.train()(*case.inputs()), first)
    for name, value in module.state_dict().items():
        same(value, before[name])


@every
def test_repr_rebuilds_the_layer(case):
    module = case.build()
    again = eval(repr(module), {case.name: case.cls})
    assert repr(again) == repr(module)
    assert repr(module).count("\n") == 0
    for a, b in zip(again.parameters(), module.parameters(), strict=True):
        assert a.shape == b.shape
    shown = set(re.findall(r"(\w+)=", module.extra_repr()))
    wanted = set(inspect.signature(case.cls).parameters) - {"device", "dtype"}
    assert shown == wanted


@every
def test_documented(case):
    doc = inspect.getdoc(case.cls)
    for word in ("corrected", "c = ", "Not corrected: interference", "Source:", "Args:", "Shape:"):
        assert word in doc
    for name in inspect.signature(case.cls).parameters:
        assert re.search(rf"^\s+(?:[\w, ]+, )?{name}\b", doc, re.MULTILINE), name


@every
def test_a_relu_in_place_after_the_layer(case):
    module = case.build(dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in case.inputs(torch.float64))
    leaves = (*inputs, *module.parameters())
    plain = torch.autograd.grad(torch.relu(module(*inputs)).sum(), leaves, allow_unused=True)
    placed = torch.autograd.grad(torch.relu_(module(*inputs)).sum(), leaves, allow_unused=True)
    for a, b in zip(plain, placed, strict=True):
        same(a, b)


@every
def test_inputs_are_left_alone(case):
    inputs = case.inputs()
    kept = [x.clone() for x in inputs]
    case.build()(*inputs)
    for x, y in zip(inputs, kept, strict=True):
        same(x, y)


@pytest.mark.parametrize("case", TWINS, ids=str)
def test_empty_batch(case):
    module, twin = case.build(), case.build_twin()
    inputs = tuple(x[:0].requires_grad_() for x in case.inputs())
    out = module(*inputs)
    assert out.shape == twin(*inputs).shape
    out.sum().backward()
    for leaf in (*inputs, *module.parameters()):
        assert leaf.grad is not None
        assert not leaf.grad.any()
