"""``python -m bench.guard``: has a change made gdcore slower? Only ratios are compared, never times.

--against: an earlier version (a tag or any commit; default: the last tag) is built in a temporary folder. The current
version and the earlier one are measured alternately: steps, fit and predictions. The current version is measured a
second time, in separate processes: the difference of these two is the noise, which a slowdown must exceed. --results:
the peers are measured again, and the ratios are compared with those of an earlier run on the same processor. A case
that seems slower is measured once more, with more rounds, before it counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .peers import cases, machine
from .peers.client import ROOT
from .peers.measure import CaseRun, Settings, Team
from .peers.registry import OURS, PREDICTION, base, label
from .peers.report import table

RATIOS = ("ratio", "whole_ratio")  # of `Trainer.step` and of `Trainer.fit`
GUARDED = (*OURS, PREDICTION)
ITSELF = "itself"  # name after the @ for the second measurement of the current version
TOLERANCE, TOLERANCE_OF_LEADS = 0.02, 0.1  # for versions of gdcore; for peers, measured on another day
MEAN = "geometric mean"


@dataclass(frozen=True)
class Finding:
    """A ratio of a case: the speed relative to the earlier version, 1 if nothing changed.

    `noise` is the difference between two measurements of the current version: 0.03 for 3 %.
    """

    case: str
    peer: str
    change: float
    noise: float = 0.0

    def slower(self, tolerance: float) -> bool:
        """Whether the loss of speed exceeds both the tolerance and the noise."""
        return self.change < 1 / (1 + max(tolerance, self.noise))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--against", metavar="REF", help="a tag or commit; default: the last tag")
    parser.add_argument(
        "--results", type=Path, metavar="JSON", help="compare with peers as in this earlier run instead"
    )
    parser.add_argument("--set", choices=sorted(cases.SETS), default="guard", help="which networks")
    parser.add_argument("--only", default="", metavar="TEXT", help="only networks with this in their name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpus", help="processors, as 2,3; default: the first of this process")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="seconds of a timing")
    parser.add_argument(
        "--tolerance",
        type=float,
        help=f"allowed loss of speed as a fraction; default: {TOLERANCE}, for leads over peers {TOLERANCE_OF_LEADS}",
    )
    options = parser.parse_args(argv)
    if options.tolerance is None:
        options.tolerance = TOLERANCE_OF_LEADS if options.results else TOLERANCE
    return options


def last_tag() -> str:
    """Return the name of the last release."""
    asked = ["git", "describe", "--tags", "--abbrev=0"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("--against: no release has been tagged yet; name a commit, such as --against HEAD~20")
    return done.stdout.strip()


def build(ref: str, folder: Path) -> Path:
    """Install the version of a commit into a folder; return the folder."""
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    archive = subprocess.run(["git", "archive", ref], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(f"--against: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    pip += ["-C", "cmake.define.GDCORE_CUDA=OFF"]  # only the CPU is measured
    print(f"building {ref}", file=sys.stderr, flush=True)
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{ref} could not be built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return target


def changes(found: dict[str, Any], before: dict[str, Any] | None) -> Iterator[Finding]:
    """Compare a case with the earlier version measured in the same run, or its leads over peers with earlier leads."""
    if before is None:
        peers = found["peers"]
        for name in peers:
            if "@" in name and not name.endswith(f"@{ITSELF}"):
                itself = peers[f"{base(name)}@{ITSELF}"]["ratio"]
                yield Finding(found["name"], name, peers[name]["ratio"], away(itself))
        return
    for ratio, best in zip(RATIOS, ("best_peer", "whole_best_peer"), strict=True):
        name = found[best]
        if found[ratio] is not None and name in before["peers"]:
            yield Finding(found["name"], name, found[ratio] / before["peers"][name]["ratio"])


def away(ratio: float) -> float:
    """Return the relative difference of a ratio from 1, in either direction."""
    return max(ratio, 1 / ratio) - 1


def means(findings: list[Finding]) -> Iterator[Finding]:
    """Yield the geometric mean over the cases for each peer; its noise is that of one case divided by √(cases)."""
    for peer in dict.fromkeys(finding.peer for finding in findings):
        some = [finding for finding in findings if finding.peer == peer]
        mean = math.exp(statistics.fmean(math.log(finding.change) for finding in some))
        noise = math.sqrt(sum(finding.noise**2 for finding in some)) / len(some)
        yield Finding(MEAN, peer, mean, noise)


def measure(chosen: list[cases.Case], team: Team, before: dict[str, Any], tolerance: float) -> list[Finding]:
    """Measure the cases; measure a case that looks slower again with twice the rounds."""
    result: list[Finding] = []
    settings = team.settings
    for number, case in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)} {case.name}", file=sys.stderr, flush=True)
        for rounds in (settings.rounds, 2 * settings.rounds):
            team.settings = replace(settings, rounds=rounds)
            found = CaseRun(case, team).measure()
            if found["failures"]:
                raise SystemExit(f"{case.name}: {found['failures']}")
            some = list(changes(found, before[case.name] if before else None))
            if not any(finding.slower(tolerance) for finding in some):
                break
        result += some
    team.settings = settings
    return result


def earlier(path: Path, settings: Settings) -> dict[str, Any]:
    """Return the cases of an earlier run by name; exit if it was made on another kind of machine."""
    results = json.loads(path.read_text())
    here = machine.describe(settings.threads, settings.cpus)
    for field in ("processor", "threads"):
        if results["machine"][field] != here[field]:
            raise SystemExit(
                f"--results: {path.name} was measured with {field} {results['machine'][field]!r}, here it is "
                f"{here[field]!r}; ratios differ between machines, so compare with --against instead"
            )
    return {case["name"]: case for case in results["cases"] if case["ratio"] is not None}


def main(argv: list[str] | None = None) -> int:
    """Measure and compare; return 1 if anything has become slower."""
    options = arguments(argv)
    cpus = [int(cpu) for cpu in options.cpus.split(",")] if options.cpus else sorted(os.sched_getaffinity(0))
    settings = Settings(options.threads, tuple(cpus[: options.threads]), options.rounds, options.seconds)
    chosen = [case for case in cases.SETS[options.set] if options.only in case.name]
    with tempfile.TemporaryDirectory() as folder:
        before: dict[str, Any] = {}
        if options.results:
            before = earlier(options.results, settings)
            chosen = [case for case in chosen if case.name in before]
            names, paths = [*OURS, *{n for case in before.values() for n in case["peers"] if n not in OURS}], {}
        else:
            ref = options.against or last_tag()
            old = [f"{name}@{ref}" for name in GUARDED]
            itself = [f"{name}@{ITSELF}" for name in GUARDED]
            names, paths = [*GUARDED, *itself, *old], dict.fromkeys(old, str(build(ref, Path(folder))))
        if not chosen:
            raise SystemExit("no network is left to compare; look at --set, --only and --results")
        with Team(names, settings, paths) as team:
            absent = {name: about for name, about in team.about.items() if "versions" not in about}
            if absent:
                raise SystemExit(f"cannot be measured: {absent}")
            findings = measure(chosen, team, before, options.tolerance)
    findings += means(findings)
    print(report(findings, options.tolerance))
    return 1 if any(finding.slower(options.tolerance) for finding in findings) else 0


def report(findings: list[Finding], tolerance: float) -> str:
    """Return the table of all ratios, the means last."""
    rows = [["network [batch]", "beside", "as fast as before", "noise", ""]]
    rows += [
        [f.case, label(f.peer), f"{f.change:.3f}", f"{f.noise:.3f}", "SLOWER" if f.slower(tolerance) else ""]
        for f in findings
    ]
    return table(rows)


if __name__ == "__main__":
    sys.exit(main())
