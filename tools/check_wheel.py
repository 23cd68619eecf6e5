"""Check a built wheel: its size, and that it holds what it must and nothing else.

Usage: python tools/check_wheel.py WHEEL
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

MAX_MEGABYTES = 12.0
REQUIRED = (
    r"gdcore/__init__\.py",
    r"gdcore/py\.typed",
    r"gdcore/_core\.[^/]+\.so",
    r"gdcore/_core(/__init__)?\.pyi",
    r"gdcore-[^/]+\.dist-info/licenses/LICENSE",
)
ALLOWED = r"gdcore/.*\.(py|pyi|typed|so)|gdcore-[^/]+\.dist-info/.*"


def main() -> int:
    wheel = Path(sys.argv[1])
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    problems = [f"missing: {pattern}" for pattern in REQUIRED if not any(re.fullmatch(pattern, n) for n in names)]
    problems += [f"does not belong there: {name}" for name in names if not re.fullmatch(ALLOWED, name)]
    megabytes = wheel.stat().st_size / 1e6
    if megabytes > MAX_MEGABYTES:
        problems.append("too large")
    print(f"{wheel.name}: {megabytes:.2f} MB (limit {MAX_MEGABYTES:g} MB), {len(names)} files")
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
