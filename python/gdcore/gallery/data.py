"""Pictures of data and initialisation: gradient noise, He's variance, scaled inputs (slides 15-20 and 34)."""

from __future__ import annotations

import os

import numpy as np

from .. import _core
from .._figures import BLUE, DASHED, INK, VERMILION, dress, new_axes
from ..analysis import noise
from ..analysis.initialization import variance_by_layer
from ..analysis.noise import GradientNoise
from ..analysis.objective import Objective, Vector
from ..analysis.quadratic import QuadraticModel
from ..model import Sequential
from ._surfaces import contours, finish, plain, star, trace, walk

__all__ = ["gradient_noise", "he_variance", "normalised_inputs"]

PathLike = str | os.PathLike[str]

DEPTH, WIDTH = 30, 256  # of a deep network, and its inputs


def noise_of_a_network() -> GradientNoise:
    """Measure the gradient noise of a small network for batches of 1 to 1,000 rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 5))
    y = np.sin(x[:, 0]) + 0.5 * rng.standard_normal(len(x))
    model = Sequential(_core.Dense(5, 20), _core.Tanh(), _core.Dense(20, 1), seed=0, dtype="float64")
    return noise.gradient_noise(model, _core.MeanSquaredError(), x, y, batch_sizes=(1, 3, 10, 32, 100, 316, 1000))


def gradient_noise(path: PathLike) -> None:
    """Draw the noise of a mini-batch's gradient against the batch size: it falls as 1/√K (slides 15-16)."""
    noise_of_a_network().plot(path)


def signal(init: _core.Initializer, seed: int = 0) -> Vector:
    """Return E[z²] behind each layer of a deep ReLU network over that of its inputs: (DEPTH + 1,)."""
    hidden = [layer for _ in range(DEPTH) for layer in (_core.Dense(WIDTH, WIDTH, init=init), _core.ReLU())]
    model = Sequential(*hidden, _core.Dense(WIDTH, 1, init=init), seed=seed)
    report = variance_by_layer(model, np.random.default_rng(0).standard_normal((16, WIDTH)))
    squares = report.mean_square[list(report.reads)]
    return np.asarray(squares / squares[0])


def he_variance(path: PathLike) -> None:
    """Draw the signal through 30 layers of ReLU: He's ε = √(2/M) keeps it, 1/√M halves it in each (slides 18-20)."""
    axes = new_axes(True, "gallery")
    depth, ends = np.arange(DEPTH + 1), []
    for init, label, colour, marker, factor in (
        (_core.HeNormal(), "ε = √(2/M)", BLUE, "o", 1.0),
        (_core.Normal(WIDTH**-0.5), "ε = 1/√M", VERMILION, "^", 0.5),
    ):
        z = signal(init)
        axes.plot(depth, factor**depth, ls=DASHED, color=colour, lw=1.2)
        axes.plot(depth, z, marker, ms=5, color=colour, label=label)
        ends.append(z[-1])
    axes.plot([], [], ls=DASHED, color=INK, lw=1.2, label="predicted: 1 and 2^-L")
    axes.set_yscale("log")
    title = f"{DEPTH} layers of ReLU multiply the signal by {ends[0]:.1f} with He's ε, by {ends[1]:.0e} with 1/√M"
    dress(axes, title, "layers of ReLU passed, L", "mean square E[z²] / that of the inputs")
    finish(axes.figure, "", path)


def normalised_inputs(path: PathLike) -> None:
    """Draw descent before and after standardising the inputs: a narrow valley becomes round (slide 34)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2)) * [1.0, 8.0]
    y = x @ [1.5, -0.3] + 0.1 * rng.standard_normal(200)
    panels = new_axes(True, "gallery", size=(9, 3.4), columns=3)
    looks = ((BLUE, "o", "-"), (VERMILION, "^", DASHED))
    conditions, curves = [], []
    for axes, scaled, (colour, marker, _) in zip(panels, (False, True), looks, strict=False):
        first = [_core.Standardizer().fit(x)] if scaled else []
        model = Sequential(*first, _core.Dense(2, 1, bias=False, init=_core.Constant(0.0)), seed=0, dtype="float64")
        problem = (model, _core.MeanSquaredError(), x, y)
        surface, objective = QuadraticModel(*problem), Objective(*problem)
        low, high = surface.eigenvalues
        conditions.append(high / low)
        points = walk(model, x, y, _core.SGD(lr=2 / (low + high)), 100)
        curves.append(np.array([objective.value(w) for w in points]) - surface.error(surface.minimum))
        middle = surface.minimum[1] / 2
        contours(axes, objective, (-0.6, 2.6), (middle - 1.6, middle + 1.6))
        trace(axes, points, colour=colour, marker=marker)
        star(axes, surface.minimum)
        dress(axes, f"{'standardised' if scaled else 'as they come'}: λmax/λmin = {high / low:.2g}", "w₁", "w₂")
        plain(axes)
        axes.set_aspect("equal")
    for curve, (colour, _, style), label in zip(curves, looks, ("as they come", "standardised"), strict=True):
        panels[2].plot(np.maximum(curve, 1e-16), color=colour, ls=style, lw=2, label=label)
    panels[2].set_yscale("log")
    panels[2].set_ylim(bottom=1e-10)
    panels[2].set_box_aspect(1)
    dress(panels[2], "the error", "step", "E - E(w*)")
    steps = [int(np.argmax(curve < 0.01 * curve[0])) for curve in curves]
    title = (
        f"Standardised inputs: λmax/λmin is {conditions[1]:.2g} instead of {conditions[0]:.2g}, "
        f"and 1% of the error is left at step {steps[1]}, not {steps[0]}"
    )
    finish(panels[0].figure, title, path)
