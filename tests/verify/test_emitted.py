"""An emitted file is proved from its syntax tree; whatever it does otherwise is refused."""

from __future__ import annotations

import builtins
import functools
from pathlib import Path
from typing import Any

import pytest

from codegen import generate
from derive.spec import load_spec, read_spec
from tests.codegen.specs import SPECS as MANY
from verify.emitted import Prover, prove, read
from verify.emitted_configurations import CONFIGURATIONS
from verify.emitted_layer import KINDS
from verify.results import VerificationError
from verify.tolerances import TOLERANCES

SPECS = Path(__file__).parents[2] / "truestep" / "specs"
NOTHING_GENERATED = ("embedding",)
NAMES = sorted(p.stem for p in SPECS.glob("*.toml") if p.stem not in NOTHING_GENERATED)


@functools.cache
def source(name: str) -> Any:
    return generate(load_spec(SPECS / f"{name}.toml"))


@functools.cache
def prover(name: str) -> Prover:
    return Prover.of(source(name))


def refused(name: str, old: str, new: str, reason: str = ".") -> None:
    """The text with one change is refused, for a reason."""
    text = source(name).text
    assert old in text, f"{old!r} is not in the text"
    with pytest.raises(VerificationError, match=reason):
        prover(name).judge(text.replace(old, new))


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_file_is_proved(name: str) -> None:
    proof = prover(name).judge(source(name).text)
    assert proof.bits >= TOLERANCES.emitted_bits
    kinds = len(CONFIGURATIONS) if name == "multihead_attention" else len(KINDS)
    assert proof.points == kinds * len(prover(name).subjects)


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("number", range(0, len(MANY), 9))
def test_other_specs_are_proved_in_both_lowerings(number: int, general: bool) -> None:
    made = generate(MANY[number], general=general)
    assert prove(made.text, made).bits >= TOLERANCES.emitted_bits


NUMBERS = {
    "log(2)*W*x[n] + 1": "math.log(2)",
    "W*x[n]/log(0.5)": "math.log(2)",
    "tanh(2)*W*x[n] + erf(1)*V": "math.erf(1)",
    "exp(2)*W*x[n] + exp(x[n])*V": "math.exp(2)",
}


@pytest.mark.parametrize("formula", NUMBERS)
def test_functions_of_numbers_are_written_as_such_and_proved(formula: str) -> None:
    names = [name for name in "WV" if name in formula]
    parameters = "".join(f'{name} = {{ torch = "{name.lower()}" }}\n' for name in names)
    text = f'name = "OfNumbers"\nforward = "z[n] = {formula}"\nsite = "n"\nunit = ""\n'
    made = generate(read_spec(f"{text}[parameters]\n{parameters}"))
    assert NUMBERS[formula] in made.text
    assert prove(made.text, made).bits >= TOLERANCES.emitted_bits
    with pytest.raises(VerificationError):
        prove(made.text.replace(f" {NUMBERS[formula]}", " 2", 1), made)


def test_a_file_proves_no_other_layer() -> None:
    with pytest.raises(VerificationError):
        prover("scale").judge(source("linear").text)
    with pytest.raises(VerificationError):
        prover("rms_norm_linear").judge(source("layer_norm_linear").text)


def test_the_same_seed_gives_the_same_proof() -> None:
    text = source("linear").text
    assert prove(text, source("linear")) == prove(text, source("linear"))


# ---------------------------------------------------------------------- power
@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("linear", "torch.rsqrt(1 + energy)", "torch.rsqrt(1 - energy)", "value|roots"),
        ("linear", "torch.rsqrt(1 + energy)", "torch.rsqrt(2 + energy)", "value|roots"),
        ("linear", "torch.rsqrt(1 + energy)", "(1 + energy).reciprocal()", "value"),
        ("linear", "radius * ", "", "value"),
        ("linear", "if self.bias is None:", "if self.bias is not None:", "value|roots"),
        ("linear", "self.weight, self.bias)", "self.weight)", "value"),
        ("linear", "radius: float = 1.0", "radius: float = 2.0", "value"),
        ("scale", "degree == 2", "degree == 1", "value|roots"),
        ("conv2d", "stride=self.stride", "stride=self.dilation", "value|shape|fit|larger"),
        ("conv2d", "groups=self.groups", "groups=1", "groups"),
        ("conv_transpose1d", "output_padding=self.output_padding,", "", "shape"),
        ("low_rank", ").detach()\n        corrected", ")\n        corrected", "derivative"),
        ("gated_linear", ".detach()", "", "derivative|value"),
        ("bilinear", "energy * energy2", "energy", "value|roots"),
        ("multihead_attention", "q, k = q.detach(), k.detach()", "pass", "derivative"),
        ("multihead_attention", "1 / math.sqrt(", "math.sqrt(", "value"),
        ("multihead_attention", "x.permute(1, 2, 0, 3)", "x.permute(1, 2, 3, 0)", "value|fit|root"),
        ("multihead_attention", "weights: bool = True", "weights: bool = False", "shape|things"),
        ("rms_norm_linear", "eps: float = 1e-05", "eps: float = 1e-06", "value|roots"),
    ],
)  # fmt: skip
def test_a_wrong_map_is_refused(name: str, old: str, new: str, reason: str) -> None:
    refused(name, old, new, reason)


def test_a_superfluous_detach_is_refused_by_the_derivative() -> None:
    refused(
        "linear", "z = F.linear(x, self.weight", "z = F.linear(x.detach(), self.weight", "deriv"
    )
    refused("linear", "return _times(z, ", "return _times(z.detach(), ", "another derivative")


def test_what_computes_the_same_is_accepted() -> None:
    text = source("linear").text
    other = text.replace("torch.rsqrt(1 + energy)", "(energy + 1) ** -0.5")
    assert other != text
    assert prover("linear").judge(other).points


# ---------------------------------------------------------------------- what is not known
@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("torch.arctan(x)", "arctan"),
        ("F.linear(x, self.weight, self.bias, out=None)", "out"),
        ("getattr(F, 'linear')(x, self.weight, self.bias)", "getattr|names and attributes"),
        ("eval('F.linear')(x, self.weight, self.bias)", "eval|names and attributes"),
        ("F.__dict__['linear'](x, self.weight, self.bias)", "__dict__|names and attributes"),
        ("(lambda: F.linear(x, self.weight, self.bias))()", "Lambda|names and attributes"),
        ("x.data", "data"),
        ("x.add_(1)", "add_"),
        ("self.weight.grad_fn", "grad_fn"),
        ("(z := F.linear(x, self.weight, self.bias))", "NamedExpr"),
        ("torch.empty(2, device=None, dtype=None)", "Blank|shape|tensor"),
    ],
)
def test_unknown_code_is_refused_with_its_line(new: str, reason: str) -> None:
    refused("linear", "F.linear(x, self.weight, self.bias)", new, rf"line \d+.*({reason})")


@pytest.mark.parametrize(
    "statement",
    [
        "import os",
        "x += 1",
        "while True:\n            pass",
        "del x",
        "global F",
        "try:\n            pass\n        finally:\n            pass",
        "with torch.autocast('cpu', enabled=True):\n            pass",
        "self.training = False",
        "self.forward = x",
    ],
)
def test_unknown_statements_are_refused(statement: str) -> None:
    first = "z = F.linear(x, self.weight, self.bias)"
    refused("linear", first, f"{statement}\n        {first}", r"line \d+")


def test_a_method_that_calling_a_module_goes_through_may_not_be_overridden() -> None:
    extra = "    def _call_impl(self, x: Tensor) -> Tensor:\n        return x\n\n"
    refused("linear", "    def extra_repr", extra + "    def extra_repr", "_call_impl")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("        super().__init__()\n", "", "before nn.Module.__init__"),
        ("        self.reset_parameters()\n", "", "no initial values"),
        ("nn.init.uniform_(self.bias, -bound, bound)", "pass", "no initial values"),
        ("nn.init.uniform_(self.bias, -bound, bound)", "self.bias = None", "None|parameters"),
        ("device=device, dtype=dtype", "device=dtype, dtype=device", "device"),
        ('"NormLikeLinear"]', '"NormLike"]', "exports"),
    ],
)
def test_a_module_that_is_not_set_up_is_refused(old: str, new: str, reason: str) -> None:
    refused("linear", old, new, reason)


def test_nothing_of_a_text_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = source("linear").text
    judge = prover("linear")
    judge.judge(text)

    def executed(*_: Any, **__: Any) -> Any:
        raise AssertionError("something of the text was executed")

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "exec", executed)
        patched.setattr(builtins, "eval", executed)
        proof = judge.judge(text)
    assert proof.points


def test_endless_and_huge_texts_are_refused() -> None:
    first = "energy = _energy(x, -1)"
    for new in (
        "energy = self.forward(x)",
        "energy = x.new_ones(999, 999, 999).sum()",
        "energy = (1,) * 999999999",
    ):
        refused("linear", first, new)


def test_a_text_that_is_no_python_is_refused() -> None:
    with pytest.raises(VerificationError, match="not valid Python"):
        read("def")
