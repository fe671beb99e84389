"""The plain twin of a corrected attention: the same module with plain projections."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainAttention(nn.Module):
    """Self-attention z = O·mix(q, k, v) with q, k, v one product of the input; batch first.

    Draws its parameters from the same random numbers as nn.MultiheadAttention and has its state
    dict. nn.MultiheadAttention itself does more than this a call, so it is a rival and not the
    limit.

    Args:
        embed_dim: Features of input and output.
        num_heads: Number of heads; divides embed_dim.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.zeros_(self.out_proj.bias)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        """Attend within one tensor (N, L, E); the other arguments are those of the rivals.

        Raises:
            ValueError: If the three inputs are not one tensor, or weights are asked for.
        """
        if query is not key or query is not value or need_weights:
            raise ValueError("plain attention is self-attention without weights")
        products = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (torch.unflatten(p, -1, (self.num_heads, -1)).transpose(1, 2) for p in products)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out_proj(mixed), None


class SelfAttention(nn.Module):
    """Any attention as a map of one tensor, with a normaliser before it or none."""

    def __init__(self, attention: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x (N, L, E)."""
        x = x if self.norm is None else self.norm(x)
        mixed: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return mixed
