"""A case in a mode as calls without arguments, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.cases import PLAIN, Case
from bench.modes import COMPILED, FORWARD, Mode
from bench.timing import Run

WARM_UP = 3


@dataclass(frozen=True)
class Prepared:
    """A contender on its device, compiled if the mode says so, and what it is called with.

    Args:
        module: The contender itself, which holds the parameters.
        call: The contender, or its compiled form.
        x: The input, a leaf that requires its gradient, as the input of a hidden layer does.
    """

    module: nn.Module
    call: Callable[[Tensor], Tensor]
    x: Tensor


def prepare(case: Case, mode: Mode) -> dict[str, Prepared]:
    """Build the contenders of a case: one input for all, and weights that lie in one place.

    Where a large weight lies in memory costs more or less than many a correction, so contenders
    share the storage of the plain layer's parameters.
    """
    modules = {name: build(case, mode, name) for name in case.builders}
    for module in modules.values():
        share(modules[PLAIN], module)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(case.shape, generator=generator).to(mode.device, mode.torch_dtype)
    x = x.contiguous(memory_format=mode.memory_format).requires_grad_()
    is_compiled = mode.execution == COMPILED
    return {
        name: Prepared(module, compiled(module) if is_compiled else module, x)
        for name, module in modules.items()
    }


def build(case: Case, mode: Mode, name: str) -> nn.Module:
    """A contender from the seed that all of them have."""
    torch.manual_seed(0)
    module = case.builders[name]().to(mode.device, mode.torch_dtype)
    if mode.memory_format is torch.contiguous_format:
        return module
    return module.to(memory_format=mode.memory_format)  # type: ignore[call-overload, no-any-return]


def share(plain: nn.Module, other: nn.Module) -> None:
    """Put the weights of a module that equal the plain one's into the same storage."""
    for parameter in other.parameters():
        for source in plain.parameters():
            is_weight = parameter.dim() > 1 and source.squeeze().shape == parameter.squeeze().shape
            if is_weight and torch.equal(source.view(parameter.shape), parameter):
                parameter.data = source.detach().view(parameter.shape)


def compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A module compiled as one graph for the shapes it meets first."""
    return torch.compile(module, fullgraph=True, dynamic=False)


def run_of(ready: Prepared, direction: str) -> Run:
    """One call of a prepared contender, warmed up."""
    run = inference(ready) if direction == FORWARD else training(ready)
    for _ in range(WARM_UP):
        run()
    return run


def inference(ready: Prepared) -> Run:
    """Forward without a graph."""
    call, x = ready.call, ready.x

    def run() -> None:
        with torch.no_grad():
            call(x)

    return run


def training(ready: Prepared) -> Run:
    """Forward, backward, and gradients set to None, as a training step has them."""
    call, x = ready.call, ready.x
    leaves = [x, *ready.module.parameters()]
    g = torch.randn_like(call(x))

    def run() -> None:
        call(x).backward(g)  # type: ignore[no-untyped-call]
        for leaf in leaves:
            leaf.grad = None

    return run
