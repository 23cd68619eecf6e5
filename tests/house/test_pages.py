"""Promise: the code of pages of the user guide runs, in order, with the names that the guide gives to data; a page says
which names its code takes as given."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NEEDED = {
    "analysis": ("matplotlib", "scipy.optimize"), "cuda": (), "ensembles": (), "many-networks": ("matplotlib",),
    "metrics": ("sklearn.metrics",), "reference": ("pandas",), "sklearn": ("sklearn",),
    "training-tools": ("matplotlib",),
}  # fmt: skip
COMPLETE = ("analysis",)  # pages that need no names, and whose training is short
OF_CLASSES = ("ensembles", "metrics", "sklearn")  # pages whose targets are three classes, not numbers


def names(classes: bool) -> dict[str, Any]:
    """Return the names of docs/site/guide.md, and others that stand for data."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 20))
    y: Any = np.tanh(x[:, :1]) + 0.1 * rng.standard_normal((300, 1))
    loss: Any = gd.MeanSquaredError()
    if classes:
        y, loss = np.digitize(y[:, 0], [-0.3, 0.3]), gd.CrossEntropy()
    model = gd.Sequential(gd.Dense(20, 16), gd.ReLU(), gd.Dense(16, 3 if classes else 1), seed=0)
    frame = {"age": rng.random(200), "income": rng.random(200)}
    frame |= {"region": rng.integers(0, 12, 200), "job": rng.integers(0, 50, 200)}
    return {
        "gd": gd, "model": model, "trainer": gd.Trainer(model, loss, optimizer=gd.Adam(1e-3)), "old": model.clone(),
        "x": x[:200], "xv": x[200:250], "x_test": x[250:], "x_new": x[250:],
        "y": y[:200], "yv": y[200:250], "y_test": y[250:], "frame": frame, "my_function": my_function,
    }  # fmt: skip


def my_function(y_true: Any, y_pred: Any) -> float:
    return 1.0


def analysed(known: dict[str, Any], printed: str) -> bool:
    """Whether the page on curvature has found a minimum, the rate at which steps grow there, and flat directions."""
    assert "change of E predicted to" in printed and "saddle: E = 1.65163" in printed
    assert np.linalg.norm(known["objective"].gradient()) < 1e-8 and known["q"].is_positive_definite
    np.testing.assert_allclose(known["growth"](0.9), -0.8, rtol=0.01)
    np.testing.assert_allclose(known["growth"](1.1), -1.2, rtol=0.01)
    values = known["values"]  # of the network with ReLU units
    assert values[-1] > 100 * abs(np.median(values)) and 0 < sum(values > 0.01 * values[-1]) < 25
    return all(Path(f"{name}.png").exists() for name in ("decayed", "factors", "layers", "noise", "surface"))


@pytest.mark.filterwarnings("ignore:max_iter")
@pytest.mark.parametrize("page", NEEDED)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    needed = {module: pytest.importorskip(module) for module in NEEDED[page]}
    known = names(page in OF_CLASSES) if page not in COMPLETE else {}
    if page == "metrics":
        known["sklearn"] = pytest.importorskip("sklearn")
    if page == "reference":
        known["frame"] = needed["pandas"].DataFrame(known["frame"])
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.M | re.S)
    for code in blocks:
        if "gd.lr_range_test(model, gd.CrossEntropy()" in code:
            known |= names(True)
        exec(code if page in COMPLETE else re.sub(r"epochs=\d+", "epochs=2", code), known)
    expected = {
        "analysis": lambda: analysed(known, capsys.readouterr().out),
        "ensembles": lambda: isinstance(gd.load("ensemble.safetensors"), gd.Ensemble),
        "many-networks": lambda: len(known["result"].table()["seed"]) == 24 and Path("widths.png").exists(),
        "metrics": lambda: known["trainer"].history["val_my_function"] == [1.0, 1.0],
        "sklearn": lambda: len(known["scores"]) == 5,
        "training-tools": lambda: known["result"].suggestion > 0 and Path("rates.png").exists(),
    }
    assert blocks and expected.get(page, lambda: True)()


def taken(blocks: list[str]) -> set[str]:
    """Return the names that blocks of code use and neither make nor import, those of arguments apart."""
    known, found = set(dir(builtins)), set()
    for nodes in (list(ast.walk(ast.parse(code))) for code in blocks):
        named = [node for node in nodes if isinstance(node, ast.Name)]
        known |= {node.id for node in named if isinstance(node.ctx, ast.Store)}
        known |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
        known |= {(each.asname or each.name).partition(".")[0] for node in imports for each in node.names}
        found |= {node.id for node in named if node.id not in known}
    return found


@pytest.mark.parametrize("page", sorted({path.stem for path in DOCS.glob("*.md")} - {"adding"}))
def test_pages_say_which_names_their_code_takes(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    said = re.search(r"^The code of this page takes .*?\n\n", text, re.M | re.S)
    words = set() if said is None else set(re.findall(r"\w+", " ".join(re.findall("`.*?`", said[0], re.S))))
    needed = taken(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S))
    assert needed <= words, needed - words
    assert said is None or needed, "a page whose code is complete"
