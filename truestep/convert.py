"""An existing model with its layers replaced by their corrected forms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from truestep import layers

TWINS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Linear: layers.AffineLikeLinear,
    nn.Bilinear: layers.AffineLikeBilinear,
    nn.Conv1d: layers.PatchNormConv1d,
    nn.Conv2d: layers.PatchNormConv2d,
    nn.Conv3d: layers.PatchNormConv3d,
    nn.ConvTranspose1d: layers.AffineLikeConvTranspose1d,
    nn.ConvTranspose2d: layers.AffineLikeConvTranspose2d,
    nn.ConvTranspose3d: layers.AffineLikeConvTranspose3d,
    nn.MultiheadAttention: layers.AffineLikeMultiheadAttention,
}
"""torch layer → the corrected layer of the same constructor and state dict."""


def convert(
    model: nn.Module, twins: Mapping[type[nn.Module], type[nn.Module]] = TWINS
) -> nn.Module:
    """Replace the layers of a model, in place, by corrected ones that hold the same parameters.

    The function that the model computes changes: each replaced layer's output (or input) is scaled.
    Parameters are shared, not copied, so an optimiser that holds them goes on working; a layer that
    is used in several places is replaced by one layer. Subclasses of a twin are left alone, for
    they may compute something else.

    Args:
        model: Any module; it may itself be a layer to replace.
        twins: torch layer → corrected layer, by exact type.

    Returns:
        The model, or the corrected layer if the model is one layer.

    Raises:
        ValueError: If a layer to replace carries hooks or parametrisations, which would be lost.
    """
    replaced: dict[int, nn.Module] = {}

    def replacement(layer: nn.Module) -> nn.Module:
        if id(layer) not in replaced:
            replaced[id(layer)] = corrected(layer, twins[type(layer)])
        return replaced[id(layer)]

    if type(model) in twins:
        return replacement(model)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children names a layer once
            if child is not None and type(child) in twins:
                setattr(parent, name, replacement(child))
    return model


def corrected(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A corrected layer with the constructor arguments, parameters and mode of its twin.

    Raises:
        ValueError: If the layer carries hooks or parametrisations.
    """
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        raise ValueError(
            f"{layer} carries hooks, which a replacement would drop; remove them first"
        )
    if hasattr(layer, "parametrizations"):
        raise ValueError(f"{layer} is parametrised; remove the parametrisations first")
    result = kind(**arguments(layer, kind), device="meta")
    own = dict(layer.named_parameters())
    for name, _ in list(result.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        setattr(result.get_submodule(owner), leaf, own[name])
    return result.train(layer.training)


def arguments(layer: nn.Module, kind: type[nn.Module]) -> dict[str, Any]:
    """The constructor arguments that give a layer like this one."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in ("device", "dtype") or parameter.kind is parameter.KEYWORD_ONLY:
            continue
        if name == "bias":
            bias = getattr(layer, "bias", getattr(layer, "in_proj_bias", None))
            found[name] = bias is not None
        elif name == "add_bias_kv":
            found[name] = getattr(layer, "bias_k", None) is not None
        elif hasattr(layer, name):
            found[name] = getattr(layer, name)
    return found
