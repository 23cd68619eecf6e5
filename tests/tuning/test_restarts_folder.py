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
    """Counts trainings, and interrupts one."""

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
