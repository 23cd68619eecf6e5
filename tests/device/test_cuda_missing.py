"""Promise: without a GPU or its libraries, gdcore imports, uses the CPU for device="auto", and says for "cuda" what is
missing and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import pytest

ASK = """
    import sys
    import gdcore as gd
    if len(sys.argv) > 1:
        import os
        os.environ["GDCORE_CUDA_LIBRARY"] = sys.argv[1]
    print(gd.Sequential(gd.Dense(2, 2), seed=0).device)
    print(gd.info()["devices"])
    print(gd.info()["cuda"])
    try:
        gd.Sequential(gd.Dense(2, 2), seed=0, device="cuda")
    except gd.DeviceError as error:
        print(error)
"""
ADVICE = '; expected "cpu" or "auto" here'


@pytest.fixture
def library(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An invalid CUDA backend: no file, a file that is no library, or another library."""
    path = tmp_path / "libgdcore_cuda.so"
    if request.param == "text":
        path.write_text("no library")
    if request.param == "other":
        path.symlink_to(Path(gd._core.__file__))
    return path


@pytest.mark.parametrize(
    ("library", "why"),
    [
        (
            "nothing",
            "this build of gdcore has no CUDA backend (it was built without nvcc, or with GDCORE_CUDA=OFF); install a "
            "wheel that has it, or build with GDCORE_CUDA=ON",
        ),
        ("text", "the CUDA backend does not load: {path}: file too short"),
        ("other", "{path} is not gdcore's CUDA backend"),
    ],
    indirect=["library"],
)
def test_without_a_backend(library: Path, why: str) -> None:
    why = why.format(path=library)
    device, devices, cuda, error = helpers.must_run(ASK, str(library)).splitlines()
    assert device == "cpu" and devices == "('cpu',)"
    assert cuda == f"not usable: {why}"
    assert error == f'[backend] device: got "cuda", but {why}{ADVICE}'


@pytest.mark.parametrize("library", ["nothing", "text", "other"], indirect=True)
def test_the_command_line_says_it(library: Path) -> None:
    code = "from gdcore.cli import main; raise SystemExit(main(['info']))"
    out = helpers.must_run(f"import os; os.environ['GDCORE_CUDA_LIBRARY'] = {str(library)!r}; {code}")
    facts = dict(line.split(None, 1) for line in out.splitlines())
    assert facts["devices"] == "cpu" and facts["cuda"].startswith("not usable: ")


def test_import_opens_no_library() -> None:
    out = helpers.must_run(
        """
        import gdcore as gd
        gd.Adam(0.1), gd.Dense(2, 2), gd.MeanSquaredError()
        print(open("/proc/self/maps").read())
        """
    )
    assert "_core" in out and "libgdcore_cuda" not in out and "libcuda.so" not in out


@pytest.mark.cuda
def test_auto_takes_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless GDCORE_DEVICE is "cpu", as in these tests; a device given by name is used."""
    for wanted, auto in (("cpu", "cpu"), ("", "cuda"), (None, "cuda")):
        if wanted is None:
            monkeypatch.delenv("GDCORE_DEVICE")
        else:
            monkeypatch.setenv("GDCORE_DEVICE", wanted)
        for given in ({}, {"device": "auto"}):
            model = gd.Sequential(gd.Dense(2, 2), seed=0, **given)
            assert model.device == ("cpu" if helpers.EMULATED else auto)  # an emulated GPU is used only by name
        assert gd.Sequential(gd.Dense(2, 2), seed=0, device="cuda").device == "cuda"


def test_a_gpu_that_auto_is_kept_from_is_not_looked_for() -> None:
    out = helpers.must_run("""
        import os
        os.environ["GDCORE_DEVICE"] = "cpu"
        import gdcore as gd
        assert gd.Sequential(gd.Dense(2, 2), seed=0).device == "cpu"
        print(open("/proc/self/maps").read())
    """)
    assert "libgdcore_cuda" not in out and "libcuda.so" not in out


FORK = """
    import os, sys
    import gdcore as gd
    model = gd.Sequential(gd.Dense(2, 2), seed=0, device="cuda")
    child = os.fork()
    if child == 0:
        print(gd.Sequential(gd.Dense(2, 2), seed=0).device)
        for call in (lambda: gd.Sequential(gd.Dense(2, 2), seed=0, device="cuda"), lambda: USE):
            try:
                call()
            except gd.DeviceError as error:
                print(error)
        print(gd.info()["devices"])
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.cuda
def test_after_a_fork() -> None:
    out: Any = helpers.must_run(FORK.replace("lambda: USE", "lambda: None")).splitlines()
    message = (
        '[backend] CUDA does not work in a forked process; start it with multiprocessing\'s "spawn" method, or use '
        'device="cpu" there'
    )
    assert out[:2] == ["cpu", message]


def test_the_wheel_of_cublas_is_found_where_python_finds_it(tmp_path: Path) -> None:
    """In a folder that is not next to gdcore's own."""
    library = tmp_path / "nvidia" / "cu13" / "lib" / "libcublasLt.so.13"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    code = """
    import os, sys
    sys.path[:0] = sys.argv[1:]
    os.environ.pop("GDCORE_CUBLASLT_WHEEL", None)
    from gdcore.internal.cuda import set_cublas_path
    set_cublas_path()
    print(os.environ.get("GDCORE_CUBLASLT_WHEEL"))
    """
    assert helpers.must_run(code, str(tmp_path)).strip() == str(library)
