"""``python -m bench.parquet``: processor time of fit on Parquet files beside arrays, one thread each.

Rounds take turns, the least of each counts: an epoch on arrays, an epoch on the file, and what pyarrow takes to decode
the file. Processor time counts all threads of the process, the one that reads ahead included.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "ARROW_NUM_THREADS"):  # before the libraries are imported
    os.environ[variable] = "1"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.parquet", description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a timing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row-group", type=int, default=16_384, help="rows of a row group")
    parser.add_argument("--windows", default="32768,65536", help="rows of windows, separated by commas")
    parser.add_argument("--compression", default="snappy,none", help="of the file: names separated by commas")
    return parser.parse_args(argv)


def least(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the least processor seconds of each call over rounds in turn, after one that does not count."""
    found = dict.fromkeys(calls, float("inf"))
    for number in range(rounds + 1):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            if number:
                found[name] = min(found[name], time.process_time() - begun)
    return found


def main(argv: list[str] | None = None) -> int:
    """Write the file, time the calls, print a table."""
    import gdcore as gd
    import numpy as np
    import pyarrow
    import pyarrow.parquet

    given = arguments(argv)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((given.rows, given.features), dtype=np.float32)
    y = rng.integers(0, 10, given.rows)
    names = [f"x{i}" for i in range(given.features)]

    def fit(*data: Any) -> None:
        network = (gd.Dense(given.features, 32), gd.ReLU(), gd.Dense(32, 10))
        trainer = gd.Trainer(gd.Sequential(*network, seed=0, device="cpu"), gd.CrossEntropy(), optimizer=gd.Adam(1e-3))
        trainer.fit(*data, epochs=given.epochs, batch_size=given.batch)

    def decode(file: Path) -> None:
        for _ in range(given.epochs):
            opened = pyarrow.parquet.ParquetFile(file)
            for group in range(opened.num_row_groups):
                opened.read_row_group(group, use_threads=False)

    print(f"{given.rows} rows of {given.features}, {given.features}-32-10, batches of {given.batch}, one thread")
    print("compression | window | arrays: ms an epoch | decoding | Parquet | Parquet to arrays")
    with tempfile.TemporaryDirectory() as folder:
        for compression in given.compression.split(","):
            file = Path(folder, f"{compression}.parquet")
            table = pyarrow.table({name: x[:, i] for i, name in enumerate(names)} | {"y": y})
            pyarrow.parquet.write_table(table, file, row_group_size=given.row_group, compression=compression)
            for window in map(int, given.windows.split(",")):
                rows = gd.data.Parquet(file, names, "y", window=window)
                calls = {"arrays": lambda: fit(x, y), "decode": lambda f=file: decode(f), "fit": lambda r=rows: fit(r)}
                found = {name: 1e3 * value / given.epochs for name, value in least(calls, given.rounds).items()}
                cells = [f"{found[name]:.0f}" for name in ("arrays", "decode", "fit")]
                print(
                    " | ".join([compression, str(window), *cells, f"{found['fit'] / found['arrays']:.2f}"]), flush=True
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
