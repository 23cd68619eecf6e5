"""Promise: in custom loops, and with another trainer, columns and class weights have the same meaning as in `fit`;
flags must be bools, and values that a callback writes, keeps or lacks are distinguished from measured ones."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis

pd, pl = (pytest.importorskip(name) for name in ("pandas", "polars"))

RNG = np.random.default_rng(3)
X = RNG.standard_normal((40, 3)).astype(np.float32) * [1, 10, 100]
T = RNG.standard_normal((40, 2)) + np.array([5.0, -5.0])
Y = np.arange(40) % 4 // 3  # a quarter of ones
NAMES, OUTPUTS = ["a", "b", "c"], ["low", "high"]
FRAME, TARGETS = pd.DataFrame(X, columns=NAMES), pd.DataFrame(T, columns=OUTPUTS)
OTHER, SWAPPED = FRAME[["c", "b", "a"]], TARGETS[["high", "low"]]


def build(loss: gd.Loss | None = None, model: gd.Sequential | None = None) -> gd.Trainer:
    model = gd.Sequential(gd.Standardizer(3).fit(X), gd.Dense(3, 2), seed=0) if model is None else model
    return gd.Trainer(model, gd.MeanSquaredError() if loss is None else loss, optimizer=gd.SGD(0.01))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_batches_of_frames_keep_their_names(library: str, shuffle: bool) -> None:
    """Every consumer reorders the columns to the known order."""
    convert = (lambda frame: frame) if library == "pandas" else pl.from_pandas
    trainers = [build(), build()]
    for trainer, x, y in zip(trainers, (FRAME, OTHER), (TARGETS, SWAPPED), strict=True):
        trainer.step(FRAME, TARGETS)
        for xb, yb in gd.MiniBatches(convert(x), convert(y), batch_size=8, shuffle=shuffle):
            assert isinstance(xb, np.ndarray) and isinstance(yb, np.ndarray)
            trainer.step(xb, yb)
            trainer.evaluate(xb, yb)
    first, second = trainers
    helpers.same_bits(first.model.copy_state()["parameters"], second.model.copy_state()["parameters"])
    for xb in gd.MiniBatches(OTHER, batch_size=8, shuffle=False):
        helpers.same_bits(first.model.predict(xb), second.model.predict(np.asarray(xb)[:, ::-1].copy()))
        helpers.same_bits(first.model.predict(xb[:, ::-1]), first.model.predict(np.array(xb)[:, ::-1]))  # by position
        break
    wrong = next(iter(gd.MiniBatches(FRAME.rename(columns={"b": "z"}), TARGETS, batch_size=8)))
    with pytest.raises(ValueError, match=r"x: lacks column 'b'"):
        first.step(*wrong)


def test_batches_name_the_columns() -> None:
    trainer = build()
    trainer.step(*next(iter(gd.MiniBatches(FRAME, TARGETS, batch_size=8))))
    assert trainer.model.feature_names == tuple(NAMES) and trainer.model.target_names == tuple(OUTPUTS)


def saved(model: gd.Sequential, path: Path) -> gd.Sequential:
    model.save(path)
    return gd.load(path)


MODELS: dict[str, Callable[[gd.Sequential, Path], gd.Sequential]] = {
    "itself": lambda model, path: model,
    "a copy": lambda model, path: copy.deepcopy(model),
    "a pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "a file": saved,
    "made again": lambda model, path: gd.Sequential(*model.layers, **model.settings()),
}


@pytest.mark.parametrize("which", MODELS)
def test_a_model_knows_the_names_of_targets(which: str, tmp_path: Path) -> None:
    first = build()
    first.fit(FRAME, TARGETS, epochs=1)
    model = MODELS[which](first.model, tmp_path / "m")
    assert model.target_names == tuple(OUTPUTS)
    second = build(model=model)
    assert second.evaluate(OTHER, SWAPPED) == second.evaluate(X, T)
    objective = analysis.Objective(analysis.in_float64(model), gd.MeanSquaredError(), FRAME, SWAPPED)
    assert objective.value() == analysis.Objective(objective.model, gd.MeanSquaredError(), X, T).value()
    with pytest.raises(ValueError, match=r"y: lacks column 'low'"):
        second.step(X, TARGETS.rename(columns={"low": "z"}))
    with pytest.raises(ValueError, match="target_names: got 3 names; expected 2"):
        model.target_names = NAMES


def test_frames_that_nobody_named_give_no_names() -> None:
    for call in (
        lambda trainer: trainer.fit(pd.DataFrame(X), pd.DataFrame(T), epochs=1),
        lambda trainer: trainer.step(pd.DataFrame(X), pd.DataFrame(T)),
        lambda trainer: trainer.fit(gd.MiniBatches(pd.DataFrame(X), pd.DataFrame(T), batch_size=8), epochs=1),
    ):
        trainer = build()
        call(trainer)
        assert trainer.model.feature_names is None and trainer.model.target_names is None
        helpers.same_bits(trainer.model.predict(FRAME), trainer.model.predict(X))
    assert gd.Standardizer().fit(pd.DataFrame(X)).feature_names is None
    named = gd.Sequential(gd.Dense(3, 2), feature_names=["0", "1", "2"])
    assert named.feature_names == ("0", "1", "2")
    helpers.same_bits(named.predict(pd.DataFrame(X)[[2, 1, 0]]), named.predict(X))


def test_balanced_weights_go_on_in_a_loop(tmp_path: Path) -> None:
    loss = gd.CrossEntropy("balanced")
    first = build(loss)
    first.fit(X, Y, epochs=2, callbacks=[gd.Checkpoint(tmp_path / "c")])
    loaded = build(loss)
    loaded.load_checkpoint(tmp_path / "c")
    copied = copy.deepcopy(first)
    for trainer in (loaded, copied):
        assert trainer.evaluate(X, Y) == first.evaluate(X, Y)
    assert loaded.step(X, Y) == copied.step(X, Y)
    helpers.same_bits(loaded.model.copy_state()["parameters"], copied.model.copy_state()["parameters"])
    helpers.same_bits(np.asarray(loaded.core.state() or 0), np.asarray(copied.core.state() or 0))
    untrained = build(loss)
    untrained.save_checkpoint(tmp_path / "u")
    build(loss).load_checkpoint(tmp_path / "u")


def attributes(value: Any) -> dict[str, Callable[[], Any]]:
    model = build().model
    model64 = analysis.in_float64(model)
    settings: dict[str, Any] = {"loss": gd.MeanSquaredError(), "optimizer": gd.SGD(0.1), "epochs": 1}
    return {
        "check_finite of predict": lambda: model.predict(X.astype(np.float32), check_finite=value),
        "check_finite of forward": lambda: model.forward(X, check_finite=value),
        "check_finite of predict_proba": lambda: gd.Sequential(gd.Dense(3, 2), outputs="classes").predict_proba(
            X, check_finite=value
        ),
        "curvature": lambda: gd.lr_range_test(model, gd.MeanSquaredError(), X, T, steps=3, curvature=value),
        "keep_models": lambda: gd.restarts(
            lambda seed: copy.deepcopy(model), 1, X, T, validation=0.5, keep_models=value, progress=False, **settings
        ),
        "replace": lambda: analysis.gradient_noise(model64, gd.MeanSquaredError(), X, T, replace=value),
    }


@pytest.mark.parametrize("name", attributes(True))
def test_flags_are_flags(name: str) -> None:
    for value in ("no", None, 2, "", []):
        with pytest.raises(TypeError, match=f"{name.partition(' ')[0]}: got .*expected True or False"):
            attributes(value)[name]()
    for value in (True, np.True_, 1):
        attributes(value)[name]()
    bad = np.full((1, 3), np.nan, np.float32)
    assert np.isnan(build().model.predict(bad, check_finite=np.False_)).all()
    with pytest.raises(ValueError, match="nan"):
        build().model.predict(bad, check_finite=1)


class Bare:
    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None: ...


@pytest.mark.parametrize("needed", [True, False])
def test_a_callback_that_has_no_state_any_more(needed: bool, tmp_path: Path) -> None:
    class Kept(gd.Callback):
        records = not needed

        def state_dict(self) -> dict[str, Any]:
            return {"n": 1}

        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None: ...

    Kept.__qualname__ = Bare.__qualname__
    build().fit(X, T, epochs=1, callbacks=[Kept(), gd.Checkpoint(tmp_path / "c")])
    trainer = build()
    fit = lambda: trainer.fit(X, T, until_epoch=2, resume=tmp_path / "c", callbacks=[Bare()])  # noqa: E731
    if not needed:
        fit()
        return
    with pytest.raises(ValueError, match="the callback Bare had a state; now it is without state_dict"):
        fit()
    assert trainer.epoch == 0 and trainer.steps == 0


def test_logs_that_are_written_back_change_nothing() -> None:
    class WritesBack:
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, Any]) -> None:
            for name, value in list(logs.items()):
                logs[name] = np.float64(value)

    trainer = gd.Trainer(
        build().model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01), metrics={"odd": lambda y_true, y_pred: math.nan}
    )
    history = trainer.fit(X, T, epochs=2, validation=(X, T), callbacks=[WritesBack()])
    assert np.isnan(history["val_odd"]).all() and trainer.epoch == 2


def test_names_of_metrics_say_what_is_better() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    top = gd.metrics.top_k(2)
    for name in ("k", "__name__"):
        with pytest.raises(AttributeError):
            setattr(top, name, 1)
    assert (top.k, top.__name__, repr(pickle.loads(pickle.dumps(top)))) == (2, "top_2", "top_k(2)")
    model = gd.Sequential(gd.Dense(3, 2), seed=0)

    def make(metrics: Any) -> gd.Trainer:
        return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1), metrics=metrics)

    for wrong in ({"accuracy": sklearn.zero_one_loss}, {"log_loss": "accuracy"}, {"f1": gd.metrics.log_loss}):
        with pytest.raises(ValueError, match=r"is better, but of .* give a dictionary with another name"):
            make(wrong)
    make({"accuracy": sklearn.balanced_accuracy_score, "wrong": sklearn.zero_one_loss, "mine": "log_loss"})
    for factor in (0, 1, 1.0, -0.5, 2):
        with pytest.raises(ValueError, match="factor"):
            gd.ReduceOnPlateau(factor=factor)


def test_gradients_of_no_backward_pass_are_refused() -> None:
    model = build().model
    for prepare in (lambda: None, lambda: model.forward(X)):
        prepare()
        with pytest.raises(RuntimeError, match="flat_gradients: no gradients are available"):
            model.flat_gradients()
    model.backward(np.ones((40, 2)))
    assert model.flat_gradients().any()


def test_freezing_nothing_is_refused() -> None:
    model = build().model
    with pytest.raises(ValueError, match=r"prefixes: got no names.*all of them: freeze\(\*model\.parameters\(\)\)"):
        model.freeze()
    assert model.frozen() == []
    model.freeze(*model.parameters())
    assert model.frozen() == list(model.parameters())
    model.unfreeze()
    assert copy.deepcopy(model).frozen() == []
