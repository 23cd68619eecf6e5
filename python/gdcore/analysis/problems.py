"""Small problems with closed-form solutions, and training runs on them that record every step.

`quadratic_problem` makes a regression with a given Hessian, `descend` trains on it, `apply_gradients` applies an
optimiser to given gradients. The gallery and the reproductions use them. Their models stay on the CPU, so that the
figures do not depend on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arrays import Data, to_array
from ..internal.checks import instance, integer, real
from ..model import Sequential
from ..trainer import Trainer
from .initialization import variance_by_layer
from .noise import GradientNoise, gradient_noise
from .objective import Objective, Vector, finite_array

__all__ = ["GradientSteps", "QuadraticProblem", "apply_gradients", "descend", "quadratic_problem", "training_path"]


@dataclass(frozen=True)
class QuadraticProblem:
    """A regression of n inputs with the mean squared error ½ Σ λ_i α_i²; α are the coordinates of w - w* in a basis.

    Attributes
    ----------
    x, y : ndarray
        The data, (n, n) and (n,).
    eigenvalues : ndarray
        λ_i, shape (n,).
    basis : ndarray
        The eigenvectors u_i in the columns, (n, n).
    minimum : ndarray
        w*, shape (n,).
    """

    x: Vector
    y: Vector
    eigenvalues: Vector
    basis: Vector
    minimum: Vector

    def model(self, start: npt.ArrayLike) -> Sequential:
        """Return a float64 model of n weights with the values `start`, shape (n,)."""
        model = Sequential(_core.Dense(len(self.minimum), 1, bias=False), seed=0, dtype="float64", device="cpu")
        model.parameters()["layers.0.weight"][...] = _numbers(start, "start", self.minimum.shape)
        return model

    def trainer(self, optimizer: _core.Optimizer, start: npt.ArrayLike) -> Trainer:
        """Return a trainer of `model(start)` on the mean squared error."""
        return Trainer(self.model(start), _core.MeanSquaredError(), optimizer=optimizer)

    def objective(self, weight_decay: float = 0.0) -> Objective:
        """Return the error as a function of w, plus λ/2 wᵀw with a weight decay λ."""
        model = self.model(self.minimum)
        return Objective(model, _core.MeanSquaredError(), self.x, self.y, weight_decay=weight_decay)

    def coordinates(self, w: Vector) -> Vector:
        """Return α of the points `w`, in the shape of `w`: (..., n)."""
        return np.asarray((w - self.minimum) @ self.basis)


def quadratic_problem(
    eigenvalues: npt.ArrayLike, basis: npt.ArrayLike | None = None, *, minimum: npt.ArrayLike | None = None
) -> QuadraticProblem:
    """Return a regression with a given Hessian: that of the mean of n squares is 2 XᵀX / n, so X = √(n/2) Λ^½ Uᵀ.

    Parameters
    ----------
    eigenvalues : array
        λ_i, at least 0, shape (n,).
    basis : array, optional
        Orthonormal eigenvectors in the columns of (n, n). Default: the axes of the weights.
    minimum : array, optional
        w*, shape (n,). Default: the origin.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a finite numeric array of the right shape, an eigenvalue is negative, or `basis` is not
        orthonormal.
    """
    values = _numbers(eigenvalues, "eigenvalues", None)
    if values.min() < 0:
        raise ValueError(f"eigenvalues: got {values.min():g}; expected numbers of at least 0")
    n = len(values)
    u = np.eye(n) if basis is None else _numbers(basis, "basis", (n, n))
    if not np.allclose(u.T @ u, np.eye(n), atol=1e-9):
        raise ValueError("basis: got columns that are not orthonormal; expected an orthogonal matrix")
    w = np.zeros(n) if minimum is None else _numbers(minimum, "minimum", (n,))
    x = np.sqrt(0.5 * n * values)[:, None] * u.T
    return QuadraticProblem(x, x @ w, values, u, w)


def random_rotation(n: int, rng: np.random.Generator) -> Vector:
    """Return n orthonormal vectors drawn at random, in the columns of (n, n)."""
    return np.asarray(np.linalg.qr(rng.standard_normal((n, n)))[0])


def _numbers(value: npt.ArrayLike, name: str, shape: tuple[int, ...] | None) -> Vector:
    """Return `value` as a finite float64 array of this shape, or of any shape (n,)."""
    array = np.asarray(to_array(value, name), dtype=np.float64)
    if array.shape != shape and (shape is not None or array.ndim != 1 or not array.size):
        raise ValueError(f"{name}: got shape {array.shape}; expected {shape or '(n,), n at least 1'}")
    finite_array(array, name)
    return array


def training_path(trainer: Trainer, x: Data, y: Data, steps: int) -> Vector:
    """Train with all rows in each step, and return the path of the parameters.

    Parameters
    ----------
    trainer : Trainer
        The trainer of a model in float64.
    x, y : array
        Inputs (N, in_features) and targets, as for `Trainer.step`.
    steps : int
        Number of steps, T.

    Returns
    -------
    ndarray
        All P parameters before the first step and after each, shape (T + 1, P).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    DivergenceError
        If the error becomes infinite.
    """
    views = [view.reshape(-1) for view in trainer.model.parameters().values()]
    path = [np.concatenate(views)]
    for _ in range(integer(steps, "steps")):
        trainer.step(x, y)
        path.append(np.concatenate(views))
    return np.array(path)


def descend(problem: QuadraticProblem, optimizer: _core.Optimizer, start: npt.ArrayLike, steps: int) -> Vector:
    """Train on a `quadratic_problem` with all rows in each step, and return the path.

    Parameters
    ----------
    problem : QuadraticProblem
        A problem of n weights.
    optimizer : Optimizer
        Such as ``gd.SGD(lr=0.1)``.
    start : array
        Initial weights, shape (n,).
    steps : int
        Number of steps, T.

    Returns
    -------
    ndarray
        The weights before the first step and after each, shape (T + 1, n).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    DivergenceError
        If the error becomes infinite.
    """
    instance(problem, QuadraticProblem, "problem", "quadratic_problem([1, 25])")
    return training_path(problem.trainer(optimizer, start), problem.x, problem.y, steps)


@dataclass(frozen=True)
class GradientSteps:
    """The steps of an optimiser for T given gradients of one weight.

    Attributes
    ----------
    weights : ndarray
        The weight before the first step and after each, shape (T + 1,).
    states : list of ndarray
        The optimiser's states after each step, (T,) each: the velocity of `Momentum`, the two moments of `Adam`.
    """

    weights: Vector
    states: list[Vector]

    @property
    def steps(self) -> Vector:
        """The changes of the weight, shape (T,)."""
        return np.diff(self.weights)


def apply_gradients(optimizer: _core.Optimizer, gradients: Iterable[float]) -> GradientSteps:
    """Apply an optimiser to a sequence of gradients, for a model of one weight that starts at 0.

    Parameters
    ----------
    optimizer : Optimizer
        Such as ``gd.Momentum(lr=0.1)``.
    gradients : iterable of float
        The T gradients.

    Returns
    -------
    GradientSteps
        ``weights`` (T + 1,), ``steps`` (T,) and ``states``, a list of the optimiser's states, (T,) each.

    Raises
    ------
    TypeError
        If `optimizer` is not an optimiser, or a gradient is not a number.
    ValueError
        If a gradient is not finite.
    """
    model = Sequential(_core.Dense(1, 1, bias=False, init=_core.Constant(0.0)), seed=0, dtype="float64", device="cpu")
    trainer = Trainer(model, _core.MeanSquaredError(), optimizer=optimizer)
    weight, one = model.parameters()["layers.0.weight"], np.ones((1, 1))
    weights, states = [0.0], []
    for i, gradient in enumerate(gradients):
        model.forward(one)
        slope = np.full((1, 1), real(gradient, f"gradients[{i}]"))
        model.backward(slope)  # the input is 1, so this is the gradient of the weight
        trainer.optimizer_step()
        weights.append(float(weight[0, 0]))
        states.append([float(state[0, 0]) for state in trainer.core.state().values()])
    return GradientSteps(np.array(weights), [np.array(column) for column in zip(*states, strict=True)])


# -------------------------------------------------------------------------- measurements shared by several figures
DEPTH, WIDTH = 30, 256  # hidden layers of the deep network, and units of each


def momentum_steps(mu: float, steps: int) -> tuple[Vector, Vector]:
    """Return the lengths of momentum's steps divided by η, for a constant gradient 1 and for one alternating 1, -1."""
    lr = 0.01
    optimizer = _core.Momentum(lr=lr, momentum=mu)
    slope, ravine = (apply_gradients(optimizer, [sign**t for t in range(steps)]) for sign in (1.0, -1.0))
    return np.abs(slope.steps) / lr, np.abs(ravine.steps) / lr


def adam_moments(steps: int, seed: int = 0) -> tuple[Vector, Vector, Vector]:
    """Return gradients of mean 1, Adam's running mean s of them, and the bias-corrected ŝ: (steps,) each.

    s is read from the optimiser's state, ŝ from its steps: with δ far above √r̂ a step is -(η/δ) ŝ (slide 31).
    """
    gradients = 1 + 0.25 * np.random.default_rng(seed).standard_normal(steps)
    run = apply_gradients(_core.Adam(lr=1e9, eps=1e9), gradients)
    return gradients, run.states[0], -run.steps


def network_noise(seed: int = 0) -> GradientNoise:
    """Measure the gradient noise of a small network for batches of 1 to 1,000 rows (slides 15-16)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1000, 5))
    y = np.sin(x[:, 0]) + 0.5 * rng.standard_normal(len(x))
    model = Sequential(_core.Dense(5, 20), _core.Tanh(), _core.Dense(20, 1), seed=seed, dtype="float64", device="cpu")
    return gradient_noise(model, _core.MeanSquaredError(), x, y, batch_sizes=(1, 3, 10, 32, 100, 316, 1000))


def relu_signal(init: _core.Initializer, seed: int = 0) -> Vector:
    """Return E[z²] of each layer of a deep ReLU network divided by that of the inputs: (DEPTH + 1,) (slides 18-20).

    The biases are 0, as in the slides' derivation.
    """
    dense = _core.Dense(WIDTH, WIDTH, init=init, bias_init=_core.Constant(0.0))
    hidden = [layer for _ in range(DEPTH) for layer in (dense, _core.ReLU())]
    model = Sequential(*hidden, _core.Dense(WIDTH, 1, init=init), seed=seed, device="cpu")
    report = variance_by_layer(model, np.random.default_rng(0).standard_normal((16, WIDTH)))
    squares = report.mean_square[list(report.reads)]
    return np.asarray(squares / squares[0])
