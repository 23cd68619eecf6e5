"""Promise: with weight decay, an objective is E + ½ Σ λ w² with λ as optimisers resolve it: value, gradient, products,
Hessian and eigenvalues; its minimum is where training with that decay ends; bad input is refused."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.analysis.problems import descend, quadratic_problem, random_rotation

STEP = 1e-5
WIDTHS = ("layers.0.weight", "layers.0.bias", "layers.1.gamma", "layers.1.beta", "layers.3.weight", "layers.3.bias")

# weight_decay, decay_biases, and λ of each parameter above
SETTINGS: dict[str, tuple[Any, bool, tuple[float, ...]]] = {
    "none": (0.0, False, (0, 0, 0, 0, 0, 0)),
    "one": (0.3, False, (0.3, 0, 0, 0, 0.3, 0)),
    "one, biases": (0.3, True, (0.3, 0.3, 0.3, 0.3, 0.3, 0.3)),
    "each": ([0.1, 0.4], False, (0.1, 0, 0, 0, 0.4, 0)),
    "each, biases": (np.array([0.1, 0.4]), True, (0.1, 0.1, 0, 0, 0.4, 0.4)),
    "by layer": ({"layers.3": 1e-20}, False, (0, 0, 0, 0, 1e-20, 0)),
    "by name": ({"layers.0": 2.0, "layers.1.gamma": 0.7, "layers.3.bias": 0.5}, False, (2.0, 0, 0.7, 0, 0, 0.5)),
}


def normed(rng: Any) -> tuple[gd.Sequential, gd.Loss, np.ndarray, np.ndarray]:
    model = gd.Sequential(gd.Dense(2, 3), gd.BatchNorm(3), gd.Tanh(), gd.Dense(3, 2), seed=0, dtype="float64")
    helpers.randomize(model, rng, 0.7)
    return model, gd.CrossEntropy(), rng.standard_normal((12, 2)), rng.integers(0, 2, 12)


def expected(model: gd.Sequential, numbers: tuple[float, ...]) -> np.ndarray:
    given = dict(zip(WIDTHS, numbers, strict=True))
    return np.concatenate([np.full(view.size, float(given[name])) for name, view in model.parameters().items()])


@pytest.mark.parametrize("name", SETTINGS)
def test_value_and_derivatives(name: str, rng: Any) -> None:
    problem = normed(rng)
    decay, biases, numbers = SETTINGS[name]
    before = helpers.snapshot(problem[0])
    bare = analysis.Objective(*problem)
    objective = analysis.Objective(*problem, weight_decay=decay, decay_biases=biases)
    each = expected(problem[0], numbers)
    helpers.same_bits(objective.decay, each)
    w, v = rng.standard_normal((2, objective.size))
    for at in (None, w):
        point = objective.point if at is None else at
        assert objective.value(at) == pytest.approx(bare.value(at) + 0.5 * each @ point**2, rel=1e-14)
        np.testing.assert_allclose(objective.gradient(at), bare.gradient(at) + each * point, rtol=1e-14, atol=1e-16)
        value, gradient = objective.value_and_gradient(at)
        assert value == objective.value(at)
        helpers.same_bits(gradient, objective.gradient(at))
        np.testing.assert_allclose(objective.hvp(v, at), bare.hvp(v, at) + each * v, rtol=1e-13, atol=1e-15)
    ahead, behind = w + STEP * v, w - STEP * v
    slope = (objective.value(ahead) - objective.value(behind)) / (2 * STEP)
    assert objective.gradient(w) @ v == pytest.approx(slope, rel=1e-7)
    product = (objective.gradient(ahead) - objective.gradient(behind)) / (2 * STEP)
    np.testing.assert_allclose(objective.hvp(v, w), product, atol=1e-7)
    np.testing.assert_allclose(analysis.hessian(objective), analysis.hessian(bare) + np.diag(each), atol=1e-13)
    helpers.same_bits(before, helpers.snapshot(problem[0]))


def test_without_decay_nothing_changes(rng: Any) -> None:
    problem = normed(rng)
    helpers.same_bits(analysis.Objective(*problem, weight_decay=None).gradient(), analysis.gradient(*problem))
    assert not analysis.Objective(*problem).decay.any()
    with pytest.raises(ValueError, match="read-only"):
        analysis.Objective(*problem).decay[0] = 1.0


@pytest.mark.parametrize("name", ["layers.0.weight", "layers.0.bias"])
@pytest.mark.parametrize("decay", [{"layers.0.weight": 1e-300, "layers.2": 0.1}, {"layers.0.bias": 1e-300}])
def test_parameters_whose_squares_overflow(name: str, decay: dict[str, float], rng: Any) -> None:
    model = gd.Sequential(gd.Dense(1, 2), gd.Tanh(), gd.Dense(2, 1), dtype="float64")
    model.parameters()[name][...] = 1e200
    problem = (model, gd.MeanSquaredError(), rng.uniform(1, 2, (3, 1)), np.ones((3, 1)))
    bare, objective = analysis.Objective(*problem), analysis.Objective(*problem, weight_decay=decay)
    penalty = 0.5 * sum(each * w * w for each, w in zip(objective.decay, objective.point, strict=True))
    assert np.isfinite(penalty) and objective.value() == pytest.approx(bare.value() + penalty, rel=1e-12)


@pytest.mark.parametrize("frozen", [[], ["layers.0"], ["layers.1.bias"]])
def test_only_the_given_rows_matter(frozen: list[str]) -> None:
    model = gd.Sequential(*(gd.Dense(1, 1, init=gd.Constant(1e200)) for _ in range(2)), dtype="float64")
    for name in frozen:
        model.freeze(name)
    problem = (model, gd.MeanSquaredError(), np.zeros((3, 1)), np.ones((3, 1)))  # other rows overflow
    objective = analysis.Objective(*problem, weight_decay=1e-300, decay_biases=True)
    assert objective.size == 4 - len(frozen) - (frozen == ["layers.0"]) and set(objective.decay) == {1e-300}
    assert np.isfinite(objective.value())


def test_no_decay_beside_an_objective_is_any_zero(rng: Any) -> None:
    objective = analysis.Objective(*normed(rng), weight_decay=0.1)
    for zero in (0, 0.0, np.float64(0.0), None):
        assert analysis.loss_surface(objective, weight_decay=zero, points=3).value == objective.value()
    helpers.refuses(lambda: analysis.loss_surface(objective, weight_decay=1), TypeError, "^weight_decay")


def test_frozen_parameters_are_left_out(rng: Any) -> None:
    """And a single row, for BatchNorm with running averages."""
    model, loss, x, y = normed(rng)
    model.freeze("layers.0")
    objective = analysis.Objective(model, loss, x[:1], y[:1], mode="prediction", weight_decay=[5.0, 0.2])
    helpers.same_bits(objective.decay, np.repeat([0.0, 0.2, 0.0], [6, 6, 2]))


@pytest.mark.parametrize("hidden", [4, 40])
def test_eigenvalues(hidden: int, rng: Any) -> None:
    """Of the full Hessian, and of one that is never formed."""
    model = gd.Sequential(gd.Dense(3, hidden), gd.Tanh(), gd.Dense(hidden, 1), seed=0, dtype="float64")
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((30, 1))
    objective = analysis.Objective(model, gd.MeanSquaredError(), x, y, weight_decay=[0.5, 0.05])
    h = analysis.hessian(model, gd.MeanSquaredError(), x, y) + np.diag(objective.decay)
    found = analysis.eigenvalues(objective, k=3)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(h)[-3:], rtol=1e-7)
    np.testing.assert_allclose(h @ found.vectors, found.vectors * found.values, atol=1e-6)


def test_training_ends_where_the_gradient_is_zero(rng: Any) -> None:
    """A network, with one λ for each layer; the gradient without the decay is not zero there."""
    x = rng.standard_normal((30, 2))
    y = np.sin(2 * x[:, :1]) + 0.2 * rng.standard_normal((30, 1))
    model = gd.Sequential(gd.Dense(2, 2), gd.Tanh(), gd.Dense(2, 1), seed=0, dtype="float64")
    problem = (model, gd.MeanSquaredError(), x, y)
    optimizer = gd.SGD(0.3, weight_decay=[0.02, 0.05])
    trainer = gd.Trainer(*problem[:2], optimizer=optimizer)
    for _ in range(30_000):
        trainer.step(x, y)
    objective = analysis.Objective(*problem, weight_decay=optimizer.weight_decay)
    assert np.linalg.norm(objective.gradient()) < 1e-9 < 1e-2 < np.linalg.norm(analysis.gradient(*problem))
    assert analysis.classify_critical_point(objective).verdict == "minimum"
    assert analysis.classify_critical_point(*problem).verdict == "not critical"


def test_everything_about_a_quadratic(rng: Any) -> None:
    """The eigenvalues are λ_i + λ, the minimum keeps λ_i/(λ_i + λ) of each coordinate (slide 43)."""
    values, decay = np.array([0.1, 1.0, 4.0]), 0.5
    problem = quadratic_problem(values, random_rotation(3, rng), minimum=rng.standard_normal(3))
    objective = problem.objective(decay)
    model = analysis.QuadraticModel(objective)
    np.testing.assert_allclose(model.eigenvalues, values + decay, rtol=1e-12)
    kept = (model.minimum @ problem.basis) / (problem.minimum @ problem.basis)
    np.testing.assert_allclose(kept, values / (values + decay), rtol=1e-11)
    assert model.includes_decay and model.quality(1.0).value_error < 1e-12
    assert analysis.condition_number(objective) == pytest.approx(4.5 / 0.6)
    assert analysis.max_stable_lr(objective) == pytest.approx(2 / 4.5)
    np.testing.assert_allclose(analysis.convergence_factors(objective, lr=0.2).factors, 1 - 0.2 * (values + decay))
    start = rng.standard_normal(3)
    for share, near in ((0.99, True), (1.01, False)):
        end = descend(problem, gd.SGD(share * 2 / 4.5, weight_decay=decay), start, 1000)[-1]
        assert (np.linalg.norm(end - model.minimum) < 1e-6) == near


def test_effective_parameters_take_the_eigenvalues_without_decay() -> None:
    problem = quadratic_problem([1.0, 3.0])
    assert analysis.effective_parameters(problem.objective(), weight_decay=1.0) == pytest.approx(0.5 + 0.75)


def test_loss_surface(rng: Any) -> None:
    problem = normed(rng)
    options: dict[str, Any] = {"weight_decay": [0.3, 0.1], "decay_biases": True}
    objective = analysis.Objective(*problem, **options)
    surface = analysis.loss_surface(*problem, **options, points=5)
    helpers.same_bits(surface.values, analysis.loss_surface(objective, points=5).values)
    for j, beta in enumerate(surface.betas):
        for i, alpha in enumerate(surface.alphas):
            point = surface.center + alpha * surface.directions[0] + beta * surface.directions[1]
            assert surface.values[j, i] == pytest.approx(objective.value(point), rel=1e-12)
    assert surface.eigenvalues is not None
    ends = np.linalg.eigvalsh(analysis.hessian(objective))[[-1, 0]]
    np.testing.assert_allclose(surface.eigenvalues, ends, rtol=1e-6)
    np.testing.assert_allclose(np.diag(surface.curvature), ends, atol=1e-6)
    np.testing.assert_allclose(surface.gradient, surface.directions @ objective.gradient(), atol=1e-12)


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "negative": (lambda p: analysis.Objective(*p["all"], weight_decay=-0.1), ValueError, "weight_decay: got -0.1"),
    "nan": (lambda p: analysis.Objective(*p["all"], weight_decay=[0.1, np.nan]), ValueError, "weight_decay: got nan"),
    "infinite": (lambda p: analysis.loss_surface(*p["all"], weight_decay=np.inf), ValueError, "weight_decay: got inf"),
    "text": (lambda p: analysis.Objective(*p["all"], weight_decay="small"), TypeError, "weight_decay: got 'small'"),
    "layers": (lambda p: analysis.Objective(*p["all"], weight_decay=[1, 1, 1]), ValueError, "weight_decay: got 3 numb"),
    "name": (lambda p: analysis.Objective(*p["all"], weight_decay={"layers.9": 1}), ValueError, '"layers.9"'),
    "function": (
        lambda p: analysis.Objective(*p["all"], weight_decay=gd.schedules.cosine(1, 9)),
        TypeError,
        "weight_decay: got .*step",
    ),
    "biases": (lambda p: analysis.Objective(*p["all"], decay_biases="yes"), TypeError, "decay_biases: got"),
    "no argument": (lambda p: analysis.hessian(*p["all"], weight_decay=1), TypeError, r"weight_decay.*Objective"),
    "beside": (
        lambda p: analysis.loss_surface(p["decayed"], weight_decay=1),
        TypeError,
        "^weight_decay: .*None",
    ),
    "biases beside": (lambda p: analysis.loss_surface(p["decayed"], decay_biases=True), TypeError, "^decay_biases"),
    "loss beside": (lambda p: analysis.hessian(p["decayed"], *p["all"][1:2]), TypeError, "^loss: .*Objective contains"),
    "mode beside": (
        lambda p: analysis.eigenvalues(p["decayed"], mode="prediction"),
        TypeError,
        "^mode: .*None",
    ),
    "no loss": (lambda p: analysis.hessian(p["all"][0]), TypeError, "^loss: got NoneType"),
    "counted": (lambda p: analysis.effective_parameters(p["decayed"], weight_decay=1), ValueError, "^model: its E inc"),
    "counted, quadratic": (
        lambda p: analysis.effective_parameters(analysis.QuadraticModel(p["decayed"]), weight_decay=1),
        ValueError,
        "^model: its E includes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    problem = normed(rng)
    given = {"all": problem, "decayed": analysis.Objective(*problem, weight_decay=0.1)}
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(given), kind, words)
