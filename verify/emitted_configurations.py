"""The sizes and options of attention modules at which their emitted file is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Configuration:
    """Sizes and options.

    Attributes:
        queries, keys: Lengths L and S.
        samples: N; 0 for inputs without a batch axis.
        features, heads: E and its heads.
        shared: Which of query, key and value are one tensor: ``all``, ``key value`` or ``none``.
        options: Of the constructor.
        attn_mask, key_padding_mask: ``bool``, ``float``, ``bool per head`` or "".
        need_weights, average, causal: Of ``forward``.
        dtype: The type of inputs and parameters.
    """

    queries: int = 2
    keys: int = 2
    samples: int = 1
    features: int = 2
    heads: int = 1
    shared: str = "none"
    options: Mapping[str, Any] | None = None
    attn_mask: str = ""
    key_padding_mask: str = ""
    need_weights: bool = True
    average: bool = True
    causal: bool = False
    dtype: str = "float64"

    @property
    def given(self) -> dict[str, Any]:
        """The constructor's options."""
        return dict(self.options or {})

    def option(self, name: str, default: Any = False) -> Any:
        """One of the constructor's options."""
        return self.given.get(name, default)

    @property
    def forward_options(self) -> dict[str, Any]:
        """Keywords of ``forward``, but for the masks; what has its default is left out."""
        chosen = {
            "need_weights": (self.need_weights, True),
            "average_attn_weights": (self.average, True),
            "is_causal": (self.causal, False),
        }
        return {k: value for k, (value, default) in chosen.items() if value != default}

    @property
    def widths(self) -> tuple[int, int, int]:
        """Features of query, key and value."""
        return self.features, self.option("kdim", self.features), self.option("vdim", self.features)


FIRST = {"batch_first": True}
EXTRA = {"add_bias_kv": True, "add_zero_attn": True}
CONFIGURATIONS = (
    Configuration(shared="all"),
    Configuration(
        1, 2, 2, 4, 2, options=FIRST, key_padding_mask="bool", need_weights=False
    ),
    Configuration(2, 2, 0, 4, 2, average=False, attn_mask="float", key_padding_mask="bool"),
    Configuration(1, 2, 1, 2, 2, "none", EXTRA, "bool per head", average=False),
    Configuration(1, 2, 1, 2, 1, "key value", EXTRA | FIRST, need_weights=False),
    Configuration(
        2, 2, options={"kdim": 3, "vdim": 1}, attn_mask="bool", need_weights=False, causal=True
    ),
    Configuration(1, 2, 1, 2, 1, "key value", {"score_gauge": True}, need_weights=False),
    Configuration(
        1, 2, 1, 2, 1, options={"score_gauge": True, "add_bias_kv": True, "vdim": 3},
        key_padding_mask="float",
    ),
    Configuration(2, 2, 1, 2, 2, "all", FIRST, attn_mask="bool", dtype="float32"),
    Configuration(1, 2, dtype="float16", key_padding_mask="bool"),
)  # fmt: skip
