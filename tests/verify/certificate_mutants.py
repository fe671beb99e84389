"""Every small change of a certificate: constants, exponents, signs, indices, axes, claims."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

Json = Any
SWAPPED = {"+": "*", "*": "+"}
CLASSES = ("exact", "constant-rate", "first-order", "frozen")
WORDS = ("format", "about", "assumptions")


def mutants(data: Json) -> Iterator[tuple[str, Json]]:
    """Pairs (what was changed, changed certificate); the words of a certificate stay."""
    for path, node in walk(data, ()):
        if not path or any(part in WORDS for part in path):
            continue
        for what, change in changes(node, path, data):
            mutant = replaced(data, path, change)
            if json.dumps(mutant) != json.dumps(data):
                yield f"{'/'.join(map(str, path))}: {what}", mutant


def walk(node: Json, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Json]]:
    """Every node with its path."""
    yield path, node
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from walk(child, (*path, key))


def reached(data: Json, path: tuple[Any, ...]) -> Json:
    """The node at a path."""
    for key in path:
        data = data[key]
    return data


def replaced(data: Json, path: tuple[Any, ...], change: Json) -> Json:
    """A copy with another node at the path."""
    copied = copy.deepcopy(data)
    reached(copied, path[:-1])[path[-1]] = change
    return copied


def changes(node: Json, path: tuple[Any, ...], data: Json) -> Iterator[tuple[str, Json]]:
    """What a node may be changed to."""
    if isinstance(node, bool):
        yield f"{node} to {not node}", not node
    elif isinstance(node, int):
        yield f"{node} + 1", node + 1
        yield f"-{node}", -node
    elif path == ("claim", "kind") and node in CLASSES:
        yield from ((f"class {name}", name) for name in CLASSES if name != node)
    elif isinstance(node, str) and node in SWAPPED and path[-1] == 0:
        if len(reached(data, path[:-1])) < 3:
            return  # a sum of one operand is its product
        yield f"{node} to {SWAPPED[node]}", SWAPPED[node]
    elif isinstance(node, str) and node in data["sizes"]:
        others = sorted(set(data["sizes"]) - {node})
        yield from ((f"{node} to {other}", other) for other in others[:1])
    elif isinstance(node, list) and node and node[0] in SWAPPED:
        for k in range(1, len(node)):
            yield f"without operand {k}", [*node[:k], *node[k + 1 :]]
        yield "negated", ["*", -1, node]
    elif isinstance(node, list) and node and node[0] in ("root", "is 0", "call", "sum"):
        yield f"{node[0]} to 1", 1
        yield f"{node[0]} doubled", ["*", 2, node]
