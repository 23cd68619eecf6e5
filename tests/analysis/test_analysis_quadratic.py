"""Promise: the quadratic model is exact for a quadratic loss and as accurate as it reports elsewhere; critical points
are classified by the signs of the eigenvalues; invalid arguments are refused."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.analysis.critical import classify_critical_point
from gdcore.analysis.derivatives import gradient, hessian
from gdcore.analysis.objective import Objective
from gdcore.analysis.quadratic import QuadraticModel
from quadratic_cases import at_its_minimum, noisy_net, regression, tanh_net

H3 = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])


# ------------------------------------------------------------------------------------------------- the quadratic model
def test_from_numbers(rng: Any) -> None:
    b, c = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.2, -1.0])
    q = QuadraticModel.from_arrays(H3, b, c, 7.0)
    w = rng.standard_normal((2, 5, 3))
    d = w - c
    expected = 7.0 + d @ b + 0.5 * np.einsum("...i,ij,...j", d, H3, d)
    np.testing.assert_allclose(q.error(w), expected, rtol=1e-14)
    np.testing.assert_allclose(q.gradient(w), b + d @ H3, rtol=1e-13, atol=1e-14)
    assert q.error(c) == 7.0 and isinstance(q.error(w[0, 0]), float)
    helpers.same_bits(q.gradient(c), b)
    np.testing.assert_allclose(q.eigenvectors @ np.diag(q.eigenvalues) @ q.eigenvectors.T, H3, atol=1e-14)
    np.testing.assert_allclose(q.eigenvectors.T @ q.eigenvectors, np.eye(3), atol=1e-14)
    assert (np.diff(q.eigenvalues) > 0).all() and q.is_positive_definite
    assert repr(q).startswith("QuadraticModel(P=3, value=7,")


def test_minimum_and_coordinates(rng: Any) -> None:
    """Slides 6-8: around w* the error is E(w*) + ½ Σ λ α², and the contour of height C has semi-axes √(2C/λ)."""
    q = QuadraticModel.from_arrays(H3, [1.0, -2.0, 0.5], [0.3, 0.2, -1.0], 7.0)
    np.testing.assert_allclose(q.gradient(q.minimum), 0.0, atol=1e-14)
    for point in (q.stationary_point, q.origin):
        helpers.same_bits(point, q.minimum)
    w = rng.standard_normal((6, 3))
    alpha = q.coordinates(w)
    lowest = q.error(q.minimum)
    np.testing.assert_allclose(q.error(w), lowest + 0.5 * np.sum(q.eigenvalues * alpha**2, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(q.origin + alpha @ q.eigenvectors.T, w, atol=1e-14)
    helpers.same_bits(q.coordinates(w[0]), q.coordinates(w[:1])[0])
    axes = q.semi_axes(0.25)
    assert (np.diff(axes) < 0).all()
    ends = q.minimum + axes[:, None] * q.eigenvectors.T
    np.testing.assert_allclose(q.error(ends), lowest + 0.25, rtol=1e-13)


def test_of_a_model_at_its_point_and_elsewhere(rng: Any) -> None:
    problem = tanh_net(rng)
    before = helpers.snapshot(problem[0])
    q, objective = QuadraticModel(*problem), Objective(*problem)
    helpers.same_bits(q.center, objective.point)
    helpers.same_bits(q.hessian, hessian(*problem))
    helpers.same_bits(q.b, gradient(*problem))
    assert q.value == objective.value()
    there = rng.standard_normal(objective.size)
    elsewhere = QuadraticModel(*problem, at=there)
    helpers.same_bits(before, helpers.snapshot(problem[0]))
    objective.move(there)
    moved = QuadraticModel(*problem)
    helpers.same_bits(elsewhere.hessian, moved.hessian)
    helpers.same_bits(elsewhere.b, moved.b)
    assert elsewhere.value == moved.value != q.value
    there[:] = 0.0  # the object keeps a copy of the caller's array
    helpers.same_bits(elsewhere.center, moved.center)


def test_weights_and_mode_reach_the_objective(rng: Any) -> None:
    model = gd.Sequential(gd.Dense(2, 3), gd.BatchNorm(3), gd.Tanh(), gd.Dense(3, 2), seed=1, dtype="float64")
    problem = (model, gd.CrossEntropy(), rng.standard_normal((12, 2)), rng.integers(0, 2, 12))
    options: dict[str, Any] = {"mode": "prediction", "sample_weight": rng.uniform(0.5, 2, 12)}
    helpers.same_bits(QuadraticModel(*problem, **options).hessian, hessian(*problem, **options))
    assert classify_critical_point(*problem, **options).gradient_norm == np.linalg.norm(gradient(*problem, **options))


def test_exact_for_linear_regression(rng: Any) -> None:
    problem = regression(rng)
    q, objective = QuadraticModel(*problem), Objective(*problem)
    w = rng.standard_normal((5, q.size)) * 10
    np.testing.assert_allclose(q.error(w), [objective.value(p) for p in w], rtol=1e-12)
    np.testing.assert_allclose(q.gradient(w), [objective.gradient(p) for p in w], rtol=1e-11)
    x1 = np.c_[problem[2], np.ones(len(problem[2]))]
    np.testing.assert_allclose(q.minimum, np.linalg.lstsq(x1, problem[3])[0].ravel(), rtol=1e-11)
    exact = q.quality(5.0)
    assert exact.value_error < 1e-12 and exact.gradient_error < 1e-12
    assert "5" in str(exact) and "0.00%" in str(exact)


def test_quality_shrinks_as_taylor_says(rng: Any) -> None:
    """The remainder is of third order: relative to a change of first order it scales as r², of second order as r."""
    problem = tanh_net(rng)
    q = QuadraticModel(*problem)
    far, near = q.quality(2e-2), q.quality(1e-2)
    assert far.value_error / near.value_error == pytest.approx(4.0, rel=0.1)
    assert far.gradient_error / near.gradient_error == pytest.approx(2.0, rel=0.1)
    q = at_its_minimum(noisy_net(rng))
    assert np.linalg.norm(q.b) < 1e-12
    far, near = q.quality(2e-3), q.quality(1e-3)
    assert far.value_error / near.value_error == pytest.approx(2.0, rel=0.1)
    assert (far.radius, far.n) == (2e-3, 20) and far == q.quality(2e-3) != q.quality(2e-3, seed=1)


def test_origin_where_the_hessian_is_singular() -> None:
    """If b is in H's range, there is a plane of stationary points, the nearest is the origin; else there is none."""
    flat, center = np.diag([0.0, 2.0]), [3.0, 1.0]
    inside = QuadraticModel.from_arrays(flat, [0.0, 4.0], center)
    np.testing.assert_allclose(inside.origin, [3.0, -1.0])
    np.testing.assert_allclose(inside.gradient(inside.origin), 0.0)
    outside = QuadraticModel.from_arrays(flat, [1.0, 4.0], center)
    helpers.same_bits(outside.origin, np.array(center))
    np.testing.assert_allclose(np.abs(outside.coordinates([5.0, 1.0])), [2.0, 0.0])
    for q in (inside, outside):
        assert not q.is_positive_definite
        helpers.refuses(lambda q=q: q.stationary_point, ValueError, "^stationary_point.*nonsingular")
    saddle = QuadraticModel.from_arrays(np.diag([-1.0, 2.0]), [1.0, 4.0])
    np.testing.assert_allclose(saddle.stationary_point, [1.0, -2.0])
    helpers.refuses(lambda: saddle.minimum, ValueError, "^minimum: 1 of 2 .*smallest is -1")


def test_arrays_are_read_only_copies() -> None:
    given, b = H3.copy(), np.ones(3)
    q = QuadraticModel.from_arrays(given, b)
    given[:], b[:] = 0.0, 0.0
    helpers.same_bits(q.hessian, H3)
    helpers.same_bits(q.b, np.ones(3))
    for array in (q.hessian, q.b, q.center, q.eigenvalues, q.eigenvectors):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


# --------------------------------------------------------------------------------------------------- critical points
@pytest.mark.parametrize(
    ("diagonal", "b", "verdict", "counts"),
    [
        ([1.0, 3.0], 0.0, "minimum", (2, 0, 0)),
        ([-1.0, -3.0], 0.0, "maximum", (0, 2, 0)),
        ([-1.0, 3.0], 0.0, "saddle", (1, 1, 0)),
        ([-1.0, 0.0, 3.0], 0.0, "saddle", (1, 1, 1)),
        ([0.0, 3.0], 0.0, "degenerate", (1, 0, 1)),
        ([0.0, -3.0], 0.0, "degenerate", (0, 1, 1)),
        ([0.0, 0.0], 0.0, "degenerate", (0, 0, 2)),
        ([1e-15, 3.0], 0.0, "degenerate", (1, 0, 1)),
        ([1e-9, 3.0], 0.0, "minimum", (2, 0, 0)),
        ([1.0, 3.0], 1e-6, "minimum", (2, 0, 0)),
        ([1.0, 3.0], 1e-5, "not critical", (2, 0, 0)),
        ([0.0, 0.0], 1e-9, "not critical", (0, 0, 2)),
    ],
)
def test_verdicts(diagonal: list[float], b: float, verdict: str, counts: Any) -> None:
    found = classify_critical_point(QuadraticModel.from_arrays(np.diag(diagonal), [b, *[0.0] * (len(diagonal) - 1)]))
    assert found.verdict == verdict
    assert (found.positive, found.negative, found.zero) == counts
    assert found.gradient_norm == b and str(found).startswith(f"{verdict}: E = 0")


def test_tolerances_are_those_given() -> None:
    q = QuadraticModel.from_arrays(np.diag([-0.01, 3.0]), [0.1, 0.0])
    assert classify_critical_point(q).verdict == "not critical"
    assert classify_critical_point(q, gradient_tolerance=0.1).verdict == "saddle"
    found = classify_critical_point(q, gradient_tolerance=0.1, tolerance=0.01)
    assert (found.verdict, found.tolerance, found.gradient_tolerance) == ("degenerate", 0.01, 0.1)
    assert "1 positive, 0 negative, 1 zero" in str(found) and "at most the tolerance of 0.1" in str(found)


def test_linear_regression_has_a_minimum(rng: Any) -> None:
    problem = regression(rng)
    assert classify_critical_point(*problem).verdict == "not critical"
    solution = QuadraticModel(*problem).minimum
    found = classify_critical_point(*problem, at=solution)
    assert (found.verdict, found.positive) == ("minimum", 5)
    assert found.value == Objective(*problem).value(solution)


@pytest.mark.parametrize("layers", [[gd.Dense(3, 2), gd.Dense(2, 1)], [gd.Dense(3, 2), gd.Tanh(), gd.Dense(2, 1)]])
def test_two_layers_at_zero_are_a_saddle(layers: Any, rng: Any) -> None:
    """The chapter's warning about equal weights: at zero the gradient vanishes, and the loss falls in one direction."""
    model = gd.Sequential(*layers, seed=0, dtype="float64")
    x = rng.standard_normal((20, 3))
    y = x @ np.ones((3, 1))
    y -= y.mean()
    found = classify_critical_point(model, gd.MeanSquaredError(), x, y, at=np.zeros(11))
    # each hidden unit pairs its two weights along Xᵀy, up and down; the output's bias has a curvature of 2
    assert (found.verdict, found.positive, found.negative) == ("saddle", 3, 2)
    pair = 2 * np.linalg.norm(x.T @ y / len(x))
    np.testing.assert_allclose(found.eigenvalues[[0, 1]], -pair, rtol=1e-12)


def test_three_linear_layers_at_zero_are_degenerate(rng: Any) -> None:
    """A product of three weights has no second derivatives at zero."""
    layers = [gd.Dense(2, 2, bias=False), gd.Dense(2, 2, bias=False), gd.Dense(2, 1, bias=False)]
    model = gd.Sequential(*layers, seed=0, dtype="float64")
    x = rng.standard_normal((9, 2))
    found = classify_critical_point(model, gd.MeanSquaredError(), x, x[:, :1], at=np.zeros(10))
    assert (found.verdict, found.zero, found.gradient_norm) == ("degenerate", 10, 0.0)


def test_a_dead_unit_is_degenerate(rng: Any) -> None:
    """A ReLU that is active for no row: E does not depend on its weights, so they are flat directions of a minimum."""
    model = gd.Sequential(gd.Dense(2, 2), gd.ReLU(), gd.Dense(2, 1), seed=0, dtype="float64")
    x = rng.uniform(0.5, 1.5, (30, 2))
    y = x @ np.array([[1.0], [2.0]]) + 0.1 * rng.standard_normal((30, 1))
    parameters = model.parameters()
    parameters["layers.0.weight"][...] = [[1.0, 2.0], [-1.0, -1.0]]  # one always active unit, and a dead one
    parameters["layers.2.weight"][...] = 1.0
    model.freeze("layers.0.bias")
    objective = Objective(model, gd.MeanSquaredError(), x, y)
    alive = np.array([0, 1, 6])  # the first unit's weights and the output's bias, which make it linear regression
    w = objective.point
    h, g = hessian(model, gd.MeanSquaredError(), x, y), objective.gradient()
    w[alive] -= np.linalg.solve(h[np.ix_(alive, alive)], g[alive])
    found = classify_critical_point(model, gd.MeanSquaredError(), x, y, at=w)
    # flat: two weights into the dead unit, one out of it, and the scale of the other (twice in, half out)
    assert (found.verdict, found.positive, found.negative, found.zero) == ("degenerate", 3, 0, 4)


def test_trained_net_is_a_minimum(rng: Any) -> None:
    problem = noisy_net(rng)
    assert classify_critical_point(*problem).verdict == "not critical"
    at_its_minimum(problem)
    assert classify_critical_point(*problem).verdict == "minimum"


# ---------------------------------------------------------------------------------------------------------- refusals
from_arrays = QuadraticModel.from_arrays
REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "not square": (lambda p: from_arrays(np.ones((3, 2))), ValueError, r"^hessian: got shape \(3, 2\); expected"),
    "vector": (lambda p: from_arrays(np.ones(3)), ValueError, "^hessian: got shape"),
    "empty": (lambda p: from_arrays(np.ones((0, 0))), ValueError, "^hessian: got shape"),
    "asymmetric": (lambda p: from_arrays([[1, 2], [3, 4]]), ValueError, r"^hessian: element \(0, 1\) is 2.0 and"),
    "nan": (lambda p: from_arrays(np.diag([1, np.nan])), ValueError, r"^hessian: got nan at \(1, 1\)"),
    "text": (lambda p: from_arrays("H"), TypeError, "^hessian"),
    "complex": (lambda p: from_arrays(np.eye(2) * 1j), TypeError, "^hessian"),
    "gradient": (lambda p: from_arrays(H3, np.ones(2)), ValueError, r"^gradient: got shape \(2,\); expected \(3,\)"),
    "gradient stack": (lambda p: from_arrays(H3, np.ones((1, 3))), ValueError, "^gradient: got shape"),
    "gradient inf": (lambda p: from_arrays(H3, [1, np.inf, 2]), ValueError, "^gradient: got inf at"),
    "center": (lambda p: from_arrays(H3, center=[1.0]), ValueError, "^center: got shape"),
    "value": (lambda p: from_arrays(H3, value=np.nan), ValueError, "^value"),
    "value text": (lambda p: from_arrays(H3, value="low"), TypeError, "^value"),
    "w": (lambda p: p["q"].error(np.ones(4)), ValueError, r"^w: got shape \(4,\); expected \(3,\) or"),
    "w scalar": (lambda p: p["q"].gradient(1.0), ValueError, "^w: got shape"),
    "w nan": (lambda p: p["q"].coordinates([1, 2, np.nan]), ValueError, r"^w: got nan at \(2,\)"),
    "w text": (lambda p: p["q"].error("here"), TypeError, "^w"),
    "level": (lambda p: p["q"].semi_axes(0), ValueError, "^level"),
    "level text": (lambda p: p["q"].semi_axes("high"), TypeError, "^level"),
    "no ellipse": (lambda p: from_arrays(-H3).semi_axes(1), ValueError, "^semi_axes: 3 of 3 .*positive definite"),
    "no minimum": (lambda p: from_arrays(-H3).minimum, ValueError, "^minimum: 3 of 3"),
    "quality": (lambda p: p["q"].quality(1.0), ValueError, "^quality.*from_arrays"),
    "radius": (lambda p: p["real"].quality(0.0), ValueError, "^radius"),
    "n": (lambda p: p["real"].quality(1.0, n=0), ValueError, "^n:"),
    "seed": (lambda p: p["real"].quality(1.0, seed=-1), ValueError, "^seed"),
    "at": (lambda p: QuadraticModel(*p["all"], at=np.ones(3)), ValueError, r"^at: got shape \(3,\)"),
    "at nan": (lambda p: QuadraticModel(*p["all"], at=np.full(8, np.nan)), ValueError, "^at: got nan at"),
    "at too far": (lambda p: QuadraticModel(*p["line"], at=np.full(4, 1e200)), ValueError, "^at: .*E is inf"),
    "radius too far": (lambda p: QuadraticModel(*p["line"]).quality(1e200), ValueError, "^radius: got 1e.200"),
    "memory": (lambda p: QuadraticModel(*p["all"], memory_limit=511), ValueError, "^model.*512 bytes"),
    "float32": (lambda p: QuadraticModel(p["f32"], *p["all"][1:]), TypeError, "^model.*float64"),
    "mode": (lambda p: QuadraticModel(*p["all"], mode="eval"), ValueError, "^mode"),
    "weights": (lambda p: QuadraticModel(*p["all"], sample_weight=[1.0]), ValueError, "^sample_weight"),
    "no loss": (lambda p: classify_critical_point(p["all"][0]), TypeError, "^loss"),
    "no data": (lambda p: classify_critical_point(*p["all"][:2]), TypeError, "^x: got NoneType"),
    "beside": (lambda p: classify_critical_point(p["q"], gd.CrossEntropy()), TypeError, "^loss.*expected None"),
    "at beside": (lambda p: classify_critical_point(p["q"], at=np.ones(3)), TypeError, "^at.*expected None"),
    "mode beside": (lambda p: classify_critical_point(p["q"], mode="prediction"), TypeError, "^mode"),
    "tolerance": (lambda p: classify_critical_point(p["q"], tolerance=-1e-9), ValueError, "^tolerance"),
    "gradient tolerance": (lambda p: classify_critical_point(p["q"], gradient_tolerance="0"), TypeError, "^gradient_t"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    model = gd.Sequential(gd.Dense(3, 2), seed=0, dtype="float64")
    given: dict[str, Any] = {
        "all": (model, gd.CrossEntropy(), rng.standard_normal((6, 3)), rng.integers(0, 2, 6)),
        "f32": gd.Sequential(gd.Dense(3, 2), seed=0),
        "q": from_arrays(H3),
        "line": regression(rng, inputs=3),
    }
    given["real"] = QuadraticModel(*given["all"])
    before = helpers.snapshot(model)
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(given), kind, words)
    helpers.same_bits(before, helpers.snapshot(model))
