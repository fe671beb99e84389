"""All measurements as units that run one after another, each known by its label.

A unit is small enough to be lost: what a run holds already is not measured again when it goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from bench.cases import CASES, FULL, Case
from bench.chip import LARGE, measure_chip
from bench.measure import Task, measure, tasks
from bench.memory import measure_kept
from bench.models import ALL, Model, measure_model, model_modes
from bench.modes import BFLOAT16, COMPILED, CPU, CUDA, EAGER, FLOAT32, Mode
from bench.pipeline import COUNTS, measure_build
from bench.profile import limited, measure_profile
from bench.results import GPU, LAYERS, MODELS, SCALE, Results, Row
from bench.scale import scale_tasks
from bench.timing import Effort

MEMORY, PROFILE, PIPELINE = "memory", "profile", "pipeline"


@dataclass(frozen=True)
class Unit:
    """One measurement.

    Args:
        label: What ``--filter`` is matched with, and what progress shows.
        held: Whether results hold it.
        measure: Makes it.
    """

    label: str
    held: Callable[[Results], bool]
    measure: Callable[[Effort], Iterable[Row]]


def timed(task: Task, section: str) -> Unit:
    """A case in a mode."""
    return Unit(
        task.label,
        lambda results: results.holds(section, task.case.name, task.mode),
        lambda effort: measure(task, effort, section),
    )


def layer_units() -> Iterator[Unit]:
    """Every layer in every mode of the processor."""
    yield from (timed(task, LAYERS) for task in tasks(CASES, CPU))


def memory_units() -> Iterator[Unit]:
    """What every layer keeps, eager and compiled."""
    for case in CASES:
        for execution in (EAGER, COMPILED):
            yield memory_unit(case, execution)


def memory_unit(case: Case, execution: str) -> Unit:
    """What the contenders of a case keep."""
    return Unit(
        f"{case.name} {execution} kept",
        lambda results: all((case.name, execution, name) in results.kept for name in case.builders),
        lambda _: measure_kept(case, execution),
    )


def profile_units() -> Iterator[Unit]:
    """Every layer whose time has a limit, in the executions in which it has one."""
    for case in CASES:
        for execution in (EAGER, COMPILED):
            if contenders := limited(case, execution):
                yield profile_unit(case, execution, contenders)


def profile_unit(case: Case, execution: str, contenders: Sequence[str]) -> Unit:
    """Profiles of corrected layers of a case."""
    keys = [(case.name, execution, name) for name in contenders]
    return Unit(
        f"{case.name} {Mode(execution=execution)} profile",
        lambda results: all(key in results.profiles for key in keys),
        lambda effort: measure_profile(case, execution, contenders, effort),
    )


def model_units() -> Iterator[Unit]:
    """Training steps of every model."""
    yield from (model_unit(model, mode) for model in ALL for mode in model_modes())


def model_unit(model: Model, mode: Mode) -> Unit:
    """Training steps of a model in a mode."""
    return Unit(
        f"{model.name} {mode}",
        lambda results: results.holds(MODELS, model.name, mode),
        lambda effort: measure_model(model, mode, effort),
    )


def scale_units() -> Iterator[Unit]:
    """Every size of every sweep."""
    yield from (timed(task, SCALE) for task in scale_tasks())


def pipeline_units() -> Iterator[Unit]:
    """Builds of more and more specs."""
    yield from (pipeline_unit(count) for count in COUNTS)


def pipeline_unit(count: int) -> Unit:
    """A build of so many specs."""
    return Unit(
        f"build of {count} specs",
        lambda results: (str(count),) in results.builds,
        lambda _: measure_build(count),
    )


def gpu_units() -> Iterator[Unit]:
    """Large layers on a GPU, and what it reaches on its own; nothing where there is none.

    Products of float32 numbers are TF32, as torch has it for convolutions alone.
    """
    if not torch.cuda.is_available():
        return
    torch.backends.cuda.matmul.allow_tf32 = True
    for dtype in (FLOAT32, BFLOAT16):
        yield chip_unit(Mode(dtype=dtype, device=CUDA))
    yield from (timed(task, GPU) for task in tasks(FULL, CUDA))


def chip_unit(mode: Mode) -> Unit:
    """What a device reaches in a format."""
    return Unit(
        f"copy and product {mode.dtype} {mode.device}",
        lambda results: any(chip.dtype == mode.dtype for chip in results.chips.values()),
        lambda _: [measure_chip(mode, LARGE)],
    )


SECTIONS: dict[str, Callable[[], Iterator[Unit]]] = {
    LAYERS: layer_units,
    MEMORY: memory_units,
    PROFILE: profile_units,
    MODELS: model_units,
    SCALE: scale_units,
    PIPELINE: pipeline_units,
    GPU: gpu_units,
}
"""Command → its units."""


def chosen(section: str, pattern: str) -> list[Unit]:
    """The units of a section whose label a regular expression finds."""
    return [unit for unit in SECTIONS[section]() if re.search(pattern, unit.label)]
