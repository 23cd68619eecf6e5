"""Promise: the report of an initialisation has the moments of every layer's outputs, distinguishes He's flat E[z²] from
one that vanishes as 2^-L, and finds the hidden units that training keeps equal."""

from __future__ import annotations

import math
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.analysis import Objective, in_float64
from gdcore.analysis.initialization import LayerVariances, identical_units, variance_by_layer

WIDTH, DEPTH = 256, 30


def deep(init: gd.Initializer, seed: int, *, width: int = WIDTH, depth: int = DEPTH) -> gd.Sequential:
    options = {"init": init, "bias_init": gd.Constant(0.0)}
    layers = [layer for _ in range(depth) for layer in (gd.Dense(width, width, **options), gd.ReLU())]
    return gd.Sequential(*layers, seed=seed, dtype="float64")


def log2_slope(z: np.ndarray) -> float:
    return float(np.polyfit(np.arange(len(z)), np.log2(z), 1)[0])


def behind_relu(report: LayerVariances) -> np.ndarray:
    """E[z²] of the inputs and after each ReLU."""
    return report.mean_square[::2]


def test_he_is_flat_and_one_over_root_m_halves(rng: Any) -> None:
    """Slide 20, over 30 layers. One layer's E[z²] scatters by a factor 1 ± √(5/M), as the mean of M units' squares:
    E[max(a, 0)⁴] / E[max(a, 0)²]² - 1 = 5."""
    x = rng.standard_normal((24, WIDTH))
    he = variance_by_layer(deep(gd.HeNormal(), 0), x)
    small = [variance_by_layer(deep(gd.Normal(1 / math.sqrt(WIDTH)), seed), x) for seed in range(2)]
    z = behind_relu(he)
    assert len(z) == DEPTH + 1
    steps = np.abs(np.log(z / z[0]))
    assert (steps <= 3 * np.sqrt(5 / WIDTH * np.arange(DEPTH + 1))).all(), steps
    assert abs(log2_slope(z)) < 0.1 and he.verdict.startswith("Flat")
    slopes = [log2_slope(behind_relu(report)) for report in small]
    assert np.mean(slopes) == pytest.approx(-1, rel=0.05), slopes
    assert all(report.verdict.startswith("Vanishing") for report in small)
    np.testing.assert_allclose(behind_relu(small[0]) * 2.0 ** np.arange(DEPTH + 1), z, rtol=1e-10)  # the same draws
    reads = small[0].mean_square[list(small[0].reads)]
    assert small[0].factor == pytest.approx(2 ** log2_slope(reads)) and len(reads) == DEPTH


@pytest.mark.parametrize(
    ("width", "depth", "he", "small"),
    [(512, 2, "Flat", "Vanishing"), (512, 4, "Flat", "Vanishing"), (32, 31, "Flat|Drifting", "Vanishing")],
)
def test_the_verdict_knows_chance_from_scale(width: int, depth: int, he: str, small: str, rng: Any) -> None:
    """He's ε is never called exploding or vanishing; 1/√M is never called flat at a depth that excludes chance."""
    x = rng.standard_normal((24, width))
    for init, words in ((gd.HeNormal(), he), (gd.Normal(1 / math.sqrt(width)), small)):
        found = {variance_by_layer(deep(init, seed, width=width, depth=depth), x).verdict for seed in range(8)}
        assert {verdict.partition(":")[0] for verdict in found} <= set(words.split("|")), found


def test_a_narrow_net_drifts(rng: Any) -> None:
    """He's ε with ten units: over 30 layers E[z²] may change by orders of magnitude by chance, not because of ε."""
    x = rng.standard_normal((24, 10))
    verdicts = [variance_by_layer(deep(gd.HeNormal(), s, width=10), x).verdict for s in range(40)]
    words = [verdict.partition(":")[0] for verdict in verdicts]
    assert words.count("Drifting") + words.count("Flat") >= 37 and "Exploding" not in words
    assert all("as so few random units may by chance" in v for v in verdicts if v.startswith("Drifting"))


def test_equal_weights(rng: Any) -> None:
    """Equal positive weights c make every unit the same, and E[z²] grows by the factor (M c)² exactly."""
    m, c = 6, 0.5
    layers = [layer for _ in range(4) for layer in (gd.Dense(m, m, bias=False, init=gd.Constant(c)), gd.ReLU())]
    model = gd.Sequential(*layers, seed=0)
    report = variance_by_layer(model, rng.uniform(0.5, 1.5, (50, m)))
    z = behind_relu(report)
    np.testing.assert_allclose(z[2:] / z[1:-1], (m * c) ** 2, rtol=1e-12)
    # units do not differ: all variance is between rows, that of the sum of the inputs
    assert (report.zeros == 0).all() and (report.dead == 0).all()
    assert report.verdict.startswith("Exploding") and report.verdict in str(report)
    assert len(identical_units(model).groups["layers.0"][0]) == m


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["training", "prediction"])
def test_moments_are_those_of_the_outputs(mode: Any, dtype: str, rng: Any) -> None:
    model = gd.Sequential(
        gd.Standardizer(4, mean=[1.0] * 4, std=[2.0] * 4),
        gd.Dense(4, 6),
        gd.BatchNorm(6),
        gd.ReLU(),
        gd.Dense(6, 5),
        gd.Dropout(0.5),
        gd.Dense(5, 3),
        seed=1,
        dtype=dtype,
    )
    helpers.randomize(model, rng, 0.8)
    model.parameters()["layers.2.beta"][2] = -100.0  # a unit that is never active
    model.freeze("layers.1")
    x, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    before = helpers.snapshot(model)
    report = variance_by_layer(model, x, loss=gd.CrossEntropy(), y=y, mode=mode)
    helpers.same_bits(before, helpers.snapshot(model))
    copy = in_float64(model)
    copy.unfreeze()
    objective = Objective(copy, gd.CrossEntropy(), x, y, mode=mode)
    outputs = [x, *objective.core.outputs(list(range(7)))]
    np.testing.assert_allclose(report.mean_square, [(z**2).mean() for z in outputs], rtol=1e-12)
    np.testing.assert_allclose(report.variance, [z.var() for z in outputs], rtol=1e-12)
    np.testing.assert_allclose(report.zeros, [(z == 0).mean() for z in outputs])
    np.testing.assert_allclose(report.dead, [(z == 0).all(axis=0).mean() for z in outputs])
    assert report.dead[4] >= 1 / 6 and report.zeros[6] == pytest.approx(0.5 if mode == "training" else 0, abs=0.15)
    assert report.widths == (4, 4, 6, 6, 6, 5, 5, 3) and report.reads == (1, 4, 6)
    assert report.layers[:3] == ("inputs", "layers.0 Standardizer", "layers.1 Dense")
    assert report.gradient is not None
    gradients = objective.arrays(objective.gradient())
    for i in range(7):
        expected = (gradients[f"layers.{i}.weight"] ** 2).mean() if i in (1, 4, 6) else math.nan
        np.testing.assert_allclose(report.gradient[i + 1], expected, rtol=1e-12)
    table = report.table()
    assert table["E[(∂E/∂w)²]"][2] == report.gradient[2] and table["E[(∂E/∂w)²]"][3] is None
    assert table["to layer before"][0] is None
    assert table["to layer before"][4] == report.mean_square[4] / report.mean_square[3]
    assert table["to inputs"][4] == report.mean_square[4] / report.mean_square[0]


def test_predicted_outputs_are_the_models(rng: Any) -> None:
    model = gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 2), seed=0, dtype="float64")
    x = rng.standard_normal((10, 3))
    assert variance_by_layer(model, x).mean_square[-1] == pytest.approx((model.predict(x) ** 2).mean(), rel=1e-13)


def test_verdicts(rng: Any) -> None:
    x = rng.standard_normal((20, 8))

    def verdict(*layers: gd.Layer) -> str:
        report = variance_by_layer(gd.Sequential(*layers, seed=0, dtype="float64"), x)
        assert str(report).endswith(report.verdict)
        return report.verdict

    dead = gd.Dense(8, 8, init=gd.Constant(0.0), bias_init=gd.Constant(-1.0))
    assert verdict(gd.Dense(8, 8)) == "One Dense layer: nothing to compare."
    assert "all outputs of layers.1 ReLU are 0" in verdict(dead, gd.ReLU(), gd.Dense(8, 1))
    assert verdict(gd.Dense(8, 8, init=gd.Normal(20.0)), gd.Dense(8, 1)).startswith("Exploding")
    huge = [gd.Dense(8, 8, init=gd.Constant(1e120)) for _ in range(4)]
    assert verdict(*huge).startswith("Exploding: E[z²] overflows at layers.")


def test_variances_are_shown(tmp_path: Any, rng: Any) -> None:
    layers = [layer for _ in range(3) for layer in (gd.Dense(8, 8), gd.ReLU())]
    model, x = gd.Sequential(*layers, gd.Dense(8, 2), seed=0), rng.standard_normal((30, 8))
    report = variance_by_layer(model, x)
    axes = report.plot(tmp_path / "one.png")
    assert axes.get_yscale() == "log" and axes.get_title(loc="left").replace("\n", " ") + "." == report.verdict
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), report.mean_square[[0, 2, 4, 6]])
    both = variance_by_layer(model, x, loss=gd.CrossEntropy(), y=rng.integers(0, 2, 30))
    panels = both.plot(tmp_path / "two.svg").figure.axes
    assert len(panels) == 2 and "times the first's" in panels[1].get_title(loc="left")
    assert min(file.stat().st_size for file in tmp_path.iterdir()) > 5000


def constant_net() -> gd.Sequential:
    return gd.Sequential(
        gd.Dense(6, 8, init=gd.Constant(0.1)),
        gd.LayerNorm(8),
        gd.Tanh(),
        gd.Dense(8, 5, init=gd.Constant(0.2), bias_init=gd.Constant(0.1)),
        gd.ReLU(),
        gd.Dense(5, 3, init=gd.Constant(0.1)),
        seed=0,
    )


def test_equal_units_stay_equal(rng: Any) -> None:
    """Slide 17: without a random start all units of a layer stay equal in any number of training steps."""
    model = constant_net()
    whole = {"layers.0": (tuple(range(8)),), "layers.3": (tuple(range(5)),)}
    assert identical_units(model).groups == whole
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(0.01))
    before = model.flat_parameters().copy()
    for _ in range(50):
        trainer.step(rng.standard_normal((16, 6)), rng.integers(0, 3, 16))
    assert not np.array_equal(before, model.flat_parameters())
    after = identical_units(model, tolerance=1e-6)
    assert after.groups == whole and after.redundant == 11
    assert after.table()["distinct units"] == [1, 1]
    assert "11 of 13 hidden units" in str(after)


def test_random_units_differ() -> None:
    found = identical_units(gd.Sequential(gd.Dense(9, 700), gd.ReLU(), gd.Dense(700, 9), gd.Dense(9, 2), seed=0))
    assert found.groups == {"layers.0": (), "layers.2": ()} and found.redundant == 0
    assert found.units == {"layers.0": 700, "layers.2": 9} and "No two" in str(found)


def test_one_duplicate_is_found_and_one_difference_is_enough(rng: Any) -> None:
    layers = (gd.Dense(5, 40), gd.BatchNorm(40), gd.ReLU(), gd.Dense(40, 4))
    model = gd.Sequential(*layers, seed=3, dtype="float64")
    parameters = model.parameters()
    names = ("layers.0.weight", "layers.0.bias", "layers.1.gamma", "layers.1.beta")
    for name in names:
        parameters[name][31] = parameters[name][7]
    assert identical_units(model).groups["layers.0"] == ()  # their outgoing weights differ
    parameters["layers.3.weight"][:, 31] = parameters["layers.3.weight"][:, 7]
    assert identical_units(model).groups["layers.0"] == ((7, 31),)
    x, y = rng.standard_normal((30, 5)), rng.integers(0, 4, 30)
    gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.05)).fit(x, y, epochs=5, batch_size=10)
    assert identical_units(model, tolerance=1e-13).groups["layers.0"] == ((7, 31),)
    for name in (*names, "layers.3.weight"):
        place = (2, 31) if name == "layers.3.weight" else (31,)
        kept = parameters[name][place].copy()
        parameters[name][place] += 1e-3
        assert identical_units(model, tolerance=1e-6).groups["layers.0"] == (), name
        assert identical_units(model, tolerance=1.01e-3).groups["layers.0"] == ((7, 31),), name
        parameters[name][place] = kept


def test_groups_of_every_size() -> None:
    model = gd.Sequential(gd.Dense(3, 9), gd.Dense(9, 2), seed=0)
    weight, out = model.parameters()["layers.0.weight"], model.parameters()["layers.1.weight"]
    for source, *others in ((0, 4, 8), (5, 1)):
        for other in others:
            weight[other], out[:, other] = weight[source], out[:, source]
    found = identical_units(model)
    assert found.groups["layers.0"] == ((0, 4, 8), (1, 5)) and found.redundant == 3
    assert found.table().rows[0] == {
        "layer": "layers.0",
        "units": 9,
        "groups": 2,
        "identical units": 5,
        "distinct units": 6,
    }


def test_dropout_tells_units_apart(rng: Any) -> None:
    layers = (gd.Dense(4, 6, init=gd.Constant(0.1)), gd.Tanh(), gd.Dropout(0.5), gd.Dense(6, 2, init=gd.Constant(0.1)))
    model = gd.Sequential(*layers, seed=0)
    assert identical_units(model).groups == {"layers.0": ()}
    gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.5)).fit(
        rng.standard_normal((20, 4)), rng.integers(0, 2, 20), epochs=10, batch_size=5
    )
    weights = model.parameters()["layers.0.weight"]
    assert np.abs(weights[1:] - weights[0]).max() > 1e-3  # so it did
    no_mask = gd.Sequential(*layers[:2], gd.Dropout(0.0), layers[3], seed=0)
    assert identical_units(no_mask).redundant == 5


def test_no_hidden_layer() -> None:
    found = identical_units(gd.Sequential(gd.Dense(3, 4), seed=0))
    assert found.groups == {} and "no hidden" in str(found) and len(found.table()) == 0


REFUSED: dict[str, tuple[Any, type[BaseException], str]] = {
    "model": (lambda p: variance_by_layer(None, p["x"]), TypeError, "^model"),
    "class": (lambda p: variance_by_layer(gd.Sequential, p["x"]), TypeError, "^model"),
    "x kind": (lambda p: variance_by_layer(p["model"], "x"), TypeError, "^x"),
    "x number": (lambda p: variance_by_layer(p["model"], 3.0), ValueError, "x"),
    "x columns": (lambda p: variance_by_layer(p["model"], p["x"][:, :2]), ValueError, "x: got 2"),
    "x nan": (lambda p: variance_by_layer(p["model"], p["x"] * np.nan), ValueError, "x"),
    "order": (
        lambda p: variance_by_layer(p["model"], gd.CrossEntropy(), p["x"], p["y"]),
        TypeError,
        r"^x: got \(CrossEntropy.*expected inputs alone: variance_by_layer\(model, x, loss=loss, y=y\)",
    ),
    "loss first": (
        lambda p: variance_by_layer(p["model"], gd.CrossEntropy(), y=p["y"]),
        TypeError,
        r"^x: got \(CrossEntropy",
    ),
    "three": (lambda p: variance_by_layer(p["model"], p["x"], p["y"]), TypeError, "^x: got .*expected inputs alone"),
    "no rows": (lambda p: variance_by_layer(p["model"], p["x"][:0]), ValueError, "x"),
    "loss alone": (lambda p: variance_by_layer(p["model"], p["x"], loss=gd.CrossEntropy()), ValueError, "^y: got None"),
    "y alone": (lambda p: variance_by_layer(p["model"], p["x"], y=p["y"]), ValueError, "^loss: got None"),
    "loss kind": (lambda p: variance_by_layer(p["model"], p["x"], loss="ce", y=p["y"]), TypeError, "^loss"),
    "y rows": (
        lambda p: variance_by_layer(p["model"], p["x"], loss=gd.CrossEntropy(), y=p["y"][:2]),
        ValueError,
        "^y",
    ),
    "mode": (lambda p: variance_by_layer(p["model"], p["x"], mode="eval"), ValueError, "^mode"),
    "one row": (lambda p: variance_by_layer(p["norm"], p["x"][:1]), ValueError, "BatchNorm"),
    "units of what": (lambda p: identical_units([gd.Dense(2, 2)]), TypeError, "^model"),
    "negative": (lambda p: identical_units(p["model"], tolerance=-1e-3), ValueError, "^tolerance"),
    "nan": (lambda p: identical_units(p["model"], tolerance=math.nan), ValueError, "^tolerance"),
    "text": (lambda p: identical_units(p["model"], tolerance="0"), TypeError, "^tolerance"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, rng: Any) -> None:
    model = gd.Sequential(gd.Dense(3, 4), gd.Tanh(), gd.Dense(4, 2), seed=0)
    norm = gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.Dense(4, 2), seed=0)
    given = {"model": model, "norm": norm, "x": rng.standard_normal((6, 3)), "y": rng.integers(0, 2, 6)}
    before = helpers.snapshot(model)
    call, kind, words = REFUSED[name]
    helpers.refuses(lambda: call(given), kind, words)
    helpers.same_bits(before, helpers.snapshot(model))
