"""Start from parameters of another network: pre-trained without labels, or trained on another task.

What one sees: the test accuracy of "is the digit even or odd?", learned from 40 labelled images, from five starts:

- random weights;
- the encoder of an autoencoder, which learned from images without labels to restore them when half of their pixels are
  missing; trained on, or with its first layer frozen;
- the hidden layers of a network that reads digits, a task for which many labelled images exist; trained on, or frozen.

`load_parameters` copies layers by name, `freeze` excludes them from training. The gain is the difference from random
weights in the same run; ± is the standard error over the runs. Reading digits moves well to this task, as the digit
determines the answer. Parameters do not help every task: those of a network that reads 0 to 4 did not help to read 5
to 9.

Data: scikit-learn's 1,797 digits of 8 x 8 pixels.
"""

import gdcore as gd
import numpy as np
from sklearn.datasets import load_digits

RUNS, LABELLED, HIDDEN = 8, 40, ("first", "second")
x, digit = load_digits(return_X_y=True)
x, odd = x / 16, digit % 2


def hidden_layers() -> list[gd.Layer]:
    return [gd.Dense(64, 128, name="first"), gd.Tanh(), gd.Dense(128, 64, name="second"), gd.Tanh()]


def train(model: gd.Sequential, x: np.ndarray, y: np.ndarray, *, loss: gd.Loss, epochs: int, batch: int) -> None:
    gd.Trainer(model, loss, optimizer=gd.Adam(lr=2e-3)).fit(x, y, epochs=epochs, batch_size=batch)


def autoencoder(x: np.ndarray, seed: int) -> gd.Sequential:
    """Learn to restore images from half of their pixels; no label is used."""
    decoder = [gd.Dense(64, 128), gd.Tanh(), gd.Dense(128, 64)]
    model = gd.Sequential(gd.Dropout(0.5), *hidden_layers(), *decoder, seed=seed)
    train(model, x, x, loss=gd.MeanSquaredError(), epochs=80, batch=64)
    return model


def digit_reader(x: np.ndarray, digit: np.ndarray, seed: int) -> gd.Sequential:
    model = gd.Sequential(*hidden_layers(), gd.Dense(64, 10, name="head"), seed=seed)
    train(model, x, digit, loss=gd.CrossEntropy(), epochs=30, batch=32)
    return model


def accuracy(source: gd.Sequential | None, frozen: tuple[str, ...], rows: np.ndarray, test: np.ndarray) -> float:
    """Train on a few rows, from the hidden layers of `source` or random ones; return the accuracy on the test rows."""
    model = gd.Sequential(*hidden_layers(), gd.Dense(64, 2, name="head"), seed=1)
    if source is not None:
        model.load_parameters(source, only=HIDDEN)
    if frozen:
        model.freeze(*frozen)
    train(model, x[rows], odd[rows], loss=gd.CrossEntropy(), epochs=100, batch=10)
    return float(np.mean(model.predict_classes(x[test]) == odd[test]))


results = []
for run in range(RUNS):
    shuffled = np.random.default_rng(run).permutation(len(x))
    test, pool = shuffled[:500], shuffled[500:]
    few = np.concatenate([pool[odd[pool] == answer][: LABELLED // 2] for answer in (0, 1)])
    unlabelled, reader = autoencoder(x[pool], seed=run), digit_reader(x[pool], digit[pool], seed=run)
    starts = {
        "random weights": (None, ()),
        "autoencoder, all layers trained": (unlabelled, ()),
        "autoencoder, first layer frozen": (unlabelled, ("first",)),
        "reader of digits, all layers trained": (reader, ()),
        "reader of digits, hidden layers frozen": (reader, HIDDEN),
    }
    results.append([accuracy(source, frozen, few, test) for source, frozen in starts.values()])

accuracies = np.array(results)
gains = accuracies - accuracies[:, :1]
print(f"even or odd from {LABELLED} labelled images: mean and standard error of {RUNS} runs")
print(f"{'start':40} {'test accuracy':>15} {'gain':>15}")
for name, reached, gain in zip(starts, accuracies.T, gains.T, strict=True):
    columns = [f"{v.mean():.3f} ± {v.std(ddof=1) / np.sqrt(RUNS):.3f}" for v in (reached, gain)]
    print(f"{name:40} {columns[0]:>15} {columns[1]:>15}")
