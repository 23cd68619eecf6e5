"""Promise: every entry point that takes data takes every kind of data and computes the same; non-numeric data is
refused by each of them, naming argument and column, and changes nothing."""

from __future__ import annotations

import datetime
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

X = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 5.0], [1.0, 1.0, 3.0], [0.0, 0.0, 7.0], [1.0, 0.0, 4.0], [1.0, 1.0, 6.0]])
Y = np.array([0, 1, 1, 0, 1, 0])
NAMES = ["a", "b", "c"]


def model(dtype: str = "float32", **settings: Any) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 2), seed=0, dtype=dtype, device="cpu", **settings)


def trained(x: Any, y: Any = Y, **fit: Any) -> np.ndarray:
    network = model()
    trainer = gd.Trainer(network, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    trainer.fit(x, y, epochs=2, **({} if y is None else {"batch_size": 4}), **fit)
    return np.array([trainer.history["loss"][-1], *helpers.snapshot(network)["parameters"]])


def validated(x: Any) -> np.ndarray:
    trainer = gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    return np.array(trainer.fit(X, Y, epochs=1, validation=(x, Y))["val_loss"])


def stepped(x: Any) -> np.ndarray:
    network = model()
    loss = gd.Trainer(network, gd.CrossEntropy(), optimizer=gd.SGD(0.1)).step(x, Y)
    return np.array([loss, *helpers.snapshot(network)["parameters"]])


def evaluated(x: Any) -> float:
    return gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1)).evaluate(x, Y)["loss"]


def from_batches(x: Any) -> np.ndarray:
    return trained([(x, Y)], None)


def scaled(x: Any) -> np.ndarray:
    scaler = gd.Standardizer().fit(x)
    return np.concatenate([scaler.mean, scaler.std])


def transformed(x: Any) -> np.ndarray:
    return np.asarray(gd.Standardizer(mean=[0.0, 0.0, 1.0], std=[1.0, 1.0, 2.0]).transform(x), np.float64)


def restarted(x: Any) -> float:
    found = gd.restarts(
        lambda seed: gd.Sequential(gd.Dense(3, 2), seed=seed, device="cpu"),
        1,
        x,
        Y,
        validation=(x, Y),
        loss=gd.CrossEntropy(),
        optimizer=gd.SGD(0.1),
        epochs=1,
        progress=False,
    )
    return found.best_start.val_loss


def swept(x: Any) -> float:
    def build(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 2), seed=seed, device="cpu")

    given: dict[str, Any] = {"loss": gd.CrossEntropy(), "epochs": 1, "progress": False}
    return gd.sweep(build, {"optimizer": [gd.SGD(0.1)]}, x, Y, validation=(x, Y), **given).best_start.val_loss


ENTRIES: dict[str, Callable[[Any], Any]] = {
    "fit": trained,
    "fit batches": from_batches,
    "fit validation": validated,
    "fit validation batches": lambda x: gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1)).fit(
        X, Y, epochs=1, validation=[(x, Y)]
    )["val_loss"],
    "step": stepped,
    "evaluate": evaluated,
    "evaluate batches": lambda x: gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1)).evaluate([(x, Y)])[
        "loss"
    ],
    "predict": lambda x: model().predict(x),
    "predict_proba": lambda x: model(outputs="classes").predict_proba(x),
    "predict_classes": lambda x: model(outputs="classes").predict_classes(x),
    "Trainer.predict": lambda x: gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1)).predict(x),
    "forward": lambda x: model().forward(x),
    "Standardizer.fit": scaled,
    "Standardizer.transform": transformed,
    "restarts": restarted,
    "sweep": swept,
    "lr_range_test": lambda x: gd.lr_range_test(model(), gd.CrossEntropy(), x, Y, steps=3, curvature=False).loss,
    "MiniBatches": lambda x: np.asarray(next(iter(gd.MiniBatches(x, batch_size=4))), np.float64),
    "Objective": lambda x: analysis.Objective(model("float64"), gd.CrossEntropy(), x, Y).value(),
    "gradient": lambda x: analysis.gradient(model("float64"), gd.CrossEntropy(), x, Y),
    "variance_by_layer": lambda x: analysis.variance_by_layer(model("float64"), x).variance,
    "experiments": lambda x: labelled_data((x, Y, x, Y)).x_test,
}
NUMPY = ["f2", "f4", "f8", "g", ">f4", ">f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i2", ">u4"]


class OnlyArray:
    """Has ``__array__`` and nothing else."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return X.astype(dtype or np.float64)


class OnlyMasked:
    """Returns a masked array from ``__array__``, as variables of netCDF files do."""

    def __init__(self, mask: Any) -> None:
        self.array = np.ma.masked_array(X, mask)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


class OnlyDLPack:
    """Has the DLPack protocol and nothing else."""

    def __dlpack__(self, **options: Any) -> Any:
        return X.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return X.__dlpack_device__()


def read_only() -> np.ndarray:
    array = X.copy()
    array.flags.writeable = False
    return array


def mixed_frame() -> Any:
    return pd.DataFrame({"a": X[:, 0].astype(bool), "b": X[:, 1].astype(np.int8), "c": X[:, 2].astype(np.float32)})


GOOD: dict[str, Callable[[], Any]] = {
    **{f"numpy {kind}": lambda kind=kind: X.astype(kind) for kind in NUMPY},
    "fortran": lambda: np.asfortranarray(X),
    "strided": lambda: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda: X[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": lambda: np.frombuffer(b"." + X.tobytes(), np.float64, X.size, 1).reshape(X.shape),
    "read only": read_only,
    "matrix": lambda: X.view(np.matrix),
    "masked, nothing masked": lambda: np.ma.masked_array(X),
    "objects": lambda: X.astype(object),
    "masked in a list, nothing masked": lambda: [np.ma.masked_array(row) for row in X],
    "nothing masked behind __array__": lambda: OnlyMasked(False),
    "list": X.tolist,
    "list of rows without names": lambda: [pd.Series(row) for row in X],
    "tuples": lambda: tuple(map(tuple, X.tolist())),
    "pandas": lambda: pd.DataFrame(X, columns=NAMES),
    "pandas without names": lambda: pd.DataFrame(X),
    "pandas mixed": mixed_frame,
    "pandas nullable": lambda: pd.DataFrame(X, columns=NAMES).astype({"a": "boolean", "b": "Int8", "c": "Float32"}),
    "pandas arrow": lambda: pd.DataFrame(X, columns=NAMES).astype(
        {"a": "bool[pyarrow]", "b": "int16[pyarrow]", "c": "double[pyarrow]"}
    ),
    "pandas objects": lambda: pd.DataFrame(X, columns=NAMES).astype(object),
    "polars": lambda: pl.DataFrame(X, schema=NAMES),
    "polars mixed": lambda: pl.DataFrame(X, schema=NAMES).cast({"a": pl.Boolean, "b": pl.UInt8}),
    "polars decimals": lambda: pl.DataFrame(X, schema=NAMES).cast({"c": pl.Decimal(10, 2)}),
    "pyarrow table": lambda: pa.table({name: X[:, i] for i, name in enumerate(NAMES)}),
    "pyarrow batch": lambda: pa.record_batch({name: X[:, i] for i, name in enumerate(NAMES)}),
    "__array__": OnlyArray,
    "DLPack": OnlyDLPack,
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_kind_of_data(entry: str, tmp_path: Path) -> None:
    """The same values give the same result in every kind of data; in float32, also for single and half precision."""
    expected = np.asarray(ENTRIES[entry](X), np.float64)
    np.save(tmp_path / "x.npy", X)
    kinds = GOOD | {"memory map": lambda: np.load(tmp_path / "x.npy", mmap_mode="r")}
    for kind, make in kinds.items():
        result = np.asarray(ENTRIES[entry](make()), np.float64)
        assert result.tolist() == expected.tolist(), kind


@pytest.mark.torch
@pytest.mark.parametrize("entry", ENTRIES)
def test_tensors(entry: str) -> None:
    torch = pytest.importorskip("torch")
    expected = np.asarray(ENTRIES[entry](X), np.float64)
    tensors = torch.tensor(X), torch.tensor(X, dtype=torch.float32), torch.tensor(X, requires_grad=True)
    for tensor in (*tensors, torch.tensor(X, dtype=torch.bfloat16)):
        assert np.asarray(ENTRIES[entry](tensor), np.float64).tolist() == expected.tolist()


def with_value(value: Any, dtype: Any = np.float64) -> np.ndarray:
    array = X.astype(dtype)
    array[4, 1] = value
    return array


NO_NUMBERS: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "complex": (lambda: X + 1j, TypeError, "complex.*real"),
    "text": (lambda: X.astype(str), TypeError, "encode"),
    "bytes": (lambda: X.astype("S4"), TypeError, "bytes|S4"),
    "dates": (lambda: X.astype("M8[D]"), TypeError, "date"),
    "times": (lambda: X.astype("m8[s]"), TypeError, "time"),
    "objects of text": (lambda: with_value("x", object), TypeError, "str 'x'.*4, 1"),
    "objects of dates": (lambda: with_value(datetime.date(2020, 1, 1), object), TypeError, "date"),
    "records": (lambda: np.zeros(6, "f,f,f"), TypeError, "x"),
    "ragged": (lambda: [[1, 2, 3], [1, 2]], (TypeError, ValueError), "x"),
    "mask": (lambda: np.ma.masked_array(X, X == 7), ValueError, "mask"),
    "mask in a list": (
        lambda: [*X[:4].tolist(), np.ma.masked_array(X[4], X[4] == 0), X[5]],
        ValueError,
        r"x\[4\].*mask",
    ),
    "mask in a list of lists": (lambda: [[*X[0][:2], np.ma.masked], *X[1:].tolist()], ValueError, r"x\[0\].*mask"),
    "mask behind __array__": (lambda: OnlyMasked(X == 7), ValueError, "mask"),
    "rows with names": (lambda: [row for _, row in pd.DataFrame(X, columns=NAMES).iterrows()], TypeError, "frame"),
    "arrays in a column": (
        lambda: pl.DataFrame({"a": X[:, 0], "b": pl.Series(X), "c": X[:, 2]}),
        TypeError,
        "column 'b'.*array in each row",
    ),
    "one dimension": (lambda: X[:, 0], ValueError, "x"),
    "three dimensions": (lambda: X[None], ValueError, "x"),
    "series": (lambda: pd.Series(X[:, 0]), ValueError, "x"),
    "lazy": (lambda: pl.DataFrame(X, schema=NAMES).lazy(), TypeError, "lazy.*collect"),
    "duplicates": (lambda: pd.DataFrame(X, columns=["a", "b", "a"]), ValueError, "'a' more than once"),
    **{
        f"{kind} {library.__name__}": (
            lambda values=values, library=library: library.DataFrame({"a": X[:, 0], "b": values, "c": X[:, 2]}),
            TypeError,
            "column 'b'",
        )
        for library in (pd, pl)
        for kind, values in {
            "text": list("uvwxyz"),
            "dates": [datetime.datetime(2020, 1, 1 + day) for day in range(6)],
            "days": [datetime.date(2020, 1, 1 + day) for day in range(6)],
            "times": [datetime.timedelta(days=day) for day in range(6)],
            "lists": [[1]] * 6,
        }.items()
    },
    "categories": (
        lambda: pd.DataFrame({"a": X[:, 0], "b": pd.Categorical(list("uvwxyz")), "c": X[:, 2]}),
        TypeError,
        "column 'b'",
    ),
    "complex column": (
        lambda: pd.DataFrame({"a": X[:, 0], "b": X[:, 1] + 1j, "c": X[:, 2]}),
        TypeError,
        "column 'b'",
    ),
    "arrow text": (
        lambda: pa.table({"a": X[:, 0], "b": list("uvwxyz"), "c": X[:, 2]}),
        TypeError,
        "column 'b'",
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_no_data_is_refused(entry: str) -> None:
    """Iterators and dictionaries are not arrays; entry points that take batches refuse them as invalid batches."""
    others = {"none": None, "text itself": "data", "set": {1, 2}, "dictionary": {"a": [1.0]}, "function": len}
    for kind, value in others.items():
        if not (entry == "experiments" and value is None):
            with pytest.raises((TypeError, ValueError)) as refusal:
                ENTRIES[entry](value)
            assert "x" in str(refusal.value) or "y" in str(refusal.value), kind
    for kind, (make, error, match) in NO_NUMBERS.items():
        if entry == "MiniBatches" and kind in ("one dimension", "three dimensions", "series"):
            continue  # batches of anything
        try:
            with pytest.raises(error, match=match):
                ENTRIES[entry](make())
        except BaseException as failure:
            failure.add_note(kind)
            raise


INFINITE = ("infinity", "long double")
CHECKED = [entry for entry in ENTRIES if entry not in ("MiniBatches", "Standardizer.transform")]
MISSING: dict[str, Callable[[], Any]] = {
    "nan": lambda: with_value(np.nan),
    "nan float32": lambda: with_value(np.nan, np.float32),
    "nan float16": lambda: with_value(np.nan, np.float16),
    "infinity": lambda: with_value(-np.inf),
    "nan strided": lambda: np.repeat(with_value(np.nan), 2, 1)[:, ::2],
    "long double": lambda: with_value(np.longdouble("1e4000"), np.longdouble),
    "none among objects": lambda: with_value(None, object),
}


@pytest.mark.parametrize("entry", CHECKED)
def test_missing_values_are_refused_with_their_place(entry: str) -> None:
    for kind, make in MISSING.items():
        with pytest.raises(ValueError, match=r"x.*column 1|x.*4.*1") as refusal:
            ENTRIES[entry](make())
        if not entry.startswith("Standardizer"):
            assert "row 4" in str(refusal.value), kind
            advised = str(refusal.value).endswith("gd.tables.TabularModel takes them")
            assert advised == (kind not in INFINITE and entry != "experiments"), kind
    nullable = pd.DataFrame({"a": X[:, 0], "b": pd.array([1, 0, 1, 1, None, 1], "Int64"), "c": X[:, 2]})
    frames = [nullable, pl.DataFrame({"a": X[:, 0], "b": [True, False, True, True, None, True], "c": X[:, 2]})]
    for frame in [*frames, pd.DataFrame(with_value(np.nan), columns=NAMES)]:
        with pytest.raises(ValueError, match="x.*column" if entry == "experiments" else "x.*column 'b'"):
            ENTRIES[entry](frame)


FLOAT32 = [
    entry for entry in CHECKED if entry not in ("Standardizer.fit", "Objective", "gradient", "variance_by_layer")
]


@pytest.mark.parametrize("entry", FLOAT32)
def test_numbers_beyond_the_dtype_are_refused(entry: str) -> None:
    for value in (1e40, -3.5e38):
        with pytest.raises(ValueError, match=r"x.*float32") as refusal:
            ENTRIES[entry](with_value(value))
        assert "row 4, column 1" in str(refusal.value)
    largest = float(np.finfo(np.float32).max)
    assert model().predict(with_value(largest)).shape == (6, 2)
    assert model("float64").predict(with_value(1e40)).shape == (6, 2)


def test_the_check_can_be_turned_off() -> None:
    bad = with_value(np.nan)
    network = model(outputs="classes")
    frame = pd.DataFrame(bad, columns=NAMES)
    for x in (bad, frame):
        for method in (network.predict, network.predict_proba, network.forward):
            assert np.isnan(method(x, check_finite=False)[4]).all()
        assert network.predict_classes(x, check_finite=False).shape == (6,)
    network.forward(X)
    gradient = np.full((6, 2), np.nan)
    with pytest.raises(ValueError, match=r"dout.*nan.*row 0, column 0"):
        network.backward(gradient)
    assert np.isnan(network.backward(gradient, check_finite=False)).all()
    trainer = gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1), check_finite=False)
    assert np.isnan(trainer.predict(bad)[4]).all() and np.isnan(trainer.evaluate(bad, Y)["loss"])
    with pytest.raises(gd.DivergenceError):
        trainer.step(bad, Y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scaler", [False, True])
def test_columns_whose_scale_the_dtype_does_not_hold(dtype: str, scaler: bool) -> None:
    """Such values become zero or subnormal; a Standardizer would scale them to infinity or NaN."""
    tiny = {"float32": 1e-40, "float64": 1e-310}[dtype]
    for scale, fits in ((1e-30, True), (1.0, True), (tiny, False), (1e38, dtype == "float64")):
        x = X * np.array([1.0, 1.0, scale]) + np.array([0.0, 0.0, 0.0])
        layers: list[Any] = [gd.Standardizer().fit(x)] if scaler else []
        network = gd.Sequential(*layers, gd.Dense(3, 1), seed=0, dtype=dtype, device="cpu")
        trainer = gd.Trainer(network, gd.MeanSquaredError(), optimizer=gd.SGD(1e-80))
        before = helpers.snapshot(network, trainer)
        if fits:
            assert np.isfinite(trainer.fit(x, Y, epochs=2)["loss"]).all()
            continue
        with pytest.raises(ValueError, match="column 2.*" + dtype):
            trainer.fit(x, Y, epochs=2)
        with pytest.raises(ValueError, match="column 'c'.*" + dtype):
            trainer.fit(pd.DataFrame(x, columns=NAMES), Y, epochs=2)
        helpers.same_bits(helpers.snapshot(network, trainer), before)
        assert network.feature_names is None


def test_single_rows_may_hold_tiny_numbers() -> None:
    """A value that rounds to zero is harmless if others in its column do not."""
    x = X.copy()
    x[3] = 1e-60
    assert np.isfinite(trained(x)).all() and model().predict(x[3:4]).shape == (1, 2)


def test_targets_beyond_the_dtype() -> None:
    trainer = gd.Trainer(gd.Sequential(gd.Dense(3, 1), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    for bad, match in ((np.where(Y, 1e40, 0.0), r"y.*1e\+40.*row 1"), (Y * 1e-42, "y.*column 0")):
        with pytest.raises(ValueError, match=match):
            trainer.fit(X, bad, epochs=1)
