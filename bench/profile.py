"""Where the time of a corrected layer beyond the plain one goes, and what it runs into.

torch's profiler gives each operator's own time, without that of the operators it calls; what it
gives no operator is Python's. Profiles of both layers are taken in turn, and a difference is formed
within a round. What operators that run one by one cannot avoid is measured beside it: the cheapest
call, and one pass over a map, which reads it, multiplies it and writes the product. The profiler
makes each call dearer, so these and the ratio to the plain layer are measured without it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as profiler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.cases import PLAIN, Case
from bench.limits import TABLE
from bench.memory import address
from bench.modes import BOTH, EAGER, Mode
from bench.results import Operator, Profile, rounded
from bench.running import Prepared, prepare, run_of
from bench.timing import (
    Effort,
    Run,
    Timer,
    calls_in_slice,
    interleave,
    no_collector,
    processor_seconds,
)

PYTHON = "Python"
"""What runs between operators."""
ENGINE = "autograd::engine::evaluate_function: "
NAMED = 0.005
"""Share of the plain step from which on an operator is named."""


@dataclass(frozen=True)
class Profiled:
    """What operators took in one round, a step.

    Args:
        seconds: Operator → seconds of its own.
        counts: Operator → how often it was called.
        calls: How many operators were called from outside any other.
    """

    seconds: Mapping[str, float]
    counts: Mapping[str, float]
    calls: int

    @property
    def total(self) -> float:
        """Seconds of the step."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Floor:
    """Seconds of the cheapest call, and of a pass over the input and the output beyond its call."""

    call: float
    input_pass: float
    output_pass: float


def limited(case: Case) -> tuple[str, ...]:
    """The corrected layers of a case whose time has a limit in eager mode."""
    return tuple(
        name
        for cases, names, limits in TABLE
        if case.name in cases and any(execution == EAGER for execution, _ in limits)
        for name in names
    )


def measure_profile(case: Case, contenders: Sequence[str], effort: Effort) -> list[Profile]:
    """Profile corrected layers of a case beside the plain one: eager, forward and backward."""
    ready = prepare(case, Mode())
    runs = {name: run_of(ready[name], BOTH) for name in (PLAIN, *contenders)}
    times = interleave(runs, processor_seconds, effort)
    floor = measure_floor(ready[PLAIN], runs[PLAIN], case, effort)
    rounds = profile_rounds(runs, effort)
    moved = {name: numbers_moved(run) for name, run in runs.items()}
    beyond = {name: operators_beyond(rounds[name], rounds[PLAIN]) for name in contenders}
    calls = {name: found[-1].calls for name, found in rounds.items()}
    return [
        Profile(
            case=case.name,
            contender=name,
            seconds=rounded(times.of(PLAIN).median),
            ratio=rounded(times.ratio(name, PLAIN).median),
            profiled=rounded(sum(one.share for one in beyond[name])),
            operators=named(beyond[name]),
            calls=calls[name] - calls[PLAIN],
            plain_calls=calls[PLAIN],
            moved=moved[name] - moved[PLAIN],
            numbers=map_numbers(ready[PLAIN]),
            call=rounded(floor.call),
            input_pass=rounded(floor.input_pass),
            output_pass=rounded(floor.output_pass),
        )
        for name in contenders
    ]


# ------------------------------------------------------------------ operators
def profile_rounds(runs: Mapping[str, Run], effort: Effort) -> dict[str, list[Profiled]]:
    """Profiles of several runs in turn; the first of each, which warms it up, is dropped."""
    steps = {name: calls_in_slice(run, processor_seconds, effort) for name, run in runs.items()}
    order, shuffle = list(runs), random.Random(0).shuffle
    found: dict[str, list[Profiled]] = {name: [] for name in runs}
    spent = 0.0
    for done in range(1 + effort.most):
        if done > effort.least and spent >= effort.budget:
            break
        shuffle(order)
        for name in order:
            found[name].append(profiled(runs[name], steps[name]))
            spent += found[name][-1].total * steps[name]
    return {name: rounds[1:] for name, rounds in found.items()}


def profiled(run: Run, steps: int) -> Profiled:
    """So many steps under the profiler."""
    with no_collector(), profiler(activities=[ProfilerActivity.CPU]) as profile:
        for _ in range(steps):
            with record_function(PYTHON):
                run()
    seconds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    calls = 0
    for event in profile.events():
        name = event.name.removeprefix(ENGINE)
        seconds[name] += event.self_cpu_time_total / 1e6
        counts[name] += name == event.name  # the engine's event holds the operator's own
        calls += is_outermost(event)
    return Profiled(
        {name: total / steps for name, total in seconds.items()},
        {name: count / steps for name, count in counts.items()},
        round(calls / steps),
    )


def is_outermost(event: FunctionEvent) -> bool:
    """Whether an event is a call of a tensor operator that no tensor operator made."""
    if not event.name.startswith("aten::"):
        return False
    parent = event.cpu_parent
    while parent is not None and not parent.name.startswith("aten::"):
        parent = parent.cpu_parent
    return parent is None


def operators_beyond(own: Sequence[Profiled], plain: Sequence[Profiled]) -> list[Operator]:
    """What every operator does beyond the plain step, what weighs most first."""
    names = {name for found in (*own, *plain) for name in found.seconds}
    found = [
        Operator(
            name,
            calls=own[-1].counts.get(name, 0) - plain[-1].counts.get(name, 0),
            share=share_beyond(own, plain, name),
        )
        for name in names
    ]
    return sorted(found, key=lambda one: (-abs(one.share), one.name))


def share_beyond(own: Sequence[Profiled], plain: Sequence[Profiled], name: str) -> float:
    """Time of an operator beyond the plain step's over that step: median over rounds."""
    shares = [
        (mine.seconds.get(name, 0) - its.seconds.get(name, 0)) / its.total
        for mine, its in zip(own, plain, strict=True)
    ]
    return float(np.median(shares))


def named(found: Iterable[Operator], least: float = NAMED) -> tuple[Operator, ...]:
    """The operators that weigh enough to be named, in digits enough."""
    return tuple(
        Operator(one.name, rounded(one.calls), rounded(one.share))
        for one in found
        if abs(one.share) >= least
    )


# ------------------------------------------------------------------ what it runs into
class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers that operators read and write; what returns a view moves none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it reads and what it returns."""
        result = func(*args, **(kwargs or {}))
        read, written = tensors((args, kwargs)), tensors(result)
        # Some operators that return a view are not declared to.
        is_view = not {address(one) for one in read}.isdisjoint(map(address, written))
        if func._schema.is_mutable or not is_view:
            self.moved += sum(map(numbers_of, (*read, *written)))
        return result


def tensors(tree: object) -> list[Tensor]:
    """The tensors among arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def numbers_of(tensor: Tensor) -> int:
    """Numbers of a tensor that lie in memory, where an expanded one has them once."""
    return min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.itemsize)


def numbers_moved(run: Run) -> int:
    """Numbers that the operators of one call read and write."""
    traffic = Traffic()
    with traffic:
        run()
    return traffic.moved


def map_numbers(ready: Prepared) -> int:
    """Numbers of the input and of the output."""
    with torch.no_grad():
        return ready.x.numel() + ready.call(ready.x).numel()


def measure_floor(
    ready: Prepared, step: Run, case: Case, effort: Effort, timer: Timer = processor_seconds
) -> Floor:
    """The cheapest call and the passes, each on a map that is as cold as a step finds it.

    The input is passed over where a step has just ended, the output where it has just been made.
    """
    x, number = ready.x.detach(), torch.ones(1)
    axis = 1 if case.is_image else -1
    count = effort.least * calls_in_slice(step, timer, effort)
    input_passes, output_passes = [], []
    with no_collector():
        for _ in range(count):
            step()
            input_passes.append(pass_seconds(x, axis, timer))
            with torch.no_grad():
                z = ready.call(x)
            output_passes.append(pass_seconds(z, axis, timer))
        calls = calls_in_slice(number.neg_, timer, effort)
        cheapest = min(timer(number.neg_, calls) for _ in range(effort.least))
    return Floor(cheapest, float(np.median(input_passes)), float(np.median(output_passes)))


def pass_seconds(numbers: Tensor, axis: int, timer: Timer) -> float:
    """A multiplication of a map by one factor a site, into new memory, beyond that of one number.

    Args:
        numbers: The map.
        axis: The axis of the units.
        timer: Seconds a call.
    """
    factors = torch.ones_like(numbers.narrow(axis, 0, 1))
    first = (slice(0, 1),) * numbers.dim()
    number, factor = numbers[first], factors[first]
    timer(lambda: number * factor, 1)  # the code, unlike the numbers, is warm in both that count
    one = timer(lambda: number * factor, 1)
    return timer(lambda: numbers * factors, 1) - one
