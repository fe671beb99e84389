"""What a layer keeps between forward and backward, in bytes.

Autograd hands everything it saves to hooks. Each storage counts once, whatever views of it are
saved, and with all its bytes, for it lives as a whole; the storages of parameters and of the input,
which exist anyway, do not count. An output that is saved counts: it is a second thing to keep
where the next operation would not have kept it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bench.cases import Case
from bench.modes import Mode
from bench.results import Kept
from bench.running import Prepared, prepare


def kept_bytes(call: Callable[[Tensor], Tensor], x: Tensor, known: Iterable[Tensor]) -> int:
    """Bytes that a forward keeps beyond the tensors known.

    Args:
        call: The layer; already called once if it is compiled.
        x: Its input, which is known too.
        known: Its parameters and buffers.
    """
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)  # holding it keeps its storage's address from being used again
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        call(x)
    given = {address(tensor) for tensor in (x, *known)}
    storages = {address(t): t.untyped_storage().nbytes() for t in saved}
    return sum(size for place, size in storages.items() if place not in given)


def address(tensor: Tensor) -> int:
    """Where a tensor's storage lies."""
    return tensor.untyped_storage().data_ptr()


def measure_kept(case: Case, execution: str) -> list[Kept]:
    """What each contender of a case keeps."""
    torch._dynamo.reset()
    ready = prepare(case, Mode(execution=execution))
    return [Kept(case.name, execution, name, *kept_of(one)) for name, one in ready.items()]


def kept_of(ready: Prepared) -> tuple[int, int]:
    """Bytes that a contender keeps, and bytes of its output; the first call compiles."""
    output = ready.call(ready.x)
    known = [*ready.module.parameters(), *ready.module.buffers()]
    return kept_bytes(ready.call, ready.x, known), output.untyped_storage().nbytes()
