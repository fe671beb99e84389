"""Properties decided by evaluation at random points and sizes: generic rank, scale invariance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from sympy import Add, Expr, Pow, log, preorder_traversal

from derive import grammar as g
from derive.errors import DerivationError
from derive.evaluate import Array, Evaluator, evaluate_size, run_program
from derive.functions import Step, maximum, relu
from derive.nodes import Contraction, Letter, TokenRead, letters_in, reads
from derive.program import Program

# A relative difference that rounding cannot make; it only ever decides that two things differ.
WITNESS = 1e-6
FEW_ELEMENTS = 10**4
MOST_ELEMENTS = 10**7
PATIENCE = 300
SCALES = (1.0, 0.25, 0.0625)
# Draws of which the one is taken where the units are many.
CROWDED = 100
# A tower of powers overflows at random points; an infinite or undefined value shows nothing.
QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}


def random_sizes(
    program: Program, rng: np.random.Generator, low: int = 1, high: int = 5
) -> tuple[dict[str, int], dict[str, Any]]:
    """Sizes that fit together, and values for hyperparameters and constructor arguments.

    Args:
        program: The layer.
        rng: Source of randomness.
        low: The least size that is drawn.
        high: The largest; what a computed size depends on is drawn larger.

    Raises:
        DerivationError: If no fitting sizes are found.
    """
    for attempt in range(500):
        symbols = {k: v for k, v in hyper_values(program).items()}
        sizes: dict[str, int] = {}
        wide = {
            n.letter
            for t in program.sizes.values()
            if t is not None
            for n in g.nodes(t)
            if isinstance(n, g.SizeOf)
        }
        for size, tree in program.sizes.items():
            if tree is None:
                sizes[size] = int(rng.integers(low, high + (6 if size in wide else 0) + 1))
            elif isinstance(tree, g.Name) and tree.name not in program.spec.hyperparameters:
                key = tree.name if tree.element is None else f"{tree.name}[{tree.element}]"
                # As wide as an input's axis, if a computed size depends on it.
                most = high + (6 if size in wide else 0)
                symbols.setdefault(key, int(rng.integers(low, most + 1)))
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
        if fitting and elements(program, sizes) <= most:
            return sizes, symbols
    raise DerivationError(
        "no sizes found that fit the formulas in [sizes] and that a layer can be tried at; "
        "lower the sizes and defaults that are plain numbers"
    )


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
    units = {x.size for x in program.unit}

    def crowding(drawn: tuple[dict[str, int], dict[str, Any]]) -> float:
        return math.prod(v if k in units else 1 / v for k, v in drawn[0].items())

    sizes, symbols = max((random_sizes(program, rng) for _ in range(CROWDED)), key=crowding)
    return with_lines(program, Evaluator(sizes, random_tensors(program, sizes, rng), symbols))


def with_lines(program: Program, evaluator: Evaluator) -> Evaluator:
    """The evaluator with every line's value among its tensors."""
    tensors = {**evaluator.tensors, **run_program(program, evaluator)}
    return Evaluator(evaluator.sizes, tensors, evaluator.symbols, evaluator.field)


@np.errstate(**QUIET)
def witness_off_diagonal(program: Program, self_kernel: Expr) -> bool:
    """Whether a random point shows that K(s,s) is not diagonal; false proves nothing."""
    evaluator = random_point(program, np.random.default_rng(20251222), 2, 3)
    unit = program.unit
    letters = (*program.site, *unit, *(x.primed for x in unit))
    width = int(np.prod([evaluator.sizes[x.size] for x in unit]))
    kernel = evaluator.array(self_kernel, letters).reshape(-1, width, width)
    diagonal = np.einsum("sii->si", kernel)
    off = np.abs(kernel - diagonal[:, :, None] * np.eye(width)).max()
    return bool(off > WITNESS * np.abs(diagonal).max())


@np.errstate(**QUIET)
def witness_parameters(program: Program, expression: Expr) -> bool:
    """Whether two random points with equal inputs show that an expression depends on parameters."""
    rng = np.random.default_rng(20251222)
    try:
        first = random_point(program, rng, 2, 3)
    except DerivationError:
        # An ansatz's unknown has no value: nothing can be shown.
        return False
    moved = {t.name: first.tensors[t.name] for t in program.inputs}
    for t in program.parameters:
        moved[t.name] = np.asarray(rng.standard_normal(first.tensors[t.name].shape))
    second = with_lines(program, Evaluator(first.sizes, moved, first.symbols))
    return _differ(program, expression, first, second)


@np.errstate(**QUIET)
def witness_mean(program: Program, kappa: Expr, letters: tuple[Letter, ...]) -> bool:
    """Whether two random points show that the mean of κ over some site letters varies."""
    rng = np.random.default_rng(20251222)
    first = random_point(program, rng, 2, 3)
    inputs = random_tensors(program, dict(first.sizes), rng)
    second = with_lines(program, Evaluator(first.sizes, inputs, first.symbols))
    return _differ(program, Contraction(kappa, *letters), first, second)


def _differ(program: Program, expression: Expr, first: Evaluator, second: Evaluator) -> bool:
    if any(r.tensor not in first.tensors for r in reads(expression)):
        return False
    letters = tuple(sorted(letters_in([expression]), key=str))
    values = [point.array(expression, letters) for point in (first, second)]
    gap = np.abs(values[0] - values[1]).max()
    return bool(gap > WITNESS * np.abs(values[0]).max())


@np.errstate(**QUIET)
def generic_rank(program: Program, self_kernel: Expr, instances: int = 12) -> str:
    """Why K(s,s) cannot be inverted at some sizes, or ``""`` if it always can at random points."""
    rng = np.random.default_rng(20251222)
    points = (random_point(program, rng) for _ in range(instances))
    for point in itertools.chain(points, (crowded_point(program, rng) for _ in range(2))):
        width = int(np.prod([point.sizes[x.size] for x in program.unit]))
        ranks: list[int] = []
        # A rank that is full at one point is full at almost all, if K is analytic. Where functions
        # saturate, or numbers are too large, a smaller point of the same sizes shows what this one
        # cannot; but where a function is flat, its units are off at almost all points nearby.
        for scale in SCALES[:1] if self_kernel.has(Step, relu, maximum) else SCALES:
            rank = least_rank(program, self_kernel, scaled_point(program, point, scale), width)
            ranks += [] if rank is None else [rank]
            if rank == width:
                break
        if not ranks:
            return "K(s,s) overflows at random points, so its rank is not known"
        if max(ranks) < width:
            where = ", ".join(f"size({k})={v}" for k, v in sorted(point.sizes.items()))
            return (
                f"K(s,s) has rank {max(ranks)} < {width} at random points (e.g. {where}): "
                "no Λ makes it c·I"
            )
    return ""


def scaled_point(program: Program, point: Evaluator, scale: float) -> Evaluator:
    """The point with its inputs and parameters times a factor."""
    given = {t.name: t.kind for t in (*program.inputs, *program.parameters)}
    tensors = {
        name: point.tensors[name] * (1 if kind == "token" else scale)
        for name, kind in given.items()
    }
    return with_lines(program, Evaluator(point.sizes, tensors, point.symbols))


def least_rank(program: Program, self_kernel: Expr, point: Evaluator, width: int) -> int | None:
    """The smallest rank of K(s,s) over the sites of a point; ``None`` if it overflows."""
    letters = (*program.site, *program.unit, *(x.primed for x in program.unit))
    kernel = point.array(self_kernel, letters).reshape(-1, width, width)
    if not np.isfinite(kernel).all():
        return None
    return min(int(np.linalg.matrix_rank(equilibrated(k), hermitian=True)) for k in kernel)


def equilibrated(matrix: Array) -> Array:
    """A Gram matrix with ones on its diagonal: of the same rank, however its rows are scaled."""
    diagonal = np.diagonal(matrix)
    if not (diagonal > 0).all():
        return matrix
    # One root after the other: their product may be too small for a float.
    root = np.sqrt(diagonal)
    return np.asarray(matrix / root[:, None] / root[None, :])


def unchanged_by_scale(
    program: Program, expression: Expr, names: tuple[str, ...], instances: int = 2
) -> bool:
    """Whether an expression over inputs and parameters keeps its value when the inputs are scaled.

    Args:
        program: The layer that the expression belongs to.
        expression: An expression free in the output's letters.
        names: The inputs to scale.
        instances: Random instances that have to agree to 1e-9.
    """
    rng = np.random.default_rng(20251222)
    for _ in range(instances):
        sizes, symbols = random_sizes(program, rng, 2, 4)
        tensors = random_tensors(program, sizes, rng)
        stretched = {k: 3.0 * v if k in names else v for k, v in tensors.items()}
        with np.errstate(**QUIET):
            values = [
                Evaluator(sizes, point, {**symbols, "radius": 1.0}).array(
                    expression, program.output.letters
                )
                for point in (tensors, stretched)
            ]
        # A window that lies outside its input is all zero, and a gauge may be infinite there.
        regular = np.isfinite(values[0]) & np.isfinite(values[1])
        if not regular.any():
            return False
        if not np.allclose(values[0][regular], values[1][regular], rtol=1e-9, atol=1e-12):
            return False
    return True
