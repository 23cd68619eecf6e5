"""Many networks at once on a GPU: a stack of gdcore (gdcore.training.stack) against JAX's vmap over a scan.

Usage: python -m bench.gpu.many [--networks 10,100,1000,10000] [--libraries gdcore,jax] [--runs 3] [--dry]

Each network has its own initial weights and its own order of rows; 20 epochs of 47 batches of 32 rows, Adam, the
validation loss after each epoch. Prints a JSON line for each case, library and number of networks: seconds of the
whole training (the median of the runs, and their spread), microseconds per network and epoch, the time before the
first run (compilation, and with gdcore the creation of the models), and the median of the last validation losses, which
must be alike. --dry: tiny sizes on the emulated GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gdcore as gd
import numpy as np
from gdcore.training.stack import fit_stack

BATCH, LR, BETAS = 32, 1e-3, (0.9, 0.999)
ROWS, HELD_OUT, EPOCHS = 47 * BATCH, 300, 20
CASES = {"20-32-32-2": (20, 32, 32, 2), "64-32-10": (64, 32, 10)}


class Problem(NamedTuple):
    """Widths of the network, and the data: inputs and labels to train on and to measure."""

    widths: tuple[int, ...]
    epochs: int
    x: np.ndarray
    y: np.ndarray
    held_out: tuple[np.ndarray, np.ndarray]


def problem(widths: tuple[int, ...], *, dry: bool) -> Problem:
    """Return random inputs with the labels of a random linear map and some noise."""
    rng = np.random.default_rng(0)
    rows, held_out, epochs = (2 * BATCH, 20, 2) if dry else (ROWS, HELD_OUT, EPOCHS)
    x = rng.standard_normal((rows + held_out, widths[0])).astype(np.float32)
    scores = x @ rng.standard_normal((widths[0], widths[-1])) + rng.standard_normal((len(x), widths[-1]))
    y = scores.argmax(axis=1).astype(np.int32)
    return Problem(widths, epochs, x[:rows], y[:rows], (x[rows:], y[rows:]))


Runs = tuple[Callable[[int], None], Callable[[int], np.ndarray]]


def gdcore_runs(given: Problem, networks: int) -> Runs:
    """Return functions that create networks from a first seed, and that train them."""
    made: dict[int, list[gd.Trainer]] = {}

    def trainer(seed: int) -> gd.Trainer:
        layers: list[Any] = []
        for i, (width, following) in enumerate(zip(given.widths[:-1], given.widths[1:], strict=True)):
            layers += ([gd.ReLU()] if i else []) + [gd.Dense(width, following)]
        model = gd.Sequential(*layers, seed=seed, device="cuda")
        return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(LR, betas=BETAS))

    def run(first: int) -> np.ndarray:
        trainers = made.pop(first)
        done = fit_stack(trainers, given.x, given.y, epochs=given.epochs, batch_size=BATCH, validation=given.held_out)
        assert not done.left and not done.errors
        return np.array([each.history["val_loss"][-1] for each in trainers])

    def prepare(first: int) -> None:
        made[first] = [trainer(first + i) for i in range(networks)]

    return prepare, run


def jax_runs(given: Problem, networks: int) -> Runs:
    """Return the same for JAX: vmap over the networks, a scan over epochs, a scan over batches, on the device."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    x, y = jnp.asarray(given.x), jnp.asarray(given.y)
    held_out = tuple(map(jnp.asarray, given.held_out))

    def initial(key: Any) -> Any:
        keys = jax.random.split(key, len(given.widths) - 1)
        pairs = zip(keys, given.widths[:-1], given.widths[1:], strict=True)
        return [(jax.random.normal(k, (i, o)) * np.sqrt(2.0 / i), jnp.zeros(o)) for k, i, o in pairs]

    def loss(weights: Any, inputs: Any, labels: Any) -> Any:
        for i, (w, b) in enumerate(weights):
            inputs = (jax.nn.relu(inputs) if i else inputs) @ w + b
        return -jnp.take_along_axis(jax.nn.log_softmax(inputs), labels[:, None], axis=1).mean()

    def step(state: Any, rows: Any) -> Any:
        weights, first, second, count = state
        gradients = jax.grad(loss)(weights, x[rows], y[rows])
        count = count + 1
        tree = jax.tree.map
        first = tree(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, first, gradients)
        second = tree(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, second, gradients)
        scale = LR * jnp.sqrt(1 - BETAS[1] ** count) / (1 - BETAS[0] ** count)
        weights = tree(lambda w, m, v: w - scale * m / (jnp.sqrt(v) + 1e-8), weights, first, second)
        return (weights, first, second, count), None

    def train(key: Any) -> Any:
        weights = initial(key)
        zeros = jax.tree.map(jnp.zeros_like, weights)

        def epoch(state: Any, key: Any) -> Any:
            order = jax.random.permutation(key, len(x)).reshape(-1, BATCH)
            state, _ = lax.scan(step, state, order)
            return state, loss(state[0], *held_out)

        _, losses = lax.scan(epoch, (weights, zeros, zeros, 0), jax.random.split(key, given.epochs))
        return losses[-1]

    with jax.default_matmul_precision("highest"):
        compiled = jax.jit(jax.vmap(train)).lower(jax.random.split(jax.random.key(0), networks)).compile()

    def run(first: int) -> np.ndarray:
        return np.asarray(compiled(jax.random.split(jax.random.key(first), networks)))

    return lambda first: None, run


def measured(library: str, name: str, networks: int, runs: int, *, dry: bool) -> dict[str, Any]:
    """Return the figures of one case."""
    given = problem(CASES[name], dry=dry)
    started = time.perf_counter()
    prepare, run = {"gdcore": gdcore_runs, "jax": jax_runs}[library](given, networks)
    prepare(0)
    before = time.perf_counter() - started
    losses = run(0)  # a first run, which is not counted
    times = []
    for i in range(1, runs + 1):
        prepare(i)
        started = time.perf_counter()
        losses = run(i)
        times.append(time.perf_counter() - started)
    return {
        "library": library,
        "case": name,
        "networks": networks,
        "seconds": float(np.median(times)),
        "spread": float(np.ptp(times)),
        "us_per_network_and_epoch": float(np.median(times)) * 1e6 / networks / given.epochs,
        "seconds_before": before,
        "val_loss": float(np.median(losses)),
    }


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="10,100,1000,10000")
    parser.add_argument("--libraries", default="gdcore,jax")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    counts = [2] if options.dry else [int(each) for each in options.networks.split(",")]
    for networks in counts:
        for name in CASES:
            for library in options.libraries.split(","):
                figures = measured(library, name, networks, 1 if options.dry else options.runs, dry=options.dry)
                print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
