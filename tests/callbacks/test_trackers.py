"""Promise: TensorBoard, MLflow and Weights & Biases get every column of every epoch, the run's parameters and its end,
as read back by their own formats; later fits and resumed trainings continue the run, others begin one."""

from __future__ import annotations

import copy
import importlib
import math
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from tracker_cases import CASES, Case, isolate

RNG = np.random.default_rng(8)
X = RNG.standard_normal((40, 3)).astype(np.float32)
Y = X.sum(1)


def build(seed: int = 0) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 1, name="head"), seed=seed)
    optimizer = gd.SGD(gd.schedules.cosine(0.05, 20))
    return gd.Trainer(model, gd.MeanSquaredError(), optimizer=optimizer, metrics=["mae"])


def fit(trainer: gd.Trainer, *callbacks: Any, epochs: int = 2, **options: Any) -> gd.History:
    options = {"batch_size": 8, "validation": (X, Y), **options}
    return trainer.fit(X, Y, epochs=epochs, callbacks=callbacks, **options)


class Adds(gd.Callback):
    """Adds a column, and raises at the end of an epoch."""

    def __init__(self, error: BaseException | None = None, at: int = 2) -> None:
        self.error, self.at = error, at

    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
        logs["own"] = trainer.epoch / 4
        if self.error is not None and trainer.epoch == self.at:
            raise self.error


@pytest.fixture(scope="module", autouse=True)
def servers() -> Iterator[None]:
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # ends its process


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    isolate(tmp_path, monkeypatch)
    found = CASES[request.param]
    importlib.import_module(found.module) if found.module in sys.modules else pytest.importorskip(found.module)
    if found.module == "mlflow":
        importlib.import_module("mlflow").set_tracking_uri((tmp_path / "mlruns").as_uri())
    return found


def same(curve: dict[int, float], column: list[float]) -> bool:
    """Whether a curve is a column of the history; TensorBoard keeps float32."""
    return list(curve) == list(range(1, len(column) + 1)) and np.allclose(list(curve.values()), column, 1e-6, 0)


def holds(run: Any, history: gd.History) -> None:
    assert run.curves.keys() == history.keys() - {"epoch"}
    for name, curve in run.curves.items():
        assert same(curve, history[name]), (name, curve, history[name])


def test_all_columns_and_parameters(case: Case, tmp_path: Path) -> None:
    trainer = build(seed=3)
    tracker = case.make(tmp_path, parameters={"note": "mine", "width": 4})
    history = fit(trainer, tracker, Adds(), epochs=3)
    (run,) = case.runs(tmp_path)
    holds(run, history)
    assert {"loss", "val_loss", "val_mae", "lr", "seconds", "own"} == run.curves.keys() and run.end == "good"
    assert len(set(run.curves["lr"].values())) == 3
    told = run.parameters
    assert told["optimizer"].startswith("SGD(lr=cosine(lr=0.05") and told["loss"] == "MeanSquaredError()"
    assert told["layers"] == "Dense(3, 4), Tanh(), Dense(4, 1) head" and told["device"] == "cpu"
    expected = {"seed": 3, "model_seed": 3, "parameters": 21, "batch_size": 8, "rows": 40, "validation": 40}
    expected |= {"until_epoch": 3, "width": 4}
    assert {name: float(told[name]) for name in expected} == expected
    assert told["note"] == "mine" and told["dtype"] == "float32" and float(told["initial_lr"]) == 0.05


def test_later_fits_continue_the_run_and_other_trainers_begin_one(case: Case, tmp_path: Path) -> None:
    trainer, tracker = build(), case.make(tmp_path)
    for epochs in (2, 1, 2):
        history = fit(trainer, tracker, epochs=epochs)
    (run,) = case.runs(tmp_path)
    holds(run, history)
    assert history.epochs == 5
    other = fit(build(seed=1), tracker, Adds())
    first, *later = case.runs(tmp_path)
    if case.extra == "tensorboard":  # one folder holds one run
        assert not later
        holds(first, other)
    else:
        holds(first, history)
        holds(*later, other)


def test_a_run_that_begins_late_has_the_earlier_epochs(case: Case, tmp_path: Path) -> None:
    trainer = build()
    fit(trainer, epochs=3)
    history = fit(trainer, case.make(tmp_path), epochs=1)
    (run,) = case.runs(tmp_path)
    holds(run, history)
    assert history.epochs == 4


def test_a_resumed_training_continues_its_run(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(OSError, match="crash"):
        fit(build(), Adds(OSError("crash"), at=4), case.make(tmp_path), gd.Checkpoint(path, every=2), epochs=6)
    (run,) = case.runs(tmp_path)
    assert list(run.curves["loss"]) == [1, 2, 3] and run.end == "bad"
    trainer = build()
    fit(trainer, Adds(), case.make(tmp_path), gd.Checkpoint(path, every=2), epochs=4, resume=path)
    (run,) = case.runs(tmp_path)
    holds(run, trainer.history)
    assert trainer.epoch == 6 and run.end == "good"


ENDS: dict[str, tuple[BaseException, str]] = {
    "error": (ArithmeticError("planned"), "bad"),
    "Ctrl-C": (KeyboardInterrupt(), "stopped"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_run_that_does_not_end_well_says_so(case: Case, how: str, tmp_path: Path) -> None:
    error, end = ENDS[how]
    trainer, tracker = build(), case.make(tmp_path)
    with pytest.raises(type(error)):
        fit(trainer, tracker, Adds(error), epochs=4)
    (run,) = case.runs(tmp_path)
    assert run.end == ("bad" if case.extra == "tensorboard" else end)
    assert list(run.curves["loss"]) == [1]
    history = fit(trainer, tracker, epochs=1)  # goes on with it
    (run,) = case.runs(tmp_path)
    assert run.end == "good" and list(run.curves["loss"]) == [1, 2, 3] == history["epoch"]


def test_a_row_that_cannot_be_written_ends_the_training_and_is_written_later(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, tracker = build(), case.make(tmp_path)
    write = type(tracker)._write

    def fails(self: Any, epoch: int, row: dict[str, float]) -> None:
        if epoch == 2:
            raise ConnectionError("no server")
        write(self, epoch, row)

    with monkeypatch.context() as patch:
        patch.setattr(type(tracker), "_write", fails)
        with pytest.raises(ConnectionError, match="no server"):
            fit(trainer, tracker, epochs=3)
    (run,) = case.runs(tmp_path)
    assert trainer.epoch == 2 and run.end == "bad" and list(run.curves["loss"]) == [1]
    history = fit(trainer, tracker, epochs=1)
    (run,) = case.runs(tmp_path)
    holds(run, history)
    assert history.epochs == 3 and run.end == "good"


def test_a_training_that_follows_an_error_of_the_caller_ends_well(case: Case, tmp_path: Path) -> None:
    try:
        raise ValueError("before")
    except ValueError:
        fit(build(), case.make(tmp_path))
    assert [run.end for run in case.runs(tmp_path)] == ["good"]


def test_ctrl_c_before_the_first_epoch_is_done(case: Case, tmp_path: Path) -> None:
    class Stops:
        def on_step(self, trainer: gd.Trainer) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build(), case.make(tmp_path), Stops())
    (run,) = case.runs(tmp_path)
    assert not run.curves and run.end != "good" and run.parameters["rows"] == "40"


@pytest.mark.parametrize("within", ["threads", "processes"])
def test_starts_at_the_same_time_write_a_run_each(case: Case, within: str, tmp_path: Path) -> None:
    if within == "processes":
        pytest.importorskip("joblib")
    folder = str(tmp_path / "runs")

    def model(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 2), gd.Tanh(), gd.Dense(2, 1), seed=seed)

    def own_folder(seed: int) -> list[Any]:
        return [gd.TensorBoard(f"{folder}/{seed}")]

    many: dict[str, Any] = {"validation": (X, Y), "loss": gd.MeanSquaredError(), "optimizer": gd.SGD(0.05)}
    many |= {"epochs": 2, "n_jobs": 2, "within": within, "progress": False}
    one = case.make(tmp_path)
    if case.extra == "tensorboard":
        helpers.refuses(lambda: gd.restarts(model, 3, X, Y, **many, callbacks=[one]), ValueError, "one file for all")
    else:
        fit(build(), one, epochs=1)  # a copy of what has written a run begins another one
    callbacks = own_folder if case.extra == "tensorboard" else [one]
    found = gd.restarts(model, 3, X, Y, **many, callbacks=callbacks)
    runs = {run.parameters["seed"]: run for run in case.runs(tmp_path) if run.parameters["parameters"] == "11"}
    assert sorted(runs) == ["0", "1", "2"]
    for start in found.starts:
        holds(runs[str(start.seed)], start.history)
        assert runs[str(start.seed)].end == "good"


@pytest.mark.parametrize("copied", [copy.copy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_has_the_arguments_and_writes_a_run_of_its_own(case: Case, copied: Any, tmp_path: Path) -> None:
    tracker = case.make(tmp_path, parameters={"note": "kept"})
    fit(build(seed=1), tracker)
    other = copied(tracker)
    assert other.parameters == {"note": "kept"}
    history = fit(build(), other)
    run = case.runs(tmp_path)[-1]
    assert run.parameters["note"] == "kept" and run.parameters["seed"] == "0"
    holds(run, history)


def test_a_missing_package_is_named_with_its_extra(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (case.module, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    tracker, trainer = case.make(tmp_path), build()
    words = rf'^{type(tracker).__name__} needs {case.module}: pip install "gdcore\[{case.extra}\]"$'
    helpers.refuses(lambda: fit(trainer, tracker), ImportError, words)
    assert trainer.epoch == 0


def test_values_that_are_not_finite_and_strange_names(case: Case, tmp_path: Path) -> None:
    class Strange:
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            logs["top(5)"], logs["ratio"] = 1.5, (math.nan, math.inf, -math.inf)[trainer.epoch - 1]

    fit(build(), Strange(), case.make(tmp_path), epochs=3)
    curves = case.runs(tmp_path)[0].curves
    assert next(curves[name] for name in curves if name.startswith("top")) == {1: 1.5, 2: 1.5, 3: 1.5}
    assert math.isnan(curves["ratio"][1]) and list(curves["ratio"].values())[1:] == [math.inf, -math.inf]


def test_an_iterable_of_batches_and_no_validation(case: Case, tmp_path: Path) -> None:
    trainer = build()
    batches = [(X[:8], Y[:8]), (X[8:], Y[8:])]
    trainer.fit(batches, epochs=2, callbacks=[case.make(tmp_path)])
    (run,) = case.runs(tmp_path)
    holds(run, trainer.history)
    assert "val_loss" not in run.curves


@pytest.mark.parametrize("wrong", ["lr", [1], {1: 2}])
def test_parameters_are_a_dict(case: Case, wrong: Any, tmp_path: Path) -> None:
    helpers.refuses(lambda: case.make(tmp_path, parameters=wrong), TypeError, "^parameters: got .*expected a dict")


def test_a_damaged_state_is_refused(case: Case, tmp_path: Path) -> None:
    tracker = case.make(tmp_path)
    if case.extra != "tensorboard":
        for state in ({"run": 1, "row": {"epoch": 1}}, {"run": "a", "row": {}}, {"run": "a"}, {"run": "a", "row": []}):
            with pytest.raises(gd.FormatError):
                tracker.load_state_dict(state)


# ---- What only one of them has --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["TensorBoard"], indirect=True)
def test_tensorboard_by_the_writer_of_torch(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    trainer, tracker = build(), case.make(tmp_path)
    for _ in range(2):
        history = fit(trainer, tracker)
    (run,) = case.runs(tmp_path)
    holds(run, history)
    assert run.parameters["rows"] == "40" and run.end == "good"


@pytest.mark.parametrize("case", ["TensorBoard"], indirect=True)
def test_tensorboard_needs_no_torch(case: Case, tmp_path: Path) -> None:
    code = f"""
import sys; sys.modules["torch"] = None
import gdcore as gd, numpy as np
trainer = gd.Trainer(gd.Sequential(gd.Dense(2, 1)), gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
trainer.fit(np.eye(2), np.ones(2), epochs=1, callbacks=[gd.TensorBoard({str(tmp_path / "runs/one")!r})])
"""
    helpers.must_run(code)
    assert list(case.runs(tmp_path)[0].curves["loss"]) == [1]
    file = tmp_path / "file"
    file.touch()
    helpers.refuses(lambda: fit(build(), gd.TensorBoard(file)), NotADirectoryError, "is a file; expected a folder")


@pytest.mark.parametrize("case", ["MLflow"], indirect=True)
def test_mlflow_writes_to_the_active_run_and_leaves_it_open(case: Case, tmp_path: Path) -> None:
    mlflow = importlib.import_module("mlflow")
    trainer = build()
    with mlflow.start_run() as active:
        mlflow.log_param("rows", "my own")
        history = fit(trainer, gd.MLflow())
        assert mlflow.MlflowClient().get_run(active.info.run_id).info.status == "RUNNING"
        inner = fit(build(seed=1), gd.MLflow(name="inner"))
    outer, nested = case.runs(tmp_path)
    holds(outer, history)
    holds(nested, inner)
    assert outer.parameters["rows"] == "my own" and outer.end == nested.end == "good"
    found = mlflow.MlflowClient().search_runs(["0"], "tags.`mlflow.runName` = 'inner'")
    assert found[0].data.tags["mlflow.parentRunId"] == active.info.run_id


@pytest.mark.parametrize("case", ["MLflow"], indirect=True)
def test_mlflow_makes_the_experiment_once(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        fit(build(), gd.MLflow("tables", name=name))
    client = importlib.import_module("mlflow").MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("tables").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["first", "second"]
    many: dict[str, Any] = {"validation": (X, Y), "loss": gd.MeanSquaredError(), "optimizer": gd.SGD(0.05)}
    many |= {"epochs": 1, "n_jobs": 4, "progress": False, "callbacks": [gd.MLflow("at once")]}
    gd.restarts(lambda seed: build(seed).model, 8, X, Y, **many)
    experiments = [each.experiment_id for each in client.search_experiments() if each.name == "at once"]
    assert len(experiments) == 1 and len(client.search_runs(experiments)) == 8
    tracker = gd.MLflow()
    for variable in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):  # the number is of mlflow.set_experiment
        other = client.create_experiment(variable)
        monkeypatch.setenv(variable, variable if variable.endswith("NAME") else other)
        for each in (gd.MLflow(), pickle.loads(pickle.dumps(tracker))):
            fit(build(), each)
        assert len(client.search_runs([other])) == 2


@pytest.mark.parametrize("case", ["WandB"], indirect=True)
def test_wandb_writes_to_the_run_of_wandb_init_and_leaves_it_open(case: Case, tmp_path: Path) -> None:
    wandb = importlib.import_module("wandb")
    run = wandb.init(dir=str(tmp_path), config={"rows": "my own"})
    trainer, tracker = build(), gd.WandB()
    for _ in range(2):
        history = fit(trainer, tracker)
        assert wandb.run is run
    run.finish()
    (outer,) = case.runs(tmp_path)
    holds(outer, history)
    assert outer.parameters["rows"] == "my own" and outer.end == "good"


@pytest.mark.parametrize("case", ["WandB"], indirect=True)
def test_arguments_of_wandb_init_are_passed_on(case: Case, tmp_path: Path) -> None:
    fit(build(), gd.WandB("project", name="named", group="grouped", tags=["a"], mode="disabled"))
    assert not case.runs(tmp_path)  # "disabled" writes nothing
    for name in ("config", "reinit", "resume"):
        helpers.refuses(lambda name=name: gd.WandB(**{name: {}}), TypeError, rf"\[WandB\] {name}: .* expected ")
    with pytest.raises(TypeError, match="nonsense"):
        fit(build(), gd.WandB(nonsense=1))
