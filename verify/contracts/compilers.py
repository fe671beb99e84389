"""Contracts of a module under torch.compile and torch.export: whole graphs, any number of samples.

They take seconds a class, where all others take a fraction of one, and so are asked for.
"""

from __future__ import annotations

import copy

import torch

from verify.contracts.example import Example, call, close, output
from verify.contracts.transforms import quiet

COUNTS = (2, 5)


def compiles(example: Example) -> None:
    """One graph for any number of samples: ``fullgraph=True, dynamic=True``."""
    module = example.build(dtype=torch.float64)
    torch._dynamo.reset()
    with quiet():
        compiled = torch.compile(
            copy.deepcopy(module), fullgraph=True, dynamic=True, backend="eager"
        )
        for count in COUNTS:
            inputs = example.samples(count)
            found, wanted = output(compiled(*inputs)), call(module, inputs)
            close(found, wanted, example.tolerance, f"compiled, {count} samples")
    torch._dynamo.reset()


def exports(example: Example) -> None:
    """``torch.export`` with a free number of samples."""
    module = example.build(dtype=torch.float64)
    batch = torch.export.Dim("batch", min=2)
    shapes = tuple({0: batch} if batched else None for batched in example.batched)
    with quiet():
        program = torch.export.export(
            module, example.samples(3), dynamic_shapes=shapes, strict=False
        )
        for count in COUNTS:
            inputs = example.samples(count)
            found, wanted = output(program.module()(*inputs)), call(module, inputs)
            close(found, wanted, example.tolerance, f"exported, {count} samples")
