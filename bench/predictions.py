"""``python -m bench.predictions``: predictions of w-w-w-10 with ReLU, beside onnxruntime, PyTorch and scikit-learn.

The peers are measured as in `bench.peers`: in turn, in short timings. A ratio is the peer's time divided by that of
`Sequential.predict`; the table has its median over the rounds, and the quartiles for the fastest peer.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from .peers import machine
from .peers.__main__ import make_settings, write
from .peers.cases import Case
from .peers.measure import CaseRun, Team
from .peers.registry import PREDICTION, PREDICTIONS, label
from .peers.report import Rows, table, time_text


def numbers(text: str) -> list[int]:
    """Return whole numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.predictions", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="the JSON to write")
    parser.add_argument("--widths", type=numbers, default=[8, 16, 32, 64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--rows", type=numbers, default=[1, 2, 4, 8, 16, 32, 64, 128, 256, 1024])
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="numbers of threads, one after the other")
    parser.add_argument("--cpus", help="processors, as 2,3; default: the first of this process")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="seconds of a timing")
    parser.add_argument("--peers", default=",".join(PREDICTIONS))
    return parser.parse_args(argv)


def rows_of(found: list[dict[str, Any]], names: list[str]) -> Rows:
    """Return the table of the cases with one number of threads."""
    others = [name for name in names if name != PREDICTION]
    rows = [["network [rows]", label(PREDICTION), *map(label, others), "best other", "quartiles"]]
    for case in found:
        peers = case["peers"]
        row = [case["name"], time_text(peers[PREDICTION]["microseconds"])]
        row += [f"{peers[name]['ratio']:.2f}" if name in peers else "-" for name in others]
        best = min((name for name in others if name in peers), key=lambda name: peers[name]["ratio"], default=None)
        low, high = peers[best]["ratio_quartiles"] if best else (math.nan, math.nan)
        rows.append([*row, label(best) if best else "-", f"{low:.2f} to {high:.2f}"])
    means = [[case["peers"][name]["ratio"] for case in found if name in case["peers"]] for name in others]
    for what, of in ("geometric mean", statistics.geometric_mean), ("minimum", min):
        rows.append([what, "", *(f"{of(ratios):.2f}" if ratios else "-" for ratios in means), "", ""])
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table for each number of threads, write JSON; return 1 if a peer failed."""
    options = arguments(argv)
    cases = [Case((w, w, w, 10), rows, group="predict") for w in options.widths for rows in options.rows]
    names = list(dict.fromkeys([PREDICTION, *options.peers.split(",")]))
    results: dict[str, Any] = {"format": 1, "runs": []}
    for threads in options.threads:
        settings = make_settings(argparse.Namespace(**{**vars(options), "threads": threads}))
        with Team(names, settings) as team:
            run: dict[str, Any] = {
                "machine": machine.describe(settings.threads, settings.cpus),
                "peers": team.about,
                "cases": [],
            }
            results["runs"].append(run)
            for case in cases:
                run["cases"].append(CaseRun(case, team).measure())
                write(results, options.out)
            print(f"{settings.threads} thread(s)\n{table(rows_of(run['cases'], team.names))}\n", flush=True)
    failed = [case for run in results["runs"] for case in run["cases"] if case["failures"]]
    for case in failed:
        print(f"{case['name']} FAILED: {case['failures']}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
