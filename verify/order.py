"""The order stage: an actual ``torch.optim.SGD`` step on one site's own gradient.

The loss is Σ_i g_i z̃_si for one site s, so that the other sites' gradient is 0 and no interference
enters. Then z̃_s has to move by -η c g: for a layer that is affine in its parameters at any η, for
the others up to a remainder of order η², whose slope in a log-log plot is measured. Where the gauge
is frozen it keeps its value from before the step; how far the module's own gauge drifts is noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from verify.instances import KINDS, SCALES
from verify.layout import from_sites_by_units, output_tensor, sites_by_units, to_logical, to_storage
from verify.numeric import compare, deviation, size_of
from verify.oracle import module_output
from verify.reference import ReferenceLayer
from verify.stage import Case, Entries, Record, Settings, cases
from verify.subject import Subject
from verify.tolerances import TOLERANCES

Array = np.ndarray[Any, Any]
GENERIC = tuple(k for k in KINDS if k not in SCALES)


@dataclass(frozen=True)
class Step:
    """What one step of SGD did.

    Attributes:
        before, after: z̃_s of the module before and after the step, (units,).
        held: z̃_s after the step with the gauge held at its value from before, (units,).
    """

    before: Array
    after: Array
    held: Array


def take_step(case: Case, site: int, gradient: Array, rate: float) -> Step:
    """One SGD step of a fresh module on one site's gradient.

    Args:
        case: The instance.
        site: Number of the site.
        gradient: g, (units,).
        rate: The learning rate η.
    """
    subject, instance = case.subject, case.instance
    program, sizes = subject.program, instance.sizes
    module = subject.build(instance)
    inputs = subject.inputs(instance)

    def output() -> Array:
        whole = module_output(module, inputs, program, sizes)
        return np.asarray(sites_by_units(whole, program, sizes)[site])

    before = output()
    whole = np.zeros(case.reference.output.shape)
    whole[site] = gradient
    logical = from_sites_by_units(whole, program, sizes)
    weights = torch.from_numpy(to_storage(logical, output_tensor(program), sizes))
    optimiser = torch.optim.SGD(module.parameters(), lr=rate)
    optimiser.zero_grad()
    (module(*inputs) * weights).sum().backward()
    optimiser.step()
    return Step(before, output(), held_output(case, module, site))


def held_output(case: Case, module: torch.nn.Module, site: int) -> Array:
    """z̃_s with the module's present parameters and the gauge from before the step."""
    subject, reference = case.subject, case.reference
    if subject.correction.ansatz == "input map":
        return np.asarray(reference.output[site])
    tensors = dict(case.instance.tensors)
    for tensor in subject.program.parameters:
        value = getattr(module, subject.parameter_name(tensor)).detach().numpy()
        tensors[tensor.name] = to_logical(value.copy(), tensor, case.instance.sizes)
    here = replace(case.instance, tensors=tensors)
    z = ReferenceLayer(subject, here).uncorrected(tensors)[site]
    gauge = reference.gauge[site]
    return np.asarray(gauge @ z if gauge.ndim == 2 else gauge * z)


def judged_sites(case: Case) -> list[int]:
    """The first and the last site."""
    return sorted({0, case.reference.output.shape[0] - 1})


def draw_gradient(case: Case, site: int) -> Array:
    """A gradient of order one."""
    rng = np.random.default_rng([case.instance.seed, site])
    return np.asarray(rng.standard_normal(case.reference.output.shape[1]))


def judge_exact(case: Case, record: Record) -> None:
    """At any η, z̃ moves by exactly -η K̃(s,s) g."""
    for site in judged_sites(case):
        gradient = draw_gradient(case, site)
        ideal = case.reference.ideal[site] @ gradient
        for rate in TOLERANCES.exact_steps:
            step = take_step(case, site, gradient, rate)
            scale = size_of(case.reference.output) + rate * size_of(ideal)
            what = f"a step at η = {rate:g} does not move z̃ by -c η g"
            moved = Entries(step.after - step.before, -rate * ideal, ("i",), site)
            compare(record, moved, case.tolerance * scale, what, case)


def judge_order(case: Case, record: Record) -> tuple[float | None, float]:
    """The remainder of a step is of order η².

    Returns:
        The measured slope (``None`` where the remainder is nothing but rounding) and the drift of a
        frozen gauge, relative to the step, at the smallest η.
    """
    frozen = case.subject.correction.frozen
    site = judged_sites(case)[-1]
    gradient = draw_gradient(case, site)
    gradient /= size_of(gradient)
    ideal = case.reference.ideal[site] @ gradient
    noise = TOLERANCES.noise * case.tolerance * size_of(case.reference.output)
    found: list[tuple[float, float]] = []
    drift = 0.0
    for rate in TOLERANCES.slope_steps:
        step = take_step(case, site, gradient, rate)
        moved = step.held if frozen else step.after
        remainder = deviation(moved - step.before, -rate * ideal)
        if not np.isfinite(remainder):
            record.judge(remainder, 0.0, "z̃ is not finite after a step", case)
            return None, drift
        if remainder > noise:
            found.append((np.log(rate), np.log(remainder)))
        drift = deviation(step.after, step.held) / (rate * size_of(ideal))
    if len(found) < 3:
        last = noise if found else 0.0
        record.judge(last, noise, "too few remainders above rounding", case)
        return None, drift
    slope = float(np.polyfit([a for a, _ in found], [b for _, b in found], 1)[0])
    short = max(0.0, TOLERANCES.slope - slope)
    entries = Entries(np.array([slope]), np.array([TOLERANCES.slope]), ("slope",))
    what = "the remainder of a step does not shrink as η²"
    record.judge(short, TOLERANCES.slope_slack, what, case, entries)
    return slope, drift


def order_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Exact layers at any η, the others with slope 2."""
    slopes: list[float] = []
    drifts: list[float] = []
    for subject in variants:
        if subject.derivation.update.affine:
            for case in cases(subject, settings, record):
                judge_exact(case, record)
            steps = ", ".join(f"{x:g}" for x in TOLERANCES.exact_steps)
            record.note(f"one-site SGD steps are exact at η = {steps}")
            continue
        for case in cases(subject, settings, record, kinds=GENERIC):
            slope, drift = judge_order(case, record)
            slopes += [] if slope is None else [slope]
            drifts += [drift] if subject.correction.frozen else []
    if slopes:
        record.note(
            f"remainder slope {min(slopes):.3f} to {max(slopes):.3f} (needs 2 - 0.1 or more)"
        )
    if drifts:
        record.note(f"the frozen gauge drifts by up to {max(drifts):.2g} of the step")
