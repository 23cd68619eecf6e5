"""Promise: Parquet files larger than a window train, measure and predict as a frame of their rows: the same encoding;
folds by row, group or time, which no network is trained on; the same predictions to the bit, and reproducible."""

from __future__ import annotations

import datetime
import json
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pandas as pd
import pytest
from gdcore.internal.frames import TIMES
from gdcore.sklearn import TabularClassifier, TabularRegressor
from gdcore.tables import TabularModel, learning
from gdcore.tables.columns import read
from gdcore.tables.division import Division, counted, uniform
from gdcore.tables.encoding import fit, kinds_of
from gdcore.tables.learning import learn
from gdcore.tables.recipe import Facts, layout
from gdcore.tables.roles import Roles
from gdcore.tables.windows import Coded, TableRows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N = 1500
RNG = np.random.default_rng(1)
FRAME = pd.DataFrame(
    {
        "age": np.where(RNG.random(N) < 0.1, np.nan, RNG.uniform(20, 60, N)),
        "children": RNG.integers(0, 4, N),
        "city": RNG.choice(["Rome", "Oslo", "Lima", None], N),
        "member": RNG.random(N) < 0.4,
        "maybe": RNG.choice([True, False, None], N),
        "since": pd.date_range("2020-01-01", periods=N, freq="31h", tz="Europe/Rome"),
        "level": pd.Categorical(RNG.choice(["low", "high"], N), ["none", "low", "high"]),
        "name": [f"n{i}" for i in range(N)],
        "digits": [str(i) for i in RNG.integers(0, 100, N)],
        "large": RNG.integers(2**60, 2**60 + 100, N),
        "pause": pd.to_timedelta(RNG.integers(0, 9, N), unit="min"),
        "same": np.ones(N),
        "nothing": np.full(N, None),
    }
)
WORTH = FRAME["age"].fillna(50) / 20 + FRAME["children"] * (FRAME["city"] == "Rome") + FRAME["member"]
PRICE = (1000 * (WORTH + 0.1 * RNG.standard_normal(N))).to_numpy()
KIND = np.where(np.median(PRICE) < PRICE, "dear", "cheap")
FRAME = FRAME.assign(
    price=PRICE, kind=KIND, weight=RNG.integers(0, 3, N).astype(float), customer=RNG.integers(0, 60, N).astype(str)
)
INPUTS = list(FRAME.columns[:13])
FRAME.loc[FRAME["customer"] == "7", "weight"] = 0.0  # a whole group, and rows without a group
FRAME.loc[(FRAME["weight"] == 0) & (FRAME.index % 9 == 0), "customer"] = None
SEED = {"seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files, the second with row groups larger than the windows of the tests."""
    made = tmp_path_factory.mktemp("rows")
    pq.write_table(pa.Table.from_pandas(FRAME[:700]), made / "a.parquet", row_group_size=150)
    pq.write_table(pa.Table.from_pandas(FRAME[700:]), made / "b.parquet", row_group_size=500)
    return made


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    assert [thread.name for thread in threading.enumerate() if "parquet" in thread.name] == []


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few epochs, as these are tests of the rows."""
    whole = gd.tables.model.recipe
    monkeypatch.setattr(gd.tables.model, "recipe", lambda facts: replace(whole(facts), epochs=2, batch_size=64))


def rows(folder: Path, *columns: str, window: int | None = 400, **options: Any) -> gd.data.Parquet:
    return gd.data.Parquet(folder / "*.parquet", [*INPUTS, *columns], window=window, **options)


def model(task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, **{"ensemble": 2, "progress": False, "device": "cpu"} | options)


@pytest.mark.parametrize("target", ["kind", "price"])
def test_files_and_a_frame_are_the_same(target: str, folder: Path) -> None:
    """The encoding, the target, and all that a fitted model computes; in one window the fitted model too."""
    frame = FRAME[[*INPUTS, target, "weight", "customer"]]
    data = rows(folder, target, "weight", "customer")
    columns = {"sample_weight": "weight", "groups": "customer"}
    ours, theirs = model(**SEED).fit(data, target, **columns), model(**SEED).fit(frame, target, **columns)
    assert ours._encoding == theirs._encoding and ours._target == theirs._target
    assert ours.score(data) > (0.7 if target == "kind" else 0.2)
    helpers.same_bits(ours.predict(data).astype(str), ours.predict(frame).astype(str))
    if target == "kind":
        helpers.same_bits(ours.predict_proba(data), ours.predict_proba(frame))
    for weights in (None, "weight"):
        found = ours.evaluate(data, sample_weight=weights)
        assert found == pytest.approx(ours.evaluate(frame, sample_weight=weights), rel=1e-6)
    again = model(**SEED, n_jobs=2).fit(data, target, **columns)
    helpers.same_bits(again.encode(frame), ours.encode(frame))
    for one, other in zip(again.ensemble, ours.ensemble, strict=True):
        helpers.same_bits(helpers.snapshot(one), helpers.snapshot(other))
    whole = rows(folder, "customer", y=target, sample_weight="weight", window=None)
    helpers.same_bits(
        model(**SEED).fit(whole, groups="customer").predict(whole).astype(str), theirs.predict(frame).astype(str)
    )


def test_no_network_is_trained_on_rows_that_it_holds_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are told apart by an input of their own, groups and times as columns."""
    seen: list[tuple[set[Any], set[Any]]] = []
    train = gd.tables.model.train

    def noted(facts: Any, recipe: Any, data: Any, *args: Any, **options: Any) -> Any:
        for training, held in zip(data.training, data.held, strict=True):
            parts = []
            for part in (training, held):
                column = part._coded.encoding.names.index("number")
                first = part._coded.encoding.spans[column][0]
                values = [window.x[:, first].tolist() for window in part._passed(part._coded)]
                parts.append({value for values_of_window in values for value in values_of_window})
                assert sum(map(len, values)) == part.rows
            seen.append((parts[0], parts[1]))
        return train(facts, recipe, data, *args, **options)

    monkeypatch.setattr(gd.tables.model, "train", noted)
    number = pa.array(np.arange(N, dtype=float))
    table = pq.read_table(folder, columns=["age", "kind"]).append_column("number", number)
    table = table.append_column("group", pa.array(np.arange(N) // 50))
    path = folder.parent / "numbered.parquet"
    pq.write_table(table, path, row_group_size=400)
    data = gd.data.Parquet(path, window=250)
    cases: list[tuple[dict[str, Any], dict[str, Any], int]] = [
        ({}, {}, 2),
        ({"validation": 0.25}, {}, 1),
        ({"ensemble": 1}, {}, 1),
        ({}, {"groups": "group"}, 2),
        ({}, {"time": "number"}, 1),
    ]
    for options, given, networks in cases:
        seen.clear()
        made = model(**options).fit(data, "kind", **given)
        assert len(seen) == networks and made.validation_metrics is not None
        union: set[float] = set()
        for training, held in seen:
            assert not training & held and len(training | held) == N
            union |= held
            share = len(held) / N
            assert 0.15 < share < 0.3 if networks == 1 else 0.4 < share < 0.6
            if "time" in given:
                assert max(training) < min(held)
            if "groups" in given:
                groups = [{int(np.searchsorted(sorted(training | held), v)) // 50 for v in each} for each in seen[0]]
                assert not groups[0] & groups[1]
        assert len(union) == N or networks == 1


def test_folds_do_not_depend_on_windows(folder: Path) -> None:
    division = Division(5, cuts=(0.3, 0.5), weight="weight")
    files = rows(folder, "weight")._files
    totals = [counted(files.divided(window), division).sum(axis=0) for window in (37, 150, 10_000)]
    assert all((total == totals[0]).all() for total in totals)
    used = int((FRAME["weight"] > 0).sum())
    assert totals[0].sum() == used and np.abs(totals[0][:3] / used - [0.3, 0.2, 0.5]).max() < 0.05
    draws = uniform(0, 0, np.arange(100_000, dtype=np.uint64))
    assert np.abs(np.histogram(draws, 20, (0, 1))[0] - 5000).max() < 300
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.02


def test_what_a_sample_cannot_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Categories, missing values, constants and targets are exact; quantiles are near."""
    roles = Roles.of(rows(folder, "kind", "price"), "price", None)
    exact = learn(roles, None, {}, 0)
    monkeypatch.setattr(learning, "SAMPLE", 400)
    ours = learn(roles, None, {}, 0)
    assert ours.encoding != exact.encoding and ours.facts == exact.facts
    for one, other in zip(ours.encoding.columns, exact.encoding.columns, strict=True):
        assert replace(one, features=()) == replace(other, features=()), one.name
        assert [(f.part, f.missing, f.exponent) for f in one.features] == [
            (f.part, f.missing, f.exponent) for f in other.features
        ]
        for f, g in zip(one.features, other.features, strict=True) if one.kind != "boolean" else ():
            assert abs(f.centre - g.centre) * g.scale < 0.5 and 0.7 < f.scale / g.scale < 1.4, one.name
    for name in ("centre", "scale"):
        assert getattr(ours.target, name) == pytest.approx(getattr(exact.target, name), rel=1e-12)
    assert learn(roles, None, {}, 0) == ours and learn(roles, None, {}, 1).encoding != ours.encoding
    labels = learn(Roles.of(rows(folder, "kind"), "kind", None), None, {}, 0).target
    assert labels.classes == ("cheap", "dear")
    rare = FRAME.assign(rare=np.arange(N) == 77, kind=np.where(np.arange(N) == 78, "third", KIND))
    pq.write_table(pa.Table.from_pandas(rare), folder.parent / "rare.parquet")
    found = learn(Roles.of(gd.data.Parquet(folder.parent / "rare.parquet"), "kind", None), None, {}, 0)
    assert found.target.classes == ("cheap", "dear", "third")
    assert {c.name: c.width for c in found.encoding.columns}["rare"] == 1, "a value of one row is no constant"


def test_columns_of_all_types(tmp_path: Path) -> None:
    """Their encoding, and the inputs of all rows, are those of the same table in memory."""
    random, halves = np.random.default_rng(0), range(500)
    columns = {
        "decimal": pa.array([Decimal(i) / 8 for i in halves], pa.decimal128(20, 5)),
        "time": pa.array([datetime.time(i % 24, 3) for i in halves]),
        "bytes": pa.array([b"a", b"b", None, b"c", b"a"] * 100),
        "half": pa.array(random.normal(size=500).astype(np.float16)),
        "date": pa.array([datetime.date(2020, 1, 1) + datetime.timedelta(i) for i in halves]),
        "nanoseconds": pa.array(np.arange(500) * 10**15, pa.timestamp("ns", "UTC")),
        "large": pa.array(random.integers(2**63, 2**63 + 500, 500, dtype=np.uint64)),
        "whole": pa.array([1, None, 3, 4, 5] * 100),
        "identifiers": pa.array([None if i == 150 else 2**60 + i % 5 for i in halves]),
        "codes": pa.array([None] * 83 + [2**60 + i % 5 for i in range(417)]),
        "numbers": pa.array([str(x) for x in random.normal(size=500)]),
        "missing": pa.array([None] * 500, pa.string()),
        "null": pa.nulls(500),
        "nan": pa.array([float("nan"), 1.0, 2.0, None, 5.0] * 100),
    }
    table = pa.table(columns)
    pq.write_table(table.append_column("y", pa.array(random.normal(size=500))), tmp_path / "a.parquet")
    given = dict.fromkeys(["whole", "identifiers", "large", "numbers"], "category") | {"date": "date"}
    for kinds in ({}, given):
        roles = Roles.of(gd.data.Parquet(tmp_path / "a.parquet", window=90), "y", None)
        ours = learn(roles, None, kinds, 0)
        frame = read(table, "x")
        theirs = fit(frame, "x", kinds_of(frame, "x", kinds), layout(replace(ours.facts, inputs=0)))
        assert ours.encoding == theirs
        inputs = TableRows(roles.data, Coded(theirs, roles.x)).computed(np.copy)
        helpers.same_bits(inputs, theirs.encode(frame, "x"))


def test_equally_frequent_categories(tmp_path: Path) -> None:
    """Missing values make floats of the whole numbers of a row group, not of others."""
    codes = [1, 2, 30] * 9 + [10, -3, None] * 9 + [200, 3, 4] * 9
    table = pa.table({"code": pa.array(codes, pa.int64()), "y": np.arange(len(codes)) / 8})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=27)
    pq.write_table(table.set_column(0, "code", table["code"].cast("float64")), tmp_path / "b.parquet")
    for files in ("a.parquet", "[ab].parquet"):
        whole = pa.concat_tables([table] * (1 if files == "a.parquet" else 2))
        kinds, frame = {"code": "category"}, read(whole.select(["code"]), "x")
        data = gd.data.Parquet(tmp_path / files, window=27)
        learnt = learn(Roles.of(data, "y", None), None, kinds, 0)
        theirs = fit(frame, "x", kinds, layout(learnt.facts))
        assert json.dumps(learnt.encoding.to_json()) == json.dumps(theirs.to_json())
        for nullable in (whole.to_pandas(), whole.to_pandas().astype({"code": "Int64"})):
            assert fit(read(nullable[["code"]], "x"), "x", kinds, layout(learnt.facts)) == theirs
        assert theirs.columns[0].keys == (-3, 1, 10, 2, 200, 3, 30, 4)


def test_times_that_mean_the_same(tmp_path: Path) -> None:
    """Units, and zones of points in time, may differ between files, and dates are times at midnight."""
    days = pa.array(np.arange(40) * 86_400 * 3, pa.timestamp("s"))
    pairs = {
        "units": (days.cast(pa.timestamp("ns")), days),
        "zones": (days.cast(pa.timestamp("ms", "UTC")), days.cast(pa.timestamp("s", "Asia/Tokyo"))),
        "dates": (days.cast(pa.date32()), days),
    }
    for name, (first, second) in pairs.items():
        for i, column in enumerate((first, second)):
            table = pa.table({"day": column, "y": np.arange(40) / 8})
            pq.write_table(table, tmp_path / f"{name}{i}.parquet", row_group_size=20)
        same = pa.table({"day": pa.concat_arrays([days, days])})
        for window in (20, 1000):
            data = gd.data.Parquet(tmp_path / f"{name}*.parquet", window=window)
            made = model(validation=0, ensemble=1).fit(data, "y")
            given = same if name != "zones" else same.set_column(0, "day", same["day"].cast(pa.timestamp("s", "UTC")))
            assert made._encoding == fit(read(given, "x"), "x", {"day": "date"}, layout(made_facts(80)))
            helpers.same_bits(made.predict(data), made.predict(given))
            assert made._encoding.columns[0].meaning == TIMES[name == "zones"]
            (zone,) = {table["day"].type.tz for table in data.windows(tables=True)} if window == 1000 else [None]
            assert zone == ("UTC" if name == "zones" and window == 1000 else None)


def made_facts(rows: int) -> Facts:
    return Facts("regression", rows, 1, 1)


def test_files_whose_columns_tell_nothing(tmp_path: Path) -> None:
    """No column is read then but that of the targets, or none at all."""
    pq.write_table(pa.table({"name": FRAME["name"], "same": FRAME["same"], "y": PRICE}), tmp_path / "a.parquet")
    for window in (400, 5000):
        data = gd.data.Parquet(tmp_path / "a.parquet", window=window)
        made = model(ensemble=1).fit(data, "y")
        assert len(set(made.predict(data))) == 1 and made.evaluate(data)["r2"] == pytest.approx(0, abs=0.01)


def test_many_values_are_counted_in_bounded_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows(folder, "kind", "customer", "weight")
    roles = Roles.of(data, "kind", "weight", groups="customer")
    exact = learn(roles, None, {}, 0)
    monkeypatch.setattr(learning, "MOST", 120)
    ours = learn(roles, None, {}, 0)
    assert ours == exact, "names are dropped, all others have fewer values"
    monkeypatch.setattr(learning, "MOST", 50)
    ours = learn(roles, None, {}, 0)
    assert ours.groups is None and exact.groups is not None and len(exact.groups) == 59
    made = model().fit(data, "kind", sample_weight="weight", groups="customer")
    assert made.validation_metrics is not None


@pytest.mark.parametrize("name", ["timestamp", "duration"])
def test_groups_are_the_same_in_files_of_other_units(name: str, tmp_path: Path) -> None:
    """Otherwise a network is trained on rows of a group that it holds out."""
    seconds, of = pa.array([-1, 0, 60, 86_400] * 5), getattr(pa, name)
    for unit in ("s", "us", "ns"):
        table = pa.table({"a": np.arange(20.0), "y": np.arange(20) / 8, "g": seconds.cast(of("s")).cast(of(unit))})
        pq.write_table(table, tmp_path / f"{unit}.parquet")
    found = learn(Roles.of(gd.data.Parquet(tmp_path / "*.parquet"), "y", None, "g"), None, {}, 0).groups
    assert found is not None and sorted(found.values()) == [15] * 4


def test_validation_files_weights_and_several_targets(folder: Path) -> None:
    inputs = [name for name in INPUTS if name not in ("age", "since")]
    table = FRAME.assign(double=2 * PRICE, kind=KIND)
    pq.write_table(pa.Table.from_pandas(table), folder.parent / "double.parquet", row_group_size=300)
    data = gd.data.Parquet(folder.parent / "double.parquet", inputs, ["price", "double"], window=400)
    made = model().fit(data, validation=data)
    found = made.predict(data)
    assert found.shape == (N, 2)
    assert made.evaluate(data)["r2"] == pytest.approx(
        made.evaluate(table[inputs], table[["price", "double"]].to_numpy())["r2"], rel=1e-6
    )
    by_files = model("classification").fit(rows(folder, "kind"), "kind", validation=rows(folder, y="kind"))
    arrays = model("classification").fit(rows(folder, "kind"), "kind", validation=(FRAME[INPUTS], KIND))
    helpers.same_bits(by_files.predict_proba(FRAME[INPUTS]), arrays.predict_proba(FRAME[INPUTS]))
    small = rows(folder, "kind", window=5000)
    in_memory = model("classification").fit(small, "kind", validation=rows(folder, y="kind", window=5000))
    assert in_memory.validation_metrics is not None
    balanced = model(class_weight="balanced", validation=0).fit(rows(folder, "kind"), "kind")
    assert balanced.validation_metrics is None
    limited = model(time_limit=20.0, validation=0.2).fit(rows(folder, "kind"), "kind")
    assert limited.recipe is not None and limited.recipe.epochs <= 2


@pytest.mark.parametrize("window", [400, 5000])
@pytest.mark.parametrize("target", ["kind", "price"])
def test_files_validate_what_a_frame_trains(target: str, window: int, folder: Path) -> None:
    """As the same rows in memory do, whether they are read at once or in windows."""
    frame, y, weights = FRAME[INPUTS], FRAME[target], FRAME["weight"]
    theirs = model(**SEED).fit(frame[:900], y[:900], validation=(frame, y, weights))
    data = rows(folder, y=target, sample_weight="weight", window=window)
    ours = model(**SEED).fit(frame[:900], y[:900], validation=data)
    helpers.same_bits(ours.predict(frame).astype(str), theirs.predict(frame).astype(str))
    assert ours.validation_metrics == pytest.approx(theirs.validation_metrics, rel=1e-6)
    named = FRAME[[*INPUTS, target]]
    by_name = model(**SEED).fit(named[:900], target, validation=rows(folder, target, window=window))
    without = model(**SEED).fit(named[:900], target, validation=(frame, y))
    helpers.same_bits(by_name.predict(frame).astype(str), without.predict(frame).astype(str))
    with pytest.raises(ValueError, match=r"validation: y: got None for Parquet; expected the name of a column"):
        model().fit(frame, y, validation=rows(folder, window=window))
    with pytest.raises(ValueError, match=r"validation: x: has the unknown column 'customer'; expected the columns of"):
        model().fit(frame, y, validation=rows(folder, "customer", y=target, window=window))
    with pytest.raises(ValueError, match="validation: got rows beside groups"):
        model().fit(frame, y, groups=FRAME["children"], validation=data)


def test_predictions_larger_than_memory_are_written(folder: Path) -> None:
    data = rows(folder, y="kind")
    made = model(validation=0.2).fit(data)
    out = folder.parent / "predictions.pq"
    data.write_predictions(out, made.predict)
    assert pq.read_table(out).column("prediction").to_pylist() == made.predict(FRAME[INPUTS]).tolist()
    data.write_predictions(out, lambda table: made.predict_proba(table), tables=True, column="chance")
    helpers.same_bits(pq.read_table(out).column("chance_1").to_numpy(), made.predict_proba(data)[:, 1])
    for window in data.windows(tables=True):
        assert made.evaluate(window)["accuracy"] > 0.5
    extra = gd.data.Parquet(folder / "*.parquet", ["kind", *INPUTS[::-1]])
    helpers.same_bits(made.predict_proba(extra), made.predict_proba(data))
    numbers = model("regression", validation=0.2).fit(FRAME[["large", "children"]], PRICE)
    named = gd.data.Parquet(folder / "*.parquet", ["children", "large"])
    named.write_predictions(out, numbers.predict)
    helpers.same_bits(pq.read_table(out).column("prediction").to_numpy(), numbers.predict(named))
    (array,) = gd.data.Parquet(folder / "*.parquet", ["children", "large"]).windows()  # whose columns have names
    helpers.same_bits(numbers.encode(array)[:, -4:], numbers.encode(FRAME[["children", "large"]])[:, -4:])
    by_position = model("regression", validation=0.2).fit(FRAME[["children", "customer"]].to_numpy(float), PRICE)
    same = gd.data.Parquet(folder / "*.parquet", ["children", "weight"])
    helpers.same_bits(by_position.predict(same), by_position.predict(FRAME[["children", "weight"]].to_numpy()))


@pytest.mark.parametrize("target", ["kind", "price"])
def test_importances_and_encoded_rows(target: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the same rows in a frame, or of a sample of them."""
    made, data = model().fit(FRAME[INPUTS], FRAME[target]), rows(folder, y=target, sample_weight="weight")
    helpers.same_bits(made.encode(data), made.encode(FRAME[INPUTS]))
    theirs = made.importances(FRAME[INPUTS], FRAME[target], sample_weight=FRAME["weight"], repeats=2)
    whole = made.importances(data, repeats=2)
    assert whole.baseline == theirs.baseline and whole.names == theirs.names
    helpers.same_bits(whole.values, theirs.values)
    monkeypatch.setattr(gd.tables.prediction, "SAMPLE", 300)
    measured: list[int] = []
    measure = gd.tables.prediction.measure
    monkeypatch.setattr(gd.tables.prediction, "measure", lambda *a, **k: measured.append(len(a[1])) or measure(*a, **k))
    for seed in (0, 0, 1):
        some = made.importances(data, repeats=2, seed=seed)
        assert some.mean.argmax() == theirs.mean.argmax() and abs(some.baseline - theirs.baseline) < 0.2
    assert measured[0] == measured[1] != measured[2] and all(200 < rows < 400 for rows in measured)
    assert some.values.shape == theirs.values.shape and (some.values != theirs.values).any()


def test_estimators(folder: Path) -> None:
    data = rows(folder, y="kind", sample_weight="weight")
    made = TabularClassifier(ensemble=1, random_state=0, device="cpu").fit(data)
    assert made.classes_.tolist() == ["cheap", "dear"] and made.n_features_in_ == len(INPUTS)
    assert made.feature_names_in_.tolist() == INPUTS
    assert made.predict_proba(data).shape == (N, 2)
    assert made.score(data) == made.model_.score(FRAME[INPUTS], KIND, sample_weight=FRAME["weight"])
    assert made.score(FRAME[INPUTS], KIND) == pytest.approx((made.predict(data) == KIND).mean())
    assert made.importances(data, random_state=0, metric="accuracy").baseline == made.score(data)
    numbers = TabularRegressor(ensemble=1, random_state=0, device="cpu").fit(rows(folder, "price"), "price")
    assert numbers.predict(rows(folder)).shape == (N,) and numbers.score(rows(folder, y="price")) > 0.3
