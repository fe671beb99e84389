"""Lines of a spec as layers of their own."""

import numpy as np
import pytest

from derive import LayerSpec, SpecError, derive
from derive.evaluate import Evaluator, run_program
from derive.nodes import Letter, substitute
from derive.resolve import resolve
from derive.stages import stage_spec


def test_chained_stages_are_the_whole_layer(shipped, draw):
    spec = shipped("multihead_attention")
    point = draw(spec, low=2)
    values = {
        k: point[k] for k in (t.name for t in (*point.program.inputs, *point.program.parameters))
    }
    for name in ("query", "key", "score", "mix", "output"):
        stage = resolve(stage_spec(spec, name))
        tensors = {t.name: values[t.name] for t in (*stage.inputs, *stage.parameters)}
        sizes = {
            letter.size: size
            for t in (*stage.inputs, *stage.parameters)
            for letter, size in zip(t.letters, tensors[t.name].shape, strict=True)
        }
        values |= run_program(stage, Evaluator(sizes, tensors, {}))
    np.testing.assert_allclose(values["z"], point["z"])


def test_a_stage_keeps_only_what_it_needs(shipped):
    stage = stage_spec(shipped("multihead_attention"), "output")
    program = resolve(stage)
    assert [t.name for t in program.tensors.values()] == ["m", "O", "e", "z"]
    assert [t.kind for t in program.tensors.values()] == [
        "input",
        "parameter",
        "parameter",
        "output",
    ]
    assert stage.name == "MultiheadAttentionOutput"
    assert list(stage.stages) == []


def test_stages_of_attention(shipped):
    spec = shipped("multihead_attention")
    found = {name: derive(stage_spec(spec, name)) for name in spec.stages}
    assert {name: d.structure.kind for name, d in found.items()} == dict.fromkeys(
        spec.stages, "isotropic"
    )
    exactness = {name: d.correction("output gauge").exactness for name, d in found.items()}
    assert exactness == {**dict.fromkeys(spec.stages, "exact"), "score": "frozen"}
    # q, k and v see the same tokens, so they share one factor.
    gauges = set()
    for name in ("query", "key", "value"):
        program = found[name].program
        token = {program.letters[x]: Letter("t", "t") for x in "tu" if x in program.letters}
        gauges.add(str(substitute(found[name].correction("input map").gauge, token)))
    assert len(gauges) == 1


def test_hyperparameters_and_inputs_of_a_stage():
    spec = LayerSpec(
        name="Two",
        forward="h[n, o, p] = W[o, c, k]*x[n, c, stride*p + k]\n"
        "z[n, o, p] = A[o]*h[n, o, p]*scale + b[o]",
        site="n p",
        unit="o",
        parameters={"W": {"torch": "weight"}, "A": {"torch": "gain"}, "b": {"torch": "bias"}},
        sizes={"o": "channels", "c": "in_channels", "k": "kernel_size", "p": "(l - k)//stride + 1"},
        hyperparameters={"stride": 1, "scale": 0.5},
        inputs={"x": "n c l"},
        stages={
            "filter": {"lines": "h", "site": "n p", "unit": "o"},
            "gain": {"lines": "z", "site": "n p", "unit": "o"},
        },
    )
    first, second = stage_spec(spec, "filter"), stage_spec(spec, "gain")
    assert dict(first.hyperparameters) == {"stride": 1}
    assert dict(first.inputs) == {"x": spec.inputs["x"]}
    assert [t.name for t in resolve(second).inputs] == ["h"]
    assert "scale" in second.hyperparameters
    derive(first)
    derive(second)


def test_unknown_stage_and_line(shipped):
    spec = shipped("multihead_attention")
    with pytest.raises(SpecError, match="no stage"):
        stage_spec(spec, "values")
    wrong = spec.with_(stages={"query": {"lines": "nope", "site": "n", "unit": "i"}})
    with pytest.raises(SpecError, match="which `forward` lacks"):
        stage_spec(wrong, "query")
    with pytest.raises(SpecError, match="no stage"):
        stage_spec(shipped("linear"), "query")
