"""Promise: sweeps continue where they were interrupted, reuse nothing computed with other settings, and give the same
rows for any number of processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import experiments
from gdcore.table import Table

POINTS = [{"width": width, "seed": seed} for seed in (0, 1) for width in (1, 2, 3)]
DATA = experiments.gaussian_clusters(60, 200, features=5, classes=3, spread=0.6, seed=7)


def rows_of(point: Any) -> list[dict[str, Any]]:
    value = np.float64(point["width"]) / 3 + point["seed"]
    return [{**point, "part": part, "value": value * (part + 1)} for part in range(2)]


def test_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    calls: list[Any] = []

    def broken(point: Any) -> list[dict[str, Any]]:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(point)
        return rows_of(point)

    def counted(point: Any) -> list[dict[str, Any]]:
        calls.append(point)
        return rows_of(point)

    whole = experiments.run_sweep(POINTS, rows_of, progress=False)
    with pytest.raises(KeyboardInterrupt):
        experiments.run_sweep(POINTS, broken, folder=tmp_path, progress=False)
    assert calls == POINTS[:3]
    with open(tmp_path / "sweep.jsonl", "a") as file:
        file.write('{"point": {"width": 1, "se')  # the possible end of a killed run's file
    resumed = experiments.run_sweep(POINTS, counted, folder=tmp_path, progress=False)
    assert calls == POINTS  # none of them twice
    assert resumed.table.rows == whole.table.rows and len(whole.table.rows) == 12
    assert experiments.run_sweep(POINTS, broken, folder=tmp_path).table.rows == whole.table.rows  # all from the disk
    assert Table.from_csv(tmp_path / "table.csv").rows == whole.table.rows


def test_more_points_later(tmp_path: Path) -> None:
    experiments.run_sweep(POINTS[:2], rows_of, folder=tmp_path, progress=False)
    calls = []
    more = experiments.run_sweep(POINTS[1:4], lambda p: calls.append(p) or rows_of(p), folder=tmp_path, progress=False)
    assert calls == POINTS[2:4] and [row["width"] for row in more.table.rows] == [2, 2, 3, 3, 1, 1]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    sweep = {"folder": tmp_path, "progress": False}
    experiments.run_sweep(POINTS, rows_of, settings={"epochs": 500, "lr": (0.1, 0.2)}, **sweep)
    before = (tmp_path / "sweep.jsonl").read_bytes()
    experiments.run_sweep(POINTS, rows_of, settings={"epochs": 500, "lr": [0.1, 0.2]}, **sweep)
    helpers.refuses(
        lambda: experiments.run_sweep(POINTS, rows_of, settings={"epochs": 20, "lr": (0.1, 0.2)}, **sweep),
        ValueError,
        "^folder: .*epochs: saved 500, now 20",
    )
    assert (tmp_path / "sweep.jsonl").read_bytes() == before


@pytest.mark.parametrize("damage", ["{broken", '{"point": {"width": 1}}', "[1]", "\x00"])
def test_damaged_file(damage: str, tmp_path: Path) -> None:
    experiments.run_sweep(POINTS, rows_of, folder=tmp_path, progress=False)
    path = tmp_path / "sweep.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], damage, *lines[3:]]) + "\n")
    with pytest.raises(gd.FormatError, match=r"^folder: line 3 of .*sweep\.jsonl is damaged"):
        experiments.run_sweep(POINTS, rows_of, folder=tmp_path, progress=False)


def test_failing_point_is_named(tmp_path: Path) -> None:
    def fails(point: Any) -> list[dict[str, Any]]:
        if point["width"] == 3:
            raise ArithmeticError("too wide")
        return rows_of(point)

    with pytest.raises(ArithmeticError, match="too wide") as info:
        experiments.run_sweep(POINTS, fails, folder=tmp_path, progress=False)
    assert any('"width": 3' in note for note in info.value.__notes__)
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == 3  # the settings, and the two before it


def test_any_number_of_jobs(tmp_path: Path) -> None:
    """Also where the caller uses several threads, which would round sums differently."""

    def build(width: int) -> list[gd._core.Layer]:
        return [gd.Dense(5, width), gd.BatchNorm(width), gd.Tanh(), gd.Dense(width, 3)]

    threads = gd.get_num_threads()
    recipe = experiments.Recipe(DATA, build, epochs=4, batch_size=20, label_noise=0.15)
    common: dict[str, Any] = {"values": [2, 40, 90], "repeats": 2, "progress": False}
    try:
        gd.set_num_threads(2)
        one = experiments.double_descent(recipe, **common)
        assert gd.get_num_threads() == 2
        two = experiments.double_descent(recipe, n_jobs=2, folder=tmp_path, **common)
        assert gd.get_num_threads() == 2
    finally:
        gd.set_num_threads(threads)
    assert one.table.rows == two.table.rows and len(one.table.rows) == 6
    assert one.table["width"] == [2, 40, 90] * 2 and one.table["seed"] == [0] * 3 + [1] * 3
    assert one.cpu_seconds > 0 < two.cpu_seconds


def blas_threads(point: Any) -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return [{**point, "threads": max(library["num_threads"] for library in blas)}]


def test_numpy_computes_with_one_thread() -> None:
    """With threadpoolctl; the caller's thread count is restored."""
    with pytest.importorskip("threadpoolctl").threadpool_limits(2, user_api="blas"):
        for jobs in (1, 2):
            seen = experiments.run_sweep(POINTS[:2], blas_threads, n_jobs=jobs, progress=False)
            assert seen.table["threads"] == [1, 1]
        assert blas_threads({})[0]["threads"] == 2


def test_linear_sweep_for_any_number_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    common: dict[str, Any] = {"features": 300, "samples": [150, 290, 450], "progress": False}
    pytest.importorskip("threadpoolctl")
    one = experiments.double_descent_linear(**common)
    assert experiments.double_descent_linear(**common, n_jobs=2).table.rows == one.table.rows
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)  # as if it were not installed
    for row, same in zip(experiments.double_descent_linear(**common).table.rows, one.table.rows, strict=True):
        assert row["test_error"] == pytest.approx(same["test_error"], rel=1e-9)


def test_folder_tells_functions_apart(tmp_path: Path) -> None:
    """Rows of another schedule or of other layers are not reused, though the functions have the same name."""

    def rows(folder: Path | None, rate: float = 0.1, late: float = 0.1, slope: float = 0.1, **more: Any) -> Any:
        def build(width: int) -> list[gd._core.Layer]:
            return [gd.Dense(5, width), gd.LeakyReLU(0.1 if width == 64 else slope), gd.Dense(width, 3)]

        given: dict[str, Any] = {"epochs": 3, "batch_size": 25}
        given["optimizer"] = gd.SGD(lambda step: late if step == 8 else rate)  # 8: the last of 3 epochs' 9 steps
        recipe = experiments.Recipe(DATA, build, **(given | more))
        return experiments.double_descent(recipe, values=[4, 64], folder=folder, progress=False).table.rows

    def kept() -> int:
        return len((tmp_path / "sweep.jsonl").read_text().splitlines()) - 1

    first = rows(tmp_path)
    for computed, change in enumerate(({"rate": 0.5}, {"late": 0.5}, {"slope": 0.9}), 1):
        again = rows(tmp_path, **change)
        assert again == rows(None, **change) and again[0]["test_loss"] != first[0]["test_loss"]
        assert kept() == (2, 4, 6, 7)[computed]  # the layers of width 64 are those of the first sweep
    other = {"optimizer": gd.SGD(gd.schedules.warmup(lambda step: 0.5, 2))}
    helpers.refuses(lambda: rows(tmp_path, **other), ValueError, "^folder: .*optimizer.lr")
    assert rows(tmp_path) == first and kept() == 7  # the first rows are kept


def test_build_is_asked_for_the_widths_of_the_sweep_alone(tmp_path: Path) -> None:
    layers = {3: [gd.Dense(5, 3), gd.Tanh(), gd.Dense(3, 3)]}
    for folder in (None, tmp_path):
        recipe = experiments.Recipe(DATA, lambda width: layers[width], epochs=1)
        result = experiments.double_descent(recipe, values=[3], folder=folder, progress=False)
        assert result.table["width"] == [3]


# ------------------------------------------------------------------------------------------------------- refusals
sweep = experiments.run_sweep

REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "points": (lambda: sweep("abc", rows_of), TypeError, "^points"),
    "points none": (lambda: sweep([], rows_of), ValueError, "^points"),
    "point": (lambda: sweep([3], rows_of), TypeError, r"^points\[0\]"),
    "point twice": (lambda: sweep([{"a": 1}, {"a": 1}], rows_of), ValueError, r"^points\[1\].*second time"),
    "point kind": (lambda: sweep([{"a": object()}], rows_of), TypeError, r"^points\[0\]"),
    "settings": (lambda: sweep(POINTS, rows_of, settings={"f": object()}), TypeError, "^settings"),
    "rows": (lambda: sweep(POINTS, lambda p: [{"f": object()}]), TypeError, "^train_point"),
    "train_point": (lambda: sweep(POINTS, None), TypeError, "^train_point"),
    "n_jobs": (lambda: sweep(POINTS, rows_of, n_jobs=0), ValueError, "^n_jobs"),
    "n_jobs kind": (lambda: sweep(POINTS, rows_of, n_jobs=1.5), TypeError, "^n_jobs"),
    "folder": (lambda: sweep(POINTS, rows_of, folder=__file__), ValueError, "^folder.*file"),
    "folder kind": (lambda: sweep(POINTS, rows_of, folder=3), TypeError, "^folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    threads = gd.get_num_threads()
    call, kind, words = REFUSED[name]
    helpers.refuses(call, kind, words)
    assert gd.get_num_threads() == threads
