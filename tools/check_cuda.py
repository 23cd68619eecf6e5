"""Check the compiled CUDA backend: no spilled registers in hot kernels, no CUDA library linked.

Usage: python tools/check_cuda.py LOG --library libgdcore_cuda.so --module _core.so [--arch 90]
       [--compiled 75 90 120] [--also 90]

LOG is the output of a build configured with -DCMAKE_CUDA_FLAGS=-Xptxas=-v. Every kernel must have been compiled for
each architecture of RELEASE, or of --compiled; kernels of files whose source depends on the architecture also for those
of --also (GDCORE_CUDA_ALSO of the build). A table shows each kernel's registers and static shared memory for one
architecture. The library may export only its entry point, and neither it nor the module may be linked with a CUDA
library: the driver and cuBLAS are opened at run time, so that both load on machines without a GPU.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RELEASE = ("75", "80", "90", "100", "120")
# Kernels that may use this many bytes of stack, with the reason. float32 kernels of training steps may use none.
CALLS = "logarithms and divisions in float64 are subroutines; what is needed after a call is stored meanwhile"
MAY_SPILL: dict[str, tuple[int, str]] = {
    r"<double": (64, CALLS),
    r"^tile_kernel<double>": (112, CALLS + ", once a row, half of it in focal loss's function apart"),
    r"^fused_mlp_update_kernel<Adam>": (16, CALLS + ": powers, once a block, on compute capability 12.0"),
    r"^(weight|finish)_kernel": (64, CALLS + "; these kernels see a few numbers a step"),
    r"^curvature_kernel": (64, CALLS + "; no part of training"),
    r"^tile_kernel<float>": (64, CALLS + ": a few registers, once a row, and those of focal loss in a function apart"),
}
SYSTEM_LIBRARIES = r"lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so\.\d+|ld-linux-.*"
ENTRY_POINT = "gdcore_make_cuda_backend"

CUDA = Path(__file__).resolve().parent.parent / "cuda"
BUILDING = re.compile(r"Building CUDA object .*gdcore_cuda\.dir/(\S+\.cu)")
DEPENDS = re.compile(r"__CUDA_ARCH__ *[<>=]")
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)")
PROPERTIES = re.compile(r"Function properties for (\w+)")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


@dataclass
class Kernel:
    """ptxas's report of one kernel on one architecture; sizes in bytes."""

    frame: int = 0
    spills: int = 0
    registers: int = 0
    shared: int = 0
    file: str = ""


def read_report(log: str) -> dict[tuple[str, str], Kernel]:
    """Return the kernels by (name, architecture); functions called by a kernel count as part of it."""
    kernels: dict[tuple[str, str], Kernel] = {}
    kernel = Kernel()  # discarded: before the first entry
    own, file = False, ""
    for line in log.splitlines():
        if match := BUILDING.search(line):
            file = match[1]
        elif match := ENTRY.search(line):
            kernel = kernels[match[1], match[2]] = Kernel(file=file)
            entry = match[1]
        elif match := PROPERTIES.search(line):
            own = match[1] == entry
        elif match := FRAME.search(line):
            frame, stores, loads = (int(number) for number in match.groups())
            kernel.spills += stores + loads
            kernel.frame += frame if own else 0
        elif match := REGISTERS.search(line):
            kernel.registers = int(match[1])
            kernel.shared = int(shared[1]) if (shared := SHARED.search(line)) else 0
    return kernels


def demangle(names: list[str]) -> dict[str, str]:
    """Return readable names of the kernels: without our namespaces, arguments and return types."""
    command = ["c++filt", "--no-params"]
    lines = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=True).stdout
    plain = [re.sub(r"gdcore::(cuda::)?|\(anonymous namespace\)::|^void ", "", line) for line in lines.splitlines()]
    return dict(zip(names, plain, strict=True))


def depending_files() -> set[str]:
    """Return the kernel files whose source, with all headers of the project, depends on the architecture."""

    def texts(path: Path, seen: set[Path]) -> Iterator[str]:
        if path in seen or not path.is_file():  # headers of CUDA and of the standard library are not in these folders
            return
        seen.add(path)
        text = path.read_text()
        yield text
        for name in INCLUDE.findall(text):
            yield from texts((CUDA.parent / "cpp/include" if name.startswith("gdcore/") else CUDA) / name, seen)

    return {str(p.relative_to(CUDA)) for p in CUDA.glob("*/*.cu") if any(map(DEPENDS.search, texts(p, set())))}


def check_kernels(log: str, compiled: list[str], also: list[str], shown: str) -> list[str]:
    """Print the table and return the kernels' problems."""
    kernels = read_report(log)
    depending = depending_files()
    files = {name: kernel.file for (name, _), kernel in kernels.items()}
    names = demangle(sorted({name for name, _ in kernels}))
    problems = [f"a warning: {line.strip()}" for line in log.splitlines() if re.search(r"\bwarning\b.*[:#]", line)]
    if not kernels:
        return [*problems, "the log holds no report of ptxas: was the build configured with -Xptxas=-v?"]
    if also and (absent := depending - set(files.values())):
        problems.append(f"no kernel was compiled from {', '.join(sorted(absent))}: is the log complete?")
    for name, plain in names.items():
        wanted = [*compiled, *(also if files[name] in depending else [])]
        missing = [arch for arch in wanted if (name, arch) not in kernels]
        if missing:
            problems.append(f"{plain}: not compiled for sm_{', sm_'.join(missing)}")
        most = max((limit for pattern, (limit, _) in MAY_SPILL.items() if re.search(pattern, plain)), default=0)
        for arch in wanted:
            kernel = kernels.get((name, arch), Kernel())
            if kernel.spills > most:
                problems.append(f"{plain}: {kernel.spills} bytes of spills on sm_{arch}")
            if kernel.frame > most:
                problems.append(f"{plain}: a stack frame of {kernel.frame} bytes on sm_{arch}")
    print(f"registers  shared bytes  kernel (sm_{shown})")
    for name, plain in sorted(names.items(), key=lambda item: item[1]):
        if kernel := kernels.get((name, shown)):
            print(f"{kernel.registers:9d}  {kernel.shared:12d}  {plain}")
    most = max(kernel.registers for kernel in kernels.values())
    counts = [f"sm_{arch}: {sum(made == arch for _, made in kernels)}" for arch in [*compiled, *also]]
    print(f"{len(names)} kernels, compiled for {', '.join(counts)}; at most {most} registers")
    return problems


def check_linking(library: Path) -> list[str]:
    """Return the linked libraries that a machine without CUDA lacks."""
    text = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", text)
    print(f"{library.name} needs {', '.join(needed)}")
    return [f"{library.name} is linked with {n}" for n in needed if not re.fullmatch(SYSTEM_LIBRARIES, n)]


def check_exports(library: Path) -> list[str]:
    """Return the exported functions besides the entry point; those of the standard library are weak."""
    text = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    exported = [line.split()[-1] for line in text.splitlines() if line.split()[-2] in "TDBR"]
    problems = [f"{library.name} exports {name}" for name in exported if name != ENTRY_POINT]
    return problems if ENTRY_POINT in exported else [*problems, f"{library.name} does not export {ENTRY_POINT}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="output of the build")
    parser.add_argument("--library", type=Path, required=True, help="libgdcore_cuda.so")
    parser.add_argument("--module", type=Path, required=True, help="_core.so")
    parser.add_argument("--arch", default="90", choices=RELEASE, help="architecture of the table")
    parser.add_argument("--compiled", nargs="+", default=RELEASE, choices=RELEASE, help="architectures of the build")
    parser.add_argument("--also", nargs="*", default=[], choices=RELEASE, help="and of files that depend on it")
    options = parser.parse_args()
    log = options.log.read_text(errors="replace")
    problems = check_kernels(log, options.compiled, options.also, options.arch)
    problems += check_linking(options.library) + check_exports(options.library) + check_linking(options.module)
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
