"""The mutation gate: plants bugs in the CUDA kernels, one at a time, and fails unless the native tests catch them.

Usage: python tests/mutation/run.py plant --work DIR [--count 120 | --all] [--seed TEXT] [--listed]
       python tests/mutation/run.py judge --work DIR --tests build/tests/native/gdcore_native_tests

`plant` compiles the CUDA backend for the CPU with a sample of inactive bugs (mutants.py): plain, with AddressSanitizer
and UBSan, and with the race detector. `judge` first runs the tests without bugs to find which tests reach which bug.
Then it activates one bug at a time and runs those tests, the fastest first, in one build after the other, until one
fails: a wrong result, a crash, a detected race or deadlock, or a timeout. At least 95 per cent of the bugs must be
caught. Bugs that change nothing are listed in equivalent.toml, each with the reason. They are planted only with
--listed, to check that none of them is caught.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from mutants import Mutant, compatible, find, planted, sample

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LEAST_MUTANTS, LEAST_CAUGHT = 100, 0.95
OF_THE_CPU = "*test_callers*,*test_parallel*,*test_matrix_units*"  # files of tests that no bug can fail
OF_KIND = 8  # least number of each kind in a sample, if there are as many
# For each build of the library: additional flags, and the seconds of tests per bug, as measured in the plain build.
BUILDS = {
    "plain": ([], 10.0),
    "asan": (["-DGDCORE_SANITIZE=address,undefined"], 1.5),
    "race": (["-DGDCORE_EMULATION_RACE=ON"], 1.0),
}
ORDER = {  # fastest builds to catch a kind first
    "barrier": ("race", "plain", "asan"),
    "atomic": ("race", "plain", "asan"),
    "bound": ("asan", "plain", "race"),
}
USUAL_ORDER = ("plain", "asan", "race")


@dataclass
class Test:
    """A test case: its seconds without a bug in the plain build, and the numbers of the bugs that it reaches."""

    name: str
    seconds: float = 0.0
    reached: frozenset[int] = frozenset()


@dataclass
class Gate:
    """A set of numbered mutants: its three builds and the runs of the tests."""

    work: Path
    jobs: int
    mutants: dict[int, Mutant]  # numbers stay when others are removed: sources that do not change are not recompiled
    tests: Path = Path()
    cases: list[Test] = field(default_factory=list)
    sound: dict[tuple[str, str], bool] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    # ---- Building ---------------------------------------------------------------------------------------------------

    def write_sources(self) -> None:
        """Write a copy of the library's sources with the mutants."""
        source = self.work / "source"
        for folder in ("cpp/include", "cuda"):
            for path in [p for p in (ROOT / folder).rglob("*") if p.is_file()]:
                name = path.relative_to(ROOT)
                numbered = [(n, m) for n, m in self.mutants.items() if f"cuda/{m.file}" == name.as_posix()]
                write(source / name, planted(path.read_text(), numbered))
        for name in ("CMakeLists.txt", "pyproject.toml"):
            write(source / name, (ROOT / name).read_text())
        write(source / "cuda/emulation/mutation.cpp", (HERE / "mutation.cpp").read_text())
        write(source / "cuda/emulation/mutation.h", (HERE / "mutation.h").read_text())

    def build(self) -> None:
        """Build all three libraries; remove mutants that do not compile."""
        for _ in range(6):
            self.write_sources()
            log = self.build_one("plain")
            broken = self.mutants_in(log)
            if log and not broken:
                sys.exit(f"{log[-4000:]}\nthe library does not compile")
            if not log:
                break
            print(f"{len(broken)} mutants do not compile and are left out")
            self.mutants = {n: mutant for n, mutant in self.mutants.items() if n not in broken}
        for kind in ("asan", "race"):
            if log := self.build_one(kind):
                sys.exit(f"{log[-4000:]}\nthe library does not compile")

    def build_one(self, kind: str) -> str:
        """Build a library; return the compiler's output if it fails, else an empty string."""
        folder, source = self.work / kind, self.work / "source"
        usual = f"{os.environ.get('CXXFLAGS', '')} -w -include {source}/cuda/emulation/mutation.h"
        flags = [f"-DCMAKE_CXX_FLAGS={usual}", "-DCMAKE_CXX_FLAGS_RELEASE=-O1", *BUILDS[kind][0]]
        off = ["-DGDCORE_PYTHON=OFF", "-DGDCORE_CUDA=OFF", "-DGDCORE_CUDA_EMULATION=ON"]
        configure = ["cmake", "-S", source, "-B", folder, "-G", "Ninja", *off, *flags]
        build = ["cmake", "--build", folder, "--parallel", str(self.jobs), "--target", "gdcore_cuda_emulated"]
        for command in (configure, [*build, "--", "-k", "0"]):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode != 0:
                return str(done.stdout)
        return ""

    def mutants_in(self, log: str) -> set[int]:
        """Return the numbers of the mutants on lines with compiler errors."""
        errors = re.findall(r"/cuda/(\w+/[\w.]+):(\d+):\d+: error", log)
        lines = {(file, int(line)) for file, line in errors}
        return {
            n for n, m in self.mutants.items() for i in range(m.before.count("\n") + 1) if (m.file, m.line + i) in lines
        }

    def library(self, kind: str) -> Path:
        """Return the library of a build."""
        return self.work / kind / "cuda/emulation/libgdcore_cuda_emulated.so"

    # ---- Running ----------------------------------------------------------------------------------------------------

    def run(self, kind: str, test: str, mutant: int, limit: float, reached: Path | None = None) -> bool:
        """Run a test case with an active bug (0: none); return whether it passed."""
        environment = {
            **os.environ,
            "GDCORE_TEST_DEVICE": "cuda",
            "GDCORE_CUDA_PRODUCTS": "rounded",  # otherwise only large products round in memory
            "GDCORE_CUDA_LIBRARY": str(self.library(kind)),
            "GDCORE_MUTANT": str(mutant),
            "OMP_NUM_THREADS": "1",
        }
        if kind == "asan":
            environment |= {"LD_PRELOAD": sanitizer(), "ASAN_OPTIONS": "detect_leaks=0"}
        if reached is not None:
            environment["GDCORE_MUTANTS_REACHED"] = str(reached)
        command = [self.tests, f"--test-case={re.sub('[^A-Za-z0-9_ -]', '?', test)}", "--abort-after=1"]
        try:
            quiet = subprocess.DEVNULL
            return subprocess.run(command, env=environment, stdout=quiet, stderr=quiet, timeout=limit).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def survey(self) -> None:
        """Run every test case without a bug, to measure its time and find the bugs that it reaches."""
        command = [self.tests, "--list-test-cases", f"--source-file-exclude={OF_THE_CPU}"]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        names = [line for line in listing.splitlines() if line and not line.startswith(("[doctest]", "===="))]

        def one(item: tuple[int, str]) -> Test:
            file, started = self.work / f"reached-{item[0]}", time.monotonic()
            file.unlink(missing_ok=True)
            if not self.run("plain", item[1], 0, 300.0, file):
                print(f"without any bug this test fails: {item[1]}")
                return Test(item[1])
            seconds = time.monotonic() - started
            numbers = file.read_text().split() if file.exists() else []
            return Test(item[1], seconds, frozenset(int(number) for number in numbers))

        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            self.cases = sorted(pool.map(one, enumerate(names)), key=lambda test: test.seconds)
        if not all(test.seconds for test in self.cases):
            sys.exit("tests fail without any bug")

    def passes_without(self, kind: str, test: Test) -> bool:
        """Whether the test passes in this build without an active bug."""
        with self.lock:
            if (kind, test.name) not in self.sound:
                self.sound[kind, test.name] = self.run(kind, test.name, 0, 600.0)
                if not self.sound[kind, test.name]:
                    print(f"without any bug this test fails in the {kind} build: {test.name}")
            return self.sound[kind, test.name]

    def caught_by(self, number: int) -> str:
        """Return the build whose tests catch the bug, "none" if it survives, "unreached" if no test reaches it."""
        tests = [test for test in self.cases if number in test.reached]
        if not tests:
            return "unreached"
        for kind in ORDER.get(self.mutants[number].kind, USUAL_ORDER):
            left = BUILDS[kind][1]
            for test in tests:
                slower = {"plain": 1, "asan": 8, "race": 30}[kind]
                limit = 3.0 + 5.0 * slower * test.seconds
                if not self.run(kind, test.name, number, limit) and self.passes_without(kind, test):
                    return kind
                left -= test.seconds
                if left < 0:
                    break
        return "none"

    def judge(self) -> dict[Mutant, str]:
        """Survey and run all mutants."""
        started = time.monotonic()
        self.survey()
        surveyed = time.monotonic()
        print(f"a run without bugs: {surveyed - started:.0f} s", flush=True)
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            fates = list(pool.map(self.caught_by, self.mutants))
        print(f"runs with bugs: {time.monotonic() - surveyed:.0f} s", flush=True)
        return dict(zip(self.mutants.values(), fates, strict=True))


def sanitizer() -> str:
    """Return the sanitizer's library, which must be preloaded into a program built without it."""
    command = ["c++", "-print-file-name=libasan.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write(path: Path, text: str) -> None:
    """Write a file unless it has this content already, so that it is not compiled again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def table(fates: dict[Mutant, str], by: str) -> None:
    """Print how the mutants of each file or kind were caught."""
    print(f"\n{by:20s} bugs  plain  asan  race  survived")
    rows: dict[str, collections.Counter[str]] = {}
    for mutant, fate in fates.items():
        rows.setdefault(getattr(mutant, by), collections.Counter())[fate] += 1
    for name, counts in sorted(rows.items()):
        left = counts["none"] + counts["unreached"]
        numbers = (sum(counts.values()), counts["plain"], counts["asan"], counts["race"], left)
        print("{:20s} {:4d}  {:5d}  {:4d}  {:4d}  {:8d}".format(name, *numbers))


def key(mutant: Mutant) -> tuple[str, str, str]:
    """Return the mutant's key in the list of equivalent mutants."""
    return mutant.file, mutant.place, mutant.describe()


def report(fates: dict[Mutant, str], reasons: dict[tuple[str, str, str], str]) -> int:
    """Print the results and return the exit status."""
    survivors = [mutant for mutant, fate in fates.items() if fate in ("none", "unreached")]
    equivalent = [m for m in survivors if key(m) in reasons]
    counted = {mutant: fate for mutant, fate in fates.items() if mutant not in equivalent}
    for by in ("file", "kind"):
        table(counted, by)
    for mutant in survivors:
        said = reasons.get(key(mutant))
        why = f"changes nothing: {said}" if said else "SURVIVED" if fates[mutant] == "none" else "NEVER REACHED"
        print(f"{mutant.file}:{mutant.line}: {mutant.kind}: {mutant.describe()}: {why}\n    {mutant.place}")
    wrong = [m for m, fate in fates.items() if fate not in ("none", "unreached") and key(m) in reasons]
    for mutant in wrong:
        print(f"{mutant.file}:{mutant.line}: {mutant.describe()}: listed as changing nothing, but caught")
    caught = len(counted) - len(survivors) + len(equivalent)
    share = caught / max(1, len(counted))
    print(
        f"\n{caught} of {len(counted)} bugs caught ({100 * share:.1f}%), {len(equivalent)} that change nothing left out"
    )
    enough = len(counted) >= LEAST_MUTANTS and share >= LEAST_CAUGHT
    if not enough:
        print(f"at least {LEAST_MUTANTS} bugs are wanted, and at least {100 * LEAST_CAUGHT:.0f}% of them caught")
    return 0 if enough and not wrong else 1


def listed_reasons(known: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """Return the reasons of the listed bugs by key; exit if a listed bug is not in the sources."""
    listed = tomllib.loads((HERE / "equivalent.toml").read_text()).get("equivalent", [])
    reasons = {(entry["file"], entry["line"], entry["change"]): entry["reason"] for entry in listed}
    if stale := [entry for entry in reasons if entry not in known]:
        sys.exit(f"equivalent.toml lists what the sources no longer have: {stale}")
    return reasons


def plant(options: argparse.Namespace, mutants: list[Mutant], reasons: dict[tuple[str, str, str], str]) -> None:
    """Choose bugs and build with them; write the chosen bugs to planted.json in the folder."""
    candidates = [m for m in mutants if options.only in m.file and (options.listed or key(m) not in reasons)]
    builds = compatible(candidates) if options.all else [sample(candidates, options.count, OF_KIND, options.seed)]
    print(f"{len(mutants)} bugs can be planted; {sum(map(len, builds))} of them are, in {len(builds)} builds")
    planted_bugs = []
    for number, build in enumerate(builds):
        started = time.monotonic()
        gate = Gate(options.work / str(number), options.jobs, dict(enumerate(build, 1)))
        gate.build()
        planted_bugs.append([(n, asdict(mutant)) for n, mutant in gate.mutants.items()])
        print(f"three builds: {time.monotonic() - started:.0f} s", flush=True)
    write(options.work / "planted.json", json.dumps(planted_bugs))


def judge(options: argparse.Namespace) -> dict[Mutant, str]:
    """Run the tests on the planted bugs."""
    fates: dict[Mutant, str] = {}
    for number, build in enumerate(json.loads((options.work / "planted.json").read_text())):
        mutants = {n: Mutant(**mutant) for n, mutant in build}
        fates |= Gate(options.work / str(number), options.jobs, mutants, options.tests.resolve()).judge()
    return fates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plant", "judge"))
    parser.add_argument("--work", type=Path, required=True, help="folder for builds")
    parser.add_argument("--tests", type=Path, help="judge: the native tests, built without sanitizers")
    parser.add_argument("--count", type=int, default=120, help="bugs in the sample, if not more for the kinds")
    parser.add_argument("--seed", default="1", help="which sample: any text, such as a commit's name")
    parser.add_argument("--all", action="store_true", help="every bug that the rules find; hours")
    parser.add_argument("--listed", action="store_true", help="those of equivalent.toml too: none may be caught")
    parser.add_argument("--only", default="", help="files with this in their name")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    options.work = options.work.resolve()
    cuda = ROOT / "cuda"
    paths = sorted(p for p in [*cuda.glob("*/*.cu"), *cuda.glob("*/*.h")] if p.parent.name != "emulation")
    mutants = [mutant for path in paths for mutant in find(path, path.relative_to(cuda).as_posix())]
    reasons = listed_reasons({key(mutant) for mutant in mutants})
    if options.what == "judge":
        return report(judge(options), reasons)
    plant(options, mutants, reasons)
    return 0


if __name__ == "__main__":
    sys.exit(main())
