"""Promise: trainers that are trained in a stack end as after their own fit on that device: weights, optimiser state,
steps, history, early stopping, errors; those that do not fit are left unchanged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import schedules
from gdcore.training import stack
from gdcore.training.stack import fit_stack

pytestmark = pytest.mark.cuda
ROWS = 70  # batches of 32, 32 and 6 rows

Make = Callable[..., gd.Trainer]


def make(seed: int, *, lr: Any = 0.01, decay: float = 0.0, drop: float = 0.0, **options: Any) -> gd.Trainer:
    layers = [gd.Dense(5, 12), gd.ReLU(), gd.Dropout(drop), gd.Dense(12, 3)]
    model = gd.Sequential(
        *layers, seed=seed, device=options.pop("device", "cuda"), dtype=options.pop("dtype", "float32")
    )
    optimizer = gd.Adam(lr, weight_decay=decay)
    return gd.Trainer(model, options.pop("loss", gd.CrossEntropy()), optimizer=optimizer, **options)


@pytest.fixture
def data(rng: helpers.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((ROWS, 5)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)


def state(trainer: gd.Trainer, stopping: gd.EarlyStopping | None = None) -> dict[str, np.ndarray]:
    """Everything that training changes, except for times."""
    seen = helpers.snapshot(trainer.model, trainer)
    seen |= {f"history {name}": np.array(trainer.history[name]) for name in trainer.history if name != "seconds"}
    seen |= {"steps": np.array(trainer.steps), "stop": np.array(trainer.stop)}
    seen |= {f"gradient {name}": np.array(array) for name, array in trainer.model.gradients().items()}
    if stopping is not None:
        saved = stopping.state_dict()
        seen |= {f"stopping {name}": np.array(value) for name, value in saved.items()}
    return seen


def check(
    build: Callable[[int], gd.Trainer],
    count: int,
    data: Any,
    stopping: Callable[[int], gd.EarlyStopping | None] = lambda i: None,
    *,
    epochs: int = 3,
    runs: int = 1,
    **fit: Any,
) -> list[gd.Trainer]:
    """Compare trainers of a stack with trainers alone; return those of the stack."""
    alone, together = ([build(i) for i in range(count)] for _ in range(2))
    for _ in range(runs):
        watching, others = ([stopping(i) for i in range(count)] for _ in range(2))
        errors = {}
        for i, trainer in enumerate(alone):
            try:
                trainer.fit(*data, epochs=epochs, callbacks=[c for c in [watching[i]] if c is not None], **fit)
            except gd.DivergenceError as error:
                errors[i] = str(error)
        callbacks = [[c] if c is not None else [] for c in others]
        done = fit_stack(together, *data, epochs=epochs, callbacks=callbacks, **fit)
        assert done.left == []
        assert {i: str(error) for i, error in done.errors.items()} == errors
        for i in range(count):
            helpers.same_bits(state(alone[i], watching[i]), state(together[i], others[i]))
    return together


def test_seeds_rates_and_decays_of_their_own(data: Any) -> None:
    trainers = check(
        lambda i: make(i, lr=0.01 * (i + 1), decay=0.01 * (i % 2), drop=0.2), 4, data, validation=data, batch_size=32
    )
    assert len({trainer.history["loss"][-1] for trainer in trainers}) == 4


@pytest.mark.parametrize("fit", [{"shuffle": False, "batch_size": None}, {"drop_last": True, "batch_size": 16}])
def test_batches_and_weights(fit: dict[str, Any], data: Any, rng: helpers.Generator) -> None:
    weights = rng.uniform(0.0, 2.0, ROWS)
    check(make, 2, data, sample_weight=weights, runs=2, **fit)


def test_schedules_and_steps_made_before(data: Any) -> None:
    def build(i: int) -> gd.Trainer:
        trainer = make(i, lr=schedules.cosine(0.02, 12) if i else 0.01)
        trainer.seed, trainer.steps, trainer.lr_scale = i + 7, i, 0.5
        return trainer

    check(build, 3, data)


def test_early_stopping(data: Any, rng: helpers.Generator) -> None:
    held_out = rng.standard_normal((40, 5)), rng.integers(0, 3, 40)
    settings = [
        {"patience": 1},
        {"patience": 3, "restore_best": False},
        {"patience": 2, "min_delta": 0.5},
        {"monitor": "loss", "patience": 2},
    ]
    trainers = check(
        lambda i: make(i, lr=0.05),
        5,
        data,
        lambda i: gd.EarlyStopping(**settings[i]) if i < 4 else None,
        epochs=8,
        runs=2,
        validation=held_out,
    )
    assert len({trainer.epoch for trainer in trainers}) > 1  # some ended early


def test_metrics(data: Any) -> None:
    metrics = {"right": "accuracy", "off": "balanced_accuracy"}
    trainers = check(
        lambda i: make(i, lr=0.03, metrics=metrics if i < 3 else []),
        5,
        data,
        lambda i: gd.EarlyStopping("val_right", patience=2, mode="max") if i == 1 else None,
        epochs=4,
        validation=(data[0][:45], data[1][:45], np.linspace(0.5, 1.0, 45)),
    )
    assert {"val_right", "val_off"} < set(trainers[0].history)
    assert set(trainers[4].history) == {"epoch", "loss", "val_loss", "lr", "seconds"}


def test_one_that_diverges(data: Any) -> None:
    loss = gd.MeanSquaredError()
    values = (data[0], np.stack([data[1]] * 3, axis=1).astype(np.float32))

    def build(i: int) -> gd.Trainer:
        model = gd.Sequential(gd.Dense(5, 12), gd.ReLU(), gd.Dense(12, 3), seed=i, device="cuda")
        return gd.Trainer(model, loss, optimizer=gd.SGD(1e12 if i == 1 else 0.01))

    trainers = check(build, 3, values, lambda i: gd.EarlyStopping("loss", patience=9) if i else None)
    assert trainers[1].steps < trainers[0].steps


def test_an_interrupted_stack_keeps_its_complete_epochs(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = ([make(i, lr=0.05) for i in range(2)] for _ in range(2))
    watching, others = ([gd.EarlyStopping("loss", patience=9) for _ in range(2)] for _ in range(2))
    for trainer, stopping in zip(alone, watching, strict=True):
        trainer.fit(*data, epochs=2, callbacks=[stopping])
    train = stack._Group._epoch

    def interrupted(self: Any, epoch: int, active: Any) -> Any:
        if epoch == 2:
            raise KeyboardInterrupt
        return train(self, epoch, active)

    monkeypatch.setattr(stack._Group, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_stack(together, *data, epochs=5, callbacks=[[each] for each in others])
    for i in range(2):
        helpers.same_bits(state(alone[i], watching[i]), state(together[i], others[i]))


def test_a_validation_loss_that_is_nan_warns_as_alone(data: Any) -> None:
    broken = data[0].copy(), data[1]
    broken[0][3] = np.nan
    trainers = [make(i, check_finite=False) for i in range(2)]
    with pytest.warns(UserWarning, match="val_loss is nan, which counts as no improvement"):
        fit_stack(
            trainers, *data, epochs=2, validation=broken, callbacks=[[gd.EarlyStopping(patience=5)] for _ in trainers]
        )
    assert np.isnan(trainers[0].history["val_loss"]).all()


def test_what_is_not_taken_is_left_unchanged(data: Any) -> None:
    trainers = [
        make(0),
        make(1, device="cpu"),
        make(2, dtype="float64"),
        make(3, metrics=["accuracy"]),  # the only one with metrics
        make(4),
        make(5, drop=0.5),
        make(6),
        make(7),
    ]
    before = [state(trainer) for trainer in trainers]
    callbacks: list[list[object]] = [[] for _ in trainers]
    callbacks[4] = [gd.ReduceOnPlateau("loss")]
    callbacks[7] = [gd.EarlyStopping("val_loss")]  # fit refuses it, without validation data
    done = fit_stack(trainers, *data, epochs=1, callbacks=callbacks)
    assert done.left == [1, 2, 3, 4, 5, 7]
    assert done.errors == {}
    for i in done.left:
        helpers.same_bits(state(trainers[i]), before[i])
    assert [trainers[i].epoch for i in (0, 6)] == [1, 1]
    assert fit_stack([make(0), make(1)], *data, epochs=1, validation=0.2).left == [0, 1]


def test_wide_networks_are_left(data: Any) -> None:
    def wide(seed: int) -> gd.Trainer:
        model = gd.Sequential(gd.Dense(5, 200), gd.ReLU(), gd.Dense(200, 3), seed=seed, device="cuda")
        return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1))

    trainers = [wide(0), wide(1)]
    assert fit_stack(trainers, *data, epochs=1).left == [0, 1]
    assert [trainer.epoch for trainer in trainers] == [0, 0]


def test_data_that_does_not_fit_changes_nothing(data: Any) -> None:
    trainers = [make(0), make(1)]
    before = [state(trainer) for trainer in trainers]
    with pytest.raises(ValueError, match="x"):
        fit_stack(trainers, data[0][:, :4], data[1], epochs=1)
    with pytest.raises(ValueError, match="callbacks: got 1 lists for 2 trainers"):
        fit_stack(trainers, *data, epochs=1, callbacks=[[]])
    for trainer, seen in zip(trainers, before, strict=True):
        helpers.same_bits(state(trainer), seen)


def test_no_warnings(data: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_stack([make(0), make(1)], *data, epochs=1).left == []


@pytest.mark.parametrize("ties", ["first", "last"])
def test_equal_measures(ties: str, data: Any) -> None:
    """Of seven rows the accuracy has few values, most of them several times."""
    stopping = lambda i: gd.EarlyStopping("val_accuracy", 2 + i, ties=ties)  # noqa: E731
    check(
        lambda seed: make(seed, metrics=["accuracy"]),
        3,
        data,
        stopping,
        epochs=9,
        validation=(data[0][:7], data[1][:7]),
    )


def build(seed: int, width: int = 12) -> gd.Sequential:
    return gd.Sequential(gd.Dense(5, width), gd.ReLU(), gd.Dense(width, 3), seed=seed, device="cuda")


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the stacks that are trained from here on."""
    seen: list[int] = []
    run = stack._Group.run
    monkeypatch.setattr(stack._Group, "run", lambda group: seen.append(len(group._trainers)) or run(group))
    return seen


COMMON: dict[str, Any] = {"validation": 0.3, "loss": gd.CrossEntropy(), "optimizer": gd.Adam(0.02), "epochs": 3}


def test_restarts_and_sweeps_train_in_stacks(data: Any, sizes: list[int]) -> None:
    settings = COMMON | {"callbacks": [gd.EarlyStopping(patience=1)], "keep_models": True}
    alone, together = (gd.restarts(build, 5, *data, n_jobs=n, **settings) for n in (1, None))
    assert sizes == [5]
    widths = {"width": [4, 12]}
    swept = [gd.sweep(build, widths, *data, seeds=3, n_jobs=n, **settings) for n in (1, None)]
    assert sizes == [5, 3, 3]
    for a, b in ((alone, together), swept):
        for one, other in zip(a.starts, b.starts, strict=True):
            for name in ("value", "loss", "val_loss", "epochs", "best_epoch"):
                assert getattr(one, name) == getattr(other, name)
            assert one.history._chosen == other.history._chosen is not None
            helpers.same_bits(helpers.snapshot(one.model), helpers.snapshot(other.model))


@pytest.mark.parametrize("drawn", [{}, {"bootstrap": True}])
def test_ensembles_train_in_stacks(drawn: dict[str, bool], data: Any, sizes: list[int]) -> None:
    alone, together = (gd.Ensemble.train(build, 3, *data, n_jobs=n, **COMMON, **drawn) for n in (1, None))
    assert sizes == ([] if drawn else [3])  # with rows of its own a model trains alone
    helpers.same_bits(alone.predict(data[0]), together.predict(data[0]))


def test_stacks_of_bounded_memory(data: Any, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gd.restarts(build, 5, *data, keep_models=True, **COMMON)
    size = build(0).flat_parameters().nbytes
    monkeypatch.setattr(stack, "MEMORY", 2 * stack.ARENAS * size)
    parts = gd.restarts(build, 5, *data, keep_models=True, **COMMON)
    assert sizes == [5, 2, 2]  # the last one is alone
    for one, other in zip(whole.models, parts.models, strict=True):
        helpers.same_bits(helpers.snapshot(one), helpers.snapshot(other))


def test_results_come_one_by_one_and_errors_are_named(data: Any, sizes: list[int], tmp_path: Any) -> None:
    class Failing(gd.Callback):
        def on_train_begin(self, trainer: gd.Trainer) -> None:
            if trainer.seed == 3:
                raise ValueError("seed 3")

    with pytest.raises(ValueError, match="seed 3") as caught:
        gd.restarts(build, 5, *data, **COMMON, callbacks=[Failing()], folder=tmp_path)
    assert caught.value.__notes__ == ["[restarts] seed 3"]
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == 1 + 3
    assert sizes == []
