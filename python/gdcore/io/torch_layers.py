"""Layers of gdcore that PyTorch lacks, as its modules; imports torch.

Each has the arrays of its layer under the same names, and keeps the layer, by which `gd.from_torch_module` knows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["Embedding", "Periodic", "PiecewiseLinear", "Residual", "Scale", "Standardizer"]


class OfLayer(nn.Module):  # type: ignore[misc]  # nn.Module is Any for mypy
    """A module with the arrays of a layer; those in `FIXED` are not trained."""

    FIXED = ("mean", "std", "start", "width")

    def __init__(self, layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.layer = layer
        for name, shape in shapes.items():
            if name in self.FIXED:
                self.register_buffer(name, torch.empty(shape))
            else:
                self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def extra_repr(self) -> str:
        """Return the settings of the layer."""
        _, _, settings = repr(self.layer).partition("(")
        return settings.removesuffix(")")


class Standardizer(OfLayer):
    """(x - mean) / std with fixed numbers, the same in training and in prediction."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scaled rows of `x`."""
        return (x - self.mean) / self.std


class Scale(OfLayer):
    """X ⊙ s."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of `x` times the factors."""
        return x * self.factor


class Residual(nn.Sequential):  # type: ignore[misc]
    """X + f(x), f the modules inside."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` and what the modules make of it, added."""
        return x + super().forward(x)


class OfColumns(OfLayer):
    """A module whose output is [the other columns | the new columns of each chosen column]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` with the chosen columns encoded."""
        chosen = list(range(x.shape[1]) if self.layer.columns is None else self.layer.columns)
        kept = [column for column in range(x.shape[1]) if column not in chosen]
        return torch.cat([x[:, kept], self.encoded(x[:, chosen])], dim=1)

    def encoded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the new columns of the chosen columns `x`."""
        raise NotImplementedError


class PiecewiseLinear(OfColumns):
    """(x - start) / width of each bin, limited to [0, 1] except at the ends of a column, unless clipped."""

    def encoded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the new columns of the chosen columns `x`."""
        counts = torch.tensor([len(edges) - 1 for edges in self.layer.edges], device=x.device)
        share = (x.repeat_interleave(counts, dim=1) - self.start.reshape(-1)) / self.width.reshape(-1)
        low, high = torch.zeros_like(share[:1]), torch.ones_like(share[:1])
        if not self.layer.clip:
            ends = counts.cumsum(0)
            low[:, ends - counts], high[:, ends - 1] = -math.inf, math.inf
        return torch.minimum(torch.maximum(share, low), high)


class Embedding(OfColumns):
    """Rows of trained tables, or one-hot codes."""

    def encoded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of the codes `x`; raise ValueError for a value that is no code."""
        codes, sizes = x.long(), torch.tensor(self.layer.sizes, device=x.device)
        if not ((codes == x) & (codes >= 0) & (codes < sizes)).all():
            raise ValueError(
                f"x: expected whole numbers from 0 to below {tuple(self.layer.sizes)}, codes of categories"
            )
        parts = []
        for k, size in enumerate(self.layer.sizes):
            table = getattr(self, f"table{k}", None)
            table = torch.eye(size, dtype=x.dtype, device=x.device) if table is None else table
            parts.append(nn.functional.embedding(codes[:, k], table))
        return torch.cat(parts, dim=1)


class Periodic(OfColumns):
    """A linear map of cos(2π w x + b) beside x, or ReLU of one of cosines and sines."""

    def encoded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the new columns of the chosen columns `x`; phases are computed in float64."""
        turns = x.double()[:, :, None] * self.frequency.double()
        angle = 2 * math.pi * (turns - turns.detach().round())
        pbld = self.layer.kind == "pbld"
        waves = torch.cos(angle + self.phase) if pbld else torch.cat([torch.cos(angle), torch.sin(angle)], dim=2)
        weight = self.weight.reshape(x.shape[1], -1, waves.shape[2])
        out = torch.einsum("ncf,cof->nco", waves.to(x.dtype), weight) + self.bias.reshape(x.shape[1], -1)
        out = torch.cat([x[:, :, None], out], dim=2) if pbld else torch.relu(out)
        return out.flatten(1)
