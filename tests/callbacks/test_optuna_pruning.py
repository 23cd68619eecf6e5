"""Promise: Optuna gets the measure of each epoch and ends what it prunes, after the logs have the last epoch; what
would prune by the wrong direction, or mix up trainings, is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

optuna = pytest.importorskip("optuna")
X = np.random.default_rng(8).standard_normal((40, 3)).astype(np.float32)
Y = X.sum(1)


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


class Scripted(optuna.pruners.BasePruner):
    """Prunes the trials of the given numbers after the given epoch."""

    def __init__(self, after: dict[int, int]) -> None:
        self.after = after

    def prune(self, study: Any, trial: Any) -> bool:
        return trial.last_step == self.after.get(trial.number)


def build() -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 1), seed=0)
    return gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.02), metrics=["r2"])


def fit(trial: Any, *callbacks: Any, trainer: gd.Trainer | None = None, monitor: str = "val_loss") -> gd.History:
    pruning = gd.OptunaPruning(trial, monitor)
    return (trainer or build()).fit(X, Y, epochs=4, batch_size=8, validation=(X, Y), callbacks=[pruning, *callbacks])


def test_real_pruning_ends_worse_trials(tmp_path: Path) -> None:
    """Trials with a higher learning rate are better at every epoch: the median pruner ends the other ones."""
    trained: dict[int, gd.History] = {}

    def objective(trial: Any) -> float:
        trainer = gd.Trainer(build().model, gd.MeanSquaredError(), optimizer=gd.SGD(0.05 / (trial.number + 1)))
        trained[trial.number] = trainer.history
        return float(fit(trial, trainer=trainer)["val_loss"][-1])

    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2))
    study.optimize(objective, n_trials=4)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    for trial in study.trials:
        history = trained[trial.number]
        assert trial.intermediate_values == dict(zip(history["epoch"], history["val_loss"], strict=True))
        assert history.epochs == (4 if trial.state.name == "COMPLETE" else 2)


def test_logs_contain_the_last_epoch_and_callbacks_end_as_usual(tmp_path: Path) -> None:
    stopping, trainer = gd.EarlyStopping(), build()
    logs = [gd.CSVLog(tmp_path / "log.csv"), gd.Checkpoint(tmp_path / "c.safetensors", every=100), stopping]

    def objective(trial: Any) -> float:
        return float(fit(trial, *logs, trainer=trainer)["val_loss"][-1])

    study = optuna.create_study(pruner=Scripted({0: 3}))
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state.name == "PRUNED" and trainer.epoch == 3 == stopping.best_epoch
    assert gd.Table.from_csv(tmp_path / "log.csv")["epoch"] == [1, 2, 3]
    assert np.array_equal(gd.load(tmp_path / "c.safetensors").predict(X), trainer.model.predict(X))


def test_several_fits_of_a_trial_continue_the_epochs() -> None:
    trial, trainer = optuna.create_study().ask(), build()
    for _ in range(2):
        fit(trial, trainer=trainer)
    found = trial.study._storage.get_trial(trial._trial_id).intermediate_values
    assert found == dict(zip(range(1, 9), trainer.history["val_loss"], strict=True))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ArithmeticError("planned")], ids=lambda error: repr(error))
def test_what_else_ends_the_training_is_not_hidden(error: BaseException) -> None:
    class Raises(gd.Callback):
        records = True

        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            if trainer.epoch == 2:
                raise error

    trial = optuna.create_study(pruner=Scripted({0: 2})).ask()
    with pytest.raises(type(error)):
        fit(trial, Raises())
    with pytest.raises(optuna.TrialPruned, match="after epoch 2"):  # a caller that handles another exception
        try:
            raise ValueError
        except ValueError:
            fit(optuna.create_study(pruner=Scripted({0: 2})).ask())


@pytest.mark.parametrize(
    ("direction", "monitor"), [("maximize", "val_loss"), ("minimize", "val_r2"), ("maximize", "lr")]
)
def test_the_direction_is_that_of_the_study(direction: str, monitor: str) -> None:
    trial, trainer = optuna.create_study(direction=direction).ask(), build()
    if monitor == "lr":  # nobody knows which direction is better
        assert fit(trial, trainer=trainer, monitor=monitor).epochs == 4
        return
    words = f"^monitor: the best '{monitor}' is the .*, but the study is to {direction}; expected .*imize'"
    helpers.refuses(lambda: fit(trial, trainer=trainer, monitor=monitor), ValueError, words)
    assert trainer.epoch == 0


def test_calls_that_do_not_fit_are_refused() -> None:
    several = optuna.create_study(directions=["minimize", "minimize"]).ask()
    helpers.refuses(lambda: fit(several), ValueError, "^trial: got a study of 2 objectives; expected one")
    trial = optuna.create_study().ask()
    for wrong in (None, "trial", optuna.Trial):
        helpers.refuses(lambda wrong=wrong: gd.OptunaPruning(wrong), TypeError, "^trial: got .*expected the trial")
    helpers.refuses(lambda: gd.OptunaPruning(trial, 3), TypeError, "^monitor: got 3")
    helpers.refuses(lambda: fit(trial, monitor="val_acc"), ValueError, "'val_acc', which is not measured")
    pruning = gd.OptunaPruning(trial)
    helpers.refuses(lambda: build().fit(X, Y, epochs=1, callbacks=[pruning]), ValueError, "^validation: needed by Opt")
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        helpers.refuses(lambda copied=copied: copied(pruning), TypeError, "one training; make one for each trial")

    def model(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 1), seed=seed)

    many: dict[str, Any] = {"loss": gd.MeanSquaredError(), "optimizer": gd.SGD(0.1), "validation": (X, Y)}
    words = "^callbacks: cannot be copied for every start .*belongs to one training"
    helpers.refuses(lambda: gd.restarts(model, 2, X, Y, **many, epochs=1, callbacks=[pruning]), TypeError, words)


def test_a_trial_with_fixed_parameters_never_prunes() -> None:
    assert fit(optuna.trial.FixedTrial({"rate": 0.1})).epochs == 4
