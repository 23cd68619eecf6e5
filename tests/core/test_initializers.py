"""Promise: each initialiser draws from the distribution it names, with fan-in as the chapter defines it, reproducibly
from the seed, every parameter from its own stream; no two hidden units start alike."""

from __future__ import annotations

import math
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

IN, OUT = 400, 300
# name: (initialiser, distribution, its scale: standard deviation or half-width)
EXPECTED: dict[str, tuple[Any, str, float]] = {
    "HeNormal": (gd.HeNormal(), "normal", math.sqrt(2 / IN)),
    "HeUniform": (gd.HeUniform(), "uniform", math.sqrt(6 / IN)),
    "GlorotNormal": (gd.GlorotNormal(), "normal", math.sqrt(2 / (IN + OUT))),
    "GlorotUniform": (gd.GlorotUniform(), "uniform", math.sqrt(6 / (IN + OUT))),
    "Uniform": (gd.Uniform(0.05), "uniform", 0.05),
    "Normal": (gd.Normal(0.2), "normal", 0.2),
}


def weight(init: Any, seed: int = 0, dtype: str = "float64", shape: tuple[int, int] = (OUT, IN)) -> np.ndarray:
    model = gd.Sequential(gd.Dense(shape[1], shape[0], init=init), seed=seed, dtype=dtype)
    return np.array(model.parameters()["layers.0.weight"])


def distance(sample: np.ndarray, distribution: str, scale: float) -> float:
    """Kolmogorov-Smirnov statistic times sqrt(n); above 1.95 has a probability of 1 in 1,000."""
    x = np.sort(sample.ravel()) / scale
    cdf = (
        0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) if distribution == "normal" else np.clip((x + 1) / 2, 0, 1)
    )
    n = x.size
    steps = np.arange(n) / n
    return float(np.maximum(cdf - steps, steps + 1 / n - cdf).max() * math.sqrt(n))


def test_the_distance_can_tell(rng: helpers.Generator) -> None:
    sample = rng.standard_normal(IN * OUT)
    assert distance(sample, "normal", 1.0) < 1.95 < distance(sample, "normal", 1.03)
    assert distance(sample, "uniform", 3.0) > 1.95


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXPECTED)
def test_distribution(name: str, dtype: str) -> None:
    init, distribution, scale = EXPECTED[name]
    for seed in (0, 1, 2**62):
        w = weight(init, seed, dtype).astype(np.float64)
        assert distance(w, distribution, scale) < 1.95
        assert abs(w.mean()) < 5 * scale / math.sqrt(w.size)
        if distribution == "uniform":
            assert np.abs(w).max() <= scale * (1 + 1e-7) and np.abs(w).max() > 0.999 * scale
        else:
            assert 4 * scale < np.abs(w).max() < 6.5 * scale


@pytest.mark.parametrize("name", EXPECTED)
def test_no_correlation_between_neighbours_units_or_inputs(name: str) -> None:
    init, _, _ = EXPECTED[name]
    w = weight(init)
    w = w / w.std()
    bound = 5 / math.sqrt(w.size)
    assert abs((w[1:] * w[:-1]).mean()) < bound and abs((w[:, 1:] * w[:, :-1]).mean()) < bound
    assert abs((w.ravel()[2:] * w.ravel()[:-2]).mean()) < bound
    assert abs((w**2).ravel()[1:] @ (w**2).ravel()[:-1] / w.size - 1) < 20 * bound


@pytest.mark.parametrize("name", EXPECTED)
def test_seeds(name: str) -> None:
    init, _, _ = EXPECTED[name]
    helpers.same_bits(weight(init, 3), weight(init, 3))
    a, b = weight(init, 3), weight(init, 4)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / math.sqrt(a.size)
    np.testing.assert_allclose(weight(init, 3, "float32"), a, rtol=2e-7)


def test_layers_draw_their_own_numbers() -> None:
    model = gd.Sequential(*[gd.Dense(100, 100) for _ in range(4)], seed=0, dtype="float64")
    weights = [np.array(w).ravel() for n, w in model.parameters().items() if n.endswith("weight")]
    correlation = np.corrcoef(weights) - np.eye(4)
    assert np.abs(correlation).max() < 5 / 100


def test_a_layer_does_not_depend_on_what_follows() -> None:
    short = gd.Sequential(gd.Dense(7, 5), gd.Dense(5, 4), seed=9)
    long = gd.Sequential(gd.Dense(7, 5), gd.Dense(5, 4), gd.Dense(4, 3), gd.BatchNorm(3), seed=9)
    for name, value in short.parameters().items():
        helpers.same_bits(np.array(value), np.array(long.parameters()[name]))


def test_symmetry_is_broken() -> None:
    for init, _, _ in EXPECTED.values():
        for dtype in ("float32", "float64"):
            rows = weight(init, dtype=dtype, shape=(1000, 3))
            assert len(np.unique(rows, axis=0)) == 1000


def test_he_keeps_the_second_moment_through_relus(rng: helpers.Generator) -> None:
    """The chapter's derivation: E[z²] neither grows nor shrinks through a deep chain of Dense and ReLU."""
    layers = [part for _ in range(20) for part in (gd.Dense(500, 500), gd.ReLU())]
    x = rng.standard_normal((200, 500))
    z = gd.Sequential(*layers, seed=0, dtype="float64").predict(x)
    assert 0.4 < (z**2).mean() / ((x**2).mean() / 2 * 2) < 2.5


def test_biases_gamma_and_beta() -> None:
    model = gd.Sequential(
        gd.Dense(3, 4), gd.BatchNorm(4), gd.Dense(4, 2, bias_init=gd.Constant(0.01)), gd.LayerNorm(2), seed=0
    )
    p = model.parameters()
    assert (p["layers.0.bias"] == 0).all() and (p["layers.2.bias"] == np.float32(0.01)).all()
    assert all((p[f"layers.{i}.gamma"] == 1).all() and (p[f"layers.{i}.beta"] == 0).all() for i in (1, 3))
    assert (weight(gd.Constant(0.25), shape=(3, 2)) == 0.25).all()


def test_initialize_again() -> None:
    model = gd.Sequential(gd.Dense(6, 5), gd.BatchNorm(5), gd.Dense(5, 2), seed=1)
    first = helpers.snapshot(model)
    model.forward(np.ones((3, 6), np.float32) * np.arange(3, dtype=np.float32)[:, None])
    model.initialize(2)
    helpers.same_bits(
        helpers.copies(model.parameters()),
        helpers.copies(gd.Sequential(gd.Dense(6, 5), gd.BatchNorm(5), gd.Dense(5, 2), seed=2).parameters()),
    )
    model.initialize(1)
    helpers.same_bits(helpers.snapshot(model), first)


def test_without_a_seed_models_differ() -> None:
    a, b = (gd.Sequential(gd.Dense(6, 5)).flat_parameters() for _ in range(2))
    assert (a != b).any()
