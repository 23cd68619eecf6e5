"""Promise: periodic embeddings are their formula at every shape and for arguments of any size, their gradients are
within 1e-6 of the summed terms, the same with any number of threads, and columns of a model follow one another."""

from __future__ import annotations

import io
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle_columns
import pytest
from gdcore import analysis
from gradient_cases import agree

SHAPES = [(1, 1), (2, 3), (7, 2), (8, 5), (31, 4), (33, 3), (257, 2), (1025, 3), (5, 40)]


def build(width: int, device: str, dtype: Any, **settings: Any) -> gd.Sequential:
    layer = gd.Periodic(width, **settings)
    return gd.Sequential(layer, seed=1, dtype=dtype, device=device)


def own_arrays(model: gd.Sequential) -> dict[str, np.ndarray]:
    return {name.removeprefix("layers.0."): np.array(v) for name, v in model.parameters().items()}


@helpers.DTYPES
@pytest.mark.parametrize("kind", ["pbld", "plr"])
@pytest.mark.parametrize(("rows", "width"), SHAPES)
@pytest.mark.parametrize(("frequencies", "dim"), [(16, 4), (1, 2), (5, 11)])
def test_forward_and_backward(
    rows: int, width: int, frequencies: int, dim: int, kind: str, dtype: Any, device: str, rng: Any
) -> None:
    chosen = rng.permutation(width)[: max(1, width - 1)].tolist()
    model = build(width, device, dtype, columns=chosen, frequencies=frequencies, dim=dim, sigma=1.0, kind=kind)
    layer, arrays = model.layers[0], own_arrays(model)
    x = (rng.standard_normal((rows, width)) * 3).astype(dtype)
    out = model.forward(x)
    unit = 2.0**-24 if dtype == np.float32 else 2.0**-53
    terms = np.abs(arrays["weight"]).sum(1).max() + np.abs(arrays["bias"]).max()
    np.testing.assert_allclose(out, oracle_columns.forward(layer, arrays, x), rtol=4 * unit, atol=8 * unit * terms)
    dout = rng.standard_normal(out.shape).astype(dtype)
    # the oracle is given the layer's own outputs of the ReLU: near 0 the sign may differ
    dx, grads = oracle_columns.backward(layer, arrays, x, dout)
    near = np.abs(np.concatenate([oracle_columns.forward(layer, arrays, x)[:, width - len(chosen) :].ravel(), [1.0]]))
    if kind == "plr" and near[near > 0].min() < 1e-5:
        return
    tolerance = 60 * unit
    got = model.backward(dout)
    np.testing.assert_allclose(got, dx, rtol=tolerance, atol=tolerance * (1 + np.abs(dx).max()) * frequencies)
    for name, grad in grads.items():
        scale = np.abs(grad).max() + np.sqrt(rows)
        np.testing.assert_allclose(
            np.asarray(model.gradients()[f"layers.0.{name}"]).reshape(grad.shape),
            grad,
            rtol=tolerance,
            atol=tolerance * scale,
            err_msg=name,
        )


@pytest.mark.parametrize("kind", ["pbld", "plr"])
def test_hessian_vector_products(kind: str, device: str, rng: Any) -> None:
    """Along the parameters and, through the Dense before, the inputs; against differences of the gradient."""
    model = gd.Sequential(
        gd.Dense(3, 4),
        gd.Periodic(columns=[2, 0], frequencies=3, dim=3, sigma=0.5, kind=kind),
        gd.PiecewiseLinear([[-0.5, 0.1, 0.7]], columns=[1]),
        gd.Residual(gd.Dense(9, 9), gd.Tanh()),
        gd.Dense(9, 2),
        seed=0,
        dtype="float64",
        device=device,
    )
    objective = analysis.Objective(
        model, gd.MeanSquaredError(), rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
    )
    w, v, h = objective.point, rng.standard_normal(objective.size), 1e-5
    agree(objective.hvp(v), (objective.gradient(w + h * v) - objective.gradient(w - h * v)) / (2 * h))


def test_arguments_of_any_size(device: str, rng: Any) -> None:
    """2π w x is reduced exactly: large inputs lose nothing but the rounding of x itself."""
    model = build(1, device, "float32", frequencies=32, dim=5, sigma=3.0)
    arrays = own_arrays(model)
    x = np.concatenate([rng.uniform(-1, 1, 50) * 10.0**e for e in range(0, 38, 3)]).astype(np.float32)[:, None]
    exact = []
    for w in arrays["frequency"][0]:
        turns = [float((fraction(float(w)) * fraction(float(v))) % 1) for v in x[:, 0]]
        exact.append(np.array(turns))
    angle = 2 * np.pi * np.array(exact).T + arrays["phase"][0].astype(np.float64)
    expected = np.cos(angle) @ arrays["weight"].astype(np.float64).T + arrays["bias"].astype(np.float64)
    out = model.predict(x)
    helpers.same_bits(out[:, :1], x)
    assert np.abs(out[:, 1:] - expected).max() < 3e-7 * (np.abs(arrays["weight"]).sum(1).max() + 1)


def fraction(value: float) -> Any:
    from fractions import Fraction

    return Fraction(value)


def test_nan_stays_nan(device: str) -> None:
    for kind in ("pbld", "plr"):
        model = build(1, device, "float32", kind=kind)
        for bad in (np.nan, np.inf):
            assert np.isnan(model.predict([[bad]], check_finite=False)[0, 1:]).all(), (kind, bad)


@pytest.mark.parametrize("kind", ["pbld", "plr"])
def test_the_same_bits_with_any_number_of_threads(kind: str, rng: Any) -> None:
    x, found = rng.standard_normal((3000, 7)), []
    for threads in (1, 2):
        with gd.thread_limit(threads):
            model = build(7, "cpu", "float32", kind=kind)
            out = model.forward(x)
            dx = model.backward(np.ones_like(out))
            found.append({"out": out, "dx": dx, **helpers.copies(model.gradients())})
    helpers.same_bits(*found)


def test_initial_values(rng: Any) -> None:
    model = build(50, "cpu", "float64", frequencies=64, sigma=0.25)
    arrays = own_arrays(model)
    assert {name: a.shape for name, a in arrays.items()} == {
        "frequency": (50, 64),
        "phase": (50, 64),
        "weight": (150, 64),
        "bias": (150,),
    }
    assert abs(arrays["frequency"].std() - 0.25) < 0.01 and abs(arrays["frequency"].mean()) < 0.02
    for name, bound in (("phase", np.pi), ("weight", 1 / 8), ("bias", 1 / 8)):
        assert 0.95 * bound < np.abs(arrays[name]).max() <= bound, name
    plr = build(2, "cpu", "float64", kind="plr", frequencies=8, dim=3)
    assert {name: a.shape for name, a in own_arrays(plr).items()} == {
        "frequency": (2, 8),
        "weight": (6, 16),
        "bias": (6,),
    }


def test_frozen_and_decayed(device: str, rng: Any) -> None:
    model = gd.Sequential(gd.Periodic(3, name="waves"), gd.Dense(12, 1), seed=0, device=device)
    model.freeze("waves.frequency")
    before = helpers.copies(model.parameters())
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1, weight_decay=0.5))
    x, y = np.zeros((10, 3)), np.zeros((10, 1))
    trainer.step(x, y)
    after = helpers.copies(model.parameters())
    helpers.same_bits(after["waves.frequency"], before["waves.frequency"])
    assert all((after[name] != before[name]).any() for name in ("waves.phase", "waves.weight", "waves.bias"))
    assert not np.asarray(model.gradients()["waves.frequency"]).any()


def test_layers_of_columns_follow_one_another(device: str, rng: Any) -> None:
    """A whole network with every kind of column trains, and is saved and loaded."""
    x = np.column_stack([rng.standard_normal(300), rng.integers(0, 4, 300), rng.uniform(0, 1, 300)])
    y = np.sin(5 * x[:, 0])[:, None] + np.array([0.0, 1.0, -1.0, 2.0])[x[:, 1].astype(int), None] + x[:, 2:] ** 2
    model = gd.Sequential(
        gd.PiecewiseLinear(columns=[2]).fit(x, bins=8),
        gd.Embedding([4], 3, columns=[1]),
        gd.Periodic(columns=[0], sigma=0.5),
        gd.Dense(8 + 3 + 4, 32),
        gd.GELU(),
        gd.Dense(32, 1),
        seed=0,
        device=device,
    )
    assert model.in_features == 3 and [model.layers[i].columns for i in range(3)] == [(2,), (1,), (0,)]
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(1e-2))
    trainer.fit(x, y, epochs=60, batch_size=30)
    assert trainer.evaluate(x, y)["loss"] < 0.02
    reference = helpers.reference_of(model)
    np.testing.assert_allclose(model.predict(x), reference.forward(x, training=False), rtol=1e-4, atol=1e-4)
    file = io.BytesIO()
    model.save(file)
    loaded = gd.load(io.BytesIO(file.getvalue()), device=device)
    helpers.same_bits(loaded.predict(x), model.predict(x))
    assert loaded.layers == model.layers


def test_columns_by_name_after_scaling(rng: Any) -> None:
    """Names work behind a Standardizer, which keeps the columns; the layer gets the scaled ones."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(100 + 7 * rng.standard_normal((40, 4)), columns=list("abcd"))
    layers = [gd.Standardizer().fit(frame), gd.Periodic(columns=["d", "b"], dim=3)]
    named = gd.Sequential(*layers[:2], gd.Periodic(columns=["a"], dim=2), gd.Dense(9, 2), seed=0)
    assert named.layers[1].columns == (3, 1) and named.layers[2].columns == (0,) and named.layers[2].features == 8
    numbered = gd.Sequential(
        layers[0], gd.Periodic(4, columns=[3, 1], dim=3), gd.Periodic(8, columns=[0], dim=2), gd.Dense(9, 2), seed=0
    )
    helpers.same_bits(named.predict(frame[["c", "a", "d", "b"]]), numbered.predict(frame.to_numpy()))
    edges = gd.PiecewiseLinear(columns=["a"]).fit(frame)  # in the data's unit
    for layer in (edges, gd.Embedding([200], [2], columns=["a"])):
        word = "'a', which the layers before change; expected this layer before them"
        helpers.refuses(lambda layer=layer: gd.Sequential(layers[0], layer, gd.Dense(5, 1)), ValueError, word)
    for layer in (gd.BatchNorm(4), gd.Dense(4, 4)):
        with pytest.raises(ValueError, match="which the layers before change"):
            gd.Sequential(layer, gd.Periodic(4, columns=["a"]), feature_names=list("abcd"))


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: gd.Periodic(-1), ValueError, "features"),
    (lambda: gd.Periodic(2.5), TypeError, "features"),
    (lambda: gd.Periodic(2, frequencies=0), ValueError, "frequencies"),
    (lambda: gd.Periodic(2, frequencies=10**6), ValueError, "frequencies"),
    (lambda: gd.Periodic(2, frequencies="16"), TypeError, "frequencies"),
    (lambda: gd.Periodic(2, dim=1), ValueError, "dim"),
    (lambda: gd.Periodic(2, dim=0, kind="plr"), ValueError, "dim"),
    (lambda: gd.Periodic(2, sigma=0.0), ValueError, "sigma"),
    (lambda: gd.Periodic(2, sigma=-1.0), ValueError, "sigma"),
    (lambda: gd.Periodic(2, sigma=np.nan), ValueError, "sigma"),
    (lambda: gd.Periodic(2, kind="cos"), ValueError, "kind"),
    (lambda: gd.Periodic(2, kind=None), TypeError, "kind"),
    (lambda: gd.Periodic(2, columns=[2]), ValueError, "columns"),
    (lambda: gd.Periodic(2, columns={0, 1}), TypeError, "columns"),
    (lambda: gd.Periodic(2, columns=[True]), TypeError, "columns"),
    (lambda: gd.Sequential(gd.Periodic(), gd.Dense(8, 1)), ValueError, "features"),
    (lambda: gd.Sequential(gd.Dense(2, 3), gd.Periodic(2), gd.Dense(8, 1)), ValueError, "features"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_refused(i: int) -> None:
    helpers.refuses(*BAD[i])
