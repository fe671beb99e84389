"""The numeric stage: the float64 module against the NumPy reference and two ``torch`` oracles.

At every instance, in this order,

1. z̃ of the module = the reference's z̃,
2. K(s,s') of the *uncorrected* layer, by autograd of :mod:`verify.interpret` = the derived K(s,s'),
3. K̃(s,s) of the module, by ``torch.func`` = c·I, which is the claim itself,
4. K̃(s,s') of the module = the predicted K̃(s,s'), interference included,
5. the published formula of K̃(s,s') = the predicted K̃(s,s').
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from verify.layout import kernel_by_sites, sites_by_units
from verify.oracle import module_kernel, module_output, uncorrected_kernel
from verify.reference import ReferenceLayer, self_blocks
from verify.stage import Case, Entries, Record, Settings, cases
from verify.subject import Subject

Array = np.ndarray[Any, Any]
KERNEL = ("s", "i", "s'", "i'")
SELF_KERNEL = ("s", "i", "i'")


def deviation(found: Array, wanted: Array) -> float:
    """Largest absolute difference; infinite if shapes differ or a value is not finite."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max(initial=0.0))


def size_of(array: Array) -> float:
    """Largest absolute value, at least 1."""
    return max(1.0, float(np.abs(array).max(initial=0.0)))


def compare(record: Record, entries: Entries, bound: float, what: str, case: Case) -> None:
    """Judge two arrays by their largest difference."""
    record.judge(deviation(entries.measured, entries.expected), bound, what, case, entries)


def measured_kernel(module: torch.nn.Module, case: Case) -> Array:
    """K̃ of a module as (site, unit, site', unit')."""
    program, sizes = case.subject.program, case.instance.sizes
    inputs = case.subject.inputs(case.instance)
    return kernel_by_sites(module_kernel(module, inputs, program, sizes), program, sizes)


def self_divergence(module: torch.nn.Module, case: Case) -> float:
    """Return max |K̃(s,s) - c·I|, the number that the claim says is 0.

    The same function judges generated modules and the negative controls.
    """
    return deviation(self_blocks(measured_kernel(module, case)), case.reference.ideal)


def judge_case(case: Case, record: Record) -> None:
    """Every comparison at one instance."""
    subject, instance, reference = case.subject, case.instance, case.reference
    program, sizes = subject.program, instance.sizes
    module = subject.build(instance)
    output = module_output(module, subject.inputs(instance), program, sizes)
    output = sites_by_units(output, program, sizes)
    compare(
        record,
        Entries(output, reference.output, ("s", "i")),
        case.tolerance * size_of(reference.output),
        "z̃ is not that of the formulas",
        case,
    )
    layer = ReferenceLayer(subject, instance)
    derived = layer.kernel()
    oracle = kernel_by_sites(uncorrected_kernel(program, instance), program, sizes)
    compare(
        record,
        Entries(oracle, derived, KERNEL),
        case.tolerance * size_of(derived),
        "K(s,s') of the uncorrected layer is not the derived one",
        case,
    )
    measured = measured_kernel(module, case)
    compare(
        record,
        Entries(self_blocks(measured), reference.ideal, SELF_KERNEL),
        case.tolerance * max(1.0, reference.rate),
        "K̃(s,s) is not c·I",
        case,
    )
    compare(
        record,
        Entries(measured, reference.kernel, KERNEL),
        case.tolerance * size_of(reference.kernel),
        "K̃(s,s') is not the predicted one",
        case,
    )
    if subject.correction.kernel is not None:
        compare(
            record,
            Entries(layer.published_kernel(reference.gauge), reference.kernel, KERNEL),
            case.tolerance * size_of(reference.kernel),
            "K̃(s,s') is not the published one",
            case,
        )


def judge_whole(case: Case, record: Record) -> None:
    """A class of several stages is what its stages make of its input, where it says so."""
    for error, scale, what in case.subject.compositions(case.instance):
        record.judge(error, case.tolerance * scale, what, case)


def numeric_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Output, kernel, interference and the claim K̃(s,s) = c·I at random instances."""
    for subject in variants:
        for case in cases(subject, settings, record):
            judge_case(case, record)
            judge_whole(case, record)
    record.note("z̃, K(s,s'), K̃(s,s') and K̃(s,s) = c·I as predicted")
