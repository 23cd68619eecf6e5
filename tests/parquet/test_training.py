"""Promise: fit, evaluate and predict on Parquet files compute what they compute on the same rows as arrays: the same
bits in one window, the steps of the documented order in several, resumed or not, with weights, labels of any type,
callbacks and validation data; no thread is left behind."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import parquet_cases as cases
import pytest
from gdcore.parquet.order import Order
from parquet_cases import NAMES, ROWS, WEIGHTS, X, Y

pytest.importorskip("pyarrow")
SIZES = np.array([100] * 6 + [77] * 5 + [18])


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    assert [thread.name for thread in threading.enumerate() if "parquet" in thread.name] == []


def steps(made: gd.Trainer, order: Order, batch_size: int, *, drop_last: bool = False, weighted: bool = False) -> None:
    """Train an epoch in the documented order, batch by batch."""
    starts = np.cumsum(SIZES) - SIZES
    rows = []
    for number, groups in enumerate(order.windows):
        inside = np.concatenate([np.arange(starts[group], starts[group] + SIZES[group]) for group in groups])
        rows.append(inside[order.rows(number)])
    whole = np.concatenate(rows)
    assert sorted(whole) == list(range(ROWS))
    ends = list(range(batch_size, ROWS + 1, batch_size))
    if ROWS % batch_size and not drop_last:
        ends = [*ends[:-1], ROWS] if ROWS % batch_size == 1 else [*ends, ROWS]
    for first, last in zip([0, *ends], ends, strict=False):
        batch = whole[first:last]
        made.step(X[batch], Y[batch], WEIGHTS[batch] if weighted else None)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 7}, {"batch_size": 501}, {"batch_size": 64, "drop_last": True}, {"shuffle": False}],
    ids=str,
)
def test_one_window_has_the_bits_of_arrays(options: Any, device: str, tmp_path: Path) -> None:
    ours, theirs = cases.trainer(device), cases.trainer(device)
    ours.fit(cases.opened(tmp_path), epochs=3, **options)
    theirs.fit(X, Y, epochs=3, **options)
    helpers.same_bits(cases.state(ours), cases.state(theirs))
    assert ours.model.feature_names == tuple(NAMES)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 100, 167, 334, 501, 1002, 5000])
def test_batches_go_on_across_windows(batch_size: int, drop_last: bool, weighted: bool, tmp_path: Path) -> None:
    """Single rows left at the end (167, 334, 501, 1002) and batches larger than a window are among them."""
    ours, theirs = cases.trainer(), cases.trainer()
    data = cases.opened(tmp_path, window=230, weighted=weighted)
    ours.fit(data, epochs=2, batch_size=batch_size, drop_last=drop_last)
    for epoch in range(2):
        order = Order.of(SIZES, 230, (theirs.seed, epoch))
        assert len(order.windows) > 4
        steps(theirs, order, min(batch_size, ROWS), drop_last=drop_last, weighted=weighted)
    assert ours.steps == theirs.steps
    helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))


def test_row_groups_larger_than_a_window_are_read_in_parts(tmp_path: Path) -> None:
    """As files whose row groups are these parts, in file order; else their order is another one."""
    kinds = {"kind": np.array(["low", "middle", "high"])[Y], "label": Y}
    whole = cases.write(tmp_path / "whole.parquet", cases.columns_of() | kinds, ROWS)
    parts = [(part * ROWS // 9, (part + 1) * ROWS // 9) for part in range(9)]
    for i, (first, last) in enumerate(parts):
        rows = slice(first, last)
        cut = {name: column[rows] for name, column in kinds.items()}
        cases.write(tmp_path / f"part{i}.parquet", cases.columns_of(rows) | cut)
    data, files = (gd.data.Parquet(path, NAMES, "label", window=112) for path in (whole, tmp_path / "part*.parquet"))
    assert repr(data).startswith("Parquet(1003 rows in 1 row groups of 1 files, ")
    for ours, theirs in zip(data.windows(), files.windows(), strict=True):
        helpers.same_bits(ours[0], theirs[0])
        helpers.same_bits(ours[1], theirs[1])
    first, second = cases.trainer(), cases.trainer()
    first.fit(data, epochs=3, shuffle=False)
    second.fit(files, epochs=3, shuffle=False)
    helpers.same_bits(cases.state(first), cases.state(second))
    order = data._order((0, 0))
    assert [window.tolist() for window in order.windows] == [[i] for i in range(9)], "one group after the other"
    first.fit(data, epochs=1)
    assert sorted(np.concatenate([order.rows(i) + order.start(i) for i in range(9)])) == list(range(ROWS))
    text = gd.data.Parquet(whole, NAMES, "kind", window=112)
    assert np.concatenate([y for _, y in text.windows()]).tolist() == kinds["kind"].tolist()


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.cuda)])
def test_windows_on_a_gpu(device: str, tmp_path: Path) -> None:
    ours, theirs = cases.trainer(device), cases.trainer(device)
    data = cases.opened(tmp_path, window=230)
    ours.fit(data, epochs=2, batch_size=64)
    for epoch in range(2):
        steps(theirs, Order.of(SIZES, 230, (theirs.seed, epoch)), 64)
    helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))


def test_without_shuffling_windows_do_not_matter(tmp_path: Path) -> None:
    ours, theirs = cases.trainer(), cases.trainer()
    ours.fit(cases.opened(tmp_path, window=100), epochs=2, shuffle=False, batch_size=33)
    theirs.fit(X, Y, epochs=2, shuffle=False, batch_size=33)
    helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))


class Stop:
    """Stops after a number of steps, and keeps a checkpoint."""

    def __init__(self, path: Path, at: int) -> None:
        self._path, self._at = path, at

    def on_step(self, trainer: gd.Trainer) -> None:
        if trainer.steps == self._at:
            trainer.save_checkpoint(self._path)
            trainer.stop = True


@pytest.mark.parametrize("at", [1, 3, 4, 11, 31, 32, 33, 62])
@pytest.mark.parametrize("window", [100, 230, None])
def test_resumed_to_the_bit(window: int | None, at: int, tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=window, weighted=True)
    options: dict[str, Any] = {"until_epoch": 3, "batch_size": 32, "validation": (X, Y)}
    whole = cases.trainer()
    whole.fit(data, **options)
    begun = cases.trainer()
    begun.fit(data, **options, callbacks=[Stop(tmp_path / "at.safetensors", at)])
    assert begun.steps == at
    resumed = cases.trainer()
    resumed.fit(data, **options, callbacks=[gd.Callback()], resume=tmp_path / "at.safetensors")
    helpers.same_bits(cases.state(resumed), cases.state(whole))


@pytest.mark.parametrize("other", [{"window": 231}, {"sizes": (90, 77)}, {"weighted": False}], ids=str)
def test_another_order_is_no_resumption(other: Any, tmp_path: Path) -> None:
    path = tmp_path / "at.safetensors"
    given: dict[str, Any] = {"window": 230, "weighted": True}
    cases.trainer().fit(cases.opened(tmp_path, **given), epochs=2, callbacks=[Stop(path, 5)])
    with pytest.raises(ValueError, match="other settings"):
        cases.trainer().fit(cases.opened(tmp_path, **(given | other)), epochs=2, resume=path)


def test_two_calls_are_one(tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=150)
    one, two = cases.trainer(), cases.trainer()
    one.fit(data, epochs=4)
    for _ in range(2):
        two.fit(data, epochs=2)
    helpers.same_bits(cases.state(one), cases.state(two))


def test_the_seed_may_change_between_epochs(tmp_path: Path) -> None:
    """The next epoch's first window, which is read ahead, is then another one."""

    class Reseed:
        def on_epoch_end(self, trainer: gd.Trainer, logs: Any) -> None:
            trainer.seed = 100 + trainer.epoch

    data = cases.opened(tmp_path, window=150)
    ours, theirs = cases.trainer(), cases.trainer()
    ours.fit(data, epochs=3, callbacks=[Reseed()])
    for epoch in range(3):
        seed = theirs.seed if epoch == 0 else 100 + epoch
        steps(theirs, Order.of(SIZES, 150, (seed, epoch)), 32)
    helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))


def test_validation_and_measures(tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=120, weighted=True)
    made = cases.trainer(metrics=["accuracy", "log_loss"])
    made.fit(data, epochs=2, validation=data, measure_training=True, callbacks=[gd.EarlyStopping(patience=1)])
    arrays = made.evaluate(X, Y, sample_weight=WEIGHTS)
    assert set(arrays) == {"loss", "accuracy", "log_loss"}
    for name, value in arrays.items():
        assert made.evaluate(data)[name] == pytest.approx(value, rel=1e-6)
        assert made.history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-6)
        assert made.history[name][-1] == pytest.approx(value, rel=1e-6)


def test_validation_on_parquet_beside_arrays(tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=200)
    ours, theirs = cases.trainer(), cases.trainer()
    ours.fit(X, Y, epochs=2, validation=data)
    theirs.fit(X, Y, epochs=2, validation=(X, Y))
    assert ours.history["val_loss"] == pytest.approx(theirs.history["val_loss"], rel=1e-6)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_classes"])
def test_predictions_are_in_file_order(method: str, device: str, tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=130)
    made = cases.trainer(device)
    made.fit(data, epochs=1)
    helpers.same_bits(getattr(made.model, method)(data), getattr(made.model, method)(X))
    helpers.same_bits(made.predict(data), made.predict(X))


def test_labels_by_name(tmp_path: Path) -> None:
    """Text, as plain and as dictionary columns, one of them with a value that no row has."""
    pyarrow = pytest.importorskip("pyarrow")
    names = np.array(["low", "middle", "high"])
    text = pyarrow.array(names[Y].tolist())
    encoded = pyarrow.DictionaryArray.from_arrays(pyarrow.array(Y), pyarrow.array([*names, "unused"]))
    for kind, column in {"text": text, "encoded": encoded}.items():
        cases.write(tmp_path / f"{kind}.parquet", cases.columns_of() | {"label": column}, 100)
    for kind in ("text", "encoded"):
        ours, theirs = cases.trainer(), cases.trainer()
        ours.model.classes = theirs.model.classes = names
        data = gd.data.Parquet(tmp_path / f"{kind}.parquet", y="label", window=250)
        ours.fit(data, epochs=1, shuffle=False)
        theirs.fit(X, names[Y], epochs=1, shuffle=False)
        helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))
        assert list(ours.model.predict_classes(data)) == list(theirs.model.predict_classes(X))


@pytest.mark.parametrize("kind", ["int8", "uint16", "float64", "bool", "decimal", "dictionary", "halffloat"])
def test_kinds_of_columns(kind: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    values = np.round(X[:, 2] * 4).astype(np.float64)
    values = values.clip(0) if kind.startswith("u") else values > 0 if kind == "bool" else values
    column = pyarrow.array(values.astype(kind) if kind in ("int8", "uint16") else values)
    column = column.cast(pyarrow.decimal128(20, 3)) if kind == "decimal" else column
    column = column.cast(pyarrow.float16()) if kind == "halffloat" else column
    column = column.dictionary_encode() if kind == "dictionary" else column
    path = cases.write(tmp_path / "rows.parquet", cases.columns_of() | {"c2": column, "label": Y}, 100)
    table = np.array(X)
    table[:, 2] = values
    ours, theirs = cases.trainer(), cases.trainer()
    ours.fit(gd.data.Parquet(path, y="label"), epochs=1)
    theirs.fit(table, Y, epochs=1)
    helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))


@pytest.mark.parametrize("several", [False, True])
def test_regression(several: bool, tmp_path: Path) -> None:
    targets = X[:, :2].astype(np.float64) if several else X[:, 0] * 2.0
    names = ["first", "second"] if several else ["target"]
    columns = dict(zip(names, np.atleast_2d(targets.T), strict=True))
    path = cases.write(tmp_path / "rows.parquet", cases.columns_of() | columns, 100)

    def trainer() -> gd.Trainer:
        network = gd.Sequential(gd.Dense(5, len(names)), seed=2, device="cpu", dtype="float64")
        return gd.Trainer(network, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))

    ours, theirs = trainer(), trainer()
    data = gd.data.Parquet(path, NAMES, names if several else names[0])
    ours.fit(data, epochs=2)
    theirs.fit(X, targets, epochs=2)
    helpers.same_bits(cases.state(ours), cases.state(theirs))
    assert ours.model.target_names == (tuple(names) if several else None)
    swapped = gd.data.Parquet(path, NAMES[::-1], names[::-1] if several else names[0], window=150)
    assert ours.evaluate(swapped)["loss"] == pytest.approx(ours.evaluate(X, targets)["loss"], rel=1e-12)
    helpers.same_bits(ours.predict(swapped), ours.predict(X))


def test_columns_of_one_hot_targets_follow_the_classes(tmp_path: Path) -> None:
    classes = ("low", "middle", "high")
    hot = {name: (i == Y).astype(np.float32) for i, name in enumerate(classes)}
    path = cases.write(tmp_path / "rows.parquet", cases.columns_of() | hot, 100)
    ours, theirs = cases.trainer(), cases.trainer()
    ours.model.classes = theirs.model.classes = classes
    ours.fit(gd.data.Parquet(path, NAMES, ["high", "low", "middle"]), epochs=1)
    theirs.fit(X, np.stack(list(hot.values()), axis=1), epochs=1)
    helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))


def test_balanced_classes(tmp_path: Path) -> None:
    ours, theirs = (
        gd.Trainer(cases.trainer().model, gd.CrossEntropy("balanced"), optimizer=gd.SGD(0.1)) for _ in range(2)
    )
    ours.fit(cases.opened(tmp_path), epochs=1)
    theirs.fit(X, Y, epochs=1)
    helpers.same_bits(cases.state(ours), cases.state(theirs))


def test_codes_of_categories(tmp_path: Path) -> None:
    table = np.column_stack([Y, X[:, 1:]])
    path = cases.write(tmp_path / "rows.parquet", cases.columns_of(x=table) | {"label": Y}, 100)
    layers = (gd.Embedding([3], 2, columns=[0]), gd.Dense(6, 3))
    data = gd.data.Parquet(path, y="label", window=100)
    ours, theirs = cases.trainer("cpu", *layers), cases.trainer("cpu", *layers)
    ours.fit(data, epochs=1, shuffle=False)
    theirs.fit(table, Y, epochs=1, shuffle=False)
    helpers.same_bits(helpers.snapshot(ours.model, ours), helpers.snapshot(theirs.model, theirs))
    table[777, 0] = 3
    cases.write(path, cases.columns_of(x=table) | {"label": Y}, 100)
    data = gd.data.Parquet(path, y="label", window=100)
    for call in (lambda: ours.fit(data, epochs=1), lambda: ours.predict(data)):
        with pytest.raises(ValueError, match=r"rows.parquet, row group 7: .*got 3 in row 77, column 'c0'"):
            call()


def test_copies_and_pickles(tmp_path: Path) -> None:
    data = cases.opened(tmp_path, window=150)
    expected = cases.trainer().predict(data)
    for other in (copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert repr(other) == repr(data) and len(other) == ROWS
        helpers.same_bits(cases.trainer().predict(other), expected)


def test_steps_are_logged(tmp_path: Path) -> None:
    data = cases.opened(tmp_path)
    ours, theirs = cases.trainer(), cases.trainer()
    ours.fit(data, epochs=2, log_every=10)
    theirs.fit(X, Y, epochs=2, log_every=10)
    assert ours.step_history["step"] == theirs.step_history["step"]
    assert ours.step_history["loss"] == theirs.step_history["loss"]


@pytest.mark.parametrize("event", ["on_step", "on_progress", "on_epoch_begin", "on_epoch_end"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_ends_the_thread(error: type[BaseException], event: str, tmp_path: Path) -> None:
    """See `no_thread_is_left`; training goes on afterwards."""

    class Raises(gd.Callback):
        pass

    def hook(*_: Any) -> None:
        raise error

    setattr(Raises, event, hook)
    data = cases.opened(tmp_path, window=100)
    made = cases.trainer()
    with pytest.raises(error):
        made.fit(data, epochs=2, callbacks=[Raises()])
    made.fit(data, epochs=1)
    assert made.epoch == (2 if event == "on_epoch_end" else 1)
