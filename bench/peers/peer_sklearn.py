"""scikit-learn: whole epochs of MLPClassifier, for the networks that it supports."""

from __future__ import annotations

import time
import warnings
from itertools import cycle, islice
from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from . import cases
from .registry import Calls

# scikit-learn adds ε to the square root before the correction of the bias, the others after it. This value has the same
# effect in the tenth step.
EPS = cases.EPS * (1 - cases.BETAS[1] ** 10) ** 0.5


class SklearnPeer:
    """`MLPClassifier.fit` on all batches as one data set, not shuffled, with the shared initial weights."""

    def __init__(self, threads: int) -> None:
        warnings.simplefilter("ignore")  # the warning that training has not converged

    def versions(self) -> dict[str, str]:
        return {"scikit-learn": sklearn.__version__}

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        made = cases.Case.from_json(case)
        if made.norm:
            return {"unsupported": "has no norms"}
        if made.loss != "cross-entropy" or made.widths[-1] < 3:
            return {"unsupported": "its loss for such outputs is another"}
        numbers = cases.load(data)
        self.batches = list(zip(numbers.x, numbers.y, strict=True))
        self.x, self.y = numbers.x.reshape(-1, made.widths[0]), numbers.y.reshape(-1)
        self.start = [w.T for w in numbers.weights], numbers.biases
        self.model = MLPClassifier(
            made.widths[1:-1],
            alpha=0.0,
            batch_size=made.batch,
            learning_rate_init=made.rate,
            beta_1=cases.BETAS[0],
            beta_2=cases.BETAS[1],
            epsilon=EPS,
            shuffle=False,
            warm_start=True,
            max_iter=1,
            tol=0.0,
            n_iter_no_change=1 << 30,
        )
        self.model.fit(self.x, self.y)  # creates the arrays into which `reset` copies the weights
        return {"variant": "fit"}

    def reset(self) -> None:
        """Restore the initial weights."""
        self.model.coefs_ = [np.array(w, order="C") for w in self.start[0]]
        self.model.intercepts_ = [b.copy() for b in self.start[1]]
        if hasattr(self.model, "_optimizer"):
            del self.model._optimizer  # `partial_fit` would continue with its state

    def curve(self, steps: int) -> list[float]:
        self.reset()
        self.model.warm_start = False  # True requires all classes in every batch
        losses = []
        for x, y in islice(cycle(self.batches), steps):
            self.model.partial_fit(x, y)
            losses.append(float(self.model.loss_))
        return losses

    def run(self, steps: int) -> dict[str, float]:
        epochs = -(-steps // len(self.batches))
        self.reset()
        self.model.max_iter, self.model.warm_start = epochs, True
        started = time.perf_counter()
        self.model.fit(self.x, self.y)
        return {"seconds": time.perf_counter() - started, "steps": epochs * len(self.batches)}


class PredictPeer(Calls, SklearnPeer):
    """`MLPRegressor.predict`, whose outputs are those of the last layer."""

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        made = cases.Case.from_json(case)
        if made.norm:
            return {"unsupported": "has no norms"}
        numbers = cases.load(data)
        self.batches = list(numbers.x)
        model = MLPRegressor(hidden_layer_sizes=made.widths[1:-1], max_iter=1)
        model.fit(numbers.x[0], np.zeros((made.batch, made.widths[-1]), np.float32))
        model.coefs_ = [np.array(w.T, order="C") for w in numbers.weights]
        model.intercepts_ = [b.copy() for b in numbers.biases]
        self.predict = model.predict
        return {"variant": "predict"}
