"""Formulas as text → a tree of :mod:`derive.grammar`, by an allow-list walk over Python's ``ast``.

Nothing is ever run: a node that is not on the list is refused by name.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Callable
from fractions import Fraction
from typing import NoReturn

from derive.functions import FUNCTIONS
from derive.grammar import (
    Call,
    Name,
    Number,
    Power,
    Product,
    Reduction,
    Reference,
    SizeOf,
    Statement,
    Tree,
    product,
    total,
)

REDUCTIONS = ("sum", "mean", "max", "softmax")
MAX_NODES = 2000
MAX_DEPTH = 60
MAX_EXPONENT = 12
MAX_DIGITS = 18

Fail = Callable[[str, str, str], NoReturn]


class Parser:
    """Walks one formula; every node that is not on the list is refused by name."""

    def __init__(self, fail: Fail) -> None:
        """Keep how to fail: ``fail(problem, symbol, remedy)`` raises a ``SpecError``."""
        self.fail = fail

    def parse(self, text: str) -> Tree:
        """A formula's text → its tree.

        Raises:
            SpecError: If the text is too long, too deep, has too many parts or is no formula.
        """
        if len(text) > 20_000:
            self.fail(
                "the formula is longer than 20000 characters",
                text[:20] + "...",
                "split it into lines",
            )
        if not text.isascii():
            odd = next(c for c in text if not c.isascii())
            self.fail("a formula is written in ASCII", odd, "use ASCII letters and * for products")
        if "#" in text or ";" in text or "\\" in text:
            self.fail(
                "`#`, `;` and a backslash have no place in a formula", text.strip(), "remove it"
            )
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            for name in filter(keyword.iskeyword, re.findall(r"[A-Za-z_]\w*", text)):
                self.fail(f"`{name}` is a keyword of Python", name, "choose another name")
            reason = getattr(error, "msg", None) or "too deeply nested"
            self.fail(
                f"not a formula: {reason}",
                text.strip()[:80],
                "write sums of products such as W[i, j]*x[n, j] + b[i]",
            )
        if sum(1 for _ in ast.walk(node)) > MAX_NODES:
            self.fail(
                f"the formula has more than {MAX_NODES} parts",
                text.strip()[:40] + "...",
                "name intermediates",
            )
        if is_deeper(node, MAX_DEPTH):
            self.fail(
                "the formula is too deeply nested", text.strip()[:40] + "...", "name intermediates"
            )
        return self.walk(node)

    def statement(self, text: str, number: int) -> Statement:
        """A line ``z[n, (g, o)] = ...`` → a statement.

        Raises:
            SpecError: If there is not exactly one ``=``, or the left side is no tensor with plain
                indices.
        """
        if len(parts := re.split(r"(?<![=<>!])=(?!=)", text)) != 2:
            self.fail(
                "a line of `forward` needs exactly one `=`", text.strip(), "write z[n, i] = ..."
            )
        left = self.parse(parts[0])
        if isinstance(left, Name) and left.element is None:
            left = Reference(left.name, ())
        if not isinstance(left, Reference):
            self.fail(
                "the left side must be a tensor with plain indices",
                parts[0].strip(),
                "write z[n, i] = ...",
            )
        axes: list[tuple[str, ...]] = []
        for axis in left.indices:
            for index in axis:
                if not isinstance(index, Name) or index.element is not None:
                    self.fail(
                        "an index on the left side must be a single letter",
                        parts[0].strip(),
                        "name the position by a letter and use index expressions on the right",
                    )
            axes.append(tuple(index.name for index in axis if isinstance(index, Name)))
        flat = [letter for axis in axes for letter in axis]
        for letter in flat:
            if flat.count(letter) > 1:
                self.fail("an index occurs twice on the left side", letter, "use two letters")
        return Statement(left.tensor, tuple(axes), self.parse(parts[1]), number, text.strip())

    # ------------------------------------------------------------------ nodes
    def walk(self, node: ast.AST) -> Tree:
        """One ``ast`` node → one tree, or a refusal.

        Raises:
            SpecError: If the node is not part of the notation.
        """
        method = getattr(self, f"walk_{type(node).__name__.lower()}", None)
        if method is None:
            self.fail(
                f"`{type(node).__name__}` is not part of the notation",
                _source(node),
                "use + - * /, integer powers, reads such as x[n, j] and the listed functions",
            )
        tree: Tree = method(node)
        return tree

    def walk_constant(self, node: ast.Constant) -> Tree:
        """Integers and decimals, the latter exactly as written.

        Raises:
            SpecError: If the constant is no number, or is too long.
        """
        if type(node.value) not in (int, float):
            self.fail("only numbers may stand in a formula", _source(node), "remove it")
        text = repr(node.value)
        if len(text) > MAX_DIGITS or text in ("inf", "nan"):
            self.fail("a number is too long", text[:30], f"at most {MAX_DIGITS} characters")
        return Number(Fraction(text))

    def walk_name(self, node: ast.Name) -> Tree:
        """A letter, hyperparameter or scalar."""
        return Name(node.id)

    def walk_unaryop(self, node: ast.UnaryOp) -> Tree:
        """Signs.

        Raises:
            SpecError: If the operator is not part of the notation.
        """
        operand = self.walk(node.operand)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(node.op, ast.USub):
            return product(Number(Fraction(-1)), operand)
        self.fail("this operator is not part of the notation", _source(node), "use + - * / **")

    def walk_binop(self, node: ast.BinOp) -> Tree:
        """The four operations, floor division and integer powers.

        Raises:
            SpecError: If the operator is not part of the notation, or a divisor is 0.
        """
        left = self.walk(node.left)
        if isinstance(node.op, ast.Pow):
            return self.power(left, node)
        right = self.walk(node.right)
        if isinstance(node.op, ast.Add):
            return total(left, right)
        if isinstance(node.op, ast.Sub):
            return total(left, product(Number(Fraction(-1)), right))
        if isinstance(node.op, ast.Mult):
            return product(left, right)
        if isinstance(node.op, ast.Div):
            if isinstance(right, Number) and right.value == 0:
                self.fail("division by zero", _source(node), "remove it")
            return product(left, Power(right, -1))
        if isinstance(node.op, ast.FloorDiv):
            return Call("//", (left, right))
        self.fail("this operator is not part of the notation", _source(node), "use + - * / **")

    def power(self, base: Tree, node: ast.BinOp) -> Tree:
        """``base ** integer``.

        Raises:
            SpecError: If the exponent is no integer, or is beyond ``MAX_EXPONENT``.
        """
        exponent = self.walk(node.right)
        if isinstance(exponent, Product) and all(isinstance(f, Number) for f in exponent.factors):
            value = Fraction(1)
            for factor in exponent.factors:
                value *= factor.value if isinstance(factor, Number) else 1
            exponent = Number(value)
        if not isinstance(exponent, Number) or exponent.value.denominator != 1:
            self.fail("a power must be an integer", _source(node), "use sqrt(...) or exp(...)")
        if abs(exponent.value) > MAX_EXPONENT:
            self.fail(f"a power beyond {MAX_EXPONENT}", _source(node), "use a smaller one")
        return Power(base, int(exponent.value))

    def walk_subscript(self, node: ast.Subscript) -> Tree:
        """``tensor[index, ...]``, or ``name[0]`` for an element of a tuple.

        Raises:
            SpecError: If something other than a name is indexed, or the index is empty.
        """
        if not isinstance(node.value, ast.Name):
            self.fail("only a name may be indexed", _source(node), "write x[n, j]")
        entries = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        # x[(g, c)] parses like x[g, c]: with one axis only, the parentheses are read off the text.
        if isinstance(node.slice, ast.Tuple) and node.slice.col_offset != _first_offset(node.slice):
            entries = [node.slice]
        axes: list[tuple[Tree, ...]] = []
        for entry in entries:
            parts = entry.elts if isinstance(entry, ast.Tuple) else [entry]
            if not parts:
                self.fail("an empty index", _source(node), "write x[n, j]")
            axes.append(tuple(self.walk(part) for part in parts))
        return Reference(node.value.id, tuple(axes))

    def walk_call(self, node: ast.Call) -> Tree:
        """A listed function, ``size(j)`` or a reduction ``sum[j](...)``.

        Raises:
            SpecError: If the function is unknown, or its arguments are not those that it takes.
        """
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self.fail("functions take plain arguments only", _source(node), "remove the keyword")
        if isinstance(node.func, ast.Subscript):
            return self.reduction(node, node.func)
        if not isinstance(node.func, ast.Name):
            self.fail(
                "this call is not part of the notation", _source(node), "use a listed function"
            )
        name = node.func.id
        if name == "size":
            if len(node.args) != 1 or not isinstance(node.args[0], ast.Name):
                self.fail("size takes one letter", _source(node), "write size(j)")
            return SizeOf(node.args[0].id)
        if name in ("sum", "mean", "softmax"):
            self.fail(f"{name} needs its index", _source(node), f"write {name}[j](...)")
        if name not in FUNCTIONS:
            self.fail(
                f"unknown function `{name}`",
                name,
                f"known: {', '.join(sorted(FUNCTIONS))}, size, sum, mean, softmax",
            )
        wanted = 2 if name == "max" else 1
        if len(node.args) != wanted:
            self.fail(f"{name} takes {wanted} argument(s)", _source(node), "see the notation")
        return Call(name, tuple(self.walk(a) for a in node.args))

    def reduction(self, node: ast.Call, function: ast.Subscript) -> Tree:
        """``kind[letters](body)``.

        Raises:
            SpecError: If the reduction is unknown, or its letters or arguments are wrong.
        """
        kind = function.value.id if isinstance(function.value, ast.Name) else ""
        if kind not in REDUCTIONS:
            self.fail(
                f"unknown reduction `{kind or _source(function)}`",
                kind,
                f"known: {', '.join(REDUCTIONS)}",
            )
        entries = function.slice.elts if isinstance(function.slice, ast.Tuple) else [function.slice]
        letters = tuple(e.id for e in entries if isinstance(e, ast.Name))
        if len(letters) != len(entries) or len(node.args) != 1:
            self.fail(
                f"{kind} takes letters and one argument", _source(node), f"write {kind}[j](...)"
            )
        if kind == "softmax" and len(letters) != 1:
            self.fail("softmax takes one letter", _source(node), "write softmax[u](...)")
        return Reduction(kind, letters, self.walk(node.args[0]))


def is_deeper(node: ast.AST, depth: int) -> bool:
    """Whether operators, calls and indices nest deeper than ``depth``; a long sum does not count.

    ``a + b + c`` is ``(a + b) + c`` to Python: on the left, an operator of the same kind goes on.
    """
    level = [node]
    for _ in range(depth):
        level = [child for parent in level for child in _nested(parent)]
        if not level:
            return False
    return True


def _nested(node: ast.AST) -> list[ast.AST]:
    """The children of a node, with those of a chain of one operator side by side."""
    found: list[ast.AST] = []
    while isinstance(node, ast.BinOp) and isinstance(node.left, ast.BinOp):
        found.append(node.right)
        node = node.left
    return [*found, *ast.iter_child_nodes(node)]


def _source(node: ast.AST) -> str:
    try:
        return ast.unparse(node)[:80]
    except (ValueError, RecursionError):
        return type(node).__name__


def _first_offset(node: ast.Tuple) -> int:
    return node.elts[0].col_offset if node.elts else -1
