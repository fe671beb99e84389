"""Negative controls: layers that must be refused, by the function that accepts the others.

A verifier that accepts everything is worth nothing. So for every class the corrected map is rebuilt
by brute force with a gauge of our choosing (:class:`GaugedLayer`); with the solved gauge it must be
accepted, and with each corrupted gauge, and with none, it must be refused. A corruption that
changes nothing for a layer (there is no bias term to drop) says nothing about the verifier and is
not counted; at least :data:`LEAST` must be counted for each class and choice of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sympy import Add

from derive.nodes import reads
from derive.normal import expand
from verify.interpret import Interpreter, TorchArithmetic
from verify.layout import output_tensor, to_storage
from verify.numeric import deviation, self_divergence
from verify.order import GENERIC
from verify.reference import ReferenceLayer, self_blocks
from verify.results import VerificationError
from verify.stage import Case, Entries, Record, Settings, cases
from verify.subject import Subject
from verify.tolerances import TOLERANCES

Array = np.ndarray[Any, Any]
LEAST = 2
INSTANCES = 3


class GaugedLayer(torch.nn.Module):
    """The corrected map by brute force, with a given constant gauge.

    Args:
        case: The instance that gives sizes and parameters.
        gauge: λ or μ as (sites, units), or Λ as (sites, units, units).
    """

    def __init__(self, case: Case, gauge: Array) -> None:
        """Hold the instance's parameters, in storage layout, under their names in the formula."""
        super().__init__()
        self.case = case
        self.subject: Subject = case.subject
        self.gauge = torch.from_numpy(np.ascontiguousarray(gauge))
        sizes = case.instance.sizes
        for tensor in self.subject.program.parameters:
            value = to_storage(case.instance.tensors[tensor.name], tensor, sizes)
            self.register_parameter(
                f"p_{tensor.name}", torch.nn.Parameter(torch.from_numpy(value.copy()))
            )

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Σ gauge**degree · term, or Λ z; storage layout in and out."""
        program, sizes = self.subject.program, self.case.instance.sizes
        tensors: dict[str, Any] = {}
        for tensor, value in zip(program.inputs, inputs, strict=True):
            shape = tuple(sizes[x.size] for x in tensor.letters)
            token = tensor.kind == "token"
            given = self.case.instance.tensors[tensor.name]
            tensors[tensor.name] = given if token else value.reshape(shape)
        for tensor in program.parameters:
            shape = tuple(sizes[x.size] for x in tensor.letters)
            tensors[tensor.name] = getattr(self, f"p_{tensor.name}").reshape(shape)
        interpreter = Interpreter(sizes, self.case.instance.symbols, tensors, TorchArithmetic())
        interpreter.run(program)
        letters = program.output.letters
        total = torch.zeros(tuple(sizes[x.size] for x in letters), dtype=torch.float64)
        for degree, term in self.subject.correction.terms:
            value = interpreter.over(term, letters)
            total = total + (value if degree == 0 else self.scaled(value, degree))
        shape = to_storage(np.zeros(tuple(total.shape)), output_tensor(program), sizes).shape
        return total.reshape(shape)

    def scaled(self, value: torch.Tensor, degree: int) -> torch.Tensor:
        """gauge**degree · value, over the output's letters."""
        program, sizes = self.subject.program, self.case.instance.sizes
        letters = program.output.letters
        grouped = (*program.site, *program.unit)
        shape = tuple(sizes[x.size] for x in grouped)
        flat = value.permute([letters.index(x) for x in grouped]).reshape(self.gauge.shape[:2])
        if self.gauge.ndim == 3:
            # No einsum: in half precision values may be wider than the gauge.
            flat = (self.gauge * flat.unsqueeze(1)).sum(2)
        else:
            flat = self.gauge**degree * flat
        return flat.reshape(shape).permute([grouped.index(x) for x in letters])


@dataclass(frozen=True)
class Control:
    """A corruption: its name and the gauge that it puts in place of the solved one.

    ``gauge`` returns ``None`` where the corruption does not apply to the layer.
    """

    name: str
    gauge: Callable[[Case], Array | None]


def uncorrected(case: Case) -> Array:
    """No correction: gauge 1."""
    gauge = case.reference.gauge
    if gauge.ndim == 3:
        return np.tile(np.eye(gauge.shape[1]), (gauge.shape[0], 1, 1))
    return np.ones_like(gauge)


def wrong_exponent(case: Case) -> Array:
    """κ⁻¹ where κ^(-1/2) is right."""
    gauge = case.reference.gauge
    if gauge.ndim == 3:
        return np.asarray(np.einsum("sji,sjk->sik", gauge, gauge))
    return np.asarray(gauge**2)


def wrong_constant(case: Case) -> Array:
    """A rate that is off by a constant."""
    return case.reference.gauge * TOLERANCES.control_factor


def epsilon_inside(case: Case) -> Array:
    """(κ + ε)^(-1/2), the usual way to make a division safe."""
    gauge = case.reference.gauge
    if gauge.ndim == 3:
        blocks = self_blocks(ReferenceLayer(case.subject, case.instance).kernel())
        shifted = blocks + TOLERANCES.control_epsilon * np.eye(gauge.shape[1])
        return np.linalg.inv(np.linalg.cholesky(shifted))
    return gauge / np.sqrt(1 + TOLERANCES.control_epsilon * gauge**2)


def wrong_site(case: Case) -> Array | None:
    """The average over all sites instead of each site's own gauge."""
    gauge = case.reference.gauge
    if gauge.shape[0] < 2:
        return None
    return np.broadcast_to(gauge.mean(axis=0, keepdims=True), gauge.shape).copy()


def wrong_axis(case: Case) -> Array | None:
    """One gauge for all units where each needs its own; for a matrix gauge, Λᵀ."""
    gauge = case.reference.gauge
    if case.subject.correction.ansatz == "unit gauge" and gauge.shape[1] > 1:
        return np.broadcast_to(gauge.mean(axis=1, keepdims=True), gauge.shape).copy()
    if gauge.ndim == 3 and gauge.shape[1] > 1:
        return np.transpose(gauge, (0, 2, 1)).copy()
    return None


def dropped_bias(case: Case) -> Array | None:
    """κ without the term that no input moves, which is the bias's own share of the kernel."""
    subject, gauge = case.subject, case.reference.gauge
    if gauge.ndim == 3:
        return None
    constant = Add(
        *(t for t in Add.make_args(expand(subject.derivation.structure.full)) if not reads(t))
    )
    if constant == 0:
        return None
    layer = ReferenceLayer(subject, case.instance)
    share = float(layer.evaluator(layer.tensors).array(constant, ()))
    rate = case.reference.rate
    with np.errstate(all="ignore"):
        if subject.correction.ansatz == "input map":
            # Spends the whole rate on the input's share, as if the bias had none.
            return np.asarray(gauge * np.sqrt(rate / (rate - share)))
        return np.asarray(np.sqrt(rate / (rate / gauge**2 - share)))


CONTROLS = (
    Control("uncorrected", uncorrected),
    Control("wrong exponent", wrong_exponent),
    Control("wrong constant", wrong_constant),
    Control("ε inside the root", epsilon_inside),
    Control("averaged over sites", wrong_site),
    Control("wrong axis", wrong_axis),
    Control("dropped bias term", dropped_bias),
)


def predicted_blocks(case: Case, gauge: Array) -> Array:
    """What K̃(s,s) is with a given gauge, by arithmetic, as (site, unit, unit)."""
    layer = ReferenceLayer(case.subject, case.instance)
    if case.subject.correction.ansatz == "input map":
        return self_blocks(layer.published_kernel(gauge))
    kernel = self_blocks(layer.kernel())
    if gauge.ndim == 3:
        return np.asarray(np.einsum("sij,sjk,slk->sil", gauge, kernel, gauge))
    return np.asarray(kernel * gauge[:, :, None] * gauge[:, None, :])


def vacuous(case: Case, gauge: Array) -> bool:
    """Whether K̃(s,s) = c·I with this gauge too, by arithmetic, so that nothing is to be refused."""
    error = deviation(predicted_blocks(case, gauge), case.reference.ideal)
    return error <= TOLERANCES.control_margin * case.tolerance * max(1.0, case.reference.rate)


def judge_controls(
    case: Case, record: Record, counted: dict[str, int], controls: Sequence[Control] = CONTROLS
) -> None:
    """The solved gauge is accepted and every corruption refused, at one instance."""
    bound = case.tolerance * max(1.0, case.reference.rate)
    record.judge(
        self_divergence(GaugedLayer(case, case.reference.gauge), case),
        bound,
        "the solved gauge itself is refused",
        case,
    )
    for control in controls:
        gauge = control.gauge(case)
        if gauge is None or not np.isfinite(gauge).all() or vacuous(case, gauge):
            continue
        error = self_divergence(GaugedLayer(case, gauge), case)
        counted[control.name] = counted.get(control.name, 0) + 1
        refused = error > TOLERANCES.control_margin * bound
        record.judge(
            0.0 if refused else 1.0,
            0.0,
            f"control `{control.name}` is accepted",
            case,
        )


def predicted_divergence(case: Case, record: Record) -> None:
    """The uncorrected layer diverges from c·I by exactly as much as the derivation says."""
    kernel = predicted_blocks(case, uncorrected(case))
    predicted = deviation(kernel, case.reference.ideal)
    found = self_divergence(GaugedLayer(case, uncorrected(case)), case)
    record.judge(
        abs(found - predicted),
        case.tolerance * max(1.0, float(np.abs(kernel).max())),
        "the uncorrected layer's divergence is not the predicted one",
        case,
        Entries(np.array([found]), np.array([predicted]), ("divergence",)),
    )


def controls_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Every corruption must be refused at every instance where it changes anything.

    Raises:
        VerificationError: If fewer than :data:`LEAST` corruptions change anything.
    """
    total: dict[str, int] = {}
    for subject in variants:
        counted: dict[str, int] = {}
        for case in cases(subject, settings, record, kinds=GENERIC, count=INSTANCES):
            judge_controls(case, record, counted)
            predicted_divergence(case, record)
        if len(counted) < LEAST:
            raise VerificationError(
                f"only {len(counted)} negative controls apply to {subject.name}: "
                "nothing shows that a wrong gauge is refused"
            )
        total = {k: total.get(k, 0) + counted.get(k, 0) for k in {**total, **counted}}
    named = ", ".join(c.name for c in CONTROLS if c.name in total)
    record.note(f"refused: {named}")
