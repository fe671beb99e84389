"""Trees as JSON, so that a saved layer can be judged by the oracle again."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

from verify.fuzz import tree

TYPES = {
    cls.__name__: cls
    for cls in (
        tree.Const,
        tree.Hyper,
        tree.SizeOf,
        tree.Window,
        tree.Token,
        tree.Read,
        tree.Sum,
        tree.Mul,
        tree.Div,
        tree.Pow,
        tree.Fun,
        tree.Reduce,
        tree.Ein,
        tree.Tensor,
        tree.Size,
        tree.Line,
        tree.Layer,
    )
}


def plain(value: Any) -> Any:
    """A tree as lists, numbers and strings: a node is its type's name and its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: [plain(getattr(value, f.name)) for f in fields(value)]}
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def restored(value: Any) -> Any:
    """The inverse of :func:`plain`.

    Raises:
        ValueError: If a type is not one of a tree's.
    """
    if isinstance(value, list):
        return tuple(restored(v) for v in value)
    if not isinstance(value, dict):
        return value
    ((name, parts),) = value.items()
    if name not in TYPES:
        raise ValueError(f"`{name}` is no part of a layer's tree")
    return TYPES[name](*(restored(v) for v in parts))


def dumps(layer: tree.Layer) -> str:
    """A layer on one line."""
    return json.dumps(plain(layer), separators=(",", ":"))


def loads(text: str) -> tree.Layer:
    """The layer on a line.

    Raises:
        ValueError: If the text is no layer.
    """
    found = restored(json.loads(text))
    if not isinstance(found, tree.Layer):
        raise ValueError("the text holds no layer")
    return found
