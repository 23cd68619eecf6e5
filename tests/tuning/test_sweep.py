"""Promise: a sweep trains every setting from every seed as a trainer does; functions get the settings that they name;
settings are compared by the mean over seeds; the summary, the figure and the folder agree; bad input is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(11)
X = RNG.standard_normal((120, 3))
Y = np.sin(2 * X[:, :1]) * X[:, 1:2] + 0.1 * RNG.standard_normal((120, 1))
VALIDATION = (X[80:], Y[80:])


def build(seed: int, width: int = 5) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, width), gd.Tanh(), gd.Dense(width, 1), seed=seed)


GRID = {"width": [3, 6], "rate": [0.05, 0.2], "batch_size": [16, 80]}
GIVEN: dict[str, Any] = {
    "build": build,
    "settings": GRID,
    "validation": VALIDATION,
    "loss": gd.MeanSquaredError(),
    "optimizer": lambda rate: gd.SGD(rate),
    "epochs": 4,
    "progress": False,
}


def sweep(**changes: Any) -> gd.Sweep:
    return gd.sweep(x=X[:80], y=Y[:80], **{**GIVEN, **changes})


def alone(seed: int, width: int, rate: float, batch_size: int) -> tuple[float, gd.Sequential]:
    model = build(seed, width)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(rate))
    return trainer.fit(X[:80], Y[:80], epochs=4, batch_size=batch_size, validation=VALIDATION)["val_loss"][-1], model


def test_each_training_is_that_of_a_trainer() -> None:
    result = sweep(seeds=3, seed=5, keep_models=True)
    settings = [{"width": w, "rate": r, "batch_size": b} for w in (3, 6) for r in (0.05, 0.2) for b in (16, 80)]
    assert [(start.settings, start.seed) for start in result.starts] == [(s, i) for s in settings for i in (5, 6, 7)]
    for start in result.starts:
        value, model = alone(start.seed, **start.settings)
        assert start.value == value
        helpers.same_bits(start.model.flat_parameters(), model.flat_parameters())
    values = np.array([start.value for start in result.starts]).reshape(-1, 3)
    best = int(values.mean(axis=1).argmin())
    assert result.best_setting == settings[best] and result.best_seed == 5 + int(values[best].argmin())
    helpers.same_bits(result.best.flat_parameters(), alone(result.best_seed, **settings[best])[1].flat_parameters())
    summary = result.summary()
    assert summary["width"] == [s["width"] for s in settings] and summary["seeds"] == [3] * 8
    np.testing.assert_allclose(summary["val_loss"], values.mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(summary["standard_error"], values.std(axis=1, ddof=1) / math.sqrt(3), rtol=1e-13)
    assert summary["best"] == values.min(axis=1).tolist()
    assert list(result.table())[:4] == ["seed", "width", "rate", "batch_size"] and result.table().height == 24
    assert f"best: width {settings[best]['width']}, rate" in str(result)


def test_the_best_mean_beats_the_best_start() -> None:
    """And settings with a start that diverges come last."""

    def scaled(seed: int, kind: str) -> gd.Sequential:
        model = gd.Sequential(gd.Dense(3, 1, bias=False), seed=seed)
        size = {"lucky": (1e-3, 2.0), "steady": (0.5, 0.5), "broken": (0.0, 1e30)}[kind][seed]
        model.parameters()["layers.0.weight"][...] = size + seed * 1e-6
        return model

    given: dict[str, Any] = {"build": scaled, "seeds": 2, "optimizer": gd.SGD(1e-9), "epochs": 1}
    given["validation"] = (X[80:], np.zeros((40, 1)))
    result = sweep(settings={"kind": ["broken", "lucky", "steady"]}, **given)
    rows = result.summary().rows
    assert result.best_setting == {"kind": "steady"} and result.best_seed == 0
    assert rows[1]["best"] < rows[2]["best"] and rows[0]["best"] < rows[1]["best"]
    assert [row["left_out"] for row in rows] == [1, 0, 0]


def test_functions_get_what_they_name() -> None:
    seen: dict[str, set[Any]] = {"loss": set(), "callbacks": set(), "all": set()}

    def loss(weight: float) -> gd.Loss:
        seen["loss"].add(weight)
        return gd.MeanSquaredError()

    def callbacks(seed: int, patience: int) -> list[gd.Callback]:
        seen["callbacks"].add((seed, patience))
        return [gd.EarlyStopping(patience=patience)]

    def of_all(seed: int, **settings: Any) -> gd.Sequential:
        seen["all"] |= set(settings)
        return build(seed)

    settings = {"weight": [1.0, 2.0], "patience": [1, 2], "optimizer": [gd.SGD(0.1), gd.Adam(0.1)]}
    result = sweep(build=of_all, settings=settings, loss=loss, optimizer=None, callbacks=callbacks, seeds=2, n_jobs=1)
    assert seen["loss"] == {1.0, 2.0} and seen["all"] == set(settings)
    assert seen["callbacks"] == {(seed, patience) for seed in (0, 1) for patience in (1, 2)}
    by_optimizer = {repr(start.settings["optimizer"]): start.value for start in result.starts if start.seed == 0}
    assert len(set(by_optimizer.values())) == 2
    assert set(result.table()["optimizer"]) == {repr(gd.SGD(0.1)), repr(gd.Adam(0.1))}


def test_random_settings() -> None:
    settings = {"width": [3, 6], "rate": lambda rng: 10 ** rng.uniform(-3, -1)}
    few, more = (sweep(settings=settings, draws=draws) for draws in (3, 6))
    assert [s.settings for s in more.starts[:3]] == [s.settings for s in few.starts] and len(more.starts) == 6
    assert all(1e-3 <= start.settings["rate"] <= 0.1 for start in more.starts)
    assert len({start.settings["rate"] for start in more.starts}) == 6
    assert [s.settings for s in sweep(settings=settings, draws=3, seed=1).starts] != [s.settings for s in few.starts]
    assert len(sweep(settings={"width": [3, 6]}, draws=20, optimizer=gd.SGD(0.1)).starts) == 2


def test_folder(tmp_path: Path) -> None:
    first = sweep(settings=[{"width": 3, "rate": 0.1}], seeds=2, folder=tmp_path)
    lines = (tmp_path / "sweep.jsonl").read_text().splitlines()
    more = sweep(settings=[{"width": 3, "rate": 0.1}, {"width": 4, "rate": 0.1}], seeds=3, folder=tmp_path)
    assert (tmp_path / "sweep.jsonl").read_text().splitlines()[:3] == lines
    assert [start.seconds for start in more.starts[:2]] == [
        start.seconds for start in first.starts
    ]  # read, not computed
    again = sweep(settings=[{"width": 3, "rate": 0.1}, {"width": 4, "rate": 0.1}], seeds=3, folder=tmp_path)
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == 7
    assert again.table().rows == more.table().rows
    helpers.same_bits(again.best.flat_parameters(), more.best.flat_parameters())
    assert len(list(tmp_path.glob("model-*"))) == 2  # the best of each setting


def test_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    axes = sweep(seeds=2).plot(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    assert axes.get_xlabel() == "width" and axes.get_title(loc="left").startswith("Best of 8 settings: width ")
    labels = axes.get_legend_handles_labels()[1]
    assert "rate 0.05, batch_size 16" in labels and "best model" in labels
    kinds = {"activation": [gd.ReLU, gd.Tanh]}

    def activated(seed: int, activation: Any) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 4), activation(), gd.Dense(4, 1), seed=seed)

    axes = sweep(build=activated, settings=kinds, optimizer=gd.SGD(0.1)).plot(tmp_path / "kinds.png")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["ReLU", "Tanh"]


@pytest.mark.parametrize("worst", [1e70, 1e300, 2.0])
def test_figure_of_a_training_that_nearly_diverged(worst: float, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rates = [0.01, 0.02, 0.05, 0.1, 0.2]
    found = sweep(settings={"rate": rates})
    values = dict(zip(rates, [0.3, 0.2, 0.1, 0.4, worst], strict=True))
    for sign, mode in ((1.0, "min"), (-1.0, "max")):
        starts = [dataclasses.replace(each, value=sign * values[each.settings["rate"]]) for each in found.starts]
        changed = dataclasses.replace(found, starts=tuple(starts), best_start=starts[2], mode=mode)
        axes = changed.plot(tmp_path / f"{mode}.png")
        low, high = sorted(sign * limit for limit in axes.get_ylim())
        assert low < 0.1 and 0.4 < high < 10, "the others fill the axis"
        handles, labels = axes.get_legend_handles_labels()
        marks = [each for each, label in zip(handles, labels, strict=True) if label.startswith("beyond the axis")]
        if worst == 2:
            assert not marks and high > 2
        else:
            assert [each.get_xdata().tolist() for each in marks] == [[0.2]]
            assert f"beyond the axis, {'up' if sign > 0 else 'down'} to {sign * worst:.3g}" in labels


REFUSED: dict[str, tuple[dict[str, Any], type[BaseException], str]] = {
    "settings": ({"settings": 3}, TypeError, "^settings: got 3"),
    "settings empty": ({"settings": {}}, TypeError, "^settings"),
    "settings none": ({"settings": []}, ValueError, "^settings: got none"),
    "setting": ({"settings": {"width": 3}}, TypeError, r"^settings\['width'\]: got 3; expected a list of values"),
    "setting text": ({"settings": {"width": "abc"}}, TypeError, r"^settings\['width'\]"),
    "setting empty": ({"settings": {"width": []}}, ValueError, r"^settings\['width'\]"),
    "setting twice": ({"settings": {"width": [3, 3]}}, ValueError, r"^settings\['width'\].*different"),
    "setting drawn": ({"settings": {"rate": lambda rng: 0.1}}, TypeError, r"^settings\['rate'\]"),
    "points differ": ({"settings": [{"rate": 0.1}, {"width": 3}]}, ValueError, r"^settings\[1\]"),
    "point twice": ({"settings": [{"rate": 0.1}, {"rate": 0.1}]}, ValueError, r"^settings\[1\].*second time"),
    "seed": ({"settings": {"seed": [1]}}, ValueError, "^settings: got 'seed'"),
    "unused": ({"settings": {**GRID, "widht": [3]}}, ValueError, "^settings: 'widht' is an argument of neither"),
    "weights": ({"settings": {**GRID, "sample_weight": [1]}}, ValueError, "^settings: 'sample_weight' is an argument"),
    "build": ({"build": None}, TypeError, "^build"),
    "build's argument": ({"build": lambda seed, depth: build(seed)}, TypeError, "^build: has the argument 'depth'"),
    "build's result": ({"build": lambda seed, width: 3}, TypeError, "^build"),
    "build that ignores the seed": (
        {"build": lambda width: build(0), "seeds": 2},
        ValueError,
        "^build: returned the s",
    ),
    "optimizer": ({"optimizer": None, "settings": {"width": [3]}}, TypeError, "^optimizer"),
    "optimizer class": ({"optimizer": gd.SGD}, TypeError, "^optimizer"),
    "optimizer's result": ({"optimizer": lambda rate: rate}, TypeError, "^optimizer: got float"),
    "loss": ({"loss": None}, TypeError, "^loss"),
    "a loss among the settings": ({"settings": {"loss": [3], **GRID}}, TypeError, r"^settings\['loss'\]: got int 3"),
    "seeds": ({"seeds": 0}, ValueError, "^seeds: got 0"),
    "draws": ({"draws": 0}, ValueError, "^draws: got 0"),
    "draws of points": ({"settings": [{"rate": 0.1}], "draws": 2}, ValueError, "^draws"),
    "monitor": ({"monitor": "val_accuracy"}, ValueError, "^monitor"),
    "n_jobs": ({"n_jobs": 0}, ValueError, "^n_jobs"),
    "epochs": ({"epochs": 0}, ValueError, "^epochs"),
    "unknown": ({"rounds": 3}, TypeError, "rounds"),
    "resume": ({"resume": "file"}, ValueError, "^resume"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    changes, kind, words = REFUSED[name]
    helpers.refuses(lambda: sweep(**changes), kind, words)


@pytest.mark.parametrize("where", [{}, {"within": "processes", "n_jobs": 2}])
def test_settings_without_equality(where: dict[str, Any]) -> None:
    """Functions come back from a process as others, which are not equal: the caller's own are in the result."""
    rates = [lambda step: 1e-5, lambda step: 0.2]
    optimizers = [gd.SGD(rate) for rate in rates]
    result = sweep(settings={"optimizer": optimizers}, optimizer=None, seeds=2, **where)
    assert result.best_setting["optimizer"] is optimizers[1]
    assert [row["seeds"] for row in result.summary().rows] == [2, 2]
    assert result.best_start.value == min(start.value for start in result.starts)


def test_arrays_as_settings(tmp_path: Path) -> None:
    widths = [np.array([4, 8]), np.array([8, 4])]
    made = lambda seed, widths: build(seed, int(widths[0]))  # noqa: E731
    result = sweep(build=made, settings={"widths": widths}, optimizer=gd.SGD(0.1))
    assert len(result.starts) == 2
    result.plot(tmp_path / "arrays.png")
    with pytest.raises(ValueError, match="all of them different"):
        sweep(build=made, settings={"widths": [*widths, np.array([4, 8])]}, optimizer=gd.SGD(0.1))


def test_different_losses_need_a_metric() -> None:
    losses: dict[str, Any] = {"settings": {"loss": [gd.MeanSquaredError(), gd.CrossEntropy()]}, "loss": None}
    with pytest.raises(ValueError, match="different losses, which cannot be compared"):
        sweep(optimizer=gd.SGD(0.1), **losses)
    with pytest.raises(ValueError, match="different losses, which cannot be compared"):
        sweep(settings={"delta": [0.5, 1.0]}, loss=lambda delta: gd.Huber(delta), optimizer=gd.SGD(0.1))


def test_losses_that_may_be_different_need_a_metric() -> None:
    """Their functions use what cannot be compared; a loss that is made once is the same for all."""

    def loss(delta: float = 0.0) -> gd.Loss:
        parts = (each for each in "ab")
        return gd.CustomLoss(lambda o, t: (((o - t) ** 2).sum(1) + (parts is None), 2 * (o - t)), name="squares")

    given: dict[str, Any] = {"settings": {"delta": [0.5, 1.0]}, "build": lambda seed: build(seed, 3)}
    given |= {"optimizer": gd.SGD(0.1)}
    words = r"^monitor: .*losses that may be different \(loss: .*generator.*made once, or a metric"
    helpers.refuses(lambda: sweep(loss=loss, **given), ValueError, words)
    assert sweep(loss=loss, metrics=["mae"], monitor="val_mae", **given).monitor == "val_mae"
    assert sweep(loss=loss(), optimizer=gd.SGD(0.1), settings={"width": [3, 6]}).monitor == "val_loss"


def test_a_model_that_is_returned_twice_is_refused() -> None:
    made = functools.cache(build)
    with pytest.raises(ValueError, match="the same model twice"):
        sweep(build=lambda seed, width: made(seed, width))


def test_stratify_is_refused_by_name() -> None:
    for settings in ({"width": [3, 6]}, {"stratify": [True, False]}):
        with pytest.raises(ValueError, match=r"^stratify: .*train_validation_split"):
            sweep(settings=settings, optimizer=gd.SGD(0.1), validation=0.2, stratify=True)


def test_a_folder_does_not_depend_on_the_order_of_settings(tmp_path: Path) -> None:
    """The steps of a schedule that are compared depend on the batch size: on that of each setting."""
    schedule = gd.SGD(gd.schedules.cosine(0.1, 10_000))
    before = sweep(settings={"batch_size": [4, 80]}, optimizer=schedule, epochs=80, folder=tmp_path)
    lines = (tmp_path / "sweep.jsonl").read_text()
    after = sweep(settings={"batch_size": [80, 4]}, optimizer=schedule, epochs=80, folder=tmp_path)
    assert (tmp_path / "sweep.jsonl").read_text() == lines
    assert {start.value for start in before.starts} == {start.value for start in after.starts}


def test_names_of_functions_and_the_order_of_arguments_do_not_count_in_a_folder(tmp_path: Path) -> None:
    def first(step: int) -> float:
        return 0.1

    def second(step: int) -> float:
        return 0.1

    def named(given: dict[str, Any], schedule: Any) -> str:
        sweep(settings={"rate": [schedule]}, folder=tmp_path, **given)
        return (tmp_path / "sweep.jsonl").read_text()

    given = {"batch_size": 20, "shuffle": False}
    lines = named(given, first)
    assert "first" in lines  # the name is kept for readers of the file
    assert named(given, second) == named(dict(reversed(given.items())), first) == lines
    assert named(given, lambda step: 0.2) != lines


def test_a_folder_knows_settings_that_are_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of one name, and sets, whose order is another in each process."""
    code = """
    import sys
    import gdcore as gd, numpy as np

    def build(seed, rate, columns):
        return gd.Sequential(gd.Dense(3, 1), seed=seed)

    def made(factor):
        return lambda step: factor * 0.01

    x = np.random.default_rng(0).standard_normal((60, 3))
    y = x.sum(1, keepdims=True)
    settings = {"rate": [made(1), made(2)], "columns": [{"a", "b", "c"}, {"a", "b", "d"}]}
    given = {"validation": (x, y), "loss": gd.MeanSquaredError(), "epochs": 2, "progress": False}
    result = gd.sweep(build, settings, x, y, optimizer=lambda rate: gd.SGD(rate), folder=sys.argv[1], **given)
    print([start.value for start in result.starts])
    """
    printed = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        printed.add(helpers.must_run(code, str(tmp_path)))
    assert len(printed) == 1 and len(set(json.loads(printed.pop()))) == 2
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == 1 + 4
