"""The derived backward pass against autograd through a reading of the notation of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from derive.derivation import derive, derive_variants
from derive.errors import DerivationError
from derive.gradients import derive_gradients
from derive.nodes import Read
from derive.spec import LayerSpec, Parameter, load_spec
from verify.instances import sample_one
from verify.interpret import Interpreter, TorchArithmetic

SPECS = Path(__file__).resolve().parents[2] / "truestep" / "specs"
ANSATZE = ("output gauge", "unit gauge", "input map")
NAMES = (
    "linear",
    "residual_linear",
    "layer_norm_linear",
    "bilinear",
    "scale",
    "gated_linear",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "depthwise_conv1d",
    "locally_connected1d",
)
RADIUS = 1.5
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def found(name):
    """Every variant and correction of a shipped layer whose gradients are derived."""
    for derivation in derive_variants(load_spec(SPECS / f"{name}.toml")).values():
        for ansatz in ANSATZE:
            correction = derivation.correction(ansatz)
            if not correction.applies:
                continue
            try:
                yield derivation, correction, derive_gradients(derivation.program, correction)
            except DerivationError:
                continue


def measured(derivation, correction, gradients, change=lambda step: step):
    """Each tensor with the derived gradient and that of autograd, where the scale is finite."""
    for attempt in range(20):
        instance = sample_one(derivation, 0, 0, attempt, kinds=("varied",))
        pairs = list(compared(derivation, correction, gradients, change, instance))
        if all(wanted.isfinite().all() for _, _, wanted in pairs):
            return pairs
    raise AssertionError("a window of every instance lies outside of the input")


def compared(derivation, correction, gradients, change, instance):
    """Each tensor with both gradients at an instance."""
    program = derivation.program
    torch.manual_seed(0)
    last = replace(program, lines=(program.output,))
    symbols = {**instance.symbols, "radius": RADIUS}
    tensors = {k: v for k, v in instance.tensors.items()}
    for key, value in tensors.items():
        if program.tensors[key].kind != "token":
            tensors[key] = torch.as_tensor(value).double()
    for line in program.lines[:-1]:
        run = Interpreter(instance.sizes, symbols, tensors, TorchArithmetic())
        tensors[line.target] = run.over(line.value, line.letters).detach()
    names = (*gradients.sources, *gradients.parameters)
    for name in names:
        tensors[name] = tensors[name].clone().requires_grad_()
    run = Interpreter(instance.sizes, symbols, tensors, TorchArithmetic())
    letters = last.output.letters
    scale = gradients.scale
    tensors[scale.name] = run.over(scale.value, scale.letters)
    scaled = {d: run.over(part, letters) for d, part in correction.terms if part != 0}
    used = [k for k, x in enumerate(letters) if x in scale.letters]
    shape = [s if k in used else 1 for k, s in enumerate(run.shape(letters))]
    factor = tensors[scale.name].reshape(shape)
    if correction.frozen:
        factor = factor.detach()
    output = sum(factor * v if d else v for d, v in scaled.items())
    upstream = torch.randn_like(output)
    wanted = torch.autograd.grad(output, [tensors[n] for n in names], upstream, allow_unused=True)
    given = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in tensors.items()}
    given[gradients.upstream.tensor] = upstream
    if gradients.kept is not None:
        kept = gradients.kept
        given[kept.name] = run.over(kept.value, kept.letters).detach()
    for step in gradients.steps:
        run = Interpreter(instance.sizes, symbols, given, TorchArithmetic())
        given[step.name] = run.over(change(step).value, step.letters)
    run = Interpreter(instance.sizes, symbols, given, TorchArithmetic())
    for name, value in zip(names, wanted, strict=True):
        step = gradients.of[name]
        yield name, run.over(change(step).value, step.letters), value


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_autograd(name):
    seen = 0
    for derivation, correction, gradients in found(name):
        for tensor, derived, wanted in measured(derivation, correction, gradients):
            torch.testing.assert_close(derived, wanted, **CLOSE, msg=tensor)
            seen += 1
    assert seen or name == "gated_linear", "a frozen gauge of several powers has none"


@pytest.mark.parametrize("name", ["linear", "conv1d"])
def test_a_wrong_power_is_seen(name):
    derivation, correction, gradients = next(found(name))
    scale = gradients.scale.name

    def powerless(step):
        reads = {p for p in step.value.atoms() | step.value.atoms(Read) if str(p).startswith(scale)}
        squares = {r**2: r for r in reads}
        return replace(step, value=step.value.xreplace(squares))

    pairs = list(measured(derivation, correction, gradients, powerless))
    assert any(not torch.allclose(derived, wanted) for _, derived, wanted in pairs)


@pytest.mark.parametrize("name", ["linear", "residual_linear", "layer_norm_linear", "bilinear"])
def test_rows_keep_the_scale_alone(name):
    assert all(gradients.kept is None for _, _, gradients in found(name))


@pytest.mark.parametrize("name", ["conv1d", "depthwise_conv1d", "conv_transpose1d"])
def test_windows_share_the_input_among_sites_so_z_is_kept(name):
    assert all(gradients.kept is not None for _, _, gradients in found(name))


def own(forward, **parameters):
    found = {name: Parameter(**options) for name, options in parameters.items()}
    return LayerSpec(
        name="Own",
        forward=forward,
        site="n",
        unit="i",
        parameters=found,
        sizes={"i": "out_features", "j": "in_features"},
    )


def test_what_is_homogeneous_of_no_degree_keeps_z():
    spec = own(
        "z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[n, j]**2",
        W={"torch": "weight"},
        V={"torch": "square_weight"},
    )
    derivation = derive(spec)
    gradients = derive_gradients(derivation.program, derivation.correction("output gauge"))
    assert gradients.kept is not None
    for tensor, derived, wanted in measured(
        derivation, derivation.correction("output gauge"), gradients
    ):
        torch.testing.assert_close(derived, wanted, **CLOSE, msg=tensor)


def test_a_degree_of_two_halves_the_sum():
    spec = own("z[n, i] = W[i, j]*x[n, j]**2", W={"torch": "weight"})
    derivation = derive(spec)
    gradients = derive_gradients(derivation.program, derivation.correction("output gauge"))
    assert gradients.kept is None
    for tensor, derived, wanted in measured(
        derivation, derivation.correction("output gauge"), gradients
    ):
        torch.testing.assert_close(derived, wanted, **CLOSE, msg=tensor)


def test_names_do_not_meet_those_of_the_layer():
    spec = own("z[n, i] = u[i, j]*grad[n, j]", u={"torch": "scale"})
    derivation = derive(spec)
    gradients = derive_gradients(derivation.program, derivation.correction("output gauge"))
    names = [gradients.upstream.tensor, gradients.scale.name, *(s.name for s in gradients.steps)]
    assert len({*names, "u", "grad", "scale"}) == len(names) + 3


def test_a_sum_of_several_powers_is_refused():
    derivation = derive(load_spec(SPECS / "bilinear.toml"))
    with pytest.raises(DerivationError, match="one power"):
        derive_gradients(derivation.program, derivation.correction("input map"))
