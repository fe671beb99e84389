"""Values of symbolic expressions at concrete sizes, by brute force over every letter.

This is the slow, plain reading of the notation: each letter is an array axis, each sum adds up,
each read outside a tensor's range is 0. It knows nothing of derivations or of generated code, so it
can judge both. The arithmetic is that of a :class:`Field`: float64, or residues modulo a prime.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import sympy
from sympy import Add, Expr, Function, Mul, Pow, Symbol

from derive import grammar as g
from derive.errors import DerivationError
from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax
from derive.program import Program

Array = np.ndarray[Any, Any]


class Field(Protocol):
    """The arithmetic of an evaluation."""

    dtype: Any

    def number(self, value: sympy.Expr) -> Any:
        """A SymPy number as an element."""

    def add(self, a: Array, b: Array) -> Array:
        """A + b."""

    def multiply(self, a: Array, b: Array) -> Array:
        """A times b."""

    def power(self, base: Array, exponent: sympy.Rational) -> Array:
        """``base ** exponent``."""

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Sum over axes."""

    def function(self, node: Function, arguments: Sequence[Array]) -> Array:
        """A function of the notation, applied elementwise."""

    def largest(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Maximum over axes."""


class Float64:
    """IEEE double precision."""

    dtype: type[np.floating[Any]] = np.float64

    def number(self, value: sympy.Expr) -> float:
        """A SymPy number as a float."""
        return float(value)

    def add(self, a: Array, b: Array) -> Array:
        """A + b."""
        return np.asarray(a + b)

    def multiply(self, a: Array, b: Array) -> Array:
        """A times b."""
        return np.asarray(a * b)

    def power(self, base: Array, exponent: sympy.Rational) -> Array:
        """Integer powers exactly, others as real roots."""
        if exponent.is_Integer:
            with np.errstate(divide="ignore"):
                return np.asarray(np.asarray(base, dtype=np.float64) ** int(exponent))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.power(np.asarray(base, dtype=np.float64), float(exponent)))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Sum over axes."""
        return np.asarray(a.sum(axis=axes))

    def largest(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Maximum over axes."""
        return np.asarray(a.max(axis=axes))

    def function(self, node: Function, arguments: Sequence[Array]) -> Array:
        """A function of the notation.

        Raises:
            DerivationError: If the function has no numeric rule.
        """
        name = node.func.__name__
        if name not in FLOAT_FUNCTIONS:
            raise DerivationError(f"no numeric rule for the function {name}")
        return np.asarray(FLOAT_FUNCTIONS[name](*arguments))


_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    # 1/(1 + e⁻ˣ), without the cancellation of (1 + tanh(x/2))/2 where it is small.
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


FLOAT_FUNCTIONS: dict[str, Any] = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "erf": _ERF,
    "sigmoid": _sigmoid,
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + _ERF(x / np.sqrt(2.0))),
    "maximum": np.maximum,
    "Step": lambda x: (x > 0).astype(np.float64),
    "Abs": np.abs,
    "sign": np.sign,
}


@dataclass(frozen=True)
class Named:
    """An array whose axes are letters."""

    letters: tuple[Letter, ...]
    array: Array


@dataclass
class Evaluator:
    """Evaluates expressions at one instance.

    Args:
        sizes: Size class → size.
        tensors: Tensor name → array over its logical axes (composed axes already split).
        symbols: Name → value of hyperparameters and of any other free symbol.
        field: The arithmetic.
    """

    sizes: Mapping[str, int]
    tensors: Mapping[str, Array]
    symbols: Mapping[str, Any]
    field: Field = field(default_factory=Float64)

    def array(self, expression: Expr, letters: Sequence[Letter]) -> Array:
        """The value as an array with exactly these letters as axes, in this order.

        Raises:
            DerivationError: If the expression is free in a letter that is not listed.
        """
        value = self.of(expression)
        extra = [x for x in value.letters if x not in letters]
        if extra:
            raise DerivationError(f"the expression is free in {', '.join(map(str, extra))}")
        shape = tuple(self.sizes[x.size] for x in letters)
        return np.broadcast_to(self.align(value, letters), shape).copy()

    def align(self, value: Named, letters: Sequence[Letter]) -> Array:
        """Transpose and insert axes so that the array broadcasts over ``letters``."""
        if value.letters == tuple(letters):
            return value.array
        order = [value.letters.index(x) for x in letters if x in value.letters]
        array = np.transpose(value.array, order)
        return array.reshape([self.sizes[x.size] if x in value.letters else 1 for x in letters])

    def pair(self, a: Named, b: Named) -> tuple[tuple[Letter, ...], Array, Array]:
        """Two arrays over the letters of both."""
        letters = a.letters + tuple(x for x in b.letters if x not in a.letters)
        return letters, self.align(a, letters), self.align(b, letters)

    def constant(self, value: Any) -> Named:
        """A number of the field."""
        return Named((), np.array(value, dtype=self.field.dtype))

    def of(self, e: Expr) -> Named:
        """The value of an expression as a named array.

        Raises:
            DerivationError: If an index stands where a number is wanted, or a node has no numeric
                rule.
        """
        if isinstance(e, sympy.Number | sympy.NumberSymbol):
            return self.constant(self.field.number(e))
        if isinstance(e, Letter):
            raise DerivationError(f"the index {e} stands where a number is wanted")
        if isinstance(e, Symbol):
            return self.constant(self.field.number(sympy.sympify(self.symbol(e))))
        if isinstance(e, Read):
            return self.read(e)
        if isinstance(e, Delta):
            value = self.integer(e.args[0])
            return Named(
                value.letters, (value.array == 0).astype(np.int64).astype(self.field.dtype)
            )
        if isinstance(e, Contraction | MaxOver):
            return self.reduce(e)
        if isinstance(e, Softmax):
            return self.softmax(e)
        if isinstance(e, Add | Mul):
            return self.fold(e)
        if isinstance(e, Pow):
            return self.power(e)
        if isinstance(e, Function):
            parts = [self.of(a) for a in e.args]
            letters = tuple(dict.fromkeys(x for p in parts for x in p.letters))
            aligned = [self.align(p, letters) for p in parts]
            return Named(letters, np.broadcast_arrays(self.field.function(e, aligned))[0])
        raise DerivationError(f"no numeric rule for {type(e).__name__}")

    def softmax(self, e: Softmax) -> Named:
        """exp(body) / Σ exp(body); real scores less their maximum, so that nothing overflows."""
        score = self.of(e.body)
        (bound,) = e.letters
        if not isinstance(self.field, Float64) or bound not in score.letters:
            return self.of(e.expanded())
        axis = score.letters.index(bound)
        raised = np.exp(score.array - score.array.max(axis=axis, keepdims=True))
        # The quotient over all letters, read at the index that the softmax is asked for.
        name = "softmax"
        tensors = {**self.tensors, name: raised / raised.sum(axis=axis, keepdims=True)}
        indices = [e.args[2] if x == bound else x for x in score.letters]
        here = Evaluator(self.sizes, tensors, self.symbols, self.field)
        return here.read(Read(Symbol(name), *indices))

    def symbol(self, e: Symbol) -> Any:
        """The value of a size, hyperparameter or unknown.

        Raises:
            DerivationError: If the symbol has no value.
        """
        name = e.name
        if name.startswith("size(") and name[5:-1] in self.sizes:
            return self.sizes[name[5:-1]]
        if name not in self.symbols:
            raise DerivationError(f"the symbol {name} has no value")
        return self.symbols[name]

    def fold(self, e: Expr) -> Named:
        """A sum or product, operand by operand."""
        result = self.of(e.args[0])
        for argument in e.args[1:]:
            letters, a, b = self.pair(result, self.of(argument))
            combine = self.field.add if isinstance(e, Add) else self.field.multiply
            result = Named(letters, combine(a, b))
        return result

    def power(self, e: Pow) -> Named:
        """A rational power.

        Raises:
            DerivationError: If the exponent is not rational.
        """
        if not e.exp.is_Rational:
            raise DerivationError(f"the power {e.exp} is no number")
        base = self.of(e.base)
        return Named(base.letters, self.field.power(base.array, e.exp))

    def reduce(self, e: Expr) -> Named:
        """A sum or a maximum over bound letters."""
        if isinstance(e, Contraction):
            return self.summed(e)
        body = self.of(e.body)
        axes = tuple(body.letters.index(x) for x in e.letters if x in body.letters)
        letters = tuple(x for x in body.letters if x not in e.letters)
        return Named(letters, self.field.largest(body.array, axes))

    def summed(self, e: Contraction) -> Named:
        """A sum, letter by letter.

        A letter is summed as soon as the factors that hold it are multiplied, which is the plain
        definition by distributivity and keeps the arrays small.
        """
        factors = [self.of(f) for f in Mul.make_args(e.body)]
        for letter in self.cheapest_first(e.letters, factors):
            held = [f for f in factors if letter in f.letters]
            if held:
                merged = functools.reduce(self.product, held)
                axis = merged.letters.index(letter)
                rest = tuple(x for x in merged.letters if x != letter)
                part = Named(rest, self.field.total(merged.array, (axis,)))
            else:
                part = self.constant(self.field.number(sympy.Integer(self.sizes[letter.size])))
            factors = [f for f in factors if letter not in f.letters] + [part]
        return functools.reduce(self.product, factors)

    def cheapest_first(
        self, letters: Sequence[Letter], factors: Sequence[Named]
    ) -> Iterator[Letter]:
        """Bound letters in the order in which they make the smallest products."""
        groups = [set(f.letters) for f in factors]
        pending = list(letters)
        while pending:
            joint = {x: set().union(*(g for g in groups if x in g)) for x in pending}
            cost = {x: math.prod(self.sizes[y.size] for y in joint[x]) for x in pending}
            letter = min(pending, key=lambda x: (cost[x], str(x)))
            pending.remove(letter)
            groups = [g for g in groups if letter not in g] + [joint[letter] - {letter}]
            yield letter

    def product(self, a: Named, b: Named) -> Named:
        """The product over the letters of both."""
        letters, left, right = self.pair(a, b)
        return Named(letters, self.field.multiply(left, right))

    def read(self, e: Read) -> Named:
        """A gather with zeros outside the range.

        Raises:
            DerivationError: If the tensor has no value.
        """
        if e.tensor not in self.tensors:
            raise DerivationError(f"the tensor {e.tensor} has no value")
        source = self.tensors[e.tensor]
        if self.covers(e.indices, source.shape):
            return Named(e.indices, np.asarray(source, dtype=self.field.dtype))
        positions = [self.integer(i) for i in e.indices]
        letters = tuple(dict.fromkeys(x for p in positions for x in p.letters))
        aligned = np.broadcast_arrays(*(self.align(p, letters) for p in positions))
        valid = np.ones(aligned[0].shape, dtype=bool)
        clipped = []
        for position, size in zip(aligned, source.shape, strict=True):
            valid &= (position >= 0) & (position < size)
            clipped.append(np.clip(position, 0, max(size - 1, 0)))
        if 0 in source.shape:
            return Named(letters, np.zeros(valid.shape, dtype=self.field.dtype))
        zero = np.zeros((), dtype=self.field.dtype)
        return Named(letters, np.where(valid, source[tuple(clipped)], zero))

    def covers(self, indices: Sequence[Expr], shape: Sequence[int]) -> bool:
        """Whether the indices are different letters that run over whole axes."""
        return (
            all(isinstance(x, Letter) for x in indices)
            and len(set(indices)) == len(indices)
            and all(self.sizes[x.size] == n for x, n in zip(indices, shape, strict=True))
        )

    def integer(self, e: Expr) -> Named:
        """An index expression as a named array of int64.

        Raises:
            DerivationError: If the expression is no index expression.
        """
        if isinstance(e, Letter):
            return Named((e,), np.arange(self.sizes[e.size], dtype=np.int64))
        if e.is_Integer:
            return Named((), np.array(int(e), dtype=np.int64))
        if isinstance(e, Symbol):
            return Named((), np.array(int(self.symbol(e)), dtype=np.int64))
        if isinstance(e, Read):
            positions = [self.integer(i) for i in e.indices]
            letters = tuple(dict.fromkeys(x for p in positions for x in p.letters))
            aligned = np.broadcast_arrays(*(self.align(p, letters) for p in positions))
            return Named(
                letters, np.asarray(self.tensors[e.tensor])[tuple(aligned)].astype(np.int64)
            )
        if isinstance(e, Add | Mul):
            result = self.integer(e.args[0])
            for argument in e.args[1:]:
                letters, a, b = self.pair(result, self.integer(argument))
                result = Named(letters, a + b if isinstance(e, Add) else a * b)
            return result
        raise DerivationError(f"{e} is no index expression")


def run_program(program: Program, evaluator: Evaluator) -> dict[str, Array]:
    """Evaluate every line of a program in order.

    Returns:
        Line name → array over its logical axes; inputs and parameters are taken from the evaluator.
    """
    tensors = dict(evaluator.tensors)
    values: dict[str, Array] = {}
    for line in program.lines:
        here = Evaluator(evaluator.sizes, tensors, evaluator.symbols, evaluator.field)
        values[line.target] = here.array(line.value, line.letters)
        tensors[line.target] = values[line.target]
    return values


def evaluate_size(tree: g.Tree, sizes: Mapping[str, int], symbols: Mapping[str, Any]) -> int:
    """A size formula at concrete sizes; ``symbols`` holds arguments and hyperparameters.

    Raises:
        DerivationError: If a node of the formula cannot stand in a size.
    """
    if isinstance(tree, g.Number):
        return int(tree.value)
    if isinstance(tree, g.SizeOf):
        return sizes[tree.letter]
    if isinstance(tree, g.Name):
        return int(symbols[tree.name if tree.element is None else f"{tree.name}[{tree.element}]"])
    parts = [evaluate_size(child, sizes, symbols) for child in g.children(tree)]
    if isinstance(tree, g.Total):
        return sum(parts)
    if isinstance(tree, g.Product):
        return int(np.prod(parts, dtype=object))
    if isinstance(tree, g.Power):
        return int(parts[0] ** tree.exponent)
    if isinstance(tree, g.Call) and tree.function == "//":
        return parts[0] // parts[1]
    raise DerivationError(f"{type(tree).__name__} cannot stand in a size")
