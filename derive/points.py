"""Random points of a layer: sizes that fit together, and values of its inputs and parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sympy import Add, Expr, Mul, Pow, log, preorder_traversal

from derive import grammar as g
from derive.errors import DerivationError
from derive.evaluate import Evaluator, Field, evaluate_size, run_program
from derive.nodes import Contraction, Delta, Letter, Read, TokenRead, letters_in, reads
from derive.program import Line, Program

FEW_ELEMENTS = 10**4
MOST_ELEMENTS = 10**7
PATIENCE = 300
# Draws of which those are taken where the units are many, and where windows are empty besides.
CROWDED, EMPTY = 100, 300


def random_sizes(
    program: Program,
    rng: np.random.Generator,
    low: int = 1,
    high: int = 5,
    *,
    vary: bool = False,
) -> tuple[dict[str, int], dict[str, Any]]:
    """Sizes that fit together, and values for hyperparameters and constructor arguments.

    Args:
        program: The layer.
        rng: Source of randomness.
        low: The least size that is drawn.
        high: The largest; what a computed size depends on is drawn larger.
        vary: Whether hyperparameters that are integers take other values than their defaults.

    Raises:
        DerivationError: If no fitting sizes are found.
    """
    places = constant_places(program)
    for attempt in range(500):
        symbols = hyper_values(program)
        if vary:
            symbols |= varied(symbols, rng)
        sizes: dict[str, int] = {}
        wide = {
            n.letter
            for t in program.sizes.values()
            if t is not None
            for n in g.nodes(t)
            if isinstance(n, g.SizeOf)
        }
        for size, tree in program.sizes.items():
            least = max(low, places.get(size, 0) + 1)
            most = max(high + (6 if size in wide else 0), least)
            if tree is None:
                sizes[size] = int(rng.integers(least, most + 1))
            elif isinstance(tree, g.Name) and tree.name not in program.spec.hyperparameters:
                key = tree.name if tree.element is None else f"{tree.name}[{tree.element}]"
                # As wide as an input's axis, if a computed size depends on it.
                symbols.setdefault(key, int(rng.integers(least, most + 1)))
        for tree in program.sizes.values():
            if isinstance(tree, g.Call) and isinstance(tree.arguments[0], g.Name):
                top = tree.arguments[0]
                factor = 1
                for node in g.nodes(tree.arguments[1]):
                    if isinstance(node, g.SizeOf):
                        inner = program.sizes[node.letter]
                        if isinstance(inner, g.Name):
                            key = (
                                inner.name
                                if inner.element is None
                                else f"{inner.name}[{inner.element}]"
                            )
                            symbols.setdefault(key, int(rng.integers(low, high + 1)))
                            factor *= int(symbols[key])
                symbols.setdefault(top.name, factor * int(rng.integers(1, 4)))
        fitting = complete_sizes(program, sizes, symbols) and all(v >= 1 for v in sizes.values())
        # Small ones are tried at once, large ones only where no others fit.
        most = FEW_ELEMENTS if attempt < PATIENCE else MOST_ELEMENTS
        if attempt < PATIENCE and any(sizes.get(x, 0) <= place for x, place in places.items()):
            continue  # a computed size of which a constant index does not exist
        if fitting and elements(program, sizes) <= most:
            return sizes, symbols
    raise DerivationError(
        "no sizes found that fit the formulas in [sizes] and that a layer can be tried at; "
        "lower the sizes and defaults that are plain numbers"
    )


def constant_places(program: Program) -> dict[str, int]:
    """Size → the largest constant at which such an axis is read, as in x[n, 1].

    Of a parameter W[i, 1] is Σ_j [j = 1] W[i, j].
    """
    found: dict[str, int] = {}
    places: list[tuple[Letter, Expr]] = []
    for line in program.lines:
        # The unknown of an ansatz is no tensor of the layer.
        for read in (r for r in reads(line.value) if r.tensor in program.tensors):
            places += zip(program.tensors[read.tensor].letters, read.indices, strict=True)
        for bracket in line.value.atoms(Delta):
            difference = bracket.args[0]
            places += [(x, x - difference / difference.coeff(x)) for x in letters_in([bracket])]
    for letter, place in places:
        if place.is_Integer:
            tree = program.sizes[letter.size]
            # Sizes that one argument gives are one.
            one = [s for s, other in program.sizes.items() if other == tree and tree is not None]
            for size in (letter.size, *one):
                found[size] = max(found.get(size, 0), int(place))
    return found


def elements(program: Program, sizes: Mapping[str, int]) -> int:
    """The elements of the largest tensor, or of the self-kernel K(s,s) if those are more."""
    shapes = [tensor.letters for tensor in program.tensors.values()]
    shapes.append((*program.output.letters, *program.unit))
    return max(math.prod(sizes[x.size] for x in letters) for letters in shapes)


def complete_sizes(program: Program, sizes: dict[str, int], symbols: dict[str, Any]) -> bool:
    """Fill in computed sizes; false if one cannot be found or a composed size does not divide."""
    pending = [s for s in program.sizes if s not in sizes]
    while pending:
        for size in pending:
            tree = program.sizes[size]
            assert tree is not None
            try:
                sizes[size] = evaluate_size(tree, sizes, symbols)
            except KeyError:
                continue
            except ZeroDivisionError:
                return False
            break
        else:
            return False
        pending.remove(size)
    for tree in program.sizes.values():
        if isinstance(tree, g.Call) and isinstance(tree.arguments[0], g.Name):
            whole = evaluate_size(tree.arguments[0], sizes, symbols)
            part = evaluate_size(tree.arguments[1], sizes, symbols)
            if part <= 0 or whole % part:
                return False
    return True


def hyper_values(program: Program) -> dict[str, Any]:
    """The defaults of the hyperparameters, tuples taken apart."""
    values: dict[str, Any] = {}
    for name, value in program.spec.hyperparameters.items():
        if isinstance(value, tuple):
            values.update({f"{name}[{k}]": v for k, v in enumerate(value)})
        elif not isinstance(value, bool):
            values[name] = value
    return values


def varied(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, int]:
    """Other values of integers: at least 0, or 1 where the default is, as of a stride."""
    return {
        name: min(1, value) + int(rng.integers(0, 3))
        for name, value in numbers.items()
        if isinstance(value, int)
    }


def random_tensors(
    program: Program, sizes: dict[str, int], rng: np.random.Generator
) -> dict[str, Any]:
    """Normal random inputs and parameters over logical axes; tokens uniform in their range.

    What stands alone under a root or a logarithm, as a given variance does, is positive.
    """
    tensors: dict[str, Any] = {}
    for tensor in (*program.inputs, *program.parameters):
        shape = tuple(sizes[x.size] for x in tensor.letters)
        if tensor.kind == "token":
            tensors[tensor.name] = rng.integers(0, token_range(program, tensor.name, sizes), shape)
        else:
            values = rng.standard_normal(shape)
            if tensor.kind == "input" and needs_positive(program, tensor.name):
                values = np.abs(values)
            tensors[tensor.name] = values
    return tensors


def needs_positive(program: Program, name: str) -> bool:
    """Whether an input stands alone under a root or a logarithm, as a given variance does."""
    for line in program.lines:
        for node in preorder_traversal(line.value):
            root = isinstance(node, Pow) and node.exp.is_Rational and not node.exp.is_Integer
            if root or isinstance(node, log):
                terms = Add.make_args(node.args[0])
                if any(isinstance(t, type(r)) and t == r for t in terms for r in reads(t, name)):
                    return True
    return False


def token_range(program: Program, name: str, sizes: dict[str, int]) -> int:
    """The size of the smallest axis that a token input indexes."""
    found = []
    for line in program.lines:
        # The unknown of an ansatz is no tensor of the layer, and no token indexes it.
        for read in (r for r in reads(line.value) if r.tensor in program.tensors):
            for axis, index in zip(program.tensors[read.tensor].letters, read.indices, strict=True):
                if isinstance(index, TokenRead) and index.tensor == name:
                    found.append(sizes[axis.size])
    return min(found, default=1)


def random_point(
    program: Program, rng: np.random.Generator, low: int = 1, high: int = 5
) -> Evaluator:
    """An evaluator at random sizes and values that knows every line's value too."""
    sizes, symbols = random_sizes(program, rng, low, high)
    return with_lines(program, Evaluator(sizes, random_tensors(program, sizes, rng), symbols))


def crowded_point(program: Program, rng: np.random.Generator) -> Evaluator:
    """A point at which the units are many and all else is small: there K(s,s) loses rank first."""
    drawn = (random_sizes(program, rng) for _ in range(CROWDED))
    sizes, symbols = max(drawn, key=lambda pair: crowding(program, pair[0]))
    return with_lines(program, Evaluator(sizes, random_tensors(program, sizes, rng), symbols))


def crowding(program: Program, sizes: Mapping[str, int]) -> tuple[int, float]:
    """How far the units outnumber all else, where each axis of theirs has more than one first.

    Five units along one axis and one along another do not show what fails along the other.
    """
    units = {x.size for x in program.unit}
    narrowest = min((sizes[k] for k in units), default=1)
    return min(narrowest, 2), math.prod(v if k in units else 1 / v for k, v in sizes.items())


def missed_points(program: Program, rng: np.random.Generator) -> Iterator[Evaluator]:
    """Crowded points with sites that some windows do not reach, one for each set of windows."""
    every = [(line, window) for line in program.lines for window in windows_in(line.value)]
    found: dict[frozenset[Expr], Evaluator] = {}
    for _ in range(EMPTY if every else 0):
        sizes, symbols = random_sizes(program, rng, vary=True)
        point = Evaluator(sizes, random_tensors(program, sizes, rng), symbols)
        missed = frozenset(w for line, w in every if is_missed(program, line, w, point))
        best = found.setdefault(missed, point)
        if crowding(program, sizes) > crowding(program, best.sizes):
            found[missed] = point
    yield from (with_lines(program, point) for missed, point in found.items() if missed)


def windows_in(value: Expr) -> list[Expr]:
    """Reads at computed indices, and the sums with δ that stand for transposed windows."""
    return [
        node
        for node in preorder_traversal(value)
        if (
            isinstance(node, Contraction)
            and any(isinstance(f, Delta) for f in Mul.make_args(node.body))
        )
        or (
            isinstance(node, Read)
            and not all(isinstance(i, Letter | TokenRead) for i in node.indices)
        )
    ]


def is_missed(program: Program, line: Line, window: Expr, point: Evaluator) -> bool:
    """Whether a window is empty at some place of its line, wherever the line's sums go."""
    ones = {
        t.name: np.ones([point.sizes[x.size] for x in t.letters])
        for t in program.tensors.values()
        if t.kind != "token"
    }
    letters = sorted(letters_in([window]), key=lambda x: (x not in line.letters, str(x)))
    whole = Evaluator(point.sizes, {**point.tensors, **ones}, point.symbols)
    reached = whole.array(window, tuple(letters)) != 0
    summed = tuple(k for k, x in enumerate(letters) if x not in line.letters)
    return not bool(reached.any(axis=summed).all())


def with_lines(program: Program, evaluator: Evaluator) -> Evaluator:
    """The evaluator with every line's value among its tensors."""
    tensors = {**evaluator.tensors, **run_program(program, evaluator)}
    return Evaluator(evaluator.sizes, tensors, evaluator.symbols, evaluator.field)


def with_parameters(program: Program, point: Evaluator, rng: np.random.Generator) -> Evaluator:
    """The point with other parameters."""
    moved = {t.name: point.tensors[t.name] for t in program.inputs}
    for t in program.parameters:
        moved[t.name] = np.asarray(rng.standard_normal(point.tensors[t.name].shape))
    return with_lines(program, Evaluator(point.sizes, moved, point.symbols))


def scaled_point(program: Program, point: Evaluator, scale: float, field: Field) -> Evaluator:
    """The point with its inputs and parameters times a factor, in some arithmetic."""
    given = {t.name: t.kind for t in (*program.inputs, *program.parameters)}
    tensors = {
        name: point.tensors[name] * (1 if kind == "token" else scale)
        for name, kind in given.items()
    }
    return with_lines(program, Evaluator(point.sizes, tensors, point.symbols, field))
