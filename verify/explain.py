"""What a user reads when a stage fails: claim, smallest instance, worst entry, command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from derive.nodes import Letter
from verify.shrink import Failure, failure_of, shrink
from verify.stage import Entries, Judgement, Place, Record, Settings, Stage

Array = np.ndarray[Any, Any]
# Tensors with more entries are described, not printed.
TINY = 24


def explained(record: Record, stage: Stage, settings: Settings, again: str) -> str:
    """The text of a stage that failed.

    Args:
        record: What the stage judged.
        stage: The stage, to find the smallest instance at which it fails.
        settings: What it was given.
        again: The command that shows this failure again.
    """
    failure = failure_of(record)
    if failure is None:
        lines = [f"{record.name}, {record.stage}: {record.result().detail}"]
    else:
        lines = list(described(record.stage, shrink(failure, record.stage, stage, settings)))
    return "\n".join([*lines, f"  again     {again}"])


def described(stage: str, failure: Failure) -> Iterator[str]:
    """A failure, line by line."""
    subject, instance = failure.place.subject, failure.place.instance
    part = f", stage {subject.part}" if subject.part else ""
    absent = f" without {', '.join(sorted(subject.absent))}" if subject.absent else ""
    yield f"{subject.name}{part}{absent}, {stage}: {failure.what}"
    if failure.reason:
        yield f"  because   {failure.reason}"
    yield f"  at        {arguments(failure.place)}"
    for name, value in instance.tensors.items():
        yield f"            {name} = {shown(value, instance.seed)}"
    if failure.judgement is not None and failure.judgement.tolerance:
        yield from compared(failure.judgement, failure.place)
    if failure.attempts:
        yield f"  shrunk    no smaller instance of {failure.attempts} that were tried fails"


def arguments(place: Place) -> str:
    """Constructor arguments, and the sizes that are read off the inputs."""
    subject, instance = place.subject, place.instance
    given = [f"{k} = {v:g}" for k, v in instance.symbols.items()]
    if subject.correction.ansatz == "input map":
        given.append(f"radius = {instance.radius:g}")
    read = [k for k, formula in subject.program.sizes.items() if formula is None]
    return ", ".join([*given, *(f"size({k}) = {instance.sizes[k]}" for k in read)])


def shown(value: Array, seed: int) -> str:
    """A tensor if it is tiny, else its shape and where it comes from."""
    if value.size > TINY:
        return f"{value.shape}, drawn from seed {seed}"
    text = np.array2string(value + 0, precision=4, floatmode="maxprec", separator=", ")
    return " ".join(text.split())


def compared(judgement: Judgement, place: Place) -> Iterator[str]:
    """What was measured and what was expected, where they differ most."""
    entries = judgement.entries
    if entries is None:
        yield f"  deviation {judgement.error:.3g}, where {judgement.tolerance:.0e} is tolerated"
        return
    if entries.measured.shape != entries.expected.shape:
        yield f"  measured  {entries.measured.shape}"
        yield f"  expected  {entries.expected.shape}"
        return
    with np.errstate(all="ignore"):
        apart = np.abs(entries.measured - entries.expected)
    apart = np.where(np.isfinite(apart), apart, np.inf)
    worst = tuple(int(k) for k in np.unravel_index(int(np.argmax(apart)), apart.shape))
    wrong = int((apart > judgement.tolerance).sum())
    yield f"  measured  {entries.measured[worst]:.12g}"
    yield f"  expected  {entries.expected[worst]:.12g}"
    yield f"  where     {named(entries, worst, place)}"
    yield f"            differs most, by {apart[worst]:.3g}"
    yield f"  wrong     {wrong} of {apart.size} entries, by more than {judgement.tolerance:.0e}"


def named(entries: Entries, index: Sequence[int], place: Place) -> str:
    """An index in the letters of the layer: ``s = (n 0, p 2), i = (o 1)``."""
    program, sizes = place.subject.program, place.instance.sizes
    letters = {"s": program.site, "i": program.unit}
    if not entries.axes:
        return f"entry {list(index)}"
    parts = [] if entries.site is None else [f"s = {split(entries.site, program.site, sizes)}"]
    for axis, value in zip(entries.axes, index, strict=True):
        over = letters.get(axis.rstrip("'"))
        parts.append(f"{axis} = {split(value, over, sizes) if over else value}")
    return ", ".join(parts)


def split(value: int, letters: Sequence[Letter], sizes: Mapping[str, int]) -> str:
    """A flat number of a site or unit over its letters."""
    shape = [sizes[x.size] for x in letters]
    places = np.unravel_index(value, shape)
    found = ", ".join(f"{x.name} {int(k)}" for x, k in zip(letters, places, strict=True))
    return f"({found})"
