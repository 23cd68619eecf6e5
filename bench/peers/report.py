"""Results as text and as a plot; ``python -m bench.peers.report NAME.json`` shows those of an earlier run again."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .registry import OURS, PEERS, label

Rows = list[list[str]]


def time_text(microseconds: float) -> str:
    """Return a time with three digits."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"


def table(rows: Rows) -> str:
    """Align columns, the first to the left and the others to the right; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        first, *rest = zip(row, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()

    return "\n".join([line(rows[0]), "-" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows[1:])])


def ordered(names: Any) -> list[str]:
    """Return the peers in the order of the registry, others after them."""
    known = list(PEERS)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def case_rows(results: dict[str, Any]) -> Rows:
    """Return the table of cases."""
    names = ordered({name for case in results["cases"] for name in case["peers"]})
    rows = [["network [batch]", *map(label, names), "best other", "times", "quartiles", "whole epochs", "times"]]
    for case in results["cases"]:
        peers = case["peers"]
        row = [case["name"]]
        row += [time_text(peers[n]["microseconds"]) if n in peers else mark(case, n) for n in names]
        rows.append([*row, *best_cells(case, ""), *best_cells(case, "whole_")[:2]])
    return rows


def best_cells(case: dict[str, Any], prefix: str) -> list[str]:
    """Return the best other peer of a kind, its ratio and the ratio's quartiles."""
    if case[f"{prefix}ratio"] is None:
        return ["-", "-", "-"]
    best = case[f"{prefix}best_peer"]
    low, high = case["peers"][best]["ratio_quartiles"]
    return [label(best), f"{case[f'{prefix}ratio']:.2f}", f"{low:.2f} to {high:.2f}"]


def mark(case: dict[str, Any], name: str) -> str:
    """Return the reason why a peer has no time."""
    return "FAILED" if name in case["failures"] else "-"


def failures(results: dict[str, Any]) -> list[str]:
    """Return the failures, one line each."""
    found = [(f"{case['name']}: {label(n)}", why) for case in results["cases"] for n, why in case["failures"].items()]
    others = results["peers"] | {f"{label(n)}, footprint": about for n, about in results.get("footprint", {}).items()}
    others["5,000 MNIST images"] = results.get("mnist", {})
    found += [(label(name), about["failed"]) for name, about in others.items() if "failed" in about]
    return [f"{who}: {why.splitlines()[-1]}" for who, why in found]


def summary_lines(results: dict[str, Any]) -> list[str]:
    """Return the geometric means and minima."""
    titles = {"six": "the six networks", "grid": "the grid", "all": "all"}
    titles |= {f"whole_{group}": f"whole epochs, {title}" for group, title in titles.items()}
    return [
        f"{titles[group]} ({s['cases']}): {s['geometric_mean']:.2f} times as fast as the best other in geometric mean, "
        f"{s['minimum']:.2f} at least ({s['minimum_case']})"
        for group, s in results.get("summary", {}).items()
    ]


def footprint_rows(results: dict[str, Any]) -> Rows:
    """Return the table of peers' costs besides their steps."""
    rows = [["", "first epoch", "peak memory", "of it imported", "installed"]]
    for name, cost in results["footprint"].items():
        seconds = f"{cost['first_epoch_seconds']:.3g} s" if "first_epoch_seconds" in cost else "-"
        sizes = [f"{cost[k]:.0f} MiB" if k in cost else "-" for k in ("peak_mib", "imported_mib", "install_mib")]
        rows.append([label(name), seconds, *sizes])
    return rows


def mnist_line(found: dict[str, Any]) -> str:
    """Return a line with both libraries' times to the same loss."""
    if "ratio" not in found:
        return f"5,000 MNIST images: {found.get('missing') or found.get('failed')}"
    theirs, ours = found["scikit-learn"], found["gdcore"]
    return (
        f"5,000 MNIST images to a loss of {theirs['loss']:.4f}: scikit-learn {theirs['seconds']:.3g} s "
        f"({theirs['epochs']} epochs), gdcore {ours['seconds']:.3g} s ({ours['epochs']} epochs): "
        f"{found['ratio']:.2f} times as fast"
    )


def machine_line(results: dict[str, Any]) -> str:
    """Return machine, threads and date."""
    m = results["machine"]
    return f"{m['processor']} ({m['vectors']}), {m['processors_used']} processors, {m['threads']} threads, {m['date']}"


def versions_line(results: dict[str, Any]) -> str:
    """Return the versions of all libraries."""
    versions: dict[str, str] = {}
    for about in results["peers"].values():
        versions |= about.get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def text(results: dict[str, Any]) -> str:
    """Return the whole report as plain text."""
    parts = [machine_line(results), versions_line(results)]
    parts += [f"{label(n)} is skipped: {a['missing']}" for n, a in results["peers"].items() if "missing" in a]
    if results["cases"]:
        differences = [
            (peer.get("curve_difference", 0.0), case["name"], name)
            for case in results["cases"]
            for name, peer in case["peers"].items()
            if name not in OURS
        ]
        parts += ["", "time of a step", table(case_rows(results)), "", *summary_lines(results)]
        if differences:
            largest, case, name = max(differences)
            parts.append(f"loss curves agree within {largest:.1e} (largest: {label(name)}, {case})")
    if "mnist" in results:
        parts += ["", mnist_line(results["mnist"])]
    if "footprint" in results:
        parts += ["", table(footprint_rows(results))]
    if failures(results):
        parts += ["", *(f"FAILED: {line}" for line in failures(results))]
    return "\n".join(parts)


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the plot, if matplotlib is installed and there are results to show."""
    if not any(case["ratio"] is not None for case in results["cases"]):
        return
    try:
        from . import plot
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return
    plot.draw(results, path)


def main() -> None:
    """Read a results file, print its report and write its plot beside it."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.report", description=__doc__)
    parser.add_argument("json", type=Path)
    path = parser.parse_args().json
    results = json.loads(path.read_text())
    print(text(results))
    draw(results, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
