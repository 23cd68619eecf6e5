"""``python -m bench.tables --out NAME``: scores and times of all methods on the tables, and a picture of them.

Each fit is a process with one thread (``--threads``). ``NAME.json`` gets each result as it comes; a second run with the
same name measures only what is missing. ``NAME.md`` has the tables, ``NAME.png`` the picture.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.tables import methods, report, tables

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GDCORE_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


def fit(table: str, method: str, seed: int, threads: int) -> dict[str, Any]:
    """Return the result of one fit; with "error" in place of a score if it fails."""
    command = [sys.executable, "-m", "bench.tables.worker", table, method, str(seed)]
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"table": table, "method": method, "seed": seed, "error": lines[-1]}
    return json.loads(done.stdout) | {"threads": threads}


def main(argv: list[str] | None = None) -> int:
    """Measure what is missing, write and print; the exit status is 1 if a fit failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="path without ending")
    parser.add_argument("--tables", default=",".join(tables.EIGHT), help="names, 'all' or 'others'; default: the eight")
    parser.add_argument("--methods", default=",".join(methods.METHODS))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    named = {"all": tables.ALL, "others": tables.OTHERS}
    chosen = list(named.get(options.tables, options.tables.split(",")))
    path = options.out.with_suffix(".json")
    results: list[dict[str, Any]] = json.loads(path.read_text())["results"] if path.exists() else []
    known = {(r["method"], r["table"], r["seed"]) for r in results if "error" not in r}
    chosen_methods = []
    for method in options.methods.split(","):
        if missing := methods.missing(method):
            print(f"{method}: skipped, {missing} is not installed", flush=True)
        else:
            chosen_methods.append(method)
    seeds = map(int, options.seeds.split(","))
    for table, seed, method in itertools.product(chosen, seeds, chosen_methods):  # what is compared runs side by side
        if (method, table, seed) in known:
            continue
        result = fit(table, method, seed, options.threads)
        results = [r for r in results if (r["method"], r["table"], r["seed"]) != (method, table, seed)]
        results.append(result)
        path.write_text(json.dumps({"machine": report.machine(), "results": results}, indent=1) + "\n")
        print(method, table, seed, result.get("score", result.get("error")), flush=True)
    text = report.as_markdown(results)
    print(text)
    options.out.with_suffix(".md").write_text(text)
    report.draw(results, options.out.with_suffix(".png"))
    return int(any("error" in result for result in results))


if __name__ == "__main__":
    sys.exit(main())
