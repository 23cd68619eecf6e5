"""Promise: on a quadratic, runs stopped after T steps and runs with weight decay fit the shares that the formulas
predict, alike for λ = 1/(ηT); on a network the λ of the most similar predictions is measured, and lies near 1/(ηT)."""

from __future__ import annotations

import io
import math
import sys
from functools import cache
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.experiments.early_stopping import EarlyStoppingDecay, early_stopping_and_decay

SMALL: dict[str, Any] = {"times": (20, 60), "directions": 3, "condition": 10.0, "hidden": 2, "rows": 8}


@cache
def measured() -> EarlyStoppingDecay:
    return early_stopping_and_decay(times=(300, 30, 100), directions=5)


def test_shares_are_the_predicted_ones() -> None:
    result = measured()
    table = result.shares
    assert result.times == [30, 100, 300] and table["steps"] == [30] * 5 + [100] * 5 + [300] * 5
    eigenvalues, steps = np.array(table["eigenvalue"]), np.array(table["steps"])
    np.testing.assert_allclose(eigenvalues[:5], np.geomspace(0.01, 10.0, 5), rtol=1e-10)
    np.testing.assert_allclose(table["stopped"], 1 - (1 - 0.05 * eigenvalues) ** steps, atol=1e-10)
    np.testing.assert_allclose(table["decayed"], eigenvalues / (eigenvalues + 1 / (0.05 * steps)), atol=1e-5)
    np.testing.assert_allclose(table["stopped_predicted"], table["stopped"], atol=1e-10)
    np.testing.assert_allclose(table["decayed_predicted"], table["decayed"], atol=1e-5)


def test_both_fit_a_direction_once_its_eigenvalue_is_above_one_over_lr_steps() -> None:
    table = measured().shares
    for at, stopped, decayed in zip(
        np.array(table["steps"]) * 0.05 * table["eigenvalue"], table["stopped"], table["decayed"], strict=True
    ):
        assert abs(stopped - decayed) < 0.22
        assert min(stopped, decayed) > 0.9 if at > 10 else max(stopped, decayed) < 0.2 if at < 0.2 else True


def test_the_best_decay_follows_one_over_lr_steps() -> None:
    """Within a factor of 4, while 1/(ηT) changes tenfold; a λ ten times off is clearly worse."""
    result = measured()
    for problem in ("quadratic", "network"):
        assert all(0.25 < ratio < 4 for ratio in result.ratios(problem))
        rows = [row for row in result.matches.rows if row["problem"] == problem]
        assert [row["steps"] for row in rows] == [30, 100, 300]
        assert rows[0]["best"] > rows[1]["best"] > rows[2]["best"]
        for row in rows:
            assert row["one_over_lr_steps"] == pytest.approx(1 / (0.05 * row["steps"]))
            assert row["difference"] <= row["difference_there"] < 0.85 * row["size"]
    for steps, differences in zip(result.times, result.differences, strict=True):
        at = result.decays * 0.05 * steps
        assert differences[np.argmin(np.abs(np.log(at / 0.1)))] > 2 * differences.min()


def test_differences_are_those_of_the_paths() -> None:
    result = measured()
    stopped, decayed = result.stopped_path[list(result.stopped_at)], result.decayed_path
    assert stopped.shape == (3, 300) and decayed.shape == (len(result.decays), 300)
    expected = np.sqrt(np.mean((stopped[:, None] - decayed) ** 2, axis=2))
    np.testing.assert_allclose(result.differences, expected, rtol=1e-12)
    assert np.sqrt(np.mean(result.stopped_path[0] ** 2)) < 0.1, "the run begins near the function 0"


def test_the_best_decay_of_the_quadratic_by_hand() -> None:
    """From the shares alone: predictions differ by Σ λ_i/2 (difference of shares)², as all coordinates are ±1."""
    result = measured()
    eigenvalues = np.geomspace(0.01, 10.0, 5)
    for steps, row in zip(result.times, result.matches.rows, strict=False):
        stopped = 1 - (1 - 0.05 * eigenvalues) ** steps
        decayed = eigenvalues / (eigenvalues + result.decays[:, None])
        differences = np.sqrt((eigenvalues / 2 * (stopped - decayed) ** 2).sum(axis=1))
        assert row["best"] == result.decays[np.argmin(differences)]
        assert row["difference"] == pytest.approx(differences.min(), rel=1e-6)
        assert row["size"] == pytest.approx(math.sqrt(float((eigenvalues / 2 * stopped**2).sum())), rel=1e-6)


def test_same_bits_each_time_and_another_seed() -> None:
    first, second = (early_stopping_and_decay(**SMALL) for _ in range(2))
    assert first.shares.rows == second.shares.rows and first.matches.rows == second.matches.rows
    helpers.same_bits(first.decayed_path, second.decayed_path)
    assert (early_stopping_and_decay(**SMALL, seed=1).differences != first.differences).any()


@pytest.mark.parametrize("shown", [True, False])
def test_bars_of_both_problems(shown: bool, monkeypatch: Any) -> None:
    """Complete: the two T of the quadratic, and every λ of the network; none if not wanted."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    result = early_stopping_and_decay(**SMALL, progress=shown)
    text = terminal.getvalue()
    for problem, count in (("quadratic", 2), ("network", len(result.decays))):
        assert (f"weight decay, {problem}: 100%" in text and f"{count}/{count}" in text) is shown


def test_text_and_figure(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    result = measured()
    assert "stopped_predicted" in str(result) and "one_over_lr_steps" in str(result)
    axes = result.plot(tmp_path / "early.png")
    assert len(axes) == 4 and (tmp_path / "early.png").stat().st_size > 50_000
    ratios = result.ratios("network")
    assert f"{min(ratios):.2g} to {max(ratios):.2g}" in axes[1].get_title(loc="left")


REFUSED: dict[str, tuple[dict[str, Any], type[BaseException], str]] = {
    "times": ({"times": 30}, TypeError, "^times"),
    "times one": ({"times": [30, 30]}, ValueError, "^times: got .*two"),
    "times zero": ({"times": [0, 3]}, ValueError, r"^times\[0\]"),
    "times kind": ({"times": [1.5, 3]}, TypeError, r"^times\[0\]"),
    "times none": ({"times": []}, ValueError, "^times"),
    "lr": ({"lr": 0.0}, ValueError, "^lr"),
    "lr kind": ({"lr": "a"}, TypeError, "^lr"),
    "directions": ({"directions": 1}, ValueError, "^directions"),
    "condition": ({"condition": 0.5}, ValueError, "^condition"),
    "condition nan": ({"condition": math.nan}, ValueError, "^condition"),
    "hidden": ({"hidden": 0}, ValueError, "^hidden"),
    "rows": ({"rows": 1}, ValueError, "^rows"),
    "noise": ({"noise": -1.0}, ValueError, "^noise"),
    "seed": ({"seed": -1}, ValueError, "^seed"),
    "seed kind": ({"seed": None}, TypeError, "^seed"),
    "a rate too large": ({**SMALL, "lr": 50.0}, gd.DivergenceError, "loss became"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    changes, kind, words = REFUSED[name]
    helpers.refuses(lambda: early_stopping_and_decay(**changes), kind, words)
