"""Every check that the shipped layers have, on a layer of one's own.

``pytest examples/test_own_layer.py`` judges own_layer.toml and a module written by hand;
``python examples/test_own_layer.py`` shows what a failure looks like.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from verify import VerificationError, conformance

SPEC = Path(__file__).with_name("own_layer.toml")


@conformance.parametrize(SPEC, instances=4, compilers=True)
def test_own_layer(case: conformance.ConformanceCase) -> None:
    """One test for each class that the spec gives and each stage of verification."""
    case.check()


class Fusion(nn.Module):
    """The same layer by hand: z/√κ with z = Wx + Vy + 3b and κ = 9 + ‖x‖² + ‖y‖²."""

    share = 9
    """The bias counts three times, and its square nine times."""

    def __init__(
        self,
        x_features: int,
        y_features: int,
        out_features: int,
        bias: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.x_weight = nn.Parameter(torch.randn(out_features, x_features, dtype=dtype))
        self.y_weight = nn.Parameter(torch.randn(out_features, y_features, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=dtype)) if bias else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The corrected activation; 0 where κ is."""
        z = x @ self.x_weight.T + y @ self.y_weight.T
        kappa = x.square().sum(-1, keepdim=True) + y.square().sum(-1, keepdim=True)
        if self.bias is not None:
            z, kappa = z + 3 * self.bias, kappa + self.share
        return z * kappa.masked_fill(kappa == 0, torch.inf).rsqrt()


class Wrong(Fusion):
    """The bias counts three times in z, but only once in κ."""

    share = 1


def test_module_by_hand() -> None:
    """It is the correction that the spec gives."""
    conformance.check_module(Fusion, SPEC, ansatz="output gauge", instances=4)


def test_a_mistake_is_refused() -> None:
    """What tells a test that it can fail."""
    with pytest.raises(VerificationError, match="is not c·I"):
        conformance.check_module(Wrong, SPEC, ansatz="output gauge", instances=4)


if __name__ == "__main__":
    try:
        conformance.check_module(Wrong, SPEC)
    except VerificationError as error:
        print(error)
