"""Promise: what the estimators have beside scikit-learn's takes effect: class weights, validation data, dropout, norms,
schedules, callbacks, the model; what cannot be done is refused, with the argument's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore.sklearn import MLPClassifier, MLPRegressor
from gdcore.sklearn.training import Batches
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_digits(return_X_y=True)
X = (X / 16.0).astype(np.float32)
XV, YV, X, Y = X[1000:], Y[1000:], X[:501], Y[:501]
RNG = np.random.default_rng(1)


def classifier(**options: Any) -> MLPClassifier:
    settings = {"hidden_layer_sizes": (24,), "max_iter": 8, "learning_rate_init": 0.01, "random_state": 0}
    return MLPClassifier(**settings | options)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_class_weights_are_weights_of_rows(solver: str) -> None:
    y, weights = Y == 3, RNG.uniform(0.5, 1, len(Y))
    factors = len(y) / (2 * np.bincount(y))
    balanced = classifier(solver=solver, class_weight="balanced").fit(X, y, sample_weight=weights)
    by_hand = classifier(solver=solver).fit(X, y, sample_weight=weights * factors[y.astype(int)])
    assert balanced.loss_ == pytest.approx(by_hand.loss_)
    named = classifier(solver=solver, class_weight={True: 5.0}).fit(X, y)
    assert named.predict(X).sum() >= classifier(solver=solver).fit(X, y).predict(X).sum()
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=[False, True])


def test_validation_data() -> None:
    model = classifier(max_iter=20).fit(X, Y, validation_data=(XV, YV))
    assert len(model.validation_scores_) == len(model.loss_curve_) == 20
    assert model.validation_scores_[-1] == pytest.approx(accuracy_score(YV, model.predict(XV)))
    assert model.best_validation_score_ == max(model.validation_scores_)
    stopped = classifier(max_iter=200, early_stopping=True, n_iter_no_change=3).fit(X, Y, validation_data=(XV, YV))
    assert stopped.score(XV, YV) == pytest.approx(stopped.best_validation_score_)
    assert stopped.t_ == len(X) * stopped.n_iter_ and stopped.n_iter_ < 200
    weights = (YV == 1).astype(float)
    weighted = classifier().fit(X, Y, validation_data=(XV, YV, weights))
    assert weighted.validation_scores_[-1] == pytest.approx(weighted.score(XV, YV, weights))


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_layers(norm: str | None, dropout: float) -> None:
    """501 rows in batches of 100: BatchNorm has no batch of one row."""
    model = classifier(hidden_layer_sizes=(24, 12), norm=norm, dropout=dropout, batch_size=100, max_iter=30).fit(X, Y)
    kinds = {type(layer) for layer in model.model_.layers}
    assert (gd.Dropout in kinds) == bool(dropout)
    assert (gd.BatchNorm in kinds) == (norm == "batch") and (gd.LayerNorm in kinds) == (norm == "layer")
    assert [coefs.shape for coefs in model.coefs_] == [(64, 24), (24, 12), (12, 10)]
    assert model.score(XV, YV) > 0.75
    assert model._trainer.steps == 30 * (5 if norm == "batch" else 6)
    again = classifier(**{**model.get_params(), "random_state": 0}).fit(X, Y)
    assert again.loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_schedule(solver: str) -> None:
    constant = classifier(solver=solver).fit(X, Y)
    same = classifier(solver=solver, schedule=gd.schedules.constant(0.01), learning_rate_init=9.0).fit(X, Y)
    assert same.loss_curve_ == constant.loss_curve_
    decay = gd.schedules.step_decay(0.01, every=3, factor=0.0)
    model = classifier(solver=solver, momentum=0.0, schedule=decay).fit(X, Y)
    still = classifier(solver=solver, momentum=0.0, max_iter=1).fit(X, Y)
    for got, expected in zip(model.coefs_, still.coefs_, strict=True):
        assert np.array_equal(got, expected)  # an epoch has three steps


def test_callbacks(tmp_path: Path) -> None:
    stopping, log = gd.EarlyStopping("val_loss", patience=2), gd.CSVLog(tmp_path / "log.csv")
    saving = gd.Checkpoint(tmp_path / "run.safetensors")
    model = classifier(max_iter=300, solver="sgd", learning_rate_init=0.5, callbacks=[stopping, log, saving])
    model.fit(X, Y, validation_data=(XV, YV))
    assert model.n_iter_ == stopping.best_epoch + 2 < 300
    assert len((tmp_path / "log.csv").read_text().splitlines()) == model.n_iter_ + 1
    assert gd.load(tmp_path / "run.safetensors").out_features == 10


def test_the_model_is_complete(tmp_path: Path) -> None:
    names = np.array([f"digit {y}" for y in Y])
    model = classifier().fit(X, names)
    model.model_.save(tmp_path / "model.safetensors")
    loaded = gd.load(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.predict_classes(XV), model.predict(XV))
    assert np.array_equal(loaded.predict_proba(XV), model.predict_proba(XV))


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_rows_of_weight_0_do_not_count(alpha: float) -> None:
    """Whole batches of them are skipped; without shuffling the others are the same batches."""
    x, y, weights = np.concatenate([X[:100], X]), np.concatenate([Y[:100], Y]), np.r_[np.zeros(100), np.ones(501)]
    options = {"batch_size": 100, "shuffle": False, "alpha": alpha, "solver": "sgd"}
    model, fewer = classifier(**options).fit(x, y, weights), classifier(**options).fit(X, Y)
    assert np.array_equal(model.predict_proba(XV), fewer.predict_proba(XV))


def test_epochs_in_one_call_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With alpha = 0 the core trains all equal batches of an epoch in one call."""
    whole = classifier(batch_size=100, alpha=0.0, solver="sgd").fit(X, Y)
    begin = Batches.begin

    def single(self: Any, *args: Any) -> None:
        self._stride = 1
        begin(self, *args)

    monkeypatch.setattr(Batches, "begin", single)
    steps = classifier(batch_size=100, alpha=0.0, solver="sgd").fit(X, Y)
    assert np.array_equal(whole.predict_proba(XV), steps.predict_proba(XV))
    np.testing.assert_allclose(whole.loss_curve_, steps.loss_curve_, rtol=1e-6)


@pytest.mark.parametrize("options", [{"batch_size": 100}, {"solver": "lbfgs"}, {"norm": "batch", "dropout": 0.2}])
def test_devices_agree(device: str, options: dict[str, Any]) -> None:
    """On a GPU the core trains an epoch's equal batches in one call, and knows the penalty at both ends only."""
    for weights in (None, RNG.uniform(0.5, 1, len(Y))):
        fitted = [classifier(device=on, **options).fit(X.astype(float), Y, weights) for on in (device, "cpu")]
        assert fitted[0].model_.device == device
        np.testing.assert_allclose(*(model.loss_ for model in fitted), rtol=1e-5)
        np.testing.assert_allclose(*(model.predict_proba(XV) for model in fitted), rtol=1e-6, atol=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    for options, name in (
        ({"solver": "lbfgs", "dropout": 0.1}, "dropout"),
        ({"solver": "lbfgs", "norm": "batch"}, "norm"),
        ({"solver": "lbfgs", "schedule": gd.schedules.constant(0.1)}, "schedule"),
        ({"solver": "lbfgs", "callbacks": [gd.Progress()]}, "callbacks"),
        ({"schedule": gd.schedules.constant(0.1), "learning_rate": "adaptive"}, "learning_rate"),
        ({"norm": "group"}, "norm"),
        ({"alpha": -1}, "alpha"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes"),
        ({"batch_size": 0}, "batch_size"),
        ({"solver": "sgd", "momentum": 1.0}, "momentum"),
        ({"device": "gpu"}, "device"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "validation_fraction"),
    ):
        with pytest.raises(ValueError, match=name):
            classifier(**options).fit(X, Y)
    with pytest.raises(ValueError, match=r"[sS]ample.weight"):
        classifier().fit(X, Y, np.zeros(len(Y)))
    with pytest.raises(TypeError, match="validation_data"):
        classifier().fit(X, Y, validation_data=0.2)
    with pytest.raises(ValueError, match="validation_data"):
        classifier(solver="lbfgs").fit(X, Y, validation_data=(XV, YV))
    with pytest.raises(ValueError, match="early_stopping"):
        classifier(early_stopping=True).partial_fit(X, Y, classes=range(10))
    assert not hasattr(classifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(ValueError, match="warm_start"):
        classifier(warm_start=True).fit(X, Y).set_params(hidden_layer_sizes=3).fit(X, Y)
    with pytest.raises(ValueError, match="loss"):
        MLPRegressor(loss="absolute").fit(X, Y)
    with pytest.raises(ValueError, match="'poisson'"):
        MLPRegressor(loss="poisson").fit(X, -Y)


def test_warnings() -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        classifier(max_iter=2).fit(X, Y)
    with pytest.warns(UserWarning, match="batch_size"):
        classifier(batch_size=1000).fit(X, Y)

    class Interrupts(gd.Callback):
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        assert classifier(callbacks=[Interrupts()]).fit(X, Y).n_iter_ == 1


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 2, "verbose": True}
    model = classifier(max_iter=200, early_stopping=True, **options).fit(X, Y)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"epoch 1: loss {model.loss_curve_[0]:.8f}, score {model.validation_scores_[0]:.6f}"
    assert sum("epoch " in line and "loss" in line for line in printed) == model.n_iter_
    assert any("rate 0.002 from now on" in line for line in printed) and "training ends" in printed[-1]


def test_the_solver_can_change_between_warm_fits() -> None:
    model = classifier(solver="lbfgs", warm_start=True).fit(X, Y)
    loss = model.loss_
    model.set_params(solver="adam", learning_rate_init=1e-4).fit(X, Y)
    assert model.loss_curve_[0] < 1.1 * loss and len(model.loss_curve_) == 8
    model.set_params(early_stopping=True).fit(X, Y)
    assert len(model.validation_scores_) == 8
    before = model.predict_proba(XV)
    assert model.set_params(solver="lbfgs").fit(X, Y).model_.dtype == "float64"
    model.set_params(solver="adam", early_stopping=False).partial_fit(X, Y)
    assert not np.array_equal(model.predict_proba(XV), before)
    anew = classifier().fit(X, Y).set_params(solver="lbfgs").fit(X, Y).set_params(solver="sgd").partial_fit(X, Y)
    assert anew._trainer.model is anew.model_


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_callbacks_at_steps(alpha: float) -> None:
    average = gd.WeightAverage(0.9, every=3)
    plain, averaged = (classifier(alpha=alpha, callbacks=own).fit(X, Y) for own in ([], [average]))
    assert average.updates == 8 * 3 // 3  # epochs of three batches
    np.testing.assert_allclose(plain.loss_curve_, averaged.loss_curve_, rtol=1e-6)
    assert not np.array_equal(plain.coefs_[0], averaged.coefs_[0])

    class Scale:
        def on_step(self, trainer: gd.Trainer) -> None:
            trainer.decay_scale = 0.5

    with pytest.raises(ValueError, match=r"trainer\.decay_scale: expected 1"):
        classifier(alpha=alpha, callbacks=[Scale()]).fit(X, Y)
