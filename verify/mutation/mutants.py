"""Mutants of a Python file: one change each, always the same ones in the same order.

    mutants(text, file) -> Mutant, ...        mutated(text, mutant) -> the other text

A mutant is identified by ``file:line:column:kind``. What is no code is left alone: words for people
(docstrings, messages of errors), type annotations and aliases, a room's list of exports, and
``strict`` of ``zip``, which states that lengths are equal.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from verify.mutation.operators import FAMILIES, Change, Surroundings

Path = tuple[tuple[str, int], ...]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One change of a file.

    Attributes:
        file: A name of the file.
        line, column: Where the change is.
        kind: What it is.
        function: The qualified name of what encloses it; empty at the top of the file.
        before, after: The statement's part that changed, as code on one line.
        last: The last line of that part.
        shared: The same for the same change of the same function at the top of any file.
    """

    file: str
    line: int
    column: int
    kind: str
    function: str
    before: str
    after: str
    last: int = 0
    shared: str = ""
    path: Path = field(repr=False, compare=False, default=())
    node: Any = field(repr=False, compare=False, default=None)

    @property
    def identity(self) -> str:
        """``file:line:column:kind``."""
        return f"{self.file}:{self.line}:{self.column}:{self.kind}"

    def __str__(self) -> str:
        return f"{self.identity}: {self.before}  →  {self.after}"


def mutants(text: str, file: str = "", *, tensors: bool = False) -> tuple[Mutant, ...]:
    """Every mutant of a text, in the order of the file.

    Args:
        text: Python source.
        file: How the file is called in identities.
        tensors: Whether it computes with tensors (see :class:`Surroundings`).
    """
    tree = ast.parse(text)
    walk = Walk(file, tensors, functions(tree))
    walk.visit(tree, (), walk.surroundings(tree), "")
    ordered = sorted(walk.found, key=lambda m: (m.line, m.column, m.kind, m.after))
    result: dict[str, Mutant] = {}
    counts: dict[str, int] = {}
    for mutant in ordered:
        counts[mutant.identity] = number = counts.get(mutant.identity, 0) + 1
        kind = mutant.kind if number == 1 else f"{mutant.kind} #{number}"
        numbered = replace(mutant, kind=kind)
        result[numbered.identity] = numbered
    return tuple(result.values())


def functions(tree: ast.Module) -> dict[str, tuple[int, str]]:
    """Functions at the top of a file by name → first line, and a digest of the text."""
    return {
        node.name: (node.lineno, hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:16])
        for node in tree.body
        if isinstance(node, Function)
    }


class Walk:
    """Collects the mutants of a syntax tree."""

    def __init__(self, file: str, tensors: bool, functions: Mapping[str, tuple[int, str]]) -> None:
        """Start empty."""
        self.file = file
        self.functions = functions
        self.tensors = tensors
        self.found: list[Mutant] = []

    def visit(self, node: ast.AST, path: Path, around: Surroundings, owner: str) -> None:
        """The changes of a node and of what is below it."""
        if isinstance(node, ast.Assign) and not owner and not self.tensors and says_nothing(node):
            return
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            owner = f"{owner}.{node.name}" if owner else node.name
            around = self.surroundings(node)
        for family in FAMILIES.get(type(node), ()):
            for change in family(node, around):
                self.add(node, change, path, owner)
        for name, k, child in children(node):
            self.visit(child, (*path, (name, k)), around, owner)

    def add(self, node: ast.AST, change: Change, path: Path, owner: str) -> None:
        """Keep a change."""
        before, after = shown(node), shown(change.node)
        if before != after:
            place = change.line, change.column, change.kind
            last = getattr(node, "end_lineno", None) or change.line
            start, digest = self.functions.get(owner.split(".", 1)[0], (0, ""))
            shared = f"{digest}:{change.line - start}:{change.column}:{change.kind}:{after}"
            self.found.append(
                Mutant(
                    *(self.file, *place, owner, before, after, last),
                    *(shared if digest else "", path, change.node),
                )
            )

    def surroundings(self, node: ast.AST) -> Surroundings:
        """What is known within a class or function."""
        inside = node.name if isinstance(node, Function) else ""
        return Surroundings(inside, self.tensors)


def says_nothing(node: ast.Assign) -> bool:
    """Whether a statement of a module lists its exports or names a type."""
    return shown(node.targets[0]) == "__all__" or isinstance(node.value, ast.Subscript)


def children(node: ast.AST) -> Iterator[tuple[str, int, ast.AST]]:
    """What is below a node and is code; -1 stands for a field that is no list."""
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
        yield from words_left_alone(node)
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "op", "ops", "ctx"):
            continue
        if isinstance(value, ast.AST):
            yield name, -1, value
        elif isinstance(value, list):
            start = 1 if name == "body" and is_docstring(node, value) else 0
            for k, item in enumerate(value[start:], start):
                if isinstance(item, ast.AST):
                    yield name, k, item


def words_left_alone(node: ast.AST) -> Iterator[tuple[str, int, ast.AST]]:
    """The values shown by a text that is not a message."""
    if isinstance(node, ast.JoinedStr):
        for k, part in enumerate(node.values):
            if isinstance(part, ast.FormattedValue):
                yield "values", k, part


def is_docstring(node: ast.AST, body: list[Any]) -> bool:
    """Whether a body starts with a text for people."""
    holder = isinstance(node, ast.Module | ast.ClassDef | Function)
    first = body[0] if body else None
    return (
        holder
        and isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def shown(node: ast.AST) -> str:
    """A node as code on one line."""
    if isinstance(node, ast.comprehension):
        node = ast.GeneratorExp(ast.Name("_", ast.Load()), [node])
    if isinstance(node, ast.If | ast.While):
        return f"if {shown(node.test)}"
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())


def mutated(text: str, mutant: Mutant) -> str:
    """The text with the change, as ``ast.unparse`` lays it out."""
    return ast.unparse(mutated_tree(ast.parse(text), mutant))


def mutated_tree(tree: ast.Module, mutant: Mutant) -> ast.Module:
    """A syntax tree with the change; the tree given is not changed, but shared with the result."""
    top = copy.copy(tree)
    node: Any = top
    for place, (name, k) in enumerate(mutant.path):
        last = place + 1 == len(mutant.path)
        below = getattr(node, name)
        here = below if k < 0 else below[k]
        new = located(mutant.node, here) if last else copy.copy(here)
        setattr(node, name, new if k < 0 else [*below[:k], new, *below[k + 1 :]])
        node = new
    return top


def located(node: ast.AST, original: ast.AST) -> ast.AST:
    """A new node at the place of the one that it replaces."""
    return ast.fix_missing_locations(ast.copy_location(copy.deepcopy(node), original))
