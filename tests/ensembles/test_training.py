"""Promise: `Ensemble.train` gives the models that a loop over seeds gives, bit for bit, for any number of processes;
with a bootstrap and with own validation rows each on its own rows, whose out-of-bag measures are those of NumPy."""

from __future__ import annotations

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(7)
X = RNG.standard_normal((240, 4))
Y = (np.abs(X) @ np.array([1.0, -1.0, 0.5, 0.2]) > 0.3).astype(np.int64)
W = RNG.uniform(0.5, 2, size=240)
FIT: dict[str, Any] = {"epochs": 4, "batch_size": 16, "progress": False}


def build(seed: int) -> gd.Sequential:
    layers = gd.Dense(4, 8 + seed % 2), gd.BatchNorm(8 + seed % 2), gd.ReLU(), gd.Dense(8 + seed % 2, 2)
    return gd.Sequential(*layers, seed=seed, device="cpu")


def train(n: int = 3, **options: Any) -> gd.Ensemble:
    settings: dict[str, Any] = {"loss": gd.CrossEntropy(), "optimizer": gd.Adam(1e-2), "seed": 5} | FIT | options
    return gd.Ensemble.train(build, n, X, Y, **settings)


def alone(seed: int, x: Any, y: Any, w: Any, validation: Any) -> gd.Trainer:
    """One model, trained by hand."""
    trainer = gd.Trainer(build(seed), gd.CrossEntropy(), optimizer=gd.Adam(1e-2), seed=seed)
    stopping = gd.EarlyStopping(patience=1) if validation is not None else None
    callbacks = [stopping] if stopping else []
    trainer.fit(x, y, epochs=4, batch_size=16, sample_weight=w, validation=validation, callbacks=callbacks)
    return trainer


def split(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    training, validation = gd.train_validation_split(rows, fraction=0.25, seed=seed)
    return training, validation


@pytest.mark.parametrize("validation", [None, "data", 0.25, "resplit"])
@pytest.mark.parametrize("bootstrap", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_models_are_those_of_a_loop(validation: Any, bootstrap: bool, weighted: bool) -> None:
    held = (X[:50], Y[:50], W[:50])
    given = {"data": held, "resplit": 0.25}.get(validation, validation)
    options: dict[str, Any] = {"validation": given, "resplit": validation == "resplit", "bootstrap": bootstrap}
    if validation is not None:
        options["callbacks"] = [gd.EarlyStopping(patience=1)]
    made = train(**options, sample_weight=W if weighted else None)
    assert [t.seed for t in made.training] == [5, 6, 7]
    for member, training in zip(made, made.training, strict=True):
        rows, checked = np.arange(240), None
        if given == 0.25:
            rows, others = split(rows, training.seed if validation == "resplit" else 5)
            checked = (X[others], Y[others], *((W[others],) if weighted else ()))
        checked = held if validation == "data" else checked
        left_out = np.zeros(240, bool)
        if bootstrap:
            drawn = np.sort(np.random.default_rng(training.seed).integers(len(rows), size=len(rows)))
            left_out[np.setdiff1d(rows, rows[drawn])] = True
            rows = rows[drawn]
            assert training.left_out is not None and 0.2 < left_out.mean() < 0.45
            np.testing.assert_array_equal(training.left_out, left_out)
        else:
            assert training.left_out is None
        trainer = alone(training.seed, X[rows], Y[rows], W[rows] if weighted else None, checked)
        helpers.same_bits(member.copy_state()["parameters"], trainer.model.copy_state()["parameters"])
        helpers.same_bits(member.copy_state()["buffers"], trainer.model.copy_state()["buffers"])
        assert training.history["loss"] == trainer.history["loss"] and training.seconds > 0


def test_processes_and_threads_change_no_bit() -> None:
    one = train(bootstrap=True, validation=0.2)
    for where in ({"n_jobs": 1}, {"n_jobs": 3, "threads": 2}, {"n_jobs": 2, "within": "processes"}):
        two = train(bootstrap=True, validation=0.2, **where)
        helpers.same_bits(one.predict(X), two.predict(X))
        helpers.same_bits([t.left_out for t in two.training], [t.left_out for t in one.training])
    with ThreadPoolExecutor(2) as executor:
        helpers.same_bits(train(bootstrap=True, validation=0.2, executor=executor).predict(X), one.predict(X))


@pytest.mark.parametrize("average", ["probabilities", "outputs"])
@pytest.mark.parametrize("resplit", [False, True])
def test_out_of_bag_measures_are_those_of_numpy(average: str, resplit: bool) -> None:
    made = train(4, bootstrap=True, validation=0.2, resplit=resplit, average=average)
    made = made[::-1][:3]
    masks = np.array([t.left_out for t in made.training])
    there = masks.any(axis=0)
    assert 0.3 < there.mean() < 0.9
    z = np.stack([m.predict(X).astype(np.float64) for m in made])
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    terms = z if average == "outputs" else e / e.sum(axis=-1, keepdims=True)
    mean = (masks[..., None] * terms).sum(axis=0)[there] / masks.sum(axis=0)[there, None]
    if average == "outputs":
        mean = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    rows = -np.log(mean[np.arange(len(mean)), Y[there]])
    found = made.out_of_bag(X, Y, metrics=["accuracy"], sample_weight=W)
    assert found["loss"] == pytest.approx((W[there] * rows).sum() / W[there].sum(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((W[there] * (mean.argmax(axis=1) == Y[there])).sum() / W[there].sum())
    assert made.out_of_bag(X, Y) != found
    if not resplit:  # rows that all models validated on
        assert not masks[:, gd.train_validation_split(np.arange(240), fraction=0.2, seed=5)[1]].any()


def test_out_of_bag_measures_of_many_rows_and_of_sure_models() -> None:
    """More rows than are predicted at once, and probabilities that float32 rounds to zero."""
    x = np.tile(X, (9, 1)) * RNG.uniform(0.5, 2, size=(2160, 1))
    y = np.tile(Y, 9)
    made = gd.Ensemble.train(build, 2, x, y, loss=gd.CrossEntropy(), optimizer=gd.Adam(1e-2), bootstrap=True, **FIT)
    for member in made:
        member.parameters()["layers.3.weight"][...] *= 100
    masks = np.array([t.left_out for t in made.training])
    there = masks.any(axis=0)
    z = np.stack([m.predict(x).astype(np.float64) for m in made])
    log = z - np.logaddexp(z[..., :1], z[..., 1:])
    log = np.where(masks[..., None], log, -np.inf)[:, there]
    rows = np.logaddexp(log[0], log[1]) - np.log(masks.sum(axis=0)[there, None])
    rows = rows[np.arange(len(rows)), y[there]]
    assert rows.min() < -120
    assert made.out_of_bag(x, y)["loss"] == pytest.approx(-rows.mean(), rel=1e-5)


def test_training_is_kept_by_copies_and_parts_but_not_by_files() -> None:
    made = train(bootstrap=True)
    for other in (copy.copy(made), pickle.loads(pickle.dumps(made)), made.clone(), made[:]):
        assert [t.seed for t in other.training] == [5, 6, 7]
        assert other.out_of_bag(X, Y) == made.out_of_bag(X, Y)
    assert [t.seed for t in made[1:].training] == [6, 7]
    assert [t.seed for t in made.select(X, Y).training] == [5 + made.models.index(m) for m in made.select(X, Y)]
    assert gd.Ensemble(made).training == ()


class Explodes(gd.Callback):
    """Lets the models of some seeds diverge."""

    def __init__(self, seeds: tuple[int, ...]) -> None:
        self.seeds = seeds

    def on_epoch_begin(self, trainer: gd.Trainer) -> None:
        if trainer.seed in self.seeds:
            trainer.lr_scale = 1e36


def test_models_that_diverge_are_left_out() -> None:
    with pytest.warns(UserWarning, match=r"2 of 4 models diverged and are left out; seed 6: .*loss") as caught:
        made = train(4, callbacks=[Explodes((6, 8))], optimizer=gd.SGD(1e-2))
    assert caught[0].filename == __file__
    assert [t.seed for t in made.training] == [5, 7] and len(made) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        helpers.refuses(
            lambda: train(2, callbacks=[Explodes((5, 6))], optimizer=gd.SGD(1e-2)),
            gd.DivergenceError,
            "every one of 2 models diverged; the first: seed 5: ",
        )


def test_metrics_names_and_frames_reach_every_model() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    labels = np.array(["no", "yes"])[Y]

    def named(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(4, 2), seed=seed, classes=["no", "yes"], device="cpu")

    settings: dict[str, Any] = {"loss": gd.CrossEntropy(), "optimizer": gd.Adam(1e-2), **FIT}
    made = gd.Ensemble.train(named, 2, frame, labels, validation=0.2, metrics=iter(["accuracy"]), **settings)
    assert made.feature_names == tuple("abcd") and set(made.predict_classes(X)) <= {"no", "yes"}
    assert all("val_accuracy" in training.history for training in made.training)
    helpers.same_bits(made.predict(frame[list("dcba")]), made.predict(X))
    bagged = gd.Ensemble.train(named, 2, frame, labels, bootstrap=True, **settings)
    assert bagged.out_of_bag(frame[list("dcba")], labels) == bagged.out_of_bag(X, labels)


def test_arguments_that_do_not_fit_are_refused() -> None:
    helpers.refuses(lambda: train(0), ValueError, "n: got 0")
    helpers.refuses(lambda: train(bootstrap="yes"), TypeError, "bootstrap")
    helpers.refuses(lambda: train(average="mean"), ValueError, "average")
    helpers.refuses(lambda: train(resplit=True), ValueError, "resplit: got True without a share")
    helpers.refuses(lambda: train(resplit=True, validation=(X, Y)), ValueError, "resplit: got True without a share")
    helpers.refuses(lambda: train(validation=0.001, resplit=True), ValueError, "validation: got 0.001 of 240 rows")
    helpers.refuses(lambda: train(validation=0.001), ValueError, "validation: got 0.001 of 240 rows")
    helpers.refuses(lambda: train(resume="file"), ValueError, "resume")
    helpers.refuses(lambda: train(n_jobs=0), ValueError, "n_jobs: got 0")
    helpers.refuses(lambda: train(threads=0), ValueError, "threads: got 0")
    helpers.refuses(lambda: train(seed=-1), ValueError, "seed")
    helpers.refuses(lambda: train(callbacks=[gd.CSVLog("x.csv")]), ValueError, r"callbacks\[0\]: CSVLog")
    helpers.refuses(lambda: train(epochs=None), TypeError, "epochs")
    helpers.refuses(lambda: gd.Ensemble.train(build, 2, X, Y), TypeError, r"^\[Ensemble.train\] loss and optimizer are")
    same = {"loss": gd.CrossEntropy(), "optimizer": gd.SGD(0.1), "epochs": 1}
    helpers.refuses(lambda: gd.Ensemble.train(lambda seed: build(0), 2, X, Y, **same), ValueError, "build: returned")
    helpers.refuses(lambda: train().out_of_bag(X, Y), ValueError, "out_of_bag: no rows were left out")
    bagged = train(bootstrap=True)
    helpers.refuses(
        lambda: bagged.out_of_bag(X[:9], Y[:9]), ValueError, r"x: got shape \(9, 4\); expected the 240 rows"
    )
    helpers.refuses(lambda: gd.Ensemble(bagged).out_of_bag(X, Y), ValueError, "out_of_bag: no rows were left out")
