"""Check a built wheel: its size, and that it has all required files and no others.

Usage: python tools/check_wheel.py WHEEL [--cuda]     (--cuda: a wheel with the CUDA backend)
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from pathlib import Path

MAX_MEGABYTES, MAX_MEGABYTES_CUDA = 12.0, 25.0
CUDA_LIBRARY = r"gdcore/libgdcore_cuda\.so"
REQUIRED = (
    r"gdcore/__init__\.py",
    r"gdcore/py\.typed",
    r"gdcore/_core\.[^/]+\.so",
    r"gdcore/_core(/__init__)?\.pyi",
    r"gdcore-[^/]+\.dist-info/licenses/LICENSE",
)
ALLOWED = r"gdcore/.*\.(py|pyi|typed)|gdcore/_core\.[^/]+\.so|gdcore-[^/]+\.dist-info/.*"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args()
    wheel, limit = options.wheel, MAX_MEGABYTES_CUDA if options.cuda else MAX_MEGABYTES
    required, allowed = (
        ((*REQUIRED, CUDA_LIBRARY), f"{ALLOWED}|{CUDA_LIBRARY}") if options.cuda else (REQUIRED, ALLOWED)
    )
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    problems = [f"missing: {pattern}" for pattern in required if not any(re.fullmatch(pattern, n) for n in names)]
    problems += [f"does not belong there: {name}" for name in names if not re.fullmatch(allowed, name)]
    megabytes = wheel.stat().st_size / 1e6
    if megabytes > limit:
        problems.append("too large")
    print(f"{wheel.name}: {megabytes:.2f} MB (limit {limit:g} MB), {len(names)} files")
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
