"""The gradients stage: backward and double backward, at small sizes and away from singular points.

A module without frozen gauge goes through torch's finite differences (gradcheck, gradgradcheck). A
frozen gauge is held fixed on purpose, so there the gradient is that of the map with a constant
gauge, which finite differences of the module cannot know: first and second derivatives are compared
with those of that map, built by brute force.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from verify.controls import GaugedLayer
from verify.instances import GRADIENTS
from verify.numeric import compare, size_of
from verify.order import GENERIC
from verify.stage import Case, Entries, Record, Settings, cases
from verify.subject import Subject
from verify.tolerances import TOLERANCES

INSTANCES = 2
Tensors = tuple[torch.Tensor, ...]


def differentiable(case: Case) -> tuple[Callable[..., torch.Tensor], Tensors]:
    """The module as a function of its real inputs and parameters, and where to look at it."""
    module = case.subject.build(case.instance)
    inputs = case.subject.inputs(case.instance, grad=True)
    named = {k: v.detach().clone().requires_grad_() for k, v in module.named_parameters()}
    moving = [x for x in inputs if x.requires_grad]

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        free = iter(tensors[: len(moving)])
        arguments = tuple(next(free) if x.requires_grad else x for x in inputs)
        values = dict(zip(named, tensors[len(moving) :], strict=True))
        result: torch.Tensor = functional_call(module, values, arguments)
        return result

    return call, (*moving, *named.values())


def judge_gradients(case: Case, record: Record) -> None:
    """Gradcheck and gradgradcheck at one instance, along directions from the instance's seed."""
    call, tensors = differentiable(case)
    for name, check in (("gradcheck", gradcheck), ("gradgradcheck", gradgradcheck)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(case.instance.seed)
            held = check(
                call,
                tensors,
                eps=TOLERANCES.gradcheck_step,
                atol=TOLERANCES.gradcheck_absolute,
                rtol=TOLERANCES.gradcheck_relative,
                raise_exception=False,
            )
        record.judge(0.0 if held else 1.0, 0.0, f"{name} refuses", case)


def derivatives(module: torch.nn.Module, case: Case) -> list[torch.Tensor]:
    """First derivatives of Σ w z̃, and those of Σ (first derivatives)², by inputs and parameters."""
    inputs = case.subject.inputs(case.instance, grad=True)
    where = [*(x for x in inputs if x.requires_grad), *module.parameters()]
    output = module(*inputs)
    generator = torch.Generator().manual_seed(case.instance.seed)
    weights = torch.randn(output.shape, dtype=output.dtype, generator=generator)
    first = torch.autograd.grad(
        (weights * output).sum(), where, create_graph=True, materialize_grads=True
    )
    energy = torch.stack([g.square().sum() for g in first]).sum()
    second = torch.autograd.grad(energy, where, materialize_grads=True)
    return [g.detach() for g in (*first, *second)]


def judge_frozen(case: Case, record: Record) -> None:
    """The derivatives are those of the map with a constant gauge."""
    ours = derivatives(case.subject.build(case.instance), case)
    theirs = derivatives(GaugedLayer(case, case.reference.gauge), case)
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        order = "first" if k < len(ours) // 2 else "second"
        compare(
            record,
            Entries(a.numpy(), b.numpy()),
            case.tolerance * case.reference.output.size * size_of(b.numpy()),
            f"a {order} derivative is not that of the map with a constant gauge",
            case,
        )


def gradients_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """First and second derivatives by inputs and parameters."""
    for subject in variants:
        frozen = subject.correction.frozen
        for case in cases(
            subject,
            settings,
            record,
            kinds=GENERIC,
            limits=GRADIENTS,
            count=INSTANCES,
            useless=TOLERANCES.useless if frozen else TOLERANCES.gradcheck_useless,
        ):
            (judge_frozen if frozen else judge_gradients)(case, record)
        record.note(
            "first and second derivatives are those of a constant gauge"
            if frozen
            else "gradcheck and gradgradcheck hold"
        )
