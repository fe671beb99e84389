"""What the corrected layers may cost: the table, and what the measurements say of it.

Every limit is about forward and backward (of a model: a training step) in float32 on one thread of
the processor. A limit is met where the median is at most the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.cases import PLAIN
from bench.modes import BOTH, COMPILED, EAGER, STEP, Mode
from bench.results import LAYERS, MODELS, Results

LINEAR = ("AffineLikeLinear", "NormLikeLinear")
PATCH_NORM = ("PatchNormConv2d",)
UNIT_GAUGE = ("UnitGaugeDepthwiseConv2d",)
ATTENTION = ("AffineLikeMultiheadAttention",)
CORRECTED = ("corrected",)
LAYER_NORM, BATCH_NORM = "LayerNorm+Linear", "Conv+BatchNorm2d"
TORCHS_ATTENTION = "nn.MultiheadAttention"
KEPT = "kept / output, beyond plain"

TABLE: tuple[tuple[tuple[str, ...], tuple[str, ...], dict[tuple[str, str], float]], ...] = (
    (
        ("linear 256x784->512", "linear 512x1024->1024", "linear 64x4096->4096"),
        LINEAR,
        {(EAGER, PLAIN): 1.04, (EAGER, LAYER_NORM): 1.0, (COMPILED, PLAIN): 1.02},
    ),
    (("linear 4096x256->256",), LINEAR, {(EAGER, PLAIN): 1.08, (COMPILED, PLAIN): 1.03}),
    (("linear 32x128->128",), LINEAR, {(EAGER, LAYER_NORM): 1.0, (COMPILED, PLAIN): 1.15}),
    (
        ("conv 32x64x32x32->64 k3", "conv 16x128x16x16->256 k3 stride 2"),
        PATCH_NORM,
        {(EAGER, PLAIN): 1.10, (EAGER, BATCH_NORM): 1.0, (COMPILED, PLAIN): 1.05},
    ),
    (
        ("conv 32x3x32x32->64 k3", "conv 32x64x32x32->64 k1", "conv 32x64x32x32->64 k3 groups 4"),
        PATCH_NORM,
        {(EAGER, BATCH_NORM): 1.0, (COMPILED, PLAIN): 1.12},
    ),
    (("depthwise 32x64x32x32 k3",), UNIT_GAUGE, {(EAGER, PLAIN): 1.8, (COMPILED, PLAIN): 1.6}),
    (
        ("attention 8x128x256 h4", "attention 4x256x512 h8"),
        ATTENTION,
        {(EAGER, PLAIN): 1.05, (EAGER, TORCHS_ATTENTION): 1.0, (COMPILED, PLAIN): 1.02},
    ),
)
"""Cases, their corrected layers, and (execution, reference) → the largest ratio of times."""

MODEL_TABLE: tuple[tuple[str, str], ...] = (
    ("MLP", "LayerNorm"),
    ("ResNet", "BatchNorm"),
    ("transformer", "LayerNorm"),
)
"""Models and their usual normaliser, which no training step of the corrected model may exceed."""

KEPT_TABLE: dict[str, float] = {"linear": 0.01, "conv": 1.02, "depthwise": 1.02, "attention": 0.01}
"""Layer kind → the most that it keeps, in outputs, beyond what the plain layer keeps.

The plain linear layer and convolution keep nothing but parameters and input. Compiled, a
convolution also keeps both in another order of axes, with or without correction.
"""


@dataclass(frozen=True)
class Verdict:
    """A limit and what was measured.

    Args:
        case: Layer and shape, or model.
        contender: What the limit is for.
        execution: Eager or compiled.
        quantity: What is limited, as ``time / plain``.
        limit: The most that it may be.
        value: What was measured; ``None`` if nothing was.
    """

    case: str
    contender: str
    execution: str
    quantity: str
    limit: float
    value: float | None

    @property
    def met(self) -> bool:
        """Whether it was measured and is at most the limit."""
        return self.value is not None and self.value <= self.limit

    @property
    def words(self) -> str:
        """Met, or by how much not."""
        if self.value is None:
            return "not measured"
        return "met" if self.met else f"missed by {self.value - self.limit:.3f}"


def judge(results: Results) -> list[Verdict]:
    """Every limit against the measurements."""
    return [*layer_verdicts(results), *kept_verdicts(results), *model_verdicts(results)]


def layer_verdicts(results: Results) -> Iterator[Verdict]:
    """The limits of single layers."""
    for cases, contenders, limits in TABLE:
        for case in cases:
            for contender in contenders:
                for (execution, reference), limit in limits.items():
                    mode = Mode(BOTH, execution)
                    row = results.timing(case, mode, contender, reference, LAYERS)
                    value = None if row is None else row.ratio.median
                    name = f"time / {reference}"
                    yield Verdict(case, contender, execution, name, limit, value)


def model_verdicts(results: Results) -> Iterator[Verdict]:
    """The limits of training steps."""
    for case, reference in MODEL_TABLE:
        for execution in (EAGER, COMPILED):
            row = results.timing(case, Mode(STEP, execution), CORRECTED[0], reference, MODELS)
            value = None if row is None else row.ratio.median
            yield Verdict(case, CORRECTED[0], execution, f"time / {reference}", 1.0, value)


def kept_verdicts(results: Results) -> Iterator[Verdict]:
    """The limits of what is kept for backward."""
    for cases, contenders, _ in TABLE:
        for case in cases:
            for contender in contenders:
                for execution in (EAGER, COMPILED):
                    value = kept_beyond_plain(results, case, execution, contender)
                    limit = KEPT_TABLE[case.split()[0]]
                    yield Verdict(case, contender, execution, KEPT, limit, value)


def kept_beyond_plain(results: Results, case: str, execution: str, contender: str) -> float | None:
    """Outputs that a contender keeps more than the plain layer."""
    own = results.kept.get((case, execution, contender))
    plain = results.kept.get((case, execution, PLAIN))
    return None if own is None or plain is None else own.ratio - plain.ratio


def contenders_with_limits() -> frozenset[str]:
    """Every corrected layer that has a limit, and the corrected models."""
    return frozenset(name for _, names, _ in TABLE for name in names) | frozenset(CORRECTED)
