"""What fails shrinks to the smallest instance that fails, always the same one, and is explained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.verify.handwritten import source
from tests.verify.test_handwritten import MISTAKES
from verify import conformance
from verify.conformance import RUN, ConformanceCase
from verify.explain import described
from verify.shrink import ATTEMPTS, Failure, failure_of, shrink, simple, towards
from verify.stage import recorded


def case_of(name: str, stage: str, place: int = 0, **mistake: str) -> ConformanceCase:
    layer = source(name, **mistake)
    found = conformance.cases_of(layer, instances=4, general=source(name), stages=(stage,))
    return found[place]


def planted(mistake: str, stage: str = "numeric", place: int = 0) -> ConformanceCase:
    name, old, new = MISTAKES[mistake]
    return case_of(name, stage, place, old=old, new=new)


def shrunk(case: ConformanceCase, **options: Any) -> Failure:
    failure = failure_of(case.record())
    assert failure is not None
    return shrink(failure, case.stage, RUN[case.stage], case.settings, **options)


# (sizes and hyperparameters, inputs) of the smallest failure
SMALLEST = {
    "wrong exponent": ({"n": 1, "i": 1, "j": 1}, [[1]]),
    "wrong site": ({"n": 2, "i": 1, "j": 1}, [[0], [1]]),
    "wrong padding": ({"n": 1, "l": 1, "k": 1, "stride": 1, "padding": 1, "dilation": 1}, None),
    "groups mixed up": ({"groups": 2, "in_channels": 2, "out_channels": 4, "k": 1}, None),
    "upper factor": ({"in_features": 1, "rank": 1, "out_features": 2, "n": 1}, [[1]]),
}


@pytest.mark.parametrize("mistake", SMALLEST)
def test_the_smallest_instance_is_found(mistake: str) -> None:
    numbers, inputs = SMALLEST[mistake]
    found = shrunk(planted(mistake))
    instance = found.place.instance
    here = {**instance.sizes, **instance.symbols}
    assert {k: here[k] for k in numbers} == numbers
    assert inputs is None or instance.tensors["x"].tolist() == inputs
    assert all(np.isin(v, (0, 1)).all() for v in instance.tensors.values())


@pytest.mark.parametrize("stage", ["numeric", "order", "lowering", "gradients"])
def test_what_is_found_fails_the_same_stage_in_the_same_words(stage: str) -> None:
    mistake = "gauge not frozen" if stage == "gradients" else "wrong exponent"
    case = planted(mistake, stage)
    found = shrunk(case)
    here = replace(case.settings, pinned=found.place.instance)
    again = recorded(stage, RUN[stage], [found.place.subject], here)
    assert failure_of(again, found.what) is not None
    assert 0 < found.attempts <= ATTEMPTS


def test_numbers_in_general_position_stay_where_a_stage_needs_them() -> None:
    found = shrunk(planted("gauge not frozen", "gradients"))
    assert not np.isin(found.place.instance.tensors["x"], (0, 1)).any()
    assert found.place.instance.sizes == {"n": 1, "i": 1}


def test_a_regular_failure_does_not_shrink_to_a_singular_point() -> None:
    # At x = 0 the masked gauge of a right layer passes no finite difference either.
    found = shrunk(planted("radius ignored", place=1))
    assert found.place.instance.tensors["x"].any()


def test_always_the_same_instance() -> None:
    first, second = (shrunk(planted("groups mixed up")) for _ in range(2))
    assert list(described("numeric", first)) == list(described("numeric", second))


def test_the_number_of_attempts_is_bounded() -> None:
    found = shrunk(planted("groups mixed up"), attempts=2)
    assert found.attempts == 2


def breaking(condition: str) -> ConformanceCase:
    old = "        stride, padding, dilation, groups = self.options\n"
    new = f"{old}        if {condition}:\n            raise RuntimeError('out of paper')\n"
    return case_of("conv", "numeric", old=old, new=new)


@pytest.mark.parametrize(
    ("condition", "key"),
    [("len(x) >= 2", "n"), ("x.shape[1] > 1", "in_channels"), ("dilation > 1", "dilation")],
)
def test_an_exception_shrinks_to_the_edge_of_its_condition(condition: str, key: str) -> None:
    case = breaking(condition)
    found = shrunk(case)
    instance = found.place.instance
    here = {**instance.sizes, **instance.symbols}
    assert here.pop(key) == 2
    assert all(here[k] == 1 for k in ("n", "k", "stride", "groups") if k in here)
    assert found.reason == "out of paper"
    assert "RuntimeError (forward" in found.what


def test_a_failure_without_a_place_is_told_as_it_is() -> None:
    case = case_of("scale", "symbolic")
    record = recorded("symbolic", lambda *_: None, case.variants, case.settings)
    assert failure_of(record) is None
    text = conformance.explained(record, lambda *_: None, case.settings, "again()")
    assert text.splitlines() == [
        "UnitGaugeScale, symbolic: nothing could be judged",
        "  again     again()",
    ]


def test_simpler_values_come_first() -> None:
    assert [float(v) for v in simple(np.float64(2.71))] == [0, 1, 2, 3, 2.7]
    assert [float(v) for v in simple(np.float64(1.0))] == [0]
    assert simple(np.float64(0.0)) == []
    assert [v.tolist() for v in simple(np.array([4, 0]))] == [[0, 0]]


def test_smaller_numbers_come_first() -> None:
    assert towards(9, 1) == [1, 5, 8]
    assert towards(1, 1) == []
    assert towards(1e-3, 1e-5) == [1e-5]
