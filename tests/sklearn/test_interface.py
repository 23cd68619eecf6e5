"""Promise: the estimators pass scikit-learn's own checks and work in its tools: pipelines, searches, calibration,
thresholds, importance, copies, processes, routing of weights, sparse inputs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import helpers
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from gdcore.sklearn import MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_breast_cancer(return_X_y=True)
X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
PATIENTS, OUTCOME = load_diabetes(return_X_y=True, as_frame=True)
PATIENTS, OUTCOME = PATIENTS / PATIENTS.std(), (OUTCOME - OUTCOME.mean()) / OUTCOME.std()
QUICK: dict[str, Any] = {"hidden_layer_sizes": (16,), "max_iter": 15, "learning_rate_init": 0.01, "random_state": 0}


QUICK_TABLES: dict[str, Any] = {"ensemble": 1, "random_state": 0, "device": "cpu"}
BOTH = pytest.mark.parametrize("kind", ["MLP", "Tabular"])


def classifier(kind: str = "MLP", **options: Any) -> Any:
    if kind == "Tabular":
        return TabularClassifier(**QUICK_TABLES | options)
    return MLPClassifier(**QUICK | options)


def regressor(kind: str) -> Any:
    return TabularRegressor(**QUICK_TABLES) if kind == "Tabular" else MLPRegressor(**QUICK)


def setting(kind: str) -> str:
    """A parameter to search over, with the values 0.1 and 0.3."""
    return "validation_fraction" if kind == "Tabular" else "dropout"


# A row of weight 2 is in one batch and is held out as one row; a repeated row may be in two batches, and held out once.
WEIGHTS = "rows are held out and divided into batches at random, by their number and not by their weight"
EXPECTED = {f"check_sample_weight_equivalence_on_{data}_data": WEIGHTS for data in ("dense", "sparse")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor])
def test_their_checks(kind: Any) -> None:
    """With few rows a batch of an MLP has all of them, so that weights equal repeated rows there."""
    tables = kind in (TabularClassifier, TabularRegressor)
    made = kind(ensemble=1 if kind is TabularRegressor else 2) if tables else kind(max_iter=50)
    found = check_estimator(made, expected_failed_checks=EXPECTED if tables else {}, on_skip=None, on_fail=None)
    assert len(found) > 50
    failed = {each["check_name"]: each["exception"] for each in found if each["status"] == "failed"}
    assert not failed
    assert {each["check_name"] for each in found if each["status"] == "xfail"} == (set(EXPECTED) if tables else set())


def test_without_scikit_learn_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\ntry: import gdcore.sklearn\n"
        "except ImportError as error: assert 'gdcore[sklearn]' in str(error), error\nelse: raise AssertionError"
    )
    helpers.must_run(code)


@BOTH
def test_pipeline_with_frames(kind: str) -> None:
    model = make_pipeline(StandardScaler(), regressor(kind)).set_output(transform="pandas")
    assert model.fit(PATIENTS, OUTCOME).score(PATIENTS, OUTCOME) > 0.4
    assert list(model[-1].feature_names_in_) == list(PATIENTS.columns) == list(model[-1].model_.feature_names)
    with pytest.raises(ValueError, match="feature names"):
        model[-1].predict(PATIENTS[PATIENTS.columns[::-1]])
    with pytest.raises(TypeError, match="hidden"):
        type(model[-1])(hidden=3)


@BOTH
def test_column_transformer(kind: str) -> None:
    frame = pd.DataFrame({"size": X[:, 0], "kind": np.where(X[:, 1] > 0, "a", "b")})
    columns = ColumnTransformer([("number", StandardScaler(), ["size"]), ("kind", OneHotEncoder(), ["kind"])])
    labels = np.where(Y == 1, "benign", "malignant")
    model = make_pipeline(columns, classifier(kind)).fit(frame, labels)
    assert model.score(frame, labels) > 0.8
    assert list(model.classes_) == ["benign", "malignant"] == list(model[-1].model_.classes)
    network = model[-1].model_
    predict = network.predict if kind == "Tabular" else network.predict_classes
    assert np.array_equal(predict(model[:-1].transform(frame)), model.predict(frame))


@BOTH
def test_searches(kind: str) -> None:
    assert cross_val_score(classifier(kind), X, Y, cv=2).mean() > 0.9
    name = setting(kind)
    grid = GridSearchCV(classifier(kind), {name: [0.1, 0.3]}, cv=2).fit(X, Y)
    assert grid.best_score_ > 0.9 and getattr(grid.best_estimator_, name) == grid.best_params_[name]
    choices: dict[str, Any] = {name: [0.1, 0.2, 0.3], "random_state": range(3)}
    resource = {"resource": "max_iter", "max_resources": 16, "min_resources": 4}
    resource = resource if kind == "MLP" else {"min_resources": 200}
    halving = HalvingRandomSearchCV(classifier(kind), choices, n_candidates=3, **resource, cv=2, random_state=0)
    assert halving.fit(X, Y).best_score_ > 0.9


@BOTH
def test_calibration_and_thresholds(kind: str) -> None:
    calibrated = CalibratedClassifierCV(classifier(kind), cv=2).fit(X, Y)
    assert calibrated.score(X, Y) > 0.9
    tuned = TunedThresholdClassifierCV(classifier(kind), scoring="balanced_accuracy", cv=2).fit(X, Y)
    assert tuned.score(X, Y) > 0.9 and 0 < tuned.best_threshold_ < 1


@BOTH
def test_importance(kind: str) -> None:
    x = np.column_stack([X[:, 0], np.random.default_rng(0).standard_normal(len(X))])
    found = permutation_importance(classifier(kind).fit(x, Y), x, Y, random_state=0)
    assert found.importances_mean[0] > 0.2 > 0.05 > found.importances_mean[1]


@BOTH
def test_target_transformer(kind: str) -> None:
    model = TransformedTargetRegressor(regressor(kind), func=np.arcsinh, inverse_func=np.sinh)
    assert cross_val_predict(model, PATIENTS, OUTCOME, cv=2).shape == (len(OUTCOME),)


def copies_of(model: Any) -> list[Any]:
    in_processes = joblib.Parallel(2)(joblib.delayed(copy.deepcopy)(model) for _ in range(2))
    return [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), in_processes[0]]


def test_copies_predict_the_same_and_train_on() -> None:
    model = classifier(solver="sgd", dropout=0.2).fit(X, Y)
    pickled = pickle.loads(pickle.dumps(model))
    copies = [
        pickled,
        copy.deepcopy(model),
        joblib.Parallel(2)(joblib.delayed(copy.deepcopy)(model) for _ in range(2))[0],
    ]
    before = model.predict_proba(X)
    model.partial_fit(X, Y)
    for copied in copies:
        assert copied._trainer.model is copied.model_
        assert np.array_equal(copied.predict_proba(X), before)
        assert np.array_equal(copied.partial_fit(X, Y).predict_proba(X), model.predict_proba(X))
    again = clone(model)
    assert not hasattr(again, "coefs_") and again.get_params() == model.get_params()


def test_copies_of_tabular_estimators() -> None:
    model = classifier("Tabular").fit(X, Y)
    pickled = pickle.loads(pickle.dumps(model))
    for copied in [
        pickled,
        copy.deepcopy(model),
        joblib.Parallel(2)(joblib.delayed(copy.deepcopy)(model) for _ in range(2))[0],
    ]:
        assert np.array_equal(copied.predict_proba(X), model.predict_proba(X))
    again = clone(model)
    assert not hasattr(again, "model_") and again.get_params() == model.get_params()


@BOTH
def test_weights_are_routed(kind: str) -> None:
    weights = np.where(Y == 1, 1.0, 1e-3)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = get_scorer("accuracy").set_score_request(sample_weight=False)
        weighted = classifier(kind).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        model = make_pipeline(scaler, weighted)
        grid = GridSearchCV(model, {f"{kind.lower()}classifier__{setting(kind)}": [0.1]}, cv=2, scoring=scorer)
        weighted_share = grid.fit(X, Y, sample_weight=weights).predict(X).mean()
        assert weighted_share > grid.fit(X, Y).predict(X).mean() + 0.02


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_inputs_give_the_same(solver: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.where(np.abs(X) > 1, X, 0)
    options = {"solver": solver, "early_stopping": True, "batch_size": 100, "alpha": 0.1}
    dense = classifier(**options).fit(x, Y)
    largest, convert = 0, sparse.csr_array.toarray

    def counted(self: Any) -> Any:
        nonlocal largest
        largest = max(largest, self.shape[0] if self.shape[1] == X.shape[1] else 0)  # not of encoded labels
        return convert(self)

    for each in (sparse.csr_matrix, sparse.csr_array):
        monkeypatch.setattr(each, "toarray", counted)
    model = classifier(**options).fit(kind(x), Y)
    if solver != "lbfgs":
        assert largest == 100  # rows of a batch; 57 are held out
        assert model.loss_curve_ == dense.loss_curve_ and model.validation_scores_ == dense.validation_scores_
    np.testing.assert_allclose(model.predict_proba(kind(x)), dense.predict_proba(x), rtol=1e-6)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_tables_give_the_same(kind: Any) -> None:
    x = np.where(np.abs(X) > 1, X, 0)
    dense, made = classifier("Tabular").fit(x, Y), classifier("Tabular").fit(kind(x), Y)
    assert np.array_equal(made.predict_proba(kind(x)), dense.predict_proba(x))


def test_wrong_arguments_are_explained() -> None:
    """In the words of the package; the signatures, which scikit-learn reads, are as before."""
    frame = pd.DataFrame({"n": [1.0, 2.0], "t": ["a", "b"], "d": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    for call, words in (
        (
            lambda: TabularClassifier(learning_rate=0.1),
            r"^.TabularClassifier. learning_rate is not .*; recipe=\{'lr': .*\}",
        ),
        (lambda: TabularRegressor(n_estimators=3), "; ensemble= of the constructor is the number of networks;"),
        (
            lambda: TabularClassifier().fit(X, Y, eval_set=(X, Y)),
            r"^.TabularClassifier\.fit. .*; did you mean validation_d",
        ),
        (lambda: MLPRegressor(lr=0.1), r"^.MLPRegressor. lr is not .*; did you mean learning_rate_init\?"),
        (
            lambda: MLPClassifier().fit(X, Y, eval_set=(X, Y)),
            r"^.MLPClassifier\.fit. .*; did you mean validation_data\?",
        ),
        (
            lambda: MLPClassifier().fit(frame[["n", "t"]], [0, 1]),
            "^X: column 't': got .*; TabularClassifier takes them",
        ),
        (
            lambda: MLPRegressor().fit(frame[["n", "d"]], [0.5, 1]),
            "^X: column 'd': got .*; TabularRegressor takes them",
        ),
    ):
        helpers.refuses(call, TypeError, words)
    for kind in (MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor):
        assert "random_state" in kind().get_params() and repr(clone(kind(random_state=3))).endswith("(random_state=3)")
