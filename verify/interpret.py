"""A second reading of the notation, independent of :mod:`derive.evaluate`, by brute force.

Every node is evaluated in a *scope*, the letters around it, as an array with one axis a letter of
the scope; a sum puts its letters at the end of the scope and adds up over them. What the arrays are
is left to :class:`Arithmetic`: torch tensors here (so that autograd differentiates the
*uncorrected* layer), numbers modulo a prime in :mod:`verify.emitted_reference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import sympy
import torch
from sympy import Add, Expr, Function, Integer, Mul, Pow, Symbol

from derive.errors import DerivationError
from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax, substitute
from derive.program import Program

Array = np.ndarray[Any, Any]
Scope = tuple[Letter, ...]
V = TypeVar("V")


class Arithmetic(Protocol[V]):
    """What an interpretation computes with."""

    def number(self, value: Expr) -> V:
        """A SymPy number."""

    def flags(self, mask: Array) -> V:
        """1 where the mask holds, else 0."""

    def add(self, a: V, b: V) -> V:
        """A + b."""

    def multiply(self, a: V, b: V) -> V:
        """A times b."""

    def power(self, base: V, exponent: sympy.Rational) -> V:
        """``base ** exponent``."""

    def function(self, name: str, arguments: Sequence[V]) -> V:
        """A function of the notation."""

    def total(self, a: V, shape: tuple[int, ...], axes: tuple[int, ...]) -> V:
        """Broadcast to ``shape`` and add up over ``axes``."""

    def largest(self, a: V, shape: tuple[int, ...], axes: tuple[int, ...]) -> V:
        """Broadcast to ``shape`` and take the maximum over ``axes``."""

    def gather(self, tensor: V, positions: tuple[Array, ...], valid: Array) -> V:
        """Elements at positions, 0 where not valid."""

    def shaped(self, a: V, shape: tuple[int, ...]) -> V:
        """Broadcast to a shape."""


class Interpreter:
    """Evaluates expressions and programs.

    Args:
        sizes: Size class → size.
        symbols: Hyperparameters and other free symbols by name.
        tensors: Tensor name → value over its logical letters; tokens as integer NumPy arrays.
        arithmetic: What to compute with.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        symbols: Mapping[str, Any],
        tensors: Mapping[str, Any],
        arithmetic: Arithmetic[Any],
    ) -> None:
        """Keep the instance."""
        self.sizes = sizes
        self.symbols = symbols
        self.tensors = dict(tensors)
        self.arithmetic = arithmetic

    def run(self, program: Program) -> Any:
        """Evaluate the lines in order; the output over its logical letters."""
        for line in program.lines:
            self.tensors[line.target] = self.over(line.value, line.letters)
        return self.tensors[program.output.target]

    def over(self, e: Expr, letters: Scope) -> Any:
        """The value of an expression with exactly these letters as axes."""
        return self.arithmetic.shaped(self.value(e, letters), self.shape(letters))

    def shape(self, scope: Scope) -> tuple[int, ...]:
        """One size a letter."""
        return tuple(self.sizes[x.size] for x in scope)

    def value(self, e: Expr, scope: Scope) -> Any:
        """The value of a node, broadcastable over the scope.

        Raises:
            DerivationError: If there is no rule for the node.
        """
        m = self.arithmetic
        if isinstance(e, Read):
            return self.read(e, scope)
        if isinstance(e, Delta):
            return m.flags(self.index(e.args[0], scope) == 0)
        if isinstance(e, Contraction | MaxOver):
            inner = scope + e.letters
            axes = tuple(range(len(scope), len(inner)))
            reduce = m.total if isinstance(e, Contraction) else m.largest
            return reduce(self.value(e.body, inner), self.shape(inner), axes)
        if isinstance(e, Softmax):
            return self.softmax(e, scope)
        if isinstance(e, Symbol) and not isinstance(e, Letter):
            return m.number(sympy.sympify(self.symbol(e.name)))
        if isinstance(e, Add | Mul):
            values = [self.value(a, scope) for a in e.args]
            result = values[0]
            for value in values[1:]:
                result = m.add(result, value) if isinstance(e, Add) else m.multiply(result, value)
            return result
        if isinstance(e, Pow) and e.exp.is_Rational:
            return m.power(self.value(e.base, scope), e.exp)
        if isinstance(e, Function):
            return m.function(e.func.__name__, [self.value(a, scope) for a in e.args])
        if not e.args and e.is_number:
            return m.number(e)
        raise DerivationError(f"no rule for {type(e).__name__}")

    def softmax(self, e: Softmax, scope: Scope) -> Any:
        """Quotient of exponentials; real scores less their maximum, so that nothing overflows."""
        m = self.arithmetic
        inner = (*scope, e.letters[0])
        shape, axis = self.shape(inner), (len(scope),)
        score = self.value(e.body, inner)
        at = self.value(substitute(e.body, {e.letters[0]: e.args[2]}), scope)
        if isinstance(m, TorchArithmetic):
            shift = m.multiply(m.number(Integer(-1)), m.largest(score, shape, axis).detach())
            score, at = m.add(score, shift.unsqueeze(-1)), m.add(at, shift)
        total = m.total(m.function("exp", [score]), shape, axis)
        return m.multiply(m.function("exp", [at]), m.power(total, Integer(-1)))

    def symbol(self, name: str) -> Any:
        """The value of a size or hyperparameter.

        Raises:
            DerivationError: If the symbol has no value.
        """
        if name.startswith("size(") and name[5:-1] in self.sizes:
            return self.sizes[name[5:-1]]
        if name not in self.symbols:
            raise DerivationError(f"the symbol {name} has no value")
        return self.symbols[name]

    def read(self, e: Read, scope: Scope) -> Any:
        """An element of a tensor, 0 out of range."""
        tensor = self.tensors[e.tensor]
        if not e.indices:
            return tensor
        shape = tensor.shape
        positions = np.broadcast_arrays(*(self.index(i, scope) for i in e.indices))
        valid = np.ones(positions[0].shape, dtype=bool)
        for position, size in zip(positions, shape, strict=True):
            valid &= (position >= 0) & (position < size)
        kept = tuple(np.where(valid, position, 0) for position in positions)
        return self.arithmetic.gather(tensor, kept, valid)

    def index(self, e: Expr, scope: Scope) -> Array:
        """An index expression as int64, broadcastable over the scope.

        Raises:
            DerivationError: If the expression is no index.
        """
        ones = [1] * len(scope)
        if isinstance(e, Letter):
            # The innermost binding of a letter is the one that counts.
            axis = len(scope) - 1 - scope[::-1].index(e)
            size = self.sizes[e.size]
            return np.arange(size).reshape([*ones[:axis], size, *ones[axis + 1 :]])
        if e.is_Integer:
            return np.full(ones, int(e))
        if isinstance(e, Symbol):
            return np.full(ones, int(self.symbol(e.name)))
        if isinstance(e, Add):
            return np.asarray(sum(self.index(a, scope) for a in e.args))
        if isinstance(e, Mul):
            result = self.index(e.args[0], scope)
            for argument in e.args[1:]:
                result = result * self.index(argument, scope)
            return result
        if isinstance(e, Read):
            positions = np.broadcast_arrays(*(self.index(i, scope) for i in e.indices))
            return np.asarray(np.asarray(self.tensors[e.tensor])[tuple(positions)])
        raise DerivationError(f"{e} is no index")


class TorchArithmetic:
    """float64 tensors; every operation is differentiable."""

    def number(self, value: Expr) -> torch.Tensor:
        """A scalar tensor."""
        return torch.tensor(float(value), dtype=torch.float64)

    def flags(self, mask: Array) -> torch.Tensor:
        """1.0 where the mask holds."""
        return torch.from_numpy(np.ascontiguousarray(mask)).to(torch.float64)

    def add(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """A + b."""
        return a + b

    def multiply(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """A times b."""
        return a * b

    def power(self, base: torch.Tensor, exponent: sympy.Rational) -> torch.Tensor:
        """Integer powers and real roots."""
        if exponent.is_Integer:
            return base ** int(exponent)
        if exponent.q == 2:
            return torch.sqrt(base) ** int(exponent.p)
        return base ** float(exponent)

    def function(self, name: str, arguments: Sequence[torch.Tensor]) -> torch.Tensor:
        """The function of that name in torch.

        Raises:
            DerivationError: If there is no torch rule for the function.
        """
        if name not in TORCH_FUNCTIONS:
            raise DerivationError(f"no torch rule for the function {name}")
        result: torch.Tensor = TORCH_FUNCTIONS[name](*arguments)
        return result

    def total(self, a: torch.Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> torch.Tensor:
        """Sum over axes."""
        return a.expand(shape).sum(axes)

    def largest(
        self, a: torch.Tensor, shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> torch.Tensor:
        """Maximum over axes."""
        return a.expand(shape).amax(axes)

    def gather(
        self, tensor: torch.Tensor, positions: tuple[Array, ...], valid: Array
    ) -> torch.Tensor:
        """Advanced indexing, masked."""
        index = tuple(torch.from_numpy(np.ascontiguousarray(p)) for p in positions)
        mask = torch.from_numpy(np.ascontiguousarray(valid))
        picked = tensor[index]
        return torch.where(mask, picked, torch.zeros((), dtype=picked.dtype))

    def shaped(self, a: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Broadcast."""
        return a.expand(shape)


TORCH_FUNCTIONS: Mapping[str, Any] = {
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "maximum": torch.maximum,
    "Abs": torch.abs,
    "sign": torch.sign,
    "Step": lambda x: (x > 0).to(x.dtype),
}
