"""Pictures of data and initialisation: gradient noise, He's variance, scaled inputs (slides 15-20 and 34)."""

from __future__ import annotations

import os

import numpy as np

from ... import _core
from ...analysis.objective import Objective
from ...analysis.problems import DEPTH, WIDTH, network_noise, relu_signal, training_path
from ...analysis.quadratic import QuadraticModel
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, INK, VERMILION, dress, new_axes, save
from ...standardizer import Standardizer
from ...trainer import Trainer
from ._surfaces import contours, plain, star, trace

__all__ = ["gradient_noise", "he_variance", "normalised_inputs"]

PathLike = str | os.PathLike[str]


def gradient_noise(path: PathLike) -> None:
    """Draw the noise of a mini-batch's gradient against the batch size: it falls as 1/√K (slides 15-16)."""
    network_noise().plot(path)


def he_variance(path: PathLike) -> None:
    """Draw the signal in 30 layers of ReLU: He's ε = √(2/M) keeps it, 1/√M halves it in each layer (slides 18-20)."""
    axes = new_axes(True, "gallery")
    depth, ends = np.arange(DEPTH + 1), []
    for init, label, colour, marker, factor in (
        (_core.HeNormal(), "ε = √(2/M)", BLUE, "o", 1.0),
        (_core.Normal(WIDTH**-0.5), "ε = 1/√M", VERMILION, "^", 0.5),
    ):
        z = relu_signal(init)
        axes.plot(depth, factor**depth, ls=DASHED, color=colour, lw=1.2)
        axes.plot(depth, z, marker, ms=5, color=colour, label=label)
        ends.append(z[-1])
    axes.plot([], [], ls=DASHED, color=INK, lw=1.2, label="predicted: 1 and 2^-L")
    axes.set_yscale("log")
    title = f"{DEPTH} layers of ReLU multiply the signal by {ends[0]:.1f} with He's ε, by {ends[1]:.0e} with 1/√M"
    dress(axes, title, "layers of ReLU passed, L", "mean square E[z²] / that of the inputs")
    save(axes, path)


def normalised_inputs(path: PathLike) -> None:
    """Draw descent before and after standardising the inputs: a narrow valley becomes round (slide 34)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2)) * [1.0, 8.0]
    y = x @ [1.5, -0.3] + 0.1 * rng.standard_normal(200)
    panels = new_axes(True, "gallery", size=(9, 3.4), columns=3)
    looks = ((BLUE, "o", "-"), (VERMILION, "^", DASHED))
    conditions, curves = [], []
    for axes, scaled, (colour, marker, _) in zip(panels, (False, True), looks, strict=False):
        first = [Standardizer().fit(x)] if scaled else []
        model = Sequential(
            *first, _core.Dense(2, 1, bias=False, init=_core.Constant(0.0)), seed=0, dtype="float64", device="cpu"
        )
        problem = (model, _core.MeanSquaredError(), x, y)
        surface, objective = QuadraticModel(*problem), Objective(*problem)
        low, high = surface.eigenvalues
        conditions.append(high / low)
        points = training_path(Trainer(*problem[:2], optimizer=_core.SGD(lr=2 / (low + high))), x, y, 100)
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
    save(panels[0], path, title=title)
