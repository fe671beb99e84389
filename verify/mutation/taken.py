"""Which statements of some modules a call takes: each says so itself, so nothing else is slowed."""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from verify.mutation.swap import swap_all

T = TypeVar("T")
NAME = "__taken__"


class Taken:
    """Keeps what statements were taken; changes the imported modules for good.

    Args:
        texts: The modules' texts by name, as ``derive/update``.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Let every statement of the modules' functions say that it is taken."""
        self.found: set[tuple[str, int]] = set()
        setattr(builtins, NAME, self.found)
        for file, text in texts.items():
            tree = Speaking(file).visit(ast.parse(text))
            swap_all(importlib.import_module(file.replace("/", ".")), tree)

    def during(self, function: Callable[[], T]) -> T:
        """Call a function and keep what it takes, and nothing before."""
        self.found.clear()
        return function()

    def named(self, more: Mapping[str, Iterable[int]]) -> dict[str, tuple[int, ...]]:
        """File → first lines of statements, with others."""
        lines = {file: set(given) for file, given in more.items()}
        for file, line in self.found:
            lines.setdefault(file, set()).add(line)
        return {file: tuple(sorted(taken)) for file, taken in sorted(lines.items())}


class Speaking(ast.NodeTransformer):
    """Puts in front of every statement of a function one that says that it is taken.

    Args:
        file: The file's name.
    """

    def __init__(self, file: str) -> None:
        """Outside of functions."""
        self.file = file
        self.inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """A function, whose docstring stays in front."""
        before, self.inside = self.inside, True
        words = [node.body.pop(0)] if ast.get_docstring(node) is not None else []
        self.generic_visit(node)
        node.body = [*words, *(node.body or [ast.copy_location(ast.Pass(), node)])]
        self.inside = before
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Every list of statements below a node."""
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            below = getattr(node, name, None)
            if self.inside and isinstance(below, list):
                setattr(node, name, [part for s in below for part in (self.says(s), s)])
        return node

    def says(self, node: ast.stmt) -> ast.stmt:
        """That a statement is taken."""
        (call,) = ast.parse(f"{NAME}.add(({self.file!r}, {node.lineno}))").body
        for part in ast.walk(call):
            ast.copy_location(part, node)
        return call
