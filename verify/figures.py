"""The pictures: what a step does to activations before and after correction, measured on modules.

1. the step taken against the ideal one,
2. the effective learning rate against ‖x‖,
3. the interference of a batch against its size, beside normalisers,

all for the affine layer's generated classes; and for any layer its effective rate as inputs grow.
"""

from __future__ import annotations

import html
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor, nn

from codegen import generate
from derive.evaluate import Evaluator
from derive.spec import read_spec
from verify.drawing import COLORS, GREY, INK, MARKERS, SMALL_TO_LARGE, panels, styled, svg
from verify.report_measure import (
    RateCurve,
    effective_rate,
    interference,
    rate_curves,
    single_steps,
)
from verify.sources import subjects
from verify.subject import Subject

FEATURES, UNITS = 16, 8
RATE = 1e-3  # η; every layer shown is affine in its parameters, so its size does not matter
BATCHES = (2, 4, 8, 16, 32, 64, 128)


def linear_source() -> Any:
    """The affine layer generated from its shipped spec."""
    file = resources.files("truestep").joinpath("specs/linear.toml")
    return generate(read_spec(file.read_text(encoding="utf-8"), "linear.toml"))


class AffineLayers:
    """The plain affine layer, its generated corrections and two normalised rivals, one weight each.

    Args:
        source: A ``LayerSource`` of the affine layer.
    """

    def __init__(self, source: Any) -> None:
        """Build every layer in float64 from one seed."""
        self.subjects = [s for s in subjects(source) if not s.absent]
        self.kinds = {c.name: c.kind for c in source.classes}

    def corrected(self, features: int = FEATURES) -> dict[str, nn.Module]:
        """Kind → generated module, beside the plain layer."""
        torch.manual_seed(0)
        plain = nn.Linear(features, UNITS, dtype=torch.float64)
        found: dict[str, nn.Module] = {"plain": plain}
        for subject in self.subjects:
            module = subject.type(features, UNITS, dtype=torch.float64)
            module.load_state_dict(plain.state_dict())
            found[self.kinds[subject.name]] = module
        return found

    def rivals(self, features: int = FEATURES) -> dict[str, nn.Module]:
        """The same and the layer behind LayerNorm and BatchNorm, without gains of their own."""
        found = self.corrected(features)
        double = torch.float64
        layer = nn.LayerNorm(features, elementwise_affine=False, dtype=double)
        batch = nn.BatchNorm1d(features, affine=False, track_running_stats=False, dtype=double)
        for name, normaliser in (("LayerNorm", layer), ("BatchNorm", batch)):
            linear = nn.Linear(features, UNITS, dtype=torch.float64)
            linear.load_state_dict(found["plain"].state_dict())
            found[name] = nn.Sequential(normaliser, linear)
        return found

    def predicted(self, norms: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """κ of the uncorrected layer by its derivation, at inputs of the given norms."""
        derivation = self.subjects[0].derivation
        program = derivation.program
        (tensor,) = program.inputs
        sizes = {tensor.letters[0].size: len(norms), tensor.letters[1].size: 1}
        evaluator = Evaluator(sizes, {tensor.name: norms[:, None]}, {})
        return evaluator.array(derivation.structure.kappa, program.site)

    def rates(self) -> dict[str, float]:
        """Kind → c at radius 1, from the derivation."""
        return {
            self.kinds[s.name]: float(
                Evaluator({}, {}, {"radius": 1.0}).array(s.correction.rate, ())
            )
            for s in self.subjects
        }


def samples(count: int = 160) -> tuple[Tensor, Tensor]:
    """Inputs with norms from 0.1 to 10, evenly in the logarithm, and gradients of random size."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    directions = normal(count, FEATURES)
    norms = torch.logspace(-1, 1, count, dtype=torch.float64)
    x = directions / directions.norm(dim=-1, keepdim=True) * norms[:, None]
    return x, normal(count, UNITS) * torch.exp(normal(count, 1))


def draw_steps(axes: Axes, module: nn.Module, title: str, rate: float) -> ScalarMappable:
    """‖Δz‖ against η‖g‖, a point a sample, coloured by ‖x‖."""
    x, g = samples()
    taken = single_steps(module, x, g, RATE).norm(dim=-1).numpy()
    ideal = (RATE * g).norm(dim=-1).numpy()
    ends = np.array([ideal.min() / 2, ideal.max() * 2])
    axes.plot(ends, ends, color=INK, linewidth=0.9, label="ideal, Δz = −ηg")
    if rate != 1:
        axes.plot(
            ends, rate * ends, color=GREY, linestyle="--", linewidth=1, label=f"{rate:g} × ideal"
        )
    norm = LogNorm(0.1, 10)
    points = axes.scatter(
        ideal,
        taken,
        c=x.norm(dim=-1).numpy(),
        norm=norm,
        cmap=SMALL_TO_LARGE,
        s=11,
        linewidths=0,
        zorder=3,
    )
    axes.set(xscale="log", yscale="log", title=title, xlabel="ideal step  η‖g‖")
    axes.set_ylim(ends[0] * 0.7, ends[1] * 150)
    axes.legend(loc="upper left")
    return points


def draw_scale(figure: Figure, points: ScalarMappable, axes: list[Axes]) -> None:
    """The colours of ‖x‖."""
    bar = figure.colorbar(points, ax=axes, label="‖x‖", aspect=28, pad=0.01)
    bar.outline.set_visible(False)
    bar.minorticks_off()
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")  # no seams between the levels


def draw_rates(axes: Axes, layers: AffineLayers) -> None:
    """The effective learning rate in units of η against ‖x‖: points measured, lines derived."""
    x, g = samples(24)
    norms = x.norm(dim=-1).numpy()
    dense = np.geomspace(norms[0], norms[-1], 200)
    lines = {"plain": layers.predicted(dense)}
    lines |= {kind: np.full_like(dense, c) for kind, c in layers.rates().items()}
    for name, module in layers.corrected().items():
        rate = effective_rate(single_steps(module, x, g, RATE), g, RATE).numpy()
        axes.plot(dense, lines[name], color=COLORS[name], linewidth=1.2)
        axes.plot(norms, rate, MARKERS[name], color=COLORS[name], label=name, linestyle="none")
    axes.set(xscale="log", yscale="log", xlabel="‖x‖", ylabel="effective learning rate / η")
    axes.set_title("Learning rate that z sees")
    axes.legend(loc="upper left")


def draw_interference(axes: Axes, layers: AffineLayers, *, rectified: bool) -> None:
    """Interference over own step against batch size."""
    repeats = range(8)
    modules = layers.rivals(32)
    for name, module in modules.items():
        means = []
        for batch in BATCHES:
            values = []
            for seed in repeats:
                generator = torch.Generator().manual_seed(seed)
                x = torch.randn(batch, 32, generator=generator, dtype=torch.float64)
                x = x * torch.exp(
                    0.5 * torch.randn(batch, 1, generator=generator, dtype=torch.float64)
                )
                g = torch.randn(batch, UNITS, generator=generator, dtype=torch.float64)
                values.append(interference(module, x.relu() if rectified else x, g))
            means.append(float(np.mean(values)))
        axes.plot(BATCHES, means, color=COLORS[name], marker=MARKERS[name], label=name)
    title = "rectified inputs" if rectified else "centred inputs"
    axes.set(xscale="log", yscale="log", xlabel="batch size", title=f"Interference, {title}")
    axes.set_xticks(BATCHES, [str(b) for b in BATCHES])
    axes.minorticks_off()
    axes.set_ylim(top=axes.get_ylim()[1] * 3)  # room for the legend
    axes.set_ylabel("others' step / own step")


def affine_steps(layers: AffineLayers) -> str:
    """Picture 1, before and after correction."""
    with styled("steps"):
        modules, rates = layers.corrected(), {"plain": 1.0, **layers.rates()}
        figure, axes = panels(len(modules))
        for panel, (name, module) in zip(axes, modules.items(), strict=True):
            title = "Plain layer" if name == "plain" else f"{name[0].upper()}{name[1:]} layer"
            points = draw_steps(panel, module, title, rates[name])
        axes[0].set_ylabel("step taken  ‖Δz‖")
        draw_scale(figure, points, axes)
        return svg(figure, "steps", "The step that activations take against the ideal step")


def affine_rates(layers: AffineLayers) -> str:
    """Picture 2."""
    with styled("rates"):
        figure, (axes,) = panels(1, 4.2, 3.1)
        draw_rates(axes, layers)
        return svg(figure, "rates", "Effective learning rate against the input's norm")


def affine_interference(layers: AffineLayers) -> str:
    """Picture 3, for centred and for rectified inputs."""
    with styled("interference"):
        figure, axes = panels(2, 3.9, 3.1)
        draw_interference(axes[0], layers, rectified=False)
        draw_interference(axes[1], layers, rectified=True)
        axes[0].legend(loc="upper left", ncols=2)
        return svg(figure, "interference", "Interference against the batch size")


def layer_rates(found: tuple[Subject, ...], kinds: dict[str, str], name: str) -> str:
    """Effective rates of one layer's classes as its inputs grow."""
    with styled(name):
        figure, (axes,) = panels(1, 4.6, 2.7)
        for curve in rate_curves(found):
            draw_curve(axes, curve, kinds.get(curve.label, "plain"))
        axes.set(xscale="log", yscale="log", xlabel="scale of the input")
        axes.set_ylabel("mean diagonal of K(s,s)")
        axes.yaxis.set_minor_formatter(NullFormatter())
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.3)  # room for the legend
        axes.legend(loc="upper left")
        title = html.escape(f"Effective learning rate of {found[0].program.spec.name}")
        return svg(figure, name, title)


def draw_curve(axes: Axes, curve: RateCurve, kind: str) -> None:
    """Points, one a site."""
    seen = curve.rate > 0
    axes.plot(
        curve.scale[seen],
        curve.rate[seen],
        MARKERS[kind],
        color=COLORS[kind],
        label=curve.label,
        alpha=0.8,
        linestyle="none",
        markersize=3,
    )


def overview(path: str | Path) -> None:
    """Write the picture of the README: step, learning rate and interference in one row.

    Args:
        path: An ``.svg`` file; its folder must exist.
    """
    layers = AffineLayers(linear_source())
    with styled("overview"):
        figure, axes = panels(4, 3.1, 3.0)
        modules = layers.corrected()
        draw_steps(axes[0], modules["plain"], "Plain layer", 1.0)
        points = draw_steps(axes[1], modules["affine-like"], "Affine-like layer", 1.0)
        axes[0].set_ylabel("step taken  ‖Δz‖")
        draw_scale(figure, points, axes[:2])
        draw_rates(axes[2], layers)
        axes[2].set_ylabel("effective rate / η")
        draw_interference(axes[3], layers, rectified=True)
        axes[3].legend(loc="upper left", ncols=2)
        title = "Steps, effective learning rates and interference of the affine layer"
        text = svg(figure, "overview", title, inline=False)
    Path(path).write_text(text, encoding="utf-8")
