"""All certificates of a spec: every choice of optional parameters, every stage, the audit."""

from __future__ import annotations

from collections.abc import Iterator

from derive.audit import audit_row
from derive.certificate import Certificate, audit_certificate, certificates
from derive.derivation import derive_variants
from derive.program import Program
from derive.resolve import resolve
from derive.spec import LayerSpec
from derive.stages import stage_spec


def spec_certificates(spec: LayerSpec) -> Iterator[tuple[str, Certificate]]:
    """Certificates with names that tell them apart, as ``without-b.output-gauge``.

    A layer that has ``[stages]`` is certified stage by stage: each is a layer of its own.

    Raises:
        SpecError: If the spec is wrong.
        DerivationError: If a layer cannot be derived, or certificates have no word for a formula.
    """
    if not spec.stages:
        yield from layer_certificates(spec)
    for stage in spec.stages:
        for name, found in layer_certificates(stage_spec(spec, stage)):
            yield f"{stage}.{name}", found


def layer_certificates(spec: LayerSpec) -> Iterator[tuple[str, Certificate]]:
    """The certificates of a layer without stages."""
    for absent, derivation in derive_variants(spec).items():
        without = f"without-{'-'.join(sorted(absent))}." if absent else ""
        for found in certificates(derivation):
            yield f"{without}{found.name}", found
    if is_normaliser(resolve(spec)):
        yield "audit", audit_certificate(audit_row(spec))


def is_normaliser(program: Program) -> bool:
    """Whether the last line alone holds parameters: something fixed, then an affine layer."""
    targets = [line.target for line in program.lines]
    return len(targets) > 1 and program.dependent.intersection(targets) == {targets[-1]}
