"""What folders of tests share: generated classes at random points, and their self-kernel."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sympy import Symbol
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import truestep
from codegen import ClassSource, LayerSource
from derive import Derivation
from derive.evaluate import Evaluator, run_program
from derive.nodes import size_symbol
from derive.points import random_sizes, random_tensors
from derive.program import Program
from verify.load import load_module

ROOT = Path(truestep.__file__).parent
SPEC_FILES = {path.stem: path for path in sorted((ROOT / "specs").glob("*.toml"))}
LARGEST = 400
"""Elements that an output may have for its Jacobian to be quick."""


@dataclass(frozen=True)
class Point:
    """A generated class in float64, built and filled at random, with inputs that fit.

    Attributes:
        derivation: What the class comes from, without the absent parameters.
        module: The class at these sizes.
        inputs: What its ``forward`` takes.
        evaluator: The same numbers for NumPy.
    """

    derivation: Derivation
    module: nn.Module
    inputs: tuple[Tensor, ...]
    evaluator: Evaluator

    @property
    def program(self) -> Program:
        return self.derivation.program

    @property
    def output_shape(self) -> tuple[int, ...]:
        """One size a letter of the output."""
        return tuple(self.evaluator.sizes[x.size] for x in self.program.output.letters)

    def output(self) -> np.ndarray:
        """The corrected activation over the output's letters."""
        return self.module(*self.inputs).detach().numpy().reshape(self.output_shape)

    def plain(self) -> np.ndarray:
        """The uncorrected activation by brute force."""
        return run_program(self.program, self.evaluator)[self.program.output.target]

    def by_site(self, array: np.ndarray, copies: int) -> np.ndarray:
        """Arrays with the output's letters in front as (site, unit, the rest)."""
        letters, program = self.program.output.letters, self.program
        order = [letters.index(x) for x in (*program.site, *program.unit)]
        order += range(len(letters), array.ndim)
        units = int(np.prod([self.evaluator.sizes[x.size] for x in program.unit], dtype=int))
        assert copies == array.ndim - len(letters)
        return array.transpose(order).reshape(-1, units, *array.shape[len(letters) :])

    def jacobian(self) -> np.ndarray:
        """∂z̃/∂θ as (site, unit, parameter), by reverse mode."""
        parameters = dict(self.module.named_parameters())
        with warnings.catch_warnings():
            # torch has no batching rule of its own for bilinear forms, whoever calls them.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            found = jacrev(lambda p: functional_call(self.module, p, self.inputs))(parameters)
        size = int(np.prod(self.output_shape))
        flat = torch.cat([j.reshape(size, -1) for j in found.values()], 1).detach().numpy()
        return self.by_site(flat.reshape(*self.output_shape, -1), 1)

    def self_kernel(self) -> np.ndarray:
        """Measured K̃(s,s) as (site, unit, unit)."""
        jacobian = self.jacobian()
        return jacobian @ jacobian.transpose(0, 2, 1)

    def rate(self, rate: Any) -> float:
        """A rate as a number at these sizes."""
        values = {Symbol("radius"): getattr(self.module, "radius", 1.0)}
        values |= {s: v for s, v in self.evaluator.symbols.items()}
        found = {
            s: values.get(s, values.get(str(s), values.get(Symbol(s.name))))
            for s in rate.free_symbols
        }
        for name, size in self.evaluator.sizes.items():
            found[size_symbol(name)] = size
        return float(rate.subs({k: v for k, v in found.items() if v is not None}))


def module_of(source: LayerSource) -> Any:
    """The generated text as a module."""
    return load_module(source.text, source.module)


def arguments_of(program: Program, symbols: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments and hyperparameters from named numbers."""
    values: dict[str, Any] = {}
    counts = dict(program.arguments)
    for name, default in program.spec.hyperparameters.items():
        if not isinstance(default, bool):
            counts[name] = len(default) if isinstance(default, tuple) else 0
    for name, count in counts.items():
        values[name] = (
            tuple(symbols[f"{name}[{k}]"] for k in range(count)) if count else symbols[name]
        )
    return values


def point(
    source: LayerSource,
    found: ClassSource,
    absent: frozenset[str],
    seed: int,
    *,
    low: int = 2,
    high: int = 3,
    symbols: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Point:
    """A class at random sizes, parameters and inputs; at least ``low`` of everything drawn."""
    rng = np.random.default_rng(seed)
    derivation = source.derivations[absent]
    program = derivation.program
    for _ in range(500):
        sizes, numbers = random_sizes(program, rng, low, high)
        if np.prod([sizes[x.size] for x in program.output.letters]) <= LARGEST:
            break
    tensors = random_tensors(program, sizes, rng)
    whole = source.derivations[frozenset()].program
    for tensor in whole.inputs:
        # forward takes it in every variant, whether the variant reads it or not.
        if tensor.name not in tensors:
            tensors[tensor.name] = rng.standard_normal([sizes[x.size] for x in tensor.letters])
    for name in tensors:
        # A variance that is handed in is positive.
        if source.spec.name == "BatchNormEvalLinear" and name == "v":
            tensors[name] = np.abs(tensors[name]) + 0.5
    flags = {source.spec.parameters[s].torch: s not in absent for s in source.spec.optional}
    arguments = {**arguments_of(program, numbers), **flags, **keywords}
    module = getattr(module_of(source), found.name)(**arguments, dtype=torch.float64)
    fill(module, program, tensors)
    inputs = tuple(torch.from_numpy(stored(tensors[t.name], t, sizes)) for t in whole.inputs)
    return Point(derivation, module, inputs, Evaluator(sizes, tensors, numbers))


def fill(module: nn.Module, program: Program, tensors: Mapping[str, np.ndarray]) -> None:
    """Copy parameters over their letters into a module's storage."""
    with torch.no_grad():
        for tensor in program.parameters:
            parameter = getattr(module, program.spec.parameters[tensor.name].torch)
            parameter.copy_(
                torch.from_numpy(np.asarray(tensors[tensor.name])).reshape(parameter.shape)
            )


def stored(array: np.ndarray, tensor: Any, sizes: Mapping[str, int]) -> np.ndarray:
    """An array over letters in storage layout: composed axes merged, first letter slowest."""
    shape = [int(np.prod([sizes[x.size] for x in axis])) for axis in tensor.axes]
    return np.ascontiguousarray(array).reshape(shape)
