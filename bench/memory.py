"""What a layer keeps between forward and backward: bytes, and the tensors that fill them.

Autograd hands everything it saves to hooks. Each storage counts once, whatever views of it are
saved, and with all its bytes, for it lives as a whole; the storages of parameters and of the input,
which exist anyway, do not count. An output that is saved counts: it is a second thing to keep
where the next operation would not have kept it. What a custom function keeps past the hooks, as an
attribute of its context, is found by what has been allocated and is still alive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Storage:
    """A storage that lives on.

    Args:
        size: Its bytes.
        words: Format and shape of a tensor that fills it, or its bytes if none is known.
    """

    size: int
    words: str

    @classmethod
    def of(cls, tensor: Tensor) -> Storage:
        """The storage of a tensor."""
        size = tensor.untyped_storage().nbytes()
        if not fills(tensor):
            return cls(size, f"{size} bytes")
        shape = "x".join(map(str, tensor.shape)) or "1"
        return cls(size, f"{str(tensor.dtype).removeprefix('torch.')} {shape}")


def fills(tensor: Tensor) -> bool:
    """Whether a tensor has as many bytes as its storage."""
    return tensor.nbytes == tensor.untyped_storage().nbytes()


class Births(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers every storage that operations return, without keeping it alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.born: dict[int, tuple[StorageWeakRef, Storage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and remember what it returns."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (fills(tensor) or not self.lives(address(tensor))):
                reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
                self.born[address(tensor)] = reference, Storage.of(tensor)
        return result

    def lives(self, place: int) -> bool:
        """Whether what was last born at an address still lives."""
        return place in self.born and not self.born[place][0].expired()  # type: ignore[no-untyped-call]

    def alive(self) -> dict[int, Storage]:
        """Address → storage of what still lives."""
        return {place: born for place, (_, born) in self.born.items() if self.lives(place)}


def kept_storages(
    call: Call, x: Tensor, known: Iterable[Tensor], *, is_eager: bool = True
) -> list[Storage]:
    """What a forward keeps beyond the tensors known.

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
    for tensor in saved:
        if fills(tensor) or address(tensor) not in storages:
            storages[address(tensor)] = Storage.of(tensor)
    given = {address(tensor) for tensor in (x, *known)}
    return [one for place, one in storages.items() if place not in given and one.size]


def listed(storages: Iterable[Storage]) -> str:
    """Storages in words, largest first; equal ones once, with their number."""
    counts = Counter(storages)
    found = sorted(counts.items(), key=lambda item: (-item[0].size, item[0].words))
    return ", ".join(one.words + f" ×{count}" * (count > 1) for one, count in found)


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


def kept_of(ready: Prepared, *, is_eager: bool) -> tuple[int, int, str]:
    """Bytes that a contender keeps, bytes of its output, what it keeps; the first call compiles."""
    output = ready.call(ready.x)
    known = [*ready.module.parameters(), *ready.module.buffers()]
    found = kept_storages(ready.call, ready.x, known, is_eager=is_eager)
    return sum(one.size for one in found), output.untyped_storage().nbytes(), listed(found)
