"""Sizes that fit together: free choices, what follows from them, and how to mend and shrink them.

A computed size such as ``p = (l - k)//stride + 1`` has to be at least 1, a composed size has to be
divisible, and a brute-force evaluation has to stay small; what is drawn is changed until all holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from derive import grammar as g
from derive.errors import DerivationError
from derive.evaluate import evaluate_size
from derive.points import complete_sizes
from derive.program import Program

T = TypeVar("T")
NOTHING_IS_ONE = "nothing is 1"
"""The kind of instances whose sizes are all above 1, where the formulas in [sizes] allow that."""


class Source(Protocol):
    """Where choices come from."""

    def integer(self, low: int, high: int) -> int:
        """An integer in the closed range."""

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""


def draw_hyperparameters(program: Program, source: Source, kind: str) -> dict[str, Any]:
    """Values near defaults: 1..3 for at least 1, 0..2 for 0, reals up to a half off.

    Where nothing is to be 1, integers are above their least value instead.
    """
    values: dict[str, Any] = {}
    more = int(kind == NOTHING_IS_ONE)

    def vary(value: float) -> float:
        if kind in ("defaults", "many sites"):
            return value
        if isinstance(value, float):
            return value * (1 + source.integer(-4, 4) / 8)
        if value >= 1:
            return source.integer(1 + more, 3)
        return source.integer(value + more, value + 2)

    for name, value in program.spec.hyperparameters.items():
        if isinstance(value, tuple):
            values.update({f"{name}[{k}]": vary(v) for k, v in enumerate(value)})
        elif not isinstance(value, bool):
            values[name] = vary(value)
    return values


class SizeDraw:
    """Sizes that fit: free choices, and what follows from them.

    Args:
        program: The layer.
        source: Where choices come from.
        kind: One of :data:`KINDS`.
        excess: How far sizes are beyond the limits; 0 where they are small enough.
    """

    def __init__(
        self, program: Program, source: Source, kind: str, excess: Callable[[dict[str, int]], float]
    ) -> None:
        """Draw the free choices."""
        self.program = program
        self.excess = excess
        self.lowest = 2 if kind == NOTHING_IS_ONE else 1
        self.hyper = draw_hyperparameters(program, source, kind)
        self.composed = {
            tree.arguments[0].name: tree
            for tree in program.sizes.values()
            if isinstance(tree, g.Call) and isinstance(tree.arguments[0], g.Name)
        }
        trees = [t for t in program.sizes.values() if t is not None]
        inner = {
            n.letter
            for t in trees
            if not isinstance(t, g.Name) and t not in self.composed.values()
            for n in nodes(t)
            if isinstance(n, g.SizeOf)
        }
        # What a computed size is computed from: an input's axis, or the argument that sizes it.
        self.wide = {free_key(program, letter) for letter in inner}
        site = {x.size for x in program.site}
        equal = source.integer(2, 3)
        self.free: dict[str, int] = {}
        for key in self.free_keys():
            value = source.integer(1, 4)
            if kind in ("equal sizes", "one site"):
                value = equal if kind == "equal sizes" or key not in site else 1
            elif kind in ("defaults", "many sites"):
                value = max(value, 2)
            elif kind == NOTHING_IS_ONE:
                value = 2
            if kind == "many sites" and key in site:
                value += 3
            self.free[key] = value

    def free_keys(self) -> list[str]:
        """Sizes read off inputs, and constructor arguments that are no hyperparameters."""
        keys = [size for size, tree in self.program.sizes.items() if tree is None]
        for name, count in self.program.arguments.items():
            if name not in self.program.spec.hyperparameters:
                keys += [name] if count == 0 else [f"{name}[{k}]" for k in range(count)]
        return keys

    def resolve(self) -> tuple[dict[str, int], dict[str, Any]] | None:
        """Sizes and symbols of the present choices, or ``None`` if they do not fit together."""
        sizes = {k: v for k, v in self.free.items() if k in self.program.sizes}
        symbols = {k: v for k, v in self.free.items() if k not in self.program.sizes} | self.hyper
        for name, tree in self.composed.items():
            if name in self.free:
                factors = self.divisors(tree.arguments[1], symbols)
                symbols[name] = self.free[name] * factors
        if not complete_sizes(self.program, sizes, symbols):
            return None
        return sizes, symbols

    def divisors(self, tree: g.Tree, symbols: Mapping[str, Any]) -> int:
        """The product that a composed size must be a multiple of."""
        known = {
            size: evaluate_size(formula, {}, symbols)
            for size, formula in self.program.sizes.items()
            if isinstance(formula, g.Name) and formula.name not in self.composed
        }
        return max(evaluate_size(tree, known, symbols), 1)

    def fitting(self) -> tuple[dict[str, int], dict[str, Any]]:
        """Change choices until computed sizes are large enough and nothing is too large.

        Raises:
            DerivationError: If no sizes fit.
        """
        for _ in range(400):
            found = self.resolve()
            if found is None:
                break
            if any(v < self.lowest for v in found[0].values()):
                if self.mend():
                    continue
                if self.lowest == 1:
                    break
                self.lowest = 1
            elif self.excess(found[0]) == 0:
                return found
            elif not self.shrink():
                break
        raise DerivationError("no sizes fit the formulas in [sizes] and the limits of an instance")

    def deficit(self) -> float:
        """How far computed sizes are too small; infinite if choices do not fit together."""
        found = self.resolve()
        lowest = self.lowest
        return math.inf if found is None else sum(max(0, lowest - v) for v in found[0].values())

    def mend(self) -> bool:
        """The smallest change of what computed sizes depend on that makes them less too small.

        A quotient rounds, so that a change by 1 may change nothing.
        """
        before = self.deficit()
        for step in (1, -1, 2, -2, 3, -3):
            for key in sorted(self.wide & set(self.free)):
                if self.free[key] + step < 1:
                    continue
                self.free[key] += step
                if self.deficit() < before:
                    return True
                self.free[key] -= step
        return False

    def shrink(self) -> bool:
        """One step smaller, so that what is left is still worth judging.

        Sizes go down to 2 first, then input axes as far as computed sizes allow, then
        hyperparameters towards their defaults, and only then sizes down to 1; within a phase, what
        helps most.
        """
        narrow = {k: v for k, v in self.free.items() if k not in self.wide}
        wide = {k: v for k, v in self.free.items() if k in self.wide}
        raised = {k: v for k, v in self.hyper.items() if isinstance(v, int) and v > self.least(k)}
        phases = (
            (self.free, {k: v for k, v in narrow.items() if v > 2}),
            (self.free, {k: v for k, v in wide.items() if v > 2}),
            (self.hyper, raised),
            (self.free, {k: v for k, v in narrow.items() if v > 1}),
            (self.free, {k: v for k, v in wide.items() if v > 1}),
        )
        before = self.excess_now()
        for least_gain in (1e-9, 0.0):  # what changes nothing yet may still lead somewhere
            for values, able in phases:
                outcomes = []
                for key in able:
                    values[key] -= 1
                    outcomes.append((self.excess_now(), self.priority(key), key))
                    values[key] += 1
                best = min(outcomes, default=(math.inf, 0, ""))
                if best[0] <= before - least_gain:
                    values[best[2]] -= 1
                    return True
        return False

    def excess_now(self) -> float:
        """How far the choices are beyond the limits; infinite if they do not fit together."""
        found = self.resolve()
        if found is None or any(v < self.lowest for v in found[0].values()):
            return math.inf
        return self.excess(found[0])

    def priority(self, key: str) -> int:
        """Place of a size among the site's letters, which breaks ties: samples give way first."""
        places = [x.size for x in self.program.site]
        return places.index(key) if key in places else len(places)

    def least(self, name: str) -> int:
        """The default of a hyperparameter or of an element of one."""
        default = self.program.spec.hyperparameters[name.partition("[")[0]]
        if isinstance(default, tuple):
            default = default[int(name[:-1].rpartition("[")[2])]
        return int(default)


def free_key(program: Program, letter: str) -> str:
    """The name under which the size of a letter is drawn."""
    tree = program.sizes[letter]
    if not isinstance(tree, g.Name):
        return letter
    return tree.name if tree.element is None else f"{tree.name}[{tree.element}]"


def nodes(tree: g.Tree) -> list[g.Tree]:
    """A size formula's nodes."""
    return [tree, *(n for child in g.children(tree) for n in nodes(child))]
