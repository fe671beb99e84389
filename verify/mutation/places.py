"""The lines at which a mutant of a module of the rooms can be seen to be taken."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping

from verify.mutation.mutants import Mutant, is_docstring

Places = dict[str, set[int]]
"""File as ``derive/update`` → lines."""
Definition = ast.FunctionDef | ast.ClassDef


def places(file: str, trees: Mapping[str, ast.Module], mutant: Mutant) -> Places:
    """The lines of the statement that a mutant changes; of a constant, those that name it.

    Args:
        file: Which is changed.
        trees: The files of the rooms.
        mutant: The change.
    """
    owner, found = chain(trees[file], mutant)
    if isinstance(owner, ast.FunctionDef):
        return {file: set(header(found))}
    names, seen = set(targets(found)), set[str]()
    result: Places = defaultdict(set)
    while names - seen:
        name = (names - seen).pop()
        seen.add(name)
        for other, tree in trees.items():
            for inside, node in statements(tree, False):
                if name in words(node):
                    if inside:
                        result[other] |= set(header(node))
                    names |= set() if inside else set(targets(node))
    return dict(result)


def chain(tree: ast.Module, mutant: Mutant) -> tuple[ast.AST, ast.stmt]:
    """The innermost definition around a mutant, and the statement that it changes."""
    node: ast.AST = tree
    owner: ast.AST = tree
    found: ast.stmt | None = None
    for name, k in mutant.path:
        below = getattr(node, name)
        if isinstance(node, Definition) and name != "args":
            owner = node
        node = below if k < 0 else below[k]
        if isinstance(node, ast.stmt):
            found = node
    assert found is not None, "a mutant is within a statement"
    # An argument's default is taken by the function's own calls.
    return (found if isinstance(found, ast.FunctionDef) else owner), found


def header(node: ast.stmt) -> range:
    """The lines of a statement without those in it, but for the first one of a function."""
    body = getattr(node, "body", None)
    end = node.end_lineno or node.lineno
    if body:
        first = body[:2][-1] if is_docstring(node, body) else body[0]
        end = first.lineno - (not isinstance(node, Definition))
    return range(node.lineno, max(end, node.lineno) + 1)


def statements(node: ast.AST, inside: bool) -> Iterator[tuple[bool, ast.stmt]]:
    """Every statement below a node, and whether it is in a function."""
    for child in ast.iter_child_nodes(node):
        within = inside or isinstance(node, ast.FunctionDef)
        if isinstance(child, ast.stmt):
            yield within, child
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from statements(child, within)


def words(node: ast.stmt) -> set[str]:
    """The names and attributes that stand in a statement, but for the statements in it."""
    found: set[str] = set()
    below: list[ast.AST] = [node]
    while below:
        here = below.pop()
        if isinstance(here, ast.Name | ast.Attribute) and isinstance(here.ctx, ast.Load):
            found.add(here.id if isinstance(here, ast.Name) else here.attr)
        below += [c for c in ast.iter_child_nodes(here) if not isinstance(c, ast.stmt)]
    return found


def targets(node: ast.stmt) -> list[str]:
    """What a statement of a module or class binds."""
    if isinstance(node, Definition):
        return [node.name]
    given = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [n.id for t in given if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)]
