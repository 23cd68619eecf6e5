"""What the results say: tables as markdown, and a picture."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REFERENCE = "lightgbm"
Result = dict[str, Any]


def machine() -> dict[str, Any]:
    """Return the processor's name and the number of processors."""
    from bench.peers import machine as peers_machine

    cpus = tuple(sorted(os.sched_getaffinity(0)))
    return peers_machine.describe(len(cpus), cpus)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


Errors = dict[str, dict[int, float]]


def errors(results: list[Result]) -> dict[str, Errors]:
    """Return 1 - score by method, table and seed, of all fits that did not fail."""
    found: dict[str, Errors] = {}
    for result in results:
        if "score" in result:
            by_seed = found.setdefault(result["method"], {}).setdefault(result["table"], {})
            by_seed[result["seed"]] = 1 - result["score"]
    return found


def quotients(results: list[Result]) -> dict[str, dict[str, float]]:
    """Return the mean error divided by LightGBM's on the same table and seeds, by method and table."""
    by_method = errors(results)
    reference = by_method.get(REFERENCE, {})
    found: dict[str, dict[str, float]] = {method: {} for method in by_method}
    for method, each in by_method.items():
        for table, values in each.items():
            seeds = values.keys() & reference.get(table, {}).keys()
            if seeds:
                found[method][table] = sum(values[s] for s in seeds) / sum(reference[table][s] for s in seeds)
    return found


def seconds(results: list[Result], method: str, key: str = "processor_seconds") -> float:
    """Return the median over the fits of ``method``."""
    return statistics.median(result[key] for result in results if result["method"] == method and "score" in result)


def as_markdown(results: list[Result]) -> str:
    """Return a table of the quotients and one of the scores."""
    by_method = quotients(results)
    tables = list(dict.fromkeys(result["table"] for result in results))
    names = [name for name, each in by_method.items() if each]
    lines = ["Error (1 - score) divided by LightGBM's, and the median time of a fit:", ""]
    lines += ["| table | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for table in tables:
        cells = [f"{by_method[name][table]:.3f}" if table in by_method[name] else "" for name in names]
        lines.append(f"| {table} | " + " | ".join(cells) + " |")
    means = [f"{geometric_mean(by_method[name].values()):.3f} ({len(by_method[name])})" for name in names]
    lines.append("| geometric mean (tables) | " + " | ".join(means) + " |")
    lines.append("| processor seconds | " + " | ".join(f"{seconds(results, name):.2f}" for name in names) + " |")
    lines += ["", "Scores (R², AUC, accuracy), means over the seeds:", ""]
    lines += ["| table | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    found = errors(results)
    for table in tables:
        cells = [
            f"{1 - statistics.fmean(found[name][table].values()):.4f}" if table in found[name] else "" for name in names
        ]
        lines.append(f"| {table} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(results: list[Result], path: Path) -> None:
    """Draw the quotients: a point for each table, a line at the geometric mean, over the median time."""
    from gdcore.plotting import figures

    axes = figures.new_axes(True, "bench.tables")
    for i, (name, each) in enumerate(quotients(results).items()):
        if not each:
            continue
        colour, time = figures.COLOURS[i % len(figures.COLOURS)], seconds(results, name)
        axes.scatter([time] * len(each), list(each.values()), color=colour, s=14, alpha=0.5)
        axes.scatter(
            [time],
            [geometric_mean(each.values())],
            color=colour,
            marker="Ds"[i >= len(figures.COLOURS)],
            s=60,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_yticks(ticks := [0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.7, 2], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axhline(1, color="0.6", linewidth=1)
    title = "Error divided by LightGBM's: each table, and the geometric mean"
    figures.dress(axes, title, "median processor seconds of a fit", "error / LightGBM's")
    figures.save(axes, path)
