"""What the statements of an emitted file do."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from verify.emitted_expressions import Expressions, Frame
from verify.emitted_operators import truth_of
from verify.emitted_syntax import is_text
from verify.emitted_values import ERRORS, Context, Instance, Named, Raised, iterated, spoken
from verify.exact_array import Refusal
from verify.exact_table import Autocast

LONGEST = 20_000


@dataclass
class Returned:
    """The value of a return statement."""

    value: Any


@dataclass
class Statements(Expressions):
    """Runs statements.

    Attributes:
        steps: How many were run; more than :data:`LONGEST` are refused.
        taken: The first lines of those that were run.
    """

    steps: int = 0
    taken: set[int] = field(default_factory=set)

    def at(self, node: ast.AST, act: Callable[[], Any]) -> Any:
        """Act; a refusal names the innermost statement's line.

        Raises:
            Refusal: If the node is refused.
        """
        try:
            return act()
        except Refusal as error:
            if str(error).startswith("line "):
                raise
            raise type(error)(f"line {getattr(node, 'lineno', '?')}: {error}") from error

    def block(self, body: Sequence[ast.stmt], frame: Frame) -> Returned | None:
        """Statements in order, up to a return."""
        for node in body:
            self.steps += 1
            if self.steps > LONGEST:
                raise Refusal("the file takes too many steps")
            self.taken.add(node.lineno)
            found = self.at(node, lambda node=node: self.statement(node, frame))  # type: ignore[misc]
            if found is not None:
                return found  # type: ignore[no-any-return]
        return None

    def statement(self, node: ast.stmt, frame: Frame) -> Returned | None:
        """One statement.

        Raises:
            Refusal: If its kind is not known.
            Raised: If it raises.
        """
        if isinstance(node, ast.Return):
            return Returned(None if node.value is None else self.value(node.value, frame))
        if isinstance(node, ast.Assign):
            value = self.value(node.value, frame)
            for target in node.targets:
                self.bind(target, value, frame)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.bind(node.target, self.value(node.value, frame), frame)
        elif isinstance(node, ast.Expr):
            if not is_text(node):
                self.value(node.value, frame)
        elif isinstance(node, ast.If):
            test = truth_of(self.value(node.test, frame))
            return self.block(node.body if test else node.orelse, frame)
        elif isinstance(node, ast.For) and not node.orelse:
            return self.loop(node, frame)
        elif isinstance(node, ast.With):
            return self.without_autocast(node, frame)
        elif isinstance(node, ast.Raise):
            raise self.error(node, frame)
        elif not isinstance(node, ast.Pass):
            raise Refusal(f"a {type(node).__name__} is not known")
        return None

    def without_autocast(self, node: ast.With, frame: Frame) -> Returned | None:
        """A block in which autocast is switched off.

        Raises:
            Refusal: If it is any other block.
        """
        (first, *more) = node.items
        block = self.value(first.context_expr, frame)
        if more or first.optional_vars is not None or not isinstance(block, Autocast):
            raise Refusal("a block that is not without autocast")
        return self.block(node.body, frame)

    def error(self, node: ast.Raise, frame: Frame) -> Raised:
        """The error that a statement raises.

        Raises:
            Refusal: If it is none of those that are known.
        """
        if node.exc is None or node.cause is not None:
            raise Refusal("raise without an error, or from another")
        error = self.value(node.exc, frame)
        if isinstance(error, Named) and error.name in ERRORS:
            return Raised(error.name, "")
        if not isinstance(error, Raised):
            raise Refusal(f"raise of {spoken(error)}")
        return error

    def loop(self, node: ast.For, frame: Frame) -> Returned | None:
        """For each element."""
        for element in iterated(self.value(node.iter, frame)):
            self.bind(node.target, element, frame)
            found = self.block(node.body, frame)
            if found is not None:
                return found
        return None

    def bind(self, target: ast.expr, value: Any, frame: Frame) -> None:
        """Give a value a name.

        Raises:
            Refusal: If the target is none that is known, or numbers of elements differ.
        """
        if isinstance(target, ast.Name):
            frame.names[target.id] = value
        elif isinstance(target, ast.Attribute):
            holder = self.value(target.value, frame)
            if not isinstance(holder, Instance | Context):
                raise Refusal(f"an attribute of {spoken(holder)} may not be set")
            holder.set(target.attr, value)
        elif isinstance(target, ast.Tuple) and not any(
            isinstance(t, ast.Starred) for t in target.elts
        ):
            parts = iterated(value)
            if len(parts) != len(target.elts):
                raise Refusal(f"{len(parts)} values for {len(target.elts)} names")
            for part, element in zip(target.elts, parts, strict=True):
                self.bind(part, element, frame)
        else:
            raise Refusal(f"an assignment to a {type(target).__name__} is not known")
