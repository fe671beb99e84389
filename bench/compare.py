"""Regressions: where a corrected layer costs more than in a stored baseline.

Ratios are compared, not times, so the machine may be another one. A ratio has become worse where it
grew by more than each of these: both spreads together (half the distance of the quartiles each),
four standard errors of the difference of two medians, and a floor below which two runs of the same
code differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.limits import contenders_with_limits
from bench.results import Kept, Results, ResultsError, Timing
from bench.timing import Spread

FLOOR = 0.02
KEPT_FLOOR = 0.001
ERRORS = 4
QUARTILES = 1.349
"""Distance of the quartiles of a normal distribution, in σ."""


@dataclass(frozen=True)
class Regression:
    """A cost that has grown.

    Args:
        label: Which one.
        before: Its ratio in the baseline.
        after: Its ratio now.
        margin: By how much it may have grown.
    """

    label: str
    before: float
    after: float
    margin: float

    def __str__(self) -> str:
        grown = self.after - self.before
        return (
            f"{self.label}: {self.before:.3f} → {self.after:.3f} "
            f"(+{grown:.3f}, margin {self.margin:.3f})"
        )


def regressions(before: Results, after: Results) -> list[Regression]:
    """What has become worse.

    Raises:
        ResultsError: If no measurement is in both, so that nothing was compared.
    """
    common = compared(before, after)
    if not common:
        raise ResultsError("nothing to compare: no measurement is in both files")
    return [found for found in common if found.after - found.before > found.margin]


def compared(before: Results, after: Results) -> list[Regression]:
    """Every cost of a corrected layer that is in both files."""
    return [*compared_times(before, after), *compared_bytes(before, after)]


def compared_times(before: Results, after: Results) -> Iterator[Regression]:
    """Ratios of times."""
    for key in before.timings.keys() & after.timings.keys():
        old, new = before.timings[key], after.timings[key]
        if old.contender in contenders_with_limits():
            found = margin(old.ratio, new.ratio)
            yield Regression(named(old), old.ratio.median, new.ratio.median, found)


def compared_bytes(before: Results, after: Results) -> Iterator[Regression]:
    """Bytes kept, in outputs; they are counted, so they have no spread."""
    for key in before.kept.keys() & after.kept.keys():
        old, new = before.kept[key], after.kept[key]
        if old.contender in contenders_with_limits():
            yield Regression(kept_named(old), old.ratio, new.ratio, KEPT_FLOOR)


def margin(old: Spread, new: Spread) -> float:
    """By how much a ratio may grow."""
    noise = ERRORS * math.hypot(error(old), error(new))
    return max(FLOOR * old.median, half(old) + half(new), noise)


def error(spread: Spread) -> float:
    """Standard error of a median of normal values: σ·√(π/2n), with σ from the quartiles."""
    sigma = (spread.high - spread.low) / QUARTILES
    return sigma * math.sqrt(math.pi / (2 * spread.rounds))


def half(spread: Spread) -> float:
    """Half the distance of the quartiles."""
    return (spread.high - spread.low) / 2


def named(row: Timing) -> str:
    """A timing in words."""
    return f"{row.case} {row.mode}: time of {row.contender} / {row.reference}"


def kept_named(row: Kept) -> str:
    """A count of bytes in words."""
    return f"{row.case} {row.execution}: {row.contender} kept / output"
