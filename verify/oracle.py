"""Measured kernels: K(s,s') as products of Jacobians that ``torch.func`` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, jacrev

from derive.program import Program
from verify.instances import Instance
from verify.interpret import Interpreter, TorchArithmetic
from verify.layout import output_tensor, to_logical

Array = np.ndarray[Any, Any]
Parameters = dict[str, torch.Tensor]


def gram(function: Callable[[Parameters], torch.Tensor], parameters: Parameters) -> Array:
    """Σ_θ (∂z/∂θ)(∂z/∂θ)ᵀ over the flattened output.

    Args:
        function: Parameters → output.
        parameters: Where to differentiate, float64.

    Returns:
        A matrix of shape (outputs, outputs).
    """
    # Row by row: whether every operation of a module has a batching rule is not judged here.
    jacobians = jacrev(function, chunk_size=1)(parameters)
    total: Array | None = None
    for name, jacobian in jacobians.items():
        outputs = jacobian.numel() // max(parameters[name].numel(), 1)
        flat = jacobian.detach().reshape(outputs, -1).numpy()
        product = flat @ flat.T
        total = product if total is None else total + product
    assert total is not None, "a layer without parameters has no kernel"
    return np.asarray(total)


def module_kernel(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    program: Program,
    sizes: Mapping[str, int],
) -> Array:
    """Measured K(s,s') of a module.

    Args:
        module: A module whose parameters are float64.
        inputs: What it is called with, in storage layout.
        program: The layer that says which output axes are which letters.
        sizes: Size class → size.

    Returns:
        An array over the output's letters and their primed twins.
    """
    parameters = {k: v.detach().clone() for k, v in module.named_parameters()}

    def call(values: Parameters) -> torch.Tensor:
        result: torch.Tensor = functional_call(module, values, inputs)
        return result

    letters = output_tensor(program).letters
    shape = tuple(sizes[x.size] for x in letters)
    return gram(call, parameters).reshape(shape + shape)


def module_output(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    program: Program,
    sizes: Mapping[str, int],
) -> Array:
    """A module's output over its logical letters."""
    with torch.no_grad():
        value = module(*inputs)
    return to_logical(value.numpy(), output_tensor(program), sizes)


def uncorrected(program: Program, instance: Instance) -> Callable[[Parameters], torch.Tensor]:
    """The uncorrected layer as a function of its parameters, read off the spec by brute force."""
    fixed = {
        t.name: instance.tensors[t.name]
        if t.kind == "token"
        else torch.from_numpy(instance.tensors[t.name])
        for t in program.inputs
    }

    def call(values: Parameters) -> torch.Tensor:
        interpreter = Interpreter(
            instance.sizes, instance.symbols, {**fixed, **values}, TorchArithmetic()
        )
        result: torch.Tensor = interpreter.run(program)
        return result

    return call


def parameters_of(program: Program, instance: Instance) -> Parameters:
    """The instance's parameters over their logical letters."""
    return {t.name: torch.from_numpy(instance.tensors[t.name].copy()) for t in program.parameters}


def uncorrected_kernel(program: Program, instance: Instance) -> Array:
    """K(s,s') of the uncorrected layer over the output's letters and their primed twins."""
    shape = tuple(instance.sizes[x.size] for x in program.output.letters)
    return gram(uncorrected(program, instance), parameters_of(program, instance)).reshape(
        shape + shape
    )
