"""Promise: rates, factors and counts that the curvature predicts are those of real training runs: coordinates to 1e-9
on a quadratic loss, divergence within 1% of the predicted rate, shrinkage under weight decay; bad input is refused."""

from __future__ import annotations

import math
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.analysis import stability
from gdcore.analysis.convergence import convergence_factors
from gdcore.analysis.critical import classify_critical_point
from gdcore.analysis.derivatives import hessian
from gdcore.analysis.objective import Objective
from gdcore.analysis.problems import quadratic_problem, random_rotation
from gdcore.analysis.quadratic import QuadraticModel
from gdcore.analysis.stability import condition_number, effective_lr, effective_parameters, max_stable_lr
from quadratic_cases import at_its_minimum, noisy_net, regression

from_arrays = QuadraticModel.from_arrays
MOMENTA = pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])


def with_spectrum(spectrum: Any, rng: Any) -> tuple[gd.Sequential, gd.Loss, np.ndarray, np.ndarray]:
    """Linear regression without a bias, with these eigenvalues of the Hessian, at a random start."""
    start, minimum = rng.standard_normal((2, len(spectrum)))
    problem = quadratic_problem(spectrum, random_rotation(len(spectrum), rng), minimum=minimum)
    return problem.model(start), gd.MeanSquaredError(), problem.x, problem.y


def trainer_of(problem: Any, lr: float, momentum: float, **options: Any) -> gd.Trainer:
    optimizer = gd.Momentum(lr, momentum, **options) if momentum else gd.SGD(lr, **options)
    return gd.Trainer(problem[0], problem[1], optimizer=optimizer)


def run(problem: Any, lr: float, momentum: float, times: Any, q: QuadraticModel) -> np.ndarray:
    """The coordinates after each number of steps of full-batch training from the model's current parameters."""
    trainer, measured = trainer_of(problem, lr, momentum), []
    for done, until in zip([0, *times], times, strict=False):
        trainer.fit(*problem[2:], epochs=until - done, batch_size=None)
        measured.append(q.coordinates(Objective(*problem).point))
    return np.array(measured)


# ----------------------------------------------------------------------------------- predicted against measured steps
@MOMENTA
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_coordinates_of_a_run(momentum: float, share: float, rng: Any) -> None:
    """Slides 23-24: the directions are independent, each as predicted from its eigenvalue."""
    problem = regression(rng)
    q, start = QuadraticModel(*problem), Objective(*problem).point
    lr = share * max_stable_lr(q, momentum=momentum)
    factors = convergence_factors(q, lr=lr, momentum=momentum)
    times = [1, 2, 3, 10, 50, 200]
    predicted = factors.predict(q.coordinates(start), times)
    np.testing.assert_allclose(run(problem, lr, momentum, times, q), predicted, rtol=0, atol=1e-9)
    assert factors.converges and np.abs(predicted[-1]).max() < 0.9 * np.abs(predicted[0]).max()


@MOMENTA
def test_diverges_above_the_largest_stable_rate(momentum: float, rng: Any) -> None:
    """Slide 25: a run at 99% of 2(1+μ)/λ_max converges, one at 101% does not."""
    problem = with_spectrum([0.5, 1.0, 3.0], rng)
    q, start = QuadraticModel(*problem), Objective(*problem).point
    assert max_stable_lr(q, momentum=momentum) == pytest.approx(2 * (1 + momentum) / 3.0, rel=1e-12)
    for share, converges in ((0.99, True), (1.01, False)):
        Objective(*problem).move(start)
        lr = share * max_stable_lr(*problem, momentum=momentum)
        first, last = run(problem, lr, momentum, [1, 1000], q)
        assert convergence_factors(*problem, lr, momentum=momentum).converges == converges
        if converges:
            assert np.abs(last).max() < 1e-6 * np.abs(first).max()
        else:
            assert abs(last[-1]) > 1e6 * abs(first[-1]) and np.abs(last[:-1]).max() < 1e-12 * abs(last[-1])


def test_near_a_minimum_of_a_net(rng: Any) -> None:
    """Exact results for a quadratic hold approximately near a minimum of any loss, better for smaller distances."""
    problem = noisy_net(rng)
    q = at_its_minimum(problem)
    away = q.eigenvectors @ rng.uniform(0.5, 1.0, q.size)
    wrong = []
    for momentum in (0.0, 0.8):
        lr = 0.5 * max_stable_lr(q, momentum=momentum)
        for distance in (4e-4, 2e-4):
            Objective(*problem).move(q.minimum + distance * away)
            times = [5, 40]
            predicted = convergence_factors(q, lr=lr, momentum=momentum).predict(
                q.coordinates(q.minimum + distance * away), times
            )
            measured = run(problem, lr, momentum, times, q)
            wrong.append(np.linalg.norm(measured - predicted) / np.linalg.norm(predicted))
            assert np.linalg.norm(predicted[1]) < 0.9 * distance * np.linalg.norm(away)
    assert max(wrong) < 0.01
    np.testing.assert_allclose(np.array(wrong[::2]) / wrong[1::2], 2.0, rtol=0.1)


@pytest.mark.parametrize(("share", "leaves"), [(0.95, False), (1.05, True)])
def test_a_net_leaves_its_minimum_above_the_largest_stable_rate(share: float, leaves: bool, rng: Any) -> None:
    problem = noisy_net(rng)
    q = at_its_minimum(problem)
    Objective(*problem).move(q.minimum + 1e-6 * q.eigenvectors[:, -1])
    lr = share * max_stable_lr(*problem, at=q.minimum)
    last = run(problem, lr, 0.0, [300], q)[0, -1]
    assert abs(last) > 1e-3 if leaves else abs(last) < 1e-9


@pytest.mark.parametrize(("kappa", "steps", "with_momentum"), [(10, 69, 21), (100, 691, 69), (1000, 6908, 218)])
def test_steps_to_a_millionth(kappa: float, steps: int, with_momentum: int) -> None:
    """The known numbers for the best settings, to the nearest step."""
    q = from_arrays(np.diag([1.0, 0.5 * kappa, kappa]))
    best = convergence_factors(q, lr=convergence_factors(q, lr=1.0).best_lr)
    heavy = convergence_factors(q, lr=best.best_momentum_lr, momentum=best.best_momentum)
    root = math.sqrt(kappa)
    assert best.slowest == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-12)
    assert heavy.slowest == pytest.approx((root - 1) / (root + 1), rel=1e-7)  # the root is double: √ of the rounding
    assert (best.slowest, heavy.slowest) == pytest.approx((best.best_rate, best.best_momentum_rate), rel=1e-7)
    assert (round(best.steps(1e-6)), round(heavy.steps(1e-6))) == (steps, with_momentum)
    assert best.condition_number == condition_number(q) == kappa


def test_momentum_takes_longer_than_its_rate_from_rest() -> None:
    """The figure names the rate for its number of steps: 218 by the asymptotic rate, while a run takes 321."""
    q = from_arrays(np.diag([1.0, 1000.0]))
    best = convergence_factors(q, lr=0.001)
    heavy = convergence_factors(q, lr=best.best_momentum_lr, momentum=best.best_momentum)
    away = np.abs(heavy.predict([1.0, 1.0], np.arange(500))).max(axis=1)
    assert round(heavy.steps(1e-6)) == 218 and int(np.argmax(away <= 1e-6)) == 321


def test_steps_of_a_run_at_the_best_rate(rng: Any) -> None:
    problem = with_spectrum([0.3, 1.0, 3.0], rng)
    q, start = QuadraticModel(*problem), Objective(*problem).point
    best = convergence_factors(q, lr=2 / 3.3)
    assert best.lr == pytest.approx(best.best_lr, rel=1e-12)
    needed = math.ceil(best.steps(1e-6))
    before, enough = np.abs(run(problem, best.lr, 0.0, [needed - 1, needed], q) / q.coordinates(start)).max(axis=1)
    assert enough <= 1e-6 < before and needed == 69


def test_no_other_setting_is_better(rng: Any) -> None:
    q = from_arrays(np.diag([0.2, 0.7, 5.0]))
    best = convergence_factors(q, lr=0.1)
    assert best.best_rate < min(convergence_factors(q, lr=best.best_lr * f).slowest for f in (0.9, 0.99, 1.01, 1.1))
    around = [
        convergence_factors(q, lr=best.best_momentum_lr * f, momentum=best.best_momentum * g).slowest
        for f in (0.9, 1.0, 1.1)
        for g in (0.9, 1.0, 1.1)
        if (f, g) != (1.0, 1.0)
    ]
    assert best.best_momentum_rate < min(around) - 1e-3


# ------------------------------------------------------------------------------------------------ factors and tables
def test_roots_are_those_of_the_polynomial(rng: Any) -> None:
    q = from_arrays(np.diag([-0.5, 0.0, 0.01, 1.0, 4.0, 30.0]))
    found = convergence_factors(q, lr=0.1, momentum=0.6)
    assert found.roots.shape == (6, 2)
    for value, roots, factor in zip(q.eigenvalues, found.roots, found.factors, strict=True):
        expected = np.roots([1.0, -(1.6 - 0.1 * value), 0.6])
        np.testing.assert_allclose(np.sort_complex(roots), np.sort_complex(expected), atol=1e-12)
        assert factor == pytest.approx(np.abs(expected).max(), rel=1e-12)
    plain = convergence_factors(q, lr=0.1)
    np.testing.assert_allclose(plain.factors, 1.0 - 0.1 * q.eigenvalues)
    np.testing.assert_allclose(plain.roots, np.c_[plain.factors, np.zeros(6)])
    assert plain.slowest == 2.0 and not plain.converges and plain.steps() == math.inf


def test_flat_directions_are_left_out(rng: Any) -> None:
    """A duplicate column: training converges, and does not move along the difference of its weights."""
    x = rng.standard_normal((20, 3))[:, [0, 1, 2, 2]]
    model = gd.Sequential(gd.Dense(4, 1, bias=False), seed=0, dtype="float64")
    problem = (model, gd.MeanSquaredError(), x, rng.standard_normal((20, 1)))
    q, start = QuadraticModel(*problem), Objective(*problem).point
    found = convergence_factors(*problem, 0.3)
    assert found.flat == 1 and found.converges and found.condition_number < 100
    assert found.slowest == np.abs(found.factors[1:]).max() < 1.0 and "(flat ones left out: 1)" in str(found)
    last = run(problem, 0.3, 0.0, [2000], q)[0]
    np.testing.assert_allclose(last, [q.coordinates(start)[0], 0, 0, 0], atol=1e-10)
    helpers.refuses(lambda: condition_number(*problem), ValueError, "^model.*eigenvalues from.*of QuadraticModel")


def test_predict_of_many_times() -> None:
    q = from_arrays(np.diag([1.0, 4.0]))
    for momentum in (0.0, 0.5):
        found = convergence_factors(q, lr=0.2, momentum=momentum)
        one, previous, alphas = np.array([1.0, -2.0]), np.array([1.0, -2.0]), []
        for _ in range(6):
            alphas.append(one)
            one, previous = (1 + momentum - 0.2 * q.eigenvalues) * one - momentum * previous, one
        np.testing.assert_allclose(found.predict([1, -2], range(6)), alphas, rtol=1e-13)
        np.testing.assert_allclose(found.predict([1, -2], 5), alphas[5], rtol=1e-13)
        assert found.predict([1, -2], [[0, 1], [2, 3]]).shape == (2, 2, 2)
    assert np.isposinf(convergence_factors(q, lr=5.0).predict([1, 1], 10**6)[1])


def test_tables_and_text() -> None:
    q = from_arrays(np.diag([1.0, 4.0]))
    found = convergence_factors(q, lr=0.25)
    table = found.table(1e-3)
    assert table["direction"] == [1, 2] and table["factor"] == [0.75, 0.0]
    assert table["steps"] == pytest.approx([math.log(1e-3) / math.log(0.75), 1.0])
    settings = found.settings()
    assert settings["lr"] == pytest.approx([0.25, 0.4, 4 / 9]) and settings["momentum"] == pytest.approx([0, 0, 1 / 9])
    assert settings["slowest factor"] == pytest.approx([0.75, 0.6, 1 / 3])
    assert str(found).startswith("converges: each step multiplies the slowest of 2 directions by 0.75\n")
    assert str(convergence_factors(q, lr=0.6)).startswith("does not converge: directions that do not shrink, 1 of 2;")
    saddle = convergence_factors(from_arrays(np.diag([-1.0, 4.0])), lr=0.1)
    assert math.isnan(saddle.best_lr) and math.isnan(saddle.condition_number)
    assert saddle.settings()["setting"] == ["as given"]
    assert found.steps(1.0) == 0.0 and found.table(1.0)["steps"] == [0.0, 0.0]  # also by a factor of 0


def test_plot(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    q = from_arrays(np.diag([0.0, 1.0, 10.0]))
    for lr, title, curves in (
        (0.1, "131 steps to a millionth of the distance, at the rate of the end;\n21 with the best momentum", 3),
        (0.3, "Does not converge: directions that do not shrink, 1 of 3", 3),
    ):
        found = convergence_factors(q, lr=lr)
        axes = found.plot(tmp_path / "factors.png")
        assert axes.get_title(loc="left") == title and len(axes.get_legend().get_texts()) == curves
        np.testing.assert_allclose(axes.lines[3].get_xydata(), np.c_[[1.0, 10.0], np.abs(found.factors[1:])])
        assert (tmp_path / "factors.png").stat().st_size > 10_000
    saddle = convergence_factors(from_arrays(np.diag([-1.0, 2.0])), lr=0.1).plot(tmp_path / "saddle.svg")
    assert saddle.get_xscale() == "linear" and len(saddle.get_legend().get_texts()) == 1


# ---------------------------------------------------------------------------- condition number and largest stable rate
def test_by_lanczos_as_from_the_full_hessian(rng: Any, monkeypatch: Any) -> None:
    problem = with_spectrum(np.geomspace(0.01, 2.0, 150), rng)
    expected = (condition_number(*problem), max_stable_lr(QuadraticModel(*problem)))
    assert expected == pytest.approx((200.0, 1.0), rel=1e-9)
    monkeypatch.setattr(stability, "DENSE", 100)
    monkeypatch.setattr(stability, "dense_hessian", None)
    assert (condition_number(*problem), max_stable_lr(*problem)) == pytest.approx(expected, rel=1e-6)
    steep = with_spectrum(np.geomspace(1e-8, 2.0, 150), rng)
    helpers.refuses(lambda: condition_number(*steep), ValueError, "^model.*cannot be distinguished from 0 by Lanczos")
    net = gd.Sequential(gd.Dense(5, 20), gd.Tanh(), gd.Dense(20, 3), seed=0, dtype="float64")
    saddle = (net, gd.CrossEntropy(), rng.standard_normal((30, 5)), rng.integers(0, 3, 30))
    smallest = np.linalg.eigvalsh(hessian(*saddle))[0]
    assert smallest < -1e-3
    helpers.refuses(lambda: condition_number(*saddle), ValueError, f"^model.*eigenvalues from {smallest:.3g} to")


def test_a_direction_that_may_be_flat_is_warned_of() -> None:
    """Rows of one class: the weights of a logistic regression grow without end, and the curvature vanishes."""
    model = gd.Sequential(gd.Dense(1, 1), seed=0, dtype="float64")
    problem = (model, gd.BinaryCrossEntropy(), [[-1.0], [-2.0]], [0, 0])
    at, words = [25.0, 0.0], r"hardly above the rounding.*BinaryCrossEntropy has none where .* weight_decay=.* has one$"
    for given in (problem, (QuadraticModel(*problem, at=at),)):
        where = {"at": at} if len(given) > 1 else {}
        with pytest.warns(RuntimeWarning, match=words) as caught:
            assert condition_number(*given, **where) > 1e10
        assert caught[0].filename == __file__
        with pytest.warns(RuntimeWarning, match=words) as caught:
            found = classify_critical_point(*given, **where, gradient_tolerance=1e-9)
        assert found.verdict == "minimum" and caught[0].filename == __file__
        assert classify_critical_point(*given, **where, gradient_tolerance=1e-9, tolerance=0.0).verdict == "minimum"
    decayed = Objective(*problem, weight_decay=1e-3, decay_biases=True)
    assert condition_number(decayed, at=at) < 10
    with pytest.warns(RuntimeWarning, match="its direction may be flat$"):
        assert condition_number(from_arrays(np.diag([1e-11, 1.0]))) == pytest.approx(1e11)
    assert condition_number(from_arrays(np.diag([2e-10, 1.0]))) == pytest.approx(5e9)


def test_an_objective_is_told_to_keep_its_decay(rng: Any) -> None:
    model = gd.Sequential(gd.Dense(2, 1), seed=0, dtype="float64")
    problem = (model, gd.MeanSquaredError(), np.ones((3, 2)), np.ones(3))
    for given, call in ((problem, "model, loss, x, y"), ((Objective(*problem, weight_decay=1e-20),), "objective")):
        helpers.refuses(lambda g=given: condition_number(*g), ValueError, rf"^model.*of QuadraticModel\({call}\)$")


def test_at_another_point_and_with_weights(rng: Any) -> None:
    problem = noisy_net(rng)
    lowest = at_its_minimum(problem).minimum
    Objective(*problem).move(rng.standard_normal(7))
    for options in ({}, {"sample_weight": rng.uniform(0.9, 1.1, 60)}):
        q = QuadraticModel(*problem, at=lowest, **options)
        assert max_stable_lr(*problem, at=lowest, **options) == 2 / q.eigenvalues[-1]
        assert condition_number(*problem, at=lowest, **options) == pytest.approx(condition_number(q), rel=1e-9)
        helpers.same_bits(convergence_factors(*problem, 0.1, at=lowest, **options).eigenvalues, q.eigenvalues)
        assert effective_parameters(*problem, weight_decay=0.1, at=lowest, **options) == effective_parameters(
            q, weight_decay=0.1
        )


# ------------------------------------------------------------------------------------ momentum's rate, weight decay
@pytest.mark.parametrize(("momentum", "times"), [(0.0, 1.0), (0.5, 2.0), (0.9, 10.0)])
def test_effective_rate(momentum: float, times: float) -> None:
    """Slide 27: a step approaches η/(1-μ) times a constant gradient, and η/(1+μ) times an alternating one."""
    assert effective_lr(0.02, momentum) == pytest.approx(0.02 * times, rel=1e-14)
    for sign, expected in ((1.0, effective_lr(0.02, momentum)), (-1.0, 0.02 / (1 + momentum))):
        model = gd.Sequential(gd.Dense(1, 1, bias=False), seed=0, dtype="float64")
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Momentum(0.02, momentum))
        weight, slope, before = model.parameters()["layers.0.weight"], 3.0, 0.0
        for _ in range(400):
            before = weight.item()
            model.forward(np.ones((1, 1)))
            model.backward(np.full((1, 1), slope))
            trainer.optimizer_step()
            slope *= sign
        assert abs(weight.item() - before) == pytest.approx(3.0 * expected, rel=1e-12)


def test_effective_parameters_are_those_a_run_keeps(rng: Any) -> None:
    """Slide 43: weight decay leaves λ_i/(λ_i+λ) of each coordinate; their sum is the effective number."""
    problem = with_spectrum([0.001, 0.01, 0.1, 1.0, 3.0], rng)
    q = QuadraticModel(*problem)
    trainer_of(problem, 0.6, 0.0, weight_decay=0.05).fit(*problem[2:], epochs=1500, batch_size=None)
    kept = (q.eigenvectors.T @ Objective(*problem).point) / (q.eigenvectors.T @ q.minimum)
    np.testing.assert_allclose(kept, q.eigenvalues / (q.eigenvalues + 0.05), rtol=1e-9)
    assert effective_parameters(*problem, weight_decay=0.05) == pytest.approx(kept.sum(), rel=1e-9)
    x = problem[2]  # and the trace of the matrix that maps targets to predictions, 2/N for the mean of squares
    hat = x @ np.linalg.solve(x.T @ x + 0.05 * len(x) / 2 * np.eye(5), x.T)
    assert effective_parameters(q, weight_decay=0.05) == pytest.approx(np.trace(hat), rel=1e-9)


def test_effective_parameters_of_many_decays() -> None:
    q = from_arrays(np.diag([0.0, 0.1, 2.0, 2.0]))
    counts = effective_parameters(q, weight_decay=[[0.0, 0.1], [1.0, 1e12]])
    np.testing.assert_allclose(counts, [[3.0, 0.5 + 4 / 2.1], [1 / 11 + 4 / 3, 4.1e-12]], rtol=1e-9)
    assert isinstance(effective_parameters(q, weight_decay=1), float)
    curved_down = from_arrays(np.diag([-0.1, 2.0]))
    assert effective_parameters(curved_down, weight_decay=0.5) == pytest.approx(0.8)
    helpers.refuses(
        lambda: effective_parameters(curved_down, weight_decay=[0.5, 0.1]), ValueError, "^weight_decay: got 0.1 .*-0.1"
    )


# ---------------------------------------------------------------------------------------------------------- refusals
REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "float32": (lambda p: condition_number(p["f32"], *p["all"][1:]), TypeError, "^model.*float64"),
    "no model": (lambda p: max_stable_lr(None, *p["all"][1:]), TypeError, "^model"),
    "no loss": (lambda p: max_stable_lr(p["all"][0]), TypeError, "^loss"),
    "no data": (lambda p: condition_number(*p["all"][:2]), TypeError, "^x: got NoneType"),
    "rows": (lambda p: max_stable_lr(*p["all"][:3], p["all"][3][:2]), ValueError, "^y"),
    "singular": (lambda p: condition_number(*p["all"]), ValueError, "^model.*eigenvalues from .*positive"),
    "indefinite": (lambda p: condition_number(p["saddle"]), ValueError, "^model.*eigenvalues from -1 to 2"),
    "condition at": (lambda p: condition_number(*p["all"], at=[1.0]), ValueError, r"^at: got shape \(1,\)"),
    "condition mode": (lambda p: condition_number(*p["all"], mode="eval"), ValueError, "^mode"),
    "condition beside": (lambda p: condition_number(p["q"], x=[1.0]), TypeError, "^x.*expected None"),
    "no upward": (lambda p: max_stable_lr(from_arrays(-np.eye(2))), ValueError, "^model.*largest eigenvalue.*-1"),
    "momentum 1": (lambda p: max_stable_lr(p["q"], momentum=1), ValueError, "^momentum: got 1; .*below 1"),
    "momentum negative": (lambda p: max_stable_lr(p["q"], momentum=-0.1), ValueError, "^momentum"),
    "momentum text": (lambda p: max_stable_lr(p["q"], momentum="0.9"), TypeError, "^momentum"),
    "stable at": (lambda p: max_stable_lr(*p["all"], at=np.full(8, np.inf)), ValueError, "^at: got inf at"),
    "stable too far": (lambda p: max_stable_lr(*p["line"], at=np.full(4, 1e200)), ValueError, "^at: .*E is inf"),
    "stable weights": (lambda p: max_stable_lr(*p["all"], sample_weight=[1.0]), ValueError, "^sample_weight"),
    "stable beside": (lambda p: max_stable_lr(p["q"], sample_weight=[1.0]), TypeError, "^sample_weight.*None"),
    "no lr": (lambda p: convergence_factors(*p["all"]), TypeError, "^lr: got None"),
    "lr 0": (lambda p: convergence_factors(p["q"], lr=0.0), ValueError, "^lr"),
    "lr nan": (lambda p: convergence_factors(p["q"], lr=math.nan), ValueError, "^lr"),
    "lr as loss": (lambda p: convergence_factors(p["q"], 0.1, lr=0.1), TypeError, "^loss: got 0.1; expected None"),
    "factors momentum": (lambda p: convergence_factors(p["q"], lr=0.1, momentum=1.5), ValueError, "^momentum"),
    "no curvature": (lambda p: convergence_factors(from_arrays([[0.0]]), lr=0.1), ValueError, "^model.*zero"),
    "memory": (lambda p: convergence_factors(*p["all"], 0.1, memory_limit=511), ValueError, "^model.*512 bytes"),
    "alpha0": (lambda p: p["factors"].predict([1.0], 3), ValueError, r"^alpha0: got shape \(1,\); expected \(2,\)"),
    "alpha0 nan": (lambda p: p["factors"].predict([1.0, np.nan], 3), ValueError, "^alpha0: got nan at"),
    "steps negative": (lambda p: p["factors"].predict([1.0, 1.0], [2, -3]), ValueError, "^steps: got -3"),
    "steps half": (lambda p: p["factors"].predict([1.0, 1.0], 2.5), TypeError, "^steps.*whole"),
    "steps text": (lambda p: p["factors"].predict([1.0, 1.0], "2"), TypeError, "^steps"),
    "tolerance 0": (lambda p: p["factors"].steps(0.0), ValueError, "^tolerance"),
    "tolerance 2": (lambda p: p["factors"].table(2.0), ValueError, "^tolerance"),
    "tolerance text": (lambda p: p["factors"].settings("small"), TypeError, "^tolerance"),
    "effective lr": (lambda p: effective_lr(0.0, 0.9), ValueError, "^lr"),
    "effective momentum": (lambda p: effective_lr(0.1, 1.0), ValueError, "^momentum"),
    "effective kind": (lambda p: effective_lr([0.1], "0.9"), TypeError, "^lr|^momentum"),
    "decay negative": (
        lambda p: effective_parameters(p["q"], weight_decay=-0.1),
        ValueError,
        "^weight_decay: got -0.1",
    ),
    "decay nan": (
        lambda p: effective_parameters(p["q"], weight_decay=[1, math.nan]),
        ValueError,
        "^weight_decay: got nan at",
    ),
    "decay none": (lambda p: effective_parameters(p["q"], weight_decay=None), TypeError, "^weight_decay"),
    "decay empty": (lambda p: effective_parameters(p["q"], weight_decay=[]), ValueError, "^weight_decay: got no numb"),
    "decay too small": (lambda p: effective_parameters(p["saddle"], weight_decay=1), ValueError, "^weight_decay"),
    "decay memory": (
        lambda p: effective_parameters(*p["all"], weight_decay=1, memory_limit=1),
        ValueError,
        "^model.*512 bytes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    model = gd.Sequential(gd.Dense(3, 2), seed=0, dtype="float64")
    given: dict[str, Any] = {
        "all": (model, gd.CrossEntropy(), rng.standard_normal((6, 3)), rng.integers(0, 2, 6)),
        "f32": gd.Sequential(gd.Dense(3, 2), seed=0),
        "q": from_arrays(np.diag([1.0, 2.0])),
        "saddle": from_arrays(np.diag([-1.0, 2.0])),
        "line": regression(rng, inputs=3),
    }
    given["factors"] = convergence_factors(given["q"], lr=0.1)
    before = helpers.snapshot(model)
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(given), kind, words)
    helpers.same_bits(before, helpers.snapshot(model))
