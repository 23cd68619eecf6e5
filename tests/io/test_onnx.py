"""Promise: ONNX files compute in onnxruntime what the model does, to 1e-5 in float32 and to 1e-12 in float64: every
layer, random trained networks, ensembles, any number of rows. What cannot be exported is refused before a file exists;
an old file is then untouched."""

from __future__ import annotations

import datetime
import io
import json
import sys
from pathlib import Path
from typing import Any

import gdcore as gd
import gradient_cases
import helpers
import numpy as np
import onnx
import onnxruntime
import pytest
from gdcore.io.onnx import files, layers

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
NEAR = {"float32": 1e-5, "float64": 1e-12}
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1


def session(model: Any, **options: Any) -> Any:
    """Return a session of the file of a model, which the checker of ONNX accepts."""
    file = io.BytesIO()
    model.save_onnx(file, **options)
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()), full_check=True)
    return onnxruntime.InferenceSession(file.getvalue(), OPTIONS, providers=["CPUExecutionProvider"])


def compare(model: Any, x: np.ndarray, rows: tuple[int, ...] = (0, 1, 2, 33)) -> None:
    """Demand the same outputs, and probabilities where there are any, for the first rows of `x`."""
    models, calls = getattr(model, "models", [model]), {"raw": model.predict}
    if model.outputs in ("classes", "yes_no"):
        calls["probabilities"] = model.predict_proba
    for outputs, call in calls.items():
        loaded = session(model, outputs=outputs)
        for count in rows:
            given = np.ascontiguousarray(x[:count], model.dtype)
            close(loaded.run(None, {"x": given})[0], call(given), min(each.dtype for each in models))


def close(found: np.ndarray, expected: np.ndarray, computed: str | None = None) -> None:
    """Demand the same shape and type, and differences below 1e-5 or 1e-12, of the largest number if it is above 1."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    limit = NEAR[computed or str(expected.dtype)] * max(1.0, np.abs(expected).max(initial=0.0))
    assert np.isfinite(expected).all() and (np.abs(found - expected) < limit).all(), np.abs(found - expected).max()


def test_compare_rejects() -> None:
    expected = np.array([[1.0, 3.0]], np.float32)
    for found in (expected + np.float32(1e-4), expected[0], expected.astype(float), expected * np.nan):
        with pytest.raises(AssertionError):
            close(found, expected)


LAYERS = {
    **gradient_cases.LAYERS,
    "Standardizer": [gd.Standardizer(mean=[1e4, -3.0, 0.5, 0.0], std=[1.0, 1e-3, 1e5, 2.0]), gd.Dense(4, 3)],
    "dropout": [gd.Dense(4, 3), gd.Dropout(0.9), gd.Dense(3, 3), gd.Dropout(0.1)],
    "nothing but dropout": [gd.BatchNorm(4), gd.Dropout()],
    "one unit": [gd.Dense(4, 1), gd.LayerNorm(1), gd.BatchNorm(1), gd.Dense(1, 1)],
    "names": [gd.Dense(4, 3, name="x"), gd.ReLU(name="outputs"), gd.Dense(3, 2, name="größe")],
}


@DTYPES
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name: str, dtype: str, device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(*LAYERS[name], seed=0, dtype=dtype, device=device)
    helpers.randomize(model, rng)
    x = 3 * rng.standard_normal((33, 4)) * ([1.0, 1e-3, 1e5, 2.0] if name == "Standardizer" else 1.0)
    x += [1e4, -3.0, 0.5, 0.0] if name == "Standardizer" else 0.0
    for _ in range(3):
        model.forward(2 * x + 1)  # which moves the running averages
    compare(model, x)


@DTYPES
@pytest.mark.parametrize("activation", helpers.ACTIVATIONS, ids=repr)
def test_activations_over_the_whole_range(activation: gd.Layer, dtype: str) -> None:
    model = gd.Sequential(gd.Dense(1, 1, init=gd.Constant(1.0), bias=False), activation, dtype=dtype)
    found = session(model)
    for top in (1e-30, 1e-3, 1.0, 8.0, 30.0, 1e3, 1e10):
        for end in (-top, top):  # separately, as outputs below 0 may be much smaller
            x = np.linspace(0, end, 21, dtype=dtype)[:, None]
            close(found.run(None, {"x": x})[0], model.predict(x))


@DTYPES
@pytest.mark.parametrize("name", ["LayerNorm", "std", "variance"])
def test_norms_of_numbers_far_from_zero(name: str, dtype: str, rng: helpers.Generator) -> None:
    """Where the mean is 10⁴ deviations, σ² is not the difference of two large numbers."""
    layer = gd.LayerNorm(64) if name == "LayerNorm" else gd.BatchNorm(64, running=name)
    model = gd.Sequential(layer, dtype=dtype, seed=0)
    x = (rng.standard_normal((50, 64)) + 1e4).astype(dtype)
    for _ in range(200):
        model.forward(x)
    exact = helpers.reference_of(model).forward(x.astype(np.float64), training=False)
    assert np.abs(exact).max() > 2
    close(session(model).run(None, {"x": x})[0], exact.astype(dtype))


def random_model(seed: int, rng: helpers.Generator, dtype: str) -> tuple[gd.Sequential, np.ndarray]:
    """Return a trained network of random layers, and inputs with columns of different scales."""
    width, rows = int(rng.integers(1, 70)), 130
    x = (rng.standard_normal((rows, width)) * rng.uniform(0.01, 50, width) + rng.uniform(-100, 100, width)).astype(
        dtype
    )
    parts: list[gd.Layer] = [gd.Standardizer().fit(x)]
    for _ in range(int(rng.integers(1, 4))):
        new = int(rng.integers(1, 130))
        parts.append(gd.Dense(width, new, bias=bool(rng.integers(2))))
        width, affine = new, bool(rng.integers(2))
        norms = [gd.LayerNorm(width, affine=affine), *(gd.BatchNorm(width, running=r) for r in ("std", "variance"))]
        parts += norms[rng.integers(3) :][:1] if rng.integers(3) else []
        parts.append(helpers.ACTIVATIONS[rng.integers(len(helpers.ACTIVATIONS))])
        parts += [gd.Dropout(0.2)] if rng.integers(2) else []
    kind, out = int(rng.integers(3)), int(rng.integers(1, 6))
    out += kind == 1 and out == 1
    loss = (gd.MeanSquaredError(), gd.CrossEntropy(), gd.BinaryCrossEntropy())[kind]
    labels = rng.integers(0, out, rows)
    y = (rng.standard_normal((rows, out)), labels, rng.integers(0, 2, (rows, out)).astype(float))[kind]
    model = gd.Sequential(*parts, gd.Dense(width, out), seed=seed, dtype=dtype)
    gd.Trainer(model, loss, optimizer=gd.Adam(1e-2)).fit(x, y, epochs=3, batch_size=32)
    return model, x


@DTYPES
@pytest.mark.parametrize("seed", range(25))
def test_random_trained_networks(seed: int, dtype: str) -> None:
    model, x = random_model(seed, helpers.generator("onnx", seed), dtype)
    compare(model, x, (1, 7, len(x)))


def small(dtype: str = "float32", out: int = 3, seed: int = 0, **settings: Any) -> gd.Sequential:
    parts = gd.Dense(4, 8), gd.BatchNorm(8), gd.Tanh(), gd.Dense(8, out, name="head")
    model = gd.Sequential(*parts, seed=seed, dtype=dtype, **settings)
    model.forward(helpers.generator("onnx", seed).standard_normal((20, 4)))
    return model


# ---------------------------------------------------------------------------------------------------- ensembles
@pytest.mark.parametrize("average", ["probabilities", "outputs"])
@pytest.mark.parametrize(
    ("outputs", "out"), [("classes", 3), ("yes_no", 1), ("yes_no", 2), ("numbers", 2), (None, 1)], ids=str
)
def test_ensembles(outputs: str | None, out: int, average: str, rng: helpers.Generator) -> None:
    x = rng.standard_normal((33, 4))
    for dtypes in (["float32"], ["float32"] * 3, ["float64", "float64"], ["float32", "float64"]):
        models = [small(dtype, out, i, outputs=outputs) for i, dtype in enumerate(dtypes)]
        for model in models:
            helpers.randomize(model, rng, 2.0)
        compare(gd.Ensemble(models, average=average), x)
        compare(gd.Ensemble(models, average=average, weights=range(1, 1 + len(models))), x)


def test_certain_ensembles_keep_their_outputs(rng: helpers.Generator) -> None:
    """Probabilities that float32 rounds to 0 have finite outputs."""
    for outputs, out in (("classes", 3), ("yes_no", 1)):
        models = [small("float32", out, i, outputs=outputs) for i in range(2)]
        for model in models:
            model.parameters()["head.bias"][...] = [300, 0, -300][:out]
        x = rng.standard_normal((33, 4))
        assert np.abs(gd.Ensemble(models).predict(x)).max() > 250
        compare(gd.Ensemble(models), x)


@DTYPES
def test_small_probabilities_are_accurate(dtype: str) -> None:
    """onnxruntime's Sigmoid would return 0 for the least of them."""
    for outputs, out in (("yes_no", 1), ("yes_no", 2), ("classes", 2)):
        model = gd.Sequential(gd.Dense(1, out, init=gd.Constant(1.0), bias=False), dtype=dtype, outputs=outputs)
        model.parameters()["layers.0.weight"][0] = 2
        x = np.linspace(-35, 35, 71, dtype=dtype)[:, None]
        found, expected = session(model, outputs="probabilities").run(None, {"x": x})[0], model.predict_proba(x)
        assert expected.min() < 1e-15
        np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else 1e-13)


# ---------------------------------------------------------------------------------------------------- what a file says
def contents(model: Any, **options: Any) -> Any:
    file = io.BytesIO()
    model.save_onnx(file, **options)
    return onnx.load_from_string(file.getvalue())


def shape(value: Any) -> list[Any]:
    return [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    ("outputs", "out", "width"), [("classes", 3, 3), ("yes_no", 1, 2), ("yes_no", 2, 2), ("numbers", 2, None)], ids=str
)
def test_inputs_outputs_and_versions(outputs: str, out: int, width: int | None) -> None:
    model = small(out=out, outputs=outputs)
    for what, name, columns in (("raw", "outputs", out), ("probabilities", "probabilities", width)):
        if columns is None:
            continue
        read = contents(model, outputs=what)
        assert [(each.domain, each.version) for each in read.opset_import] == [("", 17)] and read.ir_version == 8
        assert (read.producer_name, read.producer_version) == ("gdcore", gd.__version__)
        (x,), (y,) = read.graph.input, read.graph.output
        assert (x.name, shape(x), y.name, shape(y)) == ("x", ["rows", 4], name, ["rows", columns])
        for value in (x, y):
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert contents(small("float64")).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


def test_parameters_have_their_names() -> None:
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in contents(small()).graph.initializer}
    helpers.same_bits(arrays["head.weight"], small().parameters()["head.weight"])
    helpers.same_bits(arrays["layers.0.bias"], small().parameters()["layers.0.bias"])
    nodes = [each.name for each in contents(small()).graph.node]
    assert nodes[0] == "layers.0.Gemm" and "head.Gemm" in nodes and len(set(nodes)) == len(nodes)


CLASSES: dict[str, list[Any]] = {
    "text": ["no", "yes", "schön 'or' \"not\" \u2028"],
    "integers": [3, -1, 2**60],
    "booleans": [False, True, "maybe"],
    "floats": [0.1, 1e300, 2],
    "dates": [datetime.date(2020, 1, 1), datetime.datetime(2021, 2, 3, 4, 5), np.datetime64("1999")],
}


@pytest.mark.parametrize("kind", CLASSES)
def test_metadata(kind: str) -> None:
    names = ["", "a\nb", "größe\ud800", "x"]
    model = small(classes=CLASSES[kind], feature_names=names, outputs="classes", target_names=["p", "q", "r"])
    for whole in (model, gd.Ensemble([model])):
        found = session(whole).get_modelmeta().custom_metadata_map
        assert found.keys() == {"gdcore_version", "outputs", "classes", "feature_names", "target_names"}
        assert (found["gdcore_version"], found["outputs"]) == (gd.__version__, "classes")
        assert json.loads(found["feature_names"]) == names and json.loads(found["target_names"]) == ["p", "q", "r"]
        classes = json.loads(found["classes"])
        dates = [{"date": str(name)} for name in model.classes]
        assert classes == (dates if kind == "dates" else CLASSES[kind])
        assert [type(each) for each in classes] == [dict if kind == "dates" else type(each) for each in CLASSES[kind]]
    assert session(small()).get_modelmeta().custom_metadata_map == {"gdcore_version": gd.__version__}


def test_equal_models_have_equal_files_and_stay_as_they_are(tmp_path: Path) -> None:
    model = small(outputs="classes")
    model.freeze("head")
    before = helpers.snapshot(model)
    for name in ("a", "b"):
        model.save_onnx(tmp_path / name)
    model.clone().save_onnx(str(tmp_path / "c"))
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    helpers.same_bits(helpers.snapshot(model), before)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b", "c"]
    compare(model, np.ones((33, 4)))


class Wide(gd.Dense):
    """A layer of a user."""


def test_subclasses_count_as_what_they_are_made_from(rng: helpers.Generator) -> None:
    compare(gd.Sequential(Wide(4, 3), gd.Tanh(), seed=0), rng.standard_normal((33, 4)))


# ---------------------------------------------------------------------------------------------------- refused
def written(name: str, value: float) -> Any:
    """Return a model with a number in one of its arrays."""
    model = small(outputs="classes")
    {**model.parameters(), **model.buffers()}[name][..., 1] = value
    return model


def scaled(std: float) -> gd.Sequential:
    return gd.Sequential(gd.Standardizer(mean=[0.0], std=[std], feature_names=["height"]), gd.Dense(1, 1), seed=0)


BAD: dict[str, Any] = {
    "nan": (lambda: written("head.weight", np.nan), {}, ValueError, r"head\.weight: got nan"),
    "infinite": (lambda: written("layers.0.bias", np.inf), {}, ValueError, r"layers\.0\.bias: got inf"),
    "mean": (lambda: written("layers.1.running_mean", np.nan), {}, ValueError, r"layers\.1\.running_mean"),
    "deviation": (lambda: written("layers.1.running_std", -1.0), {}, ValueError, r"layers\.1\.running_std: got -1"),
    "scaling": (lambda: scaled(1e-60), {}, ValueError, "column 'height'"),
    "large scaling": (lambda: scaled(1e60), {}, ValueError, "column 'height'"),
    "ensemble": (lambda: gd.Ensemble([written("head.weight", np.nan)]), {}, ValueError, r"head\.weight: got nan"),
    "no probabilities": (lambda: small(outputs="numbers"), {"outputs": "probabilities"}, ValueError, "numbers"),
    "unknown meaning": (small, {"outputs": "probabilities"}, ValueError, "save_onnx: outputs: the meaning"),
    "other outputs": (small, {"outputs": "labels"}, ValueError, "outputs: got 'labels'; expected one of 'raw'"),
    "no outputs": (small, {"outputs": None}, ValueError, "outputs: got None"),
    "unknown argument": (small, {"opset": 3}, TypeError, "opset is not among its arguments"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_before_a_file_exists(name: str, tmp_path: Path) -> None:
    make, options, kind, word = BAD[name]
    model, old = make(), tmp_path / "old"
    old.write_bytes(b"valuable")
    for path in (old, tmp_path / "new", tmp_path / "none" / "new"):
        helpers.refuses(lambda path=path: model.save_onnx(path, **options), kind, word)
    assert [each.name for each in tmp_path.iterdir()] == ["old"] and old.read_bytes() == b"valuable"


def test_what_cannot_be_exported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(layers.EXPORTS, "Tanh")
    word = r"save_onnx: layers\[2\], Tanh, cannot be exported; expected one of BatchNorm, Dense,"
    helpers.refuses(lambda: small().save_onnx(tmp_path / "m"), ValueError, word)
    monkeypatch.setattr(files, "LIMIT", 4 * (8 * 5 + 4 * 8 + 3 * 9) - 1)
    word = "GiB of parameters; expected at most"
    helpers.refuses(lambda: small().save_onnx(tmp_path / "m"), ValueError, word)
    helpers.refuses(lambda: gd.Ensemble([small()]).save_onnx(tmp_path / "m"), ValueError, word)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(files, "LIMIT", 4 * (8 * 5 + 4 * 8 + 3 * 9))
    helpers.refuses(lambda: small().save_onnx(tmp_path / "m"), ImportError, r"save_onnx needs onnx.*gdcore\[onnx\]")
    assert not list(tmp_path.iterdir())


def test_every_layer_can_be_exported() -> None:
    assert {kind.__name__ for kind in gd._core.Layer.__subclasses__()} <= set(layers.EXPORTS)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("none/m", FileNotFoundError),
        (".", IsADirectoryError),
        ("m" * 300, OSError),
        ("m\0", ValueError),
        (5, TypeError),
    ],
)
def test_paths_are_checked(path: Any, kind: type[Exception], tmp_path: Path) -> None:
    given = tmp_path / path if isinstance(path, str) else path
    with pytest.raises(kind, match="path"):
        small().save_onnx(given)
    assert not list(tmp_path.iterdir())


def test_a_failing_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    small().save_onnx(path)
    old = path.read_bytes()

    def fails(*_: Any, **__: Any) -> None:
        raise onnx.checker.ValidationError("broken")

    monkeypatch.setattr(onnx.checker, "check_model", fails)
    with pytest.raises(onnx.checker.ValidationError):
        small(seed=1).save_onnx(path)
    assert path.read_bytes() == old and [each.name for each in tmp_path.iterdir()] == ["m"]


def test_without_the_package_gdcore_works() -> None:
    """onnx is imported by save_onnx, and by nothing else."""
    helpers.must_run("""
        import sys
        sys.modules["onnx"] = sys.modules["torch"] = None
        import gdcore as gd
        gd.Sequential(gd.Dense(2, 2), seed=0).save("/dev/null")
        gd.Ensemble, gd.from_torch_module
    """)
