"""Promise: `eigenvalues` returns those of the full Hessian with their multiplicity, at either end and for any k, also
if all are equal or zero; it is deterministic, and needs few products for ordinary networks."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.analysis import _lanczos
from gdcore.analysis._lanczos import NotConverged, extreme_pairs, pick

SIZE = 70
ENDS = ("largest", "smallest", "both", "magnitude")
TOLERANCE = 1e-8


def steps(*counts: tuple[float, int]) -> np.ndarray:
    """A spectrum of given values with their multiplicities, filled up with values from 1 to 0."""
    values = np.concatenate([np.full(count, value) for value, count in counts])
    return np.concatenate([values, np.linspace(1, 0, SIZE - values.size)])


SPECTRA: dict[str, Any] = {
    "normal": lambda rng: rng.standard_normal(SIZE),
    "decaying": lambda rng: 10.0 ** -np.linspace(0, 8, SIZE),
    "bulk and outliers": lambda rng: np.concatenate([[30, 12, 5, -4], 0.1 * rng.random(SIZE - 4)]),
    "zero": lambda rng: np.zeros(SIZE),
    "equal": lambda rng: np.full(SIZE, 3.0),
    "equal and negative": lambda rng: np.full(SIZE, -3.0),
    "two values": lambda rng: np.repeat([-1.0, 2.0], SIZE // 2),
    "ten times each": lambda rng: np.repeat(np.linspace(-1, 1, SIZE // 10), 10),
    "twice the largest": lambda rng: steps((5, 2)),
    "repeated at both ends": lambda rng: steps((5, 3), (-5, 4), (3, 2)),
    "repeated below the largest": lambda rng: steps((6, 1), (5, 20)),
    "low rank": lambda rng: np.concatenate([[4, 2, -1], np.zeros(SIZE - 3)]),
    "rank 1 of a negative": lambda rng: np.concatenate([[-2], np.zeros(SIZE - 1)]),
    "cluster": lambda rng: 1 + 1e-10 * rng.random(SIZE),
    "clusters": lambda rng: np.repeat(np.arange(7.0), 10) + 1e-6 * rng.random(SIZE),
    "tiny": lambda rng: 1e-290 * np.repeat(rng.standard_normal(SIZE // 2), 2),
    "huge": lambda rng: 1e290 * np.repeat(rng.standard_normal(SIZE // 2), 2),
}


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(("basis", "counts"), [("unit vectors", (1, 6, SIZE - 1)), ("turned", (2, SIZE))])
def test_as_a_dense_solver_finds_them(
    basis: str, counts: tuple[int, ...], name: str, which: str, rng: helpers.Generator
) -> None:
    spectrum = rng.permutation(SPECTRA[name](rng))
    q = np.eye(SIZE) if basis == "unit vectors" else np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    matrix = (q * spectrum) @ q.T
    matrix = 0.5 * matrix + 0.5 * matrix.T
    true = np.linalg.eigvalsh(matrix)
    scale = np.abs(true).max() or 1.0
    for k in counts:
        values, vectors = extreme_pairs(lambda v: matrix @ v, SIZE, k, which, TOLERANCE, seed=k)
        expected = true[pick(true, k, which)]
        if which == "magnitude":  # if both λ and -λ exist, either may be the last one
            np.testing.assert_allclose(np.sort(abs(values)), np.sort(abs(expected)), rtol=0, atol=3 * TOLERANCE * scale)
        else:
            # Neighbours within a cluster are about two tolerances apart, so one may be found instead of another.
            np.testing.assert_allclose(values, expected, rtol=0, atol=3 * TOLERANCE * scale)
        assert (np.diff(values) >= 0).all()
        assert np.abs(matrix @ vectors / scale - vectors * (values / scale)).max() < 10 * TOLERANCE
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)


def linear(outputs: int) -> Any:
    """Regression: the Hessian repeats that of one output `outputs` times."""
    return gd.Sequential(gd.Dense(12, outputs), seed=0, dtype="float64"), gd.MeanSquaredError()


def dead(width: int) -> Any:
    """No unit is ever active and the last layer has no bias: all second derivatives are 0."""
    layers = gd.Dense(12, width, bias_init=gd.Constant(-100.0)), gd.ReLU(), gd.Dense(width, 2, bias=False)
    return gd.Sequential(*layers, seed=0, dtype="float64"), gd.MeanSquaredError()


def duplicated(width: int) -> Any:
    """All hidden units are equal."""
    layers = gd.Dense(12, width, init=gd.Constant(0.1)), gd.Tanh(), gd.Dense(width, 2, init=gd.Constant(0.2))
    return gd.Sequential(*layers, seed=0, dtype="float64"), gd.MeanSquaredError()


def ordinary(width: int) -> Any:
    return gd.Sequential(gd.Dense(12, width), gd.Tanh(), gd.Dense(width, 2), seed=0, dtype="float64"), gd.CrossEntropy()


NETWORKS: dict[str, Any] = {
    "linear of 8": lambda: linear(8),
    "dead": lambda: dead(20),
    "dead and small": lambda: dead(3),
    "duplicated": lambda: duplicated(10),
    "ordinary": lambda: ordinary(10),
}


def data_for(model: gd.Sequential, loss: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = isinstance(loss, gd.CrossEntropy)
    return rng.standard_normal((60, 12)), (
        rng.integers(0, 2, 60) if labels else rng.standard_normal((60, model.out_features))
    )


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_of_networks(name: str, which: str) -> None:
    model, loss = NETWORKS[name]()
    x, y = data_for(model, loss)
    true = np.linalg.eigvalsh(analysis.hessian(model, loss, x, y))
    scale = np.abs(true).max()
    for k in (1, 6, 20, true.size - 1, true.size):
        if k > true.size:
            continue
        found = analysis.eigenvalues(model, loss, x, y, k=k, which=which)
        expected = true[pick(true, k, which)]
        if which == "magnitude":
            found, expected = found._replace(values=np.sort(abs(found.values))), np.sort(abs(expected))
        np.testing.assert_allclose(found.values, expected, rtol=0, atol=3 * TOLERANCE * scale)
        again = analysis.eigenvalues(model, loss, x, y, k=k, which=which)
        helpers.same_bits(again.vectors, found.vectors)


@pytest.mark.parametrize("width", [3, 4, 20, 300])
def test_no_curvature_at_all(width: int) -> None:
    """Eigenvalues of zero: each function behaves as documented, and no solver fails."""
    model, loss = dead(width)
    x, y = data_for(model, loss)
    for which in ENDS:
        found = analysis.eigenvalues(model, loss, x, y, k=3, which=which)
        assert (found.values == 0).all()
        np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(3), atol=1e-12)
    helpers.refuses(lambda: analysis.max_stable_lr(model, loss, x, y), ValueError, "largest eigenvalue")
    helpers.refuses(lambda: analysis.condition_number(model, loss, x, y), ValueError, "eigenvalue")
    if width < 300:
        assert analysis.classify_critical_point(model, loss, x, y).zero == model.flat_parameters().size
        assert analysis.effective_parameters(model, loss, x, y, weight_decay=0.1) == 0


@pytest.mark.parametrize(("k", "most"), [(1, 45), (2, 75), (6, 115)])
def test_an_ordinary_network_costs_few_products(k: int, most: int) -> None:
    """ARPACK needs at least one space of 60 products for each."""
    for width in (20, 100):
        model, loss = ordinary(width)
        objective = analysis.Objective(model, loss, *data_for(model, loss))
        calls = []

        def product(v: np.ndarray, objective: Any = objective, calls: list[int] = calls) -> Any:
            calls.append(1)
            return objective.hvp(v)

        extreme_pairs(product, objective.size, k, "largest", TOLERANCE, seed=0)
        assert len(calls) <= most


def test_a_tolerance_out_of_reach_is_said(monkeypatch: Any) -> None:
    """More eigenvalues than the capacity of a space, too close to each other to separate."""
    monkeypatch.setattr(_lanczos, "MEMORY", 0)
    monkeypatch.setattr(_lanczos, "RESTARTS", 2)
    spectrum = np.linspace(0, 1, 3000)
    with pytest.raises(NotConverged, match=r"^tolerance: got 1e-12"):
        extreme_pairs(lambda v: spectrum * v, spectrum.size, 1, "largest", 1e-12, seed=0)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("seed", -1, ValueError), ("seed", 1.5, TypeError), ("seed", None, TypeError), ("tolerance", -1e-3, ValueError),
        ("tolerance", 2, ValueError), ("tolerance", np.nan, ValueError), ("tolerance", "1e-3", TypeError),
        ("k", 0, ValueError), ("k", 10_000, ValueError), ("k", "3", TypeError), ("which", "smalest", ValueError),
    ],
)  # fmt: skip
def test_refused(name: str, value: Any, kind: type[Exception]) -> None:
    model, loss = ordinary(10)
    x, y = data_for(model, loss)
    helpers.refuses(lambda: analysis.eigenvalues(model, loss, x, y, **{name: value}), kind, f"^{name}: got")


def test_six_by_default_or_as_many_as_there_are_parameters(rng: Any) -> None:
    for width, count in ((2, 3), (5, 6), (12, 6)):
        model = gd.Sequential(gd.Dense(width, 1), dtype="float64", seed=0)
        x, y = rng.standard_normal((20, width)), rng.standard_normal(20)
        found = analysis.eigenvalues(model, gd.MeanSquaredError(), x, y)
        assert found.values.shape == (count,) and found.vectors.shape == (width + 1, count)
        every = analysis.eigenvalues(model, gd.MeanSquaredError(), x, y, k=width + 1)
        np.testing.assert_allclose(found.values, every.values[-count:])
        listed = ", ".join(f"{value:.6g}" for value in found.values)
        assert repr(found) == f"Eigenpairs(values: {listed}; vectors: {width + 1} x {count})" == str(found)
    assert repr(every).count(",") == 10 and ", ..., " in repr(every)  # of 13
