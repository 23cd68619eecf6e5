"""Promise: a name that other libraries have, of a class, a function or a member, is answered with what to type here;
such hints hide no error of a property, break no import, and name only what exists."""

from __future__ import annotations

import copy
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.internal import foreign_names
from gdcore.metrics.names import KNOWN


def model() -> gd.Sequential:
    return gd.Sequential(gd.Dense(2, 1), seed=0)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Linear", r"did you mean gd\.Dense\(in_features, out_features\)\?"),
        ("BatchNorm1d", r"did you mean gd\.BatchNorm\(features\)\?"),
        ("MSELoss", r"did you mean gd\.MeanSquaredError\(\)\?"),
        ("CrossEntropyLoss", r"did you mean gd\.CrossEntropy\?"),
        ("BCEWithLogitsLoss", r"did you mean gd\.BinaryCrossEntropy\(\)\?"),
        ("Softmax", r"outputs are logits: .*predict_proba\(x\) returns probabilities"),
        ("Model", r"a network is gd\.Sequential\(gd\.Dense.*"),
        ("TabularModel", r"did you mean gd\.tables\.TabularModel\?"),
        ("sequental", r"did you mean gd\.Sequential\?"),
        ("load_model", r"did you mean gd\.load\(path\)\?"),
        ("L2", r"the optimiser takes the weight decay: gd\.Adam\(1e-3, weight_decay=1e-4\)"),
        ("L1Loss", r"did you mean gd\.MeanAbsoluteError\(\)\?"),
        ("set_seed", r"the seed is the model's: gd\.Sequential\(\.\.\., seed=0\)"),
        ("Parquet", r"did you mean gd\.data\.Parquet\?"),
        ("lr_find", r"did you mean gd\.lr_range_test\(\.\.\.\)\?"),
        ("cross_validate", r"gd\.tables\.TabularModel holds out folds; .*"),
        ("LBFGS", r"gdcore\.sklearn\.MLPClassifier\(solver='lbfgs'\) has it, .*"),
        ("LambdaCallback", r"a callback is any object with a method such as on_epoch_end\(trainer, logs\)"),
        ("Lambda", r"a model has gdcore's layers only: .*"),
        ("to_categorical", r"gd\.CrossEntropy\(\) takes labels as they are, one for each row"),
        ("regularizers", r"the optimiser takes the weight decay: .*"),
    ],
)
def test_names_of_the_package(name: str, hint: str) -> None:
    helpers.refuses(lambda: getattr(gd, name), AttributeError, f"^module 'gdcore' has no attribute '{name}': {hint}$")
    assert not hasattr(gd, name) and getattr(gd, name, 3) == 3


def test_names_of_parts_of_the_package() -> None:
    for name, hint in (
        ("roc_auc_score", "roc_auc"), ("auc", "roc_auc"), ("f1_score", "f1"), ("brier_score_loss", "brier"),
        ("f1_macro", "f1"), ("acurracy", "accuracy"), ("mse", "mean_squared_error"),
    ):  # fmt: skip
        words = rf"^module 'gdcore.metrics' has no attribute '{name}': did you mean gd\.metrics\.{hint}\?$"
        helpers.refuses(lambda n=name: getattr(gd.metrics, n), AttributeError, words)
    for name, hint in (("TabularClassifier", r"gdcore\.sklearn has"), ("tabular_model", r".*\.TabularModel\?$")):
        words = f"^module 'gdcore.tables' has no attribute '{name}': {hint}"
        helpers.refuses(lambda n=name: getattr(gd.tables, n), AttributeError, words)
    for name, hint in (
        ("linear", "a schedule is any function of the step: lambda step: "),
        ("polynomial", "a schedule is any function of the step: lambda step: "),
        ("CosineAnnealing", "did you mean gd.schedules.cosine[?]"),
        ("cosin", "did you mean gd.schedules.cosine[?]"),
        ("StepLR", "did you mean gd.schedules.step_decay[?]"),
        ("linear_warmup", "did you mean gd.schedules.warmup[?]"),
    ):  # fmt: skip
        words = f"^module 'gdcore.schedules' has no attribute '{name}': {hint}"
        helpers.refuses(lambda n=name: getattr(gd.schedules, n), AttributeError, words)


def test_a_part_that_is_not_imported_yet() -> None:
    code = """if True:
        import gdcore as gd
        for name in ("sklearn", "chapter"):
            try:
                getattr(gd, name)
            except AttributeError as error:
                print(error)
        from gdcore import chapter
        assert gd.chapter is chapter
    """
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    start = "module 'gdcore' has no attribute"
    assert done.stdout.splitlines() == [f"{start} {n!r} yet: import gdcore.{n} first" for n in ("sklearn", "chapter")]


def test_an_import_of_such_a_name_says_the_same() -> None:
    def given() -> None:
        from gdcore import Linear  # type: ignore[attr-defined]  # noqa: F401

    def unknown() -> None:
        from gdcore import Quux  # type: ignore[attr-defined]  # noqa: F401

    helpers.refuses(given, ImportError, r"^cannot import name 'Linear' from 'gdcore': did you mean gd\.Dense\(")
    helpers.refuses(unknown, ImportError, r"^cannot import name 'Quux' from 'gdcore' \(")
    helpers.refuses(lambda: gd.quux, AttributeError, "^module 'gdcore' has no attribute 'quux'$")
    # No part of the package has such a name, as `from gdcore import part` looks for an attribute first.
    names = {*foreign_names.OTHERS, *(name.lower().replace("_", "") for name in gd.__all__)}
    names |= {name for own in foreign_names.CLASSES.values() for name in own}
    for package in (gd, gd.metrics, gd.tables):
        for part in pkgutil.iter_modules(package.__path__):
            there = part.name in vars(package) or part.name in package.__all__
            assert there or part.name.replace("_", "") not in names, part.name


def made(text: str) -> None:
    """Check that a hint's call is of a class or function that exists, with arguments that it has."""
    arguments = {"in_features": 2, "out_features": 1, "features": 3}
    eval(text.replace("=...", "=0.1"), {"gd": gd, **arguments})


def test_hints_name_what_exists() -> None:
    for names in foreign_names.CLASSES.values():
        for each in names.values():
            made(f"gd.{each}")
    parts = [text for own in foreign_names.PARTS.values() for text in own.values()]
    texts = [
        *foreign_names.OTHERS.values(),
        *parts,
        *(text for own in foreign_names.MEMBERS.values() for text in own.values()),
    ]
    for text in texts:
        for path in re.findall(r"\bgd((?:\.\w+)+)", text):
            found: Any = gd
            for part in path[1:].split("."):
                found = getattr(found, part)
    owners: dict[str, Any] = {each.__name__: each for each in (gd.Sequential, gd.Ensemble, gd.Standardizer)}
    owners |= {"TabularModel": gd.tables.TabularModel, "Restarts": gd.Restarts, "Sweep": gd.Sweep}
    owners |= {each.__name__: each for each in (gd.Trainer, gd.Optimizer, gd.Table, gd.History)}
    for kind, members in foreign_names.MEMBERS.items():
        assert not [name for name in members if hasattr(owners[kind], name)], kind
    for called in re.findall(r"(?:^|[ ,])(\w+)\(", " ".join(foreign_names.MEMBERS["Sequential"].values())):
        assert called == "len" or hasattr(gd.Sequential, called), called
    assert set(foreign_names.METRICS.values()) <= KNOWN.keys()


@pytest.mark.parametrize("name", ["fit", "compile", "state_dict", "add", "train", "eval", "to", "weights"])
def test_members_of_models(name: str) -> None:
    helpers.refuses(lambda: getattr(model(), name), AttributeError, f"^Sequential has no attribute '{name}'; instead: ")
    assert not hasattr(model(), name)


def test_what_models_are_not() -> None:
    made = model()
    for call, words in (
        (lambda: made([[1.0, 2.0]]), r"a model is not called: predict\(x\) returns outputs, forward\(x\) too"),
        (
            lambda: made[0],
            r"a model has no items: layers\[i\] is a layer; .*layers\[:-1\]\) is a model .*load_parameters",
        ),
        (lambda: made[:-1], r"a model has no items"),
        (lambda: list(made), r"a model has no items"),
    ):
        helpers.refuses(call, TypeError, words)
    some = gd.Sequential(*made.layers, gd.ReLU())
    some.load_parameters(made, strict=False)  # as the message says
    helpers.same_bits(some.flat_parameters(), made.flat_parameters())


def test_members_of_trainers_optimisers_and_histories() -> None:
    trainer = gd.Trainer(model(), gd.MeanSquaredError(), optimizer=gd.Adam(0.1))
    for owner, name, hint in (
        (trainer, "train_on_batch", r"step\(x, y\)"), (trainer, "score", r"evaluate\(x, y\)"),
        (trainer, "save", r"model\.save\(path\); .*gd\.Checkpoint"), (trainer, "train", r"fit\(x, y, epochs="),
        (trainer.optimizer, "zero_grad", r"model\.backward\(dout\)"), (gd.SGD(0.1), "step", r"trainer\.step\(x, y\)"),
        (trainer.history, "history", r".*history\['loss'\]"), (trainer.history, "loss", r"history\['loss'\]"),
        (trainer.history, "to_frame", r"to_pandas\(\)"), (gd.Table(), "to_frame", r"to_pandas\(\)"),
    ):  # fmt: skip
        words = f"^{type(owner).__name__} has no attribute '{name}'; instead: {hint}"
        helpers.refuses(lambda o=owner, n=name: getattr(o, n), AttributeError, words)
        assert not hasattr(owner, name) and not hasattr(owner, "quux")
    for each in (trainer.optimizer, gd.Momentum(0.1)):
        assert repr(copy.deepcopy(each)) == repr(pickle.loads(pickle.dumps(each))) == repr(each)


def test_members_of_ensembles_and_tables() -> None:
    found = gd.Ensemble([model()])
    helpers.refuses(lambda: found.to_torch_module(), AttributeError, "instead: .model.to_torch_module.* for model in")
    assert len(copy.copy(found)) == len(pickle.loads(pickle.dumps(found))) == 1
    helpers.refuses(lambda: gd.tables.TabularModel().classes_, AttributeError, "instead: classes$")
    helpers.refuses(
        lambda: gd.Standardizer().fit_transform([[1.0]]), AttributeError, r"instead: fit\(x\).transform\(x\)"
    )
    for each in (model(), found, gd.tables.TabularModel()):
        helpers.refuses(lambda e=each: e.to_onnx, AttributeError, r"instead: save_onnx\(path\) writes ONNX$")


def test_members_of_results() -> None:
    x, y = np.zeros((4, 2)), np.zeros(4)
    result = gd.restarts(
        lambda seed: gd.Sequential(gd.Dense(2, 1), seed=seed), 2, x, y, validation=(x, y),
        loss=gd.MeanSquaredError(), optimizer=gd.SGD(0.1), epochs=1, progress=False,
    )  # fmt: skip
    for name, hint in (("best_model", "best"), ("save", r"best\.save\(path\)"), ("summary", r"print\(result\) ")):
        words = f"^Restarts has no attribute '{name}'; instead: {hint}"
        helpers.refuses(lambda n=name: getattr(result, n), AttributeError, words)
    for same in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert same.table() == result.table()


class Own(gd.Sequential):
    """A model with a method and properties of its own; two of them fail inside."""

    def train(self) -> str:
        return "own"

    @property
    def broken(self) -> Any:
        return self.inner

    @property
    def fit(self) -> Any:
        return self.inner


def test_errors_inside_a_property_are_left_alone() -> None:
    own = Own(gd.Dense(2, 1), seed=0)
    assert own.train() == "own"
    for name in ("broken", "fit", "inner"):
        helpers.refuses(lambda n=name: getattr(own, n), AttributeError, "^'Own' object has no attribute 'inner'$")
    own.score = 0.5  # an attribute of the user's
    assert own.score == copy.deepcopy(own).score == pickle.loads(pickle.dumps(own)).score == 0.5


TRAINER: dict[str, Callable[[Any], gd.Trainer]] = {
    "loss": lambda given: gd.Trainer(model(), given, optimizer=gd.SGD(0.1)),
    "optimizer": lambda given: gd.Trainer(model(), gd.MeanSquaredError(), optimizer=given),
    "layers[1]": lambda given: gd.Trainer(gd.Sequential(gd.Dense(2, 1), given), gd.Huber(), optimizer=gd.SGD(0.1)),
}


@pytest.mark.parametrize(
    ("argument", "given", "meant"),
    [
        ("loss", "mse", "gd.MeanSquaredError()"),
        ("loss", "sparse_categorical_crossentropy", "gd.CrossEntropy()"),
        ("loss", "hubber", "gd.Huber()"),
        ("loss", "quux", "CrossEntropy(), or CustomLoss(function)"),
        ("loss", 3, "CrossEntropy(), or CustomLoss(function)"),
        ("optimizer", "adam", "gd.Adam(lr=...)"),
        ("optimizer", "AdamW", "gd.AdamW(lr=...)"),
        ("optimizer", "nesterov", "gd.Momentum(lr=..., nesterov=True)"),
        ("layers[1]", "relu", "gd.ReLU()"),
    ],
)
def test_text_in_place_of_an_object(argument: str, given: Any, meant: str) -> None:
    words = re.escape(f"{argument}: got {type(given).__name__} {given!r}; expected an instance of ")
    helpers.refuses(lambda: TRAINER[argument](given), TypeError, rf"^{words}\w+, such as {re.escape(meant)}$")


def test_objects_of_other_libraries_in_place_of_ours() -> None:
    class MSELoss: ...

    def mse_loss() -> None: ...

    for given in (MSELoss(), MSELoss, mse_loss):
        helpers.refuses(lambda g=given: TRAINER["loss"](g), TypeError, r"such as gd\.MeanSquaredError\(\)$")
    helpers.refuses(lambda: gd.Dense(2, 1, init="xavier"), TypeError, r"did you mean gd\.GlorotNormal\(\)\?$")
    helpers.refuses(lambda: gd.Dense(2, 1, init="he"), TypeError, r"Initializer, such as gd\.HeNormal\(\)$")


def test_arguments_that_belong_to_another_call() -> None:
    x, y = np.zeros((4, 2)), np.zeros(4)
    table = gd.tables.TabularModel
    trainer = gd.Trainer(model(), gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    yes_no = gd.Trainer(model(), gd.BinaryCrossEntropy(), optimizer=gd.SGD(0.1))
    for call, words in (
        (lambda: table(epochs=3), r"recipe=\{'epochs': ...\} of .* \(see the page .*docs/tables.md\); time_limit="),
        (lambda: table("regression").fit(x, y, epochs=3), r"recipe=\{'epochs': ...\} of the constructor sets it"),
        (lambda: table(learning_rate=3), r"; recipe=\{'lr': ...\} of the constructor sets it"),
        (lambda: table(hidden_layer_sizes=3), r"; recipe=\{'widths': ...\} of the constructor sets it"),
        (lambda: table(optimizer="adam"), r"TabularModel chooses it for the table"),
        (lambda: table("regression").fit(x, y, time_limit=3), "it is an argument of TabularModel;"),
        (lambda: table(cat_features=["a"]), r"; kinds=\{'column': 'category'\} of the constructor"),
        (lambda: table().fit(x, y, categorical_features=["a"]), r"; kinds=\{'column': 'category'\} of the constructor"),
        (lambda: table(n_estimators=3), r"; ensemble= of the constructor is the number of networks"),
        (lambda: gd.analysis.loss_surface(model(), path=x), r"did you mean cover\?"),
        (
            lambda: gd.Trainer(model(), gd.Huber()),
            r"optimizer is missing; gd\.Adam\(lr=1e-3\) is usual, .* only evaluates",
        ),
        (
            lambda: gd.Trainer(model(), gd.Huber(), optimizer=gd.SGD(1), metrics=["r2", {"a": max}]),
            "one mapping alone:",
        ),
        (lambda: table(sample_weight=y), r"it is an argument of TabularModel\.fit;"),
        (
            lambda: table("regression").fit(x, y, validation=0.2),
            r"a share is given to TabularModel\(validation=0\.2\)$",
        ),
        (lambda: table(loss="mae"), r"such as gd\.MeanAbsoluteError\(\)$"),
        (lambda: trainer.fit(x, y, metrics=[]), "it is an argument of Trainer;"),
        (lambda: trainer.fit(x, y, class_weight={}), "MeanSquaredError has no classes, sample_weight= has"),
        (lambda: yes_no.fit(x, y, class_weight={}), r"takes it: gd\.BinaryCrossEntropy\(class_weights="),
        (lambda: gd.History().plot(metric="loss"), r"did you mean measure\?"),
        (lambda: gd.Trainer(model(), gd.Huber(), optimizer=gd.SGD(0.1), epochs=3), r"an argument of Trainer\.fit;"),
        (lambda: gd.SGD(0.1, momentum=0.9), r"; gd\.Momentum\(lr, 0\.9\) is the optimiser with momentum;"),
        (lambda: gd.BatchNorm(3, momentum=0.1), "did you mean decay[?] It is 1 - momentum of PyTorch"),
        (lambda: gd.Adam(model().parameters(), lr=0.1), "an optimiser takes no parameters here"),
        (lambda: gd.AdamW(model().parameters(), lr=0.1), r"optimizer=gd\.AdamW\(lr=\.\.\.\)"),
        (lambda: gd.SGD(model(), lr=0.1), "an optimiser takes no parameters here"),
        (lambda: gd.SGD([np.ones(2)], lr=0.1), "an optimiser takes no parameters here"),
        (lambda: gd.SGD(0.1, lr=0.1), "lr is given twice"),
        (lambda: gd.train_validation_split(x, y, 0.2), r"^arrays\[1\]: got 0\.2; .* fraction=0\.2$"),
        (lambda: gd.History().plot(None, "loss"), r"^\[History\.plot\] got 2 arguments by position; .*measure="),
    ):
        helpers.refuses(call, TypeError, words)


def test_what_trainers_and_stopping_show_of_themselves() -> None:
    x, y = np.zeros((4, 2)), np.zeros(4)
    stopping = gd.EarlyStopping(patience=3)
    trainer = gd.Trainer(model(), gd.MeanSquaredError(), optimizer=gd.SGD(0.1), metrics=["r2"])
    assert repr(stopping) == "EarlyStopping('val_loss', patience=3, mode='min')"
    trainer.fit(x, y + 1, epochs=2, batch_size=2, validation=(x, y), callbacks=[stopping])
    assert repr(stopping).endswith(f"; best so far: {stopping.best:.6g})")
    assert re.fullmatch(
        r"Trainer\(MeanSquaredError\(\), optimizer=SGD\(lr=0\.1.*\), metrics=\['r2'\]; 2 epochs, 4 steps\)",
        repr(trainer),
    )
