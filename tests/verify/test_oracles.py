"""The oracles agree with each other, and the certificate stage notices a wrong kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy
import torch

from derive import LayerSpec, derive
from derive.evaluate import Evaluator, run_program
from derive.nodes import Delta
from tests.verify.handwritten import SPECS, source
from verify.certify import certificate_stage
from verify.instances import sample
from verify.oracle import parameters_of, uncorrected, uncorrected_kernel
from verify.sources import subjects
from verify.stage import Record, Settings
from verify.symbolic import symbolic_stage

AFFINE = {"parameters": {"W": {"torch": "weight"}, "b": {"torch": "bias"}}}
MORE = {
    name: LayerSpec(name="Layer", forward=forward, site=site, unit=unit, **AFFINE, sizes=sizes)
    for name, (forward, site, unit, sizes) in {
        "softmax": (
            "s[n, u] = x[n, t, j]*x[n, u, j]\nw[n, u] = softmax[u](s[n, u])\n"
            "z[n, i] = W[i, j]*x[n, u, j]*w[n, u] + b[i]",
            "n", "i", {"i": "out", "j": "width"},
        ),
        "normaliser": (
            "v[n] = mean[j](x[n, j]**2)\nz[n, i] = W[i, j]*x[n, j]/sqrt(v[n]) + b[i]",
            "n", "i", {"i": "out", "j": "width"},
        ),
        "learned scores": (
            "w[n, u] = softmax[u](W[j]*x[n, u, j])\nz[n, i] = w[n, u]*x[n, u, i] + b[i]",
            "n", "i", {"j": "width"},
        ),
        "gelu": (
            "z[n, i] = gelu(W[i, j]*x[n, j] + b[i])", "n", "i", {"i": "out", "j": "width"},
        ),
        "silu": (
            "z[n, i] = silu(W[i, j]*x[n, j] + b[i])", "n", "i", {"i": "out", "j": "width"},
        ),
        "maximum": (
            "z[n, i] = W[i, j]*max(x[n, j], tanh(x[n, j])) + b[i]*relu(x[n, i])",
            "n", "i", {"j": "width"},
        ),
    }.items()
}  # fmt: skip
ALL = {**SPECS, **MORE}


@pytest.mark.parametrize("name", ALL)
def test_two_readings_of_the_notation_agree(name: str) -> None:
    derivation = derive(ALL[name])
    program = derivation.program
    for instance in sample(derivation, 3, kinds=["defaults", "varied", "one site"]):
        evaluator = Evaluator(instance.sizes, instance.tensors, instance.symbols)
        lines = run_program(program, evaluator)
        value = uncorrected(program, instance)(parameters_of(program, instance))
        np.testing.assert_allclose(value.numpy(), lines[program.output.target], atol=1e-12)
        letters = program.output.letters
        evaluator = Evaluator(instance.sizes, {**instance.tensors, **lines}, instance.symbols)
        derived = evaluator.array(
            derivation.update.kernel, (*letters, *(x.primed for x in letters))
        )
        np.testing.assert_allclose(uncorrected_kernel(program, instance), derived, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in MORE if n != "learned scores"])
def test_certificate_stage_handles_roots_and_functions(name: str) -> None:
    derivation = derive(MORE[name])
    correction = next(c for c in derivation.applied if c.ansatz != "split gauge")
    (subject, *_) = subjects(source("linear"))
    subject = replace(subject, derivation=derivation, correction=correction)
    record = Record("certificate", "Layer")
    certificate_stage([subject], Settings(instances=6), record)
    result = record.result()
    assert result.passed, result.detail


def corrupted(name: str, change: sympy.Expr) -> list[Record]:
    """A layer whose derivation claims a kernel that is off by a term."""
    (subject, *_) = subjects(source(name))
    update = replace(subject.derivation.update, kernel=subject.derivation.update.kernel + change)
    wrong = replace(subject, derivation=replace(subject.derivation, update=update))
    record = Record("certificate", subject.name)
    certificate_stage([wrong], Settings(instances=4), record)
    return [record]


def test_certificate_stage_refuses_a_wrong_interference_term() -> None:
    (n, i) = derive(SPECS["linear"]).program.output.letters
    # Wrong by a term that vanishes at s' = s, so that only the interference is off.
    change = Delta(i - i.primed) * (1 - Delta(n - n.primed))
    (record,) = corrupted("linear", change)
    result = record.result()
    assert not result.passed
    assert "kernel of Linear: ValueError: K is not as claimed" in result.detail


def test_certificate_and_symbolic_stages_refuse_a_wrong_gauge() -> None:
    (subject, *_) = subjects(source("linear"))
    gauge = subject.correction.gauge
    for wrong in (2 * gauge, gauge**2, sympy.sqrt(gauge)):
        here = replace(subject, correction=replace(subject.correction, gauge=wrong))
        for stage in (certificate_stage, symbolic_stage):
            record = Record("stage", subject.name)
            stage([here], Settings(instances=4), record)
            assert not record.result().passed


def test_uncorrected_layers_diverge() -> None:
    derivation = derive(SPECS["linear"])
    (instance,) = sample(derivation, 1)
    kernel = uncorrected_kernel(derivation.program, instance)
    x = torch.from_numpy(instance.tensors["x"])
    wanted = 1 + x.square().sum(-1).numpy()
    found = np.einsum("nini->ni", kernel)
    np.testing.assert_allclose(found, np.broadcast_to(wanted[:, None], found.shape))
