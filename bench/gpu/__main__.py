"""Everything that is measured on a GPU, section by section, within a budget of time; called by bench/gpu.sh.

Usage: python -m bench.gpu --out FOLDER --kernels PROGRAM [--budget SECONDS] [--dry]

Writes results.json after each section, so that nothing is lost, and table.txt at the end. A section that fails or runs
over its time is noted, and the next one begins.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from .report import table

ROOT = Path(__file__).resolve().parent.parent.parent
# Tests with a `device` parameter; on the GPU they are compared with float64 on the CPU.
TESTS = [
    f"tests/test_{name}.py"
    for name in ("dense", "activations", "batch_norm", "layer_norm", "losses", "optimizers", "dropout", "gather")
] + [f"tests/test_{name}.py" for name in ("gradients", "network", "trainer", "determinism")]
DRY_TESTS = ["tests/test_dense.py"]
PACKAGES = ("gdcore", "numpy", "torch", "triton", "jax", "jaxlib", "nvidia-cublas")


class Budget:
    """Runs sections as processes and keeps their time."""

    def __init__(self, out: Path, seconds: float, dry: bool) -> None:
        self.out, self.end, self.dry = out, time.monotonic() + seconds, dry
        self.results: dict[str, Any] = {
            "about": about(),
            "dry": dry,
            "sections": [],
            "limits": {},
            "kernels": [],
            "steps": [],
        }

    def section(self, name: str, command: list[str | Path], most: float, reserve: float = 0.0) -> str:
        """Run a command for at most so many seconds, leaving `reserve` for what follows; return its output."""
        started = time.monotonic()
        limit = min(most, self.end - reserve - started)
        outcome, text = "left out: no time", ""
        if limit > 1.0:
            environment = {**os.environ, "GDCORE_BENCH_SECONDS": f"{limit - 5:.0f}"}
            with (self.out / f"{name.replace(' ', '-')}.log").open("w") as log:
                process = subprocess.Popen(
                    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
                try:
                    text, _ = process.communicate(timeout=limit)
                    outcome = "done" if process.returncode == 0 else f"FAILED with status {process.returncode}"
                except subprocess.TimeoutExpired:
                    process.kill()
                    text, _ = process.communicate()
                    outcome = f"stopped after {limit:.0f} s"
                log.write(text)
        seconds = time.monotonic() - started
        print(f"{name}: {outcome}, {seconds:.0f} s", flush=True)
        self.results["sections"].append({"name": name, "outcome": outcome, "seconds": seconds})
        self.save()
        return text

    def note(self, text: str) -> None:
        """Add to the outcome of the section that was run last."""
        self.results["sections"][-1]["outcome"] += f"; {text}"
        print(f"  {text}", flush=True)

    def save(self) -> None:
        """Write what there is."""
        (self.out / "results.json").write_text(json.dumps(self.results, indent=1))


def about() -> dict[str, Any]:
    """Return versions, and what nvidia-smi says of the device."""
    found: dict[str, Any] = {"date": datetime.date.today().isoformat(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    if smi := shutil.which("nvidia-smi"):
        query = [smi, "--query-gpu=name,driver_version,memory.total,clocks.sm,power.limit", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        found["device, driver, memory, clock, power limit"] = answer.stdout.strip() or answer.stderr.strip()
    return found


def run_tests(budget: Budget) -> None:
    """Run the device tests; more than a third of the budget they must not take."""
    files = DRY_TESTS if budget.dry else [name for name in TESTS if (ROOT / name).exists()]
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-k", "cuda", "-p", "no:cacheprovider", *files]
    text = budget.section("tests", command, 60.0 if budget.dry else 140.0)
    if lines := text.strip().splitlines():
        budget.note(lines[-1])


def run_sanitizer(budget: Budget, program: Path) -> None:
    """Run the kernels, small, under compute-sanitizer where it is installed."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        return
    for tool in ("memcheck", "racecheck"):
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", program, "--tiny", "--seconds", "0"]
        text = budget.section(f"compute-sanitizer {tool}", command, 30.0)
        if found := re.findall(r"ERROR SUMMARY.*|RACECHECK SUMMARY.*", text):
            budget.note(found[-1])


def run_steps(budget: Budget, other: str, most: float, reserve: float) -> None:
    """Train the cases; a process that dies is started again behind the case it died of."""
    lines = budget.out / f"steps-{other}.jsonl"
    lines.unlink(missing_ok=True)
    end = time.monotonic() + most
    for _ in range(4):
        done = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        skip = sum("started" in line for line in done)
        left = min(end, budget.end - reserve) - time.monotonic()
        command = [sys.executable, "-m", "bench.gpu.steps", "--out", lines, "--with", other, "--skip", str(skip)]
        command += ["--seconds", f"{left - 10.0 if left > 20.0 else left / 2:.1f}", *(["--dry"] if budget.dry else [])]
        budget.section(f"training steps with {other}", command, left, reserve)
        if "FAILED" not in budget.results["sections"][-1]["outcome"]:
            break
    if lines.exists():
        budget.results["steps"] += [json.loads(line) for line in lines.read_text().splitlines()]
    budget.save()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kernels", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=360.0)
    parser.add_argument("--dry", action="store_true", help="tiny sizes, no other libraries")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    budget = Budget(options.out.resolve(), options.budget, options.dry)
    has_torch = not options.dry and importlib.util.find_spec("torch") is not None
    has_jax = not options.dry and importlib.util.find_spec("jax") is not None
    run_tests(budget)
    if has_torch:
        text = budget.section("limits", [sys.executable, "-m", "bench.gpu.limits"], 40.0)
        budget.results["limits"] = json.loads(text) if text.startswith("{") else {}
    arguments = ["--tiny", "--seconds", "0.001"] if options.dry else ["--seconds", "0.02"]
    text = budget.section("kernels", [options.kernels.resolve(), *arguments], 60.0)
    budget.results["kernels"] = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    run_steps(budget, "torch" if has_torch else "none", 240.0, 30.0)
    if has_jax:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        run_steps(budget, "jax", 60.0, 15.0)
    run_sanitizer(budget, options.kernels.resolve())
    budget.save()
    (options.out / "table.txt").write_text(table(budget.results))
    print((options.out / "table.txt").read_text())
    failed = [s["name"] for s in budget.results["sections"] if "FAILED" in s["outcome"]]
    failed += [s["run"] for s in budget.results["steps"] if "failed" in s and s.get("peer") == "gdcore"]
    failed += [k["name"] for k in budget.results["kernels"] if "failed" in k]
    wrong = [s["run"] for s in budget.results["steps"] if s.get("peer") == "gdcore" and s.get("curve_agrees") is False]
    loose = [s["run"] for s in budget.results["steps"] if s.get("repeats_bitwise") is False]
    return 1 if failed or wrong or loose else 0


if __name__ == "__main__":
    sys.exit(main())
