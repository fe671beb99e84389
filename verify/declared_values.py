"""What a class computes beyond float64 and one batch: shapes, half precision, vanishing inputs."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable

import numpy as np
import torch

from verify.controls import GaugedLayer, uncorrected
from verify.instances import SCALES
from verify.numeric import deviation, size_of
from verify.routes import ROUTES
from verify.stage import Case, Record
from verify.tolerances import TOLERANCES

Tensors = tuple[torch.Tensor, ...]
View = Callable[[torch.Tensor], torch.Tensor]
HALVES = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
"""Spacing of the half types at 1."""
TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
BELOW = 2.0**-8
"""Of the least normal number: what is left of a type's precision there is a few bits."""
USEFUL = 0.5
"""A half-precision tolerance beyond this, relative to the largest value, judges nothing."""


def judge_values(case: Case, record: Record) -> None:
    """Leading axes, half precision, autocast and gradients at one instance."""
    module = case.subject.build(case.instance)
    inputs = case.subject.inputs(case.instance)
    judge_gradients(module, case, record)
    judge_tiny(module, inputs, case, record)
    judge_shapes(module, inputs, case, record)
    for dtype, spacing in HALVES.items():
        judge_half(module, inputs, case, record, dtype, spacing)


def judge_gradients(module: torch.nn.Module, case: Case, record: Record) -> None:
    """Output and gradients are finite, in float32 too, wherever the layer is defined."""
    for dtype in TYPES[:2]:
        if not bool((np.abs(case.reference.gauge) < torch.finfo(dtype).max).all()):
            continue  # the type does not hold the gauge, which saturates, and gradients with it
        here = copy.deepcopy(module).to(dtype)
        inputs = tuple(
            x.to(dtype).requires_grad_() if x.is_floating_point() else x
            for x in case.subject.inputs(case.instance)
        )
        output = here(*inputs)
        output.sum().backward()
        grads = [x.grad for x in (*inputs, *here.parameters()) if x.grad is not None]
        finite = all(bool(torch.isfinite(x).all()) for x in (output, *grads))
        right = finite and output.dtype == dtype
        record.judge(0.0 if right else 1.0, 0.0, f"{dtype} is not kept or not finite: {case}")


def judge_tiny(module: torch.nn.Module, inputs: Tensors, case: Case, record: Record) -> None:
    """Where the gauge would be beyond the numbers of a type it saturates: the output is finite.

    Not where z has no value at such inputs, as log(0), or z̃ is beyond the type, as 1/√κ of a z that
    does not vanish with its inputs.
    """
    plain = GaugedLayer(case, uncorrected(case))
    for dtype in TYPES:
        here = copy.deepcopy(module).to(dtype)
        factor = torch.finfo(dtype).tiny * BELOW
        given = cast(tuple(x * factor if x.is_floating_point() else x for x in inputs), dtype)
        wide = cast(given, torch.float64)
        with torch.no_grad():
            z, wanted = plain(*wide), module(*wide)
            every = [run(here, given) for run in ROUTES]
        within = z.abs() <= 1 if dtype == torch.float64 else wanted.abs() < torch.finfo(dtype).max
        what = f"not finite in {dtype} for inputs below its normal numbers: {case}"
        for found in every:
            right = torch.isfinite(found) | ~within & ~found.isnan() | ~torch.isfinite(z)
            record.judge(0.0 if bool(right.all()) else 1.0, 0.0, what)


# ---------------------------------------------------------------------- shapes
def documented(case: Case) -> dict[str, str]:
    """The shapes that the class documents, by input."""
    text = inspect.getdoc(case.subject.type) or ""
    _, _, shapes = text.partition("\nShape:\n")
    return dict(re.findall(r"^\s+(\w+): \((.*)\)$", shapes, re.MULTILINE))


def judge_shapes(module: torch.nn.Module, inputs: Tensors, case: Case, record: Record) -> None:
    """Where the class documents any number of leading axes, it takes none, one and three.

    The output keeps them, and so do the gradients by the inputs.
    """
    shapes = documented(case)
    names = [t.name for t in case.subject.program.inputs]
    if not names or not all(shapes.get(name, "").startswith("*") for name in names):
        return
    whole, slopes = with_slopes(module, inputs, same)
    for view in (first, many):
        output, found = with_slopes(module, inputs, view)
        for what, value, wanted in (
            ("the output", output, view(whole)),
            *(("a gradient", a, view(b)) for a, b in zip(found, slopes, strict=True)),
        ):
            record.judge(
                deviation(value.numpy(), wanted.numpy()),
                case.tolerance * size_of(wanted.numpy()),
                f"leading axes {tuple(view(inputs[0]).shape[:-1])} change {what}: {case}",
            )


def with_slopes(
    module: torch.nn.Module, inputs: Tensors, view: View
) -> tuple[torch.Tensor, Tensors]:
    """The output for inputs in another shape, and the gradients of Σ z̃² / 2 by the real ones."""
    given = tuple(view(x).clone() for x in inputs)
    leaves = [x.requires_grad_() for x in given if x.is_floating_point()]
    output = module(*given)
    slopes = torch.autograd.grad(output, leaves, output.detach(), materialize_grads=True)
    return output.detach(), slopes


def same(x: torch.Tensor) -> torch.Tensor:
    """The axes that it has."""
    return x


def first(x: torch.Tensor) -> torch.Tensor:
    """No leading axis."""
    return x[0]


def many(x: torch.Tensor) -> torch.Tensor:
    """Three leading axes, of which one has length 1."""
    return torch.stack([x, x.flip(0)])[:, None]


# ---------------------------------------------------------------------- half precision
def judge_half(
    module: torch.nn.Module,
    inputs: Tensors,
    case: Case,
    record: Record,
    dtype: torch.dtype,
    spacing: float,
) -> None:
    """In half precision, and under autocast, the output is that of the same numbers in float64.

    Judged where the layer can be computed in half precision at all. What is beyond the type may be
    infinite.
    """
    narrow = copy.deepcopy(module).to(dtype)
    given = cast(inputs, dtype)
    relative = case.tolerance / TOLERANCES.epsilon * spacing
    with torch.no_grad():
        if relative > USEFUL or not computable(case, given, dtype, relative):
            return
        wanted = copy.deepcopy(narrow).double()(*cast(given, torch.float64)).numpy()
        found = narrow(*given)
        single = copy.deepcopy(narrow).float()
        with torch.autocast("cpu", dtype=dtype):
            lowered = single(*cast(given, torch.float32))
    right = found.dtype == dtype
    record.judge(0.0 if right else 1.0, 0.0, f"{dtype} becomes {found.dtype}: {case}")
    most = torch.finfo(dtype).max
    wanted = wanted.clip(-most, most)
    for what, value in (("in", found), ("under autocast to", lowered)):
        error = deviation(value.double().clamp(-most, most).numpy(), wanted)
        record.judge(error, relative * size_of(wanted), f"imprecise {what} {dtype}: {case}")


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Real tensors in another precision; tokens stay."""
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in tensors)


def computable(case: Case, given: Tensors, dtype: torch.dtype, relative: float) -> bool:
    """Whether the layer, by brute force in half precision, is right: as it is, and times its gauge.

    A large gauge enlarges what is lost below the normal numbers of the type. Where numbers are
    large, a 0 may be a 0 times what overflows when it is multiplied in another order.
    """
    for gauge in (uncorrected(case), case.reference.gauge):
        layer = GaugedLayer(case, gauge)
        wanted = layer(*cast(given, torch.float64)).numpy()
        if not wanted.any() and SCALES.get(case.instance.kind, 1.0) > 1:
            return False
        found = layer.to(dtype)(*given).double().numpy()
        if deviation(found, wanted) > relative * size_of(wanted):
            return False
    return True
