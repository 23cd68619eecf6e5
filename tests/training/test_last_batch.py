"""Promise: a last batch of a single row is merged into the batch before, in `fit`, `MiniBatches`, resumed epochs and on
both devices, so that BatchNorm trains on any number of rows; only explicit batches of one row are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore._core import batch_count

RNG = np.random.default_rng(6)
X = RNG.standard_normal((101, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
# rows, batch size, and the sizes of the batches with and without drop_last
SIZES = [
    (33, 32, [33], [32]),
    (65, 32, [32, 33], [32, 32]),
    (34, 32, [32, 2], [32]),
    (64, 32, [32, 32], [32, 32]),
    (5, 2, [2, 3], [2, 2]),
    (3, 2, [3], [2]),
    (2, 2, [2], [2]),
    (4, 1, [1] * 4, [1] * 4),
    (1, 1, [1], [1]),
    (7, 7, [7], [7]),
    (7, 8, [7], [7]),
    (2, 2**40, [2], [2]),
]


def build(device: str = "cpu", norm: bool = True) -> gd.Trainer:
    layers = [gd.Dense(3, 6), *([gd.BatchNorm(6)] if norm else []), gd.ReLU(), gd.Dropout(0.2), gd.Dense(6, 2)]
    model = gd.Sequential(*layers, seed=0, device=device)
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(0.01))


@pytest.mark.parametrize(("rows", "size", "kept", "dropped"), SIZES)
def test_sizes_of_the_batches(rows: int, size: int, kept: list[int], dropped: list[int]) -> None:
    for drop_last, sizes in ((False, kept), (True, dropped)):
        for shuffle in (False, True):
            batches = gd.MiniBatches(X[:rows], Y[:rows], batch_size=size, drop_last=drop_last, shuffle=shuffle)
            made = list(batches)
            assert [len(xb) for xb, _ in made] == sizes and len(batches) == len(sizes)
            together = np.concatenate([xb for xb, _ in made])
            assert len({row.tobytes() for row in together}) == sum(sizes)
        assert batch_count(rows, min(rows, size), drop_last) == len(sizes)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("rows", "size", "kept", "dropped"), SIZES)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_fit_trains_the_batches_of_mini_batches(
    rows: int, size: int, kept: list[int], dropped: list[int], drop_last: bool, shuffle: bool, device: str
) -> None:
    x, y, norm = X[:rows], Y[:rows], size > 1
    fitted, own = build(device, norm), build(device, norm)
    options: Any = {"batch_size": size, "drop_last": drop_last, "shuffle": shuffle}
    fitted.fit(x, y, epochs=3, **options)
    batches = gd.MiniBatches(x, y, seed=own.seed, **options)
    for _ in range(3):
        for xb, yb in batches:
            own.step(xb, yb)
    assert fitted.steps == own.steps == 3 * len(dropped if drop_last else kept)
    for name, array in own.model.parameters().items():
        np.testing.assert_array_equal(np.asarray(fitted.model.parameters()[name]), np.asarray(array))


def test_every_row_is_used_once(rows: int = 33) -> None:
    seen: list[int] = []
    batches = gd.MiniBatches(np.arange(rows), batch_size=32, seed=3)
    for _ in range(2):
        for xb in batches:
            seen += xb.tolist()
    assert sorted(seen) == sorted([*range(rows)] * 2)


def test_the_default_batch_size_suits_any_number_of_rows() -> None:
    for rows in (2, 31, 32, 33, 34, 65, 97):
        build().fit(X[:rows], Y[:rows], epochs=1)
        gd.lr_range_test(build().model, gd.CrossEntropy(), X[:rows], Y[:rows], steps=2, curvature=False)


def test_a_batch_size_above_the_rows_is_all_of_them(tmp_path: Path) -> None:
    batches = gd.MiniBatches(X, Y, batch_size=1000, drop_last=True)
    assert batches.batch_size == 101 and len(batches) == 1
    batches.batch_size = 102
    assert batches.batch_size == 101
    for drop_last in (False, True):  # a single batch is never dropped
        large, whole = build(), build()
        large.fit(X, Y, epochs=2, batch_size=1000, drop_last=drop_last, callbacks=[gd.Checkpoint(tmp_path / "c")])
        whole.fit(X, Y, epochs=2, batch_size=None, drop_last=drop_last)
        assert large.steps == whole.steps == 2
        np.testing.assert_array_equal(large.model.predict(X), whole.model.predict(X))
        whole.fit(X, Y, epochs=1, batch_size=None, drop_last=drop_last, resume=tmp_path / "c")  # the same setting
    ranges = [
        gd.lr_range_test(build().model, gd.CrossEntropy(), X, Y, steps=3, batch_size=size, curvature=False)
        for size in (1000, None)
    ]
    np.testing.assert_array_equal(ranges[0].loss, ranges[1].loss)


def test_batches_of_one_row_that_were_asked_for_are_refused() -> None:
    trainer = build()
    helpers.refuses(lambda: trainer.fit(X, Y, epochs=1, batch_size=1), ValueError, "^batch_size: got 1.*BatchNorm")
    helpers.refuses(lambda: trainer.fit(X[:1], Y[:1], epochs=1), ValueError, "BatchNorm")
    assert trainer.epoch == 0 and trainer.steps == 0


def test_restarts_take_a_row_too_many() -> None:
    def start(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.Dense(4, 2), seed=seed)

    settings: Any = {"loss": gd.CrossEntropy(), "optimizer": gd.SGD(0.1), "progress": False, "epochs": 1}
    found = gd.restarts(start, 2, X[:33], Y[:33], validation=(X, Y), **settings)
    assert len(found.starts) == 2


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_epoch_resumed_before_its_last_batch_is_the_same(stop: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("gdcore.training.sources.SLICE_SECONDS", 0.0)  # callbacks hear of every batch
    path = tmp_path / "c.safetensors"

    class Cut(gd.Callback):
        def on_progress(self, trainer: gd.Trainer, batch: int, batches: int | None, loss: float) -> None:
            if batch == stop:
                trainer.save_checkpoint(path)
                raise KeyboardInterrupt

    whole, cut, again = build(), build(), build()
    whole.fit(X[:97], Y[:97], epochs=2)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(X[:97], Y[:97], epochs=2, callbacks=[Cut()])
    again.fit(X[:97], Y[:97], until_epoch=2, resume=path)
    assert again.steps == whole.steps == 6 and again.history["loss"] == whole.history["loss"]
    assert np.array_equal(again.model.predict(X), whole.model.predict(X))
