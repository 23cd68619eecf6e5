"""Promise: every metric gets (y_true, y_pred) in the form that it takes, whatever the outputs mean, as copies that it
may keep and change; names and directions are known; what does not fit is refused before training."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.metrics import names, of_sklearn

sk = pytest.importorskip("sklearn.metrics")

NAMES: list[tuple[Any, ...] | None] = [None, ("a", "b", "c"), ("c", "a", "b"), (3, 1, 2), (1, 2, 3)]
PAIRS: list[tuple[Any, ...] | None] = [None, ("no", "yes"), ("yes", "no"), (1, 0), (1, 2), (2, 1), (False, True)]
X = np.random.default_rng(0).standard_normal((90, 3))
WEIGHTS = np.random.default_rng(1).uniform(0.5, 2, 90)


def build(outputs: int, loss: gd.CrossEntropy | Any, metrics: Any, classes: Any = None) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(3, outputs), seed=0, classes=classes)
    return gd.Trainer(model, loss, optimizer=gd.Adam(0.05), metrics=metrics)


def targets(outputs: int, meaning: str) -> np.ndarray:
    noise = np.random.default_rng(2).standard_normal((90, outputs))
    score = X[:, :1] * np.linspace(-1, 1, outputs) + noise if outputs > 1 else X[:, :1] + noise
    if meaning == "classes":
        return score.argmax(1)
    return score if meaning == "numbers" else (score > 0).astype(int)


def named(y: np.ndarray, classes: Any) -> np.ndarray:
    return y if classes is None else np.array(classes)[y]


def measured(outputs: int, loss: Any, metrics: Any, y: np.ndarray, classes: Any = None, weighted: bool = True) -> Any:
    trainer = build(outputs, loss, metrics, classes)
    return trainer, trainer.evaluate(X, named(y, classes), sample_weight=WEIGHTS if weighted else None)


def close(actual: float, expected: float) -> None:
    assert actual == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", NAMES)
def test_functions_of_sklearn_get_classes_as_they_want_them(classes: Any, weighted: bool) -> None:
    index = targets(3, "classes")
    functions = [
        *(sk.accuracy_score, sk.balanced_accuracy_score, sk.matthews_corrcoef, sk.cohen_kappa_score, sk.hamming_loss),
        *(sk.f1_score, sk.precision_score, sk.recall_score, sk.jaccard_score, partial(sk.fbeta_score, beta=2)),
        *(sk.roc_auc_score, sk.average_precision_score, sk.log_loss, sk.brier_score_loss, sk.hinge_loss),
        partial(sk.top_k_accuracy_score, k=2),
    ]
    trainer, found = measured(3, gd.CrossEntropy(), functions, index, classes, weighted)
    names = np.arange(3) if classes is None else np.array(classes)
    true, order = names[index], np.argsort(names)
    p, z, chosen = trainer.model.predict_proba(X), trainer.predict(X), trainer.model.predict_classes(X)
    w = {"sample_weight": WEIGHTS} if weighted else {}
    for name in ("accuracy_score", "balanced_accuracy_score", "matthews_corrcoef", "cohen_kappa_score", "hamming_loss"):
        close(found[name], getattr(sk, name)(true, chosen, **w))
    for name in ("f1_score", "precision_score", "recall_score", "jaccard_score"):
        close(found[name], getattr(sk, name)(true, chosen, average="macro", **w))
    close(found["fbeta_score"], sk.fbeta_score(true, chosen, beta=2, average="macro", **w))
    close(found["roc_auc_score"], sk.roc_auc_score(true, p[:, order], multi_class="ovr", **w))
    close(found["average_precision_score"], sk.average_precision_score(true, p[:, order], **w))
    close(found["log_loss"], sk.log_loss(true, p[:, order], **w))
    close(found["brier_score_loss"], sk.brier_score_loss(true, p[:, order], labels=names[order], **w))
    close(found["hinge_loss"], sk.hinge_loss(true, z[:, order], labels=names[order], **w))
    close(found["top_k_accuracy_score"], sk.top_k_accuracy_score(true, p[:, order], k=2, labels=names[order], **w))


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("classes", PAIRS)
def test_functions_of_sklearn_get_two_classes_as_they_want_them(classes: Any, outputs: int) -> None:
    """The positive class is 1 if that is a label, as in scikit-learn, else the second."""
    index = targets(1, "yes_no")[:, 0]
    loss = gd.BinaryCrossEntropy() if outputs == 1 else gd.CrossEntropy()
    functions = [sk.f1_score, sk.average_precision_score, sk.brier_score_loss, sk.roc_auc_score, sk.log_loss]
    functions += [sk.hinge_loss, partial(sk.precision_score, average="macro"), sk.zero_one_loss]
    trainer, found = measured(outputs, loss, functions, index, classes)
    names = np.arange(2) if classes is None else np.array(classes)
    true, w = names[index], {"sample_weight": WEIGHTS}
    p, chosen = trainer.model.predict_proba(X), trainer.model.predict_classes(X)
    positive = 1 if 1 in names.tolist() else classes[1]
    own = p[:, names.tolist().index(positive)]
    order = np.argsort(names)
    close(found["f1_score"], sk.f1_score(true, chosen, pos_label=positive, **w))
    close(found["average_precision_score"], sk.average_precision_score(true, own, pos_label=positive, **w))
    close(found["brier_score_loss"], sk.brier_score_loss(true, own, pos_label=positive, **w))
    close(found["roc_auc_score"], sk.roc_auc_score(true, p[:, order[1]], **w))
    close(found["log_loss"], sk.log_loss(true, p[:, order], **w))
    z = trainer.predict(X)
    z = z[:, 0] if outputs == 1 else z[:, 1] - z[:, 0]
    close(found["hinge_loss"], sk.hinge_loss(true, z if order[1] == 1 else -z, **w))
    close(found["precision_score"], sk.precision_score(true, chosen, average="macro", **w))
    close(found["zero_one_loss"], sk.zero_one_loss(true, chosen, **w))


def test_functions_of_sklearn_get_answers_and_numbers() -> None:
    y, w = targets(3, "yes_no"), {"sample_weight": WEIGHTS}
    functions = [sk.accuracy_score, sk.f1_score, sk.hamming_loss, sk.roc_auc_score, sk.average_precision_score]
    functions += [sk.label_ranking_loss, sk.ndcg_score]
    trainer, found = measured(3, gd.BinaryCrossEntropy(), functions, y)
    p, chosen = trainer.model.predict_proba(X), trainer.model.predict_classes(X)
    for function in functions[:3]:
        options = {"average": "macro"} if function is sk.f1_score else {}
        close(found[function.__name__], function(y, chosen, **options, **w))
    for function in functions[3:]:
        close(found[function.__name__], function(y, p, **w))
    for outputs in (1, 2):
        y = targets(outputs, "numbers")
        numbers = [sk.r2_score, sk.mean_squared_error, sk.median_absolute_error, sk.explained_variance_score]
        trainer, found = measured(outputs, gd.MeanSquaredError(), numbers, y)
        for function in numbers:
            close(found[function.__name__], function(y, trainer.predict(X), **w))


NAMED: dict[str, dict[str, Callable[..., Any]]] = {
    "classes": {
        "accuracy": sk.accuracy_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "f1": sk.f1_score,
        "precision_weighted": partial(sk.precision_score, average="weighted"),
        "recall_micro": partial(sk.recall_score, average="micro"),
        "auc": sk.roc_auc_score,
        "average_precision": sk.average_precision_score,
        "log_loss": sk.log_loss,
        "brier": sk.brier_score_loss,
        "top_2": partial(sk.top_k_accuracy_score, k=2),
    },
    "numbers": {"r2": sk.r2_score, "mae": sk.mean_absolute_error, "rmse": sk.root_mean_squared_error},
    "yes_no": {"accuracy": sk.accuracy_score, "f1": sk.f1_score, "roc_auc": sk.roc_auc_score},
}
LOSSES = {"classes": gd.CrossEntropy(), "numbers": gd.MeanSquaredError(), "yes_no": gd.BinaryCrossEntropy()}


@pytest.mark.parametrize(("meaning", "outputs"), [("classes", 3), ("numbers", 1), ("numbers", 2), ("yes_no", 3)])
def test_names_are_the_functions_of_sklearn(meaning: str, outputs: int) -> None:
    y, wanted = targets(outputs, meaning), NAMED[meaning]
    classes = ("c", "a", "b") if meaning == "classes" else None
    by_name = measured(outputs, LOSSES[meaning], list(wanted), y, classes)[1]
    by_function = measured(outputs, LOSSES[meaning], wanted, y, classes)[1]
    for name in wanted:
        close(by_name[name], by_function[name])


def seen_by(outputs: int, loss: Any, y: Any, wrap: Any = None, classes: Any = None, **options: Any) -> dict[str, Any]:
    """Return the arguments of a user's metric."""
    seen: dict[str, Any] = {}

    def mine(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        seen.update(true=y_true, pred=y_pred, weights=sample_weight)
        return 0.0

    trainer = build(outputs, loss, [mine if wrap is None else wrap(mine)], classes)
    assert list(trainer.evaluate(X, named(y, classes), **options)) == ["loss", "mine"]
    return seen | {"model": trainer.model}


def test_functions_of_ones_own() -> None:
    y = targets(3, "classes")
    seen = seen_by(3, gd.CrossEntropy(), y, classes=("c", "a", "b"), sample_weight=WEIGHTS)
    assert (seen["true"] == np.array(["c", "a", "b"])[y]).all()
    helpers.same_bits(seen["pred"], seen["model"].predict_proba(X))
    helpers.same_bits(seen["weights"], WEIGHTS)
    seen = seen_by(3, gd.CrossEntropy(), y, gd.metrics.on_logits)
    assert seen["weights"] is None and (seen["true"] == y).all()
    helpers.same_bits(seen["pred"], seen["model"].predict(X))
    seen = seen_by(3, gd.CrossEntropy(), y, gd.metrics.on_labels, ("c", "a", "b"))
    assert (seen["pred"] == seen["model"].predict_classes(X)).all()
    soft = np.eye(3)[y] * 0.8 + 0.1
    helpers.same_bits(seen_by(3, gd.CrossEntropy(), soft / soft.sum(1)[:, None])["true"], soft / soft.sum(1)[:, None])
    one = targets(1, "yes_no")
    for given in (one, one[:, 0]):
        seen = seen_by(1, gd.BinaryCrossEntropy(), given, classes=("no", "yes"))
        assert (seen["true"] == np.array(["no", "yes"])[one[:, 0]]).all()
        np.testing.assert_allclose(seen["pred"], seen["model"].predict_proba(X)[:, 1], rtol=1e-6)
    several = targets(3, "yes_no")
    seen = seen_by(3, gd.BinaryCrossEntropy(), several)
    assert (seen["true"] == several).all()
    helpers.same_bits(seen["pred"], seen["model"].predict_proba(X))
    for number in (targets(1, "numbers"), targets(1, "numbers")[:, 0]):
        seen = seen_by(1, gd.MeanSquaredError(), number)
        assert seen["true"].shape == seen["pred"].shape == (90,)
    seen = seen_by(2, gd.MeanSquaredError(), targets(2, "numbers"))
    assert seen["true"].shape == seen["pred"].shape == (90, 2)


@pytest.mark.parametrize("takes", ["own", "logits", "labels"])
@pytest.mark.parametrize(("meaning", "outputs"), [("classes", 3), ("yes_no", 1), ("yes_no", 2), ("numbers", 1)])
def test_a_metric_may_keep_and_change_what_it_gets(meaning: str, outputs: int, takes: str) -> None:
    if (meaning, takes) == ("numbers", "labels"):
        return
    y, kept = targets(outputs, meaning).astype(float if meaning == "numbers" else int), []

    def keep(y_true: Any, y_pred: Any, sample_weight: Any) -> float:
        kept.append((y_true, y_pred, sample_weight))
        return 0.0

    def spoil(y_true: Any, y_pred: Any, sample_weight: Any) -> float:
        for array in (y_true, y_pred, sample_weight):
            array[...] = 7
        return 0.0

    wrap = {"own": lambda f: f, "logits": gd.metrics.on_logits, "labels": gd.metrics.on_labels}[takes]
    safe = {"classes": "log_loss", "yes_no": "brier", "numbers": "r2"}[meaning]
    clean = build(outputs, LOSSES[meaning], [safe])
    dirty = build(outputs, LOSSES[meaning], {"s": wrap(spoil), "k": wrap(keep), "t": wrap(spoil), safe: safe})
    before, weights = y.copy(), WEIGHTS.copy()
    for trainer in (clean, dirty):
        trainer.fit(X, y, epochs=3, sample_weight=weights, validation=(X, y, weights), measure_training=True)
    helpers.same_bits(y, before)
    helpers.same_bits(weights, WEIGHTS)
    assert clean.history[f"val_{safe}"] == dirty.history[f"val_{safe}"]
    assert len(kept) == 6
    assert not any(np.shares_memory(a, b) for i in range(6) for j in range(i) for a in kept[i] for b in kept[j])


COLUMNS = [("val_loss", "min"), ("val_roc_auc", "max"), ("val_auc", "max"), ("log_loss", "min"), ("val_top_5", "max")]
COLUMNS += [("val_rmse", "min"), ("val_r2", "max"), ("val_roc_auc_score", "max"), ("val_brier_score_loss", "min")]


@pytest.mark.parametrize(("column", "better"), COLUMNS)
def test_directions_are_known(column: str, better: str, tmp_path: Any) -> None:
    assert gd.metrics.direction(column, None) == better
    for callback in (
        gd.EarlyStopping(column),
        gd.ReduceOnPlateau(column),
        gd.Checkpoint(tmp_path / "c", keep_best=True, monitor=column),
    ):
        assert callback._watch.mode == better


def test_an_unknown_direction_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"^mode: needed for monitor='val_acuracy': did you mean 'val_accuracy'"):
        gd.EarlyStopping("val_acuracy")
    for other in ("val_acc", "acc", "Accuracy"):
        with pytest.raises(ValueError, match=rf"^mode: needed for monitor='{other}': did you mean 'val_accuracy'[?]"):
            gd.EarlyStopping(other)


def test_stopping_and_restarts_need_no_mode() -> None:
    y = targets(2, "classes")
    trainer = build(2, gd.CrossEntropy(), ["roc_auc"])
    stopping = gd.EarlyStopping("val_roc_auc", patience=3)
    history = trainer.fit(X[:60], y[:60], epochs=20, validation=(X[60:], y[60:]), callbacks=[stopping])
    assert stopping.best == max(history["val_roc_auc"]) and history.best_epoch("val_roc_auc") == stopping.best_epoch
    result = gd.restarts(
        lambda seed: gd.Sequential(gd.Dense(3, 2), seed=seed),
        *(3, X, y),
        validation=0.3,
        loss=gd.CrossEntropy(),
        optimizer=gd.Adam(0.01),
        metrics=iter(["roc_auc"]),
        monitor="val_roc_auc",
        epochs=2,
        progress=False,
    )
    assert result.best_start.value == max(start.value for start in result.starts)


def test_an_undefined_measure_is_told() -> None:
    trainer = build(2, gd.CrossEntropy(), ["roc_auc"])
    with pytest.warns(UserWarning, match="roc_auc: undefined"):
        assert np.isnan(trainer.evaluate(X, np.zeros(90, int))["roc_auc"])
    with pytest.warns(UserWarning) as caught:
        trainer.fit(
            *(X, targets(2, "classes")),
            epochs=3,
            validation=(X, np.zeros(90, int)),
            callbacks=[gd.EarlyStopping("val_roc_auc", patience=2)],
        )
    assert any("EarlyStopping: val_roc_auc is nan" in str(each.message) for each in caught)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", sk.accuracy_score, lambda y_true, y_pred: 1.0])
def test_predictions_that_are_not_finite(metric: Any) -> None:
    trainer = build(2, gd.CrossEntropy(), {"m": metric})
    trainer.model.parameters()["layers.0.weight"][0, 0] = np.nan
    with pytest.warns(UserWarning, match="metrics: 'm' is nan"):
        assert np.isnan(trainer.evaluate(X, targets(2, "classes"))["m"])


BAD: list[tuple[Any, type[Exception], str]] = [
    (["acuracy"], ValueError, r"^metrics\[0\]: got 'acuracy'; did you mean 'accuracy'.*roc_auc.*top_5"),
    (["matthews_corrcoef"], ValueError, r"^metrics\[0\]: .*function itself, sklearn.metrics.matthews_corrcoef"),
    (["cohen_kappa"], ValueError, r"^metrics\[0\]: .*sklearn.metrics.cohen_kappa_score"),
    (["top_0"], ValueError, r"^metrics\[0\]"),
    (["top_k"], ValueError, r"^metrics\[0\].*top_5"),
    (["top_4"], ValueError, r"^metrics\[0\]: 'top_4' needs 4 classes"),
    (["r2"], ValueError, r"^metrics\[0\]: 'r2' is not for outputs of 'classes'"),
    ([sk.mean_squared_error], ValueError, r"^metrics\[0\]: 'mean_squared_error' is not for"),
    ([sk.label_ranking_loss], ValueError, r"^metrics\[0\]: label_ranking_loss is for several"),
    ([sk.confusion_matrix], TypeError, r"^metrics\[0\].*no measure"),
    ([sk.make_scorer(sk.f1_score)], TypeError, r"^metrics\[0\]"),
    (["accuracy", "accuracy"], ValueError, r"^metrics\[1\]: the name 'accuracy' is already used"),
    ({"loss": "accuracy"}, ValueError, r"^metrics\['loss'\]: the name 'loss' is already used"),
    ({"lr": "accuracy"}, ValueError, r"^metrics\['lr'\]"),
    ({"val_a": "accuracy"}, ValueError, r"^metrics\['val_a'\]"),
    ({1: "accuracy"}, TypeError, "^metrics"),
    ([gd.metrics.top_k], TypeError, r"^metrics\[0\]: got top_k itself"),
    ([3], TypeError, r"^metrics\[0\]: got 3"),
    ([None], TypeError, r"^metrics\[0\]: got None"),
    (3, TypeError, "^metrics: got 3"),
    (b"accuracy", TypeError, "^metrics"),
]


@pytest.mark.parametrize(("metrics", "kind", "match"), BAD, ids=[str(case[0]) for case in BAD])
def test_refused_before_training(metrics: Any, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        build(3, gd.CrossEntropy(), metrics)


def test_refused_by_other_outputs() -> None:
    for name in ("accuracy", "roc_auc", "log_loss", "top_1"):
        with pytest.raises(ValueError, match=rf"^metrics\[0\]: '{name}' is not for outputs of 'numbers'"):
            build(2, gd.MeanSquaredError(), [name])
    with pytest.raises(ValueError, match=r"^metrics\[0\]: 'top_1' needs"):
        build(3, gd.BinaryCrossEntropy(), ["top_1"])


def test_what_comes_back_is_a_number() -> None:
    y = targets(3, "classes")
    for value in (1, True, 0.5, np.float32(0.5), np.array(0.5)):
        result = build(3, gd.CrossEntropy(), {"m": lambda t, p, v=value: v}).evaluate(X, y)["m"]
        assert type(result) is float and result == float(value)
    for value in (None, "1.0", [1.0], np.ones(1), np.ones(3), 1j, 10**400, np.ma.masked):
        with pytest.raises(TypeError, match=r"^metrics: 'm' returned .*expected a number"):
            build(3, gd.CrossEntropy(), {"m": lambda t, p, v=value: v}).evaluate(X, y)


def test_soft_targets() -> None:
    y = np.full((90, 3), 0.2)
    y[np.arange(90), targets(3, "classes")] = 0.6
    hard = build(3, gd.CrossEntropy(), ["accuracy", "f1"])
    labels = hard.evaluate(X, targets(3, "classes"))
    soft = hard.evaluate(X, y)
    assert soft["accuracy"] == labels["accuracy"] and soft["f1"] == labels["f1"]
    for metric in ("log_loss", "roc_auc", sk.log_loss):
        trainer = build(3, gd.CrossEntropy(), [metric])
        assert set(trainer.evaluate(X, np.eye(3)[targets(3, "classes")])) == {"loss", *trainer.metrics}
        with pytest.raises(ValueError, match=r"^metrics: .* needs labels"):
            trainer.evaluate(X, y)


def test_weights_go_where_they_are_taken() -> None:
    y = targets(1, "numbers")
    trainer = build(1, gd.MeanSquaredError(), [sk.max_error, "mae"])
    found = trainer.evaluate(X, y, sample_weight=WEIGHTS)
    close(found["max_error"], sk.max_error(y, trainer.predict(X)))
    seen: dict[str, Any] = {}

    def options(y_true: Any, y_pred: Any, **given: Any) -> float:
        seen.update(given)
        return 0.0

    build(1, gd.MeanSquaredError(), [options]).evaluate(X, y, sample_weight=WEIGHTS)
    helpers.same_bits(seen["sample_weight"], WEIGHTS)


def test_metrics_go_through_pickle_and_back_in() -> None:
    metrics = ["accuracy", gd.metrics.top_k(2), sk.f1_score, gd.metrics.on_logits(sk.roc_auc_score), "f1_macro"]
    trainer = build(3, gd.CrossEntropy(), metrics)
    other = pickle.loads(pickle.dumps(trainer))
    third = build(3, gd.CrossEntropy(), trainer.metrics)
    y = targets(3, "classes")
    with pytest.raises(ValueError, match=r"sum to 1|sum to one|sum up to 1"):  # of logits
        trainer.evaluate(X, y)
    trainer.metrics = other.metrics = third.metrics = [m for m in metrics if not hasattr(m, "takes")]
    assert trainer.evaluate(X, y) == other.evaluate(X, y) == third.evaluate(X, y)


def test_gdcores_own_on_logits() -> None:
    y = targets(1, "yes_no")[:, 0]
    metrics = {"a": gd.metrics.on_logits(gd.metrics.roc_auc), "b": "auc"}
    found = measured(1, gd.BinaryCrossEntropy(), metrics, y, (2, 1))[1]
    close(found["a"], found["b"])


def test_the_docs_list_what_is_known() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([a-z0-9_]+)`", text))
    assert set(of_sklearn.KNOWN) <= listed
    assert {name for name in names.KNOWN if not re.search("_(macro|micro|weighted)$", name)} <= listed
    for line in text.splitlines():  # in the row of their input
        for head in ("labels", "probabilities", "logits", "numbers"):
            if line.startswith(f"| {head}"):
                found = set(re.findall(r"`(\w+)`", line)) - {"predict_classes"}
                assert all(of_sklearn.KNOWN[name][0] == head for name in found), line


def test_every_measure_of_sklearn_is_known() -> None:
    """Each function of a scorer, or of (y_true, ...) that returns a number, is in the table."""
    scorers = {sk.get_scorer(name)._score_func.__name__ for name in sk.get_scorer_names()}
    assert scorers - set(of_sklearn.KNOWN) <= {"positive_likelihood_ratio", "negative_likelihood_ratio"}
    assert all(hasattr(sk, name) for name in of_sklearn.KNOWN if not name.startswith("d2_"))  # these are newer
