"""What the digits example says about its runs is computed from them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def digits() -> Iterator[ModuleType]:
    place = importlib.util.spec_from_file_location("digits", ROOT / "examples" / "digits.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules["digits"] = module  # its dataclass looks itself up
    place.loader.exec_module(module)
    yield module
    del sys.modules["digits"]


def results(digits: ModuleType, other: list[float]) -> dict[str, dict[float, list[object]]]:
    def runs(tests: list[float]) -> dict[float, list[object]]:
        bad = [digits.Run((1.0,), 10.0, 99.0) for _ in tests]
        return {0.1: [digits.Run((1.0,), 90.0, test) for test in tests], 1.0: bad}

    return {"plain": runs([80.0, 81.0, 82.0]), "other": runs(other)}


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ([90.0, 91.5, 92.0], "better than plain"),
        ([70.0, 71.5, 72.0], "worse than plain"),
        ([70.0, 81.0, 92.0], "no difference beyond two standard errors"),
    ],
)
def test_verdict(digits: ModuleType, other: list[float], verdict: str) -> None:
    (line,) = digits.comparisons(results(digits, other))
    assert line.endswith(verdict)


def test_rate_is_chosen_by_validation_and_not_by_test(digits: ModuleType) -> None:
    by_rate = results(digits, [1.0, 2.0, 3.0])["other"]
    assert digits.chosen(by_rate) == 0.1


def test_sets_are_apart(digits: ModuleType) -> None:
    (x, _), (valid, _), (test, _) = digits.data()
    assert len(x) + len(valid) + len(test) == 1797
    assert len(valid) == len(test) == 360
