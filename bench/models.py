"""Training steps of whole models: plain, with their usual normaliser, and with corrected layers.

A model is written once and takes its layers from a kit. The corrected model corrects every layer,
the read-out too, and has no normaliser; the usual one has its normaliser where practice puts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import truestep
from bench.cases import PLAIN, Builder
from bench.limits import CORRECTED
from bench.measure import rows, timer_of
from bench.modes import COMPILED, CPU, EAGER, STEP, Mode
from bench.results import MODELS, Timing
from bench.running import WARM_UP, compiled
from bench.timing import Effort, Run, interleave

RATE = 1e-3
CLASSES, TOKENS, WIDTH, HEADS = 10, 128, 256, 4
(MADE,) = CORRECTED

Sized = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Kit:
    """The layers that a model is made of.

    Args:
        linear: (inputs, outputs) → layer.
        conv: (channels, outputs, kernel, stride) → layer that keeps the size at stride 1.
        attention: (features, heads) → layer, batch first.
        norm: features → normaliser of vectors.
        image_norm: channels → normaliser of images.
    """

    linear: Callable[[int, int], nn.Module]
    conv: Callable[[int, int, int, int], nn.Module]
    attention: Callable[[int, int], nn.Module]
    norm: Sized
    image_norm: Sized


def nothing(_: int) -> nn.Module:
    """No normaliser."""
    return nn.Identity()


def plain_conv(channels: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    """Torch's convolution."""
    return nn.Conv2d(channels, outputs, kernel, stride, kernel // 2)


def plain_attention(features: int, heads: int) -> nn.Module:
    """Torch's attention."""
    return nn.MultiheadAttention(features, heads, batch_first=True)


def corrected_conv(channels: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    """The corrected convolution."""
    return truestep.PatchNormConv2d(channels, outputs, kernel, stride, kernel // 2)


def corrected_attention(features: int, heads: int) -> nn.Module:
    """The corrected attention."""
    return truestep.AffineLikeMultiheadAttention(features, heads, batch_first=True)


BARE = Kit(nn.Linear, plain_conv, plain_attention, nothing, nothing)
USUAL = Kit(nn.Linear, plain_conv, plain_attention, nn.LayerNorm, nn.BatchNorm2d)
TRUE = Kit(truestep.AffineLikeLinear, corrected_conv, corrected_attention, nothing, nothing)


class Residual(nn.Module):
    """x + branch(x), or shortcut(x) + branch(x) and the non-linearity behind the sum."""

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, last: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.branch, self.shortcut, self.last = branch, shortcut, last

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        z: Tensor = self.branch(x) + (x if self.shortcut is None else self.shortcut(x))
        return z if self.last is None else self.last(z)


class Attend(nn.Module):
    """Self-attention behind a normaliser."""

    def __init__(self, kit: Kit) -> None:
        super().__init__()
        self.norm = kit.norm(WIDTH)
        self.attention = kit.attention(WIDTH, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x (N, L, WIDTH)."""
        x = self.norm(x)
        mixed: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return mixed


def perceptron(kit: Kit) -> nn.Module:
    """784 → 512 → 512 → 10; hidden layers: linear, normaliser, ReLU."""
    layers: list[nn.Module] = []
    for inputs in (784, 512):
        layers += [kit.linear(inputs, 512), kit.norm(512), nn.ReLU()]
    return nn.Sequential(*layers, kit.linear(512, CLASSES))


def resnet(kit: Kit) -> nn.Module:
    """Three residual blocks of 32, 64, 128 channels behind a first convolution."""
    layers = [kit.conv(3, 32, 3, 1), kit.image_norm(32), nn.ReLU()]
    for channels, outputs in ((32, 32), (32, 64), (64, 128)):
        layers.append(block(kit, channels, outputs))
    head = kit.linear(128, CLASSES)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def block(kit: Kit, channels: int, outputs: int) -> nn.Module:
    """Two convolutions around a shortcut, halving the image where channels grow."""
    stride = 1 if channels == outputs else 2
    branch = nn.Sequential(
        kit.conv(channels, outputs, 3, stride),
        kit.image_norm(outputs),
        nn.ReLU(),
        kit.conv(outputs, outputs, 3, 1),
        kit.image_norm(outputs),
    )
    shortcut = None
    if stride > 1:
        shortcut = nn.Sequential(kit.conv(channels, outputs, 1, stride), kit.image_norm(outputs))
    return Residual(branch, shortcut, nn.ReLU())


def transformer(kit: Kit) -> nn.Module:
    """Two pre-norm blocks of attention and perceptron over 256 kinds of tokens."""
    layers: list[nn.Module] = [nn.Embedding(WIDTH, WIDTH)]
    for _ in range(2):
        wide = [kit.norm(WIDTH), kit.linear(WIDTH, 4 * WIDTH), nn.GELU()]
        layers += [
            Residual(Attend(kit)),
            Residual(nn.Sequential(*wide, kit.linear(4 * WIDTH, WIDTH))),
        ]
    return nn.Sequential(*layers, kit.norm(WIDTH), kit.linear(WIDTH, WIDTH), nn.Flatten(0, 1))


@dataclass(frozen=True)
class Model:
    """A model, its contenders, and one batch.

    Args:
        name: As in the limits.
        builders: Contender → the model.
        batch: () → inputs and target classes.
    """

    name: str
    builders: Mapping[str, Builder]
    batch: Callable[[], tuple[Tensor, Tensor]]


def contenders(model: Callable[[Kit], nn.Module], normaliser: str) -> dict[str, Builder]:
    """The three forms of a model."""
    kits = {PLAIN: BARE, normaliser: USUAL, MADE: TRUE}
    return {name: lambda kit=kit: model(kit) for name, kit in kits.items()}  # type: ignore[misc]


def vectors() -> tuple[Tensor, Tensor]:
    """Images as vectors, and their classes."""
    return torch.randn(256, 784), torch.randint(CLASSES, (256,))


def images() -> tuple[Tensor, Tensor]:
    """Images, and their classes."""
    return torch.randn(32, 3, 32, 32), torch.randint(CLASSES, (32,))


def texts() -> tuple[Tensor, Tensor]:
    """Tokens, and the next tokens."""
    return torch.randint(WIDTH, (8, TOKENS)), torch.randint(WIDTH, (8 * TOKENS,))


ALL: tuple[Model, ...] = (
    Model("MLP", contenders(perceptron, "LayerNorm"), vectors),
    Model("ResNet", contenders(resnet, "BatchNorm"), images),
    Model("transformer", contenders(transformer, "LayerNorm"), texts),
)


def model_modes(device: str = CPU) -> list[Mode]:
    """Training steps, eager and compiled."""
    return [Mode(STEP, execution, device=device) for execution in (EAGER, COMPILED)]


def measure_model(model: Model, mode: Mode, effort: Effort) -> list[Timing]:
    """Time the training steps of all forms of a model."""
    torch._dynamo.reset()
    runs = {name: step_of(model, mode, name) for name in model.builders}
    rounds = interleave(runs, timer_of(mode), effort)
    others = tuple(name for name in runs if name != MADE)
    compared = {name: (PLAIN,) for name in runs} | {MADE: others}
    return rows(MODELS, model.name, mode, rounds, compared)


def step_of(model: Model, mode: Mode, name: str) -> Run:
    """One step of SGD on one batch, warmed up; loss and optimiser are never compiled."""
    torch.manual_seed(0)
    module = model.builders[name]().to(mode.device)
    torch.manual_seed(1)
    x, y = (t.to(mode.device) for t in model.batch())
    call = compiled(module) if mode.execution == COMPILED else module
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE)

    def run() -> None:
        optimiser.zero_grad()
        F.cross_entropy(call(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    for _ in range(WARM_UP):
        run()
    return run
