"""Promise: a model of tables predicts the same from any kind of frame, in any order of columns and with any number of
threads; weights, groups, times, validation rows and limits are used as given."""

from __future__ import annotations

import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from gdcore.tables import TabularModel
from gdcore.tables.recipe import Facts, Recipe, layout, recipe
from gdcore.tables.splitting import folds, split
from gdcore.tables.training import Data, train

N = 150
RNG = np.random.default_rng(1)
FRAME = pd.DataFrame(
    {
        "age": np.where(RNG.random(N) < 0.1, np.nan, RNG.uniform(20, 60, N)),
        "children": RNG.integers(0, 4, N),
        "city": RNG.choice(["Rome", "Oslo", "Lima", None], N),
        "member": RNG.random(N) < 0.4,
        "since": pd.date_range("2020-01-01", periods=N, freq="31h"),
        "level": pd.Categorical(RNG.choice(["low", "high"], N)),
    }
)
WORTH = FRAME["age"].fillna(50) / 20 + FRAME["children"] * (FRAME["city"] == "Rome") + FRAME["member"]
PRICE = (1000 * (WORTH + 0.1 * RNG.standard_normal(N))).to_numpy()
KIND = np.where(np.median(PRICE) < PRICE, "dear", "cheap")
GROUPS = np.repeat(np.arange(30), 5)


def model(task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, **{"ensemble": 2, "progress": False, "device": "cpu"} | options)


@pytest.fixture(scope="module")
def fitted() -> TabularModel:
    return model().fit(FRAME, KIND)


def test_it_learns(fitted: TabularModel) -> None:
    assert fitted.score(FRAME, KIND) > 0.9
    assert list(fitted.classes) == ["cheap", "dear"] and fitted.task == "classification"
    probabilities = fitted.predict_proba(FRAME)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert np.array_equal(fitted.classes[probabilities.argmax(axis=1)], fitted.predict(FRAME))
    numbers = model().fit(FRAME, PRICE)
    assert numbers.score(FRAME, PRICE) > 0.9 and numbers.predict(FRAME).shape == (N,)
    assert numbers.validation_metrics is not None and numbers.validation_metrics["r2"] > 0.5
    assert numbers.validation_metrics["root_mean_squared_error"] < 0.7 * PRICE.std()
    with pytest.raises(ValueError, match="predict_proba"):
        numbers.predict_proba(FRAME)


def test_all_kinds_of_frames_are_the_same(fitted: TabularModel) -> None:
    inputs = fitted.encode(FRAME)
    arrow = pa.Table.from_pandas(FRAME)
    frames = [
        *(FRAME.convert_dtypes(), FRAME.astype({"children": "int8", "city": "category"}), pl.from_pandas(FRAME)),
        *(arrow, arrow.to_batches()[0], dict(FRAME.items()), {name: FRAME[name].tolist() for name in FRAME}),
        *(FRAME[FRAME.columns[::-1]], FRAME.set_index(FRAME.index[::-1]), FRAME.astype({"member": float})),
    ]
    for frame in frames:
        helpers.same_bits(fitted.encode(frame), inputs)
        again = model(ensemble=1).fit(frame, KIND)
        assert again.columns()["column"] == list(
            dict(frame) if isinstance(frame, dict) else FRAME[list(again.feature_names)]
        )
    for frame in frames[1:5]:
        helpers.same_bits(model().fit(frame, pl.Series(KIND)).predict_proba(FRAME), fitted.predict_proba(FRAME))


def test_arrays_are_numbers_by_position() -> None:
    x = np.column_stack([FRAME["age"], FRAME["children"]])
    by_array, by_frame = model().fit(x, KIND), model().fit(FRAME[["age", "children"]], KIND)
    helpers.same_bits(by_array.predict_proba(x), by_frame.predict_proba(x))
    assert by_array.feature_names == ("0", "1") and np.array_equal(
        by_array.encode(x.astype(object)), by_array.encode(x)
    )
    helpers.same_bits(by_array.predict_proba(FRAME[["age", "children"]]), by_array.predict_proba(x))


def test_the_target_is_a_column(fitted: TabularModel) -> None:
    frame = FRAME.assign(kind=KIND, weight=1.0, group=GROUPS)
    named = model().fit(frame.drop(columns=["weight", "group"]), "kind")
    for given in (frame.drop(columns=["weight", "group"]), FRAME):
        helpers.same_bits(named.predict_proba(given), fitted.predict_proba(FRAME))
    assert named.score(frame.drop(columns=["weight", "group"])) == fitted.score(FRAME, KIND)
    everything = model().fit(frame, "kind", sample_weight="weight", groups="group")
    assert everything.feature_names == tuple(FRAME.columns)
    helpers.same_bits(everything.predict_proba(frame), everything.predict_proba(FRAME))
    by_values = model().fit(FRAME, KIND, sample_weight=np.ones(N), groups=GROUPS)
    helpers.same_bits(everything.predict_proba(FRAME), by_values.predict_proba(FRAME))
    without = model().fit(frame.drop(columns=["kind", "group"]), KIND, sample_weight="weight")
    for made, given in ((fitted, FRAME), (without, frame.drop(columns=["kind", "group"]))):
        with pytest.raises(ValueError, match="y: got None"):
            made.evaluate(given)


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (RNG.integers(0, 3, N).astype(np.int8), "classification"),
        (RNG.random(N) < 0.5, None),
        (pd.Series(RNG.choice(["a", "b", "c"], N)), None),
        (pd.Series(pd.Categorical(RNG.choice(["a", "b"], N), categories=["c", "b", "a"])), None),
        (pl.Series(RNG.choice(["a", "b"], N)), None),
        (RNG.integers(0, 2, N).astype(float), "classification"),
        (np.array(["2020-01-01", "2021-06-01"] * (N // 2), "M8[D]"), None),
        (RNG.integers(0, 9, N), "regression"),
        (RNG.standard_normal(N).astype(np.float32), None),
        (RNG.standard_normal((N, 3)), None),
        (pd.DataFrame(RNG.standard_normal((N, 2))), None),
    ],
)
def test_targets_come_back_as_they_are(y: Any, task: str | None) -> None:
    made = model(task, ensemble=1).fit(FRAME, y)
    found = made.predict(FRAME)
    assert found.shape == np.shape(y)
    if made.task == "classification":
        labels = np.asarray(y)
        assert set(found.tolist()) <= set(labels.tolist()) and found.dtype.kind == labels.dtype.kind
        assert len(made.classes) == len(set(labels.tolist())) and made.evaluate(FRAME, y)["accuracy"] > 0.3
    else:
        assert found.dtype == (np.float32 if np.asarray(y).dtype == np.float32 else np.float64)
        assert made.evaluate(FRAME, y)["loss"] == pytest.approx(((found - np.asarray(y)) ** 2).mean(), rel=1e-5)


def test_metrics(fitted: TabularModel) -> None:
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    found = fitted.evaluate(FRAME, KIND, metrics=["accuracy", "roc_auc"], sample_weight=PRICE)
    probabilities = fitted.predict_proba(FRAME)
    assert found["accuracy"] == pytest.approx(accuracy_score(KIND, fitted.predict(FRAME), sample_weight=PRICE))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(KIND == "dear", probabilities[:, 1], sample_weight=PRICE))
    assert found["loss"] == pytest.approx(log_loss(KIND, probabilities, sample_weight=PRICE), rel=1e-5)


def test_weights_are_a_column(fitted: TabularModel) -> None:
    """Named as for `fit`: the column is no input, unless it was one in training."""
    frame = FRAME.assign(kind=KIND, weight=PRICE)
    by_values = fitted.evaluate(FRAME, KIND, sample_weight=PRICE)
    assert by_values != fitted.evaluate(FRAME, KIND)
    assert fitted.evaluate(frame, "kind", sample_weight="weight") == by_values
    assert fitted.score(frame, "kind", sample_weight="weight") == by_values["accuracy"]
    found = fitted.importances(frame, "kind", sample_weight="weight", repeats=1)
    assert np.array_equal(found.values, fitted.importances(FRAME, KIND, sample_weight=PRICE, repeats=1).values)
    older = FRAME["age"].fillna(1).to_numpy()
    whole = FRAME.assign(age=older)
    by_input = fitted.evaluate(whole, KIND, sample_weight=older)
    assert fitted.evaluate(whole, KIND, sample_weight="age") == by_input
    frame = frame.drop(columns="weight")
    for weights, word in (
        ("price", "sample_weight: got the name 'price'; expected a column of x"),
        (-PRICE, "sample_weight: got -.* in row 0; expected finite weights of at least 0"),
        (PRICE[1:], f"sample_weight: got {N - 1} rows; expected {N}"),
    ):
        helpers.refuses(lambda weights=weights: fitted.evaluate(frame, "kind", sample_weight=weights), ValueError, word)


# ---- Rows -----------------------------------------------------------------------------------------------------------
def test_rows_of_weight_0_have_no_influence() -> None:
    weights = np.where(np.arange(N) % 3 == 0, 0.0, RNG.uniform(0.5, 2, N))
    rows = weights > 0
    for y in (KIND, PRICE):
        odd = FRAME.copy()
        odd.loc[~rows, "city"] = "elsewhere"
        some = model(ensemble=1).fit(odd, y, sample_weight=weights)
        fewer = model(ensemble=1).fit(FRAME[rows], y[rows], sample_weight=weights[rows])
        helpers.same_bits(some.predict(FRAME), fewer.predict(FRAME))


def test_weights_count() -> None:
    frame = FRAME[["since"]]
    weighted = model(ensemble=1).fit(frame, KIND, sample_weight=np.where(KIND == "dear", 1.0, 1e-3))
    assert weighted.predict_proba(frame)[:, 1].mean() > 0.9
    factors = model(ensemble=1, class_weight={"cheap": 1e-3}).fit(frame, KIND)
    assert factors.predict_proba(frame)[:, 1].mean() > 0.9
    rare = np.where(np.arange(N) % 10 == 0, "rare", "usual")
    balanced = model(ensemble=1, class_weight="balanced").fit(frame, rare)
    assert abs(balanced.predict_proba(frame)[:, 0].mean() - 0.5) < 0.2


def test_splits() -> None:
    labels, groups, rows = np.repeat([0, 1, 2], [200, 90, 10]), np.repeat(np.arange(30), 10), 300
    for seed in range(5):
        training, held = split(rows, 0.2, seed, labels)
        assert np.bincount(labels[held]).tolist() == [40, 18, 2] and len(training) + len(held) == rows
        training, held = split(rows, 0.2, seed, groups=groups)
        assert not set(groups[training]) & set(groups[held]) and 50 <= len(held) <= 70
        pairs = folds(rows, 4, seed, labels)
        assert np.array_equal(np.sort(np.concatenate([held for _, held in pairs])), np.arange(rows))
        for training, held in pairs:
            assert not set(training.tolist()) & set(held.tolist()) and len(held) == 75
            assert np.abs(np.bincount(labels[held]) - [50, 22.5, 2.5]).max() < 1
        for training, held in folds(rows, 4, seed, labels, groups):
            assert not set(groups[training]) & set(groups[held]) and 70 <= len(held) <= 80
    moments = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 2])
    training, held = split(10, 0.2, 0, time=moments)
    assert held.tolist() == [8, 9]
    training, held = split(10, 0.9, 0, time=moments)
    assert moments[training].max() < moments[held].min()
    assert [len(part) for part in split(2, 0.01, 0)] == [1, 1] and len(folds(3, 8, 0)) == 3


def test_time_holds_out_the_last_rows() -> None:
    """The outcome turns round in the last fifth; only networks stopped on these rows know nothing of it."""
    made = model(ensemble=2).fit(FRAME.assign(y=KIND), "y", time="since")
    assert "since" in made.feature_names
    early, late = np.arange(N)[: N * 4 // 5], np.arange(N)[N * 4 // 5 :]
    given = model(ensemble=2).fit(FRAME.iloc[early], KIND[early], validation=(FRAME.iloc[late], KIND[late]))
    assert made.validation_metrics is not None and given.validation_metrics is not None
    assert made.ensemble.training[0].history.epochs > 0
    shuffled = RNG.permutation(N)
    again = model(ensemble=2).fit(FRAME, KIND, time=FRAME["since"])
    assert again.validation_metrics == made.validation_metrics
    assert set(shuffled) == set(range(N))


def test_validation_rows_that_are_given() -> None:
    rows, others = np.arange(100), np.arange(100, N)
    made = model().fit(FRAME.iloc[rows], KIND[rows], validation=(FRAME.iloc[others], KIND[others]))
    found = made.evaluate(FRAME.iloc[others], KIND[others])
    assert made.validation_metrics == pytest.approx(found, rel=1e-6)
    best = min(made.ensemble.training[0].history["val_loss"])
    trainer = gd.Trainer(made.ensemble[0], gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    labels = (KIND[others] == "dear").astype(int)
    assert trainer.evaluate(made.encode(FRAME.iloc[others]), labels)["loss"] == pytest.approx(best, rel=1e-5)


def test_folds_are_trained_as_if_they_were_the_data() -> None:
    """A network that holds out a fold has the weights of one that is given the other rows, and the fold to validate."""
    made = model(ensemble=3).fit(FRAME, KIND)
    inputs, labels = made.encode(FRAME), (KIND == "dear").astype(int)
    for i, (rows, held) in enumerate(folds(N, 3, 0, labels)):
        facts = Facts("classification", N, 6, 2, inputs.shape[1])
        data = Data((inputs[rows], labels[rows], None), (inputs[held], labels[held], None))
        alone = {"seed": i, "device": "cpu", "end": None, "n_jobs": 1, "progress": False}
        trained, _ = train(facts, replace(made.recipe, members=1), data, gd.CrossEntropy(), **alone)
        helpers.same_bits(trained[0].copy_state()["parameters"], made.ensemble[i].copy_state()["parameters"])


def test_without_validation_all_epochs_are_trained() -> None:
    made = model(validation=0, ensemble=1).fit(FRAME, KIND)
    assert made.validation_metrics is None
    assert made.ensemble.training[0].history.epochs == made.recipe.epochs


# ---- Runs -----------------------------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_bits(fitted: TabularModel) -> None:
    before = gd.get_num_threads()
    try:
        for threads, jobs in ((1, None), (2, None), (2, 3)):
            gd.set_num_threads(threads)
            helpers.same_bits(model(n_jobs=jobs).fit(FRAME, KIND).predict_proba(FRAME), fitted.predict_proba(FRAME))
    finally:
        gd.set_num_threads(before)
    other = model(seed=1).fit(FRAME, KIND)
    assert not np.array_equal(other.predict_proba(FRAME), fitted.predict_proba(FRAME))
    assert isinstance(model(seed=None).seed, int)


def test_a_row_is_predicted_the_same_alone(fitted: TabularModel) -> None:
    whole = fitted.predict_proba(FRAME)
    for i in (0, 17, N - 1):
        helpers.same_bits(fitted.predict_proba(FRAME.iloc[[i]]), whole[[i]])


def test_devices(device: str) -> None:
    some = np.arange(60)
    made = model(device=device, ensemble=1).fit(FRAME.iloc[some], KIND[some])
    assert made.ensemble.device == device and made.device == device
    assert made.score(FRAME.iloc[some], KIND[some]) > 0.8


def test_the_time_limit_holds() -> None:
    x = np.random.default_rng(0).standard_normal((20_000, 20))
    y = x[:, 0] > 0
    started = time.monotonic()
    made = model(time_limit=1.0, ensemble=30).fit(x, y)
    assert time.monotonic() - started < 30  # other work may keep the machine busy; without the limit 100 s of a core
    assert made.recipe.epochs * made.recipe.members < 480  # of 32 epochs of each of 30 networks
    assert made.score(x, y) > 0.9
    hasty = model(time_limit=1e-9).fit(FRAME, KIND)
    assert hasty.ensemble.training[0].history.epochs == 1 and len(hasty.ensemble) == 1
    assert hasty.recipe.epochs == hasty.recipe.members == 1
    ample = model(time_limit=600.0, ensemble=1, n_jobs=-1).fit(FRAME, KIND)  # one network on each processor
    assert ample.ensemble.training[0].history.epochs > 1


def test_a_loss_of_ones_own() -> None:
    def absolute(outputs: Any, y: Any) -> Any:
        return np.abs(outputs - y).sum(axis=1), np.sign(outputs - y)

    made = model(loss=gd.CustomLoss(absolute, outputs="numbers"), ensemble=1).fit(FRAME, PRICE)
    assert made.score(FRAME, PRICE) > 0.5
    smooth = model(loss=gd.CrossEntropy(label_smoothing=0.4), ensemble=1).fit(FRAME, KIND)
    assert smooth.predict_proba(FRAME).max() < 0.95
    with pytest.raises(ValueError, match="loss: got"):
        model(loss=gd.MeanSquaredError()).fit(FRAME, KIND)
    with pytest.raises(ValueError, match="class_weight"):
        model(loss=gd.CrossEntropy(), class_weight="balanced").fit(FRAME, KIND)
    with pytest.raises(TypeError, match="loss"):
        model(loss="mse")


@pytest.mark.parametrize("classes", [("cheap", "dear"), (1, 2)])
def test_class_weights_of_a_loss_are_by_class(classes: tuple[Any, Any]) -> None:
    y = np.where(np.median(PRICE) < PRICE, classes[1], classes[0])
    weights = {classes[1]: 9.0}
    own, plain = (
        model("classification", ensemble=1, **given).fit(FRAME, y)
        for given in ({"loss": gd.CrossEntropy(class_weights=weights)}, {"class_weight": weights})
    )
    np.testing.assert_array_equal(own.predict_proba(FRAME), plain.predict_proba(FRAME))
    with pytest.raises(ValueError, match="class_weights: got the class 7; expected some of"):
        model("classification", loss=gd.CrossEntropy(class_weights={7: 9.0})).fit(FRAME, y)


def test_copies(fitted: TabularModel) -> None:
    for copied in (copy.copy(fitted), copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        helpers.same_bits(copied.predict_proba(FRAME), fitted.predict_proba(FRAME))
        assert copied.columns() == fitted.columns()
    copied.fit(FRAME[:40], PRICE[:40])
    assert copied.task == "regression" and fitted.task == "classification"
    with pytest.raises(AttributeError, match=r"TabularModel\.seed cannot be set"):
        fitted.seed = 3
    with pytest.raises(AttributeError, match="no attribute"):
        fitted.sede = 3
    with pytest.raises(TypeError, match="ensembles is not among its arguments"):
        TabularModel(ensembles=3)
    for unfitted in (model().predict, model().encode, model().predict_proba):
        with pytest.raises(RuntimeError, match="not fitted"):
            unfitted(FRAME)
    assert "not fitted" in repr(model()) and "6 columns" in repr(fitted)


@pytest.mark.parametrize("rows", [2, 10, 200, 5000, 1_000_000])
@pytest.mark.parametrize("columns", [1, 50, 100_000])
def test_recipes(rows: int, columns: int) -> None:
    for task, outputs in (("classification", 3), ("regression", 1)):
        facts = Facts(task, rows, columns, outputs, inputs=columns)
        made = recipe(facts)
        assert isinstance(made, Recipe) and made == recipe(facts)
        assert made.batch_size >= 1 and made.epochs >= 1 and made.members >= 1 and 0 <= made.dropout < 1
        assert 0 <= layout(facts).bins * columns <= 2**20 and layout(facts).least >= 1


def test_durations_are_measured_in_seconds() -> None:
    seconds = np.arange(40.0) + 0.5
    x, y = {"a": np.arange(40)}, (seconds * 1e6).astype("m8[us]")
    model = TabularModel(ensemble=1, device="cpu", progress=False).fit(x, y)
    found = model.evaluate(x, y)
    assert model.task == "regression" and found["loss"] == pytest.approx(np.mean((model.predict(x) - seconds) ** 2))
    for numbers in (seconds, y.astype(np.int64), np.datetime64("2020-01-01", "us") + y):
        with pytest.raises(TypeError, match=r"^y: got .*expected (durations, as in training|numbers)"):
            model.evaluate(x, numbers)


def test_dates_as_classes_mean_what_they_meant() -> None:
    days = pd.to_datetime(["2024-01-01", "2024-01-02"] * 20)
    made = TabularModel(ensemble=1, device="cpu", progress=False).fit({"a": np.arange(40) % 2}, days)
    assert made.score({"a": np.arange(40) % 2}, days) == 1
    with pytest.raises(TypeError, match=r"^y: got times with a time zone; expected times without a time zone"):
        made.score({"a": np.arange(40) % 2}, days.tz_localize("Asia/Tokyo"))


def test_threads_may_share_a_model(fitted: TabularModel) -> None:
    expected = fitted.predict_proba(FRAME)
    for made in (fitted, copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _, made=made: (made.predict_proba(FRAME), made.score(FRAME, KIND)), range(40)))
        assert all(np.array_equal(each, expected) for each, _ in found) and len({score for _, score in found}) == 1
