"""Sessions for developers: `nox -s dev` sets up an environment, `nox -l` lists all; CONTRIBUTING.md has the details.

All sessions except dev call .ci/run or bench/native.sh, where each command is defined once. They build in build/ci,
which is kept; arguments after -- are passed on: nox -s native -- asan.
"""

from __future__ import annotations

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
nox.options.sessions = ["lint", "tests", "native"]


@nox.session(reuse_venv=True)
def dev(session: nox.Session) -> None:
    """Set up .nox/dev, where importing gdcore recompiles it, and the native tests in build/dev."""
    tools = PROJECT["project"]["optional-dependencies"]["dev"]
    session.install(*PROJECT["build-system"]["requires"], *tools, "cmake", "ninja")
    session.install("--no-build-isolation", "--editable", ".[test]", *session.posargs)
    session.run("cmake", "--build", "build/dev", "--target", "gdcore_native_tests")
    session.log("ready: . .nox/dev/bin/activate")


def steps(session: nox.Session, *names: str) -> None:
    """Run steps of .ci/run, without kernels for GPUs."""
    session.run(".ci/run", "--keep", "--cpu", *names, *session.posargs, external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check formatting, style and types."""
    steps(session, "style")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run all Python tests on the wheel."""
    steps(session, "tests")


@nox.session(venv_backend="none")
def native(session: nox.Session) -> None:
    """Run all native tests: each instruction set, and the CUDA backend on the CPU."""
    steps(session, "native")


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation site, run the code of examples, README and cookbook, and check the links of all pages."""
    steps(session, "docs", "site")
    session.log("the site: build/ci/site/index.html")


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Run the native benchmarks; -- --smoke runs each briefly."""
    session.run("bench/native.sh", *session.posargs, external=True)
