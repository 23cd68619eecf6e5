"""Promise: a loss surface holds E at every point of its grid, its predicted ellipses are E's contours if E is
quadratic, its directions match their labels, and training paths are projected correctly."""

from __future__ import annotations

import math
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.analysis import Objective, eigenvalues, hessian
from gdcore.analysis.recorder import PathRecorder
from gdcore.analysis.surface import LossSurface, loss_surface
from gdcore.plotting.loss_surface import contour_levels

LOSS = gd.MeanSquaredError()


def regression(rng: Any) -> tuple[gd.Sequential, gd.Loss, np.ndarray, np.ndarray]:
    """A linear model: its loss is a quadratic function of five parameters."""
    x = rng.standard_normal((40, 4)) * np.array([3.0, 2.0, 1.0, 0.5])
    y = x @ rng.standard_normal((4, 1)) + 0.3 * rng.standard_normal((40, 1))
    return gd.Sequential(gd.Dense(4, 1), seed=1, dtype="float64"), LOSS, x, y


def network(seed: int = 0) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 6), gd.LayerNorm(6), gd.Tanh(), gd.Dense(6, 3), seed=seed, dtype="float64")


def classes(rng: Any) -> tuple[gd.Loss, np.ndarray, np.ndarray]:
    x = rng.standard_normal((80, 3))
    return gd.CrossEntropy(), x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)


def trained(problem: Any, seed: int, **options: Any) -> tuple[gd.Sequential, PathRecorder]:
    model, recorder = network(seed), PathRecorder(**options)
    trainer = gd.Trainer(model, problem[0], optimizer=gd.SGD(0.3))
    trainer.fit(*problem[1:], epochs=20, batch_size=20, callbacks=[recorder])
    return model, recorder


def points(surface: LossSurface, coordinates: np.ndarray) -> np.ndarray:
    return surface.center + coordinates @ surface.directions


@pytest.mark.parametrize("directions", ["eigenvectors", "largest", "random", "given"])
def test_quadratic_loss_is_the_predicted_quadratic(directions: str, rng: Any) -> None:
    """Slides 5-10 on linear regression, at a point that is no minimum."""
    problem = regression(rng)
    objective, before = Objective(*problem), helpers.snapshot(problem[0])
    given = rng.standard_normal((2, 5)) if directions == "given" else directions
    surface = loss_surface(*problem, directions=given, points=9)
    helpers.same_bits(before, helpers.snapshot(problem[0]))
    scale = surface.values.max()
    np.testing.assert_allclose(surface.values, surface.quadratic(), atol=1e-10 * scale)
    assert surface.quality(1.0) < 1e-10
    grid = np.stack(np.meshgrid(surface.alphas, surface.betas), axis=-1).reshape(-1, 2)
    exact = [objective.value(w) for w in points(surface, grid)]
    np.testing.assert_allclose(surface.values.ravel(), exact, rtol=1e-12)
    h = hessian(*problem)
    np.testing.assert_allclose(surface.curvature, surface.directions @ h @ surface.directions.T, atol=1e-10)
    np.testing.assert_allclose(surface.gradient, surface.directions @ objective.gradient(), atol=1e-12)
    assert surface.value == objective.value() == pytest.approx(surface.values[4, 4])


def test_ellipses_lie_on_the_contours(rng: Any) -> None:
    """Slides 9-10: semi-axes √(2(C - E*)/λ) along the eigenvectors, around the minimum within the plane."""
    problem = regression(rng)
    objective = Objective(*problem)
    surface = loss_surface(*problem, points=5)
    levels = surface.value * np.array([1.0, 1.7, 4.0])
    for level, ellipse in zip(levels, surface.ellipses(levels, points=37), strict=True):
        assert ellipse.shape == (37, 2)
        np.testing.assert_allclose([objective.value(w) for w in points(surface, ellipse)], level, rtol=1e-10)
        middle = ellipse[:-1].mean(axis=0)
        radii = np.abs(ellipse - middle).max(axis=0)
        lowest = objective.value(points(surface, middle))
        assert surface.eigenvalues is not None
        np.testing.assert_allclose(radii, np.sqrt(2 * (level - lowest) / surface.eigenvalues), rtol=0.01)
    assert surface.ellipses(-1.0)[0].shape == (0, 2)


def test_eigenvectors(rng: Any) -> None:
    problem = (network(), *classes(rng))
    center = Objective(*problem).point + 0.1
    moved = network()
    Objective(moved, *problem[1:]).move(center)
    for directions, which in (("eigenvectors", "both"), ("largest", "largest")):
        surface = loss_surface(*problem, directions=directions, at=center, points=3)
        expected = eigenvalues(moved, *problem[1:], k=2, which=which)
        assert surface.eigenvalues is not None
        np.testing.assert_allclose(surface.eigenvalues, expected.values[::-1], atol=1e-6)
        np.testing.assert_allclose(np.abs(surface.directions @ expected.vectors[:, ::-1]), np.eye(2), atol=1e-4)
        np.testing.assert_allclose(surface.curvature, np.diag(surface.eigenvalues), atol=1e-5)
        assert surface.alphas[-1] == pytest.approx(1.5 * math.sqrt(2 * surface.value / surface.eigenvalues[0]))
        assert f"{surface.eigenvalues[1]:.3g}" in surface.labels[1]


def test_flat_directions_have_a_bound(rng: Any) -> None:
    """The grid stays finite in a direction without curvature, and does not shrink to a point without loss."""
    loss, x, _ = classes(rng)
    x[:, 2] = 0.0  # so that the weights of the third input have no effect
    model = gd.Sequential(gd.Dense(3, 3, bias=False), seed=0, dtype="float64")
    surface = loss_surface(model, loss, x, rng.integers(0, 3, 80), points=3)
    assert surface.betas[-1] <= 100 * surface.alphas[-1] * (1 + 1e-9)
    perfect = loss_surface(model, LOSS, x, Objective(model, LOSS, x, np.zeros((80, 3))).core.outputs([0])[0], points=3)
    assert perfect.value == 0 and perfect.alphas[-1] == 1


def test_random_directions_are_filter_normalised(rng: Any) -> None:
    """Li et al. 2018: each unit's incoming weights in the direction have the norm of the model's."""
    problem = (network(), *classes(rng))
    first, second = (loss_surface(*problem, directions="random", seed=seed, points=3) for seed in (0, 1))
    objective = Objective(*problem)
    own = objective.arrays(objective.point)
    for direction in first.directions:
        for name, part in objective.arrays(direction).items():
            if name.endswith("weight"):
                np.testing.assert_allclose(np.linalg.norm(part, axis=1), np.linalg.norm(own[name], axis=1), rtol=1e-12)
            else:
                assert (part == 0).all()
    assert np.abs(first.directions - second.directions).max() > 0.01
    again = loss_surface(*problem, directions="random", seed=0, points=3)
    helpers.same_bits(first.values, again.values)
    assert first.alphas.tolist() == [-1, 0, 1]


@pytest.mark.parametrize("kind", ["models", "vectors"])
def test_plane_through_three_solutions(kind: str, rng: Any) -> None:
    problem = classes(rng)
    models = [trained(problem, seed)[0] for seed in range(3)]
    objectives = [Objective(model, *problem) for model in models]
    through = models[1:] if kind == "models" else [o.point for o in objectives[1:]]
    surface = loss_surface(models[0], *problem, through=through, points=5)
    assert list(surface.marks) == ["solution 1", "solution 2"] and surface.marks["solution 1"] == (1.0, 0.0)
    np.testing.assert_allclose(surface.mark_values, [o.value() for o in objectives[1:]], rtol=1e-10)
    for objective, mark in zip(objectives[1:], surface.marks.values(), strict=True):
        w = points(surface, np.array(mark))
        np.testing.assert_allclose(w, objective.point, atol=1e-12)
        assert surface.alphas[0] < mark[0] < surface.alphas[-1] and surface.betas[0] < mark[1] < surface.betas[-1]
    gram = surface.directions @ surface.directions.T
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(2), atol=1e-10 * gram[0, 0])
    projected = surface.path([o.point for o in objectives])
    np.testing.assert_allclose(projected.coordinates, [(0, 0), *surface.marks.values()], atol=1e-12)
    np.testing.assert_allclose(projected.outside, 0, atol=1e-7)


def test_line_to_another_solution(tmp_path: Any, rng: Any) -> None:
    problem = classes(rng)
    (a, recorder), (b, _) = trained(problem, 0), trained(problem, 1)
    surface = loss_surface(a, *problem, through=[b], points=15)
    assert surface.values.shape == (1, 15) and surface.betas.tolist() == [0.0]
    assert surface.alphas[0] == pytest.approx(-0.2) and surface.alphas[-1] == pytest.approx(1.2)
    objective = Objective(a, *problem)
    ends = objective.point, Objective(b, *problem).point
    expected = [objective.value((1 - t) * ends[0] + t * ends[1]) for t in surface.alphas]
    np.testing.assert_allclose(surface.values[0], expected, rtol=1e-10)
    assert surface.quadratic().shape == (1, 15)
    axes = surface.plot(tmp_path / "line.png", trajectory=recorder.path)
    assert axes.get_ylabel() == "loss E"
    assert surface.mark_values == (pytest.approx(objective.value(ends[1]), rel=1e-10),)
    title = axes.get_title(loc="left")
    assert f"up to {max(expected[2:13]):.3g};\n{expected[2]:.3g} and {expected[12]:.3g}" in title
    helpers.refuses(lambda: surface.ellipses([1.0]), ValueError, "^ellipses: got a line")
    given = loss_surface(a, *problem, directions=[ends[1] - ends[0]], span=0.5, points=3)
    assert given.values[0, 2] == pytest.approx(objective.value(0.5 * (ends[0] + ends[1])))


def test_path_of_a_real_run(rng: Any) -> None:
    """Coordinates are those of the nearest point in the plane, also for oblique axes; `cover` extends the grid."""
    problem = classes(rng)
    model, recorder = trained(problem, 0)
    path = recorder.path
    for options in ({"directions": "largest"}, {"directions": rng.standard_normal((2, path.shape[1]))}):
        surface = loss_surface(model, *problem, cover=path, points=3, **options)
        coordinates, outside = surface.path(path)
        assert coordinates.shape == (21, 2) and outside.shape == (21,)
        for i, axis in enumerate((surface.alphas, surface.betas)):
            assert axis[0] <= coordinates[:, i].min() and coordinates[:, i].max() <= axis[-1]
        rest = path - points(surface, coordinates)
        np.testing.assert_allclose(rest @ surface.directions.T, 0, atol=1e-9)
        way = np.linalg.norm(path - surface.center, axis=1)
        np.testing.assert_allclose(outside * way, np.linalg.norm(rest, axis=1), atol=1e-12)
        assert (outside[:-1] > 0.1).all() and outside[-1] == 0 and way[-1] == 0  # it ends at the model's parameters


def test_principal_plane_of_a_path(rng: Any) -> None:
    """No plane through the centre is nearer to the path."""
    problem = classes(rng)
    model, recorder = trained(problem, 0)

    def missed(**options: Any) -> float:
        surface = loss_surface(model, *problem, points=3, **options)
        coordinates, _ = surface.path(recorder.path)
        return float(((recorder.path - points(surface, coordinates)) ** 2).sum())

    best = missed(directions="path", cover=recorder.path)
    size = recorder.path.shape[1]
    others = [missed(directions=rng.standard_normal((2, size))) for _ in range(5)]
    ends = recorder.path[[0, 10]] - recorder.path[-1]
    assert best < min(missed(directions=ends), *others)
    shares = np.linalg.svd(recorder.path - recorder.path[-1], compute_uv=False) ** 2
    assert best == pytest.approx(shares[2:].sum(), rel=1e-6)


def test_mode_weights_and_span(rng: Any) -> None:
    loss, x, y = classes(rng)
    model = gd.Sequential(gd.Dense(3, 5), gd.BatchNorm(5), gd.Dense(5, 3), seed=0, dtype="float64")
    weights = rng.uniform(0, 2, 80)
    for mode in ("training", "prediction"):
        surface = loss_surface(
            model, loss, x, y, mode=mode, sample_weight=weights, span=(0.5, 2), points=3, directions="random"
        )
        assert surface.alphas.tolist() == [-0.5, 0, 0.5] and surface.betas.tolist() == [-2, 0, 2]
        objective = Objective(model, loss, x, y, mode=mode, sample_weight=weights)
        corner = points(surface, np.array([0.5, -2]))
        assert surface.values[0, 2] == pytest.approx(objective.value(corner), rel=1e-12)


def test_progress_bar(rng: Any, capsys: Any) -> None:
    problem = regression(rng)
    quiet = loss_surface(*problem, points=3)
    assert capsys.readouterr().err == ""
    helpers.same_bits(quiet.values, loss_surface(*problem, points=3, progress=True).values)
    assert "3/3" in capsys.readouterr().err


def test_shown(tmp_path: Any, rng: Any) -> None:
    problem = classes(rng)
    model, recorder = trained(problem, 0)
    surface = loss_surface(model, *problem, directions="largest", points=11, cover=recorder.path)
    table = surface.table()
    assert len(table.rows) == 121 and table["loss"][1] == surface.values[0, 1]
    assert (table["alpha"][1], table["beta"][1]) == (surface.alphas[1], surface.betas[0])
    assert "11 x 11 values" in str(surface) and f"{surface.values.min():.6g}" in str(surface)
    axes = surface.plot(tmp_path / "surface.png", trajectory=recorder.path, levels=7)
    assert (tmp_path / "surface.png").stat().st_size > 20000
    assert f"{100 * surface.quality():.2g} %" in axes.get_title(loc="left")
    texts = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert {"contours of E", "start", "end", f"centre: E = {surface.value:.3g}"} <= set(texts)
    assert axes.get_xlim() == (surface.alphas[0], surface.alphas[-1])
    line = next(line for line in axes.lines if "training path" in str(line.get_label()))
    np.testing.assert_array_equal(line.get_xdata(), surface.path(recorder.path).coordinates[:, 0])


def test_titles_say_what_is_there(tmp_path: Any, rng: Any) -> None:
    x, y = np.array([[1.0], [2.0]]), np.array([[1.0], [2.0]])
    product = gd.Sequential(gd.Dense(1, 1, bias=False), gd.Dense(1, 1, bias=False), seed=0, dtype="float64")

    def title(center: list[float], **options: Any) -> str:
        surface = loss_surface(product, LOSS, x, y, at=center, points=9, **options)
        return str(surface.plot(tmp_path / "s.svg").get_title(loc="left"))

    assert "saddle" in title([0.0, 0.0])  # E = c (1 - w₁ w₂)²
    assert "ellipses" in title([0.9, 1.0], span=0.1)
    assert "same everywhere" in title([0.0, 0.0], directions=[[1.0, 0.0]])
    assert "overflows" in title([1.0, 1.0], directions=np.eye(2), span=1e200)
    assert "exact" in str(loss_surface(*regression(rng), points=5).plot(tmp_path / "s.svg").get_title(loc="left"))


def test_contour_levels() -> None:
    bowl = contour_levels(np.array([0.0, 9.0, math.inf]), 2)
    np.testing.assert_allclose(bowl, [1, 4])  # at one third and two thirds of a bowl's radius
    np.testing.assert_allclose(contour_levels(np.array([1.0, 1e6, math.nan]), 5), 10.0 ** np.arange(1, 6))


def test_recorder_follows_a_run(rng: Any) -> None:
    problem = classes(rng)
    model, every = network(), PathRecorder()
    some = PathRecorder(every=3)
    start = Objective(model, *problem).point
    trainer = gd.Trainer(model, problem[0], optimizer=gd.SGD(0.3))
    trainer.fit(*problem[1:], epochs=7, batch_size=20, callbacks=[every, some])
    assert every.epochs == list(range(8)) and some.epochs == [0, 3, 6, 7]
    helpers.same_bits(every.path[0], start)
    helpers.same_bits(every.path[-1], Objective(model, *problem).point)
    helpers.same_bits(some.path, every.path[[0, 3, 6, 7]])
    assert all(np.abs(np.diff(every.path, axis=0)).max(axis=1) > 0)
    trainer.fit(*problem[1:], epochs=1, batch_size=20, callbacks=[every])
    assert every.epochs == [7, 8]  # a new run


def test_recorder_is_resumed(tmp_path: Any, rng: Any) -> None:
    problem = classes(rng)

    def run(epochs: int, resume: Any = None) -> PathRecorder:
        recorder = PathRecorder()
        trainer = gd.Trainer(network(), problem[0], optimizer=gd.SGD(0.3))
        saved = gd.Checkpoint(tmp_path / "run.safetensors")
        trainer.fit(*problem[1:], until_epoch=epochs, batch_size=20, callbacks=[recorder, saved], resume=resume)
        return recorder

    whole = run(6)
    run(3)
    resumed = run(6, tmp_path / "run.safetensors")
    assert resumed.epochs == whole.epochs == list(range(7))
    helpers.same_bits(resumed.path, whole.path)


def test_recorder_in_a_loop_of_ones_own(rng: Any) -> None:
    loss, x, y = classes(rng)
    model = gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 3), seed=0)  # float32
    model.freeze("layers.0.bias")
    trainer, recorder = gd.Trainer(model, loss, optimizer=gd.SGD(0.1)), PathRecorder()
    assert recorder.path.shape == (0, 0)
    for step in range(4):
        recorder.record(model)
        trainer.step(x[step::4], y[step::4])
    assert recorder.path.shape == (4, 12 + 12 + 3) and recorder.path.dtype == np.float64
    assert recorder.epochs == [0, 1, 2, 3]
    weights = np.concatenate([v.ravel() for n, v in model.parameters().items() if n != "layers.0.bias"])
    recorder.record(model)
    np.testing.assert_array_equal(recorder.path[-1], weights)
    model.unfreeze()
    helpers.refuses(lambda: recorder.record(model), ValueError, "^model: got 31 trainable parameters")


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "float32": (lambda p: loss_surface(p["f32"], *p["rest"]), TypeError, "^model.*float64"),
    "loss": (lambda p: loss_surface(p["model"], gd.CrossEntropy, *p["rest"][1:]), TypeError, "^loss"),
    "one parameter": (
        lambda p: loss_surface(p["one"], LOSS, [[1.0]], [[1.0]]),
        ValueError,
        "^model: got one trainable parameter",
    ),
    "name": (lambda p: loss_surface(*p["all"], directions="pca"), ValueError, "^directions: got 'pca'"),
    "none": (lambda p: loss_surface(*p["all"], directions=None), TypeError, "^directions"),
    "length": (lambda p: loss_surface(*p["all"], directions=np.ones((2, 7))), ValueError, r"^directions: got shape"),
    "three": (lambda p: loss_surface(*p["all"], directions=np.eye(8)[:3]), ValueError, "^directions: got 3"),
    "no vector": (lambda p: loss_surface(*p["all"], directions=np.ones((0, 8))), ValueError, "^directions"),
    "cube": (lambda p: loss_surface(*p["all"], directions=np.ones((1, 2, 8))), ValueError, "^directions"),
    "parallel": (lambda p: loss_surface(*p["all"], directions=[np.ones(8), -np.ones(8)]), ValueError, "parallel"),
    "zero": (lambda p: loss_surface(*p["all"], directions=np.eye(2, 8) * [[1], [0]]), ValueError, "2 of length 0"),
    "nan direction": (lambda p: loss_surface(*p["all"], directions=np.full(8, np.nan)), ValueError, "^directions"),
    "zero weights": (
        lambda p: loss_surface(*p["all"], directions="random", at=np.zeros(8)),
        ValueError,
        "^at: got direction 1 of length 0",
    ),
    "path without points": (lambda p: loss_surface(*p["all"], directions="path"), ValueError, "^cover: got 0"),
    "straight path": (
        lambda p: loss_surface(*p["all"], directions="path", at=np.zeros(8), cover=np.outer([1, 2, 3], np.ones(8))),
        ValueError,
        "^cover: got points on a line",
    ),
    "through a model": (lambda p: loss_surface(*p["all"], through=p["model"]), TypeError, "^through"),
    "through None": (lambda p: loss_surface(*p["all"], through=None), TypeError, "^through"),
    "through three": (lambda p: loss_surface(*p["all"], through=list(np.eye(8)[:3])), ValueError, "^through: got 3"),
    "through short": (lambda p: loss_surface(*p["all"], through=[np.ones(7)]), ValueError, r"^through\[0\]: got shape"),
    "through another": (lambda p: loss_surface(*p["all"], through=[p["one"]]), ValueError, r"^through\[0\]: got shape"),
    "through itself": (lambda p: loss_surface(*p["all"], through=[p["model"]]), ValueError, "^through.*length 0"),
    "through and directions": (
        lambda p: loss_surface(*p["all"], through=[np.ones(8)], directions="random"),
        ValueError,
        "^through.*directions='random'",
    ),
    "span": (lambda p: loss_surface(*p["all"], span=0.0), ValueError, "^span"),
    "span text": (lambda p: loss_surface(*p["all"], span="wide"), TypeError, "^span"),
    "spans": (lambda p: loss_surface(*p["all"], span=(1, 2, 3)), ValueError, "^span: got 3 numbers"),
    "span nan": (lambda p: loss_surface(*p["all"], span=(1, math.nan)), ValueError, r"^span\[1\]"),
    "cover": (lambda p: loss_surface(*p["all"], cover=np.ones((2, 3))), ValueError, "^cover"),
    "points": (lambda p: loss_surface(*p["all"], points=2), ValueError, "^points: got 2"),
    "points kind": (lambda p: loss_surface(*p["all"], points=(3, 3)), TypeError, "^points"),
    "at": (lambda p: loss_surface(*p["all"], at=np.ones(9)), ValueError, r"^at: got shape \(9,\)"),
    "at nan": (lambda p: loss_surface(*p["all"], at=np.full(8, np.nan)), ValueError, "^at: got nan at"),
    "at too far": (lambda p: loss_surface(*p["all"], at=np.full(8, 1e308)), ValueError, "^at: got a point where E is"),
    "mode": (lambda p: loss_surface(*p["all"], mode="eval"), ValueError, "^mode"),
    "weights": (lambda p: loss_surface(*p["all"], sample_weight=[1.0]), ValueError, "^sample_weight"),
    "seed": (lambda p: loss_surface(*p["all"], directions="random", seed=1.5), TypeError, "^seed"),
    "path length": (lambda p: p["surface"].path(np.ones((3, 9))), ValueError, "^points"),
    "path nan": (lambda p: p["surface"].path(np.full(8, np.inf)), ValueError, "^points"),
    "trajectory": (lambda p: p["surface"].plot(trajectory=np.ones(9)), ValueError, "^trajectory"),
    "levels": (lambda p: p["surface"].plot(levels=1), ValueError, "^levels"),
    "ellipse nan": (lambda p: p["surface"].ellipses([1.0, np.nan]), ValueError, "^levels"),
    "ellipse text": (lambda p: p["surface"].ellipses("1"), TypeError, "^levels"),
    "ellipse points": (lambda p: p["surface"].ellipses([1.0], points=2), ValueError, "^points"),
    "saddle": (lambda p: p["saddle"].ellipses([1.0]), ValueError, "^ellipses: got a plane of curvatures -"),
    "share": (lambda p: p["surface"].quality(0), ValueError, "^share"),
    "every": (lambda p: PathRecorder(every=0), ValueError, "^every"),
    "every kind": (lambda p: PathRecorder(every="epoch"), TypeError, "^every"),
    "record": (lambda p: PathRecorder().record(np.ones(3)), TypeError, "^model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    model = gd.Sequential(gd.Dense(3, 2), seed=0, dtype="float64")
    rest = (gd.CrossEntropy(), rng.standard_normal((6, 3)), rng.integers(0, 2, 6))
    product = gd.Sequential(gd.Dense(1, 1, bias=False), gd.Dense(1, 1, bias=False), seed=0, dtype="float64")
    given = {
        "model": model,
        "f32": gd.Sequential(gd.Dense(3, 2), seed=0),
        "one": gd.Sequential(gd.Dense(1, 1, bias=False), seed=0, dtype="float64"),
        "rest": rest,
        "all": (model, *rest),
        "surface": loss_surface(model, *rest, points=3, directions="random"),
        "saddle": loss_surface(product, LOSS, [[1.0]], [[1.0]], points=3, at=np.zeros(2)),
    }
    before = helpers.snapshot(model)
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(given), kind, words)
    helpers.same_bits(before, helpers.snapshot(model))


def test_figures_of_pyplot(rng: Any) -> None:
    """Without a path the figure stays open in matplotlib.pyplot."""
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    axes = loss_surface(*regression(rng), points=5).plot()
    assert pyplot.gcf() is axes.figure and len(axes.figure.legends) == 1
    pyplot.close(axes.figure)
