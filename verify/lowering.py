"""The lowering stage: the recognised forms and the general lowering give the same module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from verify.numeric import compare, size_of
from verify.results import VerificationError
from verify.stage import Case, Entries, Record, Settings, cases
from verify.subject import Subject

Array = np.ndarray[Any, Any]


def values_and_gradients(subject: Subject, case: Case) -> dict[str, Array]:
    """Output, and the gradients of a fixed random loss by every real input and parameter."""
    module = subject.build(case.instance)
    inputs = subject.inputs(case.instance, grad=True)
    output = module(*inputs)
    weights = np.random.default_rng(case.instance.seed).standard_normal(tuple(output.shape))
    (output * torch.from_numpy(np.asarray(weights))).sum().backward()
    found = {"z̃": output.detach().numpy()}
    for tensor, value in zip(subject.program.inputs, inputs, strict=True):
        if value.grad is not None:
            found[f"the gradient by {tensor.name}"] = value.grad.numpy()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[f"the gradient by {name}"] = parameter.grad.numpy()
    return found


def lowering_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Compare both lowerings at the instances of the numeric stage.

    Raises:
        VerificationError: If the general lowering of a class is missing.
    """
    for subject in variants:
        other = settings.general.get(subject.key)
        if other is None:
            raise VerificationError(f"no general lowering of {subject.name} to compare with")
        for case in cases(subject, settings, record):
            ours, theirs = (values_and_gradients(s, case) for s in (subject, other))
            if ours.keys() != theirs.keys():
                raise VerificationError(
                    f"{subject.name} defines {sorted(ours)}, its general lowering {sorted(theirs)}"
                )
            for name, value in ours.items():
                bound = case.tolerance * value.size * size_of(theirs[name])
                what = f"{name} is not that of the general lowering"
                compare(record, Entries(value, theirs[name]), bound, what, case)
    record.note("recognised and general lowering agree in z̃ and all gradients")
