"""Every legal spec: the emitted code computes what the spec says, and K̃(s,s) = c·I is measured."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from codegen import LayerSource, generate
from derive import LayerSpec, load_spec
from derive.evaluate import run_program
from tests.codegen.specs import SPECS
from tests.support import SPEC_FILES, Point, point

SHIPPED = tuple(
    load_spec(path)
    for name, path in SPEC_FILES.items()
    if name not in ("embedding", "multihead_attention")
)
TOLERANCE = 1e-9
"""Float64 at sizes of 2 and 3: some hundred roundings of 1e-16, times the kernel's size."""
every_spec = pytest.mark.parametrize("spec", SHIPPED + SPECS, ids=lambda s: s.name)


@functools.cache
def lowered(index: int, general: bool) -> LayerSource:
    return generate((SHIPPED + SPECS)[index], general=general)


def source(spec: LayerSpec, general: bool = False) -> LayerSource:
    return lowered((SHIPPED + SPECS).index(spec), general)


def points(spec: LayerSpec, seed: int) -> list[tuple[Point, Point, object]]:
    """Every class and variant, with the recognised forms and without."""
    result = []
    for found in source(spec).classes:
        for absent, correction in found.corrections.items():
            more = {"radius": 1.25} if found.kind == "norm-like" else {}
            pair = [point(source(spec, g), found, absent, seed, **more) for g in (False, True)]
            result.append((*pair, correction))
    return result


@every_spec
def test_the_general_lowering_computes_the_same(spec):
    for recognised, general, _ in points(spec, 0):
        np.testing.assert_allclose(
            recognised.output(), general.output(), rtol=TOLERANCE, atol=TOLERANCE
        )


@every_spec
def test_self_kernel_is_the_rate_times_the_identity(spec):
    for found in source(spec).classes:
        for absent, correction in found.corrections.items():
            more = {"radius": 1.25} if found.kind == "norm-like" else {}
            drawn = (point(source(spec), found, absent, seed, **more) for seed in range(20))
            # Two instances with a site that has a gauge: its kernel is not singular there.
            kept = [at for at in drawn if regular_sites(at, correction.ansatz).any()][:2]
            assert len(kept) == 2
            for at in kept:
                regular = regular_sites(at, correction.ansatz)
                kernel = at.self_kernel()[regular]
                wanted = at.rate(correction.rate) * np.eye(kernel.shape[-1])
                condition = np.linalg.cond(uncorrected_kernel(at)[regular]).max()
                assert np.abs(kernel - wanted).max() < TOLERANCE * max(1.0, condition)


def regular_sites(at: Point, ansatz: str) -> np.ndarray:
    """Where the uncorrected kernel has the rank that the ansatz needs."""
    kernel = uncorrected_kernel(at)
    if ansatz in ("unit gauge", "matrix gauge"):
        return np.linalg.matrix_rank(kernel) == kernel.shape[-1]
    if ansatz == "input map":
        # A map of the input acts where the kernel depends on the input.
        kernel = kernel - uncorrected_kernel(at, scale=0.0)
    return np.abs(kernel).max(axis=(1, 2)) > 0


@every_spec
def test_a_gauge_multiplies_the_activation_and_nothing_else(spec):
    for at, _, correction in points(spec, 3):
        if correction.ansatz not in ("output gauge", "unit gauge"):
            continue
        letters = at.program.output.letters
        with np.errstate(divide="ignore", invalid="ignore"):
            tensors = {**at.evaluator.tensors, **lines(at)}
            gauge = type(at.evaluator)(at.evaluator.sizes, tensors, at.evaluator.symbols).array(
                correction.gauge, letters
            )
        wanted = np.where(np.isfinite(gauge), gauge, 0.0) * at.plain()
        np.testing.assert_allclose(at.output(), wanted, rtol=TOLERANCE, atol=TOLERANCE)


def lines(at: Point) -> dict[str, np.ndarray]:
    """The values of all lines."""
    return run_program(at.program, at.evaluator)


def uncorrected_kernel(at: Point, scale: float = 1.0) -> np.ndarray:
    """Derived K(s,s) of the uncorrected layer at scaled inputs as (site, unit, unit)."""
    program = at.program
    letters = (*program.site, *program.unit, *(x.primed for x in program.unit))
    inputs = {t.name for t in program.inputs if t.kind == "input"}
    tensors = {**at.evaluator.tensors, **lines(at)}
    tensors = {k: scale * v if k in inputs else v for k, v in tensors.items()}
    kernel = type(at.evaluator)(at.evaluator.sizes, tensors, at.evaluator.symbols).array(
        at.derivation.update.self_kernel, letters
    )
    units = int(np.prod([at.evaluator.sizes[x.size] for x in program.unit], dtype=int))
    return kernel.reshape(-1, units, units)
