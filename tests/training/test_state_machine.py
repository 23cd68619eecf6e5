"""Promise: over thousands of calls in any order, with valid and with odd arguments, a refused call raises a documented
exception that names the argument and shows nothing of the binding, and it changes nothing: no parameter, optimiser
state, gradient, step count, row of the history, name, setting or file."""

from __future__ import annotations

import collections
import decimal
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

DOCUMENTED = (ValueError, TypeError, RuntimeError, gd.DeviceError, gd.FormatError, gd.DivergenceError, OSError)
BINDING = re.compile(r"incompatible function|supported:|Invoked with|pybind|Unable to cast|arg0|SupportsInt|std::")
CALLS: collections.Counter[str] = collections.Counter()

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 12)
T = RNG.standard_normal((12, 3))
pandas = pytest.importorskip("pandas")
FRAME = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
ODD = (
    *(None, True, -1, 0, 2**70, 10**400, 1.5, math.nan, math.inf, -math.inf, 1e39, 1e-50, "x", b"x", "", [], {}, ()),
    *(
        object(),
        int,
        np.float32("nan"),
        np.int8(-3),
        np.array([]),
        np.ones((2, 2, 2)),
        np.array("a"),
        1j,
        [[1], [1, 2]],
    ),
    *(
        decimal.Decimal("0.1"),
        {"a": 1},
        np.full((12, 4), np.nan),
        np.ones(12),
        np.ones((12, 9)),
        [object()],
        "nothing/x",
    ),
)
ODD_VALUES = st.sampled_from(ODD)


def probability_of_class(step: int) -> float:
    """Return a rate by step."""
    return 0.01 / (1 + step)


def makes(function: Callable[..., Any], **arguments: list[Any]) -> tuple[Callable[..., Any], dict[str, list[Any]]]:
    return function, arguments


# Constructors with valid values of each argument; the first value is always available.
COMMON = {"weight_decay": [0.0, 0.1, [0.1, 0.2]], "decay_biases": [False, True], "clip_norm": [None, 1.0]}
COMMON |= {"lr_factors": [None, {"layers.0": 0.5}], "clip_value": [None, 1, np.float32(0.5)]}
RATES = [0.01, 1, np.float32(0.1), probability_of_class, gd.schedules.cosine(0.1, 10)]
MAKERS = {
    "Dense": makes(gd.Dense, in_features=[4], out_features=[3], bias=[True, False, np.True_], init=[gd.HeNormal()]),
    "BatchNorm": makes(gd.BatchNorm, features=[4], decay=[0.9], eps=[1e-5], running=["std"], affine=[True]),
    "LayerNorm": makes(gd.LayerNorm, features=[4, np.int8(4)], eps=[1e-5], affine=[True]),
    "Dropout": makes(gd.Dropout, p=[0.5, np.float16(0.25)]),
    "LeakyReLU": makes(gd.LeakyReLU, negative_slope=[0.1]),
    "GELU": makes(gd.GELU, approximate=["none", "tanh"]),
    "Standardizer": makes(gd.Standardizer, features=[0, 4], mean=[None], std=[None]),
    "Normal": makes(gd.Normal, eps=[0.1]),
    "Constant": makes(gd.Constant, value=[0.1, -1]),
    "CrossEntropy": makes(gd.CrossEntropy, class_weights=[None, [1, 2, 3], {0: 2.0}], label_smoothing=[0.0, 0.1]),
    "BinaryCrossEntropy": makes(gd.BinaryCrossEntropy, pos_weight=[None, 2.0, [1, 2, 3]]),
    "SGD": makes(gd.SGD, lr=RATES, **COMMON),
    "Momentum": makes(gd.Momentum, lr=RATES, momentum=[0.9], nesterov=[False, True], **COMMON),
    "AdaGrad": makes(gd.AdaGrad, lr=RATES, eps=[1e-8], **COMMON),
    "RMSProp": makes(gd.RMSProp, lr=RATES, beta=[0.9], eps=[1e-8], **COMMON),
    "Adam": makes(gd.Adam, lr=RATES, betas=[(0.9, 0.99)], eps=[1e-8], decoupled=[False], **COMMON),
    "EarlyStopping": makes(gd.EarlyStopping, monitor=["val_loss"], patience=[3], min_delta=[0], mode=[None, "min"]),
    "ReduceOnPlateau": makes(gd.ReduceOnPlateau, monitor=["loss"], patience=[3], factor=[0.5]),
    "cosine": makes(gd.schedules.cosine, lr=[0.1], steps=[10], final=[0.0]),
    "cosine_restarts": makes(gd.schedules.cosine_restarts, lr=[0.1], steps=[10], factor=[2], final=[0.0]),
    "coslog4": makes(gd.schedules.coslog4, lr=[0.1], steps=[10]),
    "one_cycle": makes(gd.schedules.one_cycle, lr=[0.1], steps=[10], rise=[0.3], initial=[None], shape=["linear"]),
    "warmup": makes(gd.schedules.warmup, schedule=[0.1], steps=[10]),
    "MiniBatches": makes(gd.MiniBatches, x=[X], y=[Y], batch_size=[4], seed=[0], shuffle=[True]),
}


def faults(error: Exception, odd: str | None, own: bool) -> list[str]:
    """The fault in the error of a call whose argument `odd` (None: none) was odd, or whose `own` function raised."""
    message, kind = str(error), type(error)
    return [
        text
        for text, wrong in {
            "not documented": not isinstance(error, DOCUMENTED),
            "text of the binding": BINDING.search(message),
            "does not name the argument": odd is not None
            and not own
            and kind is not RuntimeError  # a call in the wrong order
            and "'balanced'" not in message  # refused whatever the arguments are
            and not re.search(rf"\b{odd}\b|PathLike", message)  # Python's own word for a path
            and not isinstance(error, (OSError, gd.DivergenceError)),
            "refuses what is right": odd is None
            and kind not in (RuntimeError, gd.DivergenceError)
            and "balanced" not in message,
        }.items()
        if wrong
    ]


class Storm(RuleBasedStateMachine):
    """A model, its trainer and a folder, called in any order."""

    @initialize(
        loss=st.sampled_from([gd.CrossEntropy(), gd.CrossEntropy({1: 2.0}), gd.CrossEntropy("balanced")]),
        optimizer=st.sampled_from([gd.SGD(0.1), gd.Adam(0.01), gd.Momentum(probability_of_class)]),
        norm=st.booleans(),
    )
    def build(self, loss: gd.Loss, optimizer: gd.Optimizer, norm: bool) -> None:
        middle = [gd.BatchNorm(5)] if norm else [gd.Dropout(0.25)]
        self.model = gd.Sequential(gd.Dense(4, 5), *middle, gd.ReLU(), gd.Dense(5, 3), seed=1)
        self.trainer = gd.Trainer(self.model, loss, optimizer=optimizer)
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "model.safetensors"
        self.checkpoint = self.folder / "checkpoint.safetensors"

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def state(self) -> dict[str, Any]:
        arrays = {**self.model.parameters(), **self.model.buffers(), **self.trainer.core.state()}
        gradients = {f"gradient of {name}": array for name, array in self.model.gradients().items()}
        settings_of = ("lr_scale", "seed", "steps", "check_finite", "stop")
        return {
            "arrays": {name: np.asarray(array).tobytes() for name, array in arrays.items()},
            "gradients": {name: np.asarray(array).tobytes() for name, array in gradients.items()},
            "backward": self.model._has_gradients,
            "names": (self.model.feature_names, self.model.target_names),
            "settings": {name: getattr(self.trainer, name) for name in settings_of},
            "model": (self.model.classes, self.model.outputs, self.model.frozen(), self.model.seed),
            "history": repr(dict(self.trainer.history)),
            "files": {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())},
            "threads": gd.get_num_threads(),
        }

    def attempt(
        self,
        data: st.DataObject,
        call: str,
        function: Callable[..., Any],
        right: dict[str, list[Any]],
        *,
        refused: str = "nothing",
    ) -> Any:
        """Call with right arguments, or with one odd one; look at what a refusal says and leaves.

        `refused` is what may be said of right ones.
        """
        arguments = {
            name: data.draw(st.sampled_from(values)) if values[1:] else values[0] for name, values in right.items()
        }
        odd = data.draw(st.sampled_from([None, *right, *right])) if right else None
        if odd is not None:
            arguments[odd] = data.draw(ODD_VALUES)
        before = self.state()
        CALLS["all"] += 1
        try:
            return function(**arguments)
        except Exception as error:
            CALLS["refused"] += 1
            after = self.state()
            if isinstance(error, gd.DivergenceError):  # that step has run the backward pass
                before |= {name: after[name] for name in ("gradients", "backward")}
            unchanged = after == before or (isinstance(error, gd.DivergenceError) and call in ("fit", "resume"))
            own = odd is not None and callable(arguments[odd])  # an error may be that function's own
            wrong = [] if re.search(refused, str(error)) else faults(error, odd, own)
            wrong += [] if unchanged else ["something has changed"]
            assert not wrong, f"{call}({arguments}) raised {type(error).__name__}: {error}: {wrong}"
        return None

    @rule(data=st.data(), name=st.sampled_from(sorted(MAKERS)))
    def make(self, data: st.DataObject, name: str) -> None:
        self.attempt(data, name, *MAKERS[name])

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.attempt(data, "step", self.trainer.step, {"x": [X, FRAME], "y": [Y], "sample_weight": [None, np.ones(12)]})

    @rule(data=st.data())
    def fit(self, data: st.DataObject) -> None:
        callbacks = [[], [gd.EarlyStopping("loss")], [gd.ReduceOnPlateau("loss")], *self.recorders()]
        right = {
            "x": [X, FRAME],
            "y": [Y],
            "epochs": [1, 2, np.int64(1)],
            "batch_size": [4, 9, None],
            "callbacks": callbacks,
        }
        right |= {"validation": [None, (X, Y), 0.25], "sample_weight": [None, np.ones(12)], "shuffle": [True, False]}
        self.attempt(data, "fit", self.trainer.fit, right | {"measure_training": [False, True], "resume": [None]})

    def recorders(self) -> list[list[Any]]:
        """Callbacks that write files, or cannot, and then refuse before anything is changed."""
        return [[gd.Checkpoint(self.checkpoint)], [gd.CSVLog(self.folder / "log.csv")]]

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """Go on from a file, whose run may have had other settings; with callbacks that refuse, too."""
        nowhere = self.folder / "nowhere" / "file"
        callbacks = [[], *self.recorders(), [gd.Checkpoint(nowhere)], [gd.CSVLog(nowhere)]]
        right = {"x": [X, FRAME], "y": [Y], "until_epoch": [self.trainer.epoch + 3], "batch_size": [4]}
        right |= {"callbacks": callbacks, "path": [self.checkpoint]}

        def go_on(path: Any, **arguments: Any) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a run that was stopped stays so
                self.trainer.fit(resume=inside(self.folder, path), **arguments)

        # "resume" names the file; without one, `None`, it is a plain fit.
        said = r"other settings|training\.settings|there is no folder|resume: |at most .*batches|already"
        self.attempt_file(data, "resume", go_on, right, refused=said)

    @rule(data=st.data())
    def evaluate(self, data: st.DataObject) -> None:
        right = {"x": [X], "y": [Y], "sample_weight": [None, np.ones(12)], "batch_size": [1024, 5]}
        self.attempt(data, "evaluate", self.trainer.evaluate, right)

    @rule(data=st.data(), name=st.sampled_from(["predict", "predict_proba", "predict_classes"]))
    def predict(self, data: st.DataObject, name: str) -> None:
        self.attempt(data, name, getattr(self.model, name), {"x": [X, X.tolist(), FRAME], "batch_size": [1024, 5]})

    @rule(data=st.data())
    def forward(self, data: st.DataObject) -> None:
        self.attempt(data, "forward", self.model.forward, {"x": [X], "training": [True, False]})

    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        right = {"x": [X], "y": [Y], "fraction": [0.2, 0.5], "seed": [0, 1], "stratify": [None, False, True, Y]}
        split = gd.train_validation_split
        self.attempt(data, "train_validation_split", lambda x, y, **rest: split(x, y, **rest), right)

    @rule(data=st.data())
    def backward(self, data: st.DataObject) -> None:
        self.attempt(data, "backward", self.model.backward, {"dout": [T, T.astype(np.float32)]})

    @rule(data=st.data())
    def optimizer_step(self, data: st.DataObject) -> None:
        self.attempt(data, "optimizer_step", self.trainer.optimizer_step, {})

    @rule(data=st.data())
    def save(self, data: st.DataObject) -> None:
        path = [self.path, str(self.path)]
        self.attempt(data, "save", lambda path: self.model.save(inside(self.folder, path)), {"path": path})

    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        right = {"path": [self.path, self.checkpoint], "device": ["cpu"], "precision": ["float32"]}
        self.attempt_file(data, "load", lambda path, **rest: gd.load(inside(self.folder, path), **rest), right)

    @rule(data=st.data())
    def load_parameters(self, data: st.DataObject) -> None:
        own = {name: np.array(array) for name, array in {**self.model.parameters(), **self.model.buffers()}.items()}
        right = {"source": [own], "prefix": [""], "rename": [None], "only": [None], "strict": [True, False]}
        self.attempt(data, "load_parameters", self.model.load_parameters, right)

    @rule(data=st.data())
    def save_checkpoint(self, data: st.DataObject) -> None:
        write = lambda path: self.trainer.save_checkpoint(inside(self.folder, path))  # noqa: E731
        self.attempt(data, "save_checkpoint", write, {"path": [self.checkpoint]})

    @rule(data=st.data())
    def load_checkpoint(self, data: st.DataObject) -> None:
        read = lambda path: self.trainer.load_checkpoint(inside(self.folder, path))  # noqa: E731
        self.attempt_file(data, "load_checkpoint", read, {"path": [self.checkpoint]})

    def attempt_file(
        self, data: st.DataObject, call: str, function: Callable[..., Any], right: dict[str, Any], **options: Any
    ) -> None:
        right["path"] = [path for path in right["path"] if path.exists()]
        if right["path"]:
            self.attempt(data, call, function, right, **options)

    @rule(data=st.data(), name=st.sampled_from(["freeze", "unfreeze"]))
    def freeze(self, data: st.DataObject, name: str) -> None:
        change = getattr(self.model, name)
        self.attempt(data, name, lambda prefixes: change(prefixes), {"prefixes": ["layers.0", "layers.3.bias"]})

    @rule(data=st.data())
    def copy_state(self, data: st.DataObject) -> None:
        self.attempt(data, "restore_state", self.model.restore_state, {"state": [self.model.copy_state()]})

    @rule(data=st.data(), name=st.sampled_from(["lr_scale", "seed", "steps", "check_finite", "stop"]))
    def set_attribute(self, data: st.DataObject, name: str) -> None:
        right = {"lr_scale": [1.0, 0.5], "seed": [0, 3], "steps": [0, 7], "check_finite": [True], "stop": [False]}
        change = lambda **value: setattr(self.trainer, name, value[name])  # noqa: E731
        self.attempt(data, name, change, {name: right[name]})

    @rule(data=st.data())
    def threads(self, data: st.DataObject) -> None:
        before = gd.get_num_threads()
        self.attempt(data, "set_num_threads", gd.set_num_threads, {"threads": [1, 2, np.int64(2)]})
        gd.set_num_threads(before)

    @rule(data=st.data())
    def another(self, data: st.DataObject) -> None:
        layers = (gd.Dense(4, 3),)
        right = {
            "dtype": ["float32", np.float64],
            "device": ["cpu"],
            "seed": [None, 0],
            "classes": [None, ["a", "b", "c"]],
        }
        build = lambda **options: gd.Sequential(*layers, **options)  # noqa: E731
        self.attempt(data, "Sequential", build, right | {"precision": ["float32"]})

    @rule(data=st.data())
    def another_trainer(self, data: st.DataObject) -> None:
        right = {"model": [self.model], "loss": [gd.CrossEntropy()], "optimizer": [gd.SGD(0.1)], "metrics": [()]}
        self.attempt(data, "Trainer", gd.Trainer, right | {"seed": [None, 3], "check_finite": [True]})


def inside(folder: Path, path: object) -> Any:
    """Move a relative path into the folder, so that odd names leave no files elsewhere."""
    path = path.decode() if isinstance(path, bytes) else path
    return folder / path if isinstance(path, str) and path and not Path(path).is_absolute() else path


def test_storm(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    # Constants of the loaded modules would make the calls differ from run to run.
    constants = getattr(providers, "Constants", None)
    if constants is not None:
        monkeypatch.setattr(providers, "_get_local_constants", constants)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    options = settings(
        max_examples=100,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        suppress_health_check=checks,
        phases=[Phase.generate],  # a failure names its call; to shrink it takes minutes
    )
    run_state_machine_as_test(Storm, settings=options)
    assert CALLS["all"] >= 2000 and CALLS["refused"] >= 500, CALLS
