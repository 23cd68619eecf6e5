"""Pictures of batch and layer norm: deep signals and gradients, small batches (slides 35-39)."""

from __future__ import annotations

import os

import numpy as np

from ... import _core
from ...analysis.initialization import variance_by_layer
from ...analysis.objective import Vector
from ...analysis.problems import DEPTH
from ...experiments import gaussian_clusters
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, new_axes, save
from ...trainer import Trainer

__all__ = ["batch_norm_depth", "small_batches"]

PathLike = str | os.PathLike[str]

WIDTH = 128  # units of each layer
PLACES = (
    ("none", "no batch norm", VERMILION, "^", DASHED),
    ("before", "batch norm before each ReLU", BLUE, "o", "-"),
    ("after", "batch norm after each ReLU", GREEN, "s", (0, (3, 1, 1, 1))),
)


def signals(seed: int, place: str, scale: float) -> tuple[Vector, Vector]:
    """Return E[z²] at the inputs of each layer, and the mean square of each layer's gradient (slides 35-36).

    The hidden layers have no biases, which would hide that the signal vanishes.

    Parameters
    ----------
    seed : int
        Seed of weights and data.
    place : {"none", "before", "after"}
        Where the `DEPTH` hidden layers have their BatchNorm: nowhere, before or after each ReLU.
    scale : float
        ε√M: the weights are Gaussian N(0, ε²), with M units in each layer. He's value is √2.

    Returns
    -------
    tuple of ndarray
        E[z²] divided by that of the inputs (DEPTH + 1,), and the mean square of ∂E/∂w in the hidden layers (DEPTH,).
    """
    layers: list[_core.Layer] = []
    for _ in range(DEPTH):
        layers.append(_core.Dense(WIDTH, WIDTH, bias=False, init=_core.Normal(scale * WIDTH**-0.5)))
        layers += [_core.BatchNorm(WIDTH)] if place == "before" else []
        layers.append(_core.ReLU())
        layers += [_core.BatchNorm(WIDTH)] if place == "after" else []
    model = Sequential(*layers, _core.Dense(WIDTH, 1), seed=seed, dtype="float64", device="cpu")
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((WIDTH, WIDTH)), rng.standard_normal(WIDTH)
    report = variance_by_layer(model, x, loss=_core.MeanSquaredError(), y=y)
    reads = list(report.reads)
    squares, gradient = report.mean_square[reads], np.asarray(report.gradient)
    return squares / squares[0], gradient[[i + 1 for i in reads[:-1]]]


def batch_norm_depth(path: PathLike) -> None:
    """Draw signals and gradients in 30 layers of bad initial scale, with and without batch norm (slides 35-36)."""
    panels = new_axes(True, "gallery", size=(9.6, 6.4), rows=2, columns=2)
    depth = np.arange(DEPTH + 1)
    ends: dict[str, list[float]] = {name: [] for name, *_ in PLACES}
    slopes = []
    for column, (scale, words) in enumerate(((0.5, "too small: ε = 1/(2√M)"), (2.0, "too large: ε = 2/√M"))):
        upper, lower = panels[:, column]
        for name, label, colour, marker, style in PLACES:
            z, gradient = signals(0, name, scale)
            look = {"ls": style, "marker": marker, "ms": 4, "color": colour, "lw": 1.4}
            upper.plot(depth, z, label=label, **look)
            lower.plot(depth[1:], gradient, label=label, **look)
            ends[name].append(z[-1])
            if name != "none":
                slopes.append(np.exp(-np.polyfit(depth[1:], np.log(gradient), 1)[0]))
        for axes in (upper, lower):
            axes.set_yscale("log")
        dress(upper, f"Initial weights {words}", "", "" if column else "E[z²] / that of the inputs", legend=False)
        dress(lower, "", "hidden layer", "" if column else "mean square of ∂E/∂w", legend=False)
    panels[0, 0].legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower left")
    normed = [*ends["before"], *ends["after"]]
    title = (
        f"{DEPTH} layers multiply the signal by {ends['none'][0]:.0e} or {ends['none'][1]:.0e} without batch norm,\n"
        f"by {min(normed):.1f} to {max(normed):.1f} with it; there the gradient's mean square grows "
        f"{min(slopes):.2f} to {max(slopes):.2f} times a layer towards the inputs"
    )
    save(panels[0, 0], path, title=title)


NORMS = (("batch norm", _core.BatchNorm, VERMILION, "^", DASHED), ("layer norm", _core.LayerNorm, BLUE, "o", "-"))
SIZES = (2, 4, 8, 16, 32, 64, 128)


def normed(norm: type[_core.BatchNorm] | type[_core.LayerNorm], seed: int) -> Sequential:
    """Return a classifier of 20 inputs and 5 classes with a norm in both hidden layers."""
    hidden = [layer for inputs in (20, 32) for layer in (_core.Dense(inputs, 32), norm(32), _core.ReLU())]
    return Sequential(*hidden, _core.Dense(32, 5), seed=seed, device="cpu")


def spreads(norm: type[_core.BatchNorm] | type[_core.LayerNorm], seed: int, *, draws: int = 20) -> Vector:
    """Return how much the outputs of a row depend on the rest of its batch, by batch size: (len(SIZES),) (slide 39).

    It is the standard deviation of a row's outputs over random batches, divided by that of the outputs over the rows.
    """
    x = gaussian_clusters(256, 1, features=20, classes=5, spread=1.5, seed=seed).x
    model, rng = normed(norm, seed), np.random.default_rng(seed)
    found = []
    for size in SIZES:
        outputs = np.empty((draws, len(x), 5))
        for draw in range(draws):
            for batch in rng.permutation(len(x)).reshape(-1, size):
                outputs[draw, batch] = model.forward(x[batch])
        found.append(np.sqrt(outputs.var(axis=0, ddof=1).mean() / outputs.mean(axis=0).var(axis=0).mean()))
    return np.array(found)


def errors_by_size(norm: type[_core.BatchNorm] | type[_core.LayerNorm], seed: int) -> Vector:
    """Return the test error after 20 epochs by batch size, the rate in proportion to it: (len(SIZES),) (slide 39)."""
    data = gaussian_clusters(400, 1200, features=20, classes=5, spread=1.5, seed=seed)
    errors = []
    for size in SIZES:
        trainer = Trainer(
            normed(norm, seed), _core.CrossEntropy(), optimizer=_core.SGD(lr=0.01 * size), metrics=["accuracy"]
        )
        trainer.fit(data.x, data.y, epochs=20, batch_size=size)
        errors.append(1 - trainer.evaluate(data.x_test, data.y_test)["accuracy"])
    return np.array(errors)


def small_batches(path: PathLike) -> None:
    """Draw outputs and test errors by batch size: batch norm gets noisy in small batches, layer norm not (slide 39)."""
    left, right = new_axes(True, "gallery", size=(9.6, 4.2), columns=2)
    first = []
    for label, norm, colour, marker, style in NORMS:
        look = {"ls": style, "marker": marker, "ms": 6, "color": colour, "lw": 1.8, "label": label}
        spread = spreads(norm, 0)
        errors = np.array([errors_by_size(norm, seed) for seed in range(5)])
        mean, band = errors.mean(axis=0), errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
        left.plot(SIZES, spread, **look)
        right.fill_between(SIZES, mean - band, mean + band, color=colour, alpha=0.18, lw=0)
        right.plot(SIZES, mean, **look)
        first.append((spread[0], mean[0]))
    dress(left, "Noise of a row's outputs before training", "batch size", "spread over batches / spread over rows")
    dress(right, "After 20 epochs", "batch size", "test error")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(SIZES, [str(size) for size in SIZES])
    left.set_ylim(bottom=-0.05)
    right.set_ylim(bottom=0)
    title = (
        f"In batches of {SIZES[0]} a row's outputs spread {first[0][0]:.2f} times as far as those of different rows "
        f"with batch norm,\n{first[1][0]:.2f} times with layer norm; after training the test errors are "
        f"{first[0][1]:.0%} and {first[1][1]:.0%}"
    )
    save(left, path, title=title)
