"""JAX: the whole step as one jitted function with donated weights, called for each batch or in a `lax.scan`."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import jax
import jaxlib
import numpy as np
from jax import lax
from jax import numpy as jnp

from . import cases

Parameters = dict[str, list[jax.Array]]
State = tuple[Parameters, Parameters, Parameters, Parameters, jax.Array]  # weights, Adam's two moments, averages, step
Step = Callable[[State, Any], tuple[State, jax.Array]]


def normalise(case: cases.Case, h: jax.Array, gamma: jax.Array, beta: jax.Array) -> tuple[jax.Array, Any]:
    """Return the normalised layer, and the mean and variance of the batch (of the rows for LayerNorm)."""
    axis = 0 if case.norm == "batch" else 1
    mean = jnp.mean(h, axis, keepdims=True)
    centred = h - mean
    variance = jnp.mean(centred * centred, axis, keepdims=True)
    return gamma * (centred * lax.rsqrt(variance + cases.NORM_EPS)) + beta, (mean, variance)


def forward(case: cases.Case, p: Parameters, averages: Parameters, x: jax.Array) -> tuple[jax.Array, Parameters]:
    """Return the outputs, and BatchNorm's updated running averages."""
    moved: Parameters = {"mean": [], "variance": []}
    h = x
    for i in range(case.hidden):
        h = h @ p["w"][i] + p["b"][i]
        if case.norm:
            h, measured = normalise(case, h, p["gamma"][i], p["beta"][i])
            if case.norm == "batch":
                for name, value in zip(("mean", "variance"), measured, strict=True):
                    old = averages[name][i]
                    moved[name].append(cases.NORM_DECAY * old + (1 - cases.NORM_DECAY) * lax.stop_gradient(value[0]))
        h = jax.nn.relu(h)
    return h @ p["w"][-1] + p["b"][-1], moved


def make_step(case: cases.Case) -> Step:
    """Return the function of state and batch for one step of Adam, not yet compiled."""
    beta1, beta2 = cases.BETAS

    def loss(p: Parameters, averages: Parameters, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Parameters]:
        outputs, moved = forward(case, p, averages, x)
        if case.loss == "mse":
            return jnp.mean((outputs - y) ** 2), moved
        chances = jax.nn.log_softmax(outputs)
        return -jnp.mean(jnp.take_along_axis(chances, y[:, None], axis=1)), moved

    def step(state: State, batch: Any) -> tuple[State, jax.Array]:
        p, s, r, averages, count = state
        (value, averages), g = jax.value_and_grad(loss, has_aux=True)(p, averages, *batch)
        count = count + 1
        correction1, correction2 = 1 - beta1**count, 1 - beta2**count
        s = jax.tree.map(lambda s, g: beta1 * s + (1 - beta1) * g, s, g)
        r = jax.tree.map(lambda r, g: beta2 * r + (1 - beta2) * g * g, r, g)
        p = jax.tree.map(
            lambda p, s, r: p - case.rate * (s / correction1) / (jnp.sqrt(r / correction2) + cases.EPS),
            p,
            s,
            r,
        )
        return (p, s, r, averages, count), value

    return step


def initial(case: cases.Case, data: cases.Data) -> State:
    """Return the state before the first step, as NumPy arrays. Weights are (in, out), as usual in JAX."""
    hidden = case.widths[1:-1] if case.norm else ()
    p = {
        "w": [np.ascontiguousarray(w.T) for w in data.weights],
        "b": list(data.biases),
        "gamma": [np.ones(n, np.float32) for n in hidden],
        "beta": [np.zeros(n, np.float32) for n in hidden],
    }
    columns = hidden if case.norm == "batch" else ()
    averages = {
        "mean": [np.zeros(n, np.float32) for n in columns],
        "variance": [np.ones(n, np.float32) for n in columns],
    }
    zeros = jax.tree.map(np.zeros_like, p)
    return p, zeros, zeros, averages, np.float32(0)  # type: ignore[return-value]


class StepPeer:
    """One call of the jitted step per batch, in a loop in Python."""

    def __init__(self, threads: int) -> None:
        pass  # XLA uses one thread per processor of the process

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        jax.clear_caches()
        made, numbers = cases.Case.from_json(case), cases.load(data)
        self.start = initial(made, numbers)
        self._load(make_step(made), numbers.x, numbers.y if made.loss == "mse" else numbers.y.astype(np.int32))
        return {"variant": "step"}

    def _load(self, step: Step, x: np.ndarray, y: np.ndarray) -> None:
        """Set `batches`, the arguments of successive calls, `step`, the function, and `steps`, the steps of a call."""
        self.batches = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(x, y, strict=True)]
        self.step, self.steps = jax.jit(step, donate_argnums=0), 1

    def _fresh(self) -> State:
        # Copies: a donated buffer must not share memory with an array that is used again.
        return jax.tree.map(lambda a: jnp.array(a, copy=True), self.start)

    def curve(self, steps: int) -> list[float]:
        state = self._fresh()
        losses: list[jax.Array] = []
        for batch in islice(cycle(self.batches), -(-steps // self.steps)):
            state, value = self.step(state, batch)
            losses.append(value)
        return [float(value) for value in np.concatenate([np.atleast_1d(value) for value in losses])[:steps]]

    def run(self, steps: int) -> dict[str, float]:
        calls = -(-steps // self.steps)
        state, value = self.step(self._fresh(), self.batches[0])
        jax.block_until_ready((state, value))
        batches = list(islice(cycle(self.batches), calls))
        started = time.perf_counter()
        for batch in batches:
            state, value = self.step(state, batch)
        jax.block_until_ready((state, value))
        return {"seconds": time.perf_counter() - started, "steps": calls * self.steps}


class ScanPeer(StepPeer):
    """One call for all batches, known in advance: a `lax.scan` over the same step."""

    def _load(self, step: Step, x: np.ndarray, y: np.ndarray) -> None:
        self.batches = [(jnp.asarray(x), jnp.asarray(y))]
        self.step = jax.jit(lambda state, batches: lax.scan(step, state, batches), donate_argnums=0)
        self.steps = len(x)
