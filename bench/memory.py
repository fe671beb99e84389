"""What a layer keeps between forward and backward, in bytes.

Autograd hands everything it saves to hooks. Each storage counts once, whatever views of it are
saved, and with all its bytes, for it lives as a whole; the storages of parameters and of the input,
which exist anyway, do not count. An output that is saved counts: it is a second thing to keep
where the next operation would not have kept it. What a custom function keeps past the hooks, as an
attribute of its context, is found by what has been allocated and is still alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.cases import Case
from bench.modes import EAGER, Mode
from bench.results import Kept
from bench.running import Prepared, prepare

Call = Callable[[Tensor], Tensor]


class Births(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers every storage that operations return, without keeping it alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.born: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and remember what it returns."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self.born[storage.data_ptr()] = reference, storage.nbytes()
        return result

    def alive(self) -> dict[int, int]:
        """Address → bytes of what still lives."""
        return {
            place: size
            for place, (reference, size) in self.born.items()
            if not reference.expired()  # type: ignore[no-untyped-call]
        }


def kept_bytes(call: Call, x: Tensor, known: Iterable[Tensor], *, is_eager: bool = True) -> int:
    """Bytes that a forward keeps beyond the tensors known.

    Args:
        call: The layer; already called once if it is compiled.
        x: Its input, which is known too.
        known: Its parameters and buffers.
        is_eager: Whether each operation can be seen, which a compiled layer does not allow.
    """
    saved: list[Tensor] = []
    births = Births()

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)  # holding it keeps its storage's address from being used again
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), births if is_eager else nullcontext():
        output = call(x)
    storages = births.alive()
    storages.pop(address(output), None)  # alive because it is held here
    storages |= {address(tensor): tensor.untyped_storage().nbytes() for tensor in saved}
    given = {address(tensor) for tensor in (x, *known)}
    return sum(size for place, size in storages.items() if place not in given)


def address(tensor: Tensor) -> int:
    """Where a tensor's storage lies."""
    return tensor.untyped_storage().data_ptr()


def measure_kept(case: Case, execution: str) -> list[Kept]:
    """What each contender of a case keeps."""
    torch._dynamo.reset()
    ready = prepare(case, Mode(execution=execution))
    is_eager = execution == EAGER
    return [
        Kept(case.name, execution, name, *kept_of(one, is_eager=is_eager))
        for name, one in ready.items()
    ]


def kept_of(ready: Prepared, *, is_eager: bool) -> tuple[int, int]:
    """Bytes that a contender keeps, and bytes of its output; the first call compiles."""
    output = ready.call(ready.x)
    known = [*ready.module.parameters(), *ready.module.buffers()]
    kept = kept_bytes(ready.call, ready.x, known, is_eager=is_eager)
    return kept, output.untyped_storage().nbytes()
