"""A backward pass that is not the derivative is refused by the exact reading of the file."""

import functools
from pathlib import Path

import pytest

from codegen import generate
from codegen.gate import GateError, check
from derive.spec import load_spec
from verify.emitted import prove
from verify.results import VerificationError

SPECS = Path(__file__).resolve().parents[2] / "truestep" / "specs"
SOUND = ("linear", "residual_linear", "layer_norm_linear", "conv1d", "depthwise_conv2d")
DERIVATIVE = "the backward pass is not the derivative"
SECOND = "second derivatives start from another"
GAUGE = "            scale = _affine_like_linear_gauge(x, bias)"
CONSTANT = "            scale = scale"
KEPT = "ctx.save_for_backward(x, weight, bias, scale, 2 * z)"
MASK = "ctx.needs_input_grad[:3]"
WRONG = {
    "power of the scale": ("scale.square()", "scale", DERIVATIVE),
    "sign": (".unsqueeze(-1), -1)", ".unsqueeze(-1), 1)", DERIVATIVE),
    "upstream for its scaled form": ("u @ weight", "grad @ weight", DERIVATIVE),
    "gradient of the bias": ("_rows(u).sum(0)", "_rows(grad).sum(0)", DERIVATIVE),
    "gradient of the weight": (".mT @ _rows(x)", ".mT @ (2 * _rows(x))", DERIVATIVE),
    "dropped bias term": ("u @ bias + ", "", DERIVATIVE),
    "dropped constant": ("ctx.radius**-2 * ", "", DERIVATIVE),
    "scale that counts as constant": (GAUGE, CONSTANT, SECOND),
    "a gradient too few": ("return dx, dweight, dbias\n", "return dx, dweight, None\n", "each"),
    "forward pass": ("z = F.linear(x, weight, bias)", "z = F.linear(x, -weight, bias)", DERIVATIVE),
    "kept beside": ("ctx.radius = radius", "ctx.weight = weight", "save_for_backward only"),
}


@functools.cache
def source(name):
    return generate(load_spec(SPECS / f"{name}.toml"))


@pytest.mark.parametrize("name", SOUND)
def test_what_is_emitted_is_proved(name):
    assert "autograd.Function" in source(name).text
    assert prove(source(name).text, source(name)).points > 0


@pytest.mark.parametrize(("old", "new", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_backward_pass_is_refused(old, new, reason):
    text = source("linear").text
    assert old in text
    with pytest.raises(VerificationError, match=reason):
        prove(text.replace(old, new, 1), source("linear"))


WRONG_WINDOWS = {
    "power of the scale": ("a * scale.square()", "a * scale", DERIVATIVE),
    "sign": ("h.addcmul_(x, factor, value=sign)", "h.addcmul_(x, factor, value=-sign)", DERIVATIVE),
    "sign of second derivatives": ("h, x, factor, value=sign", "h, x, factor, value=-sign", SECOND),
    "spread at other places": ("before = reach - padding[axis]", "before = reach", "broadcast"),
    "what is kept": ("ctx.save_for_backward(x, weight, bias, scale, z)", KEPT, DERIVATIVE),
    "z that counts as constant": ("            z = F.conv1d(\n", "            F.conv1d(\n", SECOND),
    "a gradient that is not asked for": (MASK, "(True, False, True)", "a gradient for each"),
}


@pytest.mark.parametrize(("old", "new", "reason"), WRONG_WINDOWS.values(), ids=WRONG_WINDOWS)
def test_a_wrong_backward_pass_of_windows_is_refused(old, new, reason):
    text = source("conv1d").text
    assert old in text
    with pytest.raises(VerificationError, match=reason):
        prove(text.replace(old, new, 1), source("conv1d"))


def test_a_range_that_is_not_kept_is_read_too():
    text = source("linear").text
    wide = "return wide_norm.square()"
    assert wide in text
    with pytest.raises(VerificationError, match=r"another value|not the derivative|not positive"):
        prove(text.replace(wide, "return 4 * wide_norm.square()"), source("linear"))


GATED = {
    "a base that is neither": ("(torch.autograd.Function)", "(torch.autograd.Other)"),
    "another method": ("def backward(ctx", "def setup_context(ctx"),
    "no static method": ("    @staticmethod\n", ""),
    "another decorator": ("@staticmethod", "@classmethod"),
    "another context": ("def backward(ctx: Any", "def backward(context: Any"),
    "what a context does not have": ("ctx.saved_tensors", "ctx.to_save"),
    "an input changed in place": ("return _times(z, ", "return x.mul_("),
    "a private question": ("torch._C._is_tracing()", "torch._C._jit_clear_class_registry()"),
    "another method of the class": ("Function.apply(", "Function.vmap("),
}


@pytest.mark.parametrize(("old", "new"), GATED.values(), ids=GATED)
def test_the_gate_refuses(old, new):
    text = source("linear").text
    assert old in text
    check(text)
    with pytest.raises(GateError):
        check(text.replace(old, new, 1))
