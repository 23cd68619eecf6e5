"""Promise: independent starts are compared on one validation set and the best is kept; the results are the same bits
for any number of them at a time; a start that diverges is a row; Ctrl-C leaves no process; bad input is refused."""

from __future__ import annotations

import io
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.callbacks import Callback
from gdcore.tuning.kept import Kept
from gdcore.tuning.restarts import restarts


def small(seed: int) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 6), gd.Tanh(), gd.Dense(6, 1), seed=seed)


def scaled(seed: int, epsilon: float) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 6, init=gd.Normal(epsilon)), gd.Tanh(), gd.Dense(6, 1), seed=seed)


def problem(rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 3)).astype(np.float32)
    return x, np.sin(2 * x[:, :1]) * x[:, 1:2] + 0.1 * rng.standard_normal((rows, 1))


X, Y = problem()
VALIDATION = tuple(a[80:] for a in (X, Y))
SETTINGS: dict[str, Any] = {
    "validation": VALIDATION,
    "loss": gd.MeanSquaredError(),
    "optimizer": gd.Momentum(0.05),
    "epochs": 12,
    "progress": False,
}


def run(build: Any = small, n: int = 4, **changes: Any) -> Any:
    return restarts(build, n, X[:80], Y[:80], **{**SETTINGS, **changes})


def facts(result: Any) -> list[Any]:
    """All values of a result except the seconds."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in result.table().rows]
    curves = [[{k: v for k, v in row.items() if k != "seconds"} for row in s.history.rows] for s in result.starts]
    return [rows, curves, result.best_seed, result.best_epsilon, result.spread, result.best.flat_parameters().tobytes()]


def test_the_best_of_the_starts_by_hand() -> None:
    """Each start equals a separate trainer, and the best has the least validation loss."""
    result = run(keep_models=True, seed=7)
    losses = []
    for seed, start in zip(range(7, 11), result.starts, strict=True):
        model = small(seed)
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Momentum(0.05))
        threads = gd.get_num_threads()
        gd.set_num_threads(1)
        try:
            history = trainer.fit(X[:80], Y[:80], epochs=12, validation=VALIDATION)
            assert start.loss == trainer.evaluate(X[:80], Y[:80])["loss"]
        finally:
            gd.set_num_threads(threads)
        helpers.same_bits(start.model.flat_parameters(), model.flat_parameters())
        assert (start.seed, start.epsilon, start.note, start.epochs) == (seed, None, "", 12)
        assert start.value == start.val_loss == history["val_loss"][-1]
        assert start.best_epoch == history.best_epoch("val_loss")
        losses.append(start.value)
    assert len(set(losses)) == 4
    best = int(np.argmin(losses))
    assert result.best_seed == 7 + best and result.best_start is result.starts[best]
    helpers.same_bits(result.best.flat_parameters(), result.models[best].flat_parameters())
    expected = (min(losses), np.median(losses), max(losses), np.std(losses))
    assert result.spread == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_same_bits_for_any_number_at_a_time(n_jobs: int) -> None:
    changes = {"epsilon": [0.1, 1.0], "callbacks": [gd.EarlyStopping(patience=2), gd.ReduceOnPlateau(patience=1)]}
    alone = run(scaled, 3, n_jobs=1, **changes)
    assert facts(alone) == facts(run(scaled, 3, n_jobs=n_jobs, **changes))
    assert len(alone.starts) == 6 and alone.best_epsilon in (0.1, 1.0)
    assert [s.epsilon for s in alone.starts] == [0.1] * 3 + [1.0] * 3


def test_same_bits_with_data_that_are_mapped_into_memory() -> None:
    x, y = problem(100_000)  # over a megabyte
    settings = {**SETTINGS, "validation": 0.2, "epochs": 1, "batch_size": 1000}
    alone = restarts(lambda seed: small(seed), 2, x, y, **settings)
    assert facts(alone) == facts(restarts(lambda seed: small(seed), 2, x, y, within="processes", n_jobs=2, **settings))


def test_threads_are_set_and_given_back() -> None:
    class Threads(Callback):
        def on_epoch_end(self, trainer: Any, logs: dict[str, float]) -> None:
            logs["threads"] = gd.get_num_threads()

    before = gd.get_num_threads()
    for threads in (1, 2):
        result = run(n=1, threads=threads, callbacks=[Threads()])
        assert set(result.starts[0].history["threads"]) == {threads}
    assert gd.get_num_threads() == before


def test_every_start_has_callbacks_of_its_own(tmp_path: Any) -> None:
    stopping = gd.EarlyStopping(patience=1)
    result = run(callbacks=stopping)
    assert stopping.best_epoch == 0, "the callback that was given stays as it is"
    for start in result.starts:  # weights and measure are those of the best epoch
        assert start.value == start.history["val_loss"][start.best_epoch - 1]
        assert start.epochs in (12, start.best_epoch + 1)
    run(n=2, callbacks=lambda seed: [gd.CSVLog(tmp_path / f"{seed}.csv")])
    assert sorted(os.listdir(tmp_path)) == ["0.csv", "1.csv"]


def test_a_share_is_the_same_rows_for_every_start() -> None:
    """The measure of each start is its loss on the same rows, whatever its seed."""
    result = restarts(small, 3, X, Y, **{**SETTINGS, "validation": 0.25, "keep_models": True})
    rows = gd.data.split_rows(len(X), 0.25, 0)[1]
    for start in result.starts:
        assert start.value == pytest.approx(float(np.mean((start.model.predict(X[rows]) - Y[rows]) ** 2)), rel=1e-5)


def test_weights_count_in_training_and_validation() -> None:
    weights = np.linspace(0.1, 2, 80)
    validation = (*VALIDATION, np.linspace(2, 0.1, 40))
    start = run(n=1, sample_weight=weights, validation=validation).starts[0]
    model = gd.Trainer(small(0), gd.MeanSquaredError(), optimizer=gd.Momentum(0.05))
    history = model.fit(X[:80], Y[:80], epochs=12, sample_weight=weights, validation=validation)
    assert start.val_loss == pytest.approx(history["val_loss"][-1], rel=1e-5)
    share = restarts(small, 1, X, Y, **{**SETTINGS, "validation": 0.25, "sample_weight": np.ones(120)})
    assert share.starts[0].val_loss == restarts(small, 1, X, Y, **{**SETTINGS, "validation": 0.25}).starts[0].val_loss


def test_a_measure_where_more_is_better() -> None:
    def build(seed: int) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, 2), seed=seed)

    labels = (Y > 0).astype(int).ravel()
    result = restarts(
        build,
        5,
        X[:80],
        labels[:80],
        validation=(X[80:], labels[80:]),
        loss=gd.CrossEntropy(),
        optimizer=gd.SGD(0.01),
        metrics=[gd.metrics.accuracy],
        monitor="val_accuracy",
        epochs=1,
        progress=False,
    )
    values = result.table()["val_accuracy"]
    assert result.mode == "max" and result.best_start.value == max(values) > min(values)
    assert result.best_seed == values.index(max(values))  # the first of equals


def rate(step: int) -> float:
    return 0.05


def test_a_start_that_diverges_is_a_row() -> None:
    def build(seed: int) -> gd.Sequential:
        model = gd.Sequential(gd.Dense(3, 6), gd.ReLU(), gd.Dense(6, 1), seed=seed)
        if seed in (0, 2):
            model.parameters()["layers.0.weight"][...] *= 1e15
        return model

    result = run(build, 4, keep_models=True)
    diverged = [result.starts[0], result.starts[2]]
    assert all(
        s.diverged and "the loss became" in s.note and s.value == s.loss == s.val_loss == math.inf for s in diverged
    )
    assert [model is None for model in result.models] == [True, False, True, False]
    assert result.best_seed in (1, 3) and all(not result.starts[i].note for i in (1, 3))
    assert result.spread.max == max(result.starts[i].value for i in (1, 3))
    assert "the loss became" in str(result)
    helpers.refuses(
        lambda: run(build, 1), gd.DivergenceError, "^every one of 1 starts diverged; the first: .*loss became"
    )


def test_a_measure_that_is_not_finite_is_no_divergence(tmp_path: Any) -> None:
    def unknown(targets: Any, predictions: Any) -> float:
        return math.nan

    changes: dict[str, Any] = {"metrics": {"m": unknown}, "monitor": "val_m", "mode": "min"}
    helpers.refuses(
        lambda: run(n=2, **changes), ValueError, "^monitor: no start has a finite val_m; with seed 0 val_m is"
    )

    def of_some(targets: Any, predictions: Any) -> float:
        return float(predictions.mean()) if predictions[0] > below else math.nan

    first = sorted(float(s.model.predict(VALIDATION[0])[0, 0]) for s in run(keep_models=True).starts)
    below = (first[0] + first[1]) / 2
    result = run(metrics={"m": of_some}, monitor="val_m", mode="min")
    left_out = [start for start in result.starts if start.note]
    assert len(left_out) == 1 and left_out[0].note == "val_m is nan" and left_out[0].value == math.inf
    assert math.isfinite(left_out[0].val_loss) and math.isfinite(left_out[0].loss) and not left_out[0].diverged
    pytest.importorskip("matplotlib")
    title = result.plot(tmp_path / "starts.png")[0].get_title(loc="left")
    assert title.endswith("; 1 without a finite measure")


def test_a_schedule_goes_to_the_processes() -> None:
    for lr in (rate, lambda step: 0.05, gd.schedules.cosine(0.05, 30)):
        optimizer = gd.Momentum(lr)
        assert facts(run(n=2, optimizer=optimizer)) == facts(
            run(n=2, optimizer=optimizer, n_jobs=2, within="processes")
        )


def test_table_and_figure(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    result = run(scaled, 3, epsilon=[0.1, 1.0])
    table = result.table()
    assert list(table) == ["seed", "epsilon", "best_epoch", "epochs", "val_loss", "loss", "seconds"]
    assert table["seed"] == [0, 1, 2] * 2 and table["val_loss"] == [s.value for s in result.starts]
    assert f"best: seed {result.best_seed}, epsilon {result.best_epsilon:g}" in str(result)
    values, curves = result.plot(tmp_path / "starts.png")
    assert (tmp_path / "starts.png").stat().st_size > 10_000
    assert f"{result.spread.min:.3g}" in values.get_title(loc="left")
    assert [label.get_text() for label in values.get_xticklabels()] == ["0.1", "1"]
    assert len(curves.lines) == 6 + 1  # the starts, and the mark on the best
    assert len(run(n=1).plot(tmp_path / "one.png")) == 2


class Fails(Callback):
    def on_epoch_end(self, trainer: Any, logs: dict[str, float]) -> None:
        if trainer.seed == 2:
            raise ArithmeticError("too wide")


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_an_error_names_the_start(n_jobs: int) -> None:
    with pytest.raises(ArithmeticError, match="too wide") as info:
        run(scaled, epsilon=[0.5], callbacks=[Fails()], n_jobs=n_jobs)
    assert info.value.__notes__ == ["[restarts] seed 2, epsilon 0.5"]


def test_only_models_that_may_be_the_best_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    came, add = [], Kept.add

    def counted(self: Kept, i: int, start: Any) -> None:
        came.append(start.model is not None)
        add(self, i, start)

    monkeypatch.setattr(Kept, "add", counted)
    few = run(n=12, within="processes", n_jobs=2, epochs=2)
    assert len(came) == 12 and 1 <= sum(came) < 12
    came.clear()
    every = run(n=12, within="processes", n_jobs=2, epochs=2, keep_models=True)
    assert sum(came) == 12 and facts(few) == facts(every)
    helpers.same_bits(every.models[every.best_seed].flat_parameters(), few.best.flat_parameters())


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    result = run(progress=True)
    assert f"best: val_loss {result.best_start.value:.4g}, seed {result.best_seed}" in screen.getvalue()
    assert "4/4" in screen.getvalue()


INTERRUPTED = """
    import gdcore as gd, numpy as np
    from gdcore.tuning.restarts import restarts
    def build(seed):
        return gd.Sequential(gd.Dense(3, 50), gd.Tanh(), gd.Dense(50, 1), seed=seed)
    class Tell(gd.Callback):
        def on_train_begin(self, trainer):
            import os
            os.write(1, f"{os.getpid()}\\n".encode())
    x = np.zeros((1000, 3))
    try:
        restarts(build, 6, x, x[:, :1], validation=(x, x[:, :1]), loss=gd.MeanSquaredError(), optimizer=gd.SGD(0.01),
                 epochs=10**7, callbacks=[Tell()], n_jobs=2, within="processes")
    except KeyboardInterrupt:
        print("interrupted", gd.get_num_threads(), flush=True)
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
def test_ctrl_c_leaves_no_process() -> None:
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    workers = [int(child.stdout.readline()) for _ in range(2)]
    assert all(map(alive, workers)) and child.pid not in workers
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=100)  # training would take longer
    end = time.monotonic() + 100
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert "interrupted" in out and not any(map(alive, workers))


class Uncopied(gd.Callback):
    def __init__(self) -> None:
        self.lock = threading.Lock()


REFUSED: dict[str, tuple[dict[str, Any], type[BaseException], str]] = {
    "build": ({"build": None}, TypeError, "^build: got None"),
    "a model": ({"build": gd.Sequential(gd.Dense(2, 1), seed=0)}, TypeError, r"^build: got Sequential.*a function"),
    "build's result": ({"build": lambda seed: [seed]}, TypeError, "^build: got list"),
    "build without a seed": (
        {"build": lambda seed: gd.Sequential(gd.Dense(3, 1))},
        ValueError,
        "^build: returned different models",
    ),
    "build that ignores the seed": (
        {"build": lambda seed: gd.Sequential(gd.Dense(3, 1), seed=1)},
        ValueError,
        "^build: returned the same weights",
    ),
    "build that ignores epsilon": (
        {"build": lambda seed, epsilon: small(seed), "epsilon": [1, 2], "n": 1},
        ValueError,
        "^build: returned the same",
    ),
    "build that ignores epsilon alone": (
        {"build": lambda seed, epsilon: small(seed), "epsilon": [0.1, 1], "n": 2},
        ValueError,
        "^build: returned the same weights for seed 0, epsilon 0.1 and seed 0, epsilon 1.0",
    ),
    "build that ignores the seed alone": (
        {"build": lambda seed, epsilon: scaled(0, epsilon), "epsilon": [0.1, 1]},
        ValueError,
        "^build: returned the same weights for seed 0, epsilon 0.1 and seed 1, epsilon 0.1",
    ),
    "build without epsilon": (
        {"build": lambda seed: small(seed), "epsilon": [0.1]},
        TypeError,
        r"^build: is called as build\(seed, epsilon\)",
    ),
    "n": ({"n": 0}, ValueError, "^n: got 0"),
    "n kind": ({"n": 2.5}, TypeError, "^n"),
    "seed": ({"seed": -1}, ValueError, "^seed"),
    "seed kind": ({"seed": None}, TypeError, "^seed"),
    "seeds": ({"seed": 2**63 - 1}, ValueError, "^seed"),
    "epsilon": ({"build": scaled, "epsilon": [0.1, 0]}, ValueError, r"^epsilon\[1\]"),
    "epsilon number": ({"build": scaled, "epsilon": 0.1}, TypeError, "^epsilon"),
    "epsilon text": ({"build": scaled, "epsilon": ["a"]}, TypeError, r"^epsilon\[0\]"),
    "epsilon twice": ({"build": scaled, "epsilon": [0.1, 0.1]}, ValueError, "^epsilon"),
    "epsilon none": ({"build": scaled, "epsilon": []}, ValueError, "^epsilon"),
    "epsilon keys": ({"build": scaled, "epsilon": {0.1: 1.0}}, TypeError, "^epsilon"),
    "epsilon set": ({"build": scaled, "epsilon": {0.1, 1.0}}, TypeError, "^epsilon"),
    "within": ({"within": "cloud"}, ValueError, "^within"),
    "executor": ({"executor": 3}, TypeError, "^executor"),
    "folder": ({"folder": __file__}, ValueError, "^folder.*file"),
    "n_jobs": ({"n_jobs": 0}, ValueError, "^n_jobs"),
    "n_jobs -2": ({"n_jobs": -2}, ValueError, "^n_jobs"),
    "n_jobs kind": ({"n_jobs": "all"}, TypeError, "^n_jobs"),
    "threads": ({"threads": 0}, ValueError, "^threads"),
    "monitor": ({"monitor": "loss"}, ValueError, "^monitor: got 'loss'; expected one of 'val_loss'"),
    "monitor unknown": ({"monitor": "val_accuracy"}, ValueError, "^monitor"),
    "mode": ({"mode": "least"}, ValueError, "^mode"),
    "mode needed": ({"metrics": {"m": lambda p, t: 0.0}, "monitor": "val_m"}, ValueError, "^mode"),
    "loss": ({"loss": "mse"}, TypeError, "^loss"),
    "optimizer": ({"optimizer": gd.SGD}, TypeError, "^optimizer"),
    "validation none": ({"validation": None}, TypeError, "^validation"),
    "validation one": ({"validation": (X,)}, TypeError, "^validation"),
    "validation share": ({"validation": 1.0}, ValueError, "^validation"),
    "validation rows": ({"validation": (X, Y[:9])}, ValueError, "^validation: y"),
    "validation nan": ({"validation": (X * np.nan, Y)}, ValueError, "^validation"),
    "validation empty": ({"validation": (X[:0], Y[:0])}, ValueError, "x"),
    "x": ({"x": X[:80] * np.nan}, ValueError, "x"),
    "x columns": ({"x": X[:80, :2]}, ValueError, "x"),
    "y": ({"y": Y[:3]}, ValueError, "^y: got 3 rows"),
    "weights": ({"sample_weight": [1.0]}, ValueError, "^sample_weight"),
    "epochs": ({"epochs": 0}, ValueError, "^epochs"),
    "unknown": ({"rounds": 3}, TypeError, "rounds"),
    "resume": ({"resume": "file"}, ValueError, "^resume"),
    "callbacks": ({"callbacks": 3}, TypeError, "callbacks"),
    "callback class": ({"callbacks": [gd.EarlyStopping]}, TypeError, "callbacks"),
    "one file": ({"callbacks": [gd.CSVLog("log.csv")]}, ValueError, r"^callbacks\[0\]: CSVLog"),
    "one checkpoint": ({"callbacks": gd.Checkpoint("file")}, ValueError, r"^callbacks\[0\]: Checkpoint"),
    "no copy": ({"callbacks": [Uncopied()]}, TypeError, "^callbacks: cannot be copied"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    changes, kind, words = REFUSED[name]
    given = {"build": small, "n": 2, "x": X[:80], "y": Y[:80], **SETTINGS, **changes}
    threads = gd.get_num_threads()
    helpers.refuses(lambda: restarts(**given), kind, words)
    assert gd.get_num_threads() == threads


def test_refusals_come_back_from_the_processes() -> None:
    helpers.refuses(lambda: run(epochs=0, n_jobs=2, within="processes"), ValueError, "^epochs: got 0")
