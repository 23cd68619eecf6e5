"""Check that `import gdcore` is fast and imports none of the optional packages.

Each of several new interpreters imports NumPy first and then measures the processor time that the import of gdcore
takes. The fastest counts, because other work on the machine only adds time.

Usage: python tools/check_import.py
"""

from __future__ import annotations

import subprocess
import sys

MAX_SECONDS = 0.1
ROUNDS = 7
LAZY = ("IPython", "joblib", "matplotlib", "mlflow", "mnist1d", "narwhals", "optuna", "pandas", "safetensors", "scipy",
        "sklearn", "tensorboardX", "torch", "tqdm", "wandb")  # fmt: skip
PROGRAM = f"""
import sys, time, numpy
start = time.process_time()
import gdcore
print(time.process_time() - start, *(name for name in {LAZY!r} if name in sys.modules))
"""


def main() -> int:
    seconds, loaded = [], set()
    for _ in range(ROUNDS):
        command = [sys.executable, "-I", "-c", PROGRAM]
        first, *names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        seconds.append(float(first))
        loaded.update(names)
    print(f"import gdcore: {min(seconds):.3f} s beyond NumPy's (limit {MAX_SECONDS:g} s)")
    if loaded:
        print(f"  imported although only needed later: {', '.join(sorted(loaded))}")
    return 1 if loaded or min(seconds) > MAX_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
