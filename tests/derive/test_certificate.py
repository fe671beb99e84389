"""A certificate's forward map is the spec's: evaluated in floating point by a reader of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from derive import LayerSpec, derive, load_spec
from derive.certificate import certificates
from derive.certificate_layer import spec_certificates
from derive.evaluate import Evaluator, run_program
from derive.stages import stage_spec
from verify.checker import check
from verify.instances import EXACT, sample

SPECS = Path(__file__).parents[2] / "truestep" / "specs"
CALLS = {
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "erf": math.erf,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


class Reader:
    """Values of a certificate's formulas in floating point."""

    def __init__(self, data, sizes, symbols, tensors):
        self.data, self.sizes, self.symbols, self.tensors = data, sizes, symbols, tensors
        self.lines = data["layer"]

    def value(self, e, env):
        if isinstance(e, str):
            return env[e] if e in env else self.named(e)
        if not isinstance(e, list):
            return e
        head, *rest = e
        if head == "sum":
            letter, size, body = rest
            places = range(self.value(size, env))
            return sum(self.value(body, {**env, letter: i}) for i in places)
        if head == "is 0":
            return int(self.value(rest[0], env) == 0)
        if head == "read":
            return self.read(rest[0], tuple(self.value(i, env) for i in rest[1:]))
        if head == "call":
            return CALLS[rest[0]](self.value(rest[1], env))
        if head == "root":
            return float(self.value(rest[1], env)) ** (1 / rest[0])
        return {"+": sum, "*": math.prod}[head](self.value(part, env) for part in rest)

    def named(self, e):
        if e == "pi":
            return math.pi
        return self.sizes[e[5:-1]] if e.startswith("size(") else self.symbols[e]

    def read(self, name, index):
        if name in self.lines:
            line = self.lines[name]
            shape = [self.value(size, {}) for size in line["letters"].values()]
        else:
            shape = self.tensors[name].shape
        if not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
            return 0.0
        if name in self.lines:
            return self.value(line["value"], dict(zip(line["letters"], index, strict=True)))
        x = self.tensors[name][index]
        return int(x) if self.data["tensors"][name]["kind"] == "token" else float(x)


def layers():
    for path in sorted(SPECS.glob("*.toml")):
        spec = load_spec(path)
        if not spec.stages:
            yield spec
        yield from (stage_spec(spec, stage) for stage in spec.stages)


@pytest.mark.parametrize("spec", list(layers()), ids=lambda spec: spec.name)
def test_the_forward_map_is_that_of_the_spec(spec):
    derivation = derive(spec)
    program = derivation.program
    data = json.loads(certificates(derivation)[0].to_json())
    assert data["about"]["spec"] == spec.digest
    for instance in sample(derivation, 2, kinds=("varied",), limits=EXACT):
        evaluator = Evaluator(instance.sizes, instance.tensors, instance.symbols)
        wanted = run_program(program, evaluator)[program.output.target]
        reader = Reader(data, instance.sizes, instance.symbols, instance.tensors)
        letters = data["layer"][program.output.target]["letters"]
        assert wanted.shape == tuple(reader.value(size, {}) for size in letters.values())
        found = [reader.read(program.output.target, i) for i in np.ndindex(*wanted.shape)]
        np.testing.assert_allclose(np.reshape(found, wanted.shape), wanted, rtol=1e-9, atol=1e-12)


def layer(forward, **more):
    parameters = {"W": {"torch": "weight"}, "b": {"torch": "bias"}}
    return LayerSpec(
        name="Layer", forward=forward, site="n", unit="i", parameters=parameters,
        sizes={"i": "out", "j": "width"}, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    "forward",
    [
        "z[n, i] = exp(W[i, j]*x[n, j] + b[i])",
        "z[n, i] = erf(W[i, j]*x[n, j]/3 + b[i])",
        "z[n, i] = relu(W[i, j]*x[n, j] + b[i])",
        "z[n, i] = W[i, j]*x[n, j]/max[j](x[n, j]**2) + b[i]",
        "z[n, i] = W[i, j]*x[n, j]**3 + b[i]",
    ],
)
def test_functions_maxima_and_odd_roots(forward):
    for found in certificates(derive(layer(forward))):
        verdict = check(json.loads(found.to_json()))
        assert verdict.accepted, f"{found.name}: {verdict.text}"


def test_a_square_is_found_again_at_letters_of_other_names():
    spec = LayerSpec(
        name="Layer", forward="h[n, j] = W[j]*x[n] + 2\nz[n] = h[n, j]*erf(h[n, k])",
        site="n", unit="", parameters={"W": {"torch": "weight"}}, sizes={"j": "width"},
    )  # fmt: skip
    for found in certificates(derive(spec)):
        verdict = check(json.loads(found.to_json()))
        assert verdict.accepted, f"{found.name}: {verdict.text}"


def test_assumptions_are_stated():
    found = dict(spec_certificates(load_spec(SPECS / "gated_linear.toml")))
    frozen = found["unit-gauge"].data
    assert frozen["claim"]["kind"] == "frozen"
    assert any("held fixed" in words for words in frozen["assumptions"])
    assert any("sigmoid" in words for words in frozen["assumptions"])
    low_rank = dict(spec_certificates(load_spec(SPECS / "low_rank.toml")))["matrix-gauge"].data
    assert any("pivot" in words for words in low_rank["assumptions"])


def test_names_and_radius():
    names = {name for name, _ in spec_certificates(load_spec(SPECS / "linear.toml"))}
    assert {"kernel", "output-gauge", "input-map", "without-b.input-map-any-radius"} <= names
    found = dict(spec_certificates(load_spec(SPECS / "linear.toml")))
    assert found["without-b.input-map"].data["claim"]["kind"] == "exact"
    assert found["without-b.input-map-any-radius"].data["claim"]["kind"] == "constant-rate"
