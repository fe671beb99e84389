"""Sizes as code: constructor arguments, hyperparameters, computed and read-off sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

import sympy
from sympy import Expr, Symbol

from codegen.values import Level, Value
from derive import grammar as g
from derive.errors import DerivationError
from derive.nodes import Letter
from derive.program import Program

LARGEST_INTEGER = 2**63
"""What torch multiplies a tensor by is smaller."""
LARGEST_NUMBER = 10**30
CONSTANTS = {sympy.pi: "math.pi", sympy.E: "math.e"}
FUNCTIONS = {
    sympy.Abs: "abs",
    sympy.log: "math.log",
    sympy.exp: "math.exp",
    sympy.tanh: "math.tanh",
    sympy.erf: "math.erf",
}
"""Functions of numbers in Python."""
SIMPLE = 10**6
"""A decimal stands for the fraction of so small a denominator that rounds to it."""


def decimal(number: float) -> Fraction:
    """The fraction that a decimal stands for; where none is simple, the one of its digits."""
    simple = Fraction(number).limit_denominator(SIMPLE)
    return simple if float(simple) == number else Fraction(repr(number))


class SizeCode:
    """Prints sizes, hyperparameters and index arithmetic as Python.

    Args:
        program: The layer.
        attributes: Name of an argument or hyperparameter → its code, e.g. ``self.stride``.
        shapes: Size class → what reads it off an input, e.g. ``x.shape[-1]``.
    """

    def __init__(
        self, program: Program, attributes: Mapping[str, str], shapes: Mapping[str, Value]
    ) -> None:
        """Keep the tables."""
        self.program = program
        self.attributes = attributes
        self.shapes = shapes

    def size(self, size: str) -> Value:
        """The size of a size class.

        Raises:
            DerivationError: If the size cannot be read off any input.
        """
        tree = self.program.sizes[size]
        if tree is None:
            if size not in self.shapes:
                raise DerivationError(f"the size of `{size}` cannot be read off any input")
            return self.shapes[size]
        return self.tree(tree)

    def letter(self, letter: Letter) -> Value:
        """The size of a letter's axis."""
        return self.size(letter.size)

    def tree(self, tree: g.Tree) -> Value:
        """A size formula.

        Raises:
            DerivationError: If a node of the formula cannot stand in a size.
        """
        if isinstance(tree, g.Number):
            value = int(tree.value)
            return Value(str(value), level=Level.ATOM if value >= 0 else Level.UNARY, scalar=True)
        if isinstance(tree, g.SizeOf):
            return self.size(tree.letter)
        if isinstance(tree, g.Name):
            code = self.attributes[tree.name]
            return Value(code if tree.element is None else f"{code}[{tree.element}]", scalar=True)
        if isinstance(tree, g.Total):
            return self.total([self.tree(t) for t in tree.terms])
        if isinstance(tree, g.Product):
            return self.product([self.tree(f) for f in tree.factors])
        if isinstance(tree, g.Power):
            return Value(
                f"{self.tree(tree.base).at(Level.ATOM)} ** {tree.exponent}",
                level=Level.POWER,
                scalar=True,
            )
        if isinstance(tree, g.Call) and tree.function == "//":
            top, bottom = (self.tree(a) for a in tree.arguments)
            return self.quotient(top, bottom)
        raise DerivationError(f"{type(tree).__name__} cannot stand in a size")

    def total(self, parts: list[Value]) -> Value:
        """A + b - c."""
        first, *others = parts
        code = first.code
        for part in others:
            code += f" - {part.code[1:]}" if part.code.startswith("-") else f" + {part.code}"
        return Value(code, level=Level.SUM, scalar=True) if others else first

    def product(self, parts: list[Value]) -> Value:
        """A * b; a factor -1 becomes a sign."""
        sign = ""
        kept = []
        for part in parts:
            if part.code == "-1":
                sign = "" if sign else "-"
            elif part.code != "1":
                kept.append(part)
        if not kept:
            kept.append(Value("1", scalar=True))
        if len(kept) == 1 and not sign:
            return kept.pop()
        # A floor division must be neither regrouped nor negated: it keeps its parentheses.
        factors = [
            Value(f"({p.code})") if p.level < Level.PRODUCT or "//" in p.code else p for p in kept
        ]
        code = sign + " * ".join(p.code for p in factors)
        alone = min(Level.UNARY, *(p.level for p in factors))
        return Value(code, level=alone if len(factors) == 1 else Level.PRODUCT, scalar=True)

    def quotient(self, top: Value, bottom: Value) -> Value:
        """A // b."""
        if bottom.code == "1":
            return top
        # A sum would take a minus in front for the whole quotient's, which is rounded down.
        above = f"({top.code})" if top.code.startswith("-") else top.at(Level.PRODUCT)
        code = f"{above} // {bottom.at(Level.UNARY)}"
        return Value(code, level=Level.PRODUCT, scalar=True)

    def number(self, expression: Expr) -> Value:
        """An expression in sizes and hyperparameters alone, as a Python number.

        Raises:
            DerivationError: If the expression holds anything but sizes and hyperparameters.
        """
        if expression.is_Rational:
            return self.rational(expression)
        if isinstance(expression, Symbol):
            return self.symbol(expression)
        if expression in CONSTANTS:
            return Value(CONSTANTS[expression], scalar=True)
        if expression.is_Add:
            terms = sorted(
                expression.args, key=lambda e: (e.could_extract_minus_sign(), e.is_number, str(e))
            )
            return self.total([self.number(t) for t in terms])
        if expression.is_Mul:
            return self._quotient(expression)
        if expression.is_Pow:
            return self.power(expression.base, expression.exp)
        if expression.func in FUNCTIONS:
            (argument,) = expression.args
            code = f"{FUNCTIONS[expression.func]}({self.number(argument).code})"
            return Value(code, scalar=True)
        if expression.is_number:
            return Value(repr(float(expression)), scalar=True)
        raise DerivationError(f"{expression} is no number of sizes and hyperparameters")

    def power(self, base: Expr, exponent: Expr) -> Value:
        """A power or a square root."""
        inner = self.number(base)
        if 2 * exponent == 1:
            return Value(f"math.sqrt({inner.code})", scalar=True)
        if 2 * exponent == -1:
            return Value(f"1 / math.sqrt({inner.code})", level=Level.PRODUCT, scalar=True)
        shown = str(exponent) if exponent.is_Integer else repr(float(exponent))
        return Value(f"{inner.at(Level.ATOM)} ** {shown}", level=Level.POWER, scalar=True)

    def rational(self, number: Expr) -> Value:
        """A fraction: an integer, a decimal that says which fraction it is, or else a quotient.

        Raises:
            DerivationError: If it is out of all proportion.
        """
        p, q = int(number.p), int(number.q)
        if max(abs(p), q) > LARGEST_NUMBER:
            raise DerivationError(
                f"the coefficients of the layer lead to a number of {len(str(max(abs(p), q)))} "
                "digits; use coefficients that are nearer to 1 or have fewer digits"
            )
        level = Level.ATOM if p >= 0 else Level.UNARY
        if q == 1 and abs(p) < LARGEST_INTEGER:
            return Value(str(p), level=level, scalar=True)
        shown = repr(p / q)
        if decimal(p / q) == Fraction(p, q):
            return Value(shown, level=level, scalar=True)
        return Value(f"{p} / {q}", level=Level.PRODUCT, scalar=True)

    def _quotient(self, expression: Expr) -> Value:
        top, bottom = sympy.fraction(expression)
        if bottom == 1 or (bottom.is_Pow and not bottom.exp.is_Integer):
            factors = sorted(expression.args, key=lambda e: (not e.is_number, str(e)))
            return self.product([self.number(f) for f in factors])
        over, under = self.number(top), self.number(bottom)
        return Value(
            f"{over.at(Level.PRODUCT)} / {under.at(Level.POWER)}", level=Level.PRODUCT, scalar=True
        )

    def symbol(self, symbol: Symbol) -> Value:
        """A size symbol or a hyperparameter.

        Raises:
            DerivationError: If there is no code for the symbol.
        """
        name = symbol.name
        if name.startswith("size("):
            return self.size(name[5:-1])
        match = re.fullmatch(r"(\w+)\[(\d+)\]", name)
        if match:
            return Value(f"{self.attributes[match.group(1)]}[{match.group(2)}]", scalar=True)
        if name not in self.attributes:
            raise DerivationError(f"no code for the symbol {name}")
        return Value(self.attributes[name], scalar=True)
