"""Check that the tests executed every CUDA kernel, including each instantiation of a template.

Usage: python tools/check_kernels.py LIBRARY LOG...

LIBRARY is the CUDA backend compiled for the CPU. LOG is the file named by GDCORE_EMULATION_LOG in a run of the tests:
a line for each kernel, with the offset of its function in the library (hexadecimal) and its number of launches. Fails
if a kernel of the library is not in the logs, or a kernel of the sources is not in the library.
"""

from __future__ import annotations

import argparse
import collections
import re
import subprocess
import sys
from pathlib import Path

CUDA = Path(__file__).resolve().parent.parent / "cuda"


def without_brackets(name: str) -> str:
    """Return the name without template arguments, parameters and return type."""
    name = name.replace("(anonymous namespace)::", "")
    while (shorter := re.sub(r"<[^<>]*>|\([^()]*\)", "", name)) != name:
        name = shorter
    return name.split(" ")[-1] if "{lambda" not in name else ""


def kernels_of(library: Path) -> dict[int, str]:
    """Return {offset: readable name} of the library's kernels."""
    command = ["nm", "--demangle", "--defined-only", library]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels = {}
    for line in text.splitlines():
        match = re.match(r"([0-9a-f]+) [tTwW] (.+)", line)
        if match and "[clone" not in match[2] and without_brackets(match[2]).endswith("_kernel"):
            name = re.sub(r"\(anonymous namespace\)::|gdcore::(cuda::)?|^void ", "", match[2])
            kernels[int(match[1], 16)] = name.split("(")[0]
    return kernels


def launches_in(logs: list[Path]) -> collections.Counter[int]:
    """Return the number of launches by offset."""
    counts: collections.Counter[int] = collections.Counter()
    for log in logs:
        for line in log.read_text().splitlines():
            offset, count = line.split()[:2]
            counts[int(offset, 16)] += int(count)
    return counts


def kernels_in_sources() -> set[str]:
    """Return the names of all __global__ functions."""
    names = set()
    for path in sorted([*CUDA.glob("*/*.cu"), *CUDA.glob("*/*.h")]):
        code = re.sub(r"//[^\n]*", "", path.read_text())
        code = re.sub(r"__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)", "", code)
        names |= set(re.findall(r"__global__\s+(?:static\s+)?void\s+(\w+)\s*\(", code))
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("logs", type=Path, nargs="+")
    options = parser.parse_args()
    kernels, launches, sources = kernels_of(options.library), launches_in(options.logs), kernels_in_sources()
    executed = [offset for offset in kernels if launches[offset] > 0]
    problems = [f"never executed: {name}" for offset, name in sorted(kernels.items()) if offset not in executed]
    instantiated = {without_brackets(name).split("::")[-1] for name in kernels.values()}
    problems += [f"in the sources, but not in the library: {name}" for name in sorted(sources - instantiated)]
    problems += [f"its name should end in _kernel: {name}" for name in sorted(sources) if not name.endswith("_kernel")]
    if unknown := [hex(offset) for offset in launches if offset not in kernels]:
        problems.append(f"launched, but no kernel of the library: offsets {', '.join(unknown)}")
    print(f"{len(executed)} of {len(kernels)} kernels executed, {sum(launches.values())} launches")
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
