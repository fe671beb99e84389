"""Times of several contenders, interleaved, and the ratios between them.

A machine that others use is slow at one moment and fast at the next. So time is cut into rounds of
short slices: in every round each contender runs one slice, in a new order, and a ratio is formed
within the round. The ratio of two contenders is the median over rounds, its spread the quartiles.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

Run = Callable[[], object]
Timer = Callable[[Run, int], float]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        slice: Seconds that one contender runs before the next one does.
        budget: Seconds that all rounds together may take.
        least: Rounds at least, whatever they take.
        most: Rounds at most.
    """

    slice: float
    budget: float
    least: int
    most: int


THOROUGH = Effort(slice=0.015, budget=5.0, least=15, most=60)
QUICK = Effort(slice=0.004, budget=0.5, least=5, most=15)


@dataclass(frozen=True)
class Spread:
    """A median over rounds with its quartiles."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of one value a round."""
        low, median, high = (float(x) for x in np.quantile(values, (0.25, 0.5, 0.75)))
        return cls(median, low, high, len(values))


@dataclass(frozen=True)
class Rounds:
    """Seconds a call of each contender, one value a round."""

    seconds: Mapping[str, list[float]]

    def of(self, name: str) -> Spread:
        """Seconds a call."""
        return Spread.of(self.seconds[name])

    def ratio(self, name: str, reference: str) -> Spread:
        """Time over the reference's time in the same round."""
        pairs = zip(self.seconds[name], self.seconds[reference], strict=True)
        return Spread.of([mine / its for mine, its in pairs])


def processor_seconds(run: Run, calls: int) -> float:
    """Processor time a call: with one thread it is the time on an idle machine."""
    start = time.process_time_ns()
    for _ in range(calls):
        run()
    return (time.process_time_ns() - start) / calls / 1e9


def device_seconds(run: Run, calls: int) -> float:
    """Time a call on a GPU, between two events of its stream."""
    begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / calls / 1e3


def interleave(runs: Mapping[str, Run], timer: Timer, effort: Effort) -> Rounds:
    """Time contenders slice by slice.

    Args:
        runs: Contender → one call of it; already warm.
        timer: Seconds a call of so many calls.
        effort: How long to measure.
    """
    with no_collector():
        calls = {name: calls_in_slice(run, timer, effort) for name, run in runs.items()}
        order, shuffle = list(runs), random.Random(0).shuffle
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        spent = 0.0
        for done in range(effort.most):
            if done >= effort.least and spent >= effort.budget:
                break
            shuffle(order)
            for name in order:
                took = timer(runs[name], calls[name])
                seconds[name].append(took)
                spent += took * calls[name]
    return Rounds(seconds)


def calls_in_slice(run: Run, timer: Timer, effort: Effort) -> int:
    """How many calls fill a slice, by the fastest of three."""
    one = min(timer(run, 1) for _ in range(3))
    return max(1, round(effort.slice / one)) if one > 0 else 1


@contextmanager
def no_collector() -> Iterator[None]:
    """A block in which Python collects no garbage, which would fall on one contender by chance."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
