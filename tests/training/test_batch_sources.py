"""Promise: training, validation and evaluation on loaders and iterables of every kind equal those on the same arrays;
unknown lengths, early ends and endless iterators are handled or refused with a clear message."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(60, 2))
Y = (X[:, 0] > 0).astype(int)
BATCHES = [(X[i : i + 20], Y[i : i + 20]) for i in (0, 20, 40)]


def trainer(**settings: Any) -> gd.Trainer:
    network = gd.Sequential(gd.Dense(2, 2), seed=0, device="cpu")
    return gd.Trainer(network, gd.CrossEntropy(), optimizer=gd.Adam(0.01), **settings)


class Loader:
    """A loader whose length raises an arbitrary exception."""

    def __init__(self, length: Any) -> None:
        self._length = length

    def __len__(self) -> int:
        if isinstance(self._length, Exception):
            raise self._length
        return int(self._length)

    def __iter__(self) -> Iterator[Any]:
        return iter(BATCHES)


class WithoutLength:
    """An iterable without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(BATCHES)


def endless(start: int = 0) -> Iterator[Any]:
    for i in itertools.count(start):
        yield BATCHES[i % 3]


def fitted(x: Any, **fit: Any) -> dict[str, np.ndarray]:
    made = trainer()
    made.fit(x, **({"epochs": 2} | fit))
    return helpers.snapshot(made.model, made) | {"loss": np.array(made.history["loss"])}


@pytest.mark.parametrize(
    "loader",
    [
        Loader(TypeError("has no len()")),
        Loader(NotImplementedError()),
        Loader(RuntimeError("unknown")),
        Loader(AttributeError("length")),
        Loader(-1),
        Loader(3),
        WithoutLength(),
        tuple(BATCHES),
        [list(batch) for batch in BATCHES],
    ],
    ids=str,
)
def test_loaders(loader: Any) -> None:
    helpers.same_bits(fitted(loader), fitted(BATCHES))
    if isinstance(loader, (Loader, WithoutLength)):
        assert trainer().evaluate(loader) == trainer().evaluate(BATCHES)


@pytest.mark.torch
def test_loaders_of_pytorch() -> None:
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")

    class Stream(data.IterableDataset):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[Any]:
            return iter(zip(torch.tensor(X), torch.tensor(Y), strict=True))

    helpers.same_bits(fitted(data.DataLoader(Stream(), batch_size=20)), fitted(BATCHES))


def test_validation_and_evaluation_of_batches() -> None:
    """The loss is the mean over all rows, metrics see all rows together."""
    weights = np.linspace(1, 2, 60)
    weighted = [(X[i : i + 25], Y[i : i + 25], weights[i : i + 25]) for i in (0, 25, 50)]
    made = trainer(metrics=[gd.metrics.accuracy])
    for batches, expected in (
        (BATCHES, made.evaluate(X, Y)),
        (WithoutLength(), made.evaluate(X, Y)),
        (gd.MiniBatches(X, Y, batch_size=7), made.evaluate(X, Y)),
        (iter(BATCHES), made.evaluate(X, Y)),
        (weighted, made.evaluate(X, Y, sample_weight=weights)),
    ):
        measured = made.evaluate(batches)
        assert measured["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert measured["accuracy"] == pytest.approx(expected["accuracy"], rel=1e-12)
    reference = trainer(metrics=[gd.metrics.accuracy]).fit(X, Y, epochs=3, validation=(X, Y))
    for batches in (BATCHES, Loader(TypeError()), gd.MiniBatches(X, Y, batch_size=7)):
        history = trainer(metrics=[gd.metrics.accuracy]).fit(X, Y, epochs=3, validation=batches)
        np.testing.assert_allclose(history["val_loss"], reference["val_loss"], rtol=1e-6)
        assert history["val_accuracy"] == reference["val_accuracy"] and history["loss"] == reference["loss"]
    once = trainer().fit(X, Y, epochs=1, validation=iter(BATCHES))
    assert once["val_loss"] == trainer().fit(X, Y, epochs=1, validation=BATCHES)["val_loss"]


def test_validation_arrays_are_still_arrays() -> None:
    for validation in ((X, Y), [X, Y], (X.tolist(), Y.tolist()), (X, Y, np.ones(60)), [X[:2].tolist(), [0, 1]]):
        assert "val_loss" in trainer().fit(X, Y, epochs=1, validation=validation)


def test_steps_per_epoch_of_endless_generators() -> None:
    made = trainer()
    generator = endless()
    made.fit(generator, epochs=2, steps_per_epoch=4)
    assert made.steps == 8 and made.epoch == 2
    made.fit(generator, epochs=1, steps_per_epoch=1)  # goes on where it was: batches 0 to 8
    expected = trainer()
    expected.fit(BATCHES, epochs=3)
    helpers.same_bits(helpers.snapshot(made.model, made), helpers.snapshot(expected.model, expected))


def test_steps_per_epoch_of_loaders() -> None:
    """The iteration continues from epoch to epoch, so that every batch is used, and restarts when it ends."""
    numbers: list[int] = []

    class Counted(WithoutLength):
        def set_epoch(self, number: int) -> None:
            numbers.append(number)

    made = trainer()
    made.fit(Counted(), epochs=6, steps_per_epoch=2)
    expected = trainer()
    expected.fit(BATCHES, epochs=4)
    helpers.same_bits(helpers.snapshot(made.model, made), helpers.snapshot(expected.model, expected))
    assert numbers == [0, 1, 2, 3]


@pytest.mark.parametrize("make", [lambda: BATCHES, WithoutLength, endless])
def test_steps_per_epoch_resume(make: Any, tmp_path: Path) -> None:
    whole = trainer()
    whole.fit(make(), epochs=5, steps_per_epoch=2)
    first = trainer()
    first.fit(make(), epochs=2, steps_per_epoch=2, callbacks=[gd.Checkpoint(tmp_path / "run.safetensors")])
    second = trainer()
    second.fit(make(), until_epoch=5, steps_per_epoch=2, resume=tmp_path / "run.safetensors")
    helpers.same_bits(helpers.snapshot(second.model, second), helpers.snapshot(whole.model, whole))


def test_what_ends_too_early_is_said_clearly() -> None:
    spent = iter(BATCHES)
    list(spent)
    for call, match in (
        (lambda: trainer().fit(spent, epochs=1), "no batch.*exhausted before"),
        (lambda: trainer().evaluate(spent), "no batch.*exhausted before"),
        (lambda: trainer().fit(X, Y, epochs=1, validation=spent), "validation.*no batch"),
        (lambda: trainer().fit([], epochs=1), "x"),
        (lambda: trainer().fit(iter(BATCHES), epochs=2), "iterator.*one epoch.*steps_per_epoch"),
        (lambda: trainer().fit(X, Y, epochs=2, validation=iter(BATCHES)), "validation.*iterator.*one epoch"),
        (
            lambda: trainer().fit(iter(BATCHES), epochs=2, steps_per_epoch=2),
            "steps_per_epoch: got 2.*3 batches.*epoch 2",
        ),
        (lambda: trainer().fit(itertools.cycle(BATCHES), epochs=1), "never ends.*steps_per_epoch"),
        (lambda: trainer().evaluate(itertools.cycle(BATCHES)), "never ends"),
        (lambda: trainer().fit(X, Y, epochs=1, validation=itertools.cycle(BATCHES)), "validation.*never ends"),
        (lambda: trainer().fit(X, Y, epochs=1, steps_per_epoch=3), "steps_per_epoch.*arrays"),
        (lambda: trainer().fit(BATCHES, epochs=1, steps_per_epoch=0), "steps_per_epoch"),
        (lambda: trainer().evaluate(BATCHES, sample_weight=np.ones(60)), "sample_weight"),
        (lambda: trainer().evaluate([(X, Y), (X, Y[:-1])]), "batch 1.*y"),
        (
            lambda: trainer(metrics=[gd.metrics.accuracy]).evaluate([(X, Y), (X, Y, np.ones(60))]),
            "without weights",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    for bad in (3, "text", {"x": X}, len):
        for call in (lambda bad=bad: trainer().evaluate(bad), lambda bad=bad: trainer().fit(bad, epochs=1)):
            with pytest.raises(TypeError, match="x"):
                call()


def test_metrics_may_keep_and_change_what_they_get() -> None:
    kept: list[tuple[np.ndarray, np.ndarray]] = []

    def keep(*arrays: np.ndarray) -> float:
        kept.append((arrays[0], arrays[1]))
        return 0.0

    def spoil(*arrays: np.ndarray) -> float:
        for array in arrays:
            array[...] = 0
        return 0.0

    def last(*arrays: np.ndarray) -> float:
        return float(np.abs(arrays[0]).sum() + np.abs(arrays[1]).sum())

    y = X[:, :1] + 5
    weights, before = np.ones(60), y.copy()

    def made(*metrics: Any) -> gd.Trainer:
        network = gd.Sequential(gd.Dense(2, 1), seed=0, device="cpu")
        return gd.Trainer(network, gd.MeanSquaredError(), optimizer=gd.SGD(0.1), metrics=metrics)

    for validation in ((X, y), (X, y, weights), [(X, y)], 0.5):
        kept.clear()
        alone = made(last).fit(X, y, epochs=3, validation=validation)
        beside = made(keep, spoil, last).fit(X, y, epochs=3, validation=validation)
        assert alone["val_last"] == beside["val_last"]
        assert (y == before).all() and (weights == 1).all()
        assert len({id(part) for pair in kept for part in pair}) == 6
        assert any((kept[0][i] != kept[2][i]).any() for i in (0, 1))


def test_weights_without_a_sum_are_refused_where_they_are_given() -> None:
    zeros = np.zeros(60)
    part = np.where(np.arange(60) == 59, 1.0, 0.0)
    for call, match in (
        (lambda: trainer().fit(X, Y, epochs=1, sample_weight=zeros), "sample_weight"),
        (lambda: trainer().evaluate(X, Y, sample_weight=zeros), "sample_weight"),
        (lambda: trainer().evaluate([(X, Y, zeros)]), "sample_weight"),
        (lambda: trainer().fit(X, Y, epochs=1, validation=(X, Y, zeros)), "validation.*sample_weight"),
        (lambda: trainer().fit(X, Y, epochs=1, validation=[(X, Y, zeros)]), "validation.*sample_weight"),
        (lambda: trainer().fit(X, Y, epochs=1, validation=0.2, sample_weight=part), "sample_weight"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_what_would_not_be_used_of_batches_is_refused() -> None:
    """Batches are used unchanged: a batch size would have no effect, and no batch is left out."""
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    trainer = gd.Trainer(gd.Sequential(gd.Dense(2, 1), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"batch_size": 2}, "batch_size: got 2 for an iterable"),
        ({"batch_size": 32}, "batch_size: got 32 for an iterable"),
        ({"drop_last": True}, "drop_last: got True for an iterable"),
    ]
    for options, words in refused:
        for batches in ([(x, y)], gd.MiniBatches(x, y, batch_size=2)):
            with pytest.raises(ValueError, match=words):
                trainer.fit(batches, epochs=1, **options)
    assert trainer.steps == 0
