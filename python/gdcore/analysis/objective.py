"""`Objective`: a model's mean loss over data, with or without weight decay, as a function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data, to_array
from ..internal.attributes import Made
from ..internal.checks import choice, instance, shown
from ..internal.class_weights import complete
from ..internal.prepared import prepared
from ..model import Sequential
from ..trainer import Trainer

__all__ = ["Mode", "Objective", "Vector", "in_float64"]

Vector: TypeAlias = npt.NDArray[np.float64]
Mode: TypeAlias = Literal["training", "prediction"]
Decay: TypeAlias = float | Sequence[float] | Mapping[str, float]


@explained
class Objective(Made):
    """A model's mean loss E(w) over data, as a function of the vector w of its parameters.

    The functions of `gdcore.analysis` use it; those of curvature take one in place of ``model, loss, x, y``. Use it
    directly to compute several results for the same data, to include weight decay, or to pass E and its derivatives to
    a SciPy optimiser.

    Parameters
    ----------
    model : Sequential
        A model in float64 (`in_float64` returns a copy in float64). It is only read: its parameters, gradients and
        running averages do not change.
    loss : Loss
        Such as ``gd.CrossEntropy()``; class weights by class, or "balanced", are resolved as in `Trainer.fit`.
    x, y : array
        Inputs (N, in_features) and targets, as for `Trainer.fit`. They are copied only if necessary, so do not change
        them.
    mode : {"training", "prediction"}
        The loss that is differentiated. "training": the N rows are one training batch, so `BatchNorm` normalises by
        their mean and standard deviation (which couples the rows) and `Dropout` uses the same mask every time.
        "prediction": BatchNorm's running averages are constants and Dropout does nothing. For models without these
        layers both modes are the same.
    sample_weight : array, optional
        A weight for each row, shape (N,).
    weight_decay : float, sequence or dict
        λ of a penalty: E is then the mean loss plus ½ Σ λ_i w_i² (slide 42), as an optimiser with the same
        ``weight_decay`` minimises it: one number, one for each layer with weights, or by name. At least 0. `Adam` with
        ``decoupled=True`` has no such penalty.
    decay_biases : bool
        Decay biases, γ and β too, as for optimisers. Default: only weights, and what a name asks for.

    Attributes
    ----------
    decay : ndarray
        λ_i of each parameter, shape (P,), read-only; zeros without weight decay.

    Raises
    ------
    TypeError
        If the model is not in float64, or an argument has the wrong type.
    ValueError
        If shapes or labels do not fit, data holds NaN or infinity, all parameters are frozen, or `weight_decay` holds a
        negative or infinite number or NaN, or does not fit the model's layers.

    Notes
    -----
    The function of w does not change when the model trains further: frozen parameters, running averages and dropout
    masks are those at construction. Only the default of every w, the model's current parameters, changes.

    A vector (P,) is ordered as ``model.flat_parameters()``: the parameters in the order of ``model.parameters()``, each
    array flattened row by row, without frozen ones. Gradients are computed by backpropagation, Hessian-vector products
    by forward-over-reverse differentiation (Pearlmutter 1994): exact up to rounding, with about 8/3 of the matrix
    products of a gradient. At a kink (ReLU at 0) the second derivative is taken as 0.
    """

    _made = ("model", "loss", "x", "y", "mode", "sample_weight", "core", "decay")

    def __init__(
        self,
        model: Sequential,
        loss: _core.Loss,
        x: Data,
        y: Data,
        *,
        mode: Mode = "training",
        sample_weight: Data | None = None,
        weight_decay: Decay = 0.0,
        decay_biases: bool = False,
    ) -> None:
        self.model = float64_model(model)
        instance(loss, _core.Loss, "loss", "gd.CrossEntropy()")
        choice(mode, "mode", ("training", "prediction"))
        self.mode: Mode = mode
        given = prepared(self.model, loss, x, y, sample_weight)
        self.loss = complete(loss, self.model, given.y.array)
        self.x, self.y, self.sample_weight = given.x.array, given.y.array, given.weights
        dataset = _core.Dataset(self.x, self.y, self.sample_weight, self.loss, self.model)
        finite_model(self.model)
        self.core = _core.Curvature(self.model, self.loss, dataset, training=self.mode == "training")
        self._trained = [name for name in self.model.parameters() if name not in set(self.model.frozen())]
        self.decay = _decay_of(self.model, self.loss, weight_decay, decay_biases)
        self.decay.flags.writeable = False
        self._decays = bool(self.decay.any())

    @property
    def size(self) -> int:
        """P, the number of trainable parameters."""
        return int(self.core.size)

    @property
    def point(self) -> Vector:
        """The model's current parameters as a vector (P,), a copy."""
        return np.asarray(self.core.point())

    def arrays(self, vector: npt.ArrayLike) -> dict[str, Vector]:
        """Return a vector (P,) as arrays by name, in the shapes of ``model.parameters()``."""
        rest = self.vector(vector, "vector")
        arrays: dict[str, Vector] = {}
        for name in self._trained:
            like = self.model.parameters()[name]
            arrays[name] = rest[: like.size].reshape(like.shape)
            rest = rest[like.size :]
        return arrays

    def move(self, w: npt.ArrayLike) -> None:
        """Set the model's parameters to the vector `w` (P,); the only method that changes the model."""
        for name, values in self.arrays(w).items():
            self.model.parameters()[name][...] = values

    def value(self, w: npt.ArrayLike | None = None) -> float:
        """Return E at `w` (P,), default the model's parameters."""
        return self.height(self._point(w))

    def height(self, w: Vector) -> float:
        """Return E at `w` (P,) as `value` does, without checks of the argument."""
        return float(self.core.loss(w)) + self._penalty(w)

    def gradient(self, w: npt.ArrayLike | None = None) -> Vector:
        """Return ∇E, shape (P,), at `w` (P,), default the model's parameters."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w: npt.ArrayLike | None = None) -> tuple[float, Vector]:
        """Return E and ∇E at the cost of the gradient, for ``scipy.optimize.minimize(..., jac=True)``."""
        point = self._point(w)
        value, gradient = self.core.gradient(point)
        if not self._decays:
            return float(value), np.asarray(gradient)
        return float(value) + self._penalty(point), np.asarray(gradient + self.decay * point)

    def hvp(self, v: npt.ArrayLike, w: npt.ArrayLike | None = None) -> Vector:
        """Return H v, shape (P,): the Hessian at `w`, default the model's parameters, times the vector `v` (P,)."""
        return self.product(self.vector(v, "v"), self._point(w))

    def product(self, v: Vector, w: Vector) -> Vector:
        """Return H v as `hvp` does, without checks of the arguments; raise ValueError if it is not finite."""
        product = np.asarray(self.core.product(v, w))
        if self._decays:
            product = product + self.decay * v
        if not np.isfinite(product).all():
            raise ValueError(
                "model: second derivatives of E overflow float64 at this point; expected smaller parameters"
            )
        return product

    def vector(self, value: npt.ArrayLike, name: str) -> Vector:
        """Return `value` as a contiguous, finite float64 vector (P,); raise ValueError naming it otherwise."""
        array = np.ascontiguousarray(to_array(value, name), dtype=np.float64)
        if array.shape != (self.size,):
            raise ValueError(
                f"{name}: got shape {array.shape}; expected ({self.size},), one number for each trainable parameter"
            )
        finite_array(array, name)
        return array

    def _penalty(self, w: Vector) -> float:
        """Return ½ Σ λ_i w_i²."""
        if not self._decays:
            return 0.0
        with np.errstate(over="ignore"):  # infinite, as the loss there
            return 0.5 * float(self.decay * w @ w)  # not w², which may overflow where λ_i is small or 0

    def _point(self, w: npt.ArrayLike | None) -> Vector:
        if w is None:
            finite_model(self.model)
            return self.point
        return self.vector(w, "w")


def _decay_of(model: Sequential, loss: _core.Loss, weight_decay: Decay, decay_biases: bool) -> Vector:
    """Return λ for each trainable parameter, (P,), as the core reads these settings of an optimiser.

    After one step of rate 1 from parameters of 1 with gradients of 0, the velocity of `Momentum` is -λ.
    """
    if callable(weight_decay):
        raise TypeError(
            f"weight_decay: got {shown(weight_decay)}, a function of the step; expected those of one step, such as "
            "weight_decay=schedule(0)"
        )
    optimizer = _core.Momentum(1.0, weight_decay=weight_decay, decay_biases=decay_biases)
    trained = [name for name in model.parameters() if name not in set(model.frozen())]
    if optimizer.weight_decay == 0.0:
        return np.zeros(sum(model.parameters()[name].size for name in trained))
    copied = model.clone(device="cpu")
    trainer = Trainer(copied, loss, optimizer=optimizer)
    # A pass makes the gradients: of parameters of 0, so that nothing overflows, and two rows, which BatchNorm needs.
    for array in copied.parameters().values():
        array[...] = 0.0
    copied.backward(np.zeros_like(copied.forward(np.zeros((2, model.in_features)))))
    for name in trained:
        copied.parameters()[name][...] = 1.0
        copied.gradients()[name][...] = 0.0
    trainer.optimizer_step()
    velocities = dict(zip(copied.parameters(), trainer.core.state().values(), strict=True))
    return np.concatenate([np.abs(np.ravel(velocities[name])) for name in trained])


def as_objective(model: Any, loss: Any, x: Any, y: Any, **options: Any) -> Objective:
    """Return `model` if it is an Objective, or make one from the arguments of a call.

    `options` holds the call's other arguments of `Objective`. Raises TypeError if other data is given together with an
    Objective.
    """
    if not isinstance(model, Objective):
        return Objective(model, loss, x, y, **options)
    refuse_beside("Objective", loss=loss, x=x, y=y, **options)
    return model


DEFAULTS = {"mode": "training", "weight_decay": 0.0, "decay_biases": False}


def refuse_beside(kind: str, **beside: Any) -> None:
    """Raise TypeError naming an argument that is given together with an object that contains it."""
    for name, value in beside.items():
        usual = isinstance(value, (str, int, float)) and value == DEFAULTS.get(name)
        if value is not None and value is not False and not usual:
            raise TypeError(f"{name}: got {shown(value)}; expected None, as the {kind} contains it")


def point_at(objective: Objective, at: npt.ArrayLike | None, name: str = "at") -> Vector:
    """Return the point `at`, default the model's parameters; raise ValueError if it or E there is not finite."""
    if at is None:
        finite_model(objective.model)
    point = objective.point if at is None else objective.vector(at, name)
    value = objective.height(point)
    if not np.isfinite(value):
        raise ValueError(
            f"{'model' if at is None else name}: got a point where E is {value}; expected one where it is finite"
        )
    return point


def finite_model(model: Sequential) -> None:
    """Raise ValueError naming the first parameter of a model that holds NaN or infinity."""
    for name, array in model.parameters().items():
        if not np.isfinite(array).all():
            raise ValueError(f"model: got NaN or infinity in {name}; expected finite parameters")


def float64_model(model: object) -> Sequential:
    """Return `model` if it is a Sequential in float64; raise TypeError naming it otherwise."""
    checked = instance(model, Sequential, "model", 'gd.Sequential(gd.Dense(2, 1), dtype="float64")')
    if checked.dtype != "float64":
        raise TypeError(
            f"model: got dtype {checked.dtype}; expected float64, as second derivatives in float32 are inaccurate: "
            "gd.analysis.in_float64(model) returns a copy"
        )
    return checked


@explained
def in_float64(model: Sequential) -> Sequential:
    """Return a copy of a model in float64, parameters, running averages and frozen layers included.

    Parameters
    ----------
    model : Sequential
        A model of either dtype.

    Raises
    ------
    TypeError
        If it is not a model.
    """
    instance(model, Sequential, "model", "gd.Sequential(gd.Dense(2, 1))")
    return model.clone(dtype="float64")


def finite_array(array: npt.NDArray[Any], name: str) -> None:
    """Raise ValueError naming the first element of `array` that is NaN or infinite."""
    if not np.isfinite(array).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: got {array[at]} at {shown(at)}; expected finite numbers")
