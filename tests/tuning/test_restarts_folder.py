"""Promise: restarts with a folder continue where they were interrupted, with the same result bit for bit; starts of
other settings are not mixed up, other data are refused."""

from __future__ import annotations

import re
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.callbacks import Callback

X = np.random.default_rng(2).standard_normal((120, 3))
Y = np.sin(2 * X[:, :1]) * X[:, 1:2]


def small(seed: int) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 6), gd.Tanh(), gd.Dense(6, 1), seed=seed)


def rate(step: int) -> float:
    return 0.05


def run(build: Any = small, n: int = 4, **changes: Any) -> Any:
    given: dict[str, Any] = {"validation": (X[80:], Y[80:]), "optimizer": gd.Momentum(0.05), "epochs": 12, **changes}
    return gd.restarts(build, n, X[:80], Y[:80], loss=gd.MeanSquaredError(), progress=False, **given)


def facts(result: Any) -> list[Any]:
    """All values of a result except the seconds."""
    tables = [result.table(), *(start.history for start in result.starts)]
    rows = [{name: v for name, v in row.items() if name != "seconds"} for table in tables for row in table.rows]
    return [rows, result.best_seed, result.best.flat_parameters().tobytes()]


class Begun(Callback):
    """Counts trainings, and interrupts one; as it only records, its attributes are not compared."""

    records = True
    seeds: list[int] = []  # noqa: RUF012
    last = -1

    def on_train_begin(self, trainer: Any) -> None:
        self.seeds.append(trainer.seed)
        if trainer.seed == self.last:
            raise KeyboardInterrupt


def begun(**changes: Any) -> tuple[list[Any], list[int]]:
    """The facts of a run, one start after the other, and the seeds that were trained for it."""
    Begun.seeds.clear()
    result = run(callbacks=[Begun(), gd.EarlyStopping(patience=2)], n_jobs=1, **changes)
    return [*facts(result), [model and model.flat_parameters().tobytes() for model in result.models]], [*Begun.seeds]


@pytest.mark.parametrize("keep_models", [False, True])
def test_finished_starts_of_a_folder_are_not_computed_again(
    keep_models: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"n": 5, "keep_models": keep_models}
    expected, seeds = begun(**given)
    assert seeds == [0, 1, 2, 3, 4]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Begun, "last", 3)
        begun(**given, folder=tmp_path)
    assert begun(**given, folder=tmp_path) == (expected, [3, 4])
    assert begun(**given, folder=tmp_path) == (expected, [])
    files = sorted(path for path in tmp_path.iterdir() if path.suffix == ".safetensors")
    assert len(files) == (5 if keep_models else 1)
    assert begun(n=7, keep_models=keep_models, folder=tmp_path)[1] == [5, 6]  # more starts
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    again, seeds = begun(**given, folder=tmp_path)
    assert again == expected and len(seeds) == (5 if keep_models else 1)  # those whose model is needed


def test_a_folder_tells_runs_apart(tmp_path: Any) -> None:
    """Starts of other settings are computed; other data, or another measure, are refused."""
    assert begun(folder=tmp_path)[1] == [0, 1, 2, 3]
    for change in ({"epochs": 3}, {"optimizer": gd.SGD(0.05)}, {"optimizer": gd.SGD(rate)}, {"batch_size": 7}):
        for _ in range(2):
            result, seeds = begun(folder=tmp_path, **change)
            assert result == begun(**change)[0]
            seeds, known = [0, 1, 2, 3] if _ == 0 else [], seeds
            assert known == seeds, change
    wide = begun(folder=tmp_path, build=lambda seed: gd.Sequential(gd.Dense(3, 1), seed=seed))
    assert wide[1] == [0, 1, 2, 3] and begun(folder=tmp_path)[1] == []

    def frozen(seed: int) -> gd.Sequential:
        model = small(seed)
        model.freeze("layers.0")
        return model

    assert begun(folder=tmp_path, build=frozen)[1] == [0, 1, 2, 3]
    for change, words in (
        ({"validation": 0.25}, "data: saved"),
        ({"metrics": ["r2"], "monitor": "val_r2"}, "monitor: saved 'val_loss', now 'val_r2'"),
    ):
        helpers.refuses(lambda c=change: begun(folder=tmp_path, **c), ValueError, f"^folder: .*{words}")


def test_a_start_that_diverges_comes_back_from_the_folder(tmp_path: Any) -> None:
    def build(seed: int) -> gd.Sequential:
        model = gd.Sequential(gd.Dense(3, 6), gd.ReLU(), gd.Dense(6, 1), seed=seed)
        model.parameters()["layers.0.weight"][...] *= 1e15 if seed == 1 else 1.0
        return model

    first = run(build, folder=tmp_path)
    again = run(build, folder=tmp_path)
    assert facts(first) == facts(again) and again.starts[1].diverged and again.starts[1].epochs == 0


def test_other_rates_late_in_the_run_are_another_run(tmp_path: Any) -> None:
    """1,500 steps, of which the rates of the last 100 differ."""
    late = {"n": 1, "epochs": 300, "batch_size": 16, "folder": tmp_path}
    for last in (0.05, 1e-6):
        schedule = gd.SGD(lambda step, last=last: 0.05 if step < 1400 else last)
        assert facts(run(optimizer=schedule, **late)) == facts(run(optimizer=schedule, **late | {"folder": None}))


def test_an_error_of_build_names_the_start(tmp_path: Any) -> None:
    def build(seed: int) -> gd.Sequential:
        if seed == 3:
            raise ValueError("no such seed")
        return small(seed)

    with pytest.raises(ValueError, match="no such seed") as caught:
        run(build, folder=tmp_path)
    assert caught.value.__notes__ == ["at seed 3"]


def test_damaged_models_are_computed_again_and_damaged_lines_refused(tmp_path: Any) -> None:
    before = facts(run(folder=tmp_path))
    (model,) = tmp_path.glob("model-*.safetensors")
    model.write_bytes(b"")
    assert facts(run(folder=tmp_path)) == before
    lines = (tmp_path / "sweep.jsonl").read_text()
    for damaged in (lines.replace('"value"', '"valeu"'), re.sub(r'"rows": \[.*?\], "cpu', '"rows": [], "cpu', lines)):
        assert damaged != lines
        (tmp_path / "sweep.jsonl").write_text(damaged)
        with pytest.raises(gd.FormatError, match=r"the line of seed \d in .* is damaged"):
            run(folder=tmp_path)


def test_an_edited_loss_or_metric_is_another_run(tmp_path: Any) -> None:
    def loss(scale: float) -> gd.CustomLoss:
        return gd.CustomLoss(lambda o, t: (scale * ((o - t) ** 2).sum(1), 2 * scale * (o - t)), name="squares")

    def result(scale: float) -> list[Any]:
        given = {"validation": (X[80:], Y[80:]), "optimizer": gd.SGD(0.05), "epochs": 2, "progress": False}
        return facts(gd.restarts(small, 2, X[:80], Y[:80], loss=loss(scale), folder=tmp_path, **given))

    one, other, again = result(1.0), result(0.5), result(1.0)
    assert one == again != other
    for power in (1, 2):
        metrics = {"own": lambda y, p, power=power: float(np.mean(np.abs(y - p) ** power))}
        other_folder = {"folder": tmp_path / "metrics", "metrics": metrics, "monitor": "val_own", "mode": "min"}
        if power == 1:
            run(**other_folder)
            continue
        with pytest.raises(ValueError, match="a run with other settings"):
            run(**other_folder)


# ------------------------------------------------------------------------------------------------- names, and the model
FRAME = [f"feature {i}" for i in range(3)]


def answer(folder: Any, names: Any = FRAME, targets: Any = ("y", "z"), **options: Any) -> gd.Sequential:
    """The best model of a run on frames; `options` are arguments of its model."""
    pandas = pytest.importorskip("pandas")
    x, y = pandas.DataFrame(X, columns=names), pandas.DataFrame(np.hstack([Y, -Y]), columns=targets)

    def build(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 2), seed=seed, **options)

    given = {"loss": gd.MeanSquaredError(), "optimizer": gd.SGD(0.05), "epochs": 2, "folder": folder, "progress": False}
    return gd.restarts(build, 2, x[:80], y[:80], validation=(x[80:], y[80:]), **given).best


def test_other_column_names_are_other_data(tmp_path: Any) -> None:
    """The names that the data give a model, and those that the model has from the beginning."""
    pytest.importorskip("pandas")
    assert answer(tmp_path).feature_names == tuple(FRAME)
    refused = ValueError, "^folder: .*data: saved"
    helpers.refuses(lambda: answer(tmp_path, FRAME[::-1]), *refused)
    helpers.refuses(lambda: answer(tmp_path, targets=("z", "y")), *refused)
    helpers.refuses(lambda: answer(tmp_path, [0, 1, 2], feature_names=["a", "b", "c"]), *refused)
    assert answer(tmp_path).target_names == ("y", "z")


def test_names_that_only_the_model_has_make_another_network(tmp_path: Any) -> None:
    def best(name: str, value: Any) -> Any:
        def build(seed: int) -> gd.Sequential:
            return gd.Sequential(gd.Dense(3, 2), seed=seed, **{name: value})

        y = (X[:, 0] > 0).astype(int)
        loss = gd.CrossEntropy()
        given = {"optimizer": gd.SGD(0.05), "epochs": 2, "folder": tmp_path, "progress": False}
        labels = np.asarray(value)[y] if name == "classes" else y
        data = X[:80], labels[:80]
        return gd.restarts(build, 1, *data, validation=(X[80:], labels[80:]), loss=loss, **given).best

    for classes in (["no", "yes"], ["nein", "ja"]):
        found = best("classes", classes)
        assert found.classes == tuple(classes) and set(found.predict_classes(X)) <= set(classes)


def test_other_running_averages_and_frozen_parameters_are_another_network(tmp_path: Any) -> None:
    """Networks with the same trainable values, which are trained to others."""

    def result(mean: float = 0.0, frozen: str = "layers.0.bias", name: str = "net") -> Any:
        def build(seed: int) -> gd.Sequential:
            zero = gd.Constant(0.0)
            layers = (gd.Dense(3, 6, bias_init=zero), gd.BatchNorm(6), gd.Tanh(), gd.Dense(6, 1))
            model = gd.Sequential(*layers, seed=seed)
            model.buffers()["layers.1.running_mean"][...] = mean
            model.freeze(frozen)
            model.purpose = name
            return model

        return run(build, n=2, folder=tmp_path, epochs=2), run(build, n=2, epochs=2)

    for change in ({}, {"mean": 5.0}, {"frozen": "layers.1.beta"}, {"name": "other"}):
        kept, alone = result(**change)
        assert facts(kept) == facts(alone) and kept.best.purpose == alone.best.purpose
        helpers.same_bits(kept.best.copy_state(), alone.best.copy_state())


FACTOR = 1.0


def test_a_global_within_a_lambda_of_a_loss_counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(outputs: Any, targets: Any) -> Any:
        weigh = lambda values: FACTOR * values  # noqa: E731
        return weigh(((outputs - targets) ** 2).sum(1)), weigh(2 * (outputs - targets))

    def result(folder: Any) -> list[Any]:
        given = {"validation": (X[80:], Y[80:]), "optimizer": gd.SGD(0.05), "epochs": 2, "progress": False}
        return facts(gd.restarts(small, 2, X[:80], Y[:80], loss=gd.CustomLoss(rows), folder=folder, **given))

    before = result(tmp_path)
    monkeypatch.setattr(f"{__name__}.FACTOR", 0.5)
    assert before != result(tmp_path) == result(None)


def test_a_schedule_with_an_end_is_asked_for_no_later_step(tmp_path: Any) -> None:
    rates = [0.05] * (3 * 5)  # 80 rows, 3 epochs
    optimizer = gd.SGD(lambda step: rates[step])
    given: dict[str, Any] = {"optimizer": optimizer, "epochs": 3, "batch_size": 16, "folder": tmp_path}
    assert facts(run(**given)) == facts(run(**given))


def test_what_cannot_be_compared_is_refused(tmp_path: Any) -> None:
    rates = (0.05 for _ in range(10_000))
    optimizer = gd.SGD(lambda step: next(rates))
    with pytest.raises(TypeError, match=r"^folder: .*generator.*expected values that can be pickled") as caught:
        run(optimizer=optimizer, folder=tmp_path)
    assert caught.value.__notes__ == ["at seed 0"]
    run(optimizer=optimizer, n_jobs=1)
