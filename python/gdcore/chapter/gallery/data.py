"""Pictures of data and initialisation: gradient noise, He's variance, scaled inputs (slides 15-20 and 34)."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from ... import _core
from ...analysis.objective import Objective, Vector
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


class InputDescent(NamedTuple):
    """Descent from w = 0 in linear regression, at the best learning rate."""

    surface: QuadraticModel
    objective: Objective
    points: Vector  # (T + 1, 2)
    errors: Vector  # E - E(w*) at each point, (T + 1,)

    @property
    def condition(self) -> float:
        """λmax/λmin."""
        low, high = self.surface.eigenvalues
        return float(high / low)

    @property
    def steps(self) -> int:
        """Number of steps until 1 % of the error is left."""
        return int(np.argmax(self.errors < 0.01 * self.errors[0]))


def input_descents(seed: int = 0) -> tuple[InputDescent, InputDescent]:
    """Descend 100 steps on two inputs of different ranges, as they come and standardised (slide 34)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, 2)) * [1.0, 8.0]
    y = x @ [1.5, -0.3] + 0.1 * rng.standard_normal(200)

    def descent(*first: _core.Layer) -> InputDescent:
        dense = _core.Dense(2, 1, bias=False, init=_core.Constant(0.0))
        model = Sequential(*first, dense, seed=0, dtype="float64", device="cpu")
        problem = (model, _core.MeanSquaredError(), x, y)
        surface, objective = QuadraticModel(*problem), Objective(*problem)
        rate = 2 / surface.eigenvalues.sum()
        points = training_path(Trainer(*problem[:2], optimizer=_core.SGD(lr=rate)), x, y, 100)
        errors = np.array([objective.value(w) for w in points]) - surface.error(surface.minimum)
        return InputDescent(surface, objective, points, errors)

    return descent(), descent(Standardizer().fit(x))


def normalised_inputs(path: PathLike) -> None:
    """Draw descent before and after standardising the inputs: a narrow valley becomes round (slide 34)."""
    panels = new_axes(True, "gallery", size=(9, 3.4), columns=3)
    labels, looks = ("as they come", "standardised"), ((BLUE, "o", "-"), (VERMILION, "^", DASHED))
    found = input_descents()
    for axes, run, label, (colour, marker, style) in zip(panels, found, labels, looks, strict=False):
        middle = run.surface.minimum[1] / 2
        contours(axes, run.objective, (-0.6, 2.6), (middle - 1.6, middle + 1.6))
        trace(axes, run.points, colour=colour, marker=marker)
        star(axes, run.surface.minimum)
        dress(axes, f"{label}: λmax/λmin = {run.condition:.2g}", "w₁", "w₂")
        plain(axes)
        axes.set_aspect("equal")
        panels[2].plot(np.maximum(run.errors, 1e-16), color=colour, ls=style, lw=2, label=label)
    panels[2].set_yscale("log")
    panels[2].set_ylim(bottom=1e-10)
    panels[2].set_box_aspect(1)
    dress(panels[2], "the error", "step", "E - E(w*)")
    title = (
        f"Standardised inputs: λmax/λmin is {found[1].condition:.2g} instead of {found[0].condition:.2g}, "
        f"and 1% of the error is left at step {found[1].steps}, not {found[0].steps}"
    )
    save(panels[0], path, title=title)
