"""What the expressions of an emitted file are worth."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from verify.emitted_operators import combine, compare, negative, truth_of
from verify.emitted_syntax import literal
from verify.emitted_values import (
    BUILTINS,
    SPECIAL,
    Bound,
    EmittedClass,
    Function,
    Instance,
    Named,
    Super,
    attribute,
    iterated,
    spoken,
)
from verify.exact_array import Exact, Refusal, Whole
from verify.exact_shapes import item
from verify.exact_table import CONSTANTS, integers
from verify.residues import Residues

# What ``super().__init__`` of a class without a base in the file is.
NOTHING = "nn.Module.__init__"


@dataclass
class Frame:
    """A call of a function: its names, and the method's class and instance.

    Attributes:
        names: Local names.
        local: Every name that the function binds somewhere; unbound, it is no global one.
        owner: The class that defines the method.
        first: The instance.
    """

    names: dict[str, Any]
    local: frozenset[str] = frozenset()
    owner: EmittedClass | None = None
    first: Instance | None = None


@dataclass
class Expressions(ABC):
    """Evaluates expressions.

    Args:
        ring: The numbers.

    Attributes:
        names: What the module binds.
    """

    ring: Residues
    names: dict[str, Any] = field(default_factory=dict)

    @abstractmethod
    def call(self, what: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A call of anything that can be called."""

    @abstractmethod
    def bind(self, target: ast.expr, value: Any, frame: Frame) -> None:
        """Give a value a name."""

    def value(self, node: ast.expr, frame: Frame) -> Any:
        """The value of an expression.

        Raises:
            Refusal: If its kind is not known.
        """
        method = EXPRESSIONS.get(type(node))
        if method is None:
            raise Refusal(f"a {type(node).__name__} is not known")
        return method(self, node, frame)

    def name(self, node: ast.Name, frame: Frame) -> Any:
        """A local name, a name of the module, or a builtin.

        Raises:
            Refusal: If it has no value.
        """
        if node.id in frame.names:
            return frame.names[node.id]
        if node.id in frame.local:
            raise Refusal(f"`{node.id}` has no value yet")
        if node.id in self.names:
            return self.names[node.id]
        if (node.id in BUILTINS and node.id != "pairwise") or node.id in SPECIAL:
            return Named(node.id)
        raise Refusal(f"the name `{node.id}` is not known")

    def called(self, node: ast.Call, frame: Frame) -> Any:
        """A call, ``super()`` among them."""
        what = self.value(node.func, frame)
        if what == Named("super"):
            if node.args or node.keywords or frame.owner is None or frame.first is None:
                raise Refusal("super outside of a method, or with arguments")
            return Super(frame.owner, frame.first)
        args = self.elements(node.args, frame)
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, frame)
            found = value if keyword.arg is None else {keyword.arg: value}
            if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
                raise Refusal(f"a call with ** of {spoken(value)}")
            if set(found) & set(keywords):
                raise Refusal(f"a call with two arguments `{min(set(found) & set(keywords))}`")
            keywords |= found
        return self.call(what, args, keywords)

    def looked_up(self, node: ast.Attribute, frame: Frame) -> Any:
        """``value.name``."""
        holder = self.value(node.value, frame)
        if isinstance(holder, Named) and f"{holder.name}.{node.attr}" in CONSTANTS:
            return CONSTANTS[f"{holder.name}.{node.attr}"](self.ring)
        if not isinstance(holder, Super):
            return attribute(holder, node.attr)
        if node.attr != "__init__":
            raise Refusal(f"`super().{node.attr}` is not known")
        base = holder.owner.base
        if base is None:
            return Bound(NOTHING, holder.first)
        return bound_to(holder.first, base.find("__init__"))

    def elements(self, nodes: Sequence[ast.expr], frame: Frame) -> list[Any]:
        """Values in order, starred ones taken apart."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += iterated(self.value(node.value, frame))
            else:
                found.append(self.value(node, frame))
        return found

    def comprehended(self, node: ast.ListComp | ast.GeneratorExp, frame: Frame) -> list[Any]:
        """A comprehension, as a list."""
        found: list[Any] = []
        self.comprehend(node, 0, Frame(dict(frame.names), frame.local), found)
        return found

    def comprehend(
        self, node: ast.ListComp | ast.GeneratorExp, depth: int, frame: Frame, found: list[Any]
    ) -> None:
        """The loops of a comprehension from one depth on."""
        if depth == len(node.generators):
            found.append(self.value(node.elt, frame))
            return
        loop = node.generators[depth]
        if loop.is_async:
            raise Refusal("an asynchronous loop")
        for element in iterated(self.value(loop.iter, frame)):
            self.bind(loop.target, element, frame)
            if all(truth_of(self.value(test, frame)) for test in loop.ifs):
                self.comprehend(node, depth + 1, frame, found)

    def subscripted(self, node: ast.Subscript, frame: Frame) -> Any:
        """``value[key]`` of a tensor, tuple or list.

        Raises:
            Refusal: If there is no such element, or the value holds none.
        """
        held, key = self.value(node.value, frame), self.value(node.slice, frame)
        try:
            if isinstance(held, Exact | Whole):
                return item(held, key)
            if isinstance(held, tuple | list) and isinstance(key, int | slice):
                return held[key]
        except (IndexError, TypeError, ValueError) as error:
            raise Refusal(f"an element that is not there: {error}") from error
        raise Refusal(f"an element of {spoken(held)} is not known")

    def sliced(self, node: ast.Slice, frame: Frame) -> slice:
        """``low:high:step`` of integers."""
        parts = [
            None if p is None else self.value(p, frame) for p in (node.lower, node.upper, node.step)
        ]
        integers(*(p for p in parts if p is not None))
        return slice(*parts)

    def chosen(self, node: ast.BoolOp, frame: Frame) -> Any:
        """``and`` and ``or``, up to the operand that decides."""
        stop = isinstance(node.op, ast.Or)
        value: Any = None
        for operand in node.values:
            value = self.value(operand, frame)
            if truth_of(value) == stop:
                break
        return value

    def compared(self, node: ast.Compare, frame: Frame) -> Any:
        """A comparison, or a chain of them."""
        left, result = self.value(node.left, frame), True
        for operator, operand in zip(node.ops, node.comparators, strict=True):
            right = self.value(operand, frame)
            try:
                result = compare(self.ring, operator, left, right)
            except (KeyError, ValueError) as error:
                raise Refusal(f"a comparison that is not known: {error}") from error
            if len(node.ops) > 1 and not truth_of(result):
                return False
            left = right
        return result

    def conditional(self, node: ast.IfExp, frame: Frame) -> Any:
        """``a if test else b``."""
        test = truth_of(self.value(node.test, frame))
        return self.value(node.body if test else node.orelse, frame)

    def operated(self, node: ast.BinOp, frame: Frame) -> Any:
        """``a op b``."""
        left, right = self.value(node.left, frame), self.value(node.right, frame)
        try:
            return combine(self.ring, node.op, left, right)
        except ValueError as error:
            raise Refusal(f"operands that do not fit together: {error}") from error

    def told(self, node: ast.JoinedStr, frame: Frame) -> str:
        """A message; its values are evaluated, and written as Python writes plain ones."""
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.value(part.value, frame)
                parts.append(str(value) if isinstance(value, int | str | tuple) else spoken(value))
            else:
                parts.append(str(literal(part)))
        return "".join(parts)

    def dictionary(self, node: ast.Dict, frame: Frame) -> dict[Any, Any]:
        """``{key: value}``.

        Raises:
            Refusal: If another dictionary is unpacked in it.
        """
        if None in node.keys:
            raise Refusal("a dictionary with **")
        keys = self.elements([k for k in node.keys if k is not None], frame)
        return dict(zip(keys, self.elements(node.values, frame), strict=True))


def bound_to(first: Instance, function: Any) -> Function:
    """A function as a method of an instance.

    Raises:
        Refusal: If it is no function.
    """
    if not isinstance(function, Function):
        raise Refusal(f"{spoken(function)} is no method")
    return Function(function.node, function.owner, first)


EXPRESSIONS: Mapping[type, Callable[[Expressions, Any, Frame], Any]] = {
    ast.Constant: lambda m, node, frame: literal(node),
    ast.Name: Expressions.name,
    ast.Attribute: Expressions.looked_up,
    ast.Call: Expressions.called,
    ast.Subscript: Expressions.subscripted,
    ast.Slice: Expressions.sliced,
    ast.Tuple: lambda m, node, frame: tuple(m.elements(node.elts, frame)),
    ast.List: lambda m, node, frame: m.elements(node.elts, frame),
    ast.Dict: Expressions.dictionary,
    ast.BinOp: Expressions.operated,
    ast.UnaryOp: lambda m, node, frame: negative(m.ring, node.op, m.value(node.operand, frame)),
    ast.BoolOp: Expressions.chosen,
    ast.Compare: Expressions.compared,
    ast.IfExp: Expressions.conditional,
    ast.JoinedStr: Expressions.told,
    ast.ListComp: Expressions.comprehended,
    ast.GeneratorExp: Expressions.comprehended,
}
