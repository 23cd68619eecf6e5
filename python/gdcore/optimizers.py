"""`AdamW`, a name for `Adam` with decoupled weight decay; the optimisers themselves are in the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ._core import Adam, Optimizer
from .internal.arguments import explained
from .internal.attributes import Hinted

__all__ = ["AdamW"]


setattr(Optimizer, "__getattr__", vars(Hinted)["__getattr__"])  # noqa: B010, a class of the core has no bases here


@explained
def AdamW(
    lr: float | Callable[[int], float],
    betas: tuple[float | Callable[[int], float], float] = (0.9, 0.99),
    *,
    eps: float = 1e-8,
    weight_decay: float | Sequence[float] | Mapping[str, float] | Callable[[int], float] = 0.01,
    decay_biases: bool = False,
    lr_factors: Sequence[float] | Mapping[str, float] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
) -> Adam:
    """Return ``Adam(lr, ..., decoupled=True)``: w ← w - η (ŝ / (√r̂ + eps) + λw) (Loshchilov & Hutter 2019).

    The decay does not enter the averages s and r, unlike that of `Adam`, whose gradient is g + λw. A schedule of η
    multiplies the decay too, as in the paper. There the base rate does not: the paper's λ is lr · `weight_decay` here,
    as in PyTorch.

    Parameters
    ----------
    lr, betas, eps, decay_biases, lr_factors, clip_norm, clip_value
        As for `Adam`; β₂ is 0.99 by default (PyTorch: 0.999).
    weight_decay : float, sequence, dict or callable
        λ, of the forms that `Adam` takes. Biases, γ and β do not decay unless they are named (PyTorch: they do).
    """
    return Adam(
        lr,
        betas,
        eps=eps,
        decoupled=True,
        weight_decay=weight_decay,
        decay_biases=decay_biases,
        lr_factors=lr_factors,
        clip_norm=clip_norm,
        clip_value=clip_value,
    )
