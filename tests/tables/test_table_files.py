"""Promise: a model of tables that is read from a file predicts the same bits, without scikit-learn too; the same model
gives the same bytes; damaged or senseless files are a FormatError."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pandas as pd
import pytest
from damaged_cases import NONSENSE, places, put
from gdcore.io import tensor_file
from gdcore.tables import TabularModel

N = 60
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "a": np.where(RNG.random(N) < 0.2, np.nan, RNG.standard_normal(N)),
        "b": RNG.choice(["x", "y", "ü"], N),
        "c": pd.date_range("2020-01-01", periods=N),
        "d": pd.Categorical(RNG.integers(0, 3, N)),
        "e": RNG.random(N) < 0.5,
        "f": 2**60 + np.arange(N),
    }
)
TARGETS: dict[str, Any] = {
    "text": np.where(RNG.random(N) < 0.5, "yes", "no"),
    "dates": np.array(["2020-01-01", "2020-01-02"] * (N // 2), "M8[D]"),
    "objects": pd.Series(pd.Categorical(["a", "b"] * (N // 2))),
    "numbers": FRAME["a"].fillna(0).to_numpy(),
    "two numbers": np.column_stack([FRAME["a"].fillna(0), np.arange(N)]),
    "small": FRAME["a"].fillna(0).to_numpy(np.float32),
}


def fitted(y: Any = TARGETS["text"]) -> TabularModel:
    return TabularModel(ensemble=2, device="cpu", progress=False).fit(FRAME, y)


@pytest.fixture(scope="module")
def whole() -> bytes:
    return saved(fitted())


def saved(model: TabularModel) -> bytes:
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


def load(data: bytes) -> Any:
    return gd.load(io.BytesIO(data), device="cpu")


@pytest.mark.parametrize("name", TARGETS)
def test_everything_comes_back(name: str) -> None:
    model = fitted(TARGETS[name])
    read = load(saved(model))
    assert isinstance(read, TabularModel) and read.task == model.task and repr(read) == repr(model)
    assert read.validation_metrics is None and read.recipe is None, "of training alone, as docs/tables.md says"
    assert read.predict(FRAME).dtype == model.predict(FRAME).dtype
    assert np.array_equal(read.predict(FRAME), model.predict(FRAME)) and saved(read) == saved(model)
    assert read.columns() == model.columns()
    assert read.evaluate(FRAME, TARGETS[name]) == model.evaluate(FRAME, TARGETS[name])
    if model.task == "classification":
        assert read.classes.dtype == model.classes.dtype
        helpers.same_bits(read.predict_proba(FRAME), model.predict_proba(FRAME))
    with pytest.raises(RuntimeError, match="from a file"):
        read.fit(FRAME, TARGETS[name])


def test_without_scikit_learn(tmp_path: Path) -> None:
    """A fitted estimator's model, in a process that has neither scikit-learn nor pandas."""
    from gdcore.sklearn import TabularClassifier

    estimator = TabularClassifier(ensemble=2, random_state=0, device="cpu").fit(FRAME, TARGETS["text"])
    estimator.model_.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "expected.npy", estimator.predict_proba(FRAME))
    columns = {name: FRAME[name].to_numpy() for name in "acef"} | {name: FRAME[name].tolist() for name in "bd"}
    np.savez(tmp_path / "frame.npz", **{name: np.asarray(column) for name, column in columns.items()})
    helpers.must_run(
        f"""
        import sys
        for name in ("sklearn", "pandas", "polars", "pyarrow", "scipy"):
            sys.modules[name] = None
        import numpy as np
        import gdcore as gd
        folder = {str(tmp_path)!r}
        model = gd.load(folder + "/model.safetensors", device="cpu")
        frame = dict(np.load(folder + "/frame.npz"))
        assert np.array_equal(model.predict_proba(frame), np.load(folder + "/expected.npy"))
        assert model.predict(frame).dtype.kind in "UO"
        """
    )


def test_flipped_and_missing_bytes(whole: bytes) -> None:
    rng = helpers.generator("tables")
    for i in range(60):
        data = bytearray(whole)
        at = int(rng.integers(len(data)))
        if i % 2:
            data[at] ^= 1 << int(rng.integers(8))
            if data[at] in b"\\t\\n\\r ":
                continue
        else:
            del data[at:]
        with pytest.raises(gd.FormatError, match="BytesIO"):
            load(bytes(data))


def rewritten(whole: bytes, change: Any) -> bytes:
    """The file with another description and a valid checksum."""
    tensors, metadata = tensor_file.read_file(io.BytesIO(whole))
    described = json.loads(metadata["table"])
    change(described)
    file = io.BytesIO()
    texts = {"ensemble": metadata["ensemble"], "table": json.dumps(described)}
    tensor_file.write_file(file, tensors, texts, version=tensor_file.TABLE_VERSION)
    return file.getvalue()


def test_the_rewritten_file_is_the_same(whole: bytes) -> None:
    assert rewritten(whole, lambda described: None) == whole


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_nonsense_anywhere(whole: bytes, nonsense: Any) -> None:
    """A value that is nonsense in its place is refused, or gives a model that predicts, or refuses the old columns."""
    _, metadata = tensor_file.read_file(io.BytesIO(whole))
    for place in places(json.loads(metadata["table"])):
        try:
            data = rewritten(whole, lambda described, place=place: put(described, place, nonsense))
        except ValueError:  # JSON cannot hold it
            continue
        try:
            model = load(data)
        except gd.FormatError as error:
            assert "table" in str(error) or "ensemble" in str(error), place
        else:
            try:
                model.predict(FRAME)
            except (ValueError, TypeError) as error:
                assert str(error).startswith("x: "), place  # the columns are others now


CHANGES: dict[str, Any] = {
    "a column less": lambda d: d["encoding"]["columns"].pop(),
    "a class less": lambda d: d["target"]["classes"].pop(),
    "the other task": lambda d: d["target"].update(task="regression"),
    "an unknown part": lambda d: d["encoding"]["columns"][2]["features"][0].update(part="century"),
    "a date without a part": lambda d: d["encoding"]["columns"][2]["features"][0].update(part=""),
    "a class that is none": lambda d: d["target"]["classes"].__setitem__(0, None),
    "a class that is a list": lambda d: d["target"]["classes"].__setitem__(0, [1]),
    "a class twice": lambda d: d["target"].update(classes=["yes", "yes"]),
    "a part of a number": lambda d: d["encoding"]["columns"][0]["features"][0].update(part="year"),
    "edges that fall": lambda d: d["encoding"]["columns"][0]["features"][0]["edges"].reverse(),
    "a list as a category": lambda d: d["encoding"]["columns"][1]["keys"].append([]),
    "more entries": lambda d: d.update(more=1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_refused(whole: bytes, name: str) -> None:
    with pytest.raises(gd.FormatError, match="table"):
        load(rewritten(whole, CHANGES[name]))


def test_other_readers_say_what_it_is(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    trainer = gd.Trainer(gd.Sequential(gd.Dense(2, 1)), gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    with pytest.raises(gd.FormatError):
        trainer.load_checkpoint(path)
