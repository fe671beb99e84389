"""Random instances of a layer: sizes, hyperparameters, inputs and parameters that fit together.

One description, two sources of choice: :func:`sample` draws from a seed (the same instances on every
machine, whatever the clock or the hash seed), :func:`instances` is the Hypothesis strategy that
shrinks. Both go through :func:`draw_instance`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st

from derive import grammar as g
from derive.derivation import Derivation
from derive.errors import DerivationError
from derive.evaluate import evaluate_size
from derive.nodes import Letter
from derive.program import Program
from derive.rank import complete_sizes, token_range
from verify.tolerances import volume

Array = np.ndarray[Any, Any]
T = TypeVar("T")

# In the order that a sample goes through them; after the last one, from the front again.
KINDS = (
    "defaults",
    "many sites",
    "equal sizes",
    "varied",
    "one site",
    "zero inputs",
    "large inputs 1e3",
    "large inputs 1e6",
)
SCALES = {"zero inputs": 0.0, "large inputs 1e3": 1e3, "large inputs 1e6": 1e6}
RADII = (1.0, 0.5, 2.0)


@dataclass(frozen=True)
class Limits:
    """How large an instance may be.

    Attributes:
        kernel: Elements that a brute-force evaluation of K(s,s') may hold at once.
        outputs: Elements of z.
        parameters: Elements of all parameters.
        sites: Sites.
    """

    kernel: int = 300_000
    outputs: int = 60
    parameters: int = 150
    sites: int = 30


NUMERIC = Limits()
EXACT = Limits(kernel=20_000, outputs=8, parameters=32, sites=4)
GRADIENTS = Limits(kernel=40_000, outputs=12, parameters=36, sites=6)


@dataclass(frozen=True)
class Instance:
    """A layer at concrete sizes.

    Attributes:
        kind: One of :data:`KINDS`.
        sizes: Size class → size.
        symbols: Constructor arguments and hyperparameters by name, tuples taken apart.
        tensors: Inputs and parameters over their logical letters; tokens are int64.
        radius: What a norm-like class is built with.
        seed: What the tensors were drawn from.
    """

    kind: str
    sizes: Mapping[str, int]
    symbols: Mapping[str, Any]
    tensors: Mapping[str, Array]
    radius: float
    seed: int

    @property
    def generic(self) -> bool:
        """Whether inputs are of order one, away from singular points and from overflow."""
        return self.kind not in SCALES

    def __str__(self) -> str:
        numbers = ", ".join(f"{k}={v}" for k, v in self.symbols.items())
        read = ", ".join(f"size({k})={v}" for k, v in self.sizes.items())
        return f"{self.kind} ({numbers}; {read}; seed {self.seed})"


class Source(Protocol):
    """Where choices come from."""

    def integer(self, low: int, high: int) -> int:
        """An integer in the closed range."""

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""


class Seeded:
    """Choices from a seed."""

    def __init__(self, *seed: int) -> None:
        """Any number of non-negative integers."""
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """An integer in the closed range."""
        return int(self.rng.integers(low, high + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]


class Drawn:
    """Choices that Hypothesis makes and shrinks."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Keep the draw function of a composite strategy."""
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        """An integer in the closed range."""
        return int(self.draw(st.integers(low, high)))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        chosen: T = self.draw(st.sampled_from(options))
        return chosen


# ---------------------------------------------------------------------- sizes
def draw_hyperparameters(program: Program, source: Source, kind: str) -> dict[str, Any]:
    """Values near the defaults: 1..3 for a default of at least 1, 0..2 for 0, reals within a half."""
    values: dict[str, Any] = {}

    def vary(value: float) -> float:
        if kind in ("defaults", "many sites"):
            return value
        if isinstance(value, float):
            return value * (1 + source.integer(-4, 4) / 8)
        if value >= 1:
            return source.integer(1, 3)
        return source.integer(value, value + 2)

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
        self.hyper = draw_hyperparameters(program, source, kind)
        self.composed = {
            tree.arguments[0].name: tree
            for tree in program.sizes.values()
            if isinstance(tree, g.Call) and isinstance(tree.arguments[0], g.Name)
        }
        trees = [t for t in program.sizes.values() if t is not None]
        self.wide = {
            n.letter
            for t in trees
            if not isinstance(t, g.Name) and t not in self.composed.values()
            for n in nodes(t)
            if isinstance(n, g.SizeOf)
        }
        site = {x.size for x in program.site}
        equal = source.integer(2, 3)
        self.free: dict[str, int] = {}
        for key in self.free_keys():
            value = source.integer(1, 4)
            if kind in ("equal sizes", "one site"):
                value = equal if kind == "equal sizes" or key not in site else 1
            elif kind in ("defaults", "many sites"):
                value = max(value, 2)
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
        """Grow inputs until computed sizes are at least 1; shrink what is too large.

        Raises:
            DerivationError: If no sizes fit.
        """
        for _ in range(400):
            found = self.resolve()
            if found is not None and all(v >= 1 for v in found[0].values()):
                if self.excess(found[0]) == 0:
                    return found
                if not self.shrink():
                    break
            elif found is None or not self.grow():
                break
        raise DerivationError("no sizes fit the formulas in [sizes] and the limits of an instance")

    def grow(self) -> bool:
        """One more element along every input axis that a computed size depends on."""
        keys = [k for k in self.free if k in self.wide]
        for key in keys:
            self.free[key] += 1
        return bool(keys) and max(self.free[k] for k in keys) < 60

    def shrink(self) -> bool:
        """One step smaller, so that what is left is still worth judging.

        Sizes go down to 2 first, then input axes as far as computed sizes allow, then
        hyperparameters towards their defaults, and only then sizes down to 1; within a phase, what helps
        most.
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
        for values, able in phases:
            outcomes = []
            for key in able:
                values[key] -= 1
                outcomes.append((self.excess_now(), self.priority(key), key))
                values[key] += 1
            best = min(outcomes, default=(math.inf, 0, ""))
            if best[0] < before:
                values[best[2]] -= 1
                return True
        return False

    def excess_now(self) -> float:
        """How far the present choices are beyond the limits; infinite if they do not fit together."""
        found = self.resolve()
        if found is None or any(v < 1 for v in found[0].values()):
            return math.inf
        return self.excess(found[0])

    def priority(self, key: str) -> int:
        """Place of a size among the site's letters, which breaks ties: samples give way first."""
        places = [x.size for x in self.program.site]
        return places.index(key) if key in places else len(places)

    def least(self, name: str) -> int:
        """The default of a hyperparameter or of an element of one."""
        default = self.program.spec.hyperparameters[name.split("[")[0]]
        if isinstance(default, tuple):
            default = default[int(name.split("[")[1][:-1])]
        return int(default)


def nodes(tree: g.Tree) -> list[g.Tree]:
    """A size formula's nodes."""
    return [tree, *(n for child in g.children(tree) for n in nodes(child))]


def beyond(derivation: Derivation, limits: Limits) -> Callable[[dict[str, int]], float]:
    """How far sizes put an instance of a layer beyond limits, as a sum of logarithms."""
    program, update = derivation.program, derivation.update

    def elements(letters: Sequence[Letter], sizes: Mapping[str, int]) -> int:
        return math.prod(sizes[x.size] for x in letters)

    def excess(sizes: dict[str, int]) -> float:
        letters = program.output.letters
        both = (*letters, *(x.primed for x in letters))
        held = [volume(update.kernel, both, sizes)]
        held += [volume(x.value, x.letters, sizes) for x in program.lines]
        pairs = (
            (elements(letters, sizes), limits.outputs),
            (elements(program.site, sizes), limits.sites),
            (sum(elements(t.letters, sizes) for t in program.parameters), limits.parameters),
            (max(held), limits.kernel),
        )
        return sum(max(0.0, math.log(value / limit)) for value, limit in pairs)

    return excess


# ---------------------------------------------------------------------- tensors and instances
def draw_tensors(
    program: Program, sizes: Mapping[str, int], kind: str, seed: int
) -> dict[str, Array]:
    """Normal tensors from a seed, inputs scaled by the kind; tokens uniform in their range."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for tensor in (*program.inputs, *program.parameters):
        shape = tuple(sizes[x.size] for x in tensor.letters)
        if tensor.kind == "token":
            high = token_range(program, tensor.name, dict(sizes))
            tensors[tensor.name] = rng.integers(0, high, shape)
            continue
        values = rng.standard_normal(shape)
        if tensor.kind == "input":
            values = values * SCALES.get(kind, 1.0)
            if needs_positive(program, tensor.name):
                values = np.abs(values)
        tensors[tensor.name] = values
    return tensors


def needs_positive(program: Program, name: str) -> bool:
    """Whether an input stands alone under a root or a logarithm, as a given variance does."""
    import sympy

    from derive.nodes import reads

    for line in program.lines:
        for node in sympy.preorder_traversal(line.value):
            root = isinstance(node, sympy.Pow) and node.exp.is_Rational and not node.exp.is_Integer
            if root or isinstance(node, sympy.log):
                terms = sympy.Add.make_args(node.args[0])
                if any(isinstance(t, type(r)) and t == r for t in terms for r in reads(t, name)):
                    return True
    return False


def draw_instance(
    derivation: Derivation, source: Source, kind: str, limits: Limits = NUMERIC
) -> Instance:
    """One instance of a kind.

    Raises:
        DerivationError: If no sizes fit.
    """
    program = derivation.program
    sizes, symbols = SizeDraw(program, source, kind, beyond(derivation, limits)).fitting()
    seed = source.integer(0, 2**31 - 1)
    tensors = draw_tensors(program, sizes, kind, seed)
    return Instance(kind, sizes, symbols, tensors, source.choice(RADII), seed)


def sample(
    derivation: Derivation,
    count: int,
    seed: int = 0,
    *,
    kinds: Sequence[str] = KINDS,
    limits: Limits = NUMERIC,
) -> list[Instance]:
    """Instances from a seed: the kinds in turn.

    Args:
        derivation: The layer.
        count: How many.
        seed: A non-negative integer.
        kinds: The kinds to go through.
        limits: How large they may be.
    """
    layer = zlib.crc32((derivation.spec.digest + "".join(sorted(derivation.absent))).encode())
    return [
        draw_instance(derivation, Seeded(seed, layer, index), kinds[index % len(kinds)], limits)
        for index in range(count)
    ]


@st.composite
def instances(
    draw: st.DrawFn, derivation: Derivation, kinds: Sequence[str] = KINDS, limits: Limits = NUMERIC
) -> Instance:
    """The Hypothesis strategy for instances of a layer; sizes shrink towards 1."""
    return draw_instance(derivation, Drawn(draw), draw(st.sampled_from(kinds)), limits)
