"""Put a mutated module's code into the one that is imported, so that everybody calls it.

Modules import functions from each other by name; so functions keep their identity and get other
code, and constants are replaced wherever a module holds them under their name.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any


def swap(module: ModuleType, tree: ast.Module, function: str) -> None:
    """Give a module the code of another syntax tree.

    Args:
        module: An imported module.
        tree: The whole module with one change.
        function: The qualified name of what encloses the change; empty: the module itself.
    """
    namespace = executed(module, tree)
    name = function.split(".", maxsplit=1)[0]
    if name:
        exchange(module, name, namespace[name])
        return
    for key, value in namespace.items():
        if not key.startswith("__") and constant(value):
            rebind(module, key, value)


def swap_all(module: ModuleType, tree: ast.Module) -> None:
    """Give every function and class of a module the code of another syntax tree."""
    namespace = executed(module, tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            exchange(module, node.name, namespace[node.name])


def executed(module: ModuleType, tree: ast.Module) -> dict[str, Any]:
    """What a syntax tree in a module's place binds."""
    namespace = {k: v for k, v in vars(module).items() if k.startswith("__")}
    exec(compile(tree, str(module.__file__), "exec"), namespace)
    return namespace


def exchange(holder: Any, name: str, new: Any) -> None:
    """Give a function, or every function of a class, the code of another."""
    old = inspect.getattr_static(holder, name)
    if isinstance(new, type):
        for key, value in list(vars(new).items()):
            if list(functions(value)):
                exchange(old, key, value)
            elif constant(value) and vars(old).get(key, value) != value:
                setattr(old, key, value)
        return
    pairs = list(zip(functions(old), functions(new), strict=True))
    for before, after in pairs:
        if before.__code__.co_freevars != after.__code__.co_freevars:
            setattr(holder, name, new)
            return
        before.__code__ = after.__code__
        before.__defaults__ = after.__defaults__
        before.__kwdefaults__ = after.__kwdefaults__


def functions(value: Any) -> Iterator[FunctionType]:
    """The functions within a function, property, cache, static or class method."""
    inner = [getattr(value, n, None) for n in ("__wrapped__", "fget", "func", "__func__")]
    held = [x for x in inner if x is not None]
    if isinstance(value, FunctionType) and inner[0] is None:
        yield value
    elif held and not isinstance(value, type):
        yield from functions(held[0])


def constant(value: Any) -> bool:
    """Whether a value is data."""
    return isinstance(value, int | float | str | tuple | list | dict | frozenset | set)


def rebind(module: ModuleType, name: str, value: Any) -> None:
    """Replace a constant in its module and wherever it was imported from there."""
    old = vars(module).get(name)
    for other in list(sys.modules.values()):
        held = getattr(other, "__dict__", {})
        if held.get(name) is old:
            held[name] = value
