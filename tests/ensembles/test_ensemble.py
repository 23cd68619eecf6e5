"""Promise: an ensemble predicts the mean of its models, as NumPy computes it, for every meaning of the outputs, dtype,
kind of data and number of rows; a row does not depend on the others; what disagrees or is not finite is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

RNG = np.random.default_rng(11)
X = RNG.standard_normal((2500, 5))
ROWS = (0, 1, 2, 7, 1023, 1024, 1025, 2500)
OUTPUTS = [("classes", 2), ("classes", 10), ("yes_no", 1), ("yes_no", 3), ("numbers", 1), ("numbers", 4)]
MIXED = ("float32", "float64", "float32")
DTYPES = [("float32",) * 3, ("float64",) * 3, MIXED]


def model(outputs: str | None, k: int, seed: int = 0, dtype: str = "float32", **options: Any) -> gd.Sequential:
    """A network with logits of some size; those of other seeds have another width."""
    layers: list[Any] = [gd.Dense(5, 6 + seed), gd.Tanh()]
    if seed == 2:
        layers = [gd.Standardizer(5).fit(X), *layers]
    last = gd.Dense(6 + seed, k, init=gd.Normal(1.5))
    return gd.Sequential(*layers, last, seed=seed, dtype=dtype, outputs=outputs, device="cpu", **options)


def ensemble(
    outputs: str | None = "classes", k: int = 3, dtypes: tuple[str, ...] = MIXED, **options: Any
) -> gd.Ensemble:
    return gd.Ensemble([model(outputs, k, seed, dtype) for seed, dtype in enumerate(dtypes)], **options)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def two(z: np.ndarray) -> np.ndarray:
    """The logits of no and yes, (..., 2)."""
    return np.stack([np.zeros_like(z), z], axis=-1)


def oracle(made: gd.Ensemble, x: np.ndarray) -> dict[str, np.ndarray]:
    """What an ensemble predicts, in float64 from the outputs of its models."""
    z = np.stack([np.asarray(m.predict(x), np.float64) for m in made])
    w = np.asarray(made.weights) / np.sum(made.weights)
    averaged = made.outputs if made.average == "probabilities" and made.outputs != "numbers" else None
    wide = z if made.outputs != "yes_no" else two(z)

    def shown(p: np.ndarray) -> np.ndarray:
        return p if made.outputs != "yes_no" else p[..., 0, :] if made.out_features == 1 else p[..., 1]

    if averaged is None:
        outputs = np.tensordot(w, z, 1)
        terms, proba = z, softmax(outputs if made.outputs != "yes_no" else two(outputs))
    else:
        terms = softmax(wide)
        proba = np.tensordot(w, terms, 1)
        outputs = np.log(proba) if made.outputs == "classes" else np.log(proba[..., 1]) - np.log(proba[..., 0])
        terms = shown(terms)
    centre = np.tensordot(w, terms, 1)
    found = {"predict": outputs, "predict_members": terms}
    found["predict_std"] = np.sqrt(np.tensordot(w, (terms - centre) ** 2, 1))
    if made.outputs != "numbers":
        found["predict_proba"] = shown(proba)
    return found


@pytest.mark.parametrize("dtypes", DTYPES, ids="-".join)
@pytest.mark.parametrize(("outputs", "k"), OUTPUTS)
@pytest.mark.parametrize("average", ["probabilities", "outputs"])
@pytest.mark.parametrize("weights", [None, [1.0, 0.25, 4.0]])
def test_predictions_are_those_of_numpy(outputs: str, k: int, dtypes: Any, average: str, weights: Any) -> None:
    made = ensemble(outputs, k, dtypes, weights=weights, average=average)
    assert made.dtype == max(dtypes) and made.outputs == outputs
    expected = oracle(made, X)
    # outputs of float32 models are the oracle's input; their probabilities have an error of some units of 6e-8
    close = 1e-13 if dtypes == ("float64",) * 3 else 3e-6
    for name, value in expected.items():
        for rows in ROWS:
            found = getattr(made, name)(X[:rows])
            want = value[:, :rows] if name == "predict_members" else value[:rows]
            assert found.dtype == made.dtype and found.shape == want.shape, name
            np.testing.assert_allclose(found, want, rtol=close, atol=close, err_msg=name)
    if outputs != "numbers":
        found, proba = made.predict_classes(X), made.predict_proba(X)
        if outputs == "yes_no" and k > 1:
            assert found.dtype == bool and found.shape == (len(X), k)
            np.testing.assert_array_equal(found[abs(proba - 0.5) > 1e-5], (proba > 0.5)[abs(proba - 0.5) > 1e-5])
        else:
            assert found.dtype == np.int64 and found.shape == (len(X),)
            best = np.sort(proba, axis=1)
            clear = best[:, -1] - best[:, -2] > 1e-5
            assert clear.mean() > 0.99
            np.testing.assert_array_equal(found[clear], proba.argmax(axis=1)[clear])
            np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)


CALLS = ("predict", "predict_proba", "predict_classes", "predict_std", "predict_members")


def of_rows(name: str, found: np.ndarray, rows: Any) -> np.ndarray:
    return found[:, rows] if name == "predict_members" else found[rows]


@given(
    rows=st.lists(st.integers(0, 2499), max_size=40),
    size=st.sampled_from([1, 3, 1000, 1024, 5000]),
    outputs=st.sampled_from(OUTPUTS[:4]),
    dtypes=st.sampled_from(DTYPES),
    average=st.sampled_from(["probabilities", "outputs"]),
    weights=st.sampled_from([None, [3, 1, 2]]),
)
def test_a_row_does_not_depend_on_the_others(
    rows: list[int], size: int, outputs: Any, dtypes: Any, average: str, weights: Any
) -> None:
    made = ensemble(*outputs, dtypes, average=average, weights=weights)
    for name in CALLS:
        call = getattr(made, name)
        helpers.same_bits(call(X[rows], batch_size=size), of_rows(name, call(X), rows))


@pytest.mark.parametrize(("outputs", "k"), OUTPUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_model_predicts_as_it_does_alone(outputs: str, k: int, dtype: str) -> None:
    alone = model(outputs, k, 2, dtype)
    made = gd.Ensemble([alone], average="outputs", weights=[7])
    names = ["predict"] + (["predict_proba", "predict_classes"] if outputs != "numbers" else [])
    for x in (X, X.astype(np.float32), np.asfortranarray(X), X.astype(np.float16), (10 * X).astype(np.int32), X[::2]):
        for name in names:
            helpers.same_bits(getattr(made, name)(x), getattr(alone, name)(x))
    if outputs != "numbers":
        helpers.same_bits(gd.Ensemble([alone]).predict_proba(X), alone.predict_proba(X))
        helpers.same_bits(gd.Ensemble([alone, alone, alone, alone]).predict_proba(X), alone.predict_proba(X))
    assert not made.predict_std(X).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_probabilities_keep_their_logarithm(dtype: str) -> None:
    """Float32 rounds them to zero; the result is that of float64, down to its smallest normal number."""

    def fixed(*logits: float) -> gd.Sequential:
        outputs = "classes" if len(logits) > 1 else "yes_no"
        made = gd.Sequential(gd.Dense(1, len(logits)), seed=0, dtype=dtype, device="cpu", outputs=outputs)
        made.parameters()["layers.0.weight"][...] = np.reshape(logits, (-1, 1))
        return made

    x = np.array([[1.0], [0.25], [0.0]])
    found = gd.Ensemble([fixed(0, 200, 95), fixed(0, 120, 60)]).predict(x)
    z = np.array([[[0, 200, 95], [0, 120, 60]]]) * x[:, :, None]
    np.testing.assert_allclose(found, np.log(softmax(z).mean(axis=1)), rtol=1e-6, atol=1e-6)
    assert found[0, 0] < -120 and found.dtype == dtype
    found = gd.Ensemble([fixed(0, 2000)] * 2).predict(x[:1])
    np.testing.assert_allclose(found, [[np.log(np.finfo(np.float64).tiny), 0]], rtol=1e-6)
    np.testing.assert_allclose(gd.Ensemble([fixed(-300)] * 2).predict(x), -300 * x, rtol=1e-6, atol=1e-6)


def test_data_of_every_kind() -> None:
    pandas = pytest.importorskip("pandas")
    made = ensemble()
    names = ["a", "b", "c", "d", "e"]
    expected = made.predict(X)
    frame = pandas.DataFrame(X, columns=names)
    helpers.same_bits(made.predict(frame), expected)  # no names are known: by position
    made[1].feature_names = names
    assert made.feature_names == tuple(names)
    helpers.same_bits(made.predict(frame[names[::-1]]), expected)
    helpers.same_bits(made.predict(X.tolist()), expected)
    helpers.refuses(lambda: made.predict(frame.rename(columns={"c": "z"})), ValueError, "x: lacks column 'c'.*'z'")
    helpers.refuses(lambda: made.predict(frame.assign(c="t")), TypeError, "'c'")
    made[2].feature_names = names[::-1]
    helpers.refuses(lambda: made.predict(X), ValueError, r"^models\[2\]: feature_names: .* as models\[1\]")


def test_names_of_classes() -> None:
    made = gd.Ensemble([model("classes", 3, seed, classes=["x", "y", "z"]) for seed in range(3)])
    assert made.classes == ("x", "y", "z")
    np.testing.assert_array_equal(made.predict_classes(X), np.array(["x", "y", "z"])[made.predict(X).argmax(axis=1)])
    made[1].classes = ["x", "z", "y"]
    helpers.refuses(lambda: made.predict_classes(X), ValueError, r"^models\[1\]: classes: .*expected .*as models\[0\]")


DISAGREE: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "none": (lambda: [], ValueError, "^models: got none"),
    "a model": (lambda: model("classes", 3), TypeError, "^models: got Sequential .*expected a sequence"),
    "no models": (lambda: [model("classes", 3), 3], TypeError, r"^models\[1\]: got int 3; expected .*Sequential"),
    "nested": (lambda: [ensemble()], TypeError, r"^models\[0\]: got Ensemble"),
    "predictor": (lambda: [model("classes", 3).predictor()], TypeError, r"^models\[0\]: got FrozenPredictor"),
    "inputs": (
        lambda: [model("classes", 3), gd.Sequential(gd.Dense(4, 3), seed=0, outputs="classes")],
        ValueError,
        r"^models\[1\]: has 4 inputs; expected 5, as models\[0\]",
    ),
    "outputs": (lambda: [model("classes", 3), model("classes", 4)], ValueError, r"^models\[1\]: has 4 outputs"),
    "meaning": (lambda: [model("classes", 3), model("yes_no", 3)], ValueError, r"^models\[1\]: outputs: got 'yes_no'"),
    "unknown": (lambda: [model("classes", 3), model(None, 3)], ValueError, r"^models\[1\]: outputs: got None"),
    "classes": (
        lambda: [model("classes", 2), model("classes", 2, classes=["a", "b"])],
        ValueError,
        r"^models\[1\]: classes: got \('a', 'b'\); expected None",
    ),
    "targets": (
        lambda: [model("numbers", 2, target_names=["a", "b"]), model("numbers", 2, target_names=["b", "a"])],
        ValueError,
        r"^models\[1\]: target_names: ",
    ),
}


@pytest.mark.parametrize("case", DISAGREE)
def test_models_that_do_not_agree_are_refused(case: str) -> None:
    models, error, message = DISAGREE[case]
    helpers.refuses(lambda: gd.Ensemble(models()), error, message)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1, 2], ValueError, "weights: got 2; expected 3"),
        ([1, 2, 0], ValueError, r"weights\[2\]: got 0; expected a finite number above 0"),
        ([1, -2, 1], ValueError, r"weights\[1\]"),
        ([1, np.nan, 1], ValueError, r"weights\[1\]"),
        ([1, "a", 1], TypeError, r"weights\[1\]"),
        ([1e308] * 3, ValueError, "sum is infinite"),
        (3, TypeError, "expected a number for each model"),
        ({0: 1.0}, TypeError, "expected a number for each model"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: Any, error: type[Exception], message: str) -> None:
    helpers.refuses(lambda: ensemble(weights=weights), error, message)


def test_other_arguments_that_do_not_fit_are_refused() -> None:
    made = ensemble()
    helpers.refuses(lambda: ensemble(average="logits"), ValueError, "average: .*'probabilities', 'outputs'")
    helpers.refuses(lambda: made.predict(X[:, :4]), ValueError, "x: .*4.*5")
    helpers.refuses(
        lambda: made.predict(X[0]),
        ValueError,
        "x: got 1 dimensions; expected 2: .rows, columns., as x.None. is for a single row",
    )
    helpers.refuses(lambda: made.predict(3.0), ValueError, "x: got 0 dimensions")
    helpers.refuses(lambda: made.predict(X, batch_size=0), ValueError, "batch_size: got 0")
    helpers.refuses(lambda: made.predict_proba(X, check_finite="no"), TypeError, "check_finite")
    for name in ("predict_proba", "predict_classes"):
        helpers.refuses(lambda name=name: getattr(ensemble("numbers", 2), name)(X), ValueError, f"{name}: outputs")
        helpers.refuses(lambda name=name: getattr(ensemble(None, 2), name)(X), ValueError, f"{name}: .*unknown")
    unknown = ensemble(None, 2)
    np.testing.assert_allclose(unknown.predict(X), np.mean([m.predict(X) for m in unknown], axis=0), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_refused_with_their_row(value: float) -> None:
    made, x = ensemble(), X.copy()
    x[2047, 3] = value
    for name in CALLS:
        helpers.refuses(lambda name=name: getattr(made, name)(x), ValueError, "in row 2047, column 3")
    if np.isnan(value):  # tanh of infinity is finite
        assert np.isnan(made.predict(x, check_finite=False)[2047]).any()
        assert np.isfinite(np.delete(made.predict(x, check_finite=False), 2047, axis=0)).all()


@pytest.mark.parametrize("average", ["probabilities", "outputs"])
@pytest.mark.parametrize(("value", "weight"), [("inf", 3e38), ("-inf", -3e38)])
def test_outputs_that_are_not_finite_name_model_and_row(average: str, value: str, weight: float) -> None:
    huge = gd.Sequential(gd.Dense(5, 3), seed=0, outputs="classes", device="cpu")
    huge.parameters()["layers.0.weight"][1, 0] = weight
    made = gd.Ensemble([model("classes", 3), huge], average=average)
    x = X.copy()
    x[:, 0], x[1500, 0] = 0.0, 10.0
    for name in ("predict_proba", "predict_classes"):
        word = rf"^models\[1\]: {name}: output 1 of row 1500 is {value};"
        helpers.refuses(lambda name=name: getattr(made, name)(x), ValueError, word)
        assert len(getattr(made, name)(x[:1500])) == 1500
    kept = made.predict(x, check_finite=False)
    assert np.isfinite(np.delete(kept, 1500, axis=0)).all()
    assert np.isfinite(kept[1500]).all() == (average == "probabilities" and value == "-inf")  # a probability of 0
    helpers.refuses(lambda: made.evaluate(x, np.zeros(len(x), int)), ValueError, "evaluate: output 1 of row 1500")


def test_copies_parts_and_facts() -> None:
    made = ensemble(weights=[3, 1, 2], average="outputs")
    expected = made.predict(X)
    copies = (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), made.clone(), made[:])
    for other in (*copies, made.predictor(), pickle.loads(pickle.dumps(made.predictor()))):
        helpers.same_bits(other.predict(X), expected)
        helpers.same_bits(other.predict_classes(X), made.predict_classes(X))
        for name in ("in_features", "out_features", "dtype", "device", "outputs", "classes", "feature_names"):
            assert getattr(other, name) == getattr(made, name)
        if isinstance(other, gd.Ensemble):
            assert (other.weights, other.average) == ((3.0, 1.0, 2.0), "outputs")
    frozen = made.predictor()
    made[0].initialize(99)
    assert not np.array_equal(made.predict(X), expected) and not np.array_equal(made[:].predict(X), expected)
    for other in (*copies[:4], frozen):
        helpers.same_bits(other.predict(X), expected)
    assert len(made) == 3 and list(made) == list(made.models) and made[2] in made and made[-1] is made.models[2]
    assert made[::2].weights == (3.0, 2.0) and made[1:].models == made.models[1:]
    with pytest.raises(IndexError):
        made[3]
    helpers.refuses(lambda: made[3:], ValueError, "models: got none")
    assert repr(made) == "Ensemble(3 models of 5 inputs and 3 outputs, average='outputs')"
    wide = made.clone(dtype="float64")
    assert {m.dtype for m in wide} == {"float64"} == {wide.dtype} and wide.weights == made.weights
    assert ensemble(dtypes=("float32",) * 3).dtype == "float32"


def test_the_summary_counts_parameters() -> None:
    text = ensemble(weights=[1, 1, 2]).summary()
    assert "5-6-3" in text and "5-8-3, 1 Standardizer, 1 Tanh" in text and "0.500" in text
    counts = [sum(a.size for a in m.parameters().values()) for m in ensemble()]
    assert f"{sum(counts)} parameters in 3 models, means of probabilities" in text
    assert "means of numbers" in ensemble("numbers", 1).summary()


# ---------------------------------------------------------------------------------------------------- evaluate
def trainer(alone: gd.Sequential, loss: gd.Loss, metrics: Any = ()) -> gd.Trainer:
    return gd.Trainer(alone, loss, optimizer=gd.SGD(1.0), metrics=metrics)


def targets(outputs: str, k: int) -> np.ndarray:
    if outputs == "classes":
        return RNG.integers(k, size=len(X))
    return RNG.integers(2, size=(len(X), k)).astype(float) if outputs == "yes_no" else RNG.standard_normal((len(X), k))


LOSSES: dict[str, tuple[gd.Loss, list[str]]] = {
    "classes": (gd.CrossEntropy(), ["accuracy", "log_loss"]),
    "yes_no": (gd.BinaryCrossEntropy(), ["binary_accuracy", "roc_auc"]),
    "numbers": (gd.MeanSquaredError(), ["r2", "rmse"]),
}


@pytest.mark.parametrize(("outputs", "k"), OUTPUTS)
def test_measures_of_one_model_are_those_of_its_trainer(outputs: str, k: int) -> None:
    loss, metrics = LOSSES[outputs]
    y, weights = targets(outputs, k), RNG.uniform(size=len(X))
    alone = model(outputs, k, 1, "float64")
    made = gd.Ensemble([alone])
    expected = trainer(alone, loss, metrics).evaluate(X, y, sample_weight=weights)
    found = made.evaluate(X, y, metrics=metrics, sample_weight=weights)
    assert list(found) == ["loss", *metrics]
    assert found == pytest.approx(expected, rel=1e-12)
    batches = gd.MiniBatches(X, y, batch_size=600, sample_weight=weights)
    assert made.evaluate(batches, metrics=metrics) == pytest.approx(expected, rel=1e-12)
    assert made.evaluate(X, y, loss=loss)["loss"] == pytest.approx(trainer(alone, loss).evaluate(X, y)["loss"])


def test_measures_are_of_the_mean() -> None:
    y = targets("classes", 3)
    weighted = gd.CrossEntropy(class_weights=[1.0, 2.0, 3.0])
    made = ensemble()
    p = made.predict_proba(X).astype(np.float64)
    found = made.evaluate(X, y, metrics=["accuracy"])
    assert found["loss"] == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean(), rel=1e-5)
    assert found["accuracy"] == np.mean(made.predict_classes(X) == y)
    w = np.array([1.0, 2.0, 3.0])[y]
    expected = -(w * np.log(p[np.arange(len(y)), y])).sum() / w.sum()
    assert made.evaluate(X, y, loss=weighted)["loss"] == pytest.approx(expected, rel=1e-5)
    named = gd.Ensemble([model("classes", 3, s, classes=["a", "b", "c"]) for s in range(3)])
    text = np.array(["a", "b", "c"])[y]
    assert named.evaluate(X, text) == named.evaluate(X, y if named.classes is None else text)
    helpers.refuses(lambda: named.evaluate(X, y), ValueError, "y: got the label")


def test_measures_that_cannot_be_taken_are_refused() -> None:
    made, y = ensemble(), targets("classes", 3)
    helpers.refuses(lambda: made.evaluate(X, y[:5]), ValueError, "y: got 5 rows; expected 2500")
    helpers.refuses(lambda: made.evaluate(X), TypeError, "y: missing")
    helpers.refuses(lambda: made.evaluate([(X, y)], sample_weight=y), ValueError, "sample_weight")
    helpers.refuses(lambda: made.evaluate(iter([])), ValueError, "no batch")
    helpers.refuses(lambda: made.evaluate([(X,)]), TypeError, r"x: batch 0: .*expected \(x, y\)")
    helpers.refuses(lambda: made.evaluate(X, y, loss=gd.MeanSquaredError()), ValueError, "loss: got MeanSquaredError")
    helpers.refuses(lambda: made.evaluate(X, y, metrics=["r2"]), ValueError, r"metrics\[0\]")
    helpers.refuses(lambda: ensemble(None, 3).evaluate(X, y), ValueError, "loss: is missing")
    assert ensemble(None, 1).evaluate(X, X[:, 0], loss=gd.MeanSquaredError())["loss"] > 0


def test_what_needs_a_network_refuses_an_ensemble() -> None:
    made, y = ensemble(), targets("classes", 3)
    for call in (
        lambda: trainer(made, gd.CrossEntropy()),  # type: ignore[arg-type]
        lambda: gd.analysis.eigenvalues(made, gd.CrossEntropy(), X, y),
        lambda: gd.analysis.identical_units(made),
        lambda: gd.lr_range_test(made, gd.CrossEntropy(), X, y),
        lambda: gd.transform_network(made),
        lambda: made[0].load_parameters(made),
        lambda: gd.EarlyStopping().update(1.0, made),
    ):
        helpers.refuses(call, TypeError, "Ensemble")
