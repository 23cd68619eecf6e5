"""The table of `Ensemble.summary`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .. import _core
from ..internal.display import Aligned
from ..internal.outputs import QUANTITIES

if TYPE_CHECKING:
    from ..model import Sequential
    from .ensemble import Ensemble

__all__ = ["summary"]


def summary(ensemble: Ensemble) -> Aligned:
    """Return the table of `Ensemble.summary`."""
    rows = [("", "layers", "parameters", "computes in", "share")]
    total, counts = sum(ensemble.weights), []
    for i, (model, weight) in enumerate(zip(ensemble.models, ensemble.weights, strict=True)):
        counts.append(sum(array.size for array in model.parameters().values()))
        where = f"{model.dtype} on {model.device}"
        rows.append((str(i), _layers(model), f"{counts[-1]:,}", where, f"{weight / total:.3f}"))
    means = "means of outputs" if ensemble.average == "outputs" else "means of probabilities"
    means = f"means of {ensemble.outputs}" if ensemble.outputs in QUANTITIES else means
    return Aligned(rows, (1, 3), (f"{sum(counts):,} parameters in {len(ensemble)} models, {means}",))


def _layers(model: Sequential) -> str:
    """Return the widths of a model, and its other layers by number: "64-128-10, 1 ReLU"."""
    widths = [model.in_features, *(layer.out_features for layer in model.layers if isinstance(layer, _core.Dense))]
    others = Counter(type(layer).__name__ for layer in model.layers if not isinstance(layer, _core.Dense))
    return ", ".join(["-".join(map(str, widths)), *(f"{count} {name}" for name, count in others.items())])
