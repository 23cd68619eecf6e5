"""Promise: the averaged weights are the formula's in float64; they are what is measured, kept and stopped by; training
itself has the same bits with and without them; a resumed run gives the bits of the unbroken one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.training.stack import fit_stack

RNG = np.random.default_rng(8)
X = RNG.standard_normal((90, 3)).astype(np.float32)
Y = (X.sum(1, keepdims=True) + RNG.standard_normal((90, 1))).astype(np.float32)
FIT: dict[str, Any] = {"batch_size": 16, "validation": 0.2}


def build(device: str = "cpu", dtype: Any = np.float32) -> gd.Trainer:
    layers = (gd.Dense(3, 6), gd.BatchNorm(6), gd.Tanh(), gd.Dropout(0.2), gd.Dense(6, 1))
    model = gd.Sequential(*layers, seed=0, dtype=dtype, device=device)
    return gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(0.01), metrics=["r2"])


def arrays(model: gd.Sequential) -> np.ndarray:
    """Parameters and running averages as one vector, in float64."""
    state = model.copy_state()
    return np.concatenate([state["parameters"], state["buffers"]]).astype(np.float64)


class Weights:
    """Records the weights after every step."""

    def __init__(self) -> None:
        self.after: list[np.ndarray] = []

    def on_step(self, trainer: gd.Trainer) -> None:
        assert trainer.steps == len(self.after) + 1
        self.after.append(arrays(trainer.model))


def averaged(after: list[np.ndarray], decay: float, every: int = 1) -> np.ndarray:
    """The weighted mean of the weights after each `every` steps, in float64."""
    taken = np.array(after[every - 1 :: every])
    shares = decay ** (every * np.arange(len(taken))[::-1])
    return np.asarray(shares @ taken / shares.sum())


@helpers.DTYPES
@pytest.mark.parametrize(("decay", "every"), [(0.9, 1), (0.0, 1), (0.9999, 1), (0.95, 3), (0.9, 7)])
def test_the_average_is_the_formulas(decay: float, every: int, dtype: Any, device: str) -> None:
    weights, average = Weights(), gd.WeightAverage(decay, every=every)
    trainer = build(device, dtype)
    trainer.fit(X, Y, epochs=4, **FIT, callbacks=[weights, average])
    assert len(weights.after) == trainer.steps == 20 and average.updates == 20 // every
    expected = averaged(weights.after, decay, every)
    np.testing.assert_allclose(arrays(trainer.model), expected, rtol=0, atol=2e-6 if dtype == np.float32 else 4e-15)


def test_training_has_the_same_bits(device: str) -> None:
    plain, other = build(device), build(device)
    plain.fit(X, Y, epochs=3, **FIT)
    other.fit(X, Y, epochs=3, **FIT, callbacks=[gd.WeightAverage(0.9, keep=False)])
    helpers.same_bits(plain.model.copy_state(), other.model.copy_state())
    if not helpers.on_a_gpu(device):  # which adds the losses in shorter runs
        assert plain.history["loss"] == other.history["loss"] and plain.history["val_loss"] != other.history["val_loss"]


@pytest.mark.parametrize("first", [True, False])
def test_the_average_is_measured_and_kept_by_others(first: bool, tmp_path: Path) -> None:
    """Validation, early stopping and the best file have the average, in either order of the callbacks."""

    class Seen:
        def __init__(self) -> None:
            self.at_end: list[np.ndarray] = []
            self.at_begin: list[np.ndarray] = []

        def on_epoch_begin(self, trainer: gd.Trainer) -> None:
            self.at_begin.append(arrays(trainer.model))

        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            self.at_end.append(arrays(trainer.model))
            x, y = X[::2], Y[::2]
            assert trainer.evaluate(x, y)["loss"] == logs["val_loss"]

    average, seen, weights = gd.WeightAverage(0.8), Seen(), Weights()
    stopping = gd.EarlyStopping(patience=50)
    best = gd.Checkpoint(tmp_path / "c.safetensors", keep_best=True)
    others = [stopping, best]
    trainer = build()
    callbacks = [average, *others, seen, weights] if first else [*others, weights, average, seen]
    trainer.fit(X[1::2], Y[1::2], epochs=6, batch_size=9, validation=(X[::2], Y[::2]), callbacks=callbacks)
    for epoch, found in enumerate(seen.at_end, 1):
        np.testing.assert_allclose(found, averaged(weights.after[: 5 * epoch], 0.8), rtol=0, atol=2e-6)
    for epoch, found in enumerate(seen.at_begin[1:], 1):
        helpers.same_bits(found, weights.after[5 * epoch - 1])
    kept = seen.at_end[stopping.best_epoch - 1]
    helpers.same_bits(arrays(trainer.model), kept)
    assert best.best_path is not None
    helpers.same_bits(arrays(gd.load(best.best_path)), kept)


@pytest.mark.parametrize("keep", [True, False])
def test_a_run_stopped_inside_an_epoch_keeps_what_was_chosen(keep: bool) -> None:
    class Stop:
        every = 7

        def on_step(self, trainer: gd.Trainer) -> None:
            trainer.stop = True

    weights, trainer = Weights(), build()
    trainer.fit(X, Y, epochs=3, **FIT, callbacks=[weights, Stop(), gd.WeightAverage(0.8, keep=keep)])
    assert trainer.epoch == 1 and trainer.steps == 7
    expected = averaged(weights.after, 0.8) if keep else weights.after[-1]
    np.testing.assert_allclose(arrays(trainer.model), expected, rtol=0, atol=2e-6)


class Cut:
    """Saves after a number of steps, wherever that is, as `Checkpoint(seconds=...)` does, and ends the run."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps

    def on_progress(self, trainer: gd.Trainer, batch: int, batches: int | None, loss: float) -> None:
        if trainer.steps == self.steps:
            trainer.save_checkpoint(self.path)
            trainer.stop = True


@pytest.mark.parametrize("steps", [1, 5, 8, 10])
def test_a_checkpoint_of_a_step_resumes_after_that_step(steps: int, tmp_path: Path) -> None:
    class Save:
        def on_step(self, trainer: gd.Trainer) -> None:
            if trainer.steps == steps:
                trainer.save_checkpoint(tmp_path / "c.safetensors")

    unbroken, saved, resumed = build(), build(), build()
    unbroken.fit(X, Y, epochs=3, **FIT, callbacks=[gd.WeightAverage(0.9)])
    saved.fit(X, Y, epochs=3, **FIT, callbacks=[gd.WeightAverage(0.9), Save()])
    resumed.fit(X, Y, until_epoch=3, **FIT, callbacks=[gd.WeightAverage(0.9)], resume=tmp_path / "c.safetensors")
    helpers.same_bits(resumed.model.copy_state(), unbroken.model.copy_state())
    assert resumed.history["val_loss"] == unbroken.history["val_loss"] and resumed.steps == unbroken.steps


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_a_resumed_run_has_the_same_bits(epochs: int, keep: bool, tmp_path: Path, device: str) -> None:
    path = tmp_path / "c.safetensors"

    def callbacks() -> list[Any]:
        return [gd.WeightAverage(0.9, every=2, keep=keep), gd.EarlyStopping(patience=9, restore_best=False)]

    unbroken, broken, resumed = build(device), build(device), build(device)
    unbroken.fit(X, Y, epochs=5, **FIT, callbacks=callbacks())
    broken.fit(X, Y, epochs=epochs, **FIT, callbacks=[*callbacks(), gd.Checkpoint(path)])
    if keep:
        helpers.same_bits(gd.load(path).copy_state(), broken.model.copy_state())
    resumed.fit(X, Y, until_epoch=5, **FIT, callbacks=callbacks(), resume=path)
    helpers.same_bits(resumed.model.copy_state(), unbroken.model.copy_state())
    assert resumed.history["val_loss"] == unbroken.history["val_loss"]


def test_a_run_resumed_inside_an_epoch_has_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdcore.training.fit.SLICE_SECONDS", 0.0)  # each slice ends at the next stop
    path = tmp_path / "c.safetensors"
    unbroken, broken, resumed = build(), build(), build()
    unbroken.fit(X, Y, epochs=3, **FIT, callbacks=[gd.WeightAverage(0.9)])
    broken.fit(X, Y, epochs=3, **FIT, callbacks=[gd.WeightAverage(0.9), Weights(), Cut(path, 8)])
    assert broken.steps == 8 and broken.epoch == 1
    resumed.fit(X, Y, until_epoch=3, **FIT, callbacks=[gd.WeightAverage(0.9)], resume=path)
    helpers.same_bits(resumed.model.copy_state(), unbroken.model.copy_state())
    assert resumed.history["val_loss"] == unbroken.history["val_loss"]


def test_a_custom_loop_gives_the_average_of_fit(device: str) -> None:
    fitted, stepped = build(device), build(device)
    fitted.fit(X, Y, epochs=2, batch_size=16, callbacks=[gd.WeightAverage(0.7)])
    average = gd.WeightAverage(0.7)
    for call in (average.on_measure, average.on_epoch_begin, average.on_train_end):
        helpers.refuses(lambda call=call: call(stepped), RuntimeError, "no average")
    batches = gd.MiniBatches(X, Y, batch_size=16, seed=0)
    average.on_train_begin(stepped)
    for _ in range(2):
        for xb, yb in batches:
            stepped.step(xb, yb)
        average.on_measure(stepped)
        helpers.refuses(lambda: stepped.step(X, Y), RuntimeError, "averaged weights")
        average.on_epoch_begin(stepped)
    assert average.updates == 12
    average.on_train_end(stepped)
    helpers.same_bits(fitted.model.copy_state(), stepped.model.copy_state())
    assert average.updates == 12 and stepped.core.average is None


def test_steps_of_a_loop_of_ones_own_are_averaged_too() -> None:
    weights, trainer, average = [], build(), gd.WeightAverage(0.7)
    average.on_train_begin(trainer)
    for _ in range(5):
        trainer.model.forward(X)
        trainer.model.backward(np.ones((90, 1), np.float32))
        trainer.optimizer_step()
        weights.append(arrays(trainer.model))
    average.on_train_end(trainer)
    np.testing.assert_allclose(arrays(trainer.model), averaged(weights, 0.7), rtol=0, atol=2e-6)


@helpers.DTYPES
def test_a_hundred_steps_of_networks_without_norms(dtype: Any, device: str) -> None:
    """Which are fused on a GPU."""
    layers = (gd.Standardizer().fit(X), gd.Dense(3, 17), gd.ReLU(), gd.Dropout(0.2), gd.Dense(17, 1))
    model = gd.Sequential(*layers, seed=0, dtype=dtype, device=device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.AdamW(0.01, weight_decay=0.1))
    weights = Weights()
    trainer.fit(X, Y, epochs=20, batch_size=16, validation=0.2, callbacks=[gd.WeightAverage(0.98), weights])
    assert len(weights.after) == 100
    tolerance = 5e-6 if dtype == np.float32 else 2e-14
    np.testing.assert_allclose(arrays(model), averaged(weights.after, 0.98), rtol=0, atol=tolerance)


def test_the_number_of_steps_may_be_set() -> None:
    """The updates of the average count on."""

    class Renumber:
        every = 4

        def on_step(self, trainer: gd.Trainer) -> None:
            if trainer.steps == 8:
                trainer.steps = 1000

    after: list[np.ndarray] = []

    class Seen:
        def on_step(self, trainer: gd.Trainer) -> None:
            after.append(arrays(trainer.model))

    trainer, average = build(), gd.WeightAverage(0.8, every=4)
    trainer.fit(X, Y, epochs=4, **FIT, callbacks=[Seen(), Renumber(), average])
    assert average.updates == 5 and len(after) == 20 and trainer.steps == 1012
    np.testing.assert_allclose(arrays(trainer.model), averaged(after, 0.8, 4), rtol=0, atol=2e-6)


def test_frozen_weights_stay_and_others_must_not_be_frozen_meanwhile(device: str) -> None:
    class Freeze:
        def __init__(self, change: Callable[[gd.Sequential], None]) -> None:
            self.change = change

        def on_epoch_begin(self, trainer: gd.Trainer) -> None:
            if trainer.epoch == 1:
                self.change(trainer.model)

    trainer, weights = build(device), Weights()
    trainer.model.freeze("layers.0")
    thaw = Freeze(lambda model: model.unfreeze("layers.0.bias"))
    trainer.fit(X, Y, epochs=3, **FIT, callbacks=[weights, thaw, gd.WeightAverage(0.8)])
    np.testing.assert_allclose(arrays(trainer.model), averaged(weights.after, 0.8), rtol=0, atol=2e-6)
    trainer = build(device)
    freeze = Freeze(lambda model: model.freeze("layers.0.bias"))
    call = {"epochs": 3, "callbacks": [freeze, gd.WeightAverage(0.8)], **FIT}
    helpers.refuses(lambda: trainer.fit(X, Y, **call), RuntimeError, "layers.0.bias: frozen since")
    assert trainer.epoch == 1 and trainer.core.average is None


@pytest.mark.cuda
def test_a_stack_leaves_it_to_each(device: str) -> None:
    if device == "cpu":
        pytest.skip("stacks are trained on GPUs")
    trainers = [build(device) for _ in range(2)]
    found = fit_stack(trainers, X, Y, epochs=1, callbacks=[[gd.WeightAverage(0.9)] for _ in trainers])
    assert found.left == [0, 1]
    average = gd.WeightAverage(0.9)
    average.on_train_begin(trainers[0])
    assert fit_stack(trainers, X, Y, epochs=1).left == [0, 1]


def test_arrays_of_an_average_that_has_ended_can_be_read() -> None:
    trainer, average = build(), gd.WeightAverage(0.9)
    average.on_train_begin(trainer)
    trainer.step(X, Y)
    parameters, buffers = trainer.core.average_arrays()
    helpers.same_bits({**parameters, **buffers}, {**trainer.model.parameters(), **trainer.model.buffers()})
    average.on_train_end(trainer)
    del trainer
    assert all(np.isfinite(array).all() for array in (*parameters.values(), *buffers.values()))


def test_the_log_of_steps_is_the_same_beside_it() -> None:
    plain, other, average = build(), build(), gd.WeightAverage(0.9, every=2, keep=False)
    plain.fit(X, Y, epochs=3, **FIT, log_every=3)
    other.fit(X, Y, epochs=3, **FIT, log_every=3, callbacks=[average])
    assert average.updates == 7 and other.step_history["step"] == [3, 6, 9, 12, 15]
    assert other.step_history["loss"] == plain.step_history["loss"]


def test_an_interval_of_no_steps_is_refused() -> None:
    for every in (0, None, "2"):
        weights = Weights()
        weights.every = every  # type: ignore[attr-defined]
        with pytest.raises((ValueError, TypeError), match=r"callbacks\[0\]\.every"):
            build().fit(X, Y, epochs=1, callbacks=[weights])


def test_another_run_starts_anew_and_batches_of_an_iterable_count_too() -> None:
    average, weights, trainer = gd.WeightAverage(0.8), Weights(), build()
    batches = gd.MiniBatches(X, Y, batch_size=16, seed=0)
    trainer.fit(batches, epochs=2, callbacks=[average, weights])
    assert average.updates == 12
    np.testing.assert_allclose(arrays(trainer.model), averaged(weights.after, 0.8), rtol=0, atol=2e-6)
    trainer.fit(batches, epochs=1, callbacks=[average])
    assert average.updates == 6


def test_without_a_step_the_weights_stay() -> None:
    trainer, average = build(), gd.WeightAverage(0.8, every=1000)
    trainer.fit(X, Y, epochs=1, **FIT, callbacks=[average])
    other = build()
    other.fit(X, Y, epochs=1, **FIT)
    helpers.same_bits(trainer.model.copy_state(), other.model.copy_state())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    for call, word in (
        (lambda: gd.WeightAverage(1.0), "decay"),
        (lambda: gd.WeightAverage(-0.1), "decay"),
        (lambda: gd.WeightAverage(every=0), "every"),
        (lambda: build().fit(X, Y, epochs=1, callbacks=[gd.WeightAverage(), gd.WeightAverage()]), "callbacks"),
    ):
        helpers.refuses(call, ValueError, word)
    path = tmp_path / "c.safetensors"
    build().fit(X, Y, epochs=1, callbacks=[gd.WeightAverage(0.5), gd.Checkpoint(path)])
    for other in (gd.WeightAverage(0.25), gd.WeightAverage(0.5, every=2)):
        trainer = build()
        before = helpers.snapshot(trainer.model)
        resume = {"epochs": 1, "callbacks": [other], "resume": path}
        helpers.refuses(lambda trainer=trainer, r=resume: trainer.fit(X, Y, **r), gd.FormatError, "other settings")
        helpers.same_bits(helpers.snapshot(trainer.model), before)
    helpers.refuses(lambda: build().fit(X, Y, epochs=1, resume=path), ValueError, "WeightAverage is missing")


def test_a_damaged_state_is_refused() -> None:
    average, trainer = gd.WeightAverage(0.5), build()
    average.on_train_begin(trainer)
    trainer.step(X, Y)
    good = average.state_dict()
    for change in (
        {"updates": -1},
        {"updates": 0},
        {"updates": "3"},
        {"parameters": good["parameters"][1:]},
        {"parameters": good["parameters"].astype(np.float64)},
        {"trained_parameters": good["parameters"]},
    ):
        with pytest.raises((gd.FormatError, ValueError)):
            average.check_state(good | change, trainer)
    average.check_state(good, trainer)
    average.on_measure(trainer)
    average.check_state(average.state_dict(), trainer)


def test_copies_have_the_settings() -> None:
    """Inside a run as well: the average belongs to the trainer, and a copy of the trainer has none."""
    trainer, average = build(), gd.WeightAverage(0.5, every=2, keep=False)
    average.on_train_begin(trainer)
    for _ in range(4):
        trainer.step(X, Y)
    for other in (copy.deepcopy(average), copy.copy(average), pickle.loads(pickle.dumps(average))):
        assert (other.decay, other.every, other.keep) == (0.5, 2, False)
        fresh = build()
        other.on_train_begin(fresh)
        fresh.step(X, Y)
        assert other.updates == 0 and average.updates == 2
    twin = copy.deepcopy(trainer)
    assert twin.core.average is None and trainer.core.average is not None
    assert twin.step(X, Y) == trainer.step(X, Y)
