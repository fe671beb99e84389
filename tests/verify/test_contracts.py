"""Each contract holds for a good module and refuses one that breaks it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from verify.contracts.example import Example
from verify.contracts.stage import COMPILERS, CONTRACTS, broken

EVERY = {**CONTRACTS, **COMPILERS}


class Good(nn.Module):
    """A linear layer by hand."""

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        kw = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_features, in_features, **kw))
        self.bias = nn.Parameter(torch.empty(out_features, **kw)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"


class Buffer(Good):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("steps", torch.zeros(()))


class Subclass(nn.Linear):
    pass


class Unseeded(Good):
    def reset_parameters(self):
        generator = torch.Generator()
        generator.seed()
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)


class Constant(Good):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = torch.ones(self.out_features)

    def forward(self, x):
        return super().forward(x) * self.scale


class NoDevice(Good):
    def __init__(self, in_features, out_features, bias=True, dtype=None):
        super().__init__(in_features, out_features, bias, dtype=dtype)


class Double(Good):
    def forward(self, x):
        return super().forward(x).float()


class Shared(Good):
    def __deepcopy__(self, memo):
        return self


class Mode(Good):
    def forward(self, x):
        return super().forward(x) * (2 if self.training else 1)


class Clobber(Good):
    def forward(self, x):
        return super().forward(x.mul_(2))


class Silent(Good):
    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}"


class KeptOutput(Good):
    def forward(self, x):
        return super().forward(x).tanh()


class Other(Good):
    def __init__(self, out_features, in_features, bias=True, device=None, dtype=None):
        super().__init__(out_features, in_features, bias, device, dtype)


class Single(Good):
    def forward(self, x):
        return nn.functional.linear(x.float(), self.weight.float(), None).to(x) + self.bias.float()


class RootAtZero(Good):
    def forward(self, x):
        return super().forward(x) * (self.weight * 0).sum().sqrt()


class Aside(Good):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.held = (self.weight,)

    def forward(self, x):
        return nn.functional.linear(x, self.held[0], self.bias)


class Branch(Good):
    def forward(self, x):
        z = super().forward(x)
        return z if bool((z.sum() * 0 == 0).item()) else -z


class Tripled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return g * 2

    @staticmethod
    def jvp(ctx, t):
        return t * 3


class WrongForward(Good):
    def forward(self, x):
        return Tripled.apply(super().forward(x))


class Batch(Good):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class AtLeastOne(Good):
    def forward(self, x):
        z = super().forward(x)
        return z if len(z) else self.bias.expand(1, -1)


class RootOfInput(Good):
    def forward(self, x):
        return super().forward(x) * (x - x).square().sum(-1, keepdim=True).sqrt()


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.square()

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return 2 * z.detach() * g


class CutOff(Good):
    def forward(self, x):
        z = super().forward(x)
        plain = torch._C._are_functorch_transforms_active()
        return z.square() if plain else Squared.apply(z)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.mT

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight if ctx.needs_input_grad[1] else torch.zeros_like(x), g.mT @ x


class AskedOfAnother(Good):
    def forward(self, x):
        return Product.apply(x, self.weight) + self.bias


BREAKS = {
    "plain state": (Buffer, Subclass),
    "reset": (Unseeded,),
    "meta device": (NoDevice, Constant),
    "skip_init": (NoDevice,),
    "dtype": (Double,),
    "copies": (Shared,),
    "train and eval": (Mode, Clobber),
    "repr": (Silent,),
    "in place after": (KeptOutput,),
    "twin": (Other, Buffer),
    "half precision": (Single,),
    "autocast": (RootAtZero,),
    "functional": (Aside,),
    "forward mode": (WrongForward,),
    "ensemble": (Branch,),
    "gradient penalty": (RootOfInput, CutOff),
    "alone": (AskedOfAnother,),
    "one sample": (Batch,),
    "no sample": (AtLeastOne,),
    "compile": (Branch,),
    "export": (Branch,),
}


def example(cls: type[nn.Module]) -> Example:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    return Example(cls, (4, 5), (x,), (True,), True, 1e-12, {"bias": True}, nn.Linear)


@pytest.mark.parametrize("name", EVERY)
def test_a_good_module_keeps_it(name: str) -> None:
    assert broken(EVERY[name], example(Good)) == ""


@pytest.mark.parametrize(
    ("name", "cls"), [(name, cls) for name in EVERY for cls in BREAKS[name]], ids=str
)
def test_a_broken_module_is_refused(name: str, cls: type[nn.Module]) -> None:
    assert broken(EVERY[name], example(cls))
