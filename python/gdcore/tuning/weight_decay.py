"""Weight decay and networks converted to data in other units (slides 44-46).

As units are arbitrary, a network trained on x and y should be the same function as one trained on x' = a x + b and
y' = c y + d, up to those two maps. The error allows it: weights w' = T(w) undo the maps exactly (slides 44-45)::

    first layer  w_ji → w_ji / a     w_j0 → w_j0 - (b/a) Σ_i w_ji
    last layer   w_kj → c w_kj       w_k0 → c w_k0 + d

One λ for all weights prevents it, as a layer's sum of squares changes by another factor than the error. The condition
is Ẽ'(T(w)) = s Ẽ(w) for *all* w, with one factor s: T then maps every minimum of Ẽ to one of Ẽ'.

- Error: that of class labels is unchanged, s = 1; there is no y to scale. The mean of squares of y' - t' = c (y - t)
  is c² times that of y - t, so s = c².
- Penalty: Σ w'² is Σ w² / a² in the first layer and c² Σ w² in the last; the layers between are unchanged.

Hence λ' = s a² λ in the first layer, s λ / c² in the last, s λ between, and with both factors where the first layer is
the last. For the mean of squares that is a² c² λ, λ and c² λ. The slide prints λ₁ → a^(1/2) λ₁ and λ₂ → c^(-1/2) λ₂:
the signs are right, but the exponents that restore the penalty are 2 and -2; and the factor s, common to all layers, is
needed because this error is measured in units of y².
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import Dense, Embedding, Periodic, PiecewiseLinear, Residual
from ..internal.arguments import explained
from ..internal.arrays import Array, Data, to_array
from ..internal.checks import has_keys, instance, real, shown
from ..internal.features import FeatureNames, by_column
from ..internal.layer_names import path_of
from ..model import Sequential
from ..network.layers import rebuilt
from ..standardizer import Standardizer

__all__ = ["consistent_weight_decay", "transform_network"]

EXAMPLE = "gd.Sequential(gd.Dense(2, 1))"


@explained
def consistent_weight_decay(
    model: Sequential, weight_decay: float | Sequence[float], *, x_scale: float = 1.0, y_scale: float = 1.0
) -> list[float]:
    """Return one λ for each layer with weights, such that training on scaled data gives the same function.

    If a network minimises the loss with `weight_decay` on data (x, y), the same network, its weights changed by
    `transform_network`, minimises the loss with the result on (a x + b, c y + d)::

        optimizer = gd.SGD(0.1, weight_decay=gd.consistent_weight_decay(model, 1e-3, x_scale=1000.0))

    Shifts b and d need no change, as biases (and γ, β) do not decay.

    Parameters
    ----------
    model : Sequential
        A model of the trained architecture; only its layers are used.
    weight_decay : float or sequence of float
        λ for the original data: one number, or one for each layer with weights. At least 0.
    x_scale : float
        a, not 0: new input = a · old input + b, the same a for all features.
    y_scale : float
        c, not 0: new target = c · old target + d. For `MeanSquaredError` only; classes have no scale.

    Returns
    -------
    list of float
        λ for each layer with weights, in order: the argument ``weight_decay`` of optimisers. With s = c², the factor
        on the mean of squares: s a² λ for the first, s λ / c² = λ for the last, s λ between, a² λ for an only layer.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a scale is 0 or not finite, λ is negative, the numbers do not fit the model's layers, or the first or last
        layer cannot undo the scaling (see Notes).

    Notes
    -----
    The chapter's slide 46 prints a^(1/2) and c^(-1/2); the top of this module and docs/training-tools.md derive the
    correct factors.

    - To undo a scale of x, the first layer must be `Dense`; to undo one of y, the last must be. Norms, activations and
      `Dropout` between them do not matter. A norm that sees x itself is refused: its eps makes it no exact inverse.
    - A `Standardizer` before the first `Dense` is assumed to be fitted to the new x, as by `transform_network`: the
      next layers then get the same values as before, so a has no effect.
    - A scale for each feature is not possible: it would need a λ for each column of the first weight. A `Standardizer`
      makes it unnecessary.
    - Minima correspond, paths do not: gradient descent itself is not invariant under scaling. `Adam` with
      ``decoupled=True`` has no penalty in its loss and is not covered.
    """
    instance(model, Sequential, "model", EXAMPLE)
    why = "each feature its own needs a λ for each column of the first weight; Standardizer makes that unnecessary"
    a = _scale(x_scale, "x_scale", why)
    c = _scale(y_scale, "y_scale", "each output its own changes its share of the loss; standardise y instead")
    for i, layer in enumerate(model.layers):
        if isinstance(layer, (Embedding, Periodic, PiecewiseLinear, Residual)):
            raise ValueError(f"model: layers[{i}] is a {type(layer).__name__}; expected a chain of Dense layers")
    decay = _per_layer(weight_decay, sum(isinstance(layer, Dense) for layer in model.layers))
    factors = [c * c] * len(decay)  # s: the error, and so the penalty, is c² times as large
    if a != 1.0 and _first(model, "x_scale") == 0:  # after a Standardizer a has no effect
        factors[0] *= a * a
    if c != 1.0:
        _last(model, "y_scale")
        factors[-1] /= c * c
    return [factor * value for factor, value in zip(factors, decay, strict=True)]


@explained
def transform_network(
    model: Sequential, *, x_scale: Data = 1.0, x_shift: Data = 0.0, y_scale: Data = 1.0, y_shift: Data = 0.0
) -> Sequential:
    """Return a copy of a network that computes the same function of data in other units (slides 44-45).

    With x' = a x + b and y' = c y + d, the copy f' has f'(a x + b) = c f(x) + d for every x, up to rounding. The first
    Dense layer takes w_ji / a_i and w_j0 - Σ_i (b_i/a_i) w_ji, the last c_k w_kj and c_k w_k0 + d_k. A `Standardizer`
    before the first Dense takes a μ + b and the absolute value of a σ, as if fitted to the new x; Dense then takes only
    the signs of a.

    Parameters
    ----------
    model : Sequential
        Any model; not changed.
    x_scale, x_shift : float or array
        a (not 0) and b: one number, or one for each input, shape (in_features,); those of a pandas Series or a mapping
        by ``model.feature_names``.
    y_scale, y_shift : float or array
        c (not 0) and d: one number, or one for each output, shape (out_features,).

    Returns
    -------
    Sequential
        A model of the same layers, seed, dtype, class names and frozen parameters.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a scale is 0, something is not finite, a shape does not fit, the first (or last) layer is no `Dense`, or it
        lacks the bias that a shift needs.
    """
    instance(model, Sequential, "model", EXAMPLE)
    names, inputs, outputs = model.feature_names, model.in_features, model.out_features
    a, b = _numbers(x_scale, "x_scale", inputs, names), _numbers(x_shift, "x_shift", inputs, names)
    c, d = _numbers(y_scale, "y_scale", outputs, None), _numbers(y_shift, "y_shift", outputs, None)
    for name, values in (("x_scale", a), ("y_scale", c)):
        if not values.all():
            raise ValueError(f"{name}: got 0; expected a nonzero number")
    first = _first(model, "x_scale") if (a != 1).any() or b.any() else None
    last = _last(model, "y_scale") if (c != 1).any() or d.any() else None
    new = model.clone()
    if first is not None and isinstance(model.layers[0], Standardizer):
        new = _standardized(model, a, b)
        a, b = np.sign(a), np.zeros_like(b)
    if first is not None:
        weight, bias = _arrays(new, first, "x_shift", needs_bias=bool(b.any()))
        if bias is not None:
            bias -= (np.asarray(weight) * (b / a)).sum(axis=1)
        weight /= a
    if last is not None:
        weight, bias = _arrays(new, last, "y_shift", needs_bias=bool(d.any()))
        weight *= c[:, None]
        if bias is not None:
            bias *= c
            bias += d
    return new


def _first(model: Sequential, name: str) -> int:
    """Return the number of the layer that can undo a map of x: Dense, with at most a Standardizer before it."""
    at = 1 if isinstance(model.layers[0], Standardizer) and len(model.layers) > 1 else 0
    if not isinstance(model.layers[at], Dense):
        raise ValueError(
            f"{name}: the model's first layer is {shown(model.layers[at])}, which cannot compensate a change of x; "
            "expected Dense, or Standardizer and Dense"
        )
    return at


def _last(model: Sequential, name: str) -> int:
    """Return the number of the layer that can undo a map of y: the last, which must be Dense."""
    if not isinstance(model.layers[-1], Dense):
        raise ValueError(
            f"{name}: the model's last layer is {shown(model.layers[-1])}, which cannot compensate a change of y; "
            "expected Dense"
        )
    if model.classes is not None or model.outputs in ("classes", "yes_no"):
        raise ValueError(f"{name}: the model has classes, which have no units; expected 1, and no shift")
    if model.outputs == "counts":
        raise ValueError(f"{name}: the model's outputs are logarithms of counts; expected 1, and no shift")
    return len(model.layers) - 1


def _scale(value: Any, name: str, why: str) -> float:
    """Return a scale, not 0; `why` is the reason against more than one."""
    if np.ndim(value) > 0:
        raise ValueError(f"{name}: got {np.size(value)} numbers; expected one ({why})")
    number = real(value, name)
    if number == 0:
        raise ValueError(f"{name}: got 0; expected a nonzero number")
    return number


def _per_layer(weight_decay: object, layers: int) -> list[float]:
    """Return λ for each layer with weights."""
    if layers == 0:
        raise ValueError("model: got no layer with weights; expected a Dense layer")
    if isinstance(weight_decay, (str, bytes)) or has_keys(weight_decay):
        raise TypeError(
            f"weight_decay: got {shown(weight_decay)}; expected a number, or one for each layer with weights"
        )
    array = to_array(weight_decay, "weight_decay")
    if array.ndim == 0:
        return [real(weight_decay, "weight_decay", low=0.0)] * layers
    numbers = [real(value, f"weight_decay[{i}]", low=0.0) for i, value in enumerate(array)]
    if len(numbers) != layers:
        raise ValueError(
            f"weight_decay: got {len(numbers)} numbers; expected {layers}, one for each layer with weights"
        )
    return numbers


def _numbers(value: Data, name: str, size: int, columns: FeatureNames | None) -> npt.NDArray[np.float64]:
    """Return one number, or one for each feature, as a float64 vector (size,)."""
    array = np.asarray(to_array(by_column(value, columns, name), name), np.float64)
    if array.shape not in ((), (size,)):
        raise ValueError(f"{name}: got shape {array.shape}; expected a number, or ({size},)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got {shown(value)}; expected finite numbers")
    return np.broadcast_to(array, (size,))


def _arrays(model: Sequential, layer: int, shift: str, *, needs_bias: bool) -> tuple[Array, Array | None]:
    """Return views of a Dense layer's weight and bias."""
    parameters = model.parameters()
    path = path_of(model.layers[layer], layer)
    bias = parameters.get(f"{path}.bias")
    if bias is None and needs_bias:
        raise ValueError(f"{shift}: layer {layer} of the model has no bias, which a shift needs; expected 0")
    return parameters[f"{path}.weight"], bias


def _standardized(model: Sequential, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Sequential:
    """Return a copy whose first layer is the Standardizer that a x + b would have given."""
    own = f"{path_of(model.layers[0], 0)}."
    mean, std = (np.asarray(model.buffers()[own + name], np.float64).ravel() for name in ("mean", "std"))
    scale = {"mean": list(a * mean + b), "std": list(np.abs(a) * std)}
    layer = Standardizer(model.in_features, **scale, feature_names=model.feature_names, name=model.layers[0].name)
    layers = (layer, *model.layers[1:])
    new = rebuilt(type(model), layers, model.settings(), model.frozen(), model.copy_state())
    for name, values in scale.items():
        new.buffers()[own + name][...] = values
    return new
