"""Promise: settings given in place of the recipe's are used by models and estimators; impossible ones are refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.sklearn import TabularClassifier, TabularRegressor
from gdcore.tables import TabularModel
from gdcore.tables.recipe import Facts, chosen, recipe
from sklearn.base import clone

N = 60
RNG = np.random.default_rng(4)
X = {"a": RNG.standard_normal(N), "b": RNG.standard_normal(N)}
NUMBER = X["a"] + 0.1 * RNG.standard_normal(N)
KIND = np.where(NUMBER > 0, "large", "small")
CHOSEN: dict[str, Any] = {
    "widths": [24, 12],
    "activation": gd.SiLU,
    "dropout": 0.0,
    "lr": 1e-2,
    "betas": [0.8, 0.9],
    "weight_decay": 0,
    "batch_size": 20,
    "epochs": 3,
    "patience": 2,
}


def model(**options: Any) -> TabularModel:
    return TabularModel(**{"ensemble": 1, "progress": False, "device": "cpu"} | options)


def test_all_settings_are_used() -> None:
    made = model(recipe=CHOSEN | {"label_smoothing": 0.1}).fit(X, KIND)
    used = {name: getattr(made.recipe, name) for name in CHOSEN}
    assert used == CHOSEN | {"widths": (24, 12), "betas": (0.8, 0.9)} and made.recipe.label_smoothing == 0.1
    (network,), (training,) = made.ensemble, made.ensemble.training
    assert [type(layer) for layer in network.layers] == [gd.Dense, gd.SiLU, gd.Dense, gd.SiLU, gd.Dense]
    assert [layer.out_features for layer in network.layers[::2]] == [24, 12, 2]
    assert 1 <= len(training.history["val_loss"]) <= 3


@pytest.mark.parametrize("name", CHOSEN)
def test_each_setting_changes_the_network_alone(name: str) -> None:
    """The others stay those that are chosen by the number of rows, and the data is encoded as before."""
    plain = model(validation=0, recipe={"epochs": 2}).fit(X, KIND)
    made = model(validation=0, recipe={"epochs": 2} | {name: CHOSEN[name]}).fit(X, KIND)
    facts = Facts("classification", N, 2, 2)
    expected = {field: getattr(recipe(facts), field) for field in CHOSEN} | {"epochs": 2, "patience": 1}
    expected |= chosen({name: CHOSEN[name]})
    assert {field: getattr(made.recipe, field) for field in CHOSEN} == expected
    helpers.same_bits(made.encode(X), plain.encode(X))
    same = np.array_equal(made.predict_proba(X), plain.predict_proba(X))
    assert same == (name == "patience")  # nothing is held out


def test_patience_follows_given_epochs() -> None:
    noise = RNG.standard_normal(N)
    for given, patience in (({}, 15), ({"epochs": 400}, 150), ({"epochs": 2}, 1), ({"epochs": 400, "patience": 3}, 3)):
        made = model(recipe=given | {"widths": (4,)}).fit(X, noise)
        epochs = len(made.ensemble.training[0].history["val_loss"])
        best = made.ensemble.training[0].history.best_epoch()
        assert made.recipe.patience == patience and (epochs == made.recipe.epochs or epochs == best + patience)
    assert epochs < 400


def test_label_smoothing_changes_the_probabilities() -> None:
    plain, smooth = (model(recipe={"epochs": 3, "label_smoothing": each}).fit(X, KIND) for each in (0.0, 0.3))
    assert smooth.predict_proba(X).max() < plain.predict_proba(X).max()


def test_copies_and_estimators_keep_them() -> None:
    expected = model(recipe=CHOSEN, validation=0.2).fit(X, NUMBER).predict(X)
    for how in (copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))):
        helpers.same_bits(how(model(recipe=CHOSEN, validation=0.2)).fit(X, NUMBER).predict(X), expected)
    array = np.column_stack(list(X.values()))
    regressor = TabularRegressor(ensemble=1, recipe=CHOSEN, validation_fraction=0.2, random_state=0, device="cpu")
    helpers.same_bits(clone(regressor).fit(array, NUMBER).predict(array), expected)
    classifier = TabularClassifier(ensemble=1, random_state=0).set_params(recipe={"epochs": 1}).fit(array, KIND)
    assert classifier.model_.recipe.epochs == 1


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "no mapping": (["lr"], TypeError, r"recipe: got \['lr'\]; expected a dict of settings"),
    "unknown": ({"learning_rat": 1}, ValueError, "recipe: got 'learning_rat'; expected some of widths, activation, "),
    "near": ({"epoch": 1}, ValueError, "did you mean epochs"),
    "members": ({"members": 2}, ValueError, r"recipe: got members; .*TabularModel\(ensemble="),
    "width": ({"widths": (4, 0)}, ValueError, r"recipe\['widths'\]: got 0"),
    "empty": ([], TypeError, r"recipe: got \[\]; expected a dict"),
    "set of widths": ({"widths": {64, 32}}, TypeError, r"recipe\['widths'\]: got .*; expected the widths"),
    "one width": ({"widths": 64}, TypeError, r"recipe\['widths'\]: got 64; expected the widths"),
    "layer": ({"activation": gd.Dense}, TypeError, r"recipe\['activation'\]: got .*; expected a class of activations"),
    "instance": ({"activation": gd.ReLU()}, TypeError, r"expected a class of activations: gdcore.ReLU"),
    "dropout": ({"dropout": 1}, ValueError, r"recipe\['dropout'\]: got 1; expected a number below 1"),
    "rate": ({"lr": 0}, ValueError, r"recipe\['lr'\]: got 0"),
    "betas": ({"betas": 0.9}, TypeError, r"recipe\['betas'\]: got 0.9; expected two numbers"),
    "beta": ({"betas": (0.9, 1)}, ValueError, r"recipe\['betas'\]: got 1"),
    "decay": ({"weight_decay": -1}, ValueError, r"recipe\['weight_decay'\]: got -1"),
    "smoothing": ({"label_smoothing": 1.5}, ValueError, r"recipe\['label_smoothing'\]: got 1.5"),
    "batch": ({"batch_size": 0}, ValueError, r"recipe\['batch_size'\]: got 0"),
    "epochs": ({"epochs": 2.5}, TypeError, r"recipe\['epochs'\]: got 2.5"),
    "patience": ({"patience": 0}, ValueError, r"recipe\['patience'\]: got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_settings_are_refused(name: str) -> None:
    given, error, message = BAD[name]
    with pytest.raises(error, match=message):
        model(recipe=given)


def test_label_smoothing_needs_the_own_loss_of_classes() -> None:
    with pytest.raises(ValueError, match="recipe: got label_smoothing for regression"):
        model(recipe={"label_smoothing": 0.1}).fit(X, NUMBER)
    with pytest.raises(ValueError, match="recipe: got label_smoothing beside a loss"):
        model(recipe={"label_smoothing": 0.1}, loss=gd.CrossEntropy())
