"""Handwritten digits, learnt with plain, normalised and corrected layers side by side.

Every network is trained by plain SGD at every learning rate from the same seeds. The learning rate
is chosen by the validation set, the accuracy is that of the test set. Run it with

    python examples/digits.py [--conv] [--jobs 2] [--picture curves.svg]

Nothing in what it prints is written beforehand: the comparisons at the end are computed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor, nn

from truestep import AffineLikeLinear, NormLikeLinear, PatchNormConv2d

WIDTH, CHANNELS, CLASSES, BATCH = 64, 16, 10, 32
RATES: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

Linear = Callable[[int, int], nn.Module]
Conv = Callable[[int, int], nn.Module]


def layer_norm_linear(inputs: int, outputs: int) -> nn.Module:
    """The usual normaliser, gain and shift included, in front of a plain layer."""
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, outputs))


def root_mean_square_linear(inputs: int, outputs: int) -> nn.Module:
    """The norm-like layer with the radius that RMSNorm has."""
    return NormLikeLinear(inputs, outputs, radius=math.sqrt(inputs))


def plain_conv(inputs: int, outputs: int) -> nn.Module:
    """A plain convolution."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def batch_norm_conv(inputs: int, outputs: int) -> nn.Module:
    """The usual normaliser behind a plain convolution."""
    return nn.Sequential(plain_conv(inputs, outputs), nn.BatchNorm2d(outputs))


def patch_norm_conv(inputs: int, outputs: int) -> nn.Module:
    """The corrected convolution."""
    return PatchNormConv2d(inputs, outputs, 3, padding=1)


def perceptron(linear: Linear) -> nn.Module:
    """Two hidden layers."""
    layers = [linear(64, WIDTH), nn.ReLU(), linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, linear(WIDTH, CLASSES))


def convolutional(conv: Conv, linear: Linear) -> nn.Module:
    """Two convolutions and a read-out."""
    layers = [nn.Unflatten(1, (1, 8, 8)), conv(1, CHANNELS), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [conv(CHANNELS, CHANNELS), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, linear(4 * CHANNELS, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: perceptron(nn.Linear),
    "LayerNorm": lambda: perceptron(layer_norm_linear),
    "affine-like": lambda: perceptron(AffineLikeLinear),
    "norm-like": lambda: perceptron(NormLikeLinear),
    "norm-like, RMS": lambda: perceptron(root_mean_square_linear),
}
CONVOLUTIONAL: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: convolutional(plain_conv, nn.Linear),
    "BatchNorm": lambda: convolutional(batch_norm_conv, nn.Linear),
    "PatchNorm": lambda: convolutional(patch_norm_conv, AffineLikeLinear),
}


@dataclass(frozen=True)
class Run:
    """One training: mean loss of each epoch, and accuracies in percent after the last."""

    losses: tuple[float, ...]
    validation: float
    test: float


def data() -> tuple[tuple[Tensor, Tensor], ...]:
    """Training, validation and test set: images of 8×8 pixels in 0 to 1, and their digits."""
    images, digits = load_digits(return_X_y=True)
    rest, test = train_test_split(
        np.arange(len(digits)), test_size=360, random_state=0, stratify=digits
    )
    train, valid = train_test_split(rest, test_size=360, random_state=0, stratify=digits[rest])
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
    return tuple((x[part], y[part]) for part in (train, valid, test))


def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percentage of right answers."""
    network.eval()
    with torch.no_grad():
        return 100 * float((network(x).argmax(-1) == y).double().mean())


def train(name: str, conv: bool, rate: float, seed: int, epochs: int) -> Run:
    """One training; the seed fixes initial weights and the order of the samples."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = (CONVOLUTIONAL if conv else NETWORKS)[name]()
    order = torch.Generator().manual_seed(seed)
    (x, y), valid, test = data()
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    losses = []
    for _ in range(epochs):
        network.train()
        total = 0.0
        shuffled = torch.randperm(len(x), generator=order)
        for start in range(0, len(x), BATCH):
            batch = shuffled[start : start + BATCH]
            optimiser.zero_grad()
            loss = F.cross_entropy(network(x[batch]), y[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() * len(batch)
        losses.append(total / len(x))
    return Run(tuple(losses), accuracy(network, *valid), accuracy(network, *test))


Results = dict[str, dict[float, list[Run]]]


def sweep(conv: bool, rates: Sequence[float], seeds: int, epochs: int, jobs: int) -> Results:
    """Every network at every learning rate from every seed."""
    names = list(CONVOLUTIONAL if conv else NETWORKS)
    keys = [(name, rate, seed) for name in names for rate in rates for seed in range(seeds)]
    runs = Parallel(n_jobs=jobs)(delayed(train)(n, conv, r, s, epochs) for n, r, s in keys)
    results: Results = {name: {rate: [] for rate in rates} for name in names}
    for (name, rate, _), run in zip(keys, runs, strict=True):
        results[name][rate].append(run)
    return results


def spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def chosen(by_rate: dict[float, list[Run]]) -> float:
    """The learning rate with the best mean validation accuracy, the smallest of equals."""
    return max(by_rate, key=lambda rate: (np.mean([r.validation for r in by_rate[rate]]), -rate))


def table(results: Results) -> Iterator[str]:
    """Test accuracy of every network at every learning rate, mean ± spread over seeds."""
    rates = list(next(iter(results.values())))
    yield "Test accuracy in %: mean ± standard deviation over seeds; * is the rate chosen"
    yield f"{'learning rate':16s}" + "".join(f"{rate:>14g}" for rate in rates)
    for name, by_rate in results.items():
        cells = []
        for rate, runs in by_rate.items():
            test = [run.test for run in runs]
            mark = "*" if rate == chosen(by_rate) else " "
            cells.append(f"{np.mean(test):7.1f} ±{spread(test):4.1f}{mark}")
        yield f"{name:16s}{''.join(cells)}".rstrip()


def comparisons(results: Results) -> Iterator[str]:
    """Each network against the plain one, at the rates that validation chose, paired by seed."""
    plain = results["plain"][chosen(results["plain"])]
    for name, by_rate in results.items():
        if name == "plain":
            continue
        runs = by_rate[chosen(by_rate)]
        gaps = [a.test - b.test for a, b in zip(runs, plain, strict=True)]
        gap, error = float(np.mean(gaps)), spread(gaps) / math.sqrt(len(gaps))
        verdict = "no difference beyond two standard errors"
        if abs(gap) > 2 * error and len(gaps) > 1:
            verdict = "better than plain" if gap > 0 else "worse than plain"
        yield f"{name} − plain: {gap:+.1f} ± {error:.1f} points (standard error): {verdict}"


def draw(results: Results, path: Path) -> None:
    """Learning curves at the chosen rates: mean over seeds, and the range in between."""
    with mpl.rc_context({"svg.hashsalt": "digits", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for name, by_rate in results.items():
            losses = np.array([run.losses for run in by_rate[chosen(by_rate)]])
            epochs = np.arange(1, losses.shape[1] + 1)
            axes.plot(epochs, losses.mean(0), label=f"{name}, η = {chosen(by_rate):g}")
            axes.fill_between(epochs, losses.min(0), losses.max(0), alpha=0.2)
        axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
        axes.legend(frameon=False, fontsize=8)
        metadata: dict[str, str | None] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sweep, print the table and the comparisons, and draw the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--conv", action="store_true", help="convolutional networks")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--picture", type=Path, default=Path("digits.svg"), help=".svg or .png")
    parser.add_argument("--quick", action="store_true", help="two rates, two seeds, two epochs")
    given = parser.parse_args(arguments)
    rates, seeds, epochs = RATES, given.seeds, given.epochs
    if given.quick:
        rates, seeds, epochs = (0.1, 1.0), 2, 2
    results = sweep(given.conv, rates, seeds, epochs, given.jobs)
    print(f"{seeds} seeds, {epochs} epochs, batches of {BATCH}, plain SGD")
    print(*table(results), "", *comparisons(results), sep="\n")
    draw(results, given.picture)
    print(f"\nlearning curves at the chosen rates: {given.picture}")


if __name__ == "__main__":
    main()
