"""Costs of a peer besides its steps: the time to the first trained epoch, memory, and the size of an installation.

Run as a module it is the measured process, started by `measure`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .client import ROOT, PeerFailed, environment, without_paths
from .measure import Settings, rotated
from .registry import PEERS

SMALL = {"widths": (64, 32, 10), "batch": 32}
LARGE = {"widths": (784, 512, 512, 10), "batch": 128, "norm": "batch"}
EPOCH_STEPS, MEMORY_STEPS = 56, 10
SLOW_SECONDS, SLOW_RUNS = 5.0, 2  # a peer that takes longer has at most this many runs
VARIANTS = {"torch.compile": "forward and backward"}  # the most common usage
NAMES = ("gdcore", "torch", "torch.compile", "jax", "sklearn")


def memory(field: str) -> float:
    """Return the memory of this process in MiB: "VmHWM", the peak, or "VmRSS", the current value.

    getrusage is not used: its maximum includes the size of the parent process.
    """
    text = Path("/proc/self/status").read_text()
    return int(re.findall(rf"^{field}:\s*(\d+) kB", text, re.MULTILINE)[0]) / 1024


def child() -> None:
    """Train a small network from a fresh start, and print when it was done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cpus", required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    from . import registry

    try:
        peer = registry.create(options.peer, options.threads)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    imported = memory("VmRSS")
    answer = peer.prepare(json.loads(options.case), options.data, VARIANTS.get(options.peer))
    if "unsupported" in answer:
        print(json.dumps(answer))
        return
    peer.curve(options.steps)
    print(json.dumps({"done": time.monotonic(), "imported": imported, "peak": memory("VmHWM")}))


def start(name: str, settings: Settings, case: Any, data: Path, steps: int) -> dict[str, Any]:
    """Run a new process and return its answer, with "seconds" from its start."""
    with tempfile.TemporaryDirectory() as cache:  # for compiled code: no code from an earlier process
        command = [sys.executable, "-m", "bench.peers.footprint", name, "--threads", str(settings.threads)]
        command += ["--cpus", ",".join(map(str, settings.cpus[: settings.threads]))]
        command += ["--case", json.dumps(case.to_json()), "--data", str(data), "--steps", str(steps)]
        variables = {**environment(settings.threads), "TORCHINDUCTOR_CACHE_DIR": cache}
        started = time.monotonic()
        done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=600)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise PeerFailed(f"the process ended with status {done.returncode}:\n{without_paths(done.stderr)}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return {**answer, "seconds": answer["done"] - started} if "done" in answer else answer


def measure(names: list[str], settings: Settings, rounds: int = 5) -> dict[str, Any]:
    """Return for each peer seconds to the first epoch (median), memory and install size, or why they are missing."""
    from . import cases

    small, large = cases.Case(**SMALL), cases.Case(**LARGE)
    names = [name for name in NAMES if name in names]
    results: dict[str, dict[str, Any]] = {name: {} for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "small.npz", Path(folder) / "large.npz"
        cases.save(cases.draw(small, EPOCH_STEPS), paths[0])
        cases.save(cases.draw(large, MEMORY_STEPS), paths[1])
        for turn in range(rounds + 1):  # the first round fills the system's file cache
            for name in rotated(names, turn):
                if "failed" not in results[name]:
                    results[name] |= _first_epoch(name, settings, small, paths[0], seconds[name])
        for name in names:
            if "failed" not in results[name]:
                results[name] |= _peak(name, settings, large, paths[1])
    for name in names:
        if len(seconds[name]) > 1:
            results[name]["first_epoch_seconds"] = statistics.median(seconds[name][1:])
        if PEERS[name].distribution:
            results[name]["install_mib"] = install_size(PEERS[name].distribution) / 2**20
    return results


def _first_epoch(name: str, settings: Settings, case: Any, path: Path, out: list[float]) -> dict[str, str]:
    """Add the seconds of another process; if it fails, return the entry for the result."""
    if len(out) > SLOW_RUNS and statistics.median(out) > SLOW_SECONDS:
        return {}
    try:
        out.append(start(name, settings, case, path, EPOCH_STEPS)["seconds"])
    except (PeerFailed, KeyError, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)}
    return {}


def _peak(name: str, settings: Settings, case: Any, path: Path) -> dict[str, Any]:
    """Return memory, if the peer supports the network."""
    try:
        answer = start(name, settings, case, path, MEMORY_STEPS)
    except (PeerFailed, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)}
    return {"peak_mib": answer["peak"], "imported_mib": answer["imported"]} if "peak" in answer else {}


def install_size(distribution: str) -> int:
    """Return the bytes of a distribution's files and of all its requirements, without extras, as installed here."""
    waiting, seen, total = [distribution], set(), 0
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "gdcore":  # used from the source tree
                total += _package_size("gdcore")
                waiting += ["numpy", "safetensors", "tqdm"]
            continue
        for file in found.files or []:
            path = Path(str(file.locate()))
            total += path.stat().st_size if path.is_file() else 0
        waiting += [required for text in found.requires or [] if (required := _required(text))]
    return total


def _required(text: str) -> str | None:
    """Return the name in a requirement; None if it is for an extra or another system."""
    requirement, _, marker = text.partition(";")
    if marker:
        try:
            from packaging.markers import Marker
        except ImportError:
            if "extra" in marker:
                return None
        else:
            if not Marker(marker).evaluate({"extra": ""}):
                return None
    found = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return found[1] if found else None


def _package_size(package: str) -> int:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    files = [f for folder in folders or [] for f in Path(folder).rglob("*") if f.is_file()]
    return sum(f.stat().st_size for f in files if "__pycache__" not in f.parts)


if __name__ == "__main__":
    child()
