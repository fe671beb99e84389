"""A planted regression is named; what is within the spreads is not."""

from __future__ import annotations

import pytest

from bench.compare import regressions
from bench.modes import COMPILED, EAGER, Mode
from bench.results import Kept, ResultsError
from tests.bench.fakes import CASE, LAYER, results, timing


def test_nothing_has_changed() -> None:
    rows = [
        timing(1.02),
        timing(1.01, mode=Mode(execution=COMPILED)),
        Kept(CASE, EAGER, LAYER, 1, 9),
    ]
    assert regressions(results(*rows), results(*rows)) == []


def test_a_planted_regression_is_named_alone() -> None:
    other = timing(1.01, mode=Mode(execution=COMPILED))
    (found,) = regressions(results(timing(1.02), other), results(timing(1.09), other))
    words = f"{CASE} eager forward+backward float32: time of {LAYER} / plain: 1.020 → 1.090"
    assert str(found).startswith(words)


def test_the_spread_of_both_is_the_margin() -> None:
    before, after = results(timing(1.0, half=0.03)), results(timing(1.07, half=0.05))
    assert regressions(before, after) == []
    assert len(regressions(before, results(timing(1.07, half=0.03)))) == 1


def test_a_small_change_of_two_quiet_runs_is_none() -> None:
    assert regressions(results(timing(1.0, half=0)), results(timing(1.019, half=0))) == []
    assert len(regressions(results(timing(1.0, half=0)), results(timing(1.021, half=0)))) == 1


def test_what_became_better_is_no_regression() -> None:
    assert regressions(results(timing(1.5)), results(timing(1.0))) == []


def test_a_rival_that_became_slower_is_none_of_ours() -> None:
    before, after = (timing(r, contender="RMSNorm+Linear") for r in (1.0, 2.0))
    assert regressions(results(timing(1.0), before), results(timing(1.0), after)) == []


def test_more_bytes_kept_are_a_regression() -> None:
    before, after = (results(Kept(CASE, EAGER, LAYER, kept, 100)) for kept in (1, 2))
    (found,) = regressions(before, after)
    assert "kept / output: 0.010 → 0.020" in str(found)


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ResultsError, match="nothing to compare"):
        regressions(results(timing(1.0)), results(timing(1.0, case="linear 1x1->1")))
