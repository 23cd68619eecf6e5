"""Promise: every picture of the gallery is drawn by real runs, described and documented with code that runs; the
surfaces under the paths have the Hessian that was asked for, and the runs over them follow the closed forms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.analysis.problems import (
    adam_moments,
    apply_gradients,
    descend,
    momentum_steps,
    quadratic_problem,
    training_path,
)
from gdcore.chapter import gallery
from gdcore.chapter.gallery import PICTURES, generalisation
from gdcore.chapter.gallery._surfaces import rotated

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "gallery.md"
TITLES = re.compile(r"^### (\w+)$", re.MULTILINE)
LIMIT = 90_000  # bytes of a picture in the documentation

# slides of the chapter that have a picture
SLIDES = [2, 10, 12, 14, 15, 18, 22, 23, 26, 27, 28, 30, 31, 34, 35, 39, 42, 44, 48, 50, 51, 52, 54, 55]


def test_every_picture_says_what_to_see_and_on_which_slide() -> None:
    slides = []
    for name in PICTURES:
        text = gallery.shows(name)
        assert 30 < len(text) <= 120 and "\n" not in text
        slides.append(int(re.search(r"\(slides? (\d+)(-\d+)?\)\.$", text)[1]))  # type: ignore[index]
    assert set(SLIDES) <= set(slides)


def test_every_picture_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert TITLES.findall(text) == list(PICTURES)
    for name, section in zip(PICTURES, TITLES.split(text)[2::2], strict=True):
        assert f"![{name}](gallery/{name}.png)" in section
        (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        assert len(code.splitlines()) <= 5, name
        image = ROOT / "docs" / "gallery" / f"{name}.png"
        assert image.read_bytes().startswith(b"\x89PNG") and image.stat().st_size < LIMIT
    assert {path.stem for path in (ROOT / "docs" / "gallery").iterdir()} == set(PICTURES)


def test_the_documented_code_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)
    assert len(blocks) == len(PICTURES) + 1
    # results of the sections before, as stated in their texts
    assert names["corrected"][0] / names["raw"][0] == pytest.approx(10)
    assert names["history"].best_epoch() < names["history"].last_epoch
    assert names["noise"].slope == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("name", [name for name in PICTURES if not name.startswith("double_descent")])
def test_drawing(name: str, tmp_path: Path) -> None:
    """All but the sweeps of double descent, which the documented code runs."""
    (path,) = gallery.draw(tmp_path / "made", [name])
    assert path == tmp_path / "made" / f"{name}.png"
    data = path.read_bytes()
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert data.startswith(b"\x89PNG") and len(data) < LIMIT and width >= 640 and height >= 320


def test_the_same_picture_every_time(tmp_path: Path) -> None:
    first, second = (next(gallery.draw(tmp_path / folder, ["momentum_slope"])) for folder in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_problem_has_the_hessian_asked_for(n: int, rng: Any) -> None:
    values = np.sort(rng.uniform(0.1, 50, n))
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    problem = quadratic_problem(values, basis, minimum=rng.standard_normal(n))
    h = analysis.hessian(problem.model(np.zeros(n)), gd.MeanSquaredError(), problem.x, problem.y)
    np.testing.assert_allclose(h, basis @ np.diag(values) @ basis.T, atol=1e-11)
    objective, w = problem.objective(), rng.standard_normal(n)
    np.testing.assert_allclose(objective.gradient(problem.minimum), 0, atol=1e-12)
    assert objective.value(w) == pytest.approx(0.5 * values @ problem.coordinates(w) ** 2)


def test_descent_follows_the_closed_form() -> None:
    problem = quadratic_problem([1.0, 7.0], rotated(30), minimum=(0.5, -1.0))
    path = descend(problem, gd.SGD(lr=0.2), (2.0, 3.0), 25)
    alpha = problem.coordinates(path)
    assert path.shape == (26, 2) and tuple(path[0]) == (2.0, 3.0)
    expected = alpha[0] * (1 - 0.2 * problem.eigenvalues) ** np.arange(26)[:, None]
    np.testing.assert_allclose(alpha, expected, atol=1e-13)


def test_a_path_has_all_parameters_of_any_model(rng: Any) -> None:
    """The points of the recorder of `fit`, one for each epoch; the last is the model's point."""
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 1))
    layers = (gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 1))
    trainers = [
        gd.Trainer(gd.Sequential(*layers, seed=3, dtype="float64"), gd.MeanSquaredError(), optimizer=gd.Momentum(0.1))
        for _ in range(2)
    ]
    recorder = analysis.PathRecorder()
    trainers[0].fit(x, y, epochs=6, batch_size=None, callbacks=[recorder])
    path = training_path(trainers[1], x, y, 6)
    assert path.shape == (7, 21)
    np.testing.assert_allclose(path, recorder.path, atol=1e-14)
    last = np.concatenate([view.ravel() for view in trainers[1].model.parameters().values()])
    helpers.same_bits(path[-1], last)


def test_momentum_steps_are_geometric_sums() -> None:
    t = np.arange(1, 21)
    for steps, sign in zip(momentum_steps(0.8, 20), (1, -1), strict=True):
        np.testing.assert_allclose(steps, (1 - (sign * 0.8) ** t) / (1 - sign * 0.8), rtol=1e-10)


def test_decayed_minima_shrink_by_the_formula() -> None:
    problem = generalisation.bowl()
    for strength in (0.01, 2.0, 300.0):
        kept = (generalisation.decayed(problem, strength) @ problem.basis) / (problem.minimum @ problem.basis)
        np.testing.assert_allclose(kept, problem.eigenvalues / (problem.eigenvalues + strength), rtol=1e-6)


def test_apply_gradients_hands_over_the_gradients() -> None:
    gradients = [1.0, -3.0, 0.5]
    run = apply_gradients(gd.SGD(lr=0.1), gradients)
    np.testing.assert_allclose(run.steps, -0.1 * np.array(gradients))
    assert run.weights.shape == (4,) and run.weights[0] == 0 and run.states == []
    assert [len(state) for state in apply_gradients(gd.Adam(lr=0.1), gradients).states] == [3, 3]


def test_the_corrected_moment_is_the_weighted_mean() -> None:
    gradients, raw, corrected = adam_moments(30)
    tau = np.arange(30)
    weights = np.where(tau <= tau[:, None], 0.9 ** (tau[:, None] - tau), 0.0)
    np.testing.assert_allclose(raw, 0.1 * weights @ gradients, rtol=1e-12)
    np.testing.assert_allclose(corrected, weights @ gradients / weights.sum(axis=1), rtol=1e-7)


def one_weight() -> tuple[gd.Trainer, np.ndarray, np.ndarray]:
    problem = quadratic_problem([1.0])
    return problem.trainer(gd.SGD(0.1), [1.0]), problem.x, problem.y


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "picture": (lambda p: gallery.draw(p, ["valley", "vally"]), ValueError, "^only: got 'vally'; expected one of"),
    "shows": (lambda p: gallery.shows("vally"), ValueError, "^name"),
    "eigenvalues empty": (lambda p: quadratic_problem([]), ValueError, "^eigenvalues"),
    "eigenvalues matrix": (lambda p: quadratic_problem([[1.0]]), ValueError, r"^eigenvalues: got shape \(1, 1\)"),
    "eigenvalues negative": (lambda p: quadratic_problem([1.0, -1.0]), ValueError, "^eigenvalues: got -1"),
    "eigenvalues nan": (lambda p: quadratic_problem([1.0, np.nan]), ValueError, "^eigenvalues"),
    "eigenvalues text": (lambda p: quadratic_problem("abc"), TypeError, "^eigenvalues"),
    "basis shape": (lambda p: quadratic_problem([1.0, 2.0], np.eye(3)), ValueError, "^basis: got shape"),
    "basis long": (lambda p: quadratic_problem([1.0, 2.0], 2 * np.eye(2)), ValueError, "^basis.*orthonormal"),
    "minimum": (lambda p: quadratic_problem([1.0, 2.0], minimum=[0.0]), ValueError, "^minimum: got shape"),
    "problem": (lambda p: descend([1.0, 2.0], gd.SGD(0.1), [0.0, 0.0], 1), TypeError, "^problem"),
    "optimizer": (lambda p: descend(quadratic_problem([1.0]), 0.1, [0.0], 1), TypeError, "^optimizer"),
    "start text": (lambda p: quadratic_problem([1.0]).model("a"), TypeError, "^start"),
    "start nan": (lambda p: quadratic_problem([1.0]).model([np.nan]), ValueError, "^start"),
    "start scalar": (lambda p: quadratic_problem([1.0, 2.0]).model(0.0), ValueError, r"^start: got shape \(\)"),
    "path steps": (lambda p: training_path(*one_weight(), -1), ValueError, "^steps"),
    "path x": (lambda p: training_path(one_weight()[0], [["a"]], [1.0], 1), TypeError, "^x"),
    "start": (lambda p: descend(quadratic_problem([1.0]), gd.SGD(0.1), [0.0, 1.0], 1), ValueError, "^start"),
    "steps": (lambda p: descend(quadratic_problem([1.0]), gd.SGD(0.1), [0.0], -1), ValueError, "^steps"),
    "steps kind": (lambda p: descend(quadratic_problem([1.0]), gd.SGD(0.1), [0.0], 1.5), TypeError, "^steps"),
    "gradients what": (lambda p: apply_gradients("sgd", [1.0]), TypeError, "^optimizer"),
    "gradients nan": (lambda p: apply_gradients(gd.SGD(0.1), [1.0, np.nan]), ValueError, r"^gradients\[1\]"),
    "gradients text": (lambda p: apply_gradients(gd.SGD(0.1), ["1"]), TypeError, r"^gradients\[0\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, tmp_path: Path) -> None:
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(tmp_path / "out"), kind, words)
    assert not (tmp_path / "out").exists()
