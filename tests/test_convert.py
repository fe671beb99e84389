"""convert: the same parameters in corrected layers, and nothing lost in silence."""

import copy

import pytest
import torch
from torch import nn

from truestep import AffineLikeLinear, NormLikeLinear, PatchNormConv2d
from truestep.convert import TWINS, convert

LAYERS = {
    "linear": (lambda: nn.Linear(4, 3, bias=False), [(2, 4)]),
    "bilinear": (lambda: nn.Bilinear(4, 3, 5), [(2, 4), (2, 3)]),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, 1, 2, 2, False, "reflect"), [(2, 4, 9)]),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same"), [(2, 4, 6, 5)]),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), [(2, 2, 4, 5, 3)]),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, True, 2), [(2, 4, 5)]),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(2, 3, 2, 2), [(2, 2, 3, 4)]),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 3, 2), [(1, 2, 3, 2, 3)]),
    "attention": (
        lambda: nn.MultiheadAttention(4, 2, bias=False, add_bias_kv=True, kdim=3, vdim=5),
        [(3, 2, 4), (6, 2, 3), (6, 2, 5)],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_keeps_parameters_and_arguments(name):
    make, shapes = LAYERS[name]
    torch.manual_seed(0)
    plain = make().double().eval()
    fresh = TWINS[type(plain)]
    result = convert(copy.deepcopy(plain))
    assert type(result) is fresh
    assert not result.training
    assert result.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert torch.equal(result.state_dict()[key], value)
    inputs = [torch.randn(s, dtype=torch.float64) for s in shapes]
    with torch.no_grad():
        after, before = result(*inputs), plain(*inputs)
    after, before = (x[0] if isinstance(x, tuple) else x for x in (after, before))
    assert after.shape == before.shape
    assert not torch.allclose(after, before)


def test_model_is_converted_in_place_and_shares_parameters():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Sequential(shared, nn.ReLU(), shared)
    )
    weight = shared.weight
    assert convert(model) is model
    assert type(model[0]) is PatchNormConv2d
    assert type(model[2][0]) is AffineLikeLinear
    assert model[2][0] is model[2][2]
    assert model[2][0].weight is weight


def test_other_twins_and_subclasses():
    class Special(nn.Linear):
        """A linear layer that may compute something else."""

    model = convert(nn.Sequential(nn.Linear(2, 2), Special(2, 2)), {nn.Linear: NormLikeLinear})
    assert type(model[0]) is NormLikeLinear
    assert type(model[1]) is Special


def test_hooks_and_parametrisations_are_not_dropped():
    hooked = nn.Linear(2, 2)
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="hooks"):
        convert(hooked)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert convert(normed) is normed, "another type is left alone"
