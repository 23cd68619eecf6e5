"""Runs named steps that depend on each other, two at a time, and prints the time of each.

A step is a function that takes a `Job` and runs commands with it. Its output is printed when it ends, so that outputs
of simultaneous steps do not mix. A failure does not stop other steps, except those that need the failed one. The last
lines are a table of seconds by step and the number of tests.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLOTS = 2  # simultaneous steps; builds use all processors, most tests one or two
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
# The last line of pytest, and doctest's line for each run.
TOTALS = re.compile(r"^(?:=+ )?\d+ (?:passed|failed|skipped|errors?)\b.* in [\d.]+s|^\[doctest\] test cases:")


def project() -> dict:
    """Return pyproject.toml, the only place with versions of Python packages."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


class Failure(Exception):
    """A step has failed; the message is for the log."""


@dataclass
class Step:
    """A step: its name, what it checks, and the names of the steps that it needs."""

    name: str
    title: str
    work: Callable[[Job], None]
    needs: tuple[str, ...] = ()
    alone: bool = False  # measures time: no other step may run at the same time
    downloads: bool = False  # spends its time on the network
    usual: bool = True  # part of a run that names no steps


STEPS: list[Step] = []


def step(needs: str = "", **options: bool) -> Callable[[Callable[[Job], None]], Callable[[Job], None]]:
    """Add a function to the steps; its name, with hyphens, becomes the step's name, its docstring the title."""

    def add(work: Callable[[Job], None]) -> Callable[[Job], None]:
        title = (work.__doc__ or "").partition("\n")[0].removesuffix(".")
        STEPS.append(Step(work.__name__.replace("_", "-"), title, work, tuple(needs.split()), **options))
        return work

    return add


@dataclass
class Job:
    """A run of a step: its log, its environment, the seconds of its commands."""

    step: Step
    work: Path  # folder for all builds
    full: bool  # whole ladders of shapes
    log: Path
    environment: dict[str, str]
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    status: str = "not run"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, text: str) -> None:
        """Write a line to the log."""
        with self.log.open("a") as log:
            log.write(text + "\n")

    def run(self, *command: str | Path, quiet: bool = False, env: dict[str, str] | None = None) -> float:
        """Run a command in the repository's root; return its processor seconds. Quiet: log output only if it fails."""
        start = self.log.stat().st_size
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env=self.environment | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = usage.ru_utime + usage.ru_stime
        with self.lock:
            self.cpu_seconds += seconds
        if process.returncode != 0:
            raise Failure(f"{Path(command[0]).name} ended with status {process.returncode}")
        if quiet:
            os.truncate(self.log, start)
        return seconds

    def output(self, *command: str | Path) -> str:
        """Run a command and return its output."""
        return subprocess.run(
            [str(part) for part in command], cwd=ROOT, env=self.environment, text=True, check=True, capture_output=True
        ).stdout


class Runner:
    """Runs the chosen steps and those that they need."""

    def __init__(self, steps: list[Step], work: Path, full: bool, environment: dict[str, str]) -> None:
        self.started = time.monotonic()
        self.jobs: dict[str, Job] = {}
        for step in steps:
            log = work / "logs" / f"{step.name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("")
            self.jobs[step.name] = Job(step, work, full, log, environment)
        self.changed = threading.Condition()
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def run(self) -> bool:
        """Run everything; return whether all passed."""
        waiting, running = list(self.jobs.values()), list[Job]()
        with self.changed:
            while waiting or running:
                for job in [job for job in waiting if self.hopeless(job)]:
                    waiting.remove(job)
                    job.status = "left out"
                if job := self.next(waiting, running):
                    waiting.remove(job)
                    running.append(job)
                    job.status = "running"
                    threading.Thread(target=self.work_on, args=(job, running)).start()
                elif running:
                    self.changed.wait()
        return self.summary()

    def hopeless(self, job: Job) -> bool:
        """Whether a step that the job needs has failed."""
        return any(self.jobs[name].status in ("FAILED", "left out") for name in job.step.needs if name in self.jobs)

    def next(self, waiting: list[Job], running: list[Job]) -> Job | None:
        """Return the first job that can start now."""
        if len(running) >= SLOTS or any(job.step.alone for job in running):
            return None
        for job in waiting:
            ready = all(self.jobs[name].status == "passed" for name in job.step.needs if name in self.jobs)
            if ready and not (job.step.alone and running):
                return job
        return None

    def work_on(self, job: Job, running: list[Job]) -> None:
        """Run one job, in its own thread."""
        start = time.monotonic()
        status = "passed"
        try:
            job.step.work(job)
        except Failure as failure:
            status = "FAILED"
            job.say(f"--- {failure}")
        except Exception:
            status = "FAILED"
            job.say(traceback.format_exc())
        job.wall_seconds = time.monotonic() - start
        with self.changed:
            job.status = status
            running.remove(job)
            self.show(job)
            self.changed.notify()

    def show(self, job: Job) -> None:
        """Print a job's log, and count its tests."""
        lines = [clean(line, job.work) for line in job.log.read_text(errors="replace").splitlines()]
        for line in lines:
            if TOTALS.search(line):
                for number, kind in COUNTS.findall(line):
                    self.counts["failed" if kind.startswith("error") else kind] += int(number)
        seconds = f"{job.wall_seconds:.0f} s, {job.cpu_seconds:.0f} processor seconds"
        print(f"\n=== {job.step.name}: {job.step.title}", *lines, sep="\n")
        print(f"--- {job.step.name}: {job.status}, {seconds}", flush=True)

    def summary(self) -> bool:
        """Print the table and the number of tests; return whether all passed."""
        total = time.monotonic() - self.started
        print("\n=== Summary\n  seconds  processor  step")
        for job in self.jobs.values():
            result = "" if job.status == "passed" else f"  {job.status}"
            print(f"  {job.wall_seconds:7.0f}  {job.cpu_seconds:9.0f}  {job.step.name}{result}")
        print(f"  {total:7.0f}  {sum(job.cpu_seconds for job in self.jobs.values()):9.0f}  all")
        network = sum(job.wall_seconds for job in self.jobs.values() if job.step.downloads)
        if total - network > 25 * 60:
            print(f"WARNING: {total - network:.0f} s without installing packages; 1500 s are aimed at")
        bad = [job.step.name for job in self.jobs.values() if job.status != "passed"]
        for name in bad:
            print(f"{self.jobs[name].status}: {name}")
        failed = self.counts["failed"] or len(bad)
        print(f"{self.counts['passed']} passed, {failed} failed, {self.counts['skipped']} skipped", flush=True)
        return not bad


def environment(work: Path, nvcc: str | None) -> dict[str, str]:
    """Return the environment of all commands: tools first on PATH, no prompts, no files written into the tree."""
    return os.environ | {
        "PATH": f"{work}/tools/bin:{os.environ['PATH']}" + (f":{Path(nvcc).parent}" if nvcc else ""),
        "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count())),
        "DEBIAN_FRONTEND": "noninteractive",
        "MKL_NUM_THREADS": "1",  # PyTorch and NumPy, whose waiting threads would take the processors of other steps
        "MPLBACKEND": "Agg",
        "OPENBLAS_NUM_THREADS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PYTHONDONTWRITEBYTECODE": "",  # where it is set, each process compiles what it imports
        "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
    }


def install(job: Job, environment: str, *packages: str | Path, python: str = sys.executable) -> None:
    """Install packages into a virtual environment in the build folder, unless already installed.

    Only what is imported later is compiled to bytecode, in a folder apart (`environment`).
    """
    folder = job.work / environment
    done = job.work / f"{environment}-{hashlib.sha256(repr((python, packages)).encode()).hexdigest()[:16]}"
    if done.exists():
        return
    if not folder.exists():
        job.run(python, "-m", "venv", folder)
        job.run(folder / "bin/pip", "install", "-q", "--upgrade", "pip", quiet=True)
    job.run(folder / "bin/pip", "install", "-q", "--no-compile", *packages, quiet=True)
    done.touch()


def clean(line: str, work: Path) -> str:
    """Shorten paths and remove addresses, so that logs of different machines can be compared and published."""
    line = line.replace(str(work), "WORK").replace(f"{ROOT}/", "./").replace(str(ROOT), ".")
    return re.sub(r"(https?|file)://[^ ,]+", "URL", line)


def chosen(steps: list[Step], names: list[str]) -> list[Step]:
    """Return the named steps and all that they need, in order; without names the usual ones."""
    by_name = {step.name: step for step in steps}
    if unknown := [name for name in names if name not in by_name]:
        sys.exit(f"there is no step {', '.join(unknown)}; .ci/run --list shows them")
    wanted = set(names) or {step.name for step in steps if step.usual}
    for step in reversed(steps):
        if step.name in wanted:
            wanted.update(step.needs)
    return [step for step in steps if step.name in wanted]
