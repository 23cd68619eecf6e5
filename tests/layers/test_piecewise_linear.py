"""Promise: the piecewise-linear encoding is its formula at every shape, in both dtypes, also at edges and outside of
them; its edges come from quantiles or a tree, are saved with the model, and columns go by number or name."""

from __future__ import annotations

import copy
import io
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle_columns
import pytest

pd = pytest.importorskip("pandas")


def random_edges(rng: Any, columns: int, most: int) -> list[list[float]]:
    return [np.unique(rng.standard_normal(rng.integers(2, most + 2))).tolist() for _ in range(columns)]


@helpers.DTYPES
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 3), (33, 17), (100, 33), (1025, 5), (32, 128)])
def test_forward_and_backward(rows: int, width: int, clip: bool, dtype: Any, device: str, rng: Any) -> None:
    chosen = rng.permutation(width)[: max(1, width // 2)].tolist()
    layer = gd.PiecewiseLinear(random_edges(rng, len(chosen), 20), columns=chosen, clip=clip, features=width)
    model = gd.Sequential(layer, seed=0, dtype=dtype, device=device)
    x = (rng.standard_normal((rows, width)) * 2).astype(dtype)
    layer = gd.PiecewiseLinear([np.asarray(e, dtype).tolist() for e in layer.edges], columns=chosen, clip=clip)
    out = model.forward(x)
    expected = oracle_columns.forward(layer, {}, x)
    assert out.dtype == dtype
    tiny = min(float(np.diff(edges).min()) for edges in layer.edges)
    factor = float(np.finfo(dtype).eps) * 8
    np.testing.assert_allclose(out, expected, rtol=factor, atol=factor * 4 / tiny)
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx = oracle_columns.backward(layer, {}, x, dout)[0]
    np.testing.assert_allclose(model.backward(dout), dx, rtol=factor * 4, atol=factor * np.abs(dx).max())
    assert not model.parameters()


def test_edges_and_values_outside(device: str) -> None:
    """At an edge a bin is full and the next empty; outside, the first and last bin go on unless clipped."""
    x = np.array([[-2.0], [0.0], [1.0], [2.0], [3.0], [5.0]])
    expected = [[-2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.5], [1.0, 1.0, 1.5]]
    for clip in (False, True):
        layer = gd.PiecewiseLinear([[0.0, 1.0, 2.0, 4.0]], clip=clip)
        model = gd.Sequential(layer, seed=0, device=device)
        wanted = np.clip(expected, 0, 1) if clip else np.array(expected)
        np.testing.assert_array_equal(model.predict(x), wanted)
        model.forward(x)
        slopes = [[0.0 if clip else 1.0], [1.0], [1.0], [0.5], [0.5], [0.0 if clip else 0.5]]
        np.testing.assert_array_equal(model.backward(np.ones((6, 3))), slopes)
    one = gd.Sequential(gd.PiecewiseLinear([[1.0, 3.0]]), seed=0, device=device)
    np.testing.assert_array_equal(one.predict([[0.0], [2.0], [7.0]]), [[-0.5], [0.5], [3.0]])


def test_nan_stays_nan(device: str) -> None:
    model = gd.Sequential(gd.PiecewiseLinear([[0.0, 1.0, 2.0]], clip=True), seed=0, device=device)
    assert np.isnan(model.predict(np.array([[np.nan]]), check_finite=False)).all()


def test_quantiles(rng: Any) -> None:
    x = rng.standard_normal((1000, 3))
    x[:, 1] = rng.integers(0, 3, 1000)
    x[:, 2] = 7.0
    layer = gd.PiecewiseLinear().fit(x, bins=8)
    assert [len(edges) for edges in layer.edges] == [9, 3, 2] and layer.features == 3 and layer.out_features == 11
    np.testing.assert_allclose(layer.edges[0], np.quantile(x[:, 0], np.linspace(0, 1, 9)), rtol=1e-6)
    assert layer.edges[1] == (0.0, 1.0, 2.0) and layer.edges[2] == (7.0, 14.0)
    model = gd.Sequential(layer, gd.Dense(11, 1), seed=0)
    shares = model.__class__(layer, seed=0).predict(x)[:, :8].sum(axis=1)
    assert abs(np.quantile(shares, 0.5) - 4) < 0.01  # the sum counts the bins below x


def test_tree_splits_where_the_target_changes(rng: Any) -> None:
    x = rng.uniform(0, 10, (2000, 2))
    y = np.where(x[:, 0] < 3, 0.0, np.where(x[:, 0] < 7, 5.0, 1.0))
    layer = gd.PiecewiseLinear(columns=[0]).fit(x, y, bins=3)
    edges = layer.edges[0]
    assert len(edges) == 4 and abs(edges[1] - 3) < 0.05 and abs(edges[2] - 7) < 0.05
    for names in (
        np.array(["a", "b", "c"])[np.array([0, 5, 1]).searchsorted(0) + (y > 0) + (y > 1)],
        (y > 1).astype(int),
    ):
        found = gd.PiecewiseLinear(columns=[0]).fit(x, names, bins=3).edges[0]
        assert min(abs(edge - 3) for edge in found) < 0.05 and min(abs(edge - 7) for edge in found) < 0.05
    many = np.where(x[:, 0] < 3, "low", np.char.add("c", rng.integers(0, 300, 2000).astype(str)))
    assert abs(gd.PiecewiseLinear(columns=[0]).fit(x, many, bins=2).edges[0][1] - 3) < 0.05
    few = gd.PiecewiseLinear(columns=[0]).fit(x, y, bins=50, min_rows=400).edges[0]
    counts = np.histogram(x[:, 0], few)[0]
    assert counts.min() >= 399
    assert len(gd.PiecewiseLinear(columns=[1]).fit(x, np.ones(2000)).edges[0]) == 2  # nothing to gain


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_close_values_differ_in_the_dtype(dtype: str) -> None:
    x = 1e9 + np.arange(100.0)[:, None]
    layer = gd.PiecewiseLinear().fit(x, dtype=dtype)
    model = gd.Sequential(layer, gd.Dense(layer.out_features, 1), seed=0, dtype=dtype)
    assert (np.diff(layer.edges[0]) > 0).all() and np.isfinite(model.predict(x)).all()
    if dtype == "float64":
        helpers.refuses(
            lambda: gd.Sequential(layer, gd.Dense(layer.out_features, 1), seed=0),
            ValueError,
            "edges.*column 0.*float32",
        )


def test_names_of_columns(rng: Any) -> None:
    frame = pd.DataFrame({"a": rng.standard_normal(50), "b": rng.standard_normal(50), "c": rng.standard_normal(50)})
    layer = gd.PiecewiseLinear(columns=["c", "a"]).fit(frame, bins=4)
    model = gd.Sequential(layer, gd.Dense(9, 1), seed=0, dtype="float64")
    assert model.feature_names == ("a", "b", "c") and model.layers[0].columns == (2, 0) and model.in_features == 3
    by_number = gd.Sequential(
        gd.PiecewiseLinear(columns=[2, 0]).fit(frame.to_numpy(), bins=4), gd.Dense(9, 1), seed=0, dtype="float64"
    )
    helpers.same_bits(model.predict(frame[["b", "c", "a"]]), by_number.predict(frame.to_numpy()))
    helpers.refuses(lambda: gd.PiecewiseLinear(columns=["x"]).fit(frame), ValueError, "'x'")
    helpers.refuses(lambda: gd.PiecewiseLinear(columns=["a"]).fit(frame.to_numpy()), ValueError, "names")


def test_saved_and_sealed(rng: Any) -> None:
    x = rng.standard_normal((100, 2))
    layer = gd.PiecewiseLinear().fit(x, bins=5)
    model = gd.Sequential(layer, gd.Dense(10, 1), seed=0)
    file = io.BytesIO()
    model.save(file)
    loaded = gd.load(io.BytesIO(file.getvalue()))
    helpers.same_bits(loaded.predict(x), model.predict(x))
    assert loaded.layers == model.layers and model.layers[0] == layer and layer.edges == loaded.layers[0].edges
    assert list(model.buffers()) == ["layers.0.start", "layers.0.width"]
    before = model.predict(x)
    layer.fit(x * 5)
    helpers.same_bits(model.predict(x), before)
    helpers.refuses(lambda: model.layers[0].fit(x), RuntimeError, "edges")
    assert copy.copy(model.layers[0]).fit(x, bins=5).edges == model.layers[0].edges
    model.buffers()["layers.0.width"][4] *= -1
    helpers.refuses(lambda: model.predict(x), ValueError, r"layers\[0\].*wide")
    model.buffers()["layers.0.width"][4] *= -2
    assert model.layers[0].edges != loaded.layers[0].edges
    model.save(file := io.BytesIO())
    helpers.same_bits(gd.load(io.BytesIO(file.getvalue())).predict(x), model.predict(x))


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: gd.PiecewiseLinear([[0.0]]), ValueError, "edges"),
    (lambda: gd.PiecewiseLinear([[0.0, 0.0]]), ValueError, "edges.*increasing"),
    (lambda: gd.PiecewiseLinear([[0.0, np.nan]]), ValueError, "edges"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns=[0, 1]), ValueError, "edges.*2"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns=[0, 0]), ValueError, "columns"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns=[]), ValueError, "columns"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns=[-1]), ValueError, "columns"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns=1), TypeError, "columns"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns="a"), TypeError, "columns"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns=[0.5]), TypeError, "columns"),
    (lambda: gd.PiecewiseLinear([[0.0, 1.0]], columns=["a", 1]), TypeError, "columns"),
    (
        lambda: gd.PiecewiseLinear(8),
        TypeError,
        "got int 8; expected a sequence of sequences of numbers or None$",
    ),
    (lambda: gd.Sequential(gd.PiecewiseLinear(), gd.Dense(3, 1)), RuntimeError, "fit"),
    (lambda: gd.Sequential(gd.PiecewiseLinear([[0.0, 1.0]]), gd.Dense(3, 1)), ValueError, "in_features"),
    (lambda: gd.Sequential(gd.PiecewiseLinear([[0.0, 1.0]], columns=[5]), gd.Dense(3, 1)), ValueError, "columns.*5"),
    (lambda: gd.Sequential(gd.PiecewiseLinear([[0.0, 1.0]], columns=["a"]), gd.Dense(3, 1)), ValueError, "names"),
    (
        lambda: gd.Sequential(
            gd.PiecewiseLinear([[0.0, 1.0]], columns=["z"]), gd.Dense(2, 1), feature_names=["a", "b"]
        ),
        ValueError,
        "'z'",
    ),
    (lambda: gd.PiecewiseLinear().fit([[1.0], [np.nan]]), ValueError, "x.*row 1"),
    (lambda: gd.PiecewiseLinear().fit([1.0, 2.0]), ValueError, "x"),
    (lambda: gd.PiecewiseLinear().fit(np.empty((0, 2))), ValueError, "x"),
    (lambda: gd.PiecewiseLinear().fit([[1.0], [2.0]], bins=0), ValueError, "bins"),
    (lambda: gd.PiecewiseLinear().fit([[1.0], [2.0]], bins=2.5), TypeError, "bins"),
    (lambda: gd.PiecewiseLinear().fit([[1.0], [2.0]], dtype="float16"), ValueError, "dtype"),
    (lambda: gd.PiecewiseLinear().fit([[1.0], [2.0]], [1.0]), ValueError, "y"),
    (lambda: gd.PiecewiseLinear().fit([[1.0], [2.0]], [1.0, np.nan]), ValueError, "y"),
    (lambda: gd.PiecewiseLinear().fit([[1e300], [2.0]]), ValueError, "float32"),
    (lambda: gd.PiecewiseLinear().fit([[1.6e9], [1.6e9 + 50]]), ValueError, "column 0.*float32 does not tell apart"),
    (lambda: gd.PiecewiseLinear(columns=[3]).fit([[1.0], [2.0]]), ValueError, "columns"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_refused(i: int) -> None:
    helpers.refuses(*BAD[i])
