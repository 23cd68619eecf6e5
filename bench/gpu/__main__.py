"""All measurements on a GPU, section by section, within a time budget; called by bench/gpu.sh.

Usage: python -m bench.gpu --out FOLDER --kernels PROGRAM [--budget SECONDS] [--dry]

Writes results.json and table.txt after each section, so that no result is lost. A section that fails or exceeds its
time is recorded, and the next one starts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from gdcore.internal.cuda import set_cublas_path

from .report import table

ROOT = Path(__file__).resolve().parent.parent.parent
DRY_TESTS = ["tests/core/test_precision.py", "tests/layers/test_dense.py"]
# Seconds reserved for training, and for the tests, by earlier sections.
STEPS_RESERVE, TESTS_RESERVE = 110.0, 80.0
XLA_FLAGS = "--xla_gpu_triton_gemm_any=true --xla_gpu_enable_latency_hiding_scheduler=true"
PACKAGES = ("gdcore", "numpy", "torch", "triton", "jax", "jaxlib", "nvidia-cublas")


class Budget:
    """Runs sections as processes and limits their time."""

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
        """Run a command within a time limit, and `reserve` seconds before the end of the budget; return its output."""
        started = time.monotonic()
        limit = min(most, self.end - reserve - started)
        outcome, text = "left out: no time", ""
        if limit > 1.0:
            again = sum(section["name"] == name for section in self.results["sections"])
            stem = self.out / (name.replace(" ", "-") + (f"-{again + 1}" if again else ""))
            output, log = stem.with_suffix(".out"), stem.with_suffix(".log")
            outcome = run_group(command, limit, output, log)
            text = output.read_text(errors="replace")
        seconds = time.monotonic() - started
        print(f"{name}: {outcome}, {seconds:.0f} s", flush=True)
        self.results["sections"].append({"name": name, "outcome": outcome, "seconds": seconds})
        self.save()
        return text

    def note(self, text: str) -> None:
        """Add text to the outcome of the last section."""
        self.results["sections"][-1]["outcome"] += f"; {text}"
        print(f"  {text}", flush=True)

    def save(self) -> None:
        """Write the results so far."""
        (self.out / "results.json").write_text(json.dumps(self.results, indent=1))
        (self.out / "table.txt").write_text(table(self.results))

    def failures(self) -> list[str]:
        """Return gdcore's failures, differences from the CPU and between runs, and the tests if they did not finish."""
        sections, steps = self.results["sections"], self.results["steps"]
        peers = r"limits|training steps with (compiled|jax|tuned-jax)"
        ours = [section for section in sections if not re.fullmatch(peers, section["name"])]
        failed = [s["name"] for s in ours if "FAILED" in s["outcome"] or s.get("passed") is False]
        failed += [k["name"] for k in self.results["kernels"] if "failed" in k]
        for step in (s for s in steps if s.get("peer") == "gdcore"):
            if "failed" in step or step.get("curve_agrees") is False or step.get("repeats_bitwise") is False:
                failed.append(step["run"])
        return failed


def run_group(command: list[str | Path], limit: float, output: Path, log: Path) -> str:
    """Run a command as a process group, which ends with it or after `limit` seconds; return the outcome.

    Output goes to files: a pipe would stay open while any descendant has it open.
    """
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
        try:
            status = process.wait(limit)
            return "done" if status == 0 else f"FAILED with status {status}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C: pytest and the sanitizer print their results so far
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3.0)
            return f"stopped after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def about() -> dict[str, Any]:
    """Return versions, and nvidia-smi's description of the device."""
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


def run_kernels(budget: Budget, program: Path) -> None:
    """Time gdcore's own kernels."""
    arguments = ["--tiny", "--seconds", "0.001"] if budget.dry else ["--seconds", "0.02"]
    text = budget.section("kernels", [program, *arguments], 60.0, STEPS_RESERVE + TESTS_RESERVE)
    budget.results["kernels"] = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    budget.save()


def run_sanitizer(budget: Budget, program: Path) -> None:
    """Run small kernels and networks under compute-sanitizer if installed; with --dry, the networks without it."""
    script = [sys.executable, "-m", "bench.gpu.sanitized"]
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        if budget.dry:
            budget.section("small networks", script, 30.0)
        return
    kernels = [program, "--tiny", "--seconds", "0"]
    for tool, what, command in (
        ("memcheck", "kernels", kernels),
        ("racecheck", "kernels", kernels),
        ("memcheck", "networks", script),
    ):
        under = [sanitizer, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9", *command]
        text = budget.section(f"compute-sanitizer {tool} {what}", under, 45.0, STEPS_RESERVE + TESTS_RESERVE)
        if found := re.findall(r"ERROR SUMMARY.*|RACECHECK SUMMARY.*", text):
            budget.note(found[-1])


def run_tests(budget: Budget) -> None:
    """Run the tests on the GPU; unfinished tests count as not passed."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-m", "cuda", "--maxfail=50", "-p", "no:cacheprovider"]
    files = DRY_TESTS if budget.dry else ["tests"]
    text = budget.section("tests", [*command, *files], 60.0 if budget.dry else 150.0, STEPS_RESERVE)
    section = budget.results["sections"][-1]
    section["passed"] = section["outcome"] == "done"
    if lines := text.strip().splitlines():
        budget.note(lines[-1])
    if not section["passed"]:
        budget.note("NOT PASSED")


def run_steps(budget: Budget, other: str, most: float, reserve: float) -> None:
    """Train the cases; if the process dies, restart it after the case that failed."""
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # also ends the running section
    set_cublas_path()  # for programs that do not use Python
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["GDCORE_TEST_FEW_SHAPES"] = "1"  # instead of the thousands of `pytest -m cuda`
    options.out.mkdir(parents=True, exist_ok=True)
    budget = Budget(options.out.resolve(), options.budget, options.dry)
    has_torch = not options.dry and importlib.util.find_spec("torch") is not None
    has_jax = not options.dry and importlib.util.find_spec("jax") is not None
    if has_torch:
        text = budget.section("limits", [sys.executable, "-m", "bench.gpu.limits"], 60.0)
        budget.results["limits"] = json.loads(text) if text.startswith("{") else {}
    run_kernels(budget, options.kernels.resolve())
    run_sanitizer(budget, options.kernels.resolve())
    run_tests(budget)
    run_steps(budget, "torch" if has_torch else "none", 200.0, 0.0)
    if has_torch:
        run_steps(budget, "compiled", 200.0, 40.0 if has_jax else 0.0)
    if has_jax:
        run_steps(budget, "jax", 60.0, 20.0)
        os.environ["XLA_FLAGS"] = XLA_FLAGS
        run_steps(budget, "tuned-jax", 60.0, 0.0)
    budget.save()
    print((options.out / "table.txt").read_text())
    return 1 if budget.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
