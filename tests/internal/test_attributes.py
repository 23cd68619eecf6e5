"""Promise: on an object of any public class, every attribute that can be set takes effect, shown by a probe here. All
others, unknown names included, raise AttributeError and leave the object unchanged."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis, experiments
from gdcore.internal.attributes import settable

RNG = np.random.default_rng(5)
X = RNG.standard_normal((40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def build(optimizer: gd.Optimizer | None = None, **options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 2), seed=0)
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=optimizer or gd.SGD(0.1), **options)


def weights(trainer: gd.Trainer) -> bytes:
    return b"".join(np.asarray(array).tobytes() for array in trainer.model.parameters().values())


def trained(change: Callable[[gd.Trainer], None], callbacks: Any = ()) -> bytes:
    """The weights after an epoch and one more step, for a trainer changed by `change`."""
    trainer = build(gd.Adam(0.1, weight_decay=0.1))
    change(trainer)
    trainer.fit(X, Y, epochs=1, batch_size=8, callbacks=callbacks)
    return weights(trainer)


class Losses(gd.Callback):
    """Writes a column that gets slightly worse in each epoch."""

    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
        logs["worse"] = 1.0 - 0.01 * trainer.epoch


def epochs_with(change: Callable[[gd.EarlyStopping], None]) -> int:
    stopping = gd.EarlyStopping("worse", 3, mode="max")
    change(stopping)
    trainer = build()
    trainer.fit(X, Y, epochs=9, callbacks=[Losses(), stopping])
    return trainer.epoch


def rate_with(name: str, value: float) -> float:
    plateau = gd.ReduceOnPlateau("worse", 0.5, patience=2, mode="max")
    setattr(plateau, name, value)
    trainer = build()
    trainer.fit(X, Y, epochs=5, callbacks=[Losses(), plateau])
    return trainer.lr


class Saves(gd.Trainer):
    """Counts its checkpoints."""

    def save_checkpoint(self, path: Any) -> None:
        self.saved = getattr(self, "saved", 0) + 1


def saves_with(tmp_path: Path, name: str, value: float | None) -> int:
    checkpoint = gd.Checkpoint(tmp_path / "c.safetensors", every=100, seconds=1e6)
    setattr(checkpoint, name, value)
    trainer = Saves(build().model, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    trainer.fit(X, Y, epochs=4, callbacks=[checkpoint])
    return trainer.saved


def stops_in_fit() -> bool:
    class Stop:
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            trainer.stop = True

    trainer = build()
    trainer.fit(X, Y, epochs=5, callbacks=[Stop()])
    return trainer.epoch == 1


def step_takes_nan(check: bool) -> bool:
    trainer = build()
    trainer.check_finite = check
    try:
        trainer.step(np.full((2, 3), np.nan, np.float32), Y[:2])
    except gd.DivergenceError:
        return True
    except ValueError:
        return False
    raise AssertionError("nan was trained on")


def batches_with(name: str, value: Any) -> list[bytes]:
    batches = gd.MiniBatches(X[:35], batch_size=8, seed=1)
    setattr(batches, name, value)
    return [batch.tobytes() for batch in batches]


def kept(value: bool) -> bool:
    stopping = gd.EarlyStopping("worse", 1, mode="max")
    stopping.restore_best = value
    build().fit(X, Y, epochs=1, callbacks=[Losses(), stopping])
    return "parameters" in stopping.state_dict()


def best_with(ties: str) -> int:
    stopping = gd.EarlyStopping()
    stopping.ties = ties
    assert not any(stopping.update(value, build().model) for value in (2.0, 1.0, 1.0))
    return stopping.best_epoch


def averaged_with(keep: bool) -> bytes:
    average = gd.WeightAverage(0.5, keep=not keep)
    average.keep = keep
    return trained(lambda t: None, [average])


def points_with(every: int) -> list[int]:
    recorder = analysis.PathRecorder()
    recorder.every = every
    build().fit(X, Y, epochs=4, callbacks=[recorder])
    return recorder.epochs


def named(classes: Any) -> Any:
    model = build().model
    model.classes = classes
    return model.predict_classes(X).tolist()


def meant(outputs: str) -> float:
    model = gd.Sequential(gd.Dense(3, 2), seed=0)
    model.outputs = outputs
    return float(model.predict_proba(X).sum())


def finds_columns(attribute: str) -> bool:
    pandas = pytest.importorskip("pandas")
    trainer = gd.Trainer(gd.Sequential(gd.Dense(3, 3), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    setattr(trainer.model, attribute, ["a", "b", "c"])
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])[["c", "a", "b"]]
    given = (frame, X) if attribute == "feature_names" else (X, frame)
    return trainer.evaluate(*given) == trainer.evaluate(X, X)


# For each attribute that can be set: a probe that shows its effect.
PROBES: dict[tuple[str, str], Callable[[Path], bool]] = {
    ("Trainer", "check_finite"): lambda p: step_takes_nan(False) and not step_takes_nan(True),
    ("Trainer", "lr_scale"): lambda p: trained(lambda t: setattr(t, "lr_scale", 0.5)) != trained(lambda t: None),
    ("Trainer", "decay_scale"): lambda p: trained(lambda t: setattr(t, "decay_scale", 0)) != trained(lambda t: None),
    ("Trainer", "seed"): lambda p: trained(lambda t: setattr(t, "seed", 7)) != trained(lambda t: None),
    ("Trainer", "steps"): lambda p: trained(lambda t: setattr(t, "steps", 7)) != trained(lambda t: None),
    ("Trainer", "stop"): lambda p: stops_in_fit(),
    ("Sequential", "classes"): lambda p: set(named(["a", "b"])) <= {"a", "b"} and set(named(None)) <= {0, 1},
    ("Sequential", "outputs"): lambda p: meant("classes") != meant("yes_no"),
    ("Sequential", "feature_names"): lambda p: finds_columns("feature_names"),
    ("Sequential", "target_names"): lambda p: finds_columns("target_names"),
    ("EarlyStopping", "patience"): lambda p: epochs_with(lambda s: setattr(s, "patience", 5)) == 6,
    ("EarlyStopping", "min_delta"): lambda p: epochs_with(lambda s: setattr(s, "min_delta", 10.0)) == 4,
    ("EarlyStopping", "restore_best"): lambda p: kept(True) and not kept(False),
    ("EarlyStopping", "ties"): lambda p: (best_with("first"), best_with("last")) == (2, 3),
    ("WeightAverage", "keep"): lambda p: averaged_with(True) != averaged_with(False),
    ("ReduceOnPlateau", "factor"): lambda p: rate_with("factor", 0.1) < rate_with("factor", 0.9),
    ("ReduceOnPlateau", "patience"): lambda p: rate_with("patience", 9) == 0.1 > rate_with("patience", 1),
    ("ReduceOnPlateau", "min_delta"): lambda p: rate_with("min_delta", 0.5) < 0.1,
    ("ReduceOnPlateau", "min_lr"): lambda p: rate_with("min_lr", 0.09) == pytest.approx(0.09),
    ("Checkpoint", "every"): lambda p: saves_with(p, "every", 1) > saves_with(p, "every", None),
    ("Checkpoint", "seconds"): lambda p: saves_with(p, "seconds", 1e-9) > saves_with(p, "seconds", None),
    ("MiniBatches", "batch_size"): lambda p: len(batches_with("batch_size", 5)) == 7,
    ("MiniBatches", "seed"): lambda p: batches_with("seed", 2) != batches_with("seed", 1),
    ("MiniBatches", "shuffle"): lambda p: batches_with("shuffle", False)[0] == X[:8].tobytes(),
    ("MiniBatches", "drop_last"): lambda p: len(batches_with("drop_last", True)) == 4,
    ("MiniBatches", "epoch"): lambda p: batches_with("epoch", 3) != batches_with("epoch", 0),
    ("PathRecorder", "every"): lambda p: points_with(2) == [0, 2, 4] and points_with(3) == [0, 3, 4],
}


def metrics_take_effect(path: Path) -> bool:
    trainer = build()
    trainer.metrics = [gd.metrics.accuracy]
    return set(trainer.evaluate(X, Y)) == {"loss", "accuracy"}


PROBES["Trainer", "metrics"] = metrics_take_effect


def objective() -> analysis.Objective:
    return analysis.Objective(analysis.in_float64(build().model), gd.CrossEntropy(), X, Y)


# An object of every public class, except plain results and the classes of `make_spec`.
EXAMPLES: dict[str, Callable[[Path], Any]] = {
    "BinaryCrossEntropy": lambda p: gd.BinaryCrossEntropy([1.0, 2.0]),
    "CSVLog": lambda p: gd.CSVLog(p / "log.csv"),
    "Checkpoint": lambda p: gd.Checkpoint(p / "c.safetensors", keep_best=True),
    "CrossEntropy": lambda p: gd.CrossEntropy([1.0, 2.0]),
    "OptunaPruning": lambda p: gd.OptunaPruning(types.SimpleNamespace(report=print, should_prune=bool)),
    "TensorBoard": lambda p: gd.TensorBoard(p / "runs"),
    "Profile": lambda p: gd.profile(),
    "CustomLoss": lambda p: gd.CustomLoss(lambda outputs, targets: (outputs[:, 0], outputs), name="own"),
    "Dense": lambda p: gd.Dense(3, 2),
    "Embedding": lambda p: gd.Embedding([3], 2),
    "PiecewiseLinear": lambda p: gd.PiecewiseLinear([[0.0, 1.0]]),
    "Residual": lambda p: gd.Residual(gd.ReLU()),
    "Ensemble": lambda p: gd.Ensemble([build().model]),
    "FrozenPredictor": lambda p: build().model.predictor(),
    "MiniBatches": lambda p: gd.MiniBatches(X, Y, batch_size=8),
    "Sequential": lambda p: build().model,
    "Standardizer": lambda p: gd.Standardizer().fit(X),
    "Trainer": lambda p: build(),
    "WeightAverage": lambda p: gd.WeightAverage(),
    "Progress": lambda p: gd.Progress(file=io.StringIO()),
    "Schedule": lambda p: gd.schedules.cosine(0.1, 5),
    "LRRange": lambda p: gd.lr_range_test(build().model, gd.CrossEntropy(), X, Y, steps=3, curvature=False),
    "QuadraticModel": lambda p: analysis.QuadraticModel.from_arrays(np.eye(2)),
    "Objective": lambda p: objective(),
    "PathRecorder": lambda p: analysis.PathRecorder(),
    "thread_limit": lambda p: gd.thread_limit(2),
}
PLAIN = ("GELU", "ReLU", "Tanh", "Sigmoid", "Softplus", "Periodic", "Dropout", "HeNormal", "HeUniform", "GlorotNormal")
PLAIN += ("ELU", "Huber", "MeanAbsoluteError", "Mish", "Poisson", "SELU", "SiLU")
PLAIN += ("GlorotUniform", "MeanSquaredError", "History", "StepHistory", "Table", "EarlyStopping", "ReduceOnPlateau")
PLAIN += ("LivePlot", "MLflow", "WandB")
EXAMPLES |= {name: lambda p, name=name: getattr(gd, name)() for name in PLAIN}
ONE = {"LeakyReLU": 0.1, "BatchNorm": 3, "LayerNorm": 3, "Scale": 3, "Constant": 1.0, "Normal": 1.0, "Uniform": 1.0}
ONE["Quantile"] = 0.5
EXAMPLES |= {name: lambda p, name=name: getattr(gd, name)(ONE[name]) for name in ONE}
SAME = ("SGD", "AdaGrad", "Adam", "Momentum", "RMSProp")
EXAMPLES |= {name: lambda p, name=name: getattr(gd, name)(0.1, weight_decay=[1.0, 2.0]) for name in SAME}
NOT_MADE = {"Layer", "Loss", "Initializer", "Optimizer", "Callback", "DeviceArray"}  # base classes, and classes of GPUs


def public_classes() -> dict[str, type]:
    found = {"Schedule": gd.schedules.Schedule}
    for module in (gd, analysis, experiments):
        found |= {name: getattr(module, name) for name in module.__all__ if inspect.isclass(getattr(module, name))}
    return {name: kind for name, kind in found.items() if not issubclass(kind, BaseException)}


def public_attributes(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def test_every_class_has_an_example_or_is_a_result_that_cannot_be_changed() -> None:
    for name, kind in public_classes().items():
        if name in EXAMPLES or name in NOT_MADE or issubclass(kind, tuple):
            continue
        assert kind.__dataclass_params__.frozen, name


@pytest.mark.parametrize("name", EXAMPLES)
def test_attributes_take_effect_or_are_refused(name: str, tmp_path: Path) -> None:
    thing = EXAMPLES[name](tmp_path)
    before = repr(thing)
    named = [each for each in vars(thing) if not each.startswith("_")] if hasattr(thing, "__dict__") else []
    for attribute in {*public_attributes(type(thing)), *named}:
        if (name, attribute) in PROBES:
            continue
        with pytest.raises(AttributeError) as info:
            setattr(thing, attribute, getattr(thing, attribute, None))
        assert attribute in str(info.value)
    assert repr(thing) == before


@pytest.mark.parametrize("name", EXAMPLES)
def test_names_that_nobody_reads_are_refused(name: str, tmp_path: Path) -> None:
    thing = EXAMPLES[name](tmp_path)
    for wrong in ("optimiser", "learning_rate", "patiense", "trainable", "clases", "drop_lst"):
        if name == "Sequential" and wrong in ("optimiser", "patiense", "drop_lst"):
            continue  # a model takes the user's own attributes
        with pytest.raises(AttributeError, match=wrong):
            setattr(thing, wrong, 1)
        assert not hasattr(thing, wrong)


@pytest.mark.parametrize(("name", "attribute"), PROBES)
def test_what_can_be_set_has_an_effect(name: str, attribute: str, tmp_path: Path) -> None:
    assert PROBES[name, attribute](tmp_path)


def test_the_message_names_what_can_be_set() -> None:
    trainer = build()
    helpers.refuses(
        lambda: setattr(trainer, "optimiser", 1), AttributeError, "'optimizer' meant.*lr_scale, metrics, seed"
    )
    helpers.refuses(
        lambda: setattr(trainer, "loss", gd.MeanSquaredError()), AttributeError, "make another one: gd.Train"
    )
    helpers.refuses(lambda: setattr(gd.Adam(0.1), "lr", 1.0), AttributeError, r"^Adam\.lr cannot be set.*Adam\(lr=")
    helpers.refuses(lambda: setattr(trainer.model, "trainable", 0), AttributeError, "freeze")
    assert settable(gd.Trainer) == ["check_finite", "decay_scale", "lr_scale", "metrics", "seed", "steps", "stop"]


WRONG: dict[tuple[str, str], list[Any]] = {
    ("Trainer", "seed"): ["a", -1, 1.5],
    ("Trainer", "check_finite"): ["no", None],
    ("Trainer", "stop"): ["yes", 2],
    ("Trainer", "lr_scale"): [-1.0, float("nan"), "1", 10**400],
    ("Trainer", "steps"): [-1, "3"],
    ("Sequential", "classes"): [["a"], "ab", ["a", "a"]],
    ("Sequential", "outputs"): ["words"],
    ("EarlyStopping", "patience"): [0, 1.5, None],
    ("EarlyStopping", "min_delta"): [-1.0, "a"],
    ("EarlyStopping", "restore_best"): ["no"],
    ("ReduceOnPlateau", "factor"): [2.0, -1.0],
    ("MiniBatches", "batch_size"): [0, -1, "8"],
    ("MiniBatches", "epoch"): [-1],
    ("Checkpoint", "every"): [0, 1.5],
}


@pytest.mark.parametrize(("name", "attribute"), WRONG)
def test_values_that_do_not_fit_are_refused_and_change_nothing(name: str, attribute: str, tmp_path: Path) -> None:
    thing = EXAMPLES[name](tmp_path)
    before = getattr(thing, attribute)
    for value in WRONG[name, attribute]:
        with pytest.raises((TypeError, ValueError), match=attribute):
            setattr(thing, attribute, value)
        assert getattr(thing, attribute) == before


def test_what_is_read_cannot_be_changed_in_place() -> None:
    metrics = build(metrics=[gd.metrics.accuracy]).metrics
    for change in (
        lambda: metrics.__setitem__("a", gd.metrics.accuracy),
        lambda: metrics.clear(),
        lambda: gd.Table({"a": [1]}).__setitem__("a", [2]),
    ):
        with pytest.raises((AttributeError, TypeError)):
            change()


KEPT = {
    "class_weights": lambda given: gd.CrossEntropy(class_weights=given),
    "pos_weight": lambda given: gd.BinaryCrossEntropy(pos_weight=given),
    "weight_decay": lambda given: gd.Adam(0.1, weight_decay=given),
    "lr_factors": lambda given: gd.SGD(0.1, lr_factors=given),
    "mean": lambda given: gd.Standardizer(mean=given, std=[1.0, 1.0]),
    "std": lambda given: gd.Standardizer(mean=[1.0, 1.0], std=given),
}
CONTAINERS = {
    "list": [1.0, 2.0],
    "array": np.array([1.0, 2.0]),
    "dict": {"layers.0": 1.0, "layers.2": 2.0},
    "dict of classes": {0: 1.0, 1: 2.0},
}
TAKEN = [(name, kind) for name in KEPT for kind in CONTAINERS if "dict" not in kind]
TAKEN += [("class_weights", "dict of classes"), ("weight_decay", "dict"), ("lr_factors", "dict")]


@pytest.mark.parametrize(("name", "kind"), TAKEN)
def test_what_a_spec_keeps_cannot_be_changed_in_place(name: str, kind: str) -> None:
    """Changing the given object has no effect, changing the returned one raises: both would show unused values."""
    given = copy.deepcopy(CONTAINERS[kind])
    first = next(iter(given)) if isinstance(given, dict) else 0
    spec = KEPT[name](given)
    shown = repr(spec)
    given[first] = 9.0
    assert repr(spec) == shown
    with pytest.raises((TypeError, ValueError)):
        getattr(spec, name)[first] = 9.0
    if isinstance(given, dict):
        for change in ("clear", "popitem"):
            with pytest.raises(TypeError, match="make another one"):
                getattr(getattr(spec, name), change)()
    again = pickle.loads(pickle.dumps(copy.deepcopy(spec)))
    assert again == spec and repr(again) == shown == repr(spec)


def test_subclasses_have_attributes_of_their_own() -> None:
    class Mine(gd.Trainer):
        def __init__(self) -> None:
            super().__init__(build().model, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
            self.note = "mine"

    trainer = Mine()
    trainer.note = "still"
    assert trainer.note == "still"
    with pytest.raises(AttributeError, match="optimizer"):
        trainer.optimizer = gd.SGD(1.0)
