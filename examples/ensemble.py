"""Train eight networks, let them predict together, and choose the best mixture of them.

What one sees: on images that no network has seen, the mean of the eight networks' probabilities is right more often
than the networks are on average. Where they are far apart, errors are frequent: among the tenth of the images with the
largest spread there are most of the errors. A greedy selection (Caruana et al. 2004) needs fewer networks for nearly
the same result; networks trained on bootstrap samples can be measured on their own training data. The ensemble is
saved in one file.

Data: scikit-learn's 1,797 digits of 8 x 8 pixels.
"""

import gdcore as gd
import numpy as np
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = gd.train_validation_split(x, y, fraction=0.4, seed=1, stratify=True)
x, xv, y, yv = gd.train_validation_split(x, y, fraction=0.25, seed=1, stratify=True)


def build(seed: int) -> gd.Sequential:
    return gd.Sequential(gd.Standardizer().fit(x), gd.Dense(64, 32), gd.ReLU(), gd.Dense(32, 10), seed=seed)


def train(*, bootstrap: bool) -> gd.Ensemble:
    return gd.Ensemble.train(
        build,
        8,
        x,
        y,
        loss=gd.CrossEntropy(),
        optimizer=gd.Adam(3e-3),
        validation=(xv, yv),
        bootstrap=bootstrap,
        epochs=60,
        callbacks=[gd.EarlyStopping(patience=6)],
        progress=False,
    )


def report(name: str, ensemble: gd.Ensemble) -> None:
    found = ensemble.evaluate(x_test, y_test, metrics=["accuracy"])
    print(f"{name:<20} accuracy {found['accuracy']:.4f}   loss {found['loss']:.4f}")


ensemble = train(bootstrap=False)
alone = [ensemble[i : i + 1].evaluate(x_test, y_test, metrics=["accuracy"]) for i in range(len(ensemble))]
means = {name: np.mean([each[name] for each in alone]) for name in ("accuracy", "loss")}
print(f"{len(x)} images for training, {len(x_test)} for the test")
print(f"{'one network, mean':<20} accuracy {means['accuracy']:.4f}   loss {means['loss']:.4f}")
report("ensemble of 8", ensemble)
chosen = ensemble.select(xv, yv)
report(f"selection of {len(chosen)}", chosen)
print(f"picks of each network: {[int(weight) for weight in chosen.weights]}")

wrong = ensemble.predict_classes(x_test) != y_test
spread = ensemble.predict_std(x_test).max(axis=1)
doubtful = spread >= np.quantile(spread, 0.9)
print(f"errors: {wrong.sum()}, of them {wrong[doubtful].sum()} among the {doubtful.sum()} images of largest spread")

bagged = train(bootstrap=True)
print(f"bagged, out of bag: accuracy {bagged.out_of_bag(x, y, metrics=['accuracy'])['accuracy']:.4f}")
report("bagged ensemble", bagged)

ensemble.save("ensemble.safetensors")
again = gd.load("ensemble.safetensors")
print(f"loaded again: the same predictions: {np.array_equal(again.predict(x_test), ensemble.predict(x_test))}")
