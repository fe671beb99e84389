"""Torch's calls in exact arithmetic: the whole table, and how an entry is called.

What an entry does not take by name or place is not known, and neither is a call without an entry.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from verify import (
    exact_convolutions,
    exact_elementwise,
    exact_products,
    exact_shapes,
    exact_tensors,
)
from verify.exact_array import Refusal
from verify.exact_table import TABLE
from verify.residues import Residues

ENTRIES = (exact_convolutions, exact_elementwise, exact_products, exact_shapes, exact_tensors)


@functools.cache
def signature(name: str) -> inspect.Signature:
    """The arguments that an entry takes, the ring first."""
    return inspect.signature(TABLE[name])


def call(ring: Residues, name: str, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """A call by its name in the table.

    Raises:
        Refusal: If the name or an argument is not known, or the arguments do not fit together.
    """
    if name not in TABLE:
        raise Refusal(f"`{name}` is not known")
    try:
        bound = signature(name).bind(ring, *args, **keywords)
    except TypeError as error:
        raise Refusal(f"`{name}`: {error}") from error
    try:
        return TABLE[name](*bound.args, **bound.kwargs)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise Refusal(f"`{name}` does not take these arguments: {error}") from error
