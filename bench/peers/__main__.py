"""``python -m bench.peers``: measure the cases, write JSON after each case, and a table and a plot at the end."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from . import cases, footprint, machine, report, sklearn_epochs
from .measure import CaseRun, Settings, Team, summary
from .registry import DEFAULT, REFERENCE, label


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="NAME of NAME.json and NAME.png")
    parser.add_argument("--set", choices=sorted(cases.SETS), default="six", help="which networks")
    parser.add_argument("--only", default="", metavar="TEXT", help="only networks with this in their name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpus", help="processors, as 2,3; default: the first of this process")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="seconds of a timing")
    parser.add_argument("--peers", default=",".join(DEFAULT), help="names with commas, or module:Class for your own")
    parser.add_argument("--skip-footprint", action="store_true")
    parser.add_argument("--skip-sklearn", action="store_true", help="leave out the run on 5,000 MNIST images")
    return parser.parse_args(argv)


def make_settings(options: argparse.Namespace) -> Settings:
    """Return the settings of the measurement from the command line."""
    cpus = options.cpus.split(",") if options.cpus else sorted(os.sched_getaffinity(0))
    if len(cpus) < options.threads:
        raise SystemExit(f"--threads: got {options.threads}, with {len(cpus)} processor(s) to run on")
    chosen = tuple(int(cpu) for cpu in cpus[: options.threads])
    return Settings(threads=options.threads, cpus=chosen, rounds=options.rounds, seconds=options.seconds)


def write(results: dict[str, Any], path: Path) -> None:
    """Write the JSON, replacing an older file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    temporary.replace(path)


def say(text: str) -> None:
    """Print progress to stderr, separate from the results."""
    print(text, file=sys.stderr, flush=True)


def measure_cases(results: dict[str, Any], chosen: list[cases.Case], team: Team, path: Path) -> None:
    """Measure the cases, one after the other."""
    started = time.monotonic()
    for number, case in enumerate(chosen, 1):
        say(f"[{time.monotonic() - started:4.0f} s] {number}/{len(chosen)} {case.name}")
        found = CaseRun(case, team).measure()
        for name, why in found["failures"].items():
            say(f"    FAILED: {label(name)}: {why}".replace("\n", "\n    "))
        if found["ratio"] is not None:
            say(f"    {found['ratio']:.2f} times as fast as {label(found['best_peer'])}")
        results["cases"].append(found)
        results["summary"] = summary(results["cases"])
        write(results, path)


def main(argv: list[str] | None = None) -> int:
    """Measure, report, and return 1 if anything failed."""
    options = arguments(argv)
    settings = make_settings(options)
    names = list(dict.fromkeys([REFERENCE, *filter(None, options.peers.split(","))]))
    chosen = [case for case in cases.SETS[options.set] if options.only in case.name]
    path = options.out.with_name(options.out.name.removesuffix(".json") + ".json")
    results: dict[str, Any] = {
        "format": 1,
        "machine": machine.describe(settings.threads, settings.cpus),
        "settings": {name: value for name, value in vars(settings).items() if name != "cpus"},
        "cases": [],
    }
    with Team(names, settings) as team:
        results["peers"] = team.about
        for name, about in team.about.items():
            if "versions" not in about:
                say(f"{label(name)} is skipped: {about.get('missing') or about.get('failed')}")
        measure_cases(results, chosen, team, path)
        present = list(team.names)
    if not options.skip_sklearn:
        say("scikit-learn on 5,000 MNIST images")
        results["mnist"] = sklearn_epochs.measure(settings)
        write(results, path)
    if not options.skip_footprint:
        say("first epoch, memory, size")
        results["footprint"] = footprint.measure(present, settings)
        write(results, path)
    print(report.text(results))
    report.draw(results, path.with_suffix(".png"))
    return 1 if report.failures(results) else 0


if __name__ == "__main__":
    sys.exit(main())
