"""Where the time of a corrected layer beyond the plain one goes, and what it runs into.

torch's profiler gives each operator's own time, without that of the operators it calls; what it
gives no operator is Python's. Profiles of both layers are taken in turn, and a difference is formed
within a round. Beside it one pass over a map is measured, which reads it, multiplies it and writes
the product, and in eager mode the cheapest call: operators that run one by one cannot avoid either.
The profiler makes each call dearer, so these and the ratio to the plain layer are measured without
it. Compiled code shows the kernels that the compiler has fused.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._inductor import config
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as profiler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.cases import PLAIN, Case
from bench.limits import TABLE
from bench.memory import address
from bench.modes import BOTH, COMPILED, EAGER, Mode
from bench.results import Floor, Operator, Profile, rounded
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
FUSED = "cpp_fused"
"""What the compiler calls its kernels."""
NUMBERED = re.compile(
    rf"graph_\d+_({FUSED}\w*?)(?:_\d+)?"
    r"|## Call (CompiledFxGraph) \w+ ##"
    r"|(Torch-Compiled Region): \d+/\d+"
)
"""Names of compiled code, which hold the number or digest of a graph or kernel."""
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

    def of(self, names: Iterable[str]) -> float:
        """Seconds of some operators, as far as they ran."""
        return sum(self.seconds.get(name, 0.0) for name in names)


def limited(case: Case, execution: str) -> tuple[str, ...]:
    """The corrected layers of a case whose time has a limit in an execution."""
    return tuple(
        name
        for cases, names, limits in TABLE
        if case.name in cases and any(execution == where for where, _ in limits)
        for name in names
    )


def measure_profile(
    case: Case, execution: str, contenders: Sequence[str], effort: Effort
) -> list[Profile]:
    """Profile corrected layers of a case beside the plain one, forward and backward."""
    runs = prepared_runs(case, execution, (PLAIN, *contenders))
    times = interleave(runs, processor_seconds, effort)
    plain = prepare(case, Mode())[PLAIN]
    input_pass, output_pass = measure_passes(plain, run_of(plain, BOTH), case, effort)
    rounds = profile_rounds(runs, effort)
    beyond = {name: operators_beyond(rounds[name], rounds[PLAIN]) for name in contenders}
    floors = measure_floors(runs, rounds, map_numbers(plain), effort) if execution == EAGER else {}
    return [
        Profile(
            case=case.name,
            execution=execution,
            contender=name,
            seconds=rounded(times.of(PLAIN).median),
            ratio=rounded(times.ratio(name, PLAIN).median),
            profiled=rounded(sum(one.share for one in beyond[name])),
            operators=named(beyond[name]),
            fused=rounded(fused_beyond(rounds[name], rounds[PLAIN])),
            input_pass=rounded(input_pass),
            output_pass=rounded(output_pass),
            floor=floors.get(name),
        )
        for name in contenders
    ]


def prepared_runs(case: Case, execution: str, names: Iterable[str]) -> dict[str, Run]:
    """Contenders of a case, warm; compiled such that the profiler sees each kernel.

    A kernel that no profiler listens to announces itself in a time too short to measure.
    """
    torch._dynamo.reset()
    ready = prepare(case, Mode(execution=execution))
    with config.patch({"cpp.enable_kernel_profile": execution == COMPILED}):
        return {name: run_of(ready[name], BOTH) for name in names}


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
        name = common_name(event.name)
        seconds[name] += event.self_cpu_time_total / 1e6
        # The engine's event holds the operator's own.
        counts[name] += not event.name.startswith(ENGINE)
        calls += is_outermost(event)
    return Profiled(
        {name: total / steps for name, total in seconds.items()},
        {name: count / steps for name, count in counts.items()},
        round(calls / steps),
    )


def common_name(name: str) -> str:
    """A name without what tells one graph from another, so that layers share it."""
    name = name.removeprefix(ENGINE)
    found = NUMBERED.fullmatch(name)
    return name if found is None else found[found.lastindex or 0]


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
    found = [
        Operator(
            name,
            calls=own[-1].counts.get(name, 0) - plain[-1].counts.get(name, 0),
            share=share_beyond(own, plain, [name]),
        )
        for name in names_in(own, plain)
    ]
    return sorted(found, key=lambda one: (-abs(one.share), one.name))


def fused_beyond(own: Sequence[Profiled], plain: Sequence[Profiled]) -> float:
    """What the compiler's kernels take together beyond those of the plain step, over that step."""
    return share_beyond(own, plain, [name for name in names_in(own, plain) if FUSED in name])


def names_in(own: Sequence[Profiled], plain: Sequence[Profiled]) -> set[str]:
    """The operators that ran in any round."""
    return {name for found in (*own, *plain) for name in found.seconds}


def share_beyond(own: Sequence[Profiled], plain: Sequence[Profiled], names: Sequence[str]) -> float:
    """Time of operators beyond the plain step's over that step: median over rounds."""
    pairs = zip(own, plain, strict=True)
    shares = [(mine.of(names) - its.of(names)) / its.total for mine, its in pairs]
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


def measure_floors(
    runs: Mapping[str, Run], rounds: Mapping[str, Sequence[Profiled]], numbers: int, effort: Effort
) -> dict[str, Floor]:
    """What the operators of each contender cannot avoid beyond those of the plain step.

    Args:
        runs: Contender → one call of it, eager.
        rounds: Their profiles, which have counted the calls.
        numbers: Numbers of the input and of the output.
        effort: How long to measure.
    """
    moved = {name: numbers_moved(run) for name, run in runs.items()}
    calls = {name: found[-1].calls for name, found in rounds.items()}
    call = rounded(cheapest_call(effort))
    return {
        name: Floor(
            calls=calls[name] - calls[PLAIN],
            plain_calls=calls[PLAIN],
            moved=moved[name] - moved[PLAIN],
            numbers=numbers,
            call=call,
        )
        for name in runs
    }


def cheapest_call(effort: Effort, timer: Timer = processor_seconds) -> float:
    """Seconds of an operator that changes one number in its place."""
    number = torch.ones(1)
    with no_collector():
        calls = calls_in_slice(number.neg_, timer, effort)
        return min(timer(number.neg_, calls) for _ in range(effort.least))


def measure_passes(
    ready: Prepared, step: Run, case: Case, effort: Effort, timer: Timer = processor_seconds
) -> tuple[float, float]:
    """Seconds of a pass over the input and over the output, as cold as a step finds them.

    The input is passed over where a step has just ended, the output where it has just been made.
    """
    x = ready.x.detach()
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
    return float(np.median(input_passes)), float(np.median(output_passes))


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
