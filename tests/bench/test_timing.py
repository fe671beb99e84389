"""Rounds and ratios, with contenders of known cost on a clock of our own."""

from __future__ import annotations

import gc
import math

import pytest

from bench.timing import Effort, Rounds, Spread, interleave, no_collector
from tests.bench.fakes import Clock

EFFORT = Effort(slice=0.02, budget=3.0, least=5, most=40)


def ratio_on(clock: Clock, mine: float, its: float, effort: Effort = EFFORT) -> Spread:
    runs = {"plain": clock.contender(its), "corrected": clock.contender(mine)}
    return interleave(runs, clock.timer, effort).ratio("corrected", "plain")


def test_ratio_of_known_costs() -> None:
    found = ratio_on(Clock(), 0.0033, 0.003)
    assert (found.low, found.median, found.high) == pytest.approx((1.1, 1.1, 1.1))
    assert found.rounds == EFFORT.most


def test_slow_moments_do_not_move_the_median() -> None:
    """Every seventh slice takes thrice as long: whoever runs then, the pairs around it hold."""
    found = ratio_on(Clock(lambda k: 3.0 if k % 7 == 0 else 1.0), 0.0022, 0.002)
    assert found.median == pytest.approx(1.1)


def test_a_slow_drift_cancels_within_rounds() -> None:
    found = ratio_on(Clock(lambda k: math.exp(k / 40)), 0.0022, 0.002)
    assert found.median == pytest.approx(1.1, rel=0.03)


def test_one_contender_after_the_other_would_not_cancel_it() -> None:
    clock = Clock(lambda k: math.exp(k / 40))
    its = [clock.timer(clock.contender(0.002), 10) for _ in range(20)]
    mine = [clock.timer(clock.contender(0.0022), 10) for _ in range(20)]
    assert Rounds({"a": mine, "b": its}).ratio("a", "b").median > 1.5


def test_every_contender_runs_in_every_round_in_orders_that_differ() -> None:
    clock, order = Clock(), []

    def contender(name: str):
        inner = clock.contender(1.0)

        def run() -> None:
            order.append(name)
            inner()

        return run

    names = "abc"
    effort = Effort(slice=0.1, budget=0.0, least=8, most=8)
    interleave({name: contender(name) for name in names}, clock.timer, effort)
    rounds = ["".join(order[k : k + 3]) for k in range(len(order) - 24, len(order), 3)]
    assert all(sorted(one) == list(names) for one in rounds)
    assert len(set(rounds)) > 2


def test_slices_are_equally_long_whatever_a_call_costs() -> None:
    clock, calls = Clock(), {"fast": 0, "slow": 0}

    def counted(name: str, cost: float):
        inner = clock.contender(cost)

        def run() -> None:
            calls[name] += 1
            inner()

        return run

    runs = {"fast": counted("fast", 0.001), "slow": counted("slow", 0.05)}
    effort = Effort(slice=0.02, budget=0.0, least=10, most=10)
    interleave(runs, clock.timer, effort)
    assert (calls["fast"] - 3, calls["slow"] - 3) == (200, 10)


def test_the_budget_ends_the_rounds_but_not_before_the_least() -> None:
    assert ratio_on(Clock(), 1.0, 1.0).rounds == EFFORT.least
    assert EFFORT.least < ratio_on(Clock(), 0.1, 0.1).rounds < EFFORT.most


def test_spread() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)


def test_the_collector_is_off_within_and_as_before_behind() -> None:
    assert gc.isenabled()
    with no_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with no_collector():
        pass
    assert not gc.isenabled()
    gc.enable()
