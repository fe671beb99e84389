"""A spec, parsed and resolved: every tensor with its axes, every letter with its size.

Each line's value is a SymPy expression of :mod:`derive.nodes`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import sympy
from sympy import Expr

from derive import grammar as g
from derive.nodes import Letter, Read, Softmax
from derive.spec import LayerSpec


@dataclass(frozen=True)
class Tensor:
    """A tensor of the program.

    Attributes:
        name: Its symbol in the formulas.
        kind: ``input``, ``token`` (an integer input used as an index), ``parameter``,
            ``intermediate`` or ``output``.
        axes: One entry a storage axis; an entry of several letters composes them, first slowest.
    """

    name: str
    kind: str
    axes: tuple[tuple[Letter, ...], ...]

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The logical axes."""
        return tuple(letter for axis in self.axes for letter in axis)


@dataclass(frozen=True)
class Line:
    """``target[letters] = value``."""

    target: str
    letters: tuple[Letter, ...]
    value: Expr


@dataclass(frozen=True)
class Program:
    """What a spec says, resolved for one choice of its optional parameters.

    Attributes:
        spec: Where it comes from.
        absent: The optional parameters that this program leaves out.
        tensors: Every tensor by name, in the order inputs, parameters, intermediates, output.
        lines: The definitions; the last is the output.
        site, unit: The letters of the output.
        letters: Every letter of the spec by name.
        sizes: Size class → formula over constructor arguments, hyperparameters and other size
            classes, or ``None`` where the size is read off an input.
        arguments: Constructor argument → its number of elements (0 for a plain integer).
    """

    spec: LayerSpec
    absent: frozenset[str]
    tensors: Mapping[str, Tensor]
    lines: tuple[Line, ...]
    site: tuple[Letter, ...]
    unit: tuple[Letter, ...]
    letters: Mapping[str, Letter]
    sizes: Mapping[str, g.Tree | None]
    arguments: Mapping[str, int]

    @property
    def output(self) -> Line:
        """The last line."""
        return self.lines[-1]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Inputs in call order."""
        return tuple(t for t in self.tensors.values() if t.kind in ("input", "token"))

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Parameters in declared order, without absent ones."""
        return tuple(t for t in self.tensors.values() if t.kind == "parameter")

    def line(self, name: str) -> Line | None:
        """The line that defines an intermediate, or ``None``."""
        return next((line for line in self.lines if line.target == name), None)

    @functools.cached_property
    def dependent(self) -> frozenset[str]:
        """Names of the parameters and of every line that depends on one."""
        names = {t.name for t in self.parameters}
        for line in self.lines:
            if any(
                r.tensor in names
                for r in sympy.preorder_traversal(line.value)
                if isinstance(r, Read)
            ):
                names.add(line.target)
        return frozenset(names)

    @functools.cached_property
    def softmax_axes(self) -> Mapping[str, int]:
        """Line → the axis along which it sums to 1, for lines that are just a softmax."""
        return {
            line.target: line.letters.index(line.value.args[2])
            for line in self.lines
            if isinstance(line.value, Softmax) and line.value.args[2] in line.letters
        }

    def size_name(self, size: str) -> str:
        """How a size class is shown: its constructor argument if it has one, else ``size(j)``."""
        tree = self.sizes.get(size)
        if isinstance(tree, g.Name):
            return tree.name if tree.element is None else f"{tree.name}[{tree.element}]"
        return f"size({size})"
