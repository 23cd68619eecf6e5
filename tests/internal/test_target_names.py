"""Promise: several columns of targets are put in the order of the model's classes, or else of the training targets, by
their names, at every entry point; missing and unknown ones are refused. Arrays and unnamed columns go by position."""

from __future__ import annotations

import copy
import datetime
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis

pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))

RNG = np.random.default_rng(2)
X = RNG.normal(size=(30, 4))
NAMES = ["low", "mid", "high"]
LABELS = np.array(NAMES)[RNG.integers(0, 3, 30)]
ONE_HOT = (LABELS[:, None] == np.array(NAMES)).astype(np.float64)
LOSSES = {"classes": gd.CrossEntropy(), "answers": gd.BinaryCrossEntropy(), "numbers": gd.MeanSquaredError()}
FRAMES: dict[str, Callable[[Any], Any]] = {
    "pandas": lambda names: pd.DataFrame({name: ONE_HOT[:, NAMES.index(name)] for name in names}),
    "dummies": lambda names: pd.get_dummies(pd.Series(LABELS))[list(names)],
    "polars": lambda names: pl.DataFrame({name: ONE_HOT[:, NAMES.index(name)] for name in names}),
    "pyarrow": lambda names: pa.table({name: ONE_HOT[:, NAMES.index(name)] for name in names}),
}
ORDERS = (("low", "mid", "high"), ("high", "low", "mid"), ("mid", "high", "low"))


def model(classes: Any = None, dtype: str = "float32") -> gd.Sequential:
    return gd.Sequential(gd.Dense(4, 3), seed=0, device="cpu", classes=classes, dtype=dtype)


def trainer(kind: str, classes: Any = None) -> gd.Trainer:
    return gd.Trainer(model(classes), LOSSES[kind], optimizer=gd.SGD(0.1))


def restarted(kind: str, classes: Any, training: Any, validation: Any) -> Any:
    return gd.restarts(
        lambda seed: model(classes),
        1,
        X,
        training,
        validation=(X, validation),
        loss=LOSSES[kind],
        optimizer=gd.SGD(0.1),
        epochs=1,
        progress=False,
    ).best_start.val_loss


def batches(y: Any) -> gd.MiniBatches:
    return gd.MiniBatches(X, y, batch_size=8, shuffle=False)


def stepped(kind: str, classes: Any, y: Any, steps: int = 1) -> Any:
    made = trainer(kind, classes)
    return [made.step(X, y) for _ in range(steps)], np.array(made.model.flat_parameters())


BY_CLASS: dict[str, Callable[[str, Any], Any]] = {
    "fit": lambda kind, y: trainer(kind, NAMES).fit(X, y, epochs=2)["loss"],
    "fit batches": lambda kind, y: trainer(kind, NAMES).fit([(X, y)], epochs=2)["loss"],
    "MiniBatches": lambda kind, y: trainer(kind, NAMES).fit(batches(y), epochs=2)["loss"],
    "validation": lambda kind, y: trainer(kind, NAMES).fit(X, ONE_HOT, epochs=1, validation=(X, y))["val_loss"],
    "step": lambda kind, y: stepped(kind, NAMES, y)[1],
    "evaluate": lambda kind, y: trainer(kind, NAMES).evaluate(X, y)["loss"],
    "evaluate batches": lambda kind, y: trainer(kind, NAMES).evaluate(batches(y))["loss"],
    "restarts": lambda kind, y: restarted(kind, NAMES, y, ONE_HOT),
    "restarts validation": lambda kind, y: restarted(kind, NAMES, ONE_HOT, y),
    "lr_range_test": lambda kind, y: gd.lr_range_test(model(NAMES), LOSSES[kind], X, y, steps=3).loss,
    "Objective": lambda kind, y: analysis.Objective(model(NAMES, "float64"), LOSSES[kind], X, y).gradient(),
}


@pytest.mark.parametrize("entry", BY_CLASS)
def test_columns_stand_in_the_order_of_classes(entry: str) -> None:
    for kind in ("classes", "answers"):
        expected = np.asarray(BY_CLASS[entry](kind, ONE_HOT)).tolist()
        for library, make in FRAMES.items():
            for order in ORDERS:
                assert np.asarray(BY_CLASS[entry](kind, make(order))).tolist() == expected, (kind, library, order)
        assert np.asarray(BY_CLASS[entry](kind, pd.DataFrame(ONE_HOT))).tolist() == expected  # default names
        renamed = FRAMES["pandas"](NAMES).rename(columns={"mid": "middle"})
        for bad, match in (
            (renamed, "y: lacks column 'mid'.*unknown column 'middle'.*classes"),
            (renamed.set_axis(["low", "low", "mid"], axis=1), "'low' more than once"),
        ):
            with pytest.raises(ValueError, match=match):
                BY_CLASS[entry](kind, bad)


@pytest.mark.parametrize(
    ("classes", "columns"),
    [
        ([2, 0, 1], [0, 1, 2]),
        ([2, 0, 1], ["0", "1", "2"]),
        ([2.0, 0.0, 1.0], [0, 1, 2]),
        ([30, 10, 20], [10, 20, 30]),
        ([datetime.date(2022, 1, 1), datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)],
         list(pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"]))),
        ([True, 0.5, "x"], [0.5, "x", 1]),
    ],
)  # fmt: skip
def test_names_of_any_type_are_classes(classes: Any, columns: Any) -> None:
    expected = stepped("classes", classes, ONE_HOT)
    frame = pd.DataFrame(ONE_HOT[:, [1, 2, 0]], columns=columns)
    for y in (frame, frame[frame.columns[::-1]]):
        helpers.same_bits(stepped("classes", classes, y)[1], expected[1])
        helpers.same_bits(
            trainer("classes", classes).fit(batches(y), epochs=1)["loss"],
            trainer("classes", classes).fit(batches(ONE_HOT), epochs=1)["loss"],
        )


def test_one_column_and_one_output_have_no_order() -> None:
    for names in (None, ["no", "yes"]):
        made = gd.Trainer(
            gd.Sequential(gd.Dense(4, 1), seed=0, classes=names), gd.BinaryCrossEntropy(), optimizer=gd.SGD(0.1)
        )
        y = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)] if names else (X[:, 0] > 0).astype(int)
        made.fit(X, pd.DataFrame({"a": y}), epochs=1, validation=(X, pd.DataFrame({"b": y})))
        made.evaluate(X, pl.DataFrame({"c": y}))


# Without classes: the training targets name the columns.
TRAIN: dict[str, Callable[[gd.Trainer, Any], Any]] = {
    "fit": lambda t, y: t.fit(X, y, epochs=1),
    "fit batches": lambda t, y: t.fit([(X, y)], epochs=1),
    "MiniBatches": lambda t, y: t.fit(batches(y), epochs=1),
    "step": lambda t, y: t.step(X, y),
}
MEASURE: dict[str, Callable[[gd.Trainer, Any], Any]] = {
    "fit": lambda t, y: t.fit(X, y, epochs=1)["loss"],
    "evaluate": lambda t, y: t.evaluate(X, y)["loss"],
    "evaluate batches": lambda t, y: t.evaluate([(X[:9], y[:9]), (X[9:], y[9:])])["loss"],
    "evaluate MiniBatches": lambda t, y: t.evaluate(batches(y))["loss"],
    "step": lambda t, y: t.step(X, y),
    "a copy": lambda t, y: copy.deepcopy(t).evaluate(X, y)["loss"],
    "a pickle": lambda t, y: pickle.loads(pickle.dumps(t)).evaluate(X, y)["loss"],
}


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("kind", LOSSES)
def test_training_names_the_columns(kind: str, train: str) -> None:
    for measure, call in MEASURE.items():
        losses = []
        for order in ORDERS:
            made = trainer(kind)
            TRAIN[train](made, FRAMES["pandas"](NAMES))
            losses.append(call(made, FRAMES["pandas"](order)))
            with pytest.raises(ValueError, match=r"lacks column 'mid'.*training targets"):
                call(made, FRAMES["pandas"](NAMES).rename(columns={"mid": "x"}))
        assert losses[0] == losses[1] == losses[2], measure


@pytest.mark.parametrize("kind", LOSSES)
def test_validation_is_put_in_order(kind: str) -> None:
    def validated(training: Any, validation: Any) -> Any:
        return trainer(kind).fit(training[0], training[1], epochs=2, validation=validation)["val_loss"]

    y = FRAMES["pandas"](NAMES)
    for training in ((X, y), ([(X, y)], None), (batches(y), None)):
        expected = validated(training, (X, y))
        assert expected == pytest.approx(validated(training, batches(y)))
        for order in ORDERS:
            other = FRAMES["polars"](order)
            assert validated(training, (X, other)) == expected
            assert validated(training, [(X, other)]) == expected
            assert validated(training, batches(other)) == validated(training, batches(y))
            assert restarted(kind, None, y, other) == restarted(kind, None, y, y)
        with pytest.raises(ValueError, match=r"validation.*y: lacks column 'mid'"):
            validated(training, (X, y.rename(columns={"mid": "x"})))


def test_class_names_that_iterables_tell_are_no_columns() -> None:
    """scikit-learn's ``target_names`` are names of classes."""

    class Loader:
        target_names = np.array(["a", "b", "c"])

        def __iter__(self) -> Any:
            return iter([(X, np.arange(30) % 3)])

    for names in (None, NAMES):
        made = trainer("classes", names)
        labels = np.arange(30) % 3 if names is None else np.array(NAMES)[np.arange(30) % 3]
        made.fit(Loader() if names is None else [(X, labels)], epochs=1, validation=(X, labels))
        made.evaluate(X, FRAMES["pandas"](ORDERS[1]))


def test_a_resumed_run_has_the_order_of_the_run_before(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    for make in (lambda y: (X, y), lambda y: (batches(y), None)):
        whole, first = trainer("numbers"), trainer("numbers")
        whole.fit(*make(FRAMES["pandas"](NAMES)), epochs=4)
        first.fit(*make(FRAMES["pandas"](NAMES)), epochs=2, callbacks=[gd.Checkpoint(path)])
        for order in ORDERS:
            second = trainer("numbers")
            second.fit(*make(FRAMES["pandas"](order)), until_epoch=4, resume=path)
            helpers.same_bits(helpers.snapshot(second.model, second), helpers.snapshot(whole.model, whole))
            loaded = trainer("numbers")
            loaded.load_checkpoint(path)
            assert loaded.evaluate(X, FRAMES["pandas"](order)) == first.evaluate(X, FRAMES["pandas"](NAMES))
        other = trainer("numbers")
        other.step(X, FRAMES["pandas"](ORDERS[1]))
        before = helpers.snapshot(other.model, other)
        for call in (
            lambda other=other: other.load_checkpoint(path),
            lambda other=other: other.fit(X, ONE_HOT, until_epoch=4, resume=path),
        ):
            with pytest.raises(ValueError, match="target_names"):
                call()
        helpers.same_bits(helpers.snapshot(other.model, other), before)
