"""The text table of a run."""

from __future__ import annotations

import math
from typing import Any

from .cases import DRY, RUNS, Run

# Work on fewer bytes may stay in a cache (50 MB on an H100), for which the copy's bandwidth is no limit.
CACHED = 150e6
ADAM_BYTES = 28.0  # per float32 parameter and step


def floor(run: Run, limits: dict[str, Any]) -> float | None:
    """Return the least possible seconds of a step: its products, then Adam's memory traffic."""
    products = limits.get("products", {})
    rate = products.get(f"{run.precision} 8192")
    copy = limits.get("copy")
    return run.flop / rate + ADAM_BYTES * run.parameters / copy if rate and copy else None


def kernels_table(kernels: list[dict[str, Any]], limits: dict[str, Any]) -> list[str]:
    """Return a line for each operation: bandwidth, and its share of the copy's bandwidth."""
    own = next((k["gigabytes_per_second"] for k in kernels if k["name"].startswith("copy/") and "failed" not in k), 0.0)
    copy = max(own, limits.get("copy", 0.0) * 1e-9)
    lines = [f"{'operation':48s} {'us':>10s} {'GB/s':>8s} {'of copy':>8s} {'TFLOP/s':>8s} {'PyTorch':>8s}"]
    for kernel in kernels:
        if "failed" in kernel:
            lines.append(f"{kernel['name']:48s} FAILED: {kernel['failed']}")
            continue
        rate = kernel["gigabytes_per_second"]
        share = f"{100 * rate / copy:.0f}%" if copy and rate and kernel["bytes"] > CACHED else ""
        peer = limits.get("kernels", {}).get(kernel["name"])
        times = f"{peer * 1e6 / kernel['microseconds']:.2f}x" if peer else ""
        products = f"{kernel['teraflops']:.1f}" if kernel["teraflops"] else ""
        moved = f"{rate:.0f}" if rate else ""
        lines.append(
            f"{kernel['name']:48s} {kernel['microseconds']:10.2f} {moved:>8s} {share:>8s} {products:>8s} {times:>8s}"
        )
    return lines


NOTE = """of floor: products at the rate of PyTorch's product of 8192 in the same precision, whatever their shape, and
Adam's 28 bytes a parameter at the copy's bandwidth; small networks are far from it, as launches alone take longer"""


def steps_table(steps: list[dict[str, Any]], limits: dict[str, Any], dry: bool) -> list[str]:
    """Return a line for each case: gdcore's time, its share of the floor, and the others' times relative to it."""
    lines = [f"{'training step':44s} {'gdcore us':>10s} {'of floor':>8s}  best other; all others, times ours"]
    best: dict[str, list[float]] = {}
    for run in DRY if dry else RUNS:
        mine = [s for s in steps if s["run"] == run.name and "peer" in s]
        ours = next((s["step"] for s in mine if s["peer"] == "gdcore" and "step" in s), None)
        if ours is None:
            why = next(
                (s.get("failed") or s.get("dropped") for s in mine if "failed" in s or "dropped" in s), "not run"
            )
            lines.append(f"{run.name:44s} {why}")
            continue
        least = floor(run, limits)
        share = f"{100 * least / ours:.0f}%" if least else ""
        ratios = {s["peer"]: s["step"] / ours for s in mine if "step" in s and s["peer"] != "gdcore"}
        honest = {s["peer"]: r for s in mine if (r := ratios.get(s["peer"])) and s.get("curve_agrees")}
        text = ", ".join(f"{peer} {ratio:.2f}" for peer, ratio in sorted(ratios.items(), key=lambda item: item[1]))
        if honest:
            best.setdefault(run.precision, []).append(min(honest.values()))
        lead = f"{min(honest.values()):.2f}" if honest else "-"
        lines.append(f"{run.name:44s} {ours * 1e6:10.2f} {share:>8s}  {lead}; {text}")
    return [*lines, *means(best), *([NOTE] if limits else [])]


def means(best: dict[str, list[float]]) -> list[str]:
    """Return a line for each precision, and one for all: the best others' times relative to gdcore's."""
    lines = []
    every = {"all": [ratio for ratios in best.values() for ratio in ratios]} if len(best) > 1 else {}
    for name, ratios in [*best.items(), *every.items()]:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines.append(f"best others, {name}: geometric mean {mean:.2f}, least {min(ratios):.2f}, of {len(ratios)}")
    return lines


def problems(steps: list[dict[str, Any]]) -> list[str]:
    """Return lines for failures, differences and dropped cases."""
    lines = []
    for step in steps:
        place = f"{step['run']}, {step.get('peer', 'all')}"
        if "failed" in step:
            lines.append(f"FAILED {place}: {step['failed']}")
        if step.get("curve_agrees") is False:
            lines.append(f"DIFFERENT LOSSES {place}: {step['curve_difference']:.1e}")
        if step.get("repeats_bitwise") is False:
            lines.append(f"NOT REPEATABLE {place}")
        if "dropped" in step:
            lines.append(f"left out {place}: {step['dropped']}")
    return lines


def table(results: dict[str, Any]) -> str:
    """Return the whole text."""
    limits = results.get("limits", {})
    lines = [f"{name}: {value}" for name, value in results["about"].items()]
    lines += ["", *(f"{s['name']}: {s['outcome']} ({s['seconds']:.0f} s)" for s in results["sections"])]
    if "copy" in limits:
        lines += [
            "",
            f"copy within the device: {limits['copy'] * 1e-9:.0f} GB/s",
            f"kernel that only reads the clock, in a graph of 512: {limits['node'] * 1e6:.2f} us",
        ]
        lines += [f"product {name}: {rate * 1e-12:.1f} TFLOP/s" for name, rate in limits["products"].items()]
    lines += ["", *kernels_table(results["kernels"], limits)]
    lines += ["", *steps_table(results["steps"], limits, results["dry"])]
    lines += ["", *(problems(results["steps"]) or ["nothing failed, differed or was left out"])]
    return "\n".join(lines) + "\n"
