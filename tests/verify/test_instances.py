"""Instances fit their layer, stay small, and are the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derive import derive
from derive.derivation import Derivation
from derive.evaluate import Evaluator, run_program
from tests.verify.handwritten import SPECS
from verify.instances import EXACT, KINDS, NUMERIC, Instance, instances, sample

ROOT = Path(__file__).parents[2]
DERIVED = {name: derive(spec) for name, spec in SPECS.items()}


def check(derivation: Derivation, instance: Instance, limit: int) -> None:
    program = derivation.program
    assert all(v >= 1 for v in instance.sizes.values())
    for tensor in (*program.inputs, *program.parameters):
        shape = tuple(instance.sizes[x.size] for x in tensor.letters)
        assert instance.tensors[tensor.name].shape == shape
    output = [instance.sizes[x.size] for x in program.output.letters]
    assert np.prod(output) <= limit
    values = run_program(program, Evaluator(instance.sizes, instance.tensors, instance.symbols))
    assert values[program.output.target].shape == tuple(output)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(sorted(SPECS)))
def test_strategy_fits(data: st.DataObject, name: str) -> None:
    check(DERIVED[name], data.draw(instances(DERIVED[name])), NUMERIC.outputs)


@pytest.mark.parametrize("name", SPECS)
def test_sample_fits(name: str) -> None:
    for limits in (NUMERIC, EXACT):
        found = sample(DERIVED[name], 8, limits=limits)
        assert [i.kind for i in found] == list(KINDS)
        for instance in found:
            check(DERIVED[name], instance, limits.outputs)


def test_hyperparameters_vary_within_their_ranges() -> None:
    found = sample(DERIVED["conv"], 40, kinds=["varied"])
    seen = {k: {i.symbols[k] for i in found} for k in ("stride", "padding", "dilation", "groups")}
    assert seen["padding"] == {0, 1, 2}
    assert all(seen[k] == {1, 2, 3} for k in ("stride", "dilation", "groups"))


def test_kinds_are_what_they_say() -> None:
    by_kind = {i.kind: i for i in sample(DERIVED["linear"], 8)}
    assert not by_kind["zero inputs"].tensors["x"].any()
    assert np.abs(by_kind["large inputs 1e6"].tensors["x"]).max() > 1e5
    assert by_kind["one site"].sizes["n"] == 1
    assert by_kind["many sites"].sizes["n"] > 4
    assert len({by_kind["equal sizes"].sizes[k] for k in ("n", "i", "j")}) == 1


def test_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from derive import derive; from tests.verify.handwritten import SPECS;"
        "from verify.instances import sample;"
        "print([(str(i), [float(v.sum()) for v in i.tensors.values()])"
        " for i in sample(derive(SPECS['conv']), 4, 7)])"
    )
    answers = set()
    for seed in ("0", "1", "12345"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(done.stdout)
    assert len(answers) == 1
