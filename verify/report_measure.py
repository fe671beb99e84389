"""The numbers in the report's pictures: steps that modules really take, measured and not predicted.

Letters: n sample (here the site), i unit, g = ∂L/∂z, η learning rate. A step is taken on
L = Σ g·z, whose gradient with respect to z is g; parameters are never changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from verify.instances import Instance, Limits, sample
from verify.layout import kernel_by_sites
from verify.oracle import module_kernel, uncorrected_kernel
from verify.reference import self_blocks
from verify.subject import Subject

Array = np.ndarray[Any, Any]
SMALL = Limits(kernel=20_000, outputs=24, parameters=60, sites=8)


def step(module: nn.Module, inputs: tuple[Tensor, ...], g: Tensor, rate: float) -> Tensor:
    """Δz of one SGD step at learning rate ``rate`` on L = Σ g·z.

    Args:
        module: Whose parameters take the step.
        inputs: What it is called with.
        g: ∂L/∂z, of the output's shape.
        rate: η.
    """
    parameters = dict(module.named_parameters())
    before: Tensor = module(*inputs)
    gradients = torch.autograd.grad((g * before).sum(), list(parameters.values()))
    moved = {
        name: value.detach() - rate * gradient
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
    }
    with torch.no_grad():
        after: Tensor = functional_call(module, moved, inputs)
        return after - before.detach()


def own_steps(module: nn.Module, x: Tensor, g: Tensor, rate: float, count: int) -> Tensor:
    """Δz_n of a step on sample n's gradient alone, for the first ``count`` samples."""
    rows = []
    for n in range(count):
        alone = torch.zeros_like(g)
        alone[n] = g[n]
        rows.append(step(module, (x,), alone, rate)[n])
    return torch.stack(rows)


def single_steps(module: nn.Module, x: Tensor, g: Tensor, rate: float) -> Tensor:
    """Δz of each sample in a batch of its own: (samples, units)."""
    pairs = zip(x, g, strict=True)
    return torch.cat([step(module, (a[None],), b[None], rate) for a, b in pairs])


def effective_rate(change: Tensor, g: Tensor, rate: float) -> Tensor:
    """-Δz·g/(η g·g): the multiple of the ideal step that is taken along g."""
    return -(change * g).sum(-1) / (rate * (g * g).sum(-1))


def interference(module: nn.Module, x: Tensor, g: Tensor, count: int = 16) -> float:
    """Root mean square of Σ_{s'≠s} K(s,s') g_s' over that of K(s,s) g_s, both from real steps."""
    rate = 1e-3
    count = min(count, len(x))
    whole = step(module, (x,), g, rate)[:count]
    own = own_steps(module, x, g, rate, count)
    return float((whole - own).norm() / own.norm())


@dataclass(frozen=True)
class RateCurve:
    """Effective learning rates of one layer as its inputs grow.

    Attributes:
        label: The layer's name.
        scale: What the inputs were multiplied by, one entry a point.
        rate: The mean of K(s,s)'s diagonal over the units of one site.
    """

    label: str
    scale: Array
    rate: Array


def scaled(instance: Instance, subject: Subject, factor: float) -> Instance:
    """The instance with every real input times ``factor`` and radius 1."""
    real = {t.name for t in subject.program.inputs if t.kind == "input"}
    tensors = {k: factor * v if k in real else v for k, v in instance.tensors.items()}
    kind, sizes, symbols, seed = instance.kind, instance.sizes, instance.symbols, instance.seed
    return Instance(kind, sizes, symbols, tensors, 1.0, seed)


def rate_curves(subjects: tuple[Subject, ...], seed: int = 0) -> tuple[RateCurve, ...]:
    """Effective rates of the uncorrected layer and of its classes, measured by autograd.

    Args:
        subjects: Classes of one layer with the same optional parameters.
        seed: Of the random instances.
    """
    first = subjects[0]
    factors = np.geomspace(0.05, 20.0, 15)
    kinds = ("defaults",)
    drawn = sample(first.derivation, len(factors), seed, kinds=kinds, limits=SMALL)
    found: dict[str, tuple[list[float], list[float]]] = {}
    for factor, instance in zip(factors, drawn, strict=True):
        point = scaled(instance, first, float(factor))
        kernels = {"uncorrected": uncorrected_kernel(first.program, point)}
        for subject in subjects:
            module = subject.build(point)
            kernels[subject.name] = module_kernel(
                module, subject.inputs(point), subject.program, point.sizes
            )
        for label, kernel in kernels.items():
            blocks = self_blocks(kernel_by_sites(kernel, first.program, point.sizes))
            rates = np.einsum("sii->s", blocks) / blocks.shape[-1]
            scale, rate = found.setdefault(label, ([], []))
            scale += [float(factor)] * len(rates)
            rate += [float(r) for r in rates]
    return tuple(RateCurve(k, np.array(s), np.array(r)) for k, (s, r) in found.items())
