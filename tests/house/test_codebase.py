"""Promise: the codebase follows its rules: one version, complete __all__, docstrings on everything public, small files
and functions, no CUDA or pybind11 in the core, rooms that mirror each other, a light import."""

from __future__ import annotations

import ast
import inspect
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {".py", ".h", ".cpp", ".cu", ".cuh", ".pyi"}
GENERATED = {".pyi"}


def files(*suffixes: str, under: str = ".") -> list[Path]:
    hidden, found = {"build", "dist", "_skbuild"}, list[Path]()
    for folder, inner, names in os.walk(ROOT / under):
        inner[:] = [name for name in inner if name not in hidden and (name == ".ci" or name[0] != ".")]  # not entered
        found += [Path(folder, name) for name in names if name[0] != "."]
    return sorted(path for path in found if path.suffix in suffixes)


def checked(paths: list[Path], rule: Any) -> None:
    """Apply a rule, which returns a list of problems, to each file; demand at least one file."""
    assert paths
    wrong = [f"{path.relative_to(ROOT)}: {problem}" for path in paths for problem in rule(path)]
    assert not wrong, "\n".join(wrong)


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert gd.__version__ == gd._core.__version__ == project["version"]
    assert re.search(rf"^## \[?{re.escape(project['version'])}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_everything_public_is_listed_and_explained() -> None:
    assert len(set(gd.__all__)) == len(gd.__all__)
    public = {name for name, value in vars(gd).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public - {"annotations"} <= set(gd.__all__)
    for name in gd.__all__:
        value = getattr(gd, name)
        if name.startswith("__") or not (inspect.isclass(value) or callable(value) or inspect.ismodule(value)):
            continue
        assert inspect.getdoc(value) and len(inspect.getdoc(value) or "") > 20, name
        if inspect.isclass(value):
            for method, member in vars(value).items():
                documented = isinstance(member, property) and value.__module__ != "gdcore._core"  # specs: by the class
                if not method.startswith("_") and (callable(member) or documented):
                    assert inspect.getdoc(getattr(value, method)), f"{name}.{method}"


NAMES = """Sequential Trainer MiniBatches load Dense ReLU LeakyReLU Tanh Sigmoid GELU Softplus Dropout BatchNorm
    LayerNorm Standardizer MeanSquaredError CrossEntropy BinaryCrossEntropy SGD Momentum AdaGrad RMSProp Adam
    EarlyStopping Progress Checkpoint CSVLog ReduceOnPlateau Callback History HeNormal HeUniform GlorotNormal
    GlorotUniform Uniform Normal Constant DeviceError DivergenceError FormatError set_num_threads get_num_threads
    train_validation_split metrics schedules"""


@pytest.mark.parametrize("name", NAMES.split())
def test_the_fixed_names_are_there(name: str) -> None:
    assert hasattr(gd, name) and name in gd.__all__


def test_signatures_are_the_documented_ones() -> None:
    for made, defaults in (
        (gd.Momentum(0.1), {"momentum": 0.9, "nesterov": False}),
        (gd.AdaGrad(0.1), {"eps": 1e-8}),
        (gd.RMSProp(0.1), {"beta": 0.9, "eps": 1e-8}),
        (gd.Adam(0.1), {"betas": (0.9, 0.99), "eps": 1e-8, "decoupled": False, "weight_decay": 0.0}),
        (gd.AdamW(0.1), {"betas": (0.9, 0.99), "eps": 1e-8, "decoupled": True, "weight_decay": 0.01}),
        (gd.BatchNorm(3), {"decay": 0.9, "eps": 1e-5, "running": "std", "affine": True}),
        (gd.LayerNorm(3), {"eps": 1e-5, "affine": True}),
        (gd.Dense(2, 3), {"bias": True, "init": gd.HeNormal(), "bias_init": None}),
        (gd.LeakyReLU(), {"negative_slope": 0.01}),
        (gd.Dropout(), {"p": 0.5}),
        (gd.CrossEntropy(), {"class_weights": None, "label_smoothing": 0.0}),
    ):
        for name, value in defaults.items():
            assert getattr(made, name) == value, (made, name)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_files_are_small() -> None:
    def rule(path: Path) -> list[str]:
        long = [f"line {i} has {len(x)} characters" for i, x in enumerate(lines(path), 1) if len(x) > 120]
        count = len(lines(path))
        return [*long[:3], *([f"{count} lines"] if count > 420 else [])]

    checked([p for p in files(*(SOURCES - GENERATED)) if "third_party" not in p.parts], rule)


def test_python_functions_are_small() -> None:
    def rule(path: Path) -> list[str]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        return [f"{f.name} has {code_lines(f)} lines" for f in functions if code_lines(f) > 60]

    def code_lines(function: Any) -> int:
        start = function.body[1].lineno if ast.get_docstring(function) and len(function.body) > 1 else function.lineno
        return int(function.end_lineno - start + 1)

    checked(files(".py"), rule)


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "HACK"])
def test_nothing_is_left_for_later(word: str) -> None:
    me = Path(__file__)
    checked(
        [p for p in files(*SOURCES) if p != me], lambda p: [word] if re.search(rf"\b{word}\b", p.read_text()) else []
    )


def test_python_is_never_pickled() -> None:
    paths = files(".py", under="python")
    checked(
        paths,
        lambda p: ["pickle"] if re.search(r"^\s*(import|from) +(pickle|shelve|dill)\b", p.read_text(), re.M) else [],
    )


def test_neither_cuda_nor_pybind11_in_the_core() -> None:
    def rule(path: Path) -> list[str]:
        return re.findall(
            r"#\s*include\s*[<\"](cuda[^>\"]*|cublas[^>\"]*|pybind11[^>\"]*|Python\.h)[>\"]", path.read_text()
        )

    checked([p for p in files(".h", ".cpp", under="cpp") if "bindings" not in p.parts], rule)


def test_the_backends_mirror_each_other() -> None:
    # In cuda/backend, cuda/curvature and cuda/matmul; kernels that gather rows evaluate the row order themselves.
    elsewhere = {"loss_curvature", "memory", "norm_curvature", "product", "row_order"}
    operations = {path.stem for path in files(".cpp", under="cpp/cpu")} - elsewhere
    assert {path.stem.removesuffix("_backward") for path in files(".cu", under="cuda/ops")} == operations


def test_cuda_headers_are_included_from_one_root() -> None:
    """A file of the CUDA backend is in a room, and names the room of each header that it includes."""

    def rule(path: Path) -> list[str]:
        names = re.findall(r'#include "([^"]+)"', path.read_text())
        own = [name for name in names if not name.startswith("gdcore/")]
        wrong = [name for name in own if "/" not in name or not (cuda / name).is_file()]
        return [*wrong, *(["lies in no room"] if path.parent.parent != cuda else [])]

    cuda = ROOT / "cuda"
    checked(files(".h", ".cpp", ".cu", ".cuh", under="cuda"), rule)


def test_kernel_files_explain_themselves() -> None:
    """Each file of a backend and each header opens with a comment of more than 40 characters."""

    def rule(path: Path) -> list[str]:
        head = [x for x in lines(path)[:6] if x.startswith(("//", " *", "/*"))]
        return [] if len(head) >= 1 and sum(map(len, head)) > 40 else ["does not open with what it does"]

    kernels = files(".cpp", under="cpp/cpu") + files(".cu", ".cuh", under="cuda")
    checked([*kernels, *files(".h", under="cpp")], rule)


def test_tests_say_what_they_promise() -> None:
    def rule(path: Path) -> list[str]:
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return [] if doc.startswith("Promise: ") else ["its docstring does not begin with the promise that it tests"]

    checked([p for p in files(".py", under="tests") if p.name.startswith("test_")], rule)


def test_the_stubs_know_every_name() -> None:
    package = Path(gd.__file__).parent
    stubs = sorted(package.rglob("*.pyi"))
    assert stubs and (package / "py.typed").exists()
    text = "\n".join(path.read_text() for path in stubs)
    for name in vars(gd._core):
        if not name.startswith("_"):
            assert re.search(rf"\b{name}\b", text), name


def test_import_is_light() -> None:
    """Neither the big optional packages nor the data ones are imported with gdcore."""
    heavy = "torch narwhals pandas matplotlib sklearn scipy safetensors tqdm multiprocessing mlflow optuna wandb"
    helpers.must_run(f"import sys, gdcore; assert not set('{heavy}'.split()) & set(sys.modules), sys.modules.keys()")


@pytest.mark.timing
def test_import_is_fast() -> None:
    """At most 0.1 s of a processor more than NumPy; the best of three, because the machine may be busy."""
    code = "import numpy, time; t = time.process_time(); import gdcore; print(time.process_time() - t)"
    assert min(float(helpers.must_run(code)) for _ in range(3)) < 0.1


def test_info_tells_what_runs() -> None:
    info = gd._core.info()
    assert isinstance(info, dict) and len(info) >= 2
