"""Promise: a model remembers the column names of the first frame it is trained on, saves and copies them, puts the
columns of later frames in their order, and refuses missing, unknown and duplicate ones by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.experiments.data import labelled_data

pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))

NAMES = ["a", "b", "c", "d"]
X = np.random.default_rng(0).normal(size=(40, 4)) * [1, 10, 100, 1000]
Y = (X[:, 0] > 0).astype(int)
FRAMES: dict[str, Callable[[Any], Any]] = {
    "pandas": lambda names: pd.DataFrame({name: X[:, NAMES.index(name)] for name in names}),
    "polars": lambda names: pl.DataFrame({name: X[:, NAMES.index(name)] for name in names}),
    "pyarrow": lambda names: pa.table({name: X[:, NAMES.index(name)] for name in names}),
}


def frame(names: Any, kind: str = "pandas") -> Any:
    return FRAMES[kind](names)


def trainer(dtype: str = "float32", **settings: Any) -> gd.Trainer:
    network = gd.Sequential(gd.Dense(4, 2), seed=0, device="cpu", dtype=dtype, **settings)
    return gd.Trainer(network, gd.CrossEntropy(), optimizer=gd.SGD(1e-3))


def named(dtype: str = "float32") -> gd.Trainer:
    return trainer(dtype, feature_names=NAMES, outputs="classes")


def scaler() -> gd.Standardizer:
    return gd.Standardizer().fit(frame(NAMES))


def minibatches(x: Any) -> gd.MiniBatches:
    return gd.MiniBatches(x, Y, batch_size=8, shuffle=False)


class Loader:
    """A list of batches of arrays, with names of their columns."""

    def __init__(self, x: Any) -> None:
        made = minibatches(x)
        self.feature_names = None if made.feature_names is None else list(made.feature_names)
        self.batches = list(made)

    def __iter__(self) -> Any:
        return iter(self.batches)


CALLS: dict[str, Callable[[Any], Any]] = {
    "fit": lambda x: named().fit(x, Y, epochs=2)["loss"],
    "fit batches": lambda x: named().fit([(x, Y)], epochs=2)["loss"],
    "validation": lambda x: named().fit(X, Y, epochs=1, validation=(x, Y))["val_loss"],
    "validation of a frame": lambda x: trainer().fit(frame(NAMES), Y, epochs=1, validation=(x, Y))["val_loss"],
    "validation batches": lambda x: named().fit(X, Y, epochs=1, validation=[(x, Y)])["val_loss"],
    "fit MiniBatches": lambda x: named().fit(minibatches(x), epochs=2)["loss"],
    "fit named arrays": lambda x: named().fit(Loader(x), epochs=2)["loss"],
    "validation MiniBatches": lambda x: named().fit(X, Y, epochs=1, validation=minibatches(x))["val_loss"],
    "validation named arrays": lambda x: named().fit(X, Y, epochs=1, validation=Loader(x))["val_loss"],
    "MiniBatches beside a frame": lambda x: trainer().fit(frame(NAMES), Y, epochs=1, validation=minibatches(x))[
        "val_loss"
    ],
    "a frame beside MiniBatches": lambda x: trainer().fit(minibatches(frame(NAMES)), epochs=1, validation=(x, Y))[
        "val_loss"
    ],
    "evaluate MiniBatches": lambda x: named().evaluate(minibatches(x))["loss"],
    "evaluate named arrays": lambda x: named().evaluate(Loader(x))["loss"],
    "step": lambda x: named().step(x, Y),
    "evaluate": lambda x: named().evaluate(x, Y)["loss"],
    "predict": lambda x: named().model.predict(x),
    "predict_proba": lambda x: named().model.predict_proba(x),
    "predict_classes": lambda x: named().model.predict_classes(x),
    "Trainer.predict": lambda x: named().predict(x),
    "forward": lambda x: named().model.forward(x),
    "transform": lambda x: scaler().transform(x),
    "inverse_transform": lambda x: scaler().inverse_transform(x),
    "a model with a Standardizer": lambda x: gd.Sequential(scaler(), gd.Dense(4, 2), seed=0).predict(x),
    "lr_range_test": lambda x: gd.lr_range_test(named().model, gd.CrossEntropy(), x, Y, steps=3).loss,
    "restarts": lambda x: (
        gd.restarts(
            lambda seed: gd.Sequential(gd.Dense(4, 2), seed=seed, feature_names=NAMES, device="cpu"),
            1,
            frame(NAMES),
            Y,
            validation=(x, Y),
            loss=gd.CrossEntropy(),
            optimizer=gd.SGD(1e-3),
            epochs=1,
            progress=False,
        ).best_start.val_loss
    ),
    "Objective": lambda x: analysis.Objective(named("float64").model, gd.CrossEntropy(), x, Y).value(),
    "variance_by_layer": lambda x: analysis.variance_by_layer(named("float64").model, x).variance,
    "experiments": lambda x: labelled_data((frame(NAMES), Y, x, Y)).x_test,
}


@pytest.mark.parametrize("call", CALLS)
def test_columns_are_put_in_order_or_refused(call: str) -> None:
    expected = np.asarray(CALLS[call](X)).tolist()
    for kind in FRAMES:
        for order in ("abcd", "dcba", "bdac"):
            assert np.asarray(CALLS[call](frame(order, kind))).tolist() == expected, (kind, order)
    assert np.asarray(CALLS[call](pd.DataFrame(X))).tolist() == expected  # default names of columns
    renamed = frame(NAMES).rename(columns={"b": "z"})
    more = frame(NAMES).assign(e=1.0)
    twice = frame(NAMES)[["a", "b", "c", "d", "a"]]
    for bad, match in (
        (renamed, "'b'.*'z'"),
        (frame("abc"), "lacks column 'd'"),
        (more, "unknown column 'e'"),
        (twice, "'a' more than once"),
        (frame(NAMES).set_axis([0, 1, 2, 4], axis=1), "'a'"),
    ):
        with pytest.raises(ValueError, match=match):
            CALLS[call](bad)


def test_validation_follows_the_first_batch() -> None:
    """Names that only batches have are known after the first batch; later measurements use them."""

    def validated(x: Any) -> Any:
        return trainer().fit([(frame(NAMES), Y)], epochs=2, validation=x)["val_loss"]

    for order in ("dcba", "bdac"):
        assert validated((frame(order), Y)) == validated((X, Y))
        assert validated([(frame(order), Y)] * 2) == validated([(X, Y)] * 2)
        assert validated(minibatches(frame(order))) == validated(minibatches(X))
    with pytest.raises(ValueError, match=r"validation: x: lacks column 'b'"):
        validated((frame(NAMES).rename(columns={"b": "z"}), Y))
    made = trainer()
    assert made.evaluate([(frame(NAMES), Y), (frame("dcba"), Y)])["loss"] == made.evaluate([(X, Y)] * 2)["loss"]


TRAIN: dict[str, Callable[[gd.Trainer], Any]] = {
    "fit": lambda t: t.fit(frame("bacd"), Y, epochs=1),
    "fit batches": lambda t: t.fit([(frame("bacd"), Y)], epochs=1),
    "MiniBatches": lambda t: t.fit(gd.MiniBatches(frame("bacd"), Y, batch_size=8), epochs=1),
    "step": lambda t: t.step(frame("bacd"), Y),
}


@pytest.mark.parametrize("train", TRAIN)
def test_the_first_frame_names_the_columns(train: str, tmp_path: Path) -> None:
    made = trainer()
    assert made.model.feature_names is None
    made.evaluate(frame("bacd"), Y)
    made.model.predict(frame("bacd"))
    assert made.model.feature_names is None  # evaluate and predict set no names
    TRAIN[train](made)
    assert made.model.feature_names == tuple("bacd")
    expected = made.model.predict(frame("bacd"))
    helpers.same_bits(made.model.predict(frame("abcd")), expected)
    made.model.save(tmp_path / "model.safetensors")
    made.save_checkpoint(tmp_path / "run.safetensors")
    for other in (
        copy.deepcopy(made.model),
        pickle.loads(pickle.dumps(made.model)),
        gd.load(tmp_path / "model.safetensors"),
        gd.load(tmp_path / "run.safetensors"),
        analysis.in_float64(made.model),
    ):
        assert other.feature_names == tuple("bacd")
    helpers.same_bits(gd.load(tmp_path / "model.safetensors").predict(frame("dcba")), expected)
    TRAIN["fit"](made)
    assert made.model.feature_names == tuple("bacd")


def test_what_is_refused_teaches_nothing() -> None:
    made = trainer()
    bad = frame(NAMES)
    bad.loc[3, "c"] = np.nan
    for call in (
        lambda: made.fit(bad, Y, epochs=1),
        lambda: made.step(bad, Y),
        lambda: made.fit(frame(NAMES), Y, epochs=1, batch_size=0),
        lambda: made.fit(frame(NAMES), Y, epochs=1, validation=(bad, Y)),
        lambda: made.fit(frame(NAMES), Y, epochs=1, validation=(frame("abc"), Y)),
        lambda: made.fit(frame(NAMES), Y, epochs=1, callbacks=[3]),  # type: ignore[list-item]
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
        assert made.model.feature_names is None
    with pytest.raises(ValueError, match=r"row 3, column 'c'"):
        made.fit(bad, Y, epochs=1)


def test_a_standardizer_knows_its_columns(tmp_path: Path) -> None:
    fitted = scaler()
    assert fitted.feature_names == tuple(NAMES)
    assert pickle.loads(pickle.dumps(fitted)) == fitted and gd.Standardizer().fit(X) != fitted
    network = gd.Sequential(fitted, gd.Dense(4, 2), seed=0)
    assert network.feature_names == tuple(NAMES)
    made = gd.Trainer(network, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    made.fit(frame("dcba"), Y, epochs=1)  # put in the order of the scaling
    network.save(tmp_path / "model.safetensors")
    assert gd.load(tmp_path / "model.safetensors").layers[0].feature_names == tuple(NAMES)
    assert gd.Standardizer().fit(X).feature_names is None
    with pytest.raises(ValueError, match="column 'b'"):
        gd.Standardizer().fit(frame(NAMES).assign(b=np.nan))


def test_names_that_contradict_the_scaling_are_refused(tmp_path: Path) -> None:
    for layers in ([scaler(), gd.Dense(4, 2)], [scaler()]):
        made = gd.Sequential(*layers, seed=0, feature_names=NAMES)
        for bad in ("dcba", ["a", "b", "c", "z"], None):
            with pytest.raises(ValueError, match=r"^feature_names: got .*Standardizer.*'a', 'b', 'c', 'd'"):
                made.feature_names = bad if bad is None else list(bad)
            if bad is not None:
                with pytest.raises(ValueError, match="Standardizer"):
                    gd.Sequential(*layers, seed=0, feature_names=list(bad))
        assert made.feature_names == tuple(NAMES)
    free = gd.Sequential(gd.Standardizer().fit(X), gd.Dense(4, 2), seed=0, feature_names=list("dcba"))
    free.feature_names = None


def test_a_checkpoint_brings_its_names(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    sources: dict[str, Callable[[Any], Any]] = {
        "arrays": lambda x: (x, Y),
        "batches": lambda x: ([(x, Y)], None),
        "MiniBatches": lambda x: (minibatches(x), None),
    }
    for source, make in sources.items():
        whole, first = trainer(), trainer()
        whole.fit(*make(frame(NAMES)), epochs=4)
        first.fit(*make(frame(NAMES)), epochs=2, callbacks=[gd.Checkpoint(path)])
        for x in (frame("dbca"), frame(NAMES, "polars"), X):
            second = trainer()
            second.fit(*make(x), until_epoch=4, resume=path)
            helpers.same_bits(helpers.snapshot(second.model, second), helpers.snapshot(whole.model, whole))
            assert second.model.feature_names == tuple(NAMES), source
        loaded = trainer()
        loaded.load_checkpoint(path)
        assert loaded.model.feature_names == tuple(NAMES)
        helpers.same_bits(loaded.model.predict(frame("dbca")), first.model.predict(X))
        for call in (
            lambda t: t.load_checkpoint(path),
            lambda t, make=make: t.fit(*make(frame("dcba")), until_epoch=4, resume=path),
            lambda t, make=make: t.fit(*make(X), until_epoch=4, resume=path),
        ):
            for names in ("dcba", "abcz"):
                other = trainer(feature_names=list(names))
                before = helpers.snapshot(other.model, other)
                with pytest.raises(ValueError, match=r"feature_names|lacks column"):
                    call(other)
                helpers.same_bits(helpers.snapshot(other.model, other), before)
                assert other.model.feature_names == tuple(names)
    trainer().save_checkpoint(path)  # of a model without names
    other = trainer(feature_names=NAMES)
    other.load_checkpoint(path)
    assert other.model.feature_names == tuple(NAMES)


def test_names_that_are_no_text() -> None:
    numbers = pd.DataFrame(X, columns=[3, 1, 0, 2])
    made = trainer()
    made.fit(numbers, Y, epochs=1)
    assert made.model.feature_names == ("3", "1", "0", "2")
    expected = made.model.predict(X)
    helpers.same_bits(made.model.predict(numbers[[0, 1, 2, 3]]), expected)
    levels = pd.DataFrame(X, columns=pd.MultiIndex.from_product([["a", "b"], [1, 2]]))
    other = trainer()
    other.fit(levels, Y, epochs=1)
    helpers.same_bits(other.model.predict(levels[levels.columns[::-1]]), other.model.predict(X))


def test_names_can_be_given_and_set() -> None:
    network = gd.Sequential(gd.Dense(2, 1), seed=0, feature_names=["x", "y"])
    assert network.feature_names == ("x", "y") and network.settings()["feature_names"] == ("x", "y")
    network.feature_names = pd.Index(["u", "v"])
    assert network.feature_names == ("u", "v")
    for bad, error in ((["u"], ValueError), (["u", "u"], ValueError), ("uv", TypeError), (3, TypeError)):
        with pytest.raises(error, match="feature_names"):
            network.feature_names = bad  # type: ignore[assignment]
        with pytest.raises(error, match="feature_names"):
            gd.Sequential(gd.Dense(2, 1), feature_names=bad)  # type: ignore[arg-type]
    assert network.feature_names == ("u", "v")
    network.feature_names = None
    assert network.feature_names is None


def test_restarts_remember() -> None:
    found = gd.restarts(
        lambda seed: gd.Sequential(gd.Dense(4, 2), seed=seed, device="cpu"),
        2,
        frame(NAMES),
        Y,
        validation=0.25,
        loss=gd.CrossEntropy(),
        optimizer=gd.SGD(1e-3),
        epochs=1,
        progress=False,
    )
    assert found.best.feature_names == tuple(NAMES)


@pytest.mark.parametrize("kind", FRAMES)
def test_splits_keep_their_kind(kind: str) -> None:
    given = frame(NAMES, kind)
    x, xv, y, yv = gd.train_validation_split(given, pd.Series(Y), fraction=0.25, seed=1, stratify=True)
    arrays = gd.train_validation_split(X, Y, fraction=0.25, seed=1, stratify=True)
    assert type(x) is type(given) and type(xv) is type(given) and type(y) is pd.Series
    for part, expected in zip((x, xv), arrays[:2], strict=True):
        made = trainer()
        made.step(part, np.zeros(len(expected), int))
        assert made.model.feature_names == tuple(NAMES)
        helpers.same_bits(made.model.predict(part), made.model.predict(expected))
    helpers.same_bits(np.asarray(yv), arrays[3])
