"""Promise: with the same seed the estimators compute what scikit-learn's do: initial weights, order of rows, penalty,
rates, stopping and early stopping; "sgd" and "lbfgs" to rounding, "adam" closely."""

from __future__ import annotations

import inspect
from typing import Any

import gdcore.sklearn as ours
import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.datasets import load_diabetes, load_digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(3)
DIGITS, LABELS = (array[:501] for array in load_digits(return_X_y=True))
DIGITS = DIGITS / 16.0  # 501 rows: a last batch of one row
PATIENTS, OUTCOME = load_diabetes(return_X_y=True)
OUTCOME = (OUTCOME - OUTCOME.mean()) / OUTCOME.std()
SEVERAL = np.column_stack([OUTCOME, OUTCOME**2, PATIENTS[:, 0] * 10])
TASKS: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "ten classes": ("MLPClassifier", DIGITS, LABELS, {}),
    "two classes": ("MLPClassifier", DIGITS, np.where(LABELS > 4, 3, 7), {"activation": "logistic"}),
    "two answers": ("MLPClassifier", DIGITS, np.column_stack([LABELS > 4, LABELS % 2]).astype(int), {}),
    "a number": ("MLPRegressor", PATIENTS, OUTCOME, {"activation": "identity"}),
    "three numbers": ("MLPRegressor", PATIENTS, SEVERAL, {"activation": "tanh"}),
    "counts": ("MLPRegressor", PATIENTS, np.abs(SEVERAL), {"loss": "poisson", "hidden_layer_sizes": (20, 10)}),
}
FITTED = ["loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_", "t_", "n_iter_"]
SHAPES = ["n_layers_", "n_outputs_", "out_activation_", "n_features_in_"]


def pair(kind: str, **options: Any) -> tuple[Any, Any]:
    options = {"random_state": 0, "max_iter": 6, "alpha": 0.5, "hidden_layer_sizes": 24} | options
    return getattr(theirs, kind)(**options), getattr(ours, kind)(**options)


def same(reference: Any, model: Any, x: Any, rtol: float = 1e-9) -> None:
    for name in FITTED + SHAPES:
        expected = getattr(reference, name, None)
        if expected is None or isinstance(expected, str):
            assert getattr(model, name, None) == expected, name
        else:
            np.testing.assert_allclose(getattr(model, name), expected, rtol=rtol, err_msg=name)
    for name in ("coefs_", "intercepts_"):
        for got, expected in zip(getattr(model, name), getattr(reference, name), strict=True):
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)
    for call in ("predict_proba", "predict_log_proba") if hasattr(reference, "predict_proba") else ("predict",):
        np.testing.assert_allclose(getattr(model, call)(x), getattr(reference, call)(x), rtol=rtol, atol=rtol)
    if hasattr(reference, "classes_"):
        assert np.array_equal(model.predict(x), reference.predict(x))
        assert np.array_equal(model.classes_, reference.classes_)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_the_parameters_are_theirs(kind: str) -> None:
    reference, model = pair(kind)
    mine, known = (inspect.signature(type(estimator)).parameters for estimator in (model, reference))
    assert {name: mine[name].default for name in known} == {name: known[name].default for name in known}
    positional = [name for name, each in known.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert [name for name, each in mine.items() if each.kind is each.POSITIONAL_OR_KEYWORD] == positional


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("weighted", [False, True])
def test_stochastic_gradient_descent_is_the_same(task: str, weighted: bool) -> None:
    kind, x, y, options = TASKS[task]
    weights = RNG.uniform(0.1, 2, len(x)) if weighted else None
    options = options | {"batch_size": 100, "learning_rate_init": 0.01, "early_stopping": weighted}
    reference, model = pair(kind, solver="sgd", **options)
    same(reference.fit(x, y, weights), model.fit(x, y, weights), x)
    if not weighted:  # a warm start of scikit-learn's changes the best weights of before, which it has kept
        reference.set_params(warm_start=True), model.set_params(warm_start=True)
        same(reference.fit(x, y), model.fit(x, y), x)


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": "invscaling", "power_t": 0.2},
        {"learning_rate": "adaptive", "tol": 1e-2, "n_iter_no_change": 2, "max_iter": 60},
        {"tol": 1e-2, "n_iter_no_change": 3, "max_iter": 60},
        {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 3, "max_iter": 60},
        {"shuffle": False, "nesterovs_momentum": False, "momentum": 0.5},
        {"batch_size": 167, "alpha": 0.0},
        {"batch_size": 501, "alpha": 30.0},
        {"hidden_layer_sizes": ()},
    ],
)
def test_rates_and_stopping_are_the_same(options: dict[str, Any]) -> None:
    for y in (LABELS, LABELS % 2):
        reference, model = pair("MLPClassifier", **{"solver": "sgd", "learning_rate_init": 0.1} | options)
        same(reference.fit(DIGITS, y), model.fit(DIGITS, y), DIGITS, rtol=1e-7)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "three numbers"])
@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_is_the_same(task: str, weighted: bool) -> None:
    kind, x, y, options = TASKS[task]
    weights = RNG.uniform(0.1, 2, len(x)) if weighted else None
    reference, model = pair(kind, solver="lbfgs", **options)
    same(reference.fit(x, y, weights), model.fit(x, y, weights), x, rtol=1e-6)


def test_lbfgs_minimises_the_sum_over_outputs() -> None:
    """Its minimum is where scikit-learn's gradient, of the sum, vanishes; ``loss_`` is the mean."""
    _, model = pair("MLPRegressor", solver="lbfgs", hidden_layer_sizes=(), alpha=2.0, max_iter=500, tol=1e-8)
    model.fit(PATIENTS, SEVERAL)
    centred = PATIENTS - PATIENTS.mean(0)
    expected = np.linalg.solve(centred.T @ centred + 2.0 * np.eye(10), centred.T @ SEVERAL)
    np.testing.assert_allclose(model.coefs_[0], expected, atol=1e-3)
    squares = 0.5 * ((SEVERAL - model.predict(PATIENTS)) ** 2).mean()
    assert model.loss_ == pytest.approx(squares + (model.coefs_[0] ** 2).sum() / len(PATIENTS))


@pytest.mark.parametrize("task", list(TASKS))
def test_adam_is_close(task: str) -> None:
    kind, x, y, options = TASKS[task]
    reference, model = pair(kind, **{"max_iter": 30, "learning_rate_init": 0.003} | options)
    reference.fit(x, y), model.fit(x, y)
    np.testing.assert_allclose(model.loss_curve_, reference.loss_curve_, rtol=2e-3)
    assert model.score(x, y) == pytest.approx(reference.score(x, y), abs=0.02)


@pytest.mark.parametrize("task", list(TASKS))
def test_partial_fit_is_the_same(task: str) -> None:
    kind, x, y, options = TASKS[task]
    reference, model = pair(kind, solver="sgd", learning_rate="invscaling", **options)
    for first, last in ((0, 300), (300, 420), (0, 300)):
        known = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
        classes = {"classes": known} if first == 0 and kind == "MLPClassifier" else {}
        for estimator in (reference, model):
            estimator.set_params(alpha=0.5 + first)  # takes effect at once
            estimator.partial_fit(x[first:last], y[first:last], **classes)
    same(reference, model, x)


def test_from_given_weights() -> None:
    reference, model = pair("MLPClassifier", solver="sgd", batch_size=501, warm_start=True)
    reference.fit(DIGITS, LABELS)
    model.set_params(random_state=9).fit(DIGITS, LABELS)
    model.coefs_, model.intercepts_ = reference.coefs_, reference.intercepts_
    begins = len(reference.loss_curve_)
    reference.fit(DIGITS, LABELS), model.fit(DIGITS, LABELS)
    np.testing.assert_allclose(model.loss_curve_[begins:], reference.loss_curve_[begins:], rtol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][0, 0] = 1.0


def test_float32_stays_float32() -> None:
    reference, model = pair("MLPRegressor", solver="sgd")
    x = PATIENTS.astype(np.float32)
    reference.fit(x, OUTCOME), model.fit(x, OUTCOME)
    assert model.predict(x).dtype == model.coefs_[0].dtype == np.float32
    np.testing.assert_allclose(model.loss_curve_, reference.loss_curve_, rtol=1e-5)
