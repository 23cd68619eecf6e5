"""Promise: predictions are those of the present weights, whoever wrote them and however, also where the weights were
packed before; a predictor keeps those of the moment it was made, and predicts as the model did."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(3)
X = RNG.standard_normal((70, 20)).astype(np.float32)
Y = (np.arange(70) % 19).astype(np.int64)
ROWS = (1, 2, 3, 7, 48, 70)


def network(dtype: str = "float32") -> gd.Sequential:
    layers = gd.Dense(20, 33), gd.BatchNorm(33), gd.ReLU(), gd.Dense(33, 40), gd.Tanh(), gd.Dense(40, 19)
    return gd.Sequential(*layers, seed=0, dtype=dtype, device="cpu", outputs="classes")


def packed(model: Any) -> np.ndarray:
    """The third prediction, which reads packed weights unless something has prevented that."""
    return [model.predict(X) for _ in range(3)][-1]


def fresh(model: gd.Sequential) -> np.ndarray:
    """The prediction of a copy, which has packed nothing."""
    return model.clone().predict(X)


def trainer(model: gd.Sequential) -> gd.Trainer:
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.5))


def by_hand(model: gd.Sequential) -> None:
    coach = trainer(model)
    model.backward(model.forward(X))
    coach.optimizer_step()


def loaded(model: gd.Sequential) -> None:
    file = io.BytesIO()
    model.clone(seed=9).save(file)
    other = network()
    other.initialize(9)
    model.load_parameters(other)


def through_a_part(model: gd.Sequential) -> None:
    part = model.parameters()["layers.0.weight"][3:5]  # the only reference to the view
    gc.collect()
    model.predict(X)
    model.predict(X)
    part[...] = 0.25


WRITES: dict[str, Callable[[gd.Sequential], object]] = {
    "step": lambda model: trainer(model).step(X, Y),
    "fit": lambda model: trainer(model).fit(X, Y, epochs=2, batch_size=8, validation=(X, Y)),
    "optimizer_step": by_hand,
    "initialize": lambda model: model.initialize(7),
    "view": lambda model: model.parameters()["layers.3.weight"].fill(0.125),
    "part of a view": through_a_part,
    "memoryview": lambda model: memoryview(model.parameters()["layers.3.bias"]).__setitem__(0, 5.0),
    "set_flat_parameters": lambda model: model.set_flat_parameters(0.5 * model.flat_parameters()),
    "restore_state": lambda model: model.restore_state(network().clone(seed=1).copy_state()),
    "load_parameters": loaded,
    "running averages": lambda model: model.forward(X),
    "buffers": lambda model: model.buffers()["layers.1.running_mean"].fill(0.5),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_prediction_is_that_of_the_present_weights(write: str) -> None:
    model = network()
    if write == "restore_state":
        model.initialize(5)
    before = packed(model)
    assert np.array_equal(before, fresh(model))
    WRITES[write](model)
    after = model.predict(X)
    assert not np.array_equal(after, before)
    assert np.array_equal(after, fresh(model))
    assert np.array_equal(packed(model), after)


def test_a_view_that_is_alive_may_be_written_at_any_time() -> None:
    model = network()
    view = model.parameters()["layers.3.weight"]
    for turn in range(4):
        before = packed(model)
        view += 0.01 * (turn + 1)
        after = model.predict(X)
        assert not np.array_equal(after, before)
        assert np.array_equal(after, fresh(model))
    kept = view[:1]
    del view
    before = packed(model)
    kept += 1.0
    assert not np.array_equal(model.predict(X), before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype: str, threads: int) -> None:
    before = gd.get_num_threads()
    gd.set_num_threads(threads)
    try:
        model = network(dtype)
        whole = model.clone().predict(X)
        for model_or_copy in (model, model.predictor()):
            packed(model_or_copy)
            for rows in ROWS:
                for first in (0, 70 - rows):
                    part = model_or_copy.predict(X[first : first + rows])
                    assert np.array_equal(part, whole[first : first + rows])
    finally:
        gd.set_num_threads(before)


def test_frozen_parameters_and_clones_share_no_packed_weights() -> None:
    model = network()
    packed(model)
    model.freeze("layers.0")
    copied = model.clone()
    trainer(model).step(X, Y)
    after = model.predict(X)
    assert not np.array_equal(after, packed(copied))
    assert np.array_equal(after, fresh(model))


def test_a_predictor_keeps_the_weights_of_the_moment_it_was_made() -> None:
    model = network()
    predictor = model.predictor()
    before = model.predict(X)
    for name in ("predict", "predict_proba", "predict_classes"):
        assert np.array_equal(getattr(predictor, name)(X), getattr(model, name)(X))
    trainer(model).fit(X, Y, epochs=1, batch_size=8)
    assert not np.array_equal(model.predict(X), before)
    for each in (predictor, copy.copy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert isinstance(each, gd.FrozenPredictor)
        assert np.array_equal(packed(each), before)
        assert not hasattr(each, "parameters")


def test_a_predictor_has_the_facts_and_checks_of_its_model() -> None:
    model = network()
    model.classes = [f"class {i}" for i in range(19)]
    model.feature_names = [f"column {i}" for i in range(20)]
    predictor = model.predictor()
    for name in ("in_features", "out_features", "dtype", "device", "outputs", "classes", "feature_names"):
        assert getattr(predictor, name) == getattr(model, name)
    assert predictor.target_names is None
    assert list(predictor.predict_classes(X)) == list(model.predict_classes(X))
    helpers.refuses(lambda: predictor.predict(X[:, :3]), ValueError, "20")
    helpers.refuses(lambda: predictor.predict(X * np.float32(np.nan)), ValueError, "nan in row 0")
    assert np.isnan(predictor.predict(X * np.float32(np.nan), check_finite=False)).all()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_predict_by_the_quick_path(how: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    copied = how(network())
    first = copied.predict(X)
    monkeypatch.setattr(type(copied), "_checked", None)  # the slow path calls it
    assert np.array_equal(copied.predict(X), first)


def test_threads_may_share_a_predictor() -> None:
    predictor = network().predictor()
    expected = predictor.predict(X)
    found: list[bool] = []

    def work() -> None:
        found.extend(np.array_equal(predictor.predict(X), expected) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert all(found)
