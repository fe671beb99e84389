"""Layers timed: every case in every mode, all contenders of one in the same rounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from bench.cases import PLAIN, Case
from bench.modes import CUDA, Mode, modes
from bench.results import LAYERS, Timing
from bench.running import prepare, run_of
from bench.timing import Effort, Rounds, Run, Timer, device_seconds, interleave, processor_seconds


@dataclass(frozen=True)
class Task:
    """A case in a mode: one set of rounds."""

    case: Case
    mode: Mode

    @property
    def label(self) -> str:
        """What ``--filter`` is matched with."""
        return f"{self.case.name} {self.mode}"


def tasks(cases: Iterable[Case], device: str) -> Iterator[Task]:
    """Every case in every mode of a device."""
    for case in cases:
        for mode in modes(case.is_image, device):
            yield Task(case, mode)


def measure(task: Task, effort: Effort, section: str = LAYERS) -> list[Timing]:
    """Time all contenders of a task; graphs of other shapes are dropped first."""
    torch._dynamo.reset()
    ready = prepare(task.case, task.mode)
    runs = {name: run_of(one, task.mode.direction) for name, one in ready.items()}
    rounds = interleave(runs, timer_of(task.mode), effort)
    return rows(section, task.case.name, task.mode, rounds, references(task.case, runs))


def timer_of(mode: Mode) -> Timer:
    """How time is taken on a device."""
    return device_seconds if mode.device == CUDA else processor_seconds


def references(case: Case, runs: Mapping[str, Run]) -> dict[str, tuple[str, ...]]:
    """What each is compared with: all with the plain layer, corrected ones with the rivals too."""
    found = {name: (PLAIN,) for name in runs}
    return {**found, **{name: (PLAIN, *case.rivals) for name in case.corrected}}


def rows(
    section: str, case: str, mode: Mode, rounds: Rounds, compared: Mapping[str, tuple[str, ...]]
) -> list[Timing]:
    """One row for each pair that is compared."""
    return [
        Timing(section, case, mode, name, other, rounds.ratio(name, other), rounds.of(name).median)
        for name, others in compared.items()
        for other in others
    ]
