"""The gradients stage: torch's finite differences against backward and double backward.

At small sizes and away from singular points. A frozen gauge is held fixed on purpose, so there the
gradient is that of the map with a constant gauge; it is compared with that map's own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from verify.instances import GRADIENTS
from verify.order import GENERIC
from verify.stage import Case, Record, Settings, cases
from verify.subject import Subject
from verify.tolerances import TOLERANCES

INSTANCES = 2
Tensors = tuple[torch.Tensor, ...]


def differentiable(case: Case) -> tuple[Callable[..., torch.Tensor], Tensors]:
    """The module as a function of its real inputs and of its parameters, and where to look at it."""
    module = case.subject.build(case.instance)
    inputs = case.subject.inputs(case.instance, grad=True)
    named = {k: v.detach().clone().requires_grad_() for k, v in module.named_parameters()}
    if case.subject.correction.frozen:
        named = {k: v.requires_grad_(False) for k, v in named.items()}
    moving = [x for x in inputs if x.requires_grad]

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        free = iter(tensors[: len(moving)])
        arguments = tuple(next(free) if x.requires_grad else x for x in inputs)
        values = dict(zip(named, tensors[len(moving) :], strict=True))
        result: torch.Tensor = functional_call(module, values, arguments)
        return result

    return call, (*moving, *named.values())


def judge_gradients(case: Case, record: Record) -> None:
    """Gradcheck and gradgradcheck at one instance."""
    call, tensors = differentiable(case)
    if not any(t.requires_grad for t in tensors):
        record.note("no input to differentiate by")
        return
    for name, check in (("gradcheck", gradcheck), ("gradgradcheck", gradgradcheck)):
        held = check(
            call,
            tensors,
            eps=TOLERANCES.gradcheck_step,
            atol=TOLERANCES.gradcheck_absolute,
            rtol=TOLERANCES.gradcheck_relative,
            raise_exception=False,
        )
        record.judge(0.0 if held else 1.0, 0.0, f"{name} refuses: {case}")


def gradients_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """First and second derivatives by the inputs and, unless the gauge is frozen, the parameters."""
    for subject in variants:
        for case in cases(
            subject, settings, record, kinds=GENERIC, limits=GRADIENTS, count=INSTANCES
        ):
            judge_gradients(case, record)
    record.note("gradcheck and gradgradcheck hold")
