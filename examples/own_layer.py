"""A layer of one's own, from a spec of a few lines to a trained model.

    python examples/own_layer.py [--out my_layers] [--quick]

The spec is own_layer.toml beside this file: two inputs x and y, and a bias that counts three times.
"""

import argparse
import importlib
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from torch import nn

from truestep.cli import main as truestep

SPEC = Path(__file__).with_name("own_layer.toml")


def train(layer: nn.Module, rate: float, epochs: int) -> float:
    """Tell digits from their left half x and right half y; the share of right answers in %."""
    images, digits = load_digits(return_X_y=True)
    pixels, labels = torch.tensor(images / 16).float().reshape(-1, 8, 8), torch.tensor(digits)
    x, y = pixels[:, :, :4].flatten(1), pixels[:, :, 4:].flatten(1)
    optimiser = torch.optim.SGD(layer.parameters(), lr=rate)
    for _ in range(epochs):
        for batch in torch.randperm(1400).reshape(-1, 28):
            optimiser.zero_grad()
            F.cross_entropy(layer(x[batch], y[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return 100 * float((layer(x[1400:], y[1400:]).argmax(-1) == labels[1400:]).double().mean())


parser = argparse.ArgumentParser(description="A layer of one's own.")
parser.add_argument("--out", type=Path, default=Path("my_layers"), help="where the module goes")
parser.add_argument("--quick", action="store_true", help="train for five epochs")
arguments = parser.parse_args()

# 1. Derive: how does a gradient step move z, and what would make it the true step?
truestep(["derive", str(SPEC)])

# 2. Build: derive, generate, verify, and only then write my_layers/fusion.py.
if truestep(["build", str(SPEC), "--out", str(arguments.out)]) != 0:
    raise SystemExit("the layer was not verified, so nothing was written")

# 3. Import it. The file needs torch alone; `from my_layers.fusion import ...` does the same.
sys.path.insert(0, str(arguments.out))
fusion = importlib.import_module("fusion")

# 4. Train it like any other module; the arguments come in the order of [sizes]. The activations see
# the learning rate c·η, and step 1 printed c: 1 for the first class and 9 + radius² for the second.
for kind, rate in ((fusion.AffineLikeFusion, 1.0), (fusion.NormLikeFusion, 0.1)):
    torch.manual_seed(0)
    right = train(kind(32, 32, 10), rate, epochs=5 if arguments.quick else 20)
    print(f"{kind.__name__}: {right:.1f} % of unseen digits are read right")
