"""Promise: the rooms hold: each room of the package has its folder of tests, operations have the same names in every
backend, imports go one way, and no C++ function passes 60 lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, TESTS, CUDA = ROOT / "python" / "gdcore", ROOT / "tests", ROOT / "cuda"
# Folders of tests that are no room of the package: single operations of the core, and tests without pytest.
OTHER = {"core", "layers", "device", "house", "native", "mutation", "cuda_abi", "files"}
# Files of cpp/layers without a kernel of their own, and of cpp/cpu that are no operation.
NO_KERNEL = {"columns", "norm", "residual", "scale", "standardizer"}
NO_OPERATION = {"memory", "row_order"}
# C++ functions above the limit, to be made smaller. A line that is no longer needed must be removed.
LONG = {"network.cpp: bind_network"}


def folders(path: Path) -> set[str]:
    return {each.parent.name for each in path.glob("*/*.py")} - {"__pycache__"}


def stems(path: Path, pattern: str) -> set[str]:
    found = {each.stem for each in path.glob(pattern)}
    assert found, f"{path}: no {pattern}"
    return found


def test_each_room_has_its_tests() -> None:
    rooms = folders(PACKAGE)
    assert rooms >= {"internal", "training", "io"}
    for room in rooms:
        assert list((TESTS / room).glob("test_*.py")), f"tests/{room} has no tests for python/gdcore/{room}"
    strange = {path.parent.name for path in TESTS.glob("*/*.py")} - rooms - OTHER - {"__pycache__"}
    assert not strange, f"no room of the package: tests/{strange}"
    assert not list(TESTS.glob("test_*.py")), "every test lies in a room"


def test_operations_have_the_same_names_everywhere() -> None:
    layers = stems(ROOT / "cpp" / "layers", "*.cpp") - NO_KERNEL
    operations = stems(ROOT / "cpp" / "cpu", "*.cpp") - NO_OPERATION
    kernels = {path.stem for path in CUDA.rglob("*.cu") if "emulation" not in path.parts}
    assert layers <= operations, f"in cpp/layers, but not in cpp/cpu: {layers - operations}"
    assert operations <= kernels, f"in cpp/cpu, but not in cuda: {operations - kernels}"
    tested = stems(TESTS / "layers", "test_*.py")
    for layer in layers:
        assert any(name.startswith(f"test_{layer}") for name in tested), f"tests/layers has no test_{layer}.py"


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of gdcore that a file imports at its own import, such as "internal.checks"."""
    package = path.relative_to(PACKAGE).parent.parts
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [name.name for name in node.names]
            yield from (".".join((*base, name)) for name in names)


def modules(room: str) -> list[Path]:
    found = sorted((PACKAGE / room).rglob("*.py"))
    assert found
    return found


# What the modules of a room may import: rooms, and modules at the top.
ARROWS = {
    "internal": "internal _core",
    "plotting": "plotting internal",
    "metrics": "metrics internal _core",
    "network": "network internal piecewise_linear standardizer _core",
}


@pytest.mark.parametrize("room", list(ARROWS))
def test_imports_go_one_way(room: str) -> None:
    for path in modules(room):
        wrong = [name for name in imports(path) if name.partition(".")[0] not in ARROWS[room].split()]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}; expected some of {ARROWS[room]}"


def test_the_loop_and_the_files_own_no_trainer() -> None:
    """A trainer owns its fit, not the other way round; a checkpoint receives a state and reads no private member."""
    for path in modules("training"):
        kept = re.findall(r"self\._?trainer\b", path.read_text(encoding="utf-8"))
        assert not kept, f"{path.relative_to(ROOT)} keeps the trainer that owns it"
    text = (PACKAGE / "io" / "checkpoint.py").read_text(encoding="utf-8")
    private = re.findall(r"\b(?:trainer|fit|state|model|network)\._\w+", text)
    assert not private, f"io/checkpoint.py reads {private}"
    tree = ast.parse((PACKAGE / "training" / "measure.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    made = next(n for n in classes["CheckedData"].body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    assert "trainer" not in [argument.arg for argument in made.args.args]


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Yield the head of each C++ function, and its number of lines from the head to the end."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r'R"(\w*)\((?:.|\n)*?\)\1"', blank, text)
    text = re.sub(r'//[^\n]*|/\*(?:.|\n)*?\*/|"(?:\\.|[^"\\\n])*"', blank, text)
    text = re.sub(r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", blank, text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.MULTILINE)
    depth, start, stack, began, name = 0, 0, 0, -1, ""
    for match in re.finditer(r"[{};]", text):
        head = text[start : match.start()].strip()
        if match[0] == "{":
            container = re.match(r"(inline )?(namespace|extern|template|struct|class|union|enum)\b", head)
            is_function = (
                "(" in head
                and not head.endswith(("=", ",", "("))
                and (
                    not container
                    or (container[2] in ("template", "extern") and re.search(r"\)[^)]*$", head) is not None)
                )
            )
            if depth == stack and container and not (is_function and not re.search(r"\b(struct|class)\b", head)):
                stack += 1  # a namespace or a class, with functions inside it
            elif depth == stack and is_function:
                began, name = text.count("\n", 0, start + len(text[start:]) - len(text[start:].lstrip())), head
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth < stack:
                stack = depth
            elif depth == stack and began >= 0:
                yield " ".join(name.split()), text.count("\n", 0, match.start()) - began + 1
                began = -1
        if depth <= stack:
            start = match.end()
    assert depth == 0


def test_the_counter_of_lines_counts() -> None:
    body = "  x();\n" * 3
    text = (
        f"namespace a {{\nclass B {{\n  int f() const {{\n{body}  }}\n  int y = 0;\n}};\nvoid g(int) {{\n{body}}}\n}}\n"
    )
    assert [(name.split("(")[0], lines) for name, lines in functions(text)] == [("int f", 5), ("void g", 5)]


def test_cpp_functions_are_small() -> None:
    paths = [path for folder in ("cpp", "cuda") for path in sorted((ROOT / folder).rglob("*"))]
    paths = [path for path in paths if path.suffix in {".h", ".cpp", ".cu"}]
    count, long = 0, {}
    for path in paths:
        for head, lines in functions(path.read_text(encoding="utf-8")):
            count += 1
            if lines > 60:
                named = re.findall(r"([\w:~]+)\s*\(", head)
                long[f"{path.name}: {named[0]}"] = f"{path.relative_to(ROOT)}: {head[:100]} has {lines} lines"
    assert count > 1000
    wrong = [text for name, text in long.items() if name not in LONG]
    assert not wrong, "\n".join(wrong)
    assert not LONG - long.keys(), f"no longer above the limit: {LONG - long.keys()}"
