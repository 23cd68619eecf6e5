"""A wheel for a newer Python than the one that runs the other steps, and tests of it.

The core is that of the native build; only the bindings are compiled again, without optimisation.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from runner import ROOT, Job, install, project

NEWEST_MINOR = 14  # of the Python versions that releases have wheels for
# Tests of what depends on the version: bindings, signatures, attributes, pickles, threads, files.
PACKAGES = ("pytest>=8", "hypothesis>=6.100")
TESTS = (
    "tests/callbacks/test_callbacks.py", "tests/core/test_bad_arrays.py", "tests/core/test_bad_specs.py",
    "tests/core/test_custom_loss.py", "tests/core/test_misuse.py", "tests/core/test_thread_limits.py",
    "tests/house/test_calls.py", "tests/internal/test_attributes.py", "tests/internal/test_display.py",
    "tests/internal/test_messages.py", "tests/io/test_files.py", "tests/network/test_copies.py",
    "tests/training/test_bad_training.py", "tests/training/test_trainer.py",
)  # fmt: skip
USABLE = """
import pathlib, sys, sysconfig
header = pathlib.Path(sysconfig.get_path("include"), "Python.h")
sys.exit(not header.exists() or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
"""


def newest() -> str | None:
    """Return the newest installed Python above this one that extensions can be compiled for, None if there is none."""
    for minor in range(NEWEST_MINOR, sys.version_info.minor, -1):
        others = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"))
        for python in (shutil.which(f"python3.{minor}"), *others):
            # A command of pyenv fails where its version is not selected.
            if python is not None and subprocess.run([python, "-c", USABLE], capture_output=True).returncode == 0:
                return str(python)
    return None


def check(job: Job) -> None:
    """Build, install and test the wheel; say so if no newer Python is installed."""
    python = newest()
    if python is None:
        job.say(f"skipped: no Python from 3.{sys.version_info.minor + 1} to 3.{NEWEST_MINOR} with its headers")
        return
    dist, folder, named = job.work / "newer-dist", job.work / "newer/bin", project()
    needed = (*named["build-system"]["requires"], *named["project"]["dependencies"], *PACKAGES)
    install(job, "newer", *needed, python=python)
    shutil.rmtree(dist, ignore_errors=True)
    settings = ("GDCORE_CUDA=OFF", f"GDCORE_ARCHIVE={job.work}/main/libgdcore_archive.a", "GDCORE_WERROR=ON")
    options = (f"-Cbuild-dir={job.work}/newer-main", *(f"-Ccmake.define.{setting}" for setting in settings))
    alone = ("--no-build-isolation", "--no-deps")
    job.run(folder / "pip", "wheel", "-q", *alone, "-w", dist, *options, ROOT, quiet=True)
    job.run("python", "tools/check_wheel.py", *dist.glob("*.whl"))
    job.run(folder / "pip", "install", "-q", "--force-reinstall", "--no-deps", *dist.glob("*.whl"), quiet=True)
    job.run(folder / "pip", "check")
    job.run(folder / "python", "-P", "-m", "pytest", "-q", "-m", "not timing and not slow", *TESTS)
