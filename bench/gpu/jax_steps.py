"""JAX on the GPU: all steps of a call in one `lax.scan` that gathers its batches, with donated state."""

from __future__ import annotations

import time
from itertools import repeat
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from bench.peers.cases import Data
from bench.peers.peer_jax import initial, make_step

from .cases import Run

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


class JaxPeer:
    """A jitted function of the state, the data and the row indices of the batches: an epoch per call."""

    def __init__(self, run: Run, data: Data) -> None:
        if jax.default_backend() != "gpu":
            raise RuntimeError(f"JAX works on {jax.default_backend()} here")
        self.batch, self.batches = run.case.batch, len(data.x)
        self.x = jnp.asarray(data.x.reshape(-1, data.x.shape[-1]))
        self.y = jnp.asarray(data.y.reshape(-1).astype(np.int32))
        self.start = initial(run.case, data)
        step = make_step(run.case)

        def epoch(state: Any, x: jax.Array, y: jax.Array, order: jax.Array) -> Any:
            return lax.scan(lambda s, rows: step(s, (x[rows], y[rows])), state, order)

        with jax.default_matmul_precision(PRECISIONS[run.precision]):
            state = self._fresh()
            arguments = (state, self.x, self.y, self._order(None))
            self.epoch = jax.jit(epoch, donate_argnums=0).lower(*arguments).compile()

    def _fresh(self) -> Any:
        return jax.tree.map(lambda a: jnp.array(a, copy=True), self.start)

    def _order(self, key: Any) -> jax.Array:
        rows = jnp.arange(len(self.x), dtype=jnp.int32)
        rows = rows if key is None else jax.random.permutation(key, rows)
        return rows.reshape(self.batches, self.batch)

    def curve(self, steps: int) -> list[float]:
        """Return the losses of the first steps, in the order of the data."""
        state, losses = self._fresh(), []
        for _ in range(-(-steps // self.batches)):
            state, values = self.epoch(state, self.x, self.y, self._order(None))
            losses.append(np.asarray(values))
        return [float(value) for value in np.concatenate(losses)[:steps]]

    def seconds_per_step(self, seconds: float) -> dict[str, float]:
        """Return the host's time of a step; the order of each epoch is generated on the device."""
        draw = jax.jit(self._order)

        def stretch(epochs: int) -> float:
            state, key = self._fresh(), jax.random.key(0)
            jax.block_until_ready((state, draw(key)))
            started = time.perf_counter()
            for _ in repeat(None, epochs):
                key, now = jax.random.split(key)
                state, values = self.epoch(state, self.x, self.y, draw(now))
            jax.block_until_ready((state, values))
            return time.perf_counter() - started

        stretch(1)
        epochs = max(1, round(seconds / max(stretch(1), 1e-5)))
        times = [stretch(epochs) / (epochs * self.batches) for _ in range(5)]
        return {"step": float(np.median(times)), "spread": float(np.ptp(times))}
