"""Promise: rows are held out class by class, of files as of frames; all networks are trained on the row of a class that
has one; groups and times decide alone where they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pandas as pd
import pytest
from gdcore.data import class_shares, split_rows
from gdcore.sklearn import TabularClassifier
from gdcore.tables import TabularModel, file_data, strata
from gdcore.tables.splitting import folds, split
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SIZES = {"common": 400, "half": 180, "few": 18, "two": 2, "one": 1, "alone": 1}
KINDS = np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))
N = len(KINDS)
FRAME = pd.DataFrame({"number": np.arange(N) / 8, "group": np.arange(N) // 20, "kind": KINDS})
FRAME = FRAME.assign(weight=np.where((KINDS == "common") & (np.arange(N) % 5 == 0), 0.0, 1.0))
USED = FRAME[FRAME["weight"] > 0]


class Stop(Exception):
    """Raised instead of a training."""


@pytest.fixture
def data_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that returns the classes that each network is trained on, and those that it holds out."""

    def counted(data: Any) -> list[tuple[dict[str, int], dict[str, int]]]:
        def count(codes: np.ndarray) -> dict[str, int]:
            names = np.array(sorted(SIZES))[codes.astype(int)]
            return {str(name): int(rows) for name, rows in zip(*np.unique(names, return_counts=True), strict=True)}

        if isinstance(data, file_data.FileData):
            rows = [[np.concatenate([w.y for w in part._passed(part._coded)]) for part in parts]
                    for parts in (data.training, data.held)]  # fmt: skip
            return [(count(training), count(held)) for training, held in zip(*rows, strict=True)]
        return [(count(data.rows[1][a]), count(data.rows[1][b])) for a, b in data.splits]

    def fit(x: Any, *, model: Any = None, **options: Any) -> Any:
        seen: list[Any] = []

        def noted(facts: Any, recipe: Any, data: Any, *_: Any, **__: Any) -> Any:
            seen.append(counted(data))
            raise Stop

        monkeypatch.setattr(gd.tables.model, "train", noted)
        settings = {"progress": False, "device": "cpu"} | (model or {})
        with pytest.raises(Stop):
            TabularModel(**settings).fit(x, "kind", **options)
        return seen[0]

    return fit


def files(folder: Path, frame: pd.DataFrame = FRAME, window: int = 150) -> gd.data.Parquet:
    pq.write_table(pa.Table.from_pandas(frame), folder / "rows.parquet", row_group_size=100)
    return gd.data.Parquet(folder / "rows.parquet", ["number", "kind"], window=window)


@pytest.mark.parametrize("source", ["frame", "files"])
@pytest.mark.parametrize("weight", [None, "weight"])
def test_each_fold_has_its_share_of_each_class(source: str, weight: str | None, data_of: Any, tmp_path: Path) -> None:
    x = files(tmp_path) if source == "files" else FRAME[["number", "kind", "weight"]]
    sizes = (FRAME if weight is None else USED)["kind"].value_counts().to_dict()
    once = {name for name, size in sizes.items() if size == 1}
    for seed, networks in ((0, 6), (1, 3), (1, 2)):
        found = data_of(x, model={"ensemble": networks, "seed": seed}, sample_weight=weight)
        assert len(found) == networks
        for training, held in found:
            assert {name: training[name] + held.get(name, 0) for name in training} == sizes, "all classes are known"
            for name, size in sizes.items():
                expected = 0.0 if name in once else size / networks
                assert abs(held.get(name, 0) - expected) < 1, name
        assert sum(sum(held.values()) for _, held in found) == sum(sizes.values()) - len(once)
    for share in (0.2, 0.8):
        ((training, held),) = data_of(x, model={"validation": share}, sample_weight=weight)
        assert set(training) == set(sizes) and sum(held.values()) == round(share * sum(sizes.values()))
        apart = [held.get(name, 0) - share * size for name, size in sizes.items()]
        assert min(apart) > -1 and max(apart) < 2, "which others give for classes that keep a row"


def test_folds_of_files_are_reproducible_and_drawn_by_the_seed(tmp_path: Path) -> None:
    """Whatever the windows; and each row is as likely in each fold."""

    def of(seed: int, window: int) -> np.ndarray:
        data = files(tmp_path, window=window)
        parts = data._files.divided(window)
        made = strata.Strata.of(parts, "kind", codes, len(SIZES), None)
        assert made is not None
        made, reader = made.divided(seed, 4, 0.2), strata.Reader(parts, ["kind"], threads=False)
        found = [made.of_rows(reader.read(group), group, "") for group in range(len(parts.groups))]
        reader.close()
        return np.concatenate(found)

    def codes(column: Any, name: str) -> np.ndarray:
        return np.searchsorted(sorted(SIZES), column.values.astype(str))

    first = of(0, 150)
    for window in (37, 1000):
        assert (of(0, window) == first).all()
    many = np.stack([of(seed, 1000) for seed in range(200)])
    assert (many[:, np.isin(KINDS, ["one", "alone"])] == 4).all(), "in the fold that nobody holds out"
    share = np.stack([(many == fold).mean(axis=0) for fold in range(4)])[:, np.isin(KINDS, ["common", "half", "few"])]
    assert np.abs(share - 0.25).max() < 0.15, "of 200 draws, whose standard deviation is 0.03"


def test_too_many_classes_for_the_memory(data_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strata, "MOST", 20)
    found = data_of(files(tmp_path), model={"ensemble": 3})
    assert sum(held["common"] for _, held in found) == 400 and {held["common"] for _, held in found} != {133, 134}


def test_groups_and_times_stay_whole(data_of: Any, tmp_path: Path) -> None:
    for x in (FRAME, files(tmp_path)):
        found = data_of(x, model={"ensemble": 3}, groups="group")
        held = [sum(held.values()) for _, held in found]
        assert sorted(rows % 20 for rows in held) == [0, 0, N % 20] and sum(held) == N
        ((_, held),) = data_of(x, time="number")
        assert held == pd.Series(KINDS[-round(0.2 * N) :]).value_counts().to_dict()


@pytest.mark.parametrize("model", [{}, {"validation": 0.3}])
def test_classes_of_one_row_each_hold_out_nothing(model: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": np.arange(20) / 8, "kind": [f"k{i}" for i in range(20)]})
    for x in (frame, files(tmp_path, frame, window=10)):
        made = TabularModel(ensemble=2, seed=0, progress=False, device="cpu", **model).fit(x, "kind")
        assert made.validation_metrics is None and (made.predict(frame[["number"]]) == frame["kind"]).mean() > 0.5


def test_a_class_of_one_row_is_known_to_all_networks() -> None:
    """It was unknown to the network that held it out, which then took the row for another class."""
    frame = pd.DataFrame({"number": np.r_[np.zeros(100), np.ones(100), 9.0]})
    kinds = np.r_[np.repeat(["a", "b"], 100), ["rare"]]
    made = TabularClassifier(ensemble=2, random_state=0, device="cpu").fit(frame, kinds)
    for network in made.model_.ensemble:
        chance = gd.Ensemble([network]).predict_proba(made.model_.encode(frame[-1:]))
        assert chance[0, 2] > 0.1, "a network without the class gives less than 0.01"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.floats(0.01, 0.99), st.integers(2, 8))
def test_shares_of_classes(sizes: list[int], share: float, count: int) -> None:
    rows = sum(sizes)
    wanted = min(max(round(rows * share), 1), rows - 1)
    if wanted < 1:
        return
    found = class_shares(np.array(sizes), wanted)
    assert found.sum() == wanted and (found >= 0).all() and (found <= sizes).all()
    spare = sum(sizes) - len(sizes)
    assert (found < sizes).all() or wanted > spare
    labels = np.repeat(np.arange(len(sizes)), sizes)
    training, held = split_rows(rows, wanted / rows, 3, labels)
    assert len(held) == wanted and (np.bincount(labels[held], minlength=len(sizes)) == found).all()
    assert sorted([*training, *held]) == list(range(rows))
    if spare and rows > 1:
        training, held = split(rows, share, 3, labels)
        assert set(labels[training]) == set(range(len(sizes))) and len(held) == min(max(round(rows * share), 1), spare)
    parts = folds(rows, count, 0, labels)
    held_rows = np.concatenate([held for _, held in parts]) if parts else np.empty(0, int)
    assert sorted(held_rows) == [row for row in range(rows) if sizes[labels[row]] > 1]
    assert all(set(labels[training]) == set(range(len(sizes))) for training, _ in parts)
