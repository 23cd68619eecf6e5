"""Promise: the error of a call with wrong arguments says which one is missing, unknown or of the wrong kind, for every
export of `gdcore._core` and without pybind11's list of signatures; `inspect.signature` works for each of them."""

from __future__ import annotations

import decimal
import fractions
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import _core
from gdcore.internal.argument_names import ADVICE, NAMES, hint

BINDING = re.compile(
    r"incompatible|supported:|Invoked with|pybind|Unable to cast|arg0|SupportsInt|C\+\+", re.IGNORECASE
)
CLASSES = {name: cls for name, cls in vars(_core).items() if isinstance(cls, type) and not issubclass(cls, Exception)}
BASES = [name for name, cls in CLASSES.items() if cls in (_core.Layer, _core.Loss, _core.Optimizer, _core.Initializer)]
MADE_BY_USERS = [name for name in CLASSES if name not in (*BASES, "DeviceArray") and name[0] != "_"]
FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in (_core, _core.ops)
    for name, function in vars(module).items()
    if callable(function) and not isinstance(function, type) and not name.startswith("_")
}


def methods() -> Iterator[tuple[str, Any]]:
    """Every method, getter and setter, with its class's name."""
    for name, cls in CLASSES.items():
        for member, value in vars(cls).items():
            if isinstance(value, property):
                yield from ((f"{name}.{member}", part) for part in (value.fget, value.fset) if part is not None)
            elif callable(value) and not isinstance(value, type) and not member.startswith("_pybind11"):
                yield f"{name}.{member}", value


METHODS = [(name, method) for name, method in methods() if not name.endswith("__signature__")]


def refused(call: Callable[[], object], kind: type[Exception] | tuple[type[Exception], ...] = TypeError) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert not BINDING.search(message), message
    return message


@pytest.mark.parametrize("name", MADE_BY_USERS)
def test_constructors_have_signatures_and_refuse_what_is_not_in_them(name: str) -> None:
    cls = CLASSES[name]
    parameters = inspect.signature(cls).parameters
    assert "self" not in parameters and all(p.annotation is not inspect.Parameter.empty for p in parameters.values())
    needed = [p.name for p in parameters.values() if p.default is inspect.Parameter.empty]
    if needed:
        message = refused(lambda: cls())
        assert all(argument in message for argument in needed) and "missing" in message
    assert "quux" in refused(lambda: cls(quux=1))
    assert "by position" in refused(lambda: cls(*range(20)))


@pytest.mark.parametrize("name", MADE_BY_USERS)
def test_every_argument_is_named_where_it_is_of_the_wrong_kind(name: str) -> None:
    cls = CLASSES[name]
    parameters = inspect.signature(cls).parameters
    right = {"lr": 0.1, "features": 3, "in_features": 3, "out_features": 3, "eps": 0.5, "value": 0.5, "levels": 0.5}
    model = gd.Sequential(gd.Dense(3, 2), seed=0)
    loss = gd.MeanSquaredError()
    x, y = np.ones((4, 3)), np.ones((4, 2))
    right |= {"layers": [gd.Dense(3, 3)], "seed": 0, "network": model, "loss": loss, "optimizer": gd.SGD(0.1)}
    right |= {"x": x, "y": y, "weights": None, "training": False, "dataset": _core.Dataset(x, y, None, loss, model)}
    right |= {"sizes": [3], "dim": 2}
    right |= {"rows": gd.CustomLoss(lambda outputs, targets: (outputs[:, 0], outputs))._rows, "labels": False}
    needed = {p.name: right[p.name] for p in parameters.values() if p.default is inspect.Parameter.empty}
    cls(**needed)
    for parameter in parameters:
        message = refused(lambda p=parameter: cls(**{**needed, p: object()}))
        assert parameter.removeprefix("sample_") in message.replace("sample_weight", "weights"), message


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    function = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    assert "quux" in refused(lambda: function(quux=1))
    if parameters:
        assert next(iter(parameters)) in refused(lambda: function())
        kind = (TypeError, ValueError)
        for parameter in parameters:
            refused(lambda p=parameter: function(**(dict.fromkeys(parameters) | {p: object()})), kind)
    refused(lambda: function(*range(20)))


@pytest.mark.parametrize(("name", "method"), METHODS, ids=[name for name, _ in METHODS])
def test_methods_with_a_wrong_self(name: str, method: Any) -> None:
    if name.split(".")[1] in ("__signature__", "__doc__", "__module__"):
        return
    refused(lambda: method(3))
    refused(lambda: method())


@pytest.mark.parametrize(("name", "method"), METHODS, ids=[name for name, _ in METHODS])
def test_methods_have_signatures(name: str, method: Any) -> None:
    if name.split(".")[1].startswith("_") or not hasattr(method, "__text_signature__") or not method.__text_signature__:
        return
    assert next(iter(inspect.signature(method).parameters)) == "self"


@pytest.mark.parametrize("name", [*BASES, "DeviceArray"])
def test_base_classes_say_what_to_take_instead(name: str) -> None:
    message = refused(CLASSES[name])
    assert name in message and (name == "DeviceArray" or "expected one of" in message)


def built() -> tuple[gd.Sequential, gd.Trainer, Any, Any]:
    model = gd.Sequential(gd.Dense(3, 2), seed=0)
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    return model, gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1)), x, y


CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: gd.Adam(), r"\[Adam\] lr is missing"),
    (lambda: gd.Dense(16), r"\[Dense\] out_features is missing"),
    (lambda: gd.Dropout("0.5"), r"\[Dropout\] p: got str '0.5'; expected a number"),
    (lambda: gd.Dropout(True), r"\[Dropout\] p: got bool True; expected a number"),
    (lambda: gd.Dense(4, 4, bias="x"), r"\[Dense\] bias: got str 'x'; expected True or False"),
    (lambda: gd.Dense(4, 4, bias=1), r"\[Dense\] bias: got int 1; expected True or False"),
    (lambda: gd.Dense(True, 2), r"\[Dense\] in_features: got bool True; expected a whole number"),
    (lambda: gd.Dense(4.0, 2), r"\[Dense\] in_features: got float 4.0; expected a whole number"),
    (lambda: gd.Dense(decimal.Decimal(4), 2), r"\[Dense\] in_features: got Decimal .*; expected a whole number"),
    (lambda: gd.Dense(2, 2, init=gd.HeNormal), r"\[Dense\] init: got <class.*HeNormal.*; expected an object"),
    (lambda: gd.Dense(2, 2, gd.HeNormal()), r"\[Dense\] got 3 arguments by position; at most 2 .* as in bias=\.\.\."),
    (lambda: gd.Dense(2, in_features=2), r"\[Dense\] in_features is given twice"),
    (lambda: gd.Adam(None), r"\[(Adam|Optimizer)\] lr: got None"),
    (lambda: gd.Adam(0.1, betas=0.9), r"\[Adam\] betas: got 0.9; expected two numbers"),
    (lambda: gd.Adam(0.1, betas=(0.9, "x")), r"\[Adam\] betas: got \(0.9, .x.\); expected two numbers"),
    (lambda: gd.Adam(0.1, clip_norm="1"), r"\[Adam\] clip_norm: got str '1'; expected a number or None"),
    (lambda: gd.CrossEntropy(label_smoothing=None), r"\[CrossEntropy\] label_smoothing: got None; expected a number"),
    (lambda: gd.set_num_threads(None), r"\[set_num_threads\] threads: got None; expected a whole number"),
    (lambda: gd.set_num_threads(), r"\[set_num_threads\] threads is missing"),
    (lambda: built()[0].predict(built()[2], batch_size=None), r"batch_size.*None; expected a whole number"),
    (lambda: built()[0].forward(built()[2], training="no"), r"training.*'no'; expected True or False"),
    (lambda: built()[0].set_frozen("layers.0", None), r"frozen: got None; expected True or False"),
    (lambda: setattr(built()[1].core, "steps", "x"), r"steps: got str 'x'; expected a whole number"),
]


@pytest.mark.parametrize("i", range(len(CALLS)))
def test_what_is_said(i: int) -> None:
    call, text = CALLS[i]
    message = refused(call)
    assert re.search(text, message), message


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**400])
def test_numbers_that_no_machine_type_holds(number: int) -> None:
    for call, argument in (
        (lambda: gd.Dense(number, 2), "in_features"),
        (lambda: gd.BatchNorm(number), "features"),
        (lambda: gd.set_num_threads(number), "threads"),
        (lambda: built()[0].predict(built()[2], batch_size=number), "batch_size"),
        (lambda: _core.permutation(number, 0, 0), "n"),
    ):
        assert argument in refused(call, ValueError)
    assert "seed" in refused(lambda: _core.permutation(3, -1, 0), ValueError)
    assert "p: got" in refused(lambda: gd.Dropout(10**400), ValueError)


@pytest.mark.parametrize(
    "number", [np.float32(0.5), np.float64(0.5), np.float16(0.5), np.array(0.5), decimal.Decimal("0.5"), 0.5]
)
def test_what_stands_for_a_number(number: Any) -> None:
    assert gd.Dropout(number).p == 0.5 == gd.LeakyReLU(number).negative_slope == gd.BatchNorm(3, number).decay
    assert gd.Adam(number, (number, number), eps=number).betas == (0.5, 0.5)
    assert gd.Dropout(fractions.Fraction(1, 4)).p == 0.25
    for whole in (np.int8(3), np.uint64(3), np.int64(3), np.array(3), 3):
        assert gd.Dense(whole, whole).in_features == 3
    assert gd.Dense(2, 2, bias=np.False_).bias is False


OTHERS: list[tuple[Callable[[], object], str]] = [
    (lambda: gd.Adam(learning_rate=0.1), "did you mean lr?"),
    (lambda: gd.Adam(0.1, beta1=0.9), "did you mean betas?"),
    (lambda: gd.SGD(0.1, momentum=0.9), "gd.Momentum"),
    (lambda: gd.SGD(0.1, l2=0.9), "did you mean weight_decay?"),
    (lambda: gd.RMSProp(0.1, rho=0.9), "did you mean beta?"),
    (lambda: gd.Dense(3, units=2), "did you mean out_features?"),
    (lambda: gd.Dense(3, hidden_size=2), "did you mean out_features?"),
    (lambda: gd.Dense(n_features=3), "did you mean in_features?"),
    (lambda: gd.Dense(3, 3, activation="relu"), "gd.ReLU()"),
    (lambda: gd.Dense(3, 3, use_bias=True), "did you mean bias?"),
    (lambda: gd.Dense(3, out_feature=2), "did you mean out_features?"),
    (lambda: gd.Dropout(rate=0.5), "did you mean p?"),
    (lambda: gd.Dense(3, 3, dropout=0.5), "dropout is a layer of its own"),
    (lambda: gd.Dense(3, 3, kernel_regularizer=None), "the optimiser takes the weight decay"),
    (lambda: gd.ReLU(inplace=True), "gdcore has no such choice"),
    (lambda: gd.Embedding(input_dim=3, output_dim=2), "did you mean sizes?"),
    (lambda: gd.RMSProp(0.1, alpha=0.9), "did you mean beta? That is alpha of PyTorch"),
    (lambda: gd.Adam(params=[]), "gives the optimiser the parameters"),
    (lambda: gd.AdaGrad(0.1, lr_decay=0.9), "a schedule is a function of the step"),
    (lambda: gd.Huber(epsilon=1.0), "did you mean delta?"),
    (lambda: gd.Quantile(tau=0.5), "did you mean levels?"),
    (lambda: gd.Checkpoint("x", save_best_only=True), "did you mean keep_best?"),
    (lambda: gd.load("x", map_location="cpu"), "did you mean device?"),
    (lambda: built()[1].fit(*built()[2:], epochs=1, initial_epoch=1), "fit goes on from the last epoch"),
    (lambda: built()[1].evaluate(*built()[2:], verbose=0), "it shows no progress: leave it out"),
    (lambda: gd.LeakyReLU(alpha=0.5), "did you mean negative_slope?"),
    (lambda: gd.BatchNorm(3, momentum=0.1), "did you mean decay? It is 1 - momentum of PyTorch"),
    (lambda: gd.LayerNorm(3, epsilon=0.1), "did you mean eps?"),
    (lambda: gd.CrossEntropy(class_weight="balanced"), "did you mean class_weights?"),
    (lambda: gd.CrossEntropy(from_logits=True), "logits always"),
    (lambda: gd.Trainer(built()[0], criterion=gd.CrossEntropy(), optimizer=gd.SGD(0.1)), "did you mean loss?"),
    (lambda: gd.Sequential(gd.Dense(2, 2), random_state=0), "did you mean seed?"),
    (lambda: built()[1].fit(*built()[2:], epochs=1, validation_split=0.5), "did you mean validation?"),
    (lambda: built()[1].fit(*built()[2:], epochs=1, verbose=1), "gd.Progress()"),
    (lambda: built()[1].fit(*built()[2:], n_epochs=1), "did you mean epochs?"),
    (lambda: built()[1].fit(*built()[2:], epochs=1, class_weight={}), "gd.CrossEntropy(class_weights=...)"),
    (lambda: gd.EarlyStopping(restore_best_weights=True), "did you mean restore_best?"),
    (lambda: gd.Checkpoint(filepath="x"), "did you mean path?"),
    (
        lambda: built()[1].fit(*built()[2:], epochs=1, batch_size="full"),
        "expected None (all rows), or a number of rows",
    ),
]


@pytest.mark.parametrize("i", range(len(OTHERS)))
def test_names_of_other_libraries(i: int) -> None:
    call, text = OTHERS[i]
    assert text in refused(call)


def test_the_table_of_names_is_of_use() -> None:
    own = {p for cls in MADE_BY_USERS for p in inspect.signature(CLASSES[cls]).parameters}
    faces = (gd.Trainer, gd.Trainer.fit, gd.Sequential, gd.EarlyStopping, gd.Checkpoint, gd.CSVLog, gd.MiniBatches)
    pytest.importorskip("sklearn.base")
    estimators = importlib.import_module("gdcore.sklearn")
    faces = (*faces, estimators.MLPClassifier, estimators.MLPClassifier.fit)
    others = (
        gd.analysis.loss_surface,
        gd.train_validation_split,
        gd.restarts,
        gd.set_num_threads,
        gd.ReduceOnPlateau,
        gd.Sequential.save,
    )
    own |= {p for face in (*faces, *others) for p in inspect.signature(face).parameters}
    for name, meant in NAMES.items():
        assert name not in meant and any(m in own for m in meant), name
        assert hint(name, [m for m in meant if m in own]).startswith("; did you mean")
    assert all(hint(name, ["zzz"]) == f"; {text}" for name, text in ADVICE.items())


def test_types_have_no_article(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    loss = gd.MeanSquaredError()
    with open(tmp_path / "text", "w") as text:
        calls: dict[str, Callable[[], object]] = {
            r"layers\[1\]: got int; expected a layer": lambda: _core.Network([gd.Dense(2, 2), 3], seed=0),
            r"\[Residual\] layers\[0\]: got int; expected a layer": lambda: gd.Residual(3),
            r"logits: got list; expected a NumPy array": lambda: _core.ops.loss(loss, [1], [1], None, None),
            r"got TextIOWrapper, which is open for text": lambda: gd.Sequential(gd.Dense(2, 2)).save(text),
            r"x\[0\]: got Series with the names": lambda: gd.Standardizer().fit([pd.Series({"a": 1.0})]),
        }
        for words, call in calls.items():
            message = refused(call)
            assert re.search(words, message) and not re.search(r"got an? [a-zA-Z]+[,;]", message), message


def test_own_classes_keep_their_own_signature() -> None:
    class Wide(gd.Dense):
        def __init__(self, width: int) -> None:
            super().__init__(width, width)

    class Plain(gd.Dense): ...

    assert list(inspect.signature(Wide).parameters) == ["width"]
    assert inspect.signature(Plain) == inspect.signature(gd.Dense)
    assert "[Plain]" in refused(lambda: Plain(3))
    assert "classes" in inspect.signature(gd.Sequential).parameters


OF_TRAINER: dict[str, tuple[dict[str, Any], str]] = {
    "rate": ({"learning_rate": 0.1}, "the optimiser takes the rate: gd.Adam"),
    "schedule": ({"lr_scheduler": None}, "a schedule is a function of the step, given as the rate"),
    "clipping": ({"gradient_clip_val": 1.0}, "the optimiser clips gradients"),
    "epochs": ({"max_epochs": 3}, "did you mean epochs, an argument of Trainer.fit?"),
    "batch size": ({"batch_size": 3}, "it is an argument of Trainer.fit"),
    "validation": ({"validation_split": 0.1}, "did you mean validation, an argument of Trainer.fit?"),
    "device": ({"accelerator": "gpu"}, "the device is the model's"),
    "precision": ({"amp": True}, "the precision is the model's"),
    "stopping": ({"patience": 3}, "gd.EarlyStopping"),
    "average": ({"use_ema": True}, "gd.WeightAverage"),
    "logs": ({"logger": True}, "gd.CSVLog"),
    "compiler": ({"jit_compile": True}, "gdcore has no such choice: leave it out"),
}


@pytest.mark.parametrize("name", OF_TRAINER)
def test_arguments_of_other_trainers(name: str) -> None:
    given, words = OF_TRAINER[name]
    message = refused(lambda: gd.Trainer(built()[0], gd.CrossEntropy(), optimizer=gd.SGD(0.1), **given))
    assert words in message and message.startswith(f"[Trainer] {next(iter(given))} is not among its arguments")


def predictors() -> list[Any]:
    network = built()[0]
    return [network, network.predictor(), gd.Ensemble([network, built()[0]])]


@pytest.mark.parametrize("i", range(3))
def test_predict_explains_wrong_arguments(i: int) -> None:
    """Although it is quick: it has the signature of the method that explains."""
    face, x = predictors()[i], built()[2]
    parameters = inspect.signature(face.predict).parameters
    assert list(parameters) == ["x", "batch_size", "check_finite"]
    assert [each.kind.name for each in parameters.values()][1:] == ["KEYWORD_ONLY"] * 2
    calls: dict[str, Callable[[], object]] = {
        r"\.predict\] verbose is not among its arguments; it shows no progress: leave it out": lambda: face.predict(
            x, verbose=0
        ),
        r"\.predict\] batchsize is not.*did you mean batch_size\?": lambda: face.predict(x, batchsize=2),
        r"predict\(\) takes 2 positional|got 2 arguments by position.*batch_size=\.\.\.": lambda: face.predict(x, 32),
        "batch_size: got None; expected a whole number": lambda: face.predict(x, batch_size=None),
        r"missing.*'x'|x is missing": lambda: face.predict(),
    }
    for words, call in calls.items():
        assert re.search(words, refused(call)), words
    helpers.same_bits(face.predict(x, batch_size=7), face.predict(x))


def test_errors_from_inside_are_left_alone() -> None:
    class Fails:
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            raise TypeError("unexpected keyword argument of my own")

    _, trainer, x, y = built()
    with pytest.raises(TypeError, match="of my own"):
        trainer.fit(x, y, epochs=1, callbacks=[Fails()])


def test_python_faces_say_which_arguments_there_are() -> None:
    """With their public names; some fast methods keep Python's message, also with the public name."""
    network, _, x, y = built()
    calls: dict[str, Callable[[], object]] = {
        r"\[Sequential.predict_proba\] verbose is not among.*expected Sequential.predict_proba\(x,": lambda: (
            network.predict_proba(x, verbose=0)
        ),
        r"\[Sequential.freeze\] layers is not among": lambda: network.freeze(layers=1),
        r"Sequential.forward\(\).*'train'": lambda: network.forward(x, train=True),
        r"\[Standardizer\] axis is not among": lambda: gd.Standardizer(axis=0),
        r"\[Standardizer.fit\] y is not among": lambda: gd.Standardizer().fit(x, y=y),
        r"\[History\] foo is not among": lambda: gd.History(foo=1),
        r"\[History.row\] index is missing": lambda: gd.History().row(),
        r"\[History.best_epoch\] metric is not.*did you mean monitor": lambda: gd.History().best_epoch(metric="loss"),
        r"\[gradient_noise\] batch_size is not.*did you mean batch_sizes": lambda: gd.analysis.gradient_noise(
            network, gd.CrossEntropy(), x, y, batch_size=3
        ),
        r"\[accuracy\] y_pred is missing": lambda: gd.metrics.accuracy(y),
        r"\[mnist1d\] n is not among": lambda: gd.experiments.mnist1d(n=3),
    }
    for words, call in calls.items():
        assert re.search(words, refused(call)), words


def test_what_is_shown_of_nonsense_names_the_argument() -> None:
    """Also where NumPy would raise first: 0-d arrays, and arrays that are compared with text."""
    assert "clip_value" in refused(lambda: gd.Momentum(0.1, lr_factors=np.array(3), clip_value=...))
    assert "rows" in refused(lambda: gd.History(np.array(3)))
    assert "mode" in refused(lambda: gd.ReduceOnPlateau(mode=np.ones(2)), ValueError)
    assert "dtype" in refused(lambda: gd.Sequential(gd.Dense(1, 1), dtype=gd.Sequential(gd.Dense(1, 1))), ValueError)
    assert "out" in refused(lambda: gd.Sequential(gd.Dense(1, 1)).copy_state(gd.Adam(0.1)))
    assert "path" in refused(lambda: gd.History().to_csv(3)) and "path" in refused(lambda: gd.Table.from_csv(None))
