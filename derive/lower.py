"""Trees of :mod:`derive.grammar` → SymPy expressions of :mod:`derive.nodes`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy
from sympy import Expr, Integer, Rational, Symbol

from derive import grammar as g
from derive.functions import FUNCTIONS
from derive.nodes import (
    Contraction,
    Delta,
    Letter,
    MaxOver,
    Read,
    Softmax,
    TokenRead,
    size_symbol,
    substitute,
)
from derive.parser import Fail
from derive.sizes import Axes, SizeTable
from derive.spec import LayerSpec


@dataclass
class Lowering:
    """What a tree's names stand for, and how they become SymPy.

    Attributes:
        spec: The layer; its hyperparameters become symbols.
        sizes: The size classes of the letters.
        axes, kinds: Axes and kind of every tensor.
        fail: Raises a ``SpecError`` at the current line.
        letters: Every letter met so far.
    """

    spec: LayerSpec
    sizes: SizeTable
    axes: Mapping[str, Axes]
    kinds: Mapping[str, str]
    fail: Fail
    letters: dict[str, Letter] = field(default_factory=dict)

    def letter(self, name: str) -> Letter:
        """The letter of a name, in its size class."""
        if name not in self.letters:
            self.letters[name] = Letter(name, self.sizes.add(name))
        return self.letters[name]

    def expression(self, tree: g.Tree) -> Expr:
        """A tree as an expression.

        Raises:
            SpecError: If a size names an unknown index, a divisor is 0, or ``//`` is used.
        """
        if isinstance(tree, g.Number):
            return Rational(tree.value.numerator, tree.value.denominator)
        if isinstance(tree, g.SizeOf):
            if tree.letter not in self.sizes.parent:
                self.fail(
                    f"size of the unknown index `{tree.letter}`",
                    tree.letter,
                    "use an index of the formula",
                )
            return size_symbol(self.sizes.add(tree.letter))
        if isinstance(tree, g.Name):
            return self.scalar(tree)
        if isinstance(tree, g.Reference):
            return self.read(tree)
        if isinstance(tree, g.Total):
            return sympy.Add(*(self.expression(t) for t in tree.terms))
        if isinstance(tree, g.Product):
            return sympy.Mul(*(self.expression(t) for t in tree.factors))
        if isinstance(tree, g.Power):
            base = self.expression(tree.base)
            if base.is_zero and tree.exponent < 0:
                self.fail("division by zero", "", "remove it")
            return base**tree.exponent
        if isinstance(tree, g.Call):
            if tree.function == "//":
                self.fail("// is for sizes only", "//", "use /")
            return self.checked(
                FUNCTIONS[tree.function](*(self.expression(a) for a in tree.arguments)),
                tree.function,
            )
        return self.reduction(tree)

    def checked(self, value: Expr, name: str) -> Expr:
        """A value, refused where it is not real.

        Raises:
            SpecError: If the function is not real at its argument.
        """
        if value.is_real is False or value.has(sympy.zoo, sympy.oo, sympy.nan, sympy.I):
            self.fail(f"`{name}` is not real here", name, "check its argument")
        return value

    def scalar(self, tree: g.Name) -> Expr:
        """A bare name: a hyperparameter, or an index in the wrong place.

        Raises:
            SpecError: If the name is an index, used as a number.
        """
        hyper = self.spec.hyperparameters
        if tree.name in hyper:
            return hyper_symbol(tree, hyper[tree.name], self.fail)
        self.fail(
            f"`{tree.name}` is an index, used as a number", tree.name, "use size(...) or an input"
        )

    def reduction(self, tree: g.Reduction) -> Expr:
        """A sum, mean, maximum or softmax.

        Raises:
            SpecError: If the expression lacks an index that is reduced over.
        """
        letters = tuple(self.letter(x) for x in tree.letters)
        body = self.expression(tree.body)
        missing = [x for x in letters if x not in body.free_symbols]
        if missing:
            self.fail(
                f"{tree.kind}[{missing[0]}] over an expression without `{missing[0]}`",
                str(missing[0]),
                "use the index or drop it",
            )
        if tree.kind == "softmax":
            bound = Letter(letters[0].name, letters[0].size, "softmax")
            return Softmax(substitute(body, {letters[0]: bound}), bound, letters[0])
        if tree.kind == "max":
            return MaxOver(body, *letters)
        value: Expr = Contraction(body, *letters)
        if tree.kind == "mean":
            value = value / math.prod((size_symbol(x.size) for x in letters), start=Integer(1))
        return value

    def read(self, tree: g.Reference) -> Expr:
        """An element of a tensor; off the lattice of its axis it is 0."""
        name = tree.tensor
        kind = self.kinds[name]
        deltas: list[Expr] = []
        bound: list[Letter] = []
        indices: list[Expr] = []
        axis_letters = [x for axis in self.axes[name] for x in axis]
        parts = [i for axis in tree.indices for i in axis]
        for letter_name, part in zip(axis_letters, parts, strict=True):
            index, divisor = self.index(part)
            axis = self.letter(letter_name)
            plain = isinstance(index, Letter) and index.size == axis.size
            if (
                isinstance(index, TokenRead)
                or plain
                or (kind in ("input", "token") and divisor == 1)
            ):
                indices.append(index)
                continue
            # Reads off the lattice or of a formula: sum over the axis where the index hits it.
            q = axis.fresh()
            bound.append(q)
            deltas.append(Delta(index - divisor * q))
            indices.append(q)
        node = TokenRead if kind == "token" else Read
        value = sympy.Mul(node(Symbol(name), *indices), *deltas)
        return Contraction(value, *bound) if bound else value

    def index(self, tree: g.Tree) -> tuple[Expr, Expr]:
        """An index expression and its exact divisor, integer-affine in the letters."""
        divisor: Expr = Integer(1)
        if isinstance(tree, g.Product):
            downs = [f for f in tree.factors if isinstance(f, g.Power) and f.exponent == -1]
            if downs:
                divisor = sympy.Mul(*(self.affine(f.base, letters=False) for f in downs))
                tree = g.product(*(f for f in tree.factors if f not in downs))
        return self.affine(tree, letters=True), divisor

    def affine(self, tree: g.Tree, *, letters: bool) -> Expr:
        """An integer-affine expression; ``letters`` tells whether indices may occur in it.

        Raises:
            SpecError: If the expression cannot stand in an index.
        """
        bad = "an index must be integer-affine in the indices and hyperparameters"
        remedy = "write e.g. stride*p + dilation*k - padding"
        if isinstance(tree, g.Number):
            if tree.value.denominator != 1:
                self.fail(bad, str(tree.value), remedy)
            return Integer(tree.value.numerator)
        if isinstance(tree, g.SizeOf):
            return size_symbol(self.sizes.add(tree.letter))
        if isinstance(tree, g.Name):
            if tree.name in self.spec.hyperparameters:
                value = self.spec.hyperparameters[tree.name]
                if isinstance(value, bool | float):
                    self.fail(
                        f"`{tree.name}` is no integer and cannot stand in an index",
                        tree.name,
                        remedy,
                    )
                return hyper_symbol(tree, value, self.fail)
            if not letters:
                self.fail(bad, tree.name, remedy)
            return self.letter(tree.name)
        if isinstance(tree, g.Total):
            return sympy.Add(*(self.affine(t, letters=letters) for t in tree.terms))
        if isinstance(tree, g.Product):
            value = sympy.expand(
                sympy.Mul(*(self.affine(f, letters=letters) for f in tree.factors))
            )
            for term in sympy.Add.make_args(value):
                degree = sum(
                    sympy.degree(term, s) for s in term.free_symbols if isinstance(s, Letter)
                )
                if degree > 1:
                    self.fail(bad, str(value), remedy)
            return value
        if isinstance(tree, g.Reference) and self.kinds.get(tree.tensor) == "token" and letters:
            value = self.read(tree)
            if isinstance(value, TokenRead):
                return value
        self.fail(bad, getattr(tree, "tensor", type(tree).__name__), remedy)


def hyper_symbol(tree: g.Name, value: object, fail: Fail) -> Symbol:
    """The symbol of a hyperparameter or of one element of a tuple of them."""
    g.check_hyperparameter(tree, value, fail)
    name = tree.name if tree.element is None else f"{tree.name}[{tree.element}]"
    if isinstance(value, float):
        return Symbol(name, real=True)
    return Symbol(name, integer=True)
