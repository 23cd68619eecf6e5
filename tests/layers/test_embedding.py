"""Promise: an Embedding looks up rows by exact category codes; its gradients are sums over rows in a fixed order; what
is no code is refused by every entry point with column, value and row; float32 never rounds a code."""

from __future__ import annotations

import io
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle_columns
import pytest
from gdcore import analysis
from gradient_cases import agree, differences

SIZES, DIMS, COLUMNS = (5, 3, 40), (2, None, 9), (3, 0, 1)


def build(device: str, dtype: Any = "float32", tail: int = 2) -> gd.Sequential:
    layers = [gd.Embedding(SIZES, DIMS, columns=COLUMNS, features=5), gd.Dense(2 + 2 + 3 + 9, tail)]
    return gd.Sequential(*layers, seed=0, dtype=dtype, device=device)


def codes(rng: Any, rows: int) -> np.ndarray:
    x = rng.standard_normal((rows, 5))
    for column, size in zip(COLUMNS, SIZES, strict=True):
        x[:, column] = rng.integers(0, size, rows)
    return x


@helpers.DTYPES
@pytest.mark.parametrize("rows", [1, 2, 33, 257, 1025])
def test_forward_and_backward(rows: int, dtype: Any, device: str, rng: Any) -> None:
    layer = gd.Embedding(SIZES, DIMS, columns=COLUMNS, features=5)
    model = gd.Sequential(layer, seed=0, dtype=dtype, device=device)
    x = codes(rng, rows).astype(dtype)
    arrays = {name.removeprefix("layers.0."): np.array(v) for name, v in model.parameters().items()}
    assert {name: a.shape for name, a in arrays.items()} == {"table0": (5, 2), "table2": (40, 9)}
    out = model.forward(x)
    helpers.same_bits(out, oracle_columns.forward(layer, arrays, x).astype(dtype))
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx, grads = oracle_columns.backward(layer, arrays, x, dout)
    helpers.same_bits(model.backward(dout), dx.astype(dtype))
    for name, grad in grads.items():
        np.testing.assert_allclose(
            model.gradients()[f"layers.0.{name}"], grad, rtol=2 * np.finfo(dtype).eps, atol=1e-13
        )


@pytest.mark.parametrize("size", [1, 2, 1025, 2049])
def test_large_tables_and_many_columns(size: int, device: str, rng: Any) -> None:
    """More columns than one operation takes; unused codes have gradient 0."""
    columns = 35
    layer = gd.Embedding([size] * columns, 3)
    model = gd.Sequential(layer, seed=0, device=device)
    x = rng.integers(0, size, (70, columns))
    arrays = {name.removeprefix("layers.0."): np.array(v) for name, v in model.parameters().items()}
    out = model.forward(x)
    helpers.same_bits(out, oracle_columns.forward(layer, arrays, x).astype(np.float32))
    dout = rng.standard_normal(out.shape).astype(np.float32)
    model.backward(dout)
    for name, grad in oracle_columns.backward(layer, arrays, x, dout)[1].items():
        np.testing.assert_allclose(model.gradients()[f"layers.0.{name}"], grad, rtol=1e-6, atol=1e-6)


def test_derivatives(device: str, rng: Any) -> None:
    """Gradients and Hessian-vector products against differences; the other columns' inputs too."""
    model = gd.Sequential(
        gd.Embedding(SIZES, DIMS, columns=COLUMNS, features=5),
        gd.Dense(16, 3),
        gd.Tanh(),
        gd.Dense(3, 2),
        seed=0,
        dtype="float64",
        device=device,
    )
    x = codes(rng, 6)
    y = rng.standard_normal((6, 2))
    objective = analysis.Objective(model, gd.MeanSquaredError(), x, y)
    w, v = objective.point, rng.standard_normal(objective.size)
    h = 1e-5
    numeric = (objective.gradient(w + h * v) - objective.gradient(w - h * v)) / (2 * h)
    agree(objective.hvp(v), numeric)
    agree(
        np.array([objective.gradient() @ v]),
        np.array([(objective.value(w + h * v) - objective.value(w - h * v)) / (2 * h)]),
    )
    free = np.ascontiguousarray(x[:, [2, 4]])

    def outputs() -> np.ndarray:
        x[:, [2, 4]] = free
        return model.forward(x)

    numeric = differences(outputs, free)
    outputs()
    rows = [model.backward(unit.reshape(6, 2))[:, [2, 4]].ravel() for unit in np.eye(12)]
    agree(np.array(rows), numeric)


def test_a_frozen_table_keeps_gradient_zero(device: str, rng: Any) -> None:
    model = build(device)
    model.freeze("layers.0.table2")
    model.forward(codes(rng, 20))
    model.backward(rng.standard_normal((20, 2)))
    assert not np.asarray(model.gradients()["layers.0.table2"]).any()
    assert np.asarray(model.gradients()["layers.0.table0"]).any()


def test_the_same_bits_with_any_number_of_threads(rng: Any) -> None:
    x, dout = codes(rng, 3000), rng.standard_normal((3000, 2))
    found = []
    for threads in (1, 2):
        with gd.thread_limit(threads):
            model = build("cpu")
            model.forward(x)
            model.backward(dout)
            found.append(helpers.copies(model.gradients()))
    helpers.same_bits(*found)


WRONG = [5.0, -1.0, 0.5, 2.0**31, -0.25, 1e30]


@pytest.mark.parametrize("wrong", [*WRONG, np.nan, np.inf])
def test_wrong_codes_are_refused_everywhere(wrong: float, device: str, rng: Any) -> None:
    model = build(device, tail=1)
    x, y = codes(rng, 50).astype(np.float32), rng.standard_normal((50, 1))
    good = x.copy()
    x[37, 3] = wrong
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01))
    before = helpers.snapshot(model, trainer)
    word = "row 37, column 3"
    calls = {
        "fit": lambda: trainer.fit(x, y, epochs=1),
        "validation": lambda: trainer.fit(good, y, epochs=1, validation=(x, y)),
        "step": lambda: trainer.step(x, y),
        "evaluate": lambda: trainer.evaluate(x, y),
        "predict": lambda: model.predict(x),
        "unchecked": lambda: model.predict(x, check_finite=False),
        "predictor": lambda: model.predictor().predict(x),
        "forward": lambda: model.forward(x),
        "ensemble": lambda: gd.Ensemble([model]).predict(x),
        "objective": lambda: analysis.Objective(analysis.in_float64(model), gd.MeanSquaredError(), x, y),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=word):
            call()
        assert name == "validation" or before.keys() == helpers.snapshot(model, trainer).keys()
    unchecked = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01), check_finite=False)
    for call in (lambda: unchecked.fit(x, y, epochs=1), lambda: unchecked.step(x, y), lambda: unchecked.evaluate(x, y)):
        with pytest.raises(ValueError, match=word):
            call()
    helpers.same_bits(helpers.snapshot(model, trainer), before)


def test_codes_of_batches_are_checked(rng: Any) -> None:
    model, x = build("cpu", tail=1), codes(rng, 20)
    x[3, 0] = 7
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01))
    with pytest.raises(ValueError, match="row 3, column 0"):
        trainer.fit([(x, np.zeros((20, 1)))], epochs=1)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64, np.float32, np.uint64])
def test_types_of_codes(kind: Any, rng: Any) -> None:
    model = gd.Sequential(gd.Embedding([200], None), seed=0)
    x = rng.integers(0, 200, (30, 1)).astype(kind)
    np.testing.assert_array_equal(model.predict(x), np.eye(200)[x[:, 0].astype(int)])


def test_codes_that_float32_does_not_hold_are_refused() -> None:
    """2^24 categories are the most; 2^24 + 1 would share a code with 2^24."""
    helpers.refuses(
        lambda: gd.Sequential(gd.Embedding([2**24 + 1], 1), gd.Dense(1, 1), seed=0), ValueError, "sizes.*16777216"
    )
    model = gd.Sequential(gd.Embedding([2**24], 1, init=gd.Uniform(1.0)), seed=0)
    x = np.array([[2.0**24 - 1], [2.0**24 - 2]])
    np.testing.assert_array_equal(
        model.predict(x)[:, 0], np.asarray(model.parameters()["layers.0.table0"])[[-1, -2], 0]
    )
    with pytest.raises(ValueError, match="column 0"):
        model.predict([[2.0**24]])
    with pytest.raises(ValueError, match=r"got 3\.00000000000\d+ in row 0, column 0"):
        model.predict([[3.0 + 2.0**-40]])  # a whole number only after rounding


def test_the_columns_must_be_inputs(rng: Any) -> None:
    helpers.refuses(
        lambda: gd.Sequential(gd.Dense(2, 2), gd.Embedding([3], 2, columns=[1])),
        ValueError,
        "layers.1.*columns.*change",
    )
    helpers.refuses(
        lambda: gd.Sequential(
            gd.Standardizer(mean=[0, 0], std=[1, 1]), gd.Embedding([3], 2, columns=[1]), gd.Dense(3, 1)
        ),
        ValueError,
        "columns.*change",
    )
    names = ["size", "kind", "age"]
    layers = [
        gd.PiecewiseLinear([[0.0, 1.0, 2.0]], columns=["size"]),
        gd.Embedding([4], 2, columns=["kind"]),
        gd.Periodic(columns=["age"], frequencies=2, dim=3),
        gd.Dense(7, 1),
    ]
    model = gd.Sequential(*layers, seed=0, feature_names=names)
    assert [layer.columns for layer in model.layers[:3]] == [(0,), (0,), (0,)]
    x = np.column_stack([rng.uniform(0, 2, 9), rng.integers(0, 4, 9), rng.standard_normal(9)])
    reference = helpers.reference_of(model)
    np.testing.assert_allclose(model.predict(x), reference.forward(x, training=False), rtol=1e-5, atol=1e-6)
    x[4, 1] = 4
    with pytest.raises(ValueError, match=r"row 4, column 'kind'"):
        model.predict(x)


def test_training_and_files(device: str, rng: Any) -> None:
    """A network of categories learns a table; decay applies to it; saved, loaded and summarised."""
    x = rng.integers(0, [6, 4], (400, 2))
    y = (np.array([1.0, -2, 0.5, 3, 0, 1])[x[:, 0]] * np.array([1.0, 2, -1, 0])[x[:, 1]])[:, None]
    model = gd.Sequential(
        gd.Embedding([6, 4], 4, name="kinds"), gd.Dense(8, 32), gd.ReLU(), gd.Dense(32, 1), seed=0, device=device
    )
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(1e-2, weight_decay=[1e-6, 0.0, 0.0]))
    trainer.fit(x, y, epochs=60, batch_size=50)
    assert trainer.evaluate(x, y)["loss"] < 0.01
    assert list(model.parameters())[:2] == ["kinds.table0", "kinds.table1"]
    summary = model.summary()
    assert "Embedding(all columns) kinds" in summary and summary.splitlines()[2].split()[-2:] == ["8", "40"]
    file = io.BytesIO()
    model.save(file)
    loaded = gd.load(io.BytesIO(file.getvalue()), device=device)
    assert loaded.layers == model.layers
    helpers.same_bits(loaded.predict(x), model.predict(x))


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: gd.Embedding([], 2), ValueError, "sizes"),
    (lambda: gd.Embedding([0], 2), ValueError, "sizes"),
    (lambda: gd.Embedding(3, 2), TypeError, "sizes"),
    (lambda: gd.Embedding([2.5], 2), TypeError, "sizes"),
    (lambda: gd.Embedding([3], 0), ValueError, "dim"),
    (lambda: gd.Embedding([3], -1), ValueError, "dim"),
    (lambda: gd.Embedding([3], 1.5), TypeError, "dim"),
    (lambda: gd.Embedding([3], "one_hot"), TypeError, "dim"),
    (lambda: gd.Embedding([3], True), TypeError, "dim"),
    (lambda: gd.Embedding([3, 4], [2]), ValueError, "dim"),
    (lambda: gd.Embedding([3, 4], 2, columns=[1]), ValueError, "sizes"),
    (lambda: gd.Embedding([3], 2, columns=[1], features=1), ValueError, "columns"),
    (lambda: gd.Embedding([3], 2, columns=["a", "a"]), ValueError, "columns"),
    (lambda: gd.Embedding([3], 2, features=-1), ValueError, "features"),
    (lambda: gd.Embedding([3], 2, init=1.0), TypeError, "init"),
    (lambda: gd.Embedding([3]), TypeError, "dim"),
    (lambda: gd.Sequential(gd.Embedding([3], 2, columns=["a"]), gd.Dense(2, 1)), ValueError, "names"),
    (lambda: gd.Sequential(gd.Embedding([3], 2, columns=[4]), gd.Dense(3, 1)), ValueError, "columns"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_refused(i: int) -> None:
    helpers.refuses(*BAD[i])
