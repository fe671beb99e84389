"""PyTorch layers whose activations take the true gradient step.

``from truestep import AffineLikeLinear`` gives a generated layer; layers are imported when they are
first asked for, and with them torch and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from truestep._version import __version__

if TYPE_CHECKING:
    from truestep.layers import (
        AffineLikeBatchNormEvalLinear,
        AffineLikeBatchNormLinear,
        AffineLikeBilinear,
        AffineLikeConvTranspose1d,
        AffineLikeConvTranspose2d,
        AffineLikeConvTranspose3d,
        AffineLikeDynamicTanhLinear,
        AffineLikeGroupNormLinear,
        AffineLikeInstanceNormConv,
        AffineLikeL2NormLinear,
        AffineLikeLayerNormLinear,
        AffineLikeLinear,
        AffineLikeLocallyConnected1d,
        AffineLikeLocalResponseNormLinear,
        AffineLikeMultiheadAttention,
        AffineLikeResidualLinear,
        AffineLikeReweightedLayerNormLinear,
        AffineLikeReweightedLayerNormSigmaLinear,
        AffineLikeRMSNormLinear,
        MatrixGaugeLowRank,
        NormLikeBilinear,
        NormLikeConvTranspose1d,
        NormLikeConvTranspose2d,
        NormLikeConvTranspose3d,
        NormLikeLinear,
        NormLikeLocallyConnected1d,
        NormLikePatchNormConv1d,
        NormLikePatchNormConv2d,
        NormLikePatchNormConv3d,
        NormLikeResidualLinear,
        PatchNormConv1d,
        PatchNormConv2d,
        PatchNormConv3d,
        UnitGaugeDepthwiseConv1d,
        UnitGaugeDepthwiseConv2d,
        UnitGaugeGatedLinear,
        UnitGaugeScale,
        ValueMixMultiheadAttention,
    )
else:

    def __getattr__(name: str) -> object:
        """A layer by name."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from truestep import layers

        return getattr(layers, name)

    def __dir__() -> list[str]:
        """The public names."""
        return sorted({*globals(), *__all__})


__all__ = [
    "AffineLikeBatchNormEvalLinear",
    "AffineLikeBatchNormLinear",
    "AffineLikeBilinear",
    "AffineLikeConvTranspose1d",
    "AffineLikeConvTranspose2d",
    "AffineLikeConvTranspose3d",
    "AffineLikeDynamicTanhLinear",
    "AffineLikeGroupNormLinear",
    "AffineLikeInstanceNormConv",
    "AffineLikeL2NormLinear",
    "AffineLikeLayerNormLinear",
    "AffineLikeLinear",
    "AffineLikeLocalResponseNormLinear",
    "AffineLikeLocallyConnected1d",
    "AffineLikeMultiheadAttention",
    "AffineLikeRMSNormLinear",
    "AffineLikeResidualLinear",
    "AffineLikeReweightedLayerNormLinear",
    "AffineLikeReweightedLayerNormSigmaLinear",
    "MatrixGaugeLowRank",
    "NormLikeBilinear",
    "NormLikeConvTranspose1d",
    "NormLikeConvTranspose2d",
    "NormLikeConvTranspose3d",
    "NormLikeLinear",
    "NormLikeLocallyConnected1d",
    "NormLikePatchNormConv1d",
    "NormLikePatchNormConv2d",
    "NormLikePatchNormConv3d",
    "NormLikeResidualLinear",
    "PatchNormConv1d",
    "PatchNormConv2d",
    "PatchNormConv3d",
    "UnitGaugeDepthwiseConv1d",
    "UnitGaugeDepthwiseConv2d",
    "UnitGaugeGatedLinear",
    "UnitGaugeScale",
    "ValueMixMultiheadAttention",
    "__version__",
]
