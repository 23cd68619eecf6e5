"""Promise: fit(log_every=n) writes the mean loss and the rate of every n steps, the same however training is divided
into slices of time, calls of fit and resumed runs, without a change of the training itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.training import fit, sources

X = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5]).astype(np.float32)[:, None]
WEIGHTS = np.linspace(0.5, 2.0, 50)


def trainer(**options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 8), gd.ReLU(), gd.Dense(8, 1), seed=3)
    options = {"optimizer": gd.SGD(gd.schedules.cosine(0.05, 100))} | options
    return gd.Trainer(model, gd.MeanSquaredError(), **options)


def rows(made: gd.Trainer) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in made.step_history.rows]


def of_single_steps(every: int, epochs: int, weights: np.ndarray | None = None) -> list[dict[str, float]]:
    """The rows as a loop over `Trainer.step` gives them."""
    other, found = trainer(), []
    losses: list[tuple[float, float]] = []
    batches = gd.MiniBatches(X, Y, batch_size=16, seed=other.seed, sample_weight=weights)
    for _ in range(epochs):
        for parts in batches:
            rate, weight = other.lr, float(len(parts[0]) if weights is None else parts[2].sum())
            losses.append((other.step(*parts), weight))
            if other.steps % every == 0:
                mean = sum(loss * weight for loss, weight in losses) / sum(weight for _, weight in losses)
                found.append({"step": other.steps, "loss": mean, "lr": rate})
                losses = []
    return found


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 7, 100])
def test_the_rows_are_those_of_single_steps(every: int, weights: np.ndarray | None) -> None:
    made = trainer()
    made.fit(X, Y, epochs=6, batch_size=16, log_every=every, sample_weight=weights)
    expected = of_single_steps(every, 6, weights)
    assert len(made.step_history.rows) == len(expected) == 24 // every
    for row, other in zip(rows(made), expected, strict=True):
        assert row["step"] == other["step"] and type(row["step"]) is int
        assert row["lr"] == other["lr"]
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-6)
    assert all(row["seconds"] > 0 for row in made.step_history.rows)


def test_training_itself_is_the_same_bits() -> None:
    plain, logged = trainer(), trainer()
    plain.fit(X, Y, epochs=5, batch_size=16)
    logged.fit(X, Y, epochs=5, batch_size=16, log_every=3)
    helpers.same_bits(plain.model.flat_parameters(), logged.model.flat_parameters())
    assert plain.history["loss"] == logged.history["loss"]
    assert plain.step_history.height == 0 and repr(plain.step_history) == "StepHistory(0 rows; last: nothing yet)"


def test_two_calls_are_one() -> None:
    once, twice = trainer(), trainer()
    once.fit(X, Y, epochs=5, batch_size=16, log_every=3)
    twice.fit(X, Y, epochs=2, batch_size=16, log_every=3)
    twice.fit(X, Y, epochs=3, batch_size=16, log_every=3)
    assert rows(once) == rows(twice)


@pytest.mark.parametrize("every", [3, 10, 50])
def test_slices_of_time_change_no_bit(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of float64, whose sums are rounded; a slice is one batch, or the default."""

    def losses() -> list[float]:
        layers = (gd.Dense(3, 8), gd.ReLU(), gd.Dense(8, 1))
        model = gd.Sequential(*layers, seed=3, dtype="float64")
        made = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.05))
        made.fit(np.tile(X, (4, 1)), np.tile(Y, (4, 1)), epochs=4, batch_size=7, log_every=every)
        column: list[float] = made.step_history["loss"]
        return column

    whole = losses()
    for module in (fit, sources):
        monkeypatch.setattr(module, "SLICE_SECONDS", 1e-9)
    assert losses() == whole and len(whole) == 4 * 29 // every


def test_a_loss_that_falls_far_within_an_epoch() -> None:
    """No row is the difference of two large sums."""
    x = np.random.default_rng(1).standard_normal((2000, 3))
    y = (x @ [1.0, -2.0, 0.5])[:, None]

    def made() -> gd.Trainer:
        model = gd.Sequential(gd.Dense(3, 1), seed=0, dtype="float64")
        return gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.05))

    logged, single = made(), made()
    logged.fit(x, y, epochs=1, batch_size=1, shuffle=False, log_every=10)
    expected = np.array([single.step(x[i : i + 1], y[i : i + 1]) for i in range(2000)]).reshape(-1, 10).mean(axis=1)
    assert expected[-1] < 1e-20 * expected[0]
    np.testing.assert_allclose(logged.step_history["loss"], expected, rtol=1e-12)


def test_steps_made_elsewhere_start_a_new_mean() -> None:
    made = trainer()
    made.fit(X, Y, epochs=1, batch_size=16, log_every=3)  # 4 steps: one is left over
    made.step(X, Y)
    made.fit(X, Y, epochs=1, batch_size=16, log_every=3)
    other = trainer()
    other.fit(X, Y, epochs=1, batch_size=16)
    other.step(X, Y)
    other.fit(X, Y, epochs=1, batch_size=16, log_every=1)
    assert made.step_history["step"] == [3, 6, 9]
    assert made.step_history["loss"][1] == pytest.approx(other.step_history["loss"][0], rel=1e-6)


def test_batches_of_an_iterable() -> None:
    made, other = trainer(), trainer()
    made.fit(gd.MiniBatches(X, Y, batch_size=16, seed=3), epochs=3, log_every=5)
    other.fit(X, Y, epochs=3, batch_size=16, log_every=5)
    assert made.step_history["step"] == [5, 10] == other.step_history["step"]
    np.testing.assert_allclose(made.step_history["loss"], other.step_history["loss"], rtol=1e-6)


class Unsized:
    """Batches whose number shows at their end."""

    def __iter__(self) -> Iterator[Any]:
        yield from gd.MiniBatches(X, Y, batch_size=16, seed=3)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("steps", [None, 3, 4, 5])
def test_an_iterable_may_end_at_a_row(every: int, steps: int | None) -> None:
    made = trainer()
    made.fit(Unsized(), epochs=3, steps_per_epoch=steps, log_every=every)
    count = 3 * (steps or 4)
    assert made.steps == count and made.step_history.get("step", []) == list(range(every, count + 1, every))
    assert np.isfinite(made.step_history.get("loss", [])).all()


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_whose_weights_are_all_0(every: int, shuffle: bool) -> None:
    plain, logged, alone = trainer(), trainer(), np.zeros(50)
    alone[5] = 2.0
    for made, log in ((plain, None), (logged, every)):
        made.fit(X, Y, epochs=2, batch_size=1, shuffle=shuffle, sample_weight=alone, log_every=log)
    helpers.same_bits(plain.model.flat_parameters(), logged.model.flat_parameters())
    losses = np.array(logged.step_history["loss"])
    assert len(losses) == 100 // every
    np.testing.assert_allclose(losses[np.isfinite(losses)], plain.history["loss"], rtol=1e-12)  # one row an epoch


class Stop(gd.Callback):
    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
        trainer.stop = trainer.epoch == 3


def test_a_resumed_run_has_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    whole, first, second = trainer(), trainer(), trainer()
    whole.fit(X, Y, epochs=6, batch_size=16, log_every=5)
    first.fit(X, Y, epochs=3, batch_size=16, log_every=5, callbacks=[gd.Checkpoint(path)])
    second.fit(X, Y, until_epoch=6, batch_size=16, log_every=5, resume=path)
    assert rows(second) == rows(whole)
    later = trainer()  # without a log, the rows are not read
    later.fit(X, Y, until_epoch=6, batch_size=16, resume=path)
    assert later.step_history.height == 0


def test_returning_to_a_checkpoint_removes_later_rows(tmp_path: Path) -> None:
    made, path = trainer(), tmp_path / "run.ckpt"
    made.fit(X, Y, epochs=2, batch_size=16, log_every=2)
    made.save_checkpoint(path)
    made.fit(X, Y, epochs=2, batch_size=16, log_every=2)
    assert made.step_history.last_step == 16
    made.load_checkpoint(path)
    assert made.step_history["step"] == [2, 4, 6, 8] and made.step_history.last_step == 8


def test_returning_removes_later_rows_in_any_order(tmp_path: Path) -> None:
    made, path = trainer(), tmp_path / "run.ckpt"
    made.fit(X, Y, epochs=2, batch_size=16, log_every=3)
    made.save_checkpoint(path)
    made.fit(X, Y, epochs=1, batch_size=16, log_every=3)
    made.steps = 0
    made.fit(X, Y, epochs=1, batch_size=16, log_every=3)
    assert made.step_history["step"] == [3, 6, 9, 12, 3]
    made.load_checkpoint(path)
    assert made.step_history["step"] == [3, 6, 3]


def test_a_file_holds_the_rows_as_arrays(tmp_path: Path) -> None:
    """The header of a file, where other values are, has a limit."""
    made, path = trainer(), tmp_path / "run.ckpt"
    made.fit(X, Y, epochs=500, batch_size=16, log_every=1)
    made.fit(X, Y, epochs=1, batch_size=16, log_every=1, callbacks=[gd.Checkpoint(path)])
    assert int.from_bytes(path.read_bytes()[:8], "little") < 10_000
    other = trainer()
    other.fit(X, Y, until_epoch=501, batch_size=16, log_every=1, resume=path)
    assert rows(other) == rows(made) and type(other.step_history["step"][0]) is int


def test_a_checkpoint_of_another_run_has_other_rows(tmp_path: Path) -> None:
    made, other, path = trainer(), trainer(), tmp_path / "run.ckpt"
    other.fit(X, -Y, epochs=2, batch_size=16)
    other.save_checkpoint(path)
    made.fit(X, Y, epochs=2, batch_size=16, log_every=2)
    made.load_checkpoint(path)
    assert made.history["loss"] == other.history["loss"] and made.step_history.height == 0


def test_copies_have_their_own_rows() -> None:
    import copy

    made = trainer()
    made.fit(X, Y, epochs=2, batch_size=16, log_every=3)
    other = copy.deepcopy(made)
    for each in (made, other):
        each.fit(X, Y, epochs=2, batch_size=16, log_every=3)
    assert rows(made) == rows(other) and made.step_history.last_step == 15


def test_the_same_plot(tmp_path: Path) -> None:
    made = trainer()
    made.fit(X, Y, epochs=4, batch_size=16, log_every=2)
    best = made.step_history.best_step()
    axes = made.step_history.plot(tmp_path / "steps.png")
    assert axes.get_xlabel() == "step" and axes.get_ylabel() == "loss"
    assert f"at step {best} of 16" in axes.get_title(loc="left") + axes.get_title()
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), made.step_history["step"])
    assert (tmp_path / "steps.png").stat().st_size > 1000
    with pytest.raises(KeyError, match="none yet"):
        trainer().step_history.plot()


@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_refused(value: Any, kind: type[Exception]) -> None:
    made = trainer()
    helpers.refuses(lambda: made.fit(X, Y, epochs=1, log_every=value), kind, "^log_every")
    assert made.steps == 0 and made.step_history.height == 0


def test_damaged_states() -> None:
    from gdcore.training.step_log import StepLog

    log = StepLog()
    for state in ({}, {"steps": -1, "sums": [0.0] * 3}, {"steps": 1, "sums": [0.0]}, {"steps": 1, "sums": "abc"}):
        with pytest.raises(gd.FormatError, match="StepLog"):
            log.load_state_dict(state)
    with pytest.raises(ValueError, match="step"):
        log.load_state_dict({"steps": 1, "sums": [0.0] * 3, "history.loss": [1.0]})
