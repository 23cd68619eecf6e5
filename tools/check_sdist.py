"""Check that the source distribution has every file of the repository except those left out on purpose, and no other.

The wheel is then the same whether it is built from the repository or from the source distribution.

Usage: python tools/check_sdist.py SDIST
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".ci/", ".pre-commit-config.yaml", "noxfile.py")  # tracked files of sdist.exclude in pyproject.toml
ADDED = {"PKG-INFO"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sdist", type=Path)
    options = parser.parse_args()
    with tarfile.open(options.sdist) as archive:
        names = {name.partition("/")[2] for name in (m.name for m in archive.getmembers() if m.isfile())}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    wanted = {name for name in listing if not name.startswith(LEFT_OUT) and (ROOT / name).exists()} | ADDED
    for name in sorted(wanted - names):
        print(f"  missing: {name}")
    for name in sorted(names - wanted):
        print(f"  does not belong there: {name}")
    print(f"{options.sdist.name}: {len(names)} files")
    return 0 if names == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
