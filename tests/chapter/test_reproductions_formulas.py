"""Promise: the reproductions `quadratic` and `formulas` measure the published numbers on real runs, and where a count
differs it is the closed form's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gdcore.analysis.convergence import convergence_factors
from gdcore.analysis.quadratic import QuadraticModel
from gdcore.chapter.reproductions import REPRODUCTIONS, Reproduction, formulas, quadratic
from gdcore.table import Table


@pytest.fixture(scope="module")
def steps(tmp_path_factory: Any) -> Reproduction:
    return REPRODUCTIONS["quadratic"](tmp_path_factory.mktemp("quadratic"))


@pytest.fixture(scope="module")
def rules(tmp_path_factory: Any) -> Iterator[Reproduction]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formulas, "NETWORKS", 3)
        yield REPRODUCTIONS["formulas"](tmp_path_factory.mktemp("formulas"))


def rows(result: Reproduction, words: str, remark: str = "") -> list[dict[str, Any]]:
    found = [r for r in result.table.rows if words in r["quantity"] and remark in r.get("remark", "")]
    assert found, words
    return found


def test_files(steps: Reproduction, rules: Reproduction) -> None:
    for result in (steps, rules):
        assert result.figure.read_bytes().startswith(b"\x89PNG") and result.figure.stat().st_size < 150_000
        assert Table.from_csv(result.figure.with_suffix(".csv"))["quantity"] == result.table["quantity"]
        text = result.figure.with_suffix(".md").read_text(encoding="utf-8")
        assert text.startswith(f"# {result.title}") and all(note in text for note in result.notes)
        assert not any(brace in note for note in result.notes for brace in "{}")


@pytest.mark.parametrize(("method", "remark"), [("gradient descent", ""), ("heavy ball", "under way")])
def test_counts_are_the_published_ones(method: str, remark: str, steps: Reproduction) -> None:
    counted = rows(steps, f"{method}, steps", remark)
    assert [row["published"] for row in counted] == [c[method == "heavy ball"] for c in quadratic.STEPS.values()]
    assert [round(row["measured"]) for row in counted] == [row["published"] for row in counted]
    assert "are the published ones" in steps.title


def test_factors_are_the_formulas(steps: Reproduction) -> None:
    for row in rows(steps, "gradient descent, factor"):
        assert row["measured"] == pytest.approx(row["published"], rel=1e-12)
    for row in rows(steps, "heavy ball, factor"):  # from rest: still larger by about 1 + 1/T, but already close
        assert 0 < row["measured"] / row["published"] - 1 < 0.003


def test_at_the_edge_the_steepest_direction_never_decays(steps: Reproduction) -> None:
    for row in rows(steps, "steepest α"):
        assert row["measured"] == pytest.approx(1.0, abs=1e-9)
    for row in rows(steps, "slowest factor"):
        assert row["measured"] == pytest.approx(row["published"], rel=1e-6)


def test_from_rest_the_count_is_the_closed_forms(steps: Reproduction) -> None:
    for row, condition in zip(rows(steps, "heavy ball, steps", "from rest"), quadratic.STEPS, strict=True):
        surface = QuadraticModel.from_arrays(np.diag([1.0, float(condition)]))
        best = convergence_factors(surface, lr=1 / condition)
        rule = convergence_factors(surface, lr=best.best_momentum_lr, momentum=best.best_momentum)
        alpha = np.array([rule.predict([1.0, 1.0], t) for t in range(int(row["measured"]) + 3)])
        assert quadratic.crossing(quadratic.distance(alpha)) == pytest.approx(row["measured"], abs=0.06)
        assert row["measured"] > 1.2 * row["published"]


def test_crossing_is_between_the_steps_around_it() -> None:
    assert quadratic.crossing(np.array([1.0, 1e-4, 1e-8])) == pytest.approx(1.5)
    assert quadratic.crossing(np.array([1.0, 1e-7, 1e-5, 1e-7])) == pytest.approx(2.5)  # the last crossing


def test_adams_factors(rules: Reproduction) -> None:
    measured = [row["measured"] for row in rows(rules, "Adam")]
    np.testing.assert_allclose(measured, [1 / (1 - 0.9**step) for step in (1, 10, 100)], rtol=1e-7)


def test_momentums_last_steps(rules: Reproduction) -> None:
    (slope,), (ravine,) = rows(rules, "on a slope"), rows(rules, "in a ravine")
    assert slope["measured"] == pytest.approx(10.0, rel=1e-6)
    assert ravine["measured"] == pytest.approx(1 / 1.9, rel=1e-6)


def test_noise_falls_as_the_root(rules: Reproduction) -> None:
    (row,) = rows(rules, "slope in K")
    assert row["published"] == -0.5 and row["measured"] == pytest.approx(-0.5, abs=0.03)


def test_he_keeps_the_signal_and_the_other_halves_it(rules: Reproduction) -> None:
    he, small = (row["measured"] for row in rows(rules, "E[z²]"))
    assert 0.1 < he < 10
    assert small / he == pytest.approx(2.0**-30, rel=1e-4)  # the same draws, times 1/√2 in each layer
