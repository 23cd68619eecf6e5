"""Reproduction 6: four formulas of the chapter, measured on real runs of the library.

Adam's bias factors 1/(1-β₁^τ) (slide 31; Kingma & Ba 2014), the limit η/(1-μ) of momentum's step on a slope (slide
27), the error σ/√K of a mini-batch's gradient (slides 15-16), and the signal through a deep ReLU network with He's
ε = √(2/M) and with ε = 1/√M (slides 18-20; He et al. 2015).
"""

from __future__ import annotations

import os

import numpy as np

from ... import _core
from ...analysis.noise import GradientNoise
from ...analysis.objective import Vector
from ...analysis.problems import DEPTH, WIDTH, adam_moments, momentum_steps, network_noise, relu_signal
from ...plotting.figures import BLUE, INK, VERMILION, dress, new_axes, save
from ._result import Reproduction, compared, figure_path

__all__ = ["run"]

NETWORKS = 20
MOMENTUM = 0.9
STEPS = (1, 10, 100)

NOTES = (
    "Adam: `gd.Adam` is given gradients drawn from a Gaussian of mean 1. Its raw moment s is read from the "
    "optimiser's state; the corrected ŝ from the motion of the weight, with δ so large that a step is -(η/δ) ŝ. "
    "The factor is their ratio. The published 1.5 and 1.0 are the formula's 1.535 and 1.00003, rounded.",
    "Momentum: `gd.Momentum` is given a gradient that is 1 at every step, then one that alternates between 1 and "
    '-1; the numbers are lengths of the 200th step over η. The chapter puts the alternating case "near η"; '
    "exactly, the steps end at η/(1+μ), half of η for μ near 1.",
    "Gradient noise: `analysis.gradient_noise` at the initial weights of a network with one hidden layer, 1,000 "
    "rows, 200 batches for each K from 1 to 1,000, drawn with replacement. The slope is fitted to the logarithms.",
    "Initialisation: `analysis.variance_by_layer` on {depth} layers of {width} ReLU units, {networks} networks "
    "with different seeds: the mean over the networks of E[z²] behind the last layer over that of the inputs, and "
    "the standard error of the mean. The formula is for that mean; a single network of finite width strays from "
    "it (standard deviation {spread:.2f} with He's ε). Both ε are tried with the same seeds, so with the same "
    "draws times ε.",
)


def run(folder: str | os.PathLike[str]) -> Reproduction:
    """Measure the four formulas and draw them; see the module."""
    path = figure_path(folder, "formulas")
    _, raw, corrected = adam_moments(max(STEPS))
    factors, (slope, ravine), measured = corrected / raw, momentum_steps(MOMENTUM, 200), network_noise()
    inits = (_core.HeNormal(), _core.Normal(WIDTH**-0.5))
    he, small = (np.array([relu_signal(init, seed) for seed in range(NETWORKS)]) for init in inits)
    last_he, last_small = float(he[:, -1].mean()), float(small[:, -1].mean())
    errors = [float(z[:, -1].std(ddof=1) / np.sqrt(NETWORKS)) for z in (he, small)]
    adam = [
        (f"Adam, bias factor at step {step}", published, float(factors[step - 1]), f"1/(1-0.9^{step})")
        for step, published in zip(STEPS, (10.0, 1.5, 1.0), strict=True)
    ]
    table = compared(
        [
            *adam,
            (f"momentum {MOMENTUM}, step on a slope / η", 10.0, float(slope[-1]), "1/(1-μ)"),
            (f"momentum {MOMENTUM}, step in a ravine / η", "near 1", float(ravine[-1]), "exactly 1/(1+μ)"),
            ("gradient noise, slope in K", -0.5, measured.slope, "σ/√K"),
            ("gradient noise, K = 100 over K = 1", 0.1, float(measured.measured[4] / measured.measured[0]), ""),
            (f"E[z²] after {DEPTH} layers, ε = √(2/M)", 1.0, last_he, f"He: flat; standard error {errors[0]:.2g}"),
            ("factor of a layer, ε = √(2/M)", 1.0, last_he ** (1 / DEPTH), ""),
            (
                f"E[z²] after {DEPTH} layers, ε = 1/√M",
                2.0**-DEPTH,
                last_small,
                f"2^-{DEPTH}; standard error {errors[1]:.2g}",
            ),
            ("factor of a layer, ε = 1/√M", 0.5, last_small ** (1 / DEPTH), ""),
        ]
    )
    draw(factors, (slope, ravine), measured, (he, small), path)
    facts = {"depth": DEPTH, "width": WIDTH, "networks": NETWORKS, "spread": float(he[:, -1].std(ddof=1))}
    notes = (*NOTES[:-1], NOTES[-1].format(**facts))
    return Reproduction("formulas", "Four of the chapter's formulas, measured on real runs", table, path, notes)


def draw(
    factors: Vector,
    momentum: tuple[Vector, Vector],
    measured: GradientNoise,
    signals: tuple[Vector, Vector],
    path: str | os.PathLike[str],
) -> None:
    """Draw the four formulas, one panel each: lines are formulas, markers are measurements."""
    panels = new_axes(True, "reproductions", size=(8.4, 5.8), rows=2, columns=2).ravel()
    tau = np.arange(1, len(factors) + 1)
    panels[0].loglog(tau, 1 / (1 - 0.9**tau), color=INK, lw=1)
    panels[0].plot(STEPS, factors[np.array(STEPS) - 1], "o", color=BLUE, ms=6)
    panels[0].set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    panels[0].minorticks_off()
    dress(panels[0], f"Adam's factor is {factors[0]:.1f}, {factors[9]:.1f}, {factors[99]:.1f}", "step τ", "ŝ / s")
    t = np.arange(1, 61)
    for steps, sign, colour, marker, label in (
        (momentum[0], 1, BLUE, "o", "constant gradient"),
        (momentum[1], -1, VERMILION, "^", "alternating gradient"),
    ):
        panels[1].plot(t, (1 - (sign * MOMENTUM) ** t) / (1 - sign * MOMENTUM), color=INK, lw=1)
        panels[1].plot(t[::3], steps[: len(t) : 3], marker, color=colour, ms=4, label=label)
    title = f"Momentum's step ends at {momentum[0][-1]:.1f} η or {momentum[1][-1]:.2f} η"
    dress(panels[1], title, "step", "length of the step / η")
    panels[2].loglog(measured.batch_sizes, measured.predicted, color=INK, lw=1)
    panels[2].plot(measured.batch_sizes, measured.measured, "o", color=BLUE, ms=6)
    panels[2].minorticks_off()
    title = f"Gradient noise falls as K^{measured.slope:.2f}"
    dress(panels[2], title, "batch size K", "distance from ∇E")
    depth = np.arange(DEPTH + 1)
    for z, factor, colour, marker, label in (
        (signals[0], 1.0, BLUE, "o", "ε = √(2/M)"),
        (signals[1], 0.5, VERMILION, "^", "ε = 1/√M"),
    ):
        panels[3].semilogy(depth, factor**depth, color=INK, lw=1)
        panels[3].plot(depth, z.mean(axis=0), marker, color=colour, ms=4, label=label)
    title = f"{DEPTH} layers leave {signals[0][:, -1].mean():.2f} of the signal with He's ε"
    dress(panels[3], title, "layers of ReLU passed", "E[z²] / that of the inputs")
    save(panels[0], path, title="Formulas (lines) and measurements (marks)")
