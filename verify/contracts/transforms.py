"""Contracts of a module under torch's transforms and types: vmap, jvp, autocast, half, no samples.

torch warns of operations that have no batching rule, whoever calls them, and of its own use of
``torch.jit``; both are about torch and not about a module, and are not shown.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, stack_module_state, vjp, vmap

from verify.contracts.example import Example, call, close, demand, output

HALVES = (torch.bfloat16, torch.float16)
Parameters = dict[str, Tensor]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that torch raises about itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        warnings.filterwarnings("ignore", r".*torch\.jit", DeprecationWarning)
        yield


def function_of(module: nn.Module) -> Callable[..., Tensor]:
    """The activation as a function of parameters and inputs."""

    def function(parameters: Parameters, *inputs: Tensor) -> Tensor:
        return output(functional_call(module, parameters, inputs))

    return function


def parameters_of(module: nn.Module) -> Parameters:
    """Detached parameters by name."""
    return {name: value.detach() for name, value in module.named_parameters()}


def normal_like(value: Tensor, seed: int) -> Tensor:
    """Normal numbers in the shape of a tensor."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(value.shape, dtype=value.dtype, generator=generator)


def half_precision(example: Example) -> None:
    """Half types come out as they went in, finite."""
    for dtype in HALVES:
        found = call(example.build(dtype=dtype), example.given(dtype))
        demand(found.dtype == dtype, f"{dtype} becomes {found.dtype}")
        demand(bool(found.isfinite().all()), f"{dtype} is not finite")


def autocast(example: Example) -> None:
    """Under autocast, its type or float32; gradients are finite and of each parameter's type."""
    module = example.build()
    for dtype in HALVES:
        with torch.autocast("cpu", dtype=dtype):
            found = call(module, example.given(torch.float32))
            loss = found.float().square().mean()
        demand(found.dtype in (dtype, torch.float32), f"autocast to {dtype} gives {found.dtype}")
        gradients = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        for gradient in gradients:
            if gradient is not None:
                demand(gradient.dtype == torch.float32, "autocast changes a gradient's type")
                demand(bool(gradient.isfinite().all()), f"a gradient under {dtype} is not finite")


def functional(example: Example) -> None:
    """``functional_call`` and ``torch.func.grad`` give what the module and autograd give."""
    module, inputs = example.build(dtype=torch.float64), example.given()
    function = function_of(module)
    with quiet():
        found = grad(lambda p: function(p, *inputs).square().sum())(parameters_of(module))
    named = dict(module.named_parameters())
    loss = call(module, inputs).square().sum()
    wanted = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    for name, gradient in zip(named, wanted, strict=True):
        close(found[name], gradient, example.tolerance, f"the gradient by {name}")


def forward_mode(example: Example) -> None:
    """``jvp`` and ``vjp`` are transposes of each other."""
    module = example.build(dtype=torch.float64)
    function, inputs = function_of(module), example.given()
    moving = [k for k, x in enumerate(inputs) if x.is_floating_point()]

    def of_reals(parameters: Parameters, *reals: Tensor) -> Tensor:
        whole = list(inputs)
        for k, value in zip(moving, reals, strict=True):
            whole[k] = value
        return function(parameters, *whole)

    parameters, reals = parameters_of(module), [inputs[k] for k in moving]
    along = {name: normal_like(value, 1) for name, value in parameters.items()}
    beside = [normal_like(x, 2 + k) for k, x in enumerate(reals)]
    with quiet():
        value, pushed = jvp(of_reals, (parameters, *reals), (along, *beside))[:2]
        covector = normal_like(value, 0)
        pulled, *rest = vjp(of_reals, parameters, *reals)[1](covector)
    pairs = [*((pulled[name], along[name]) for name in along), *zip(rest, beside, strict=True)]
    found = torch.stack([(a * b).sum() for a, b in pairs]).sum()
    scale = sum(float((a * b).abs().sum()) for a, b in pairs)
    # Where a derivative is 0, as that of x/|x|, parts of the size of z̃/x cancel.
    steps = [(b / x)[x != 0].abs() for x, b in zip(reals, beside, strict=True)]
    parts = float((covector * value).abs().sum())
    scale += sum(parts * float(s.max()) for s in steps if s.numel())
    wanted = (covector * pushed).sum()
    close(found, wanted, example.tolerance * max(1.0, scale), "forward and reverse mode")


def ensemble(example: Example) -> None:
    """``vmap`` over stacked parameters gives each module's own output."""
    modules = [example.build(seed, dtype=torch.float64) for seed in (0, 1)]
    inputs, function = example.given(), function_of(modules[0])
    stacked, _ = stack_module_state(modules)
    with quiet():
        found = vmap(lambda parameters: function(parameters, *inputs))(stacked)
    wanted = torch.stack([call(m, inputs) for m in modules])
    close(found, wanted, example.tolerance, "vmap over parameters")


def one_sample(example: Example) -> None:
    """Samples one by one: by ``vmap``, unbatched, and with gradients of their own."""
    module, inputs = example.build(dtype=torch.float64), example.given()
    parameters, function, wanted = parameters_of(module), function_of(module), call(module, inputs)
    close(call(module, tuple(x[0] for x in inputs)), wanted[0], example.tolerance, "unbatched")

    def loss(values: Parameters, *sample: Tensor) -> Tensor:
        return function(values, *sample).square().sum()

    axes: tuple[Any, ...] = (None, *(0 for _ in inputs))
    with quiet():
        mapped = vmap(lambda *sample: output(module(*sample)))(*inputs)
        singles = vmap(grad(loss), in_dims=axes)(parameters, *inputs)
        first = grad(loss)(parameters, *(x[0] for x in inputs))
    close(mapped, wanted, example.tolerance, "vmap over samples")
    for name, value in singles.items():
        close(value[0], first[name], example.tolerance, f"gradient of one sample by {name}")


def no_sample(example: Example) -> None:
    """A batch of 0 samples gives an output without samples, and gradients that are 0."""
    module = example.build(dtype=torch.float64)
    inputs = tuple(x[:0] for x in example.given())
    found, whole = call(module, inputs), call(module, example.given())
    demand(found.shape == (0, *whole.shape[1:]), f"0 samples give {tuple(found.shape)}")
    leaves = list(module.parameters())
    for value in torch.autograd.grad(found.sum(), leaves, materialize_grads=True):
        demand(not bool(value.any()), "0 samples give a gradient")


def gradient_penalty(example: Example) -> None:
    """Gradients can be differentiated again, as ``torch.func`` differentiates them."""
    module, inputs = example.build(dtype=torch.float64), example.given()
    named, function = dict(module.named_parameters()), function_of(module)
    reals = {f"input {k}": x for k, x in enumerate(inputs) if x.is_floating_point()}
    leaves = {**named, **{name: x.requires_grad_() for name, x in reals.items()}}

    def energy(values: Parameters) -> Tensor:
        given = [values.get(f"input {k}", x) for k, x in enumerate(inputs)]
        return function({name: values[name] for name in named}, *given).square().sum()

    def penalty(slopes: Iterable[Tensor]) -> Tensor:
        return torch.stack([s.square().sum() for s in slopes]).sum()

    every = list(leaves.values())
    slopes = torch.autograd.grad(
        call(module, inputs).square().sum(), every, create_graph=True, materialize_grads=True
    )
    found = torch.autograd.grad(penalty(slopes), every, materialize_grads=True)
    plain = {name: value.detach() for name, value in leaves.items()}
    with quiet():
        wanted = grad(lambda values: penalty(grad(energy)(values).values()))(plain)
    size = max(1.0, *(float(x.abs().max()) for x in wanted.values() if x.numel()))
    for name, value in zip(leaves, found, strict=True):
        demand(bool(value.isfinite().all()), "a second derivative is not finite")
        close(value, wanted[name], example.tolerance * size, f"the second derivative by {name}")


def alone(example: Example) -> None:
    """Each parameter and input has the gradient that it has together with the others."""
    module, inputs = example.build(dtype=torch.float64), example.given()
    leaves = [x for x in (*module.parameters(), *inputs) if x.is_floating_point()]

    def gradients(of: list[Tensor]) -> tuple[Tensor, ...]:
        for leaf in leaves:
            leaf.requires_grad_(any(leaf is x for x in of))
        return torch.autograd.grad(call(module, inputs).square().sum(), of, materialize_grads=True)

    for number, wanted in enumerate(gradients(leaves)):
        (found,) = gradients([leaves[number]])
        close(found, wanted, example.tolerance, f"gradient {number} alone")
