"""Contenders of known cost and results made up, so that no test looks at a clock."""

from __future__ import annotations

from collections.abc import Callable

from bench.modes import EAGER, Mode
from bench.results import LAYERS, Floor, Kept, Operator, Profile, Results, Row, Timing
from bench.timing import Spread

CASE = "linear 256x784->512"
LAYER = "AffineLikeLinear"
USUAL = Mode()


class Clock:
    """Time that passes only where a contender says so, faster or slower from round to round."""

    def __init__(self, load: Callable[[int], float] = lambda _: 1.0) -> None:
        self.now = 0.0
        self.slices = 0
        self.load = load

    def contender(self, cost: float) -> Callable[[], None]:
        def run() -> None:
            self.now += cost * self.load(self.slices)

        return run

    def timer(self, run: Callable[[], object], calls: int) -> float:
        start = self.now
        for _ in range(calls):
            run()
        self.slices += 1
        return (self.now - start) / calls


def timing(
    median: float,
    *,
    half: float = 0.005,
    case: str = CASE,
    mode: Mode = USUAL,
    contender: str = LAYER,
    reference: str = "plain",
    section: str = LAYERS,
    rounds: int = 20,
) -> Timing:
    ratio = Spread(median, median - half, median + half, rounds)
    return Timing(section, case, mode, contender, reference, ratio, 0.001 * median)


def kept(
    size: int,
    output: int = 100,
    *,
    tensors: str = "float32 25",
    case: str = CASE,
    execution: str = EAGER,
    contender: str = LAYER,
) -> Kept:
    return Kept(case, execution, contender, size, output, tensors)


def profile(
    *operators: Operator,
    case: str = CASE,
    execution: str = EAGER,
    contender: str = LAYER,
    profiled: float = 0.2,
) -> Profile:
    """A plain step of 100 µs, maps of 1000 numbers together, calls of 1 µs, passes of 2 and 4."""
    is_eager = execution == EAGER
    return Profile(
        case=case,
        execution=execution,
        contender=contender,
        seconds=100e-6,
        ratio=1.25,
        profiled=profiled,
        operators=operators,
        fused=0.0 if is_eager else 0.15,
        input_pass=2e-6,
        output_pass=4e-6,
        floor=Floor(5, 12, moved=4000, numbers=1000, call=1e-6) if is_eager else None,
    )


def results(*rows: Row) -> Results:
    found = Results({"processor": "none", "python": "3", "torch": "2", "threads": "1"})
    found.add(rows)
    return found
