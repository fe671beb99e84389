"""Profiles: whose calls and numbers are counted, and that noise is told from cost; no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cases import CASES, PLAIN, Case, linear
from bench.limits import TABLE
from bench.modes import BOTH, COMPILED, EAGER, Mode
from bench.profile import (
    ENGINE,
    FUSED,
    PYTHON,
    Profiled,
    cheapest_call,
    common_name,
    fused_beyond,
    limited,
    measure_floors,
    measure_passes,
    measure_profile,
    named,
    numbers_moved,
    operators_beyond,
    prepared_runs,
    profile_rounds,
    profiled,
)
from bench.results import Operator, Profile
from bench.running import prepare, run_of
from bench.timing import Effort, Run
from bench.units import profile_units
from tests.bench.fakes import CASE, profile, results

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


def test_fused_kernels_are_summed_within_a_round() -> None:
    """In most rounds one of two kernels takes long, in none of them always the same."""
    plain = [a_round(product=9.0, cpp_fused_sum=1.0)] * 3
    pairs = ((5.0, 0.0), (0.0, 5.0), (1.0, 1.0))
    own = [a_round(product=9.0, cpp_fused_mul=a, cpp_fused_pow=b) for a, b in pairs]
    assert fused_beyond(own, plain) == pytest.approx((5 - 1) / 10)
    apart = [share for name, share in shares(own, plain).items() if FUSED in name]
    assert sum(apart) == pytest.approx((1 + 1 - 1) / 10)


def test_without_kernels_nothing_is_fused() -> None:
    plain, own = [a_round(product=9.0)], [a_round(product=9.0, scale=4.0)]
    assert fused_beyond(own, plain) == 0


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


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("graph_1_cpp_fused_mul_sum_0", "cpp_fused_mul_sum"),
        ("graph_12_cpp_fused__to_copy_mul_10", "cpp_fused__to_copy_mul"),
        ("graph_3_cpp_fused_0", "cpp_fused"),
        ("## Call CompiledFxGraph f3oy7lna3jzob6fw ##", "CompiledFxGraph"),
        ("Torch-Compiled Region: 1/0", "Torch-Compiled Region"),
        (f"{ENGINE}MulBackward0", "MulBackward0"),
        ("MulBackward0", "MulBackward0"),
        ("aten::log_1", "aten::log_1"),
        ("graph_1_else_0", "graph_1_else_0"),
    ],
)
def test_names_that_layers_share(name: str, common: str) -> None:
    assert common_name(name) == common


def test_kernels_of_compiled_code_are_seen() -> None:
    """Code that was compiled before without announcing its kernels is not used again."""
    case, names = linear(N, J, I_), (PLAIN, "NormLikeLinear")
    torch._dynamo.reset()
    ready = prepare(case, Mode(execution=COMPILED))
    silent = profiled(run_of(ready["NormLikeLinear"], BOTH), steps=2)
    assert not any(FUSED in name for name in silent.seconds)
    found = profiled(prepared_runs(case, COMPILED, names)["NormLikeLinear"], steps=2)
    assert sum(found.of([name]) > 0 for name in found.seconds if FUSED in name) >= 2
    assert found.counts["CompiledFxGraph"] == 2
    assert not any(name.startswith("graph_") for name in found.seconds)


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

    assert cheapest_call(TINY, timer) == 1.5
    passes = measure_passes(plain, lambda: None, case, TINY, timer)
    assert passes == (0.5 * (N * J - 1), 0.5 * (N * I_ - 1))


def test_floors_are_differences_to_the_plain_step() -> None:
    x = torch.randn(N, J)
    runs = {PLAIN: lambda: x * 2, "own": lambda: x * 2 * 3 + x}
    rounds = {name: [profiled(run, steps=2)] for name, run in runs.items()}
    floor = measure_floors(runs, rounds, 99, TINY)["own"]
    assert (floor.calls, floor.plain_calls, floor.numbers) == (2, 1, 99)
    assert floor.moved == (2 + 3) * N * J


def test_calls_and_passes_of_a_floor() -> None:
    found = profile()
    assert found.floor is not None
    assert found.floor.calls_seconds == pytest.approx(5e-6)
    assert found.floor.passes == 4
    assert found.mean_pass == pytest.approx(3e-6)


# ------------------------------------------------------------------ a whole profile
def measured(monkeypatch, execution: str) -> list[Profile]:
    """A tiny case, its contenders eager, its kernels made up."""

    def fake(run: Callable[[], object], steps: int) -> Profiled:
        return a_round(product=9.0, cpp_fused_mul=1.0)

    def eager(case: Case, execution: str, names: Sequence[str]) -> dict[str, Run]:
        asked.append(execution)
        return prepared_runs(case, EAGER, names)

    asked: list[str] = []
    monkeypatch.setattr("bench.profile.profiled", fake)
    monkeypatch.setattr("bench.profile.processor_seconds", even)
    monkeypatch.setattr("bench.profile.prepared_runs", eager)
    rows = measure_profile(linear(N, J, I_), execution, ["NormLikeLinear"], TINY)
    assert asked == [execution]
    return rows


def even(run: Callable[[], object], calls: int) -> float:
    """A timer on which every call takes a second."""
    run()
    return 1.0


def test_eager_mode_has_a_floor_and_compiled_code_none(monkeypatch) -> None:
    (compiled,), (eager,) = (measured(monkeypatch, way) for way in (COMPILED, EAGER))
    assert compiled.floor is None
    assert eager.floor is not None
    assert eager.floor.numbers == N * (J + I_)
    assert (compiled.execution, eager.execution) == (COMPILED, EAGER)


# ------------------------------------------------------------------ what is profiled
WAYS = (EAGER, COMPILED)


def test_every_layer_with_a_limit_of_time_is_profiled_where_it_has_it() -> None:
    wanted = {
        (case, execution, name)
        for cases, names, limits in TABLE
        for case in cases
        for name in names
        for execution, _ in limits
    }
    found = {(c.name, way, name) for c in CASES for way in WAYS for name in limited(c, way)}
    assert found == wanted
    labels = [unit.label for unit in profile_units()]
    places = {(case, way) for case, way, _ in wanted}
    assert sorted(labels) == sorted(
        f"{case} {way} forward+backward float32 profile" for case, way in places
    )


def test_a_unit_is_held_if_each_of_its_profiles_is() -> None:
    unit = next(unit for unit in profile_units() if unit.label.startswith(f"{CASE} compiled"))
    rows = [
        profile(contender=n, execution=COMPILED) for n in ("AffineLikeLinear", "NormLikeLinear")
    ]
    assert unit.held(results(*rows))
    assert not unit.held(results(rows[0]))
    assert not unit.held(results(*(replace(row, execution=EAGER) for row in rows)))


def test_a_case_without_limits_is_not_profiled(monkeypatch) -> None:
    assert not any(limited(linear(2, 3, 4), way) for way in WAYS)
    compiled = tuple((*row[:2], {(COMPILED, PLAIN): 1.0}) for row in TABLE)
    monkeypatch.setattr("bench.profile.TABLE", compiled)
    assert not any(limited(case, EAGER) for case in CASES)
    assert len(list(profile_units())) == len(CASES)
