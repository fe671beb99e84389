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
FUNCTIONS = {sympy.log: "log", sympy.exp: "exp", sympy.tanh: "tanh", sympy.erf: "erf"}
"""Functions of numbers, by their names in ``math``."""
SIMPLE = 10**6
"""A decimal stands for the fraction of so small a denominator that rounds to it."""


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
        code = parts[0].code
        for part in parts[1:]:
            code += f" - {part.code[1:]}" if part.code.startswith("-") else f" + {part.code}"
        return Value(code, level=Level.SUM, scalar=True) if len(parts) > 1 else parts[0]

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
            return Value(f"{sign}1", scalar=True)
        if len(kept) == 1:
            inner = kept[0].at(Level.PRODUCT) if sign else kept[0].code
            return Value(sign + inner, level=Level.UNARY if sign else kept[0].level, scalar=True)
        # A floor division must not be regrouped: it keeps its parentheses inside a product.
        code = " * ".join(
            f"({p.code})" if p.level < Level.PRODUCT or "//" in p.code else p.code for p in kept
        )
        return Value(sign + code, level=Level.PRODUCT, scalar=True)

    def quotient(self, top: Value, bottom: Value) -> Value:
        """A // b."""
        if bottom.code == "1":
            return top
        code = f"{top.at(Level.PRODUCT)} // {bottom.at(Level.UNARY)}"
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
        if isinstance(expression, sympy.NumberSymbol):
            known = {sympy.pi: "math.pi", sympy.E: "math.e"}
            return Value(known.get(expression) or repr(float(expression)), scalar=True)
        if expression.is_Add:
            terms = sorted(
                expression.args, key=lambda e: (e.could_extract_minus_sign(), e.is_number, str(e))
            )
            return self.total([self.number(t) for t in terms])
        if expression.is_Mul:
            return self._quotient(expression)
        if expression.is_Pow:
            if abs(expression.exp) == sympy.Rational(1, 2):
                root = f"math.sqrt({self.number(expression.base).code})"
                return (
                    Value(root, scalar=True)
                    if expression.exp > 0
                    else Value(f"1 / {root}", level=Level.PRODUCT, scalar=True)
                )
            base = self.number(expression.base).at(Level.ATOM)
            power = expression.exp
            shown = str(power) if power.is_Integer and power > 0 else repr(float(power))
            if power.is_Integer and power < 0:
                shown = str(int(power))
            return Value(f"{base} ** {shown}", level=Level.POWER, scalar=True)
        if isinstance(expression, sympy.Abs):
            return Value(f"abs({self.number(expression.args[0]).code})", scalar=True)
        if expression.func in FUNCTIONS:
            inside = self.number(expression.args[0]).code
            return Value(f"math.{FUNCTIONS[expression.func]}({inside})", scalar=True)
        if expression.is_number:
            return Value(repr(float(expression)), scalar=True)
        raise DerivationError(f"{expression} is no number of sizes and hyperparameters")

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
        if (1 < q <= SIMPLE) or Fraction(shown) == Fraction(p, q):
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
