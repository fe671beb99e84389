"""How a layer is run: direction, execution, memory layout, number format, device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch

FORWARD, BOTH, STEP = "forward", "forward+backward", "training step"
EAGER, COMPILED = "eager", "compiled"
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
FLOAT32, BFLOAT16 = "float32", "bfloat16"
CPU, CUDA = "cpu", "cuda"


@dataclass(frozen=True)
class Mode:
    """One way to run a layer.

    ``forward`` runs without a graph (inference), ``forward+backward`` computes the gradients of the
    input and of every parameter, ``training step`` adds the loss and the step of SGD. In
    ``bfloat16`` parameters and inputs have that format.
    """

    direction: str = BOTH
    execution: str = EAGER
    layout: str = CONTIGUOUS
    dtype: str = FLOAT32
    device: str = CPU

    def __str__(self) -> str:
        words = [self.execution, self.direction, self.dtype]
        words += [self.layout] if self.layout != CONTIGUOUS else []
        words += [self.device] if self.device != CPU else []
        return " ".join(words)

    @property
    def short(self) -> str:
        """The mode without what most modes have: forward and backward, float32, on a processor."""
        usual = {BOTH, STEP, FLOAT32, CONTIGUOUS, CPU, CUDA}
        return " ".join(word for word in self.fields.values() if word not in usual)

    @property
    def fields(self) -> dict[str, str]:
        """The mode as names and values."""
        return asdict(self)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format of parameters and inputs."""
        return {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}[self.dtype]

    @property
    def memory_format(self) -> torch.memory_format:
        """The order of the axes in memory."""
        last = self.layout == CHANNELS_LAST
        return torch.channels_last if last else torch.contiguous_format


def modes(is_image: bool, device: str = CPU) -> Iterator[Mode]:
    """The modes in which a layer is measured.

    Args:
        is_image: Whether the input has the axes that channels_last orders.
        device: On ``cuda`` only compiled training counts, in both formats.
    """
    for execution in (EAGER, COMPILED) if device == CPU else (COMPILED,):
        both = Mode(BOTH, execution, device=device)
        if device == CPU:
            yield replace(both, direction=FORWARD)
        yield both
        if is_image:
            yield replace(both, layout=CHANNELS_LAST)
        yield replace(both, dtype=BFLOAT16)
