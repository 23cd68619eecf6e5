"""``python -m bench.many --out NAME``: the time to train 1 to 300 networks from different seeds, in several ways.

Each network is 64-32-10 and trains for 20 epochs on 1,500 rows in batches of 32 with Adam, measured on 300 more rows
after each epoch. Rounds of all ways alternate, so that other work on the machine affects all alike. All times are
written to ``NAME.json``, their medians drawn in ``NAME.png``. JAX trains all networks as one function: `vmap` over
seeds of a `scan` over epochs and batches, which drops the 28 rows after the last whole batch. Its compilation is not
counted, nor is the start of the processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gdcore as gd
import numpy as np

from bench.peers import cases, cores, machine

ROWS, VALIDATION, EPOCHS, BATCH, RATE = 1500, 300, 20, 32, 1e-3
PATIENCE = 60.0  # seconds for a number of networks, in which timings wait for a core for each processor
WAYS = ("one after the other", "threads", "processes", "JAX, vmap")


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, and labels that a network can learn in part."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS + VALIDATION, 64)).astype(np.float32)
    return x, np.argmax(x[:, :10] + rng.standard_normal((len(x), 10)), axis=1)


def build(seed: int) -> gd.Sequential:
    return gd.Sequential(gd.Dense(64, 32), gd.ReLU(), gd.Dense(32, 10), seed=seed, device="cpu")


def of_gdcore(**where: object) -> Callable[[int, int], float]:
    """Return a function of the number of networks and a seed that trains them and returns the best loss."""
    x, y = data()

    def train(n: int, seed: int) -> float:
        return gd.restarts(
            build,
            n,
            x[:ROWS],
            y[:ROWS],
            validation=(x[ROWS:], y[ROWS:]),
            loss=gd.CrossEntropy(),
            optimizer=gd.Adam(RATE, betas=cases.BETAS),
            epochs=EPOCHS,
            batch_size=BATCH,
            seed=seed,
            progress=False,
            **where,
        ).best_start.value

    return train


def of_jax() -> Callable[[int, int], float]:
    """Return the same for JAX; the first call with a number of networks compiles."""
    import jax
    from jax import numpy as jnp

    from bench.peers import peer_jax

    case = cases.Case((64, 32, 10), BATCH)
    step, (x, y) = peer_jax.make_step(case), data()
    x, y = jnp.asarray(x), jnp.asarray(y.astype(np.int32))
    batches = ROWS // BATCH

    def one(key: jax.Array) -> jax.Array:
        first, second, key = jax.random.split(key, 3)
        zeros = [jnp.zeros(32), jnp.zeros(10)]
        scaled = [jax.random.normal(k, s) * np.sqrt(2 / s[0]) for k, s in ((first, (64, 32)), (second, (32, 10)))]
        p = {"w": scaled, "b": zeros, "gamma": [], "beta": []}
        empty = jax.tree.map(jnp.zeros_like, p)

        def epoch(state: peer_jax.State, key: jax.Array) -> tuple[peer_jax.State, jax.Array]:
            rows = jax.random.permutation(key, ROWS)[: batches * BATCH].reshape(batches, BATCH)
            state, _ = jax.lax.scan(lambda state, at: step(state, (x[at], y[at])), state, rows)
            chances = jax.nn.log_softmax(peer_jax.forward(case, state[0], state[3], x[ROWS:])[0])
            return state, -jnp.mean(jnp.take_along_axis(chances, y[ROWS:, None], axis=1))

        start = (p, empty, empty, {"mean": [], "variance": []}, jnp.float32(0))
        return jax.lax.scan(epoch, start, jax.random.split(key, EPOCHS))[1][-1]

    train_all = jax.jit(jax.vmap(one))
    return lambda n, seed: float(train_all(jax.random.split(jax.random.key(seed), n)).min())


def main(argv: list[str] | None = None) -> int:
    """Measure, print a line for each number of networks, write and draw the result."""
    parser = argparse.ArgumentParser(prog="python -m bench.many", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="path without ending")
    parser.add_argument("--numbers", default="1,3,10,30,100,300", help="numbers of networks, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    processors = len(os.sched_getaffinity(0))
    trains = dict(
        zip(
            WAYS,
            (of_gdcore(n_jobs=1), of_gdcore(), of_gdcore(within="processes", n_jobs=processors), of_jax()),
            strict=True,
        )
    )
    results = []
    for n in map(int, options.numbers.split(",")):
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        until = time.monotonic() + PATIENCE
        for turn in range(options.rounds + 1):  # the first compiles, and starts processes
            for way in WAYS:
                cores.wait_for_cores(sorted(os.sched_getaffinity(0)), until)
                started = time.perf_counter()
                loss = trains[way](n, 1000 * turn)
                assert 0.1 < loss < 2.2, (way, loss)
                if turn:
                    seconds[way].append(time.perf_counter() - started)
        results.append({"networks": n, "seconds": seconds})
        print(n, {way: round(statistics.median(each), 4) for way, each in seconds.items()}, flush=True)
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    facts = {"machine": machine.describe(len(cpus), cpus), "processors": processors, "results": results}
    options.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(facts, options.out.with_suffix(".png"))
    return 0


def draw(facts: dict, path: Path) -> None:
    """Draw the medians."""
    from gdcore.plotting import figures

    axes = figures.new_axes(True, "bench.many")
    numbers = [result["networks"] for result in facts["results"]]
    for i, way in enumerate(WAYS):
        medians = [statistics.median(result["seconds"][way]) for result in facts["results"]]
        axes.plot(numbers, medians, color=figures.COLOURS[i], marker="os^D"[i], label=way)
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(n) for n in numbers], minor=False)
    axes.minorticks_off()
    title = f"Networks 64-32-10, 20 epochs of 1,500 rows, on {facts['processors']} processors"
    figures.dress(axes, title, "networks", "seconds")
    figures.save(axes, path)


if __name__ == "__main__":
    sys.exit(main())
