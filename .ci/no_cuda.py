"""The configuration of the CUDA backend where a GPU's driver or nvcc is missing, and where both are there."""

from __future__ import annotations

import contextlib

from runner import ROOT, Failure, Job


def check(job: Job, nvcc: str | None) -> None:
    """Configure without a driver, without nvcc, and with both; the messages must say what is compiled, or why not."""
    missing = {"CUDACXX": str(job.work / "nvcc")}
    command = ("cmake", "-S", ROOT, "-G", "Ninja", "-DGDCORE_PYTHON=OFF", "--fresh")
    asked = {"-DGDCORE_CUDA=ON": "75-real;80-real;90-real;100-real;120", f"-DGDCORE_NVIDIA_DRIVER={ROOT}": "native"}
    for option, architectures in asked.items() if nvcc else ():
        with contextlib.suppress(Failure):  # without a GPU CMake does not know which one is native
            job.run(*command, "-B", job.work / "with-nvcc", option)
        if f" for {architectures}\n" not in job.log.read_text():
            raise Failure(f"{option} does not compile for {architectures}")
    for driver, reason in (("", "as this machine has no NVIDIA driver"), (ROOT, "no working nvcc was found")):
        options = ("-DGDCORE_CUDA=AUTO", f"-DGDCORE_NVIDIA_DRIVER={driver}")
        job.run(*command, "-B", job.work / "no-nvcc", *options, env=missing)
        said = [line for line in job.log.read_text().splitlines() if f"no CUDA backend, {reason}" in line]
        if not said or not any(way in said[0] for way in ("install . -C cmake.define.GDCORE_CUDA=ON", "Toolkit 13")):
            raise Failure(f"AUTO does not say that there is no CUDA backend, {reason}, and how to have one")
    try:
        job.run(*command, "-B", job.work / "no-nvcc", "-DGDCORE_CUDA=ON", env=missing)
    except Failure:
        if "GDCORE_CUDA is ON, but no working nvcc was found" in job.log.read_text():
            return
    raise Failure("ON does not say what is missing")
