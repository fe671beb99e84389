"""Pieces of generated code with known axes, and the code that lines them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from derive.nodes import Letter

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names for axes in an einsum."""


class _Batch:
    """The leading axes of any number that a layer passes through."""

    def __repr__(self) -> str:
        return "..."


BATCH = _Batch()
Axis = _Batch | tuple[Letter, ...]
"""One axis of a tensor: the leading axes, or the letters that the axis composes (first slowest)."""


class Level(IntEnum):
    """How tightly an expression's outermost operator binds."""

    SUM = 0
    MATRIX = 1  # ``@``, which binds like ``*`` but means another thing to the right of one
    PRODUCT = 2
    UNARY = 3
    POWER = 4
    ATOM = 5


@dataclass(frozen=True)
class Value:
    """A Python expression and the axes of the tensor that it gives.

    Attributes:
        code: The expression.
        axes: Its axes; no axes and ``scalar`` means a Python number.
        level: Its outermost operator.
        scalar: Whether it is a Python number rather than a tensor.
    """

    code: str
    axes: tuple[Axis, ...] = ()
    level: Level = Level.ATOM
    scalar: bool = False

    def at(self, level: Level) -> str:
        """The code, in parentheses if it binds less tightly than ``level``."""
        return f"({self.code})" if self.level < level else self.code

    def with_code(
        self, code: str, axes: Sequence[Axis] | None = None, level: Level = Level.ATOM
    ) -> Value:
        """Other code for a tensor."""
        return Value(code, self.axes if axes is None else tuple(axes), level)

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The letters of all axes."""
        return tuple(x for axis in self.axes if isinstance(axis, tuple) for x in axis)

    def position(self, axis: Axis) -> int:
        """The axis as a negative dimension, which holds for any number of leading axes."""
        return self.axes.index(axis) - len(self.axes)


def single(letter: Letter) -> Axis:
    """A letter as an axis of its own."""
    return (letter,)


def insert_axes(value: Value, target: Sequence[Axis]) -> Value:
    """Insert axes of size 1 so that the value broadcasts over ``target``, in whose order it is.

    Raises:
        ValueError: If the axes of the value do not follow the order of ``target``.
    """
    if value.scalar or not value.axes:
        return value
    present = [axis for axis in target if axis in value.axes]
    if list(value.axes) != present:
        raise ValueError(f"{value.axes} does not follow {target}")
    first = list(target).index(present[0]) if present else 0
    tail = list(target)[first:]
    if len(tail) == len(present):
        return value
    if all(axis in present for axis in tail[:-1]):
        return value.with_code(f"{value.at(Level.ATOM)}.unsqueeze(-1)", tail)
    missing = [k for k, axis in enumerate(tail) if axis not in present]
    if len(missing) == 1:
        return value.with_code(f"{value.at(Level.ATOM)}.unsqueeze({missing[0] - len(tail)})", tail)
    # Everything from the last present axis before the first missing one is spelled out.
    start = missing[0]
    spelled = ", ".join(":" if axis in present else "None" for axis in tail[start:])
    return value.with_code(f"{value.at(Level.ATOM)}[..., {spelled}]", tail)


def merge_order(axes: Sequence[Sequence[Axis]]) -> tuple[Axis, ...]:
    """A common order of several axis lists: the longest first, others put where they belong."""
    ordered = sorted(axes, key=len, reverse=True)
    result: list[Axis] = []
    for candidate in ordered:
        for place, axis in enumerate(candidate):
            if axis in result:
                continue
            # Before the next axis that is already placed, else at the end.
            following = [result.index(x) for x in candidate[place + 1 :] if x in result]
            result.insert(min(following) if following else len(result), axis)
    if BATCH in result:
        result.remove(BATCH)
        result.insert(0, BATCH)
    return tuple(result)
