"""A planted regression is named; what is within the spreads is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.compare import regressions
from bench.modes import COMPILED, Mode
from bench.results import Results, ResultsError
from bench.timing import Spread
from tests.bench.fakes import CASE, LAYER, kept, results, timing


def test_nothing_has_changed() -> None:
    rows = [timing(1.02), timing(1.01, mode=Mode(execution=COMPILED)), kept(1)]
    assert regressions(results(*rows), results(*rows)) == []


def test_a_planted_regression_is_named_alone() -> None:
    other = timing(1.01, mode=Mode(execution=COMPILED))
    (found,) = regressions(results(timing(1.02), other), results(timing(1.09), other))
    words = f"{CASE} eager forward+backward float32: time of {LAYER} / plain: 1.020 → 1.090"
    assert str(found).startswith(words)


def test_the_spread_of_both_is_the_margin() -> None:
    def grown(half: float) -> int:
        spreads = (0.03, half)
        ratios = zip((1.0, 1.07), spreads, strict=True)
        before, after = (results(timing(r, half=h, rounds=200)) for r, h in ratios)
        return len(regressions(before, after))

    assert (grown(0.05), grown(0.03)) == (0, 1)


def test_few_rounds_are_trusted_less() -> None:
    def grown(rounds: int) -> int:
        before, after = (results(timing(r, half=0.02, rounds=rounds)) for r in (1.0, 1.05))
        return len(regressions(before, after))

    assert (grown(5), grown(60)) == (0, 1)


def test_two_samples_of_the_same_rounds_differ_by_less_than_the_margin() -> None:
    """Of 400 pairs hardly one is a regression; a shift by five σ always is one."""
    draw = np.random.default_rng(0)

    def measured(shift: float) -> Results:
        ratio = Spread.of(list(draw.normal(1 + shift, 0.03, 10)))
        return results(replace(timing(1.0), ratio=ratio))

    same = [regressions(measured(0), measured(0)) for _ in range(400)]
    assert sum(map(len, same)) <= 2
    assert all(len(regressions(measured(0), measured(0.15))) == 1 for _ in range(50))


def test_a_small_change_of_two_quiet_runs_is_none() -> None:
    assert regressions(results(timing(1.0, half=0)), results(timing(1.019, half=0))) == []
    assert len(regressions(results(timing(1.0, half=0)), results(timing(1.021, half=0)))) == 1


def test_what_became_better_is_no_regression() -> None:
    assert regressions(results(timing(1.5)), results(timing(1.0))) == []


def test_a_rival_that_became_slower_is_none_of_ours() -> None:
    before, after = (timing(r, contender="RMSNorm+Linear") for r in (1.0, 2.0))
    assert regressions(results(timing(1.0), before), results(timing(1.0), after)) == []


def test_more_bytes_kept_are_a_regression() -> None:
    before, after = (results(kept(size)) for size in (1, 2))
    (found,) = regressions(before, after)
    assert "kept / output: 0.010 → 0.020" in str(found)


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ResultsError, match="nothing to compare"):
        regressions(results(timing(1.0)), results(timing(1.0, case="linear 1x1->1")))
