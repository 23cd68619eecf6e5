"""The methods: each a function of a split and a seed that returns its predictions of the test rows.

Predictions are numbers, or probabilities (rows, classes). Libraries are imported by the function that needs them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.tables.tables import Split

if TYPE_CHECKING:
    import pandas

Method = Callable[[Split, int], np.ndarray]


def threads() -> int:
    """Return the number of threads of a fit, which ``python -m bench.tables`` sets: 1 otherwise."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def as_numbers_and_categories(split: Split) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Return both frames with dates as days and texts as categories, the same in both."""
    import pandas

    x, x_test = split.x.copy(), split.x_test.copy()
    for name in x:
        if pandas.api.types.is_datetime64_any_dtype(x[name]):
            for frame in (x, x_test):
                frame[name] = (frame[name] - pandas.Timestamp(1970, 1, 1)) / pandas.Timedelta(days=1)
        elif not pandas.api.types.is_numeric_dtype(x[name]):
            values = pandas.CategoricalDtype(sorted(set(x[name].dropna().astype(str))))
            for frame in (x, x_test):
                frame[name] = frame[name].astype(str).where(frame[name].notna()).astype(values)
    return x, x_test


def early_share(split: Split, x: pandas.DataFrame, seed: int) -> list[Any]:
    """Return inputs and targets without, then of, the 15 % of the training rows that stop the training."""
    from sklearn.model_selection import train_test_split

    stratify = split.y if split.classes else None
    x, x_early, y, y_early = train_test_split(x, split.y, test_size=0.15, random_state=seed, stratify=stratify)
    return [x, y, x_early, y_early]


def predict(model: Any, x: Any, classes: int) -> np.ndarray:
    """Return the predictions of an estimator with scikit-learn's interface."""
    return np.asarray(model.predict_proba(x) if classes else model.predict(x))


def one_hot(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 arrays: standardised numbers with missing ones at the mean, and one column for each category."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    x, x_test = as_numbers_and_categories(split)
    encoder = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=100, sparse_output=False),
            make_column_selector(dtype_exclude="number"),
        ),
    )
    return encoder.fit_transform(x).astype(np.float32), encoder.transform(x_test).astype(np.float32)


def sklearn_mlp(split: Split, seed: int) -> np.ndarray:
    """scikit-learn's network with its default settings and early stopping; targets standardised."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    x, x_test = one_hot(split)
    if split.classes:
        return MLPClassifier(early_stopping=True, random_state=seed).fit(x, split.y).predict_proba(x_test)
    mean, std = split.y.mean(), split.y.std()
    model = MLPRegressor(early_stopping=True, random_state=seed).fit(x, (split.y - mean) / std)
    return model.predict(x_test) * std + mean


def hist_gradient_boosting(split: Split, seed: int) -> np.ndarray:
    """scikit-learn's gradient boosting of histograms with its default settings and early stopping."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    x, x_test = as_numbers_and_categories(split)
    kind = HistGradientBoostingClassifier if split.classes else HistGradientBoostingRegressor
    for name in x.select_dtypes("category"):
        if len(x[name].cat.categories) > 255:  # the most that it accepts: the others become numbers of the categories
            x[name], x_test[name] = x[name].cat.codes, x_test[name].cat.codes
    model = kind(early_stopping=True, random_state=seed).fit(x, split.y)
    return predict(model, x_test, split.classes)


def lightgbm(split: Split, seed: int) -> np.ndarray:
    """LightGBM: at most 2,000 trees, rate 0.05, stopped after 50 without gain on a share of the training rows."""
    import lightgbm as lgb

    x, x_test = as_numbers_and_categories(split)
    x, y, x_early, y_early = early_share(split, x, seed)
    kind = lgb.LGBMClassifier if split.classes else lgb.LGBMRegressor
    model = kind(n_estimators=2000, learning_rate=0.05, n_jobs=threads(), random_state=seed, verbosity=-1)
    metric = "auc" if split.classes == 2 else None
    stop = lgb.early_stopping(50, verbose=False)
    model.fit(x, y, eval_set=[(x_early, y_early)], eval_metric=metric, callbacks=[stop])
    return predict(model, x_test, split.classes)


def pytabkit(name: str, **of_classes: Any) -> Method:
    """Return the method that fits ``name`` of pytabkit: with its default settings, and others for classes."""

    def method(split: Split, seed: int) -> np.ndarray:
        from pytabkit import models

        x, x_test = as_numbers_and_categories(split)
        kind = getattr(models.sklearn.sklearn_interfaces, f"{name}_{'Classifier' if split.classes else 'Regressor'}")
        for frame in (x, x_test):  # neither accepts missing numbers
            frame.fillna(x.select_dtypes("number").mean(), inplace=True)
        model = kind(device="cpu", random_state=seed, n_threads=threads(), **(of_classes if split.classes else {}))
        return predict(model.fit(x, split.y), x_test, split.classes).reshape(len(x_test), -1).squeeze()

    method.__doc__ = f"{name} of pytabkit; missing numbers are replaced by the mean."
    return method


def plain(split: Split, seed: int) -> np.ndarray:
    """gdcore's plain network: 256-256 with ReLU, Adam at 1e-3, early stopping; targets standardised."""
    import gdcore as gd

    x, x_test = one_hot(split)
    x, y, x_early, y_early = early_share(split, x, seed)
    mean, std = (0, 1) if split.classes else (y.mean(), y.std())
    if not split.classes:
        y, y_early = (y - mean) / std, (y_early - mean) / std
    outputs = max(split.classes, 1)
    layers = [gd.Dense(x.shape[1], 256), gd.ReLU(), gd.Dense(256, 256), gd.ReLU(), gd.Dense(256, outputs)]
    model = gd.Sequential(*layers, seed=seed, device="cpu")
    loss = gd.CrossEntropy() if split.classes else gd.MeanSquaredError()
    trainer = gd.Trainer(model, loss, optimizer=gd.Adam(1e-3), seed=seed)
    stop = gd.EarlyStopping(patience=10)
    trainer.fit(x, y, epochs=100, batch_size=128, validation=(x_early, y_early), callbacks=[stop])
    out = np.asarray(model.predict(x_test), dtype=np.float64)
    if not split.classes:
        return out[:, 0] * std + mean
    out = np.exp(out - out.max(axis=1, keepdims=True))
    return out / out.sum(axis=1, keepdims=True)


def tabular(split: Split, seed: int) -> np.ndarray:
    """gdcore's TabularClassifier or TabularRegressor with its default settings."""
    from gdcore import sklearn

    kind = sklearn.TabularClassifier if split.classes else sklearn.TabularRegressor
    return predict(kind(random_state=seed).fit(split.x, split.y), split.x_test, split.classes)


METHODS: dict[str, Method] = {
    "sklearn-mlp": sklearn_mlp,
    "plain": plain,
    "hist-gb": hist_gradient_boosting,
    "lightgbm": lightgbm,
    "realmlp": pytabkit("RealMLP_TD"),
    # What pytabkit recommends for the AUC; by default the epoch with the fewest wrong classes is kept.
    "realmlp-ce": pytabkit("RealMLP_TD", val_metric_name="cross_entropy", use_ls=False),
    "tabm": pytabkit("TabM_D"),
    "tabular": tabular,
}
IMPORTS: dict[str, list[str]] = {
    "sklearn-mlp": ["sklearn.compose", "sklearn.neural_network"],
    "plain": ["sklearn.compose", "gdcore"],
    "hist-gb": ["sklearn.ensemble"],
    "lightgbm": ["lightgbm"],
    "realmlp": ["pytabkit", "pytabkit.models.alg_interfaces.nn_interfaces"],
    "realmlp-ce": ["pytabkit", "pytabkit.models.alg_interfaces.nn_interfaces"],
    "tabm": ["pytabkit", "pytabkit.models.alg_interfaces.tabm_interface"],
    "tabular": ["gdcore.sklearn"],
}
"""Modules that each method needs; a method whose modules are missing is skipped."""


def missing(method: str) -> str | None:
    """Return the first module that ``method`` needs and that is not installed."""
    for module in IMPORTS[method]:
        top = module.partition(".")[0]
        if importlib.util.find_spec(top) is None or (top == "gdcore" and importlib.util.find_spec(module) is None):
            return module
    return None
