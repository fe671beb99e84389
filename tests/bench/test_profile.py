"""Profiles: whose calls and numbers are counted, and that noise is told from cost; no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cases import CASES, PLAIN, linear
from bench.limits import TABLE
from bench.modes import EAGER, Mode
from bench.profile import (
    ENGINE,
    PYTHON,
    Profiled,
    limited,
    measure_floor,
    named,
    numbers_moved,
    operators_beyond,
    profile_rounds,
    profiled,
)
from bench.results import Operator
from bench.running import prepare
from bench.timing import Effort
from bench.units import profile_units
from tests.bench.fakes import profile

N, J, I_ = 6, 5, 7
TINY = Effort(slice=0.0, budget=0.0, least=2, most=2)


# ------------------------------------------------------------------ differences
def a_round(**seconds: float) -> Profiled:
    return Profiled(seconds, dict.fromkeys(seconds, 1.0), len(seconds))


def shares(own: list[Profiled], plain: list[Profiled]) -> Mapping[str, float]:
    return {one.name: one.share for one in operators_beyond(own, plain)}


def test_a_dearer_operator_is_found_and_what_weighs_most_comes_first() -> None:
    plain = [a_round(product=8.0, engine=2.0)] * 3
    own = [a_round(product=8.0, scale=1.0, sum=3.0)] * 3
    found = shares(own, plain)
    assert found == pytest.approx({"sum": 0.3, "engine": -0.2, "scale": 0.1, "product": 0})
    assert list(found) == ["sum", "engine", "scale", "product"]


def test_what_happens_in_one_round_is_no_cost() -> None:
    plain = [a_round(product=8.0, engine=2.0)] * 5
    spike = [a_round(product=80.0, engine=2.0)]
    assert shares(spike + plain[1:], plain) == {"engine": 0, "product": 0}
    assert shares(spike * 3 + plain[3:], plain)["product"] > 1  # most rounds are another matter


def test_a_machine_that_is_slow_for_a_round_slows_both() -> None:
    loads = (2.0, 3.0, 0.5)
    plain = [a_round(product=10.0 * load) for load in loads]
    own = [a_round(product=10.0 * load, scale=2.0 * load) for load in loads]
    assert shares(own, plain) == pytest.approx({"scale": 0.2, "product": 0})


def test_calls_are_counted_beyond_the_plain_ones() -> None:
    plain, own = [a_round(product=1.0, view=0.0)], [a_round(product=1.0, scale=1.0)]
    calls = {one.name: one.calls for one in operators_beyond(own, plain)}
    assert calls == {"product": 0, "scale": 1, "view": -1}


def test_what_hardly_weighs_is_not_named() -> None:
    shares = {"a": 0.3, "b": 0.0049, "c": -0.005}
    operators = [Operator(name, 1, share) for name, share in shares.items()]
    assert [one.name for one in named(operators)] == ["a", "c"]


def test_rounds_go_on_until_the_budget_is_spent_and_the_first_counts_for_none(monkeypatch) -> None:
    made: list[float] = []

    def fake(run: Callable[[], object], steps: int) -> Profiled:
        made.append(100.0 if len(made) < 2 else 1.0)
        return a_round(product=made[-1])

    monkeypatch.setattr("bench.profile.profiled", fake)
    monkeypatch.setattr("bench.profile.processor_seconds", lambda run, calls: 1.0)
    runs = {PLAIN: lambda: None, "own": lambda: None}

    def rounds(budget: float) -> int:
        made.clear()
        found = profile_rounds(runs, Effort(slice=1.0, budget=budget, least=2, most=5))
        assert {one.total for each in found.values() for one in each} == {1.0}
        return len(found[PLAIN])

    assert [rounds(budget) for budget in (0.0, 206.0, 1000.0)] == [2, 3, 5]


# ------------------------------------------------------------------ the profiler
class Twice(torch.autograd.Function):
    """2x."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * 2


def test_operators_are_counted_a_step() -> None:
    x = torch.randn(N, J)
    found = profiled(lambda: (x * 2) * 3, steps=4)
    assert found.counts["aten::mul"] == 2
    assert found.counts[PYTHON] == 1
    assert found.calls == 2
    assert found.total >= found.seconds["aten::mul"] > 0


def test_one_that_an_operator_calls_is_no_call_of_the_layer() -> None:
    x, W, b = torch.randn(N, J), torch.randn(I_, J), torch.randn(I_)
    found = profiled(lambda: F.linear(x, W, b), steps=2)
    assert {"aten::linear", "aten::t", "aten::addmm"} <= found.counts.keys()
    assert found.calls == 1
    assert profiled(lambda: torch.addmm(b, x, W.t()), steps=2).calls == 2


def test_the_backward_of_a_function_is_named_and_counted_once() -> None:
    x, g = torch.randn(N, J, requires_grad=True), torch.ones(N, J)
    found = profiled(lambda: Twice.apply(x).backward(g), steps=3)
    assert found.counts["TwiceBackward"] == 1
    assert found.counts["aten::mul"] == 2
    assert not any(name.startswith(ENGINE) for name in found.seconds)


# ------------------------------------------------------------------ numbers moved
def moved(call: Callable[[Tensor], object]) -> int:
    x = torch.randn(N, J)
    return numbers_moved(lambda: call(x))


def test_a_product_reads_both_factors_and_writes_one() -> None:
    s = torch.rand(N, 1)
    assert moved(lambda x: x * s) == 2 * N * J + N
    assert moved(lambda x: x * s * s) == 2 * (2 * N * J + N)


def test_a_sum_writes_little_and_what_is_in_place_is_written_too() -> None:
    assert moved(lambda x: x.sum(1)) == N * J + N
    assert moved(torch.Tensor.neg_) == 2 * N * J


def test_views_move_nothing_and_copies_do() -> None:
    assert moved(lambda x: x.t().unsqueeze(0)[..., :2]) == 0
    assert moved(lambda x: torch.ops.aten._unsafe_view(x, [J, N])) == 0  # returns a view unsaid
    assert moved(lambda x: x.t().contiguous()) == 2 * N * J


def test_an_expanded_tensor_is_read_once() -> None:
    s = torch.rand(N, 1).expand(N, J)
    assert moved(lambda x: x * s) == 2 * N * J + N


def test_numbers_of_the_backward_pass_count() -> None:
    x, g = torch.randn(N, J, requires_grad=True), torch.ones(N, J)
    once = numbers_moved(lambda: Twice.apply(x))
    assert once == 2 * N * J
    x.grad = None
    assert numbers_moved(lambda: Twice.apply(x).backward(g)) >= 2 * once


# ------------------------------------------------------------------ what it runs into
def test_the_floor_is_the_call_and_each_map_beyond_it() -> None:
    """A timer on which a call takes 1 and each number of its result 0.5."""
    case = linear(N, J, I_)
    plain = prepare(case, Mode())[PLAIN]

    def timer(run: Callable[[], object], calls: int) -> float:
        result = run()
        return 1 + 0.5 * result.numel() if isinstance(result, Tensor) else 10.0

    floor = measure_floor(plain, lambda: None, case, TINY, timer)
    assert floor.call == 1.5
    assert floor.input_pass == 0.5 * (N * J - 1)
    assert floor.output_pass == 0.5 * (N * I_ - 1)


def test_calls_and_passes_as_shares_of_the_plain_step() -> None:
    found = profile()
    assert found.calls_share == pytest.approx(5 * 1 / 100)
    assert found.passes == 4
    assert found.passes_share == pytest.approx(4 * 3 / 100)
    assert replace(found, moved=0, calls=0).passes_share == 0


# ------------------------------------------------------------------ what is profiled
def test_every_layer_with_a_limit_in_eager_mode_is_profiled() -> None:
    wanted = {
        (case, name)
        for cases, names, limits in TABLE
        for case in cases
        for name in names
        if any(execution == EAGER for execution, _ in limits)
    }
    assert {(case.name, name) for case in CASES for name in limited(case)} == wanted
    assert len(list(profile_units())) == len({case for case, _ in wanted})


def test_a_case_without_limits_is_not_profiled(monkeypatch) -> None:
    assert limited(linear(2, 3, 4)) == ()
    compiled = tuple((*row[:2], {("compiled", PLAIN): 1.0}) for row in TABLE)
    monkeypatch.setattr("bench.profile.TABLE", compiled)
    assert not any(map(limited, CASES))
    assert list(profile_units()) == []
