"""The steps of continuous integration.

Usage: .ci/run [--list] [--keep] [--cpu] [full] [STEP...]

Without names all steps run, two at a time. A named step runs with the steps that it needs.
  --list   show the steps and exit
  --keep   build in build/ci and keep it: the next run with --keep compiles and installs only what changed
  --cpu    compile no kernels for GPUs, even if nvcc is installed
  full     whole ladders of shapes under sanitizers and in all orders of threads, 130 planted bugs, kernels for all
           GPU generations; before a release, and after a change to kernels or to the emulation

Installs what it needs: system packages with apt-get, Python packages into virtual environments in the build folder.
CONTRIBUTING.md describes the time and coverage of each step.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import newer
import no_cuda
from runner import ROOT, STEPS, Job, Runner, chosen, environment, install, project, step

# GPU generations that kernels are compiled for: the oldest, which lacks what newer ones have, and for the files whose
# source depends on it also the one they are tuned for. A full run has all of a release.
OLDEST, TUNED, RELEASE = ("75",), ("90",), ("75", "80", "90", "100", "120")
# Limits of the wheel's build, in processor seconds divided by two; with nvcc it has kernels for GPUs.
WHEEL_SECONDS, WHEEL_SECONDS_CUDA = 300, 450
# Tests of single operations, repeated for the instruction sets that this processor would not select. The native tests
# run each of them at all shapes, so few shapes suffice here.
OPERATIONS = ("tests/layers", "tests/core/test_gather.py", "tests/core/test_losses.py",
              "tests/core/test_optimizers.py")  # fmt: skip
# Tests whose training steps are large enough for matrix units, run on their slow emulation.
MATRIX_UNITS = ("tests/core/test_determinism.py", "tests/core/test_precision.py")
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


# ---- Environments ---------------------------------------------------------------------------------------------------


@step(downloads=True)
def tools(job: Job) -> None:
    """Tools: formatters, type checker, build of wheels."""
    named = project()["project"]
    install(job, "tools", *named["optional-dependencies"]["dev"], "ninja")
    install(job, "tools", *project()["build-system"]["requires"], *named["dependencies"])


@step(downloads=True)
def packages(job: Job) -> None:
    """System packages."""
    wanted = {
        "doctest-dev": Path("/usr/include/doctest/doctest.h").exists(),
        "libbenchmark-dev": Path("/usr/include/benchmark/benchmark.h").exists(),
        "g++": shutil.which("g++"),
        "binutils": shutil.which("objdump"),
    }
    missing = [name for name, there in wanted.items() if not there]
    job.say(f"nvcc: {NVCC}" if NVCC else "no nvcc: the CUDA backend is compiled for the CPU alone")
    job.say(f"installing {' '.join(missing)}" if missing else "nothing is missing")
    if missing:
        job.run("apt-get", "update", "-q", quiet=True)
        job.run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, quiet=True)


@step("tools")
def style(job: Job) -> None:
    """Style and types: ruff, clang-format, mypy."""
    job.run("tools/lint.sh")


# ---- Builds ---------------------------------------------------------------------------------------------------------


def configure(job: Job, build: str, *options: str) -> None:
    """Configure a build folder."""
    job.run("cmake", "-S", ROOT, "-B", job.work / build, "-G", "Ninja", "-DGDCORE_WERROR=ON", *options, quiet=True)


def compile(job: Job, build: str, *targets: str) -> float:
    """Build targets, all by default; return the processor seconds."""
    return job.run("cmake", "--build", job.work / build, "--target", *(targets or ("all",)), quiet=True)


def ctest(job: Job, build: str, *options: str, env: dict[str, str] | None = None) -> None:
    """Run tests of a build folder; write doctest's count of each run to the log."""
    folder = job.work / build
    try:
        job.run("ctest", "--test-dir", folder, "--parallel", "2", "--output-on-failure", *options, env=env)
    finally:
        log = folder / "Testing/Temporary/LastTest.log"
        for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
            if line.startswith("[doctest] test cases"):
                job.say(line)


def ladder(job: Job) -> dict[str, str]:
    """Return the environment of tests that check each access: few shapes, or in a full run all of them."""
    return {} if job.full else {"GDCORE_TEST_FEW_SHAPES": "1"}


def architectures(job: Job) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the GPU generations of all kernels, and more of those whose source depends on the generation."""
    return (RELEASE, ()) if job.full else (OLDEST, TUNED)


def main_options(job: Job) -> list[str]:
    """Return the settings of the build shared by wheel, native tests and benchmarks."""
    cuda = ["-DGDCORE_CUDA=OFF"]
    if NVCC:  # the log has the assembler's report of each kernel
        chosen, also = (";".join(numbers) for numbers in architectures(job))
        cuda = ["-DGDCORE_CUDA=ON", f"-DGDCORE_CUDA_ARCHITECTURES={chosen}", f"-DGDCORE_CUDA_ALSO={also}",
                "-DCMAKE_CUDA_FLAGS=-Xptxas=-v"]  # fmt: skip
    parts = ["TESTS", "BENCH", "GPU_BENCH", "CUDA_EMULATION"]
    return [*cuda, *(f"-DGDCORE_{part}=ON" for part in parts), "-DCMAKE_BUILD_TYPE=Release"]


@step("tools packages")
def build(job: Job) -> None:
    """Native build: tests, benchmarks, CUDA backend for the CPU."""
    configure(job, "main", *main_options(job), f"-DPython_EXECUTABLE={job.work}/tools/bin/python")
    seconds = compile(job, "main", "gdcore_archive")
    (job.work / "core-seconds").write_text(str(seconds))  # part of the time to build a wheel
    targets = ["gdcore_native_tests", "gdcore_emulation_tests", "gdcore_cuda_backend_tests", "gdcore_cuda_emulated"]
    compile(job, "main", *targets, "gdcore_gpu_kernels", "gdcore_bench")


@step("build")
def wheel(job: Job) -> None:
    """Wheel and source distribution: contents, size, build time."""
    dist, log = job.work / "dist", job.work / "logs/wheel-build.log"
    shutil.rmtree(dist, ignore_errors=True)
    options = (*main_options(job), "-DGDCORE_WERROR=ON")
    settings = [f"-C{option.replace('-D', 'cmake.define.', 1)}" for option in options]
    command = [f"-Cbuild-dir={job.work}/main", *settings, "--outdir", dist, ROOT]
    job.run("python", "-m", "build", "--sdist", "--no-isolation", "--outdir", dist, ROOT, quiet=True)
    job.run("python", "tools/check_sdist.py", *dist.glob("*.tar.gz"))
    build = 'python -m build --wheel --no-isolation "$@"'
    script = f"{build} >{log} 2>&1 || {{ grep -v '^ptxas' {log} | tail -n 100; exit 1; }}"
    seconds = job.run("bash", "-c", script, "build", *command) + float((job.work / "core-seconds").read_text())
    if "ptxas info" in log.read_text(errors="replace"):  # appends the kernels compiled in this run
        with (job.work / "ptxas.log").open("a") as report:
            report.write(log.read_text(errors="replace"))
    job.run("python", "tools/check_wheel.py", *dist.glob("*.whl"), *(["--cuda"] if NVCC else []))
    limit = WHEEL_SECONDS_CUDA if NVCC else WHEEL_SECONDS
    job.say(f"build time on two free cores: {seconds / 2:.0f} s (limit {limit} s)")
    if seconds / 2 > limit:  # no failure: simultaneous steps increase processor seconds
        job.say("WARNING: building the wheel takes too long")


@step("wheel")
def isa(job: Job) -> None:
    """Instruction sets stay in their namespaces."""
    job.run("python", "tools/check_isa.py", *(job.work / "main").glob("_core.*.so"))


@step("wheel")
def cuda(job: Job) -> None:
    """CUDA: registers, spills, linked libraries."""
    if not NVCC:
        job.say("skipped: no nvcc")
        return
    main = job.work / "main"
    made = ["--library", main / "cuda/libgdcore_cuda.so", "--module", *main.glob("_core.*.so")]
    compiled, also = architectures(job)
    job.run("python", "tools/check_cuda.py", job.work / "ptxas.log", *made, "--arch", compiled[0],
            "--compiled", *compiled, "--also", *also)  # fmt: skip


@step("tools packages")
def no_nvcc(job: Job) -> None:
    """Configure without a GPU driver, and without nvcc; with both, check the chosen architectures."""
    no_cuda.check(job, NVCC)


# ---- The wheel, as users install it ---------------------------------------------------------------------------------


@step("wheel")
def user(job: Job) -> None:
    """Install the wheel with nothing but its requirements."""
    shutil.rmtree(job.work / "user", ignore_errors=True)
    job.run(sys.executable, "-m", "venv", job.work / "user")
    job.run(job.work / "user/bin/pip", "install", "-q", *(job.work / "dist").glob("*.whl"), quiet=True)
    job.run(job.work / "user/bin/pip", "check")


@step("wheel")
def stubs(job: Job) -> None:
    """Stubs of the compiled module."""
    job.run("pip", "install", "-q", "--force-reinstall", "--no-deps", *(job.work / "dist").glob("*.whl"), quiet=True)
    job.run("python", "tools/check_stubs.py")


@step("user", downloads=True)
def test_packages(job: Job) -> None:
    """Packages for the tests."""
    wheels = list((job.work / "dist").glob("*.whl"))
    pip = (job.work / "user/bin/pip", "install", "-q", "--no-compile")
    job.run(*pip, f"{wheels[0]}[test]", "torch==2.13.0", quiet=True)
    job.run(job.work / "user/bin/python", "-c", "import gdcore; print(gdcore.__version__, gdcore._core.info())")


def pytest(job: Job, *options: str, env: dict[str, str] | None = None) -> None:
    """Run tests of the installed wheel. -P removes this folder from the import path."""
    job.run(job.work / "user/bin/python", "-P", "-m", "pytest", "-q", "--durations=10", *options, env=env)


def test_files(*words: str) -> list[str]:
    """Return the test files with one of the words: collecting the tests of all takes 15 seconds."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if any(word in path.read_text() for word in words)]


def emulated(job: Job) -> str:
    """Return the CUDA backend compiled for the CPU."""
    return str(job.work / "main/cuda/emulation/libgdcore_cuda_emulated.so")


@step("test-packages")
def tests(job: Job) -> None:
    """Tests."""
    pytest(job, "-m", "not timing")


@step("build")
def newer_python(job: Job) -> None:
    """Wheel for a newer Python, if one is installed: only the bindings are compiled; quick tests."""
    newer.check(job)


@step("test-packages", usual=False)
def docs(job: Job) -> None:
    """Examples, snippets and links of the documentation; a part of the tests."""
    pytest(job, "tests/house/test_examples.py")


@step("test-packages")
def site(job: Job) -> None:
    """Documentation site: no warnings, links, nothing loaded from other hosts."""
    options = ("-q", "-W", "--keep-going", "-c", "docs", "-d", job.work / "site-read", ".", job.work / "site")
    job.run(job.work / "user/bin/python", "-P", "-m", "sphinx", *options)
    job.run("python", "tools/check_site.py", job.work / "site")


@step("test-packages", alone=True)
def timing(job: Job) -> None:
    """Run the tests that measure time, with no other step at the same time."""
    pytest(job, "-m", "timing", *test_files("mark.timing"))
    job.run(job.work / "user/bin/python", "tools/check_import.py")


@step("test-packages")
def tests_isa(job: Job) -> None:
    """Operations again with other instruction sets."""
    best_first = "import gdcore; print(*gdcore.info()['instruction_sets'])"
    for name in job.output(job.work / "user/bin/python", "-c", best_first).split()[1:]:
        pytest(job, *OPERATIONS, env={"GDCORE_CPU_ISA": name, **ladder(job)})
    pytest(job, *MATRIX_UNITS, env={"GDCORE_CPU_ISA": "amx-emulated"})


@step("test-packages build")
def tests_emulated(job: Job) -> None:
    """Tests on the emulated GPU."""
    # Tests for a GPU have the fixture `device` or its name as an argument, or the mark.
    env = {"GDCORE_CUDA_LIBRARY": emulated(job), "GDCORE_EMULATION_PROTECT": "1"}
    pytest(job, "-m", "cuda", *test_files("device", "mark.cuda"), env=env)


@step("build")
def bench_native(job: Job) -> None:
    """Native benchmarks run; their figures mean nothing here."""
    out = f"--benchmark_out={job.work}/bench.json"
    job.run(job.work / "main/bench/native/gdcore_bench", out, "--benchmark_out_format=json", "--smoke", quiet=True)


@step("test-packages build")
def bench_gpu(job: Job) -> None:
    """GPU benchmarks run, on the emulated GPU."""
    job.run("bench/gpu.sh", job.work / "gpu", "--dry", env={
        "PYTHON": str(job.work / "user/bin/python"), "GDCORE_CUDA_LIBRARY": emulated(job),
        "GDCORE_DRY_KERNELS": str(job.work / "main/bench/gpu/gdcore_gpu_kernels"),
    })  # fmt: skip


# ---- Native tests ---------------------------------------------------------------------------------------------------


@step("build")
def native(job: Job) -> None:
    """Native tests: each instruction set with guard pages, the newest without; the CUDA backend on the CPU."""
    log = job.work / "logs/kernels.log"
    log.unlink(missing_ok=True)
    ctest(job, "main", "-R", "^native-cuda(-rounded)?$", env={"GDCORE_EMULATION_LOG": str(log)})
    # Without guard pages asan runs the baseline, and the Python tests the best instruction set.
    ctest(job, "main", "-E", "^native-cuda" if job.full else "^native-(cuda|(baseline|avx2)$)")
    job.run("python", "tools/check_kernels.py", job.work / "main/cuda/emulation/libgdcore_cuda_emulated.so", log)


@step("build")
def orders(job: Job) -> None:
    """CUDA backend on the CPU, threads in other orders."""
    order = "(reverse|shuffle)" if job.full else "shuffle"  # the race detector finds what depends on them too
    ctest(job, "main", "-R", f"^native-cuda-{order}$", env=ladder(job))


@step("build")
def asan(job: Job) -> None:
    """Native tests under AddressSanitizer and UBSan."""
    # Other instruction sets have the same sources, and guard pages check their released code. A full run adds them, the
    # code of the tests, and the emulation with its tests; it compiles each file alone, which needs all its includes.
    configure(job, "asan", "-DGDCORE_PYTHON=OFF", "-DGDCORE_CUDA=OFF", f"-DGDCORE_TESTS={job.full}",
              "-DGDCORE_SANITIZE=address,undefined", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
              f"-DGDCORE_X86_ISAS={job.full}", f"-DGDCORE_CUDA_EMULATION={job.full}",
              f"-DGDCORE_UNITY={not job.full}")  # fmt: skip
    if job.full:
        compile(job, "asan")
        ctest(job, "asan", "-E", "^native-cuda-(reverse|shuffle)$")
        return
    compile(job, "asan", "gdcore_archive")
    core = job.work / "asan/libgdcore_archive.a"
    tests = (job.work / "main/tests/native/CMakeFiles/gdcore_native_tests.dir").glob("*.o")
    # The linker keeps the first copy of an inline function: that of the core, which has the checks.
    job.run("c++", "-fsanitize=address,undefined", "-pthread", "-Wl,--whole-archive", core,
            "-Wl,--no-whole-archive", *tests, "-ldl", "-o", job.work / "asan/gdcore_native_tests")  # fmt: skip
    job.run(job.work / "asan/gdcore_native_tests", env={"GDCORE_CPU_ISA": "baseline"})


@step("tools packages")
def planted(job: Job) -> None:
    """CUDA backend on the CPU with inactive planted bugs: plain, sanitizers, race detector."""
    # Each commit has its own sample; the sample of a full run is always the same.
    commit = job.output("git", "rev-parse", "HEAD").strip()
    sample = ["--count", "130", "--listed"] if job.full else ["--seed", commit]
    job.run("python", "tests/mutation/run.py", "plant", "--work", job.work / "planted", *sample)


def planted_tests(job: Job, kind: str, **env: str) -> None:
    """Run the native tests on a build of the CUDA backend with inactive bugs."""
    library = job.work / f"planted/0/{kind}/cuda/emulation/libgdcore_cuda_emulated.so"
    tests = job.work / "main/tests/native/gdcore_native_tests"
    job.run(tests, "--source-file-exclude=*test_callers*,*test_parallel*,*test_matrix_units*",  # of the CPU alone
            env={"GDCORE_TEST_DEVICE": "cuda", "GDCORE_CUDA_LIBRARY": str(library), **env})  # fmt: skip


@step("build planted")
def asan_cuda(job: Job) -> None:
    """CUDA backend on the CPU under AddressSanitizer and UBSan."""
    runtime = job.output("c++", "-print-file-name=libasan.so").strip()
    # The test program is built without the sanitizer, so memory that it never frees would be reported as a leak.
    planted_tests(job, "asan", LD_PRELOAD=runtime, ASAN_OPTIONS="detect_leaks=0", **ladder(job))


@step("build planted")
def race(job: Job) -> None:
    """CUDA backend on the CPU, race detector."""
    planted_tests(job, "race", GDCORE_TEST_FEW_SHAPES="1")


@step("build planted")
def mutation(job: Job) -> None:
    """Mutation gate: bugs planted in kernels are caught."""
    tests = job.work / "main/tests/native/gdcore_native_tests"
    job.run("python", "tests/mutation/run.py", "judge", "--work", job.work / "planted", "--tests", tests,
            env=ladder(job))  # fmt: skip


@step("build")
def cublas(job: Job) -> None:
    """NVIDIA's cuBLASLt compared with our declarations."""
    folder = job.work / "cublas"
    if not folder.exists():
        wanted = project()["project"]["optional-dependencies"]["cuda13"]
        job.run("pip", "install", "-q", "--target", folder, "--no-deps", *wanted, quiet=True)
    if NVCC:  # provides cuda_runtime.h
        configure(job, "abi", "-DGDCORE_PYTHON=OFF", "-DGDCORE_CUDA=OFF", "-DGDCORE_TESTS=ON",
                  f"-DGDCORE_CUBLAS_INCLUDE_DIR={folder}/nvidia/cu13/include")  # fmt: skip
        compile(job, "abi", "gdcore_cuda_abi")
    job.run(job.work / "main/tests/native/emulation/gdcore_cuda_backend_tests",
            "--test-case=opening: the real cuBLASLt opens",
            env={"GDCORE_TEST_CUBLASLT": str(folder / "nvidia/cu13/lib/libcublasLt.so.13")})  # fmt: skip


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog=".ci/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show the steps and end")
    parser.add_argument("--keep", action="store_true", help="build in build/ci and leave it there")
    parser.add_argument("--cpu", action="store_true", help="compile no kernels for GPUs")
    parser.add_argument("names", nargs="*", metavar="STEP", help="steps to run; full: whole ladders")
    options = parser.parse_args()
    if options.list:
        for one in STEPS:
            print(f"{one.name:16s}{one.title}" + (f"  [after {', '.join(one.needs)}]" if one.needs else ""))
        return 0
    if options.cpu:
        globals()["NVCC"] = None
    full = "full" in options.names
    steps = chosen(STEPS, [name for name in options.names if name != "full"])
    with tempfile.TemporaryDirectory() as temporary:
        work = ROOT / "build/ci" if options.keep else Path(temporary)
        return 0 if Runner(steps, work, full, environment(work, NVCC)).run() else 1


if __name__ == "__main__":
    sys.exit(main())
