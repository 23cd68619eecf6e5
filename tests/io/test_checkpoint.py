"""Promise: a resumed run equals an uninterrupted one bit for bit, with any settings and any interruption, also inside
an epoch; a writer killed at any moment leaves a complete file; resuming with other settings is refused by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda: gd.SGD(0.05),
    "Momentum": lambda: gd.Momentum(gd.schedules.one_cycle(0.05, 60), nesterov=True, weight_decay=1e-3),
    "AdaGrad": lambda: gd.AdaGrad(0.05, clip_norm=1.0),
    "RMSProp": lambda: gd.RMSProp(
        gd.schedules.warmup(gd.schedules.exponential(1e-2, 0.99), 7), lr_factors={"layers.0": 0.5}
    ),
    "Adam": lambda: gd.Adam(lambda step: 1e-2 / (1 + step / 20), decoupled=True, weight_decay=0.01),
}


def build(optimizer: str = "Adam", seed: int = 3, dtype: str = "float32", device: str = "cpu") -> gd.Trainer:
    model = gd.Sequential(
        gd.Dense(6, 20), gd.BatchNorm(20), gd.ReLU(), gd.Dropout(0.3), gd.Dense(20, 12), gd.LayerNorm(12), gd.GELU(),
        gd.Dense(12, 3), seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    return gd.Trainer(model, gd.CrossEntropy(label_smoothing=0.1), optimizer=OPTIMIZERS[optimizer]())


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((150, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.3), rng.uniform(0.5, 2, 150).astype(np.float32)


def state(trainer: gd.Trainer) -> dict[str, Any]:
    """Everything that must be equal: values, counts, and every column of the history except the seconds."""
    columns = {name: np.array(column) for name, column in trainer.history.items() if name != "seconds"}
    return {
        **trainer.model.copy_state(),
        "steps": np.array(trainer.steps),
        "lr_scale": np.array(trainer.lr_scale),
        **columns,
    }


def callbacks(path: Path | None = None) -> list[Any]:
    made: list[Any] = [gd.EarlyStopping(patience=4), gd.ReduceOnPlateau(patience=2, factor=0.5)]
    return made if path is None else [*made, gd.Checkpoint(path, keep_best=True)]


@pytest.mark.parametrize("cut", [1, 4, 9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore:resume. a callback had stopped this run")
def test_resumed_equals_unbroken(optimizer: str, cut: int, device: str, tmp_path: Path) -> None:
    if helpers.EMULATED and device == "cuda" and (cut, optimizer) not in ((4, "Momentum"), (9, "Adam")):
        pytest.skip("an emulated GPU is slow")
    x, y, w = data()
    settings: dict[str, Any] = {"batch_size": 32, "validation": 0.2, "sample_weight": w}
    unbroken = build(optimizer, device=device)
    unbroken.fit(x, y, epochs=10, callbacks=callbacks(), **settings)
    first = build(optimizer, device=device)
    first.fit(x, y, epochs=cut, callbacks=callbacks(tmp_path / "c"), **settings)
    second = build(optimizer, device=device)
    helpers.randomize(second.model, np.random.default_rng(0))
    second.fit(x, y, until_epoch=10, callbacks=callbacks(), resume=tmp_path / "c", **settings)
    helpers.same_bits(state(second), state(unbroken))


class StopInside:
    """Writes a checkpoint at a given batch of a given epoch and ends the run there, like a power cut."""

    class PowerCut(Exception):
        pass

    def __init__(self, path: Path, epoch: int, batch: int) -> None:
        self.path, self.epoch, self.batch = path, epoch, batch

    def on_progress(self, trainer: Any, batch: int, batches: int | None, loss: float) -> None:
        if trainer.epoch + 1 >= self.epoch and batch >= self.batch:
            trainer.save_checkpoint(self.path)
            raise self.PowerCut


def wide() -> gd.Trainer:
    """Its steps are slow, so that progress is reported often enough to interrupt at many batches."""
    layers = (gd.Dense(10, 900), gd.BatchNorm(900), gd.ReLU(), gd.Dropout(0.4), gd.Dense(900, 900), gd.Dense(900, 3))
    optimizer = gd.Adam(gd.schedules.exponential(1e-3, 0.999))
    return gd.Trainer(gd.Sequential(*layers, seed=1), gd.CrossEntropy(), optimizer=optimizer)


RNG = np.random.default_rng(8)
WIDE: dict[str, Any] = {"x": RNG.standard_normal((600, 10)).astype(np.float32), "y": RNG.integers(0, 3, 600)}
WIDE |= {"batch_size": 4, "validation": 0.1}


@pytest.fixture(scope="module")
def unbroken() -> gd.Trainer:
    trainer = wide()
    trainer.fit(**WIDE, epochs=3)
    return trainer


@pytest.mark.parametrize(("epoch", "batch"), [(1, 1), (1, 40), (2, 77), (3, 135)])
def test_resumed_inside_an_epoch(epoch: int, batch: int, unbroken: gd.Trainer, tmp_path: Path) -> None:
    broken = wide()
    cut = StopInside(tmp_path / "c", epoch, batch)
    with pytest.raises(StopInside.PowerCut):
        broken.fit(**WIDE, epochs=3, callbacks=[cut])
    assert 0 < broken.steps <= unbroken.steps and broken.epoch < 3
    resumed = wide()
    resumed.fit(**WIDE, until_epoch=3, resume=tmp_path / "c")
    helpers.same_bits(state(resumed), state(unbroken))


@pytest.mark.cuda
@pytest.mark.parametrize("optimizer", ["Momentum", "Adam"])
@pytest.mark.parametrize("way", [("cpu", "cuda"), ("cuda", "cpu")], ids="-to-".join)
def test_resumed_on_another_device(way: tuple[str, str], optimizer: str, tmp_path: Path) -> None:
    """Results of the other device differ by rounding, very little in float64 (Adam amplifies it most)."""
    x, y, w = data()
    settings: dict[str, Any] = {"batch_size": 32, "validation": 0.2, "sample_weight": w}
    unbroken, first, second = (build(optimizer, dtype="float64", device=device) for device in ("cpu", *way))
    unbroken.fit(x, y, epochs=4, callbacks=callbacks(), **settings)
    first.fit(x, y, epochs=2, callbacks=callbacks(tmp_path / "c"), **settings)
    second.fit(x, y, until_epoch=4, callbacks=callbacks(), resume=tmp_path / "c", **settings)
    expected, got = state(unbroken), state(second)
    assert list(got) == list(expected) and second.steps == unbroken.steps
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-8, atol=1e-8, err_msg=name)


def test_resumed_twice_and_continued(tmp_path: Path) -> None:
    x, y, _ = data()
    unbroken = build()
    unbroken.fit(x, y, epochs=9)
    for end in (3, 6, 9):
        trainer = build()
        resume = None if end == 3 else tmp_path / "c"
        trainer.fit(x, y, until_epoch=end, callbacks=[gd.Checkpoint(tmp_path / "c")], resume=resume)
        assert trainer.epoch == end
    helpers.same_bits(state(trainer), state(unbroken))


def test_the_seeds_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    """Shuffling and dropout continue with the checkpoint's seeds, whatever seeds the new objects have."""
    x, y, _ = data()
    unbroken, first, second = build(), build(), build(seed=77)
    unbroken.fit(x, y, epochs=4)
    first.fit(x, y, epochs=2, callbacks=[gd.Checkpoint(tmp_path / "c")])
    second.fit(x, y, until_epoch=4, resume=tmp_path / "c")
    helpers.same_bits(state(second), state(unbroken))


def test_a_checkpoint_is_a_model_too(tmp_path: Path) -> None:
    x, y, _ = data()
    trainer = build()
    trainer.fit(x, y, epochs=3, callbacks=[gd.Checkpoint(tmp_path / "c.safetensors", keep_best=True)], validation=0.2)
    helpers.same_bits(gd.load(tmp_path / "c.safetensors").predict(x), trainer.model.predict(x))
    assert gd.load(tmp_path / "c.best.safetensors").layers == trainer.model.layers


CHANGED: dict[str, Any] = {
    "batch_size": {"batch_size": 16},
    "shuffle": {"shuffle": False},
    "drop_last": {"drop_last": True},
    "rows": {"rows": 140},
    "optimizer": {"optimizer": "AdaGrad"},
    "layers": {"wide": True},
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_settings_are_refused_by_name(name: str, tmp_path: Path) -> None:
    x, y, _ = data()
    settings: dict[str, Any] = {"batch_size": 32}
    first = build("Momentum")
    first.fit(x, y, epochs=2, callbacks=[gd.Checkpoint(tmp_path / "c")], **settings)
    change = dict(CHANGED[name])
    rows = change.pop("rows", 150)
    trainer = build(change.pop("optimizer", "Momentum"))
    if change.pop("wide", False):
        model = gd.Sequential(gd.Dense(6, 3), seed=3)
        trainer = gd.Trainer(model, trainer.loss, optimizer=trainer.optimizer)
    before = helpers.snapshot(trainer.model)
    with pytest.raises(ValueError, match=f"(?i){name}|{name[:-1]}"):
        trainer.fit(x[:rows], y[:rows], until_epoch=4, resume=tmp_path / "c", **(settings | change))
    helpers.same_bits(helpers.snapshot(trainer.model), before)
    assert trainer.steps == 0 and trainer.epoch == 0


def test_a_file_saved_outside_of_fit_is_compared_too(tmp_path: Path) -> None:
    x, y, _ = data()
    first = build("SGD")
    first.step(x, y)
    first.save_checkpoint(tmp_path / "c")
    smooth = gd.Trainer(build().model, gd.CrossEntropy(label_smoothing=0.2), optimizer=OPTIMIZERS["SGD"]())
    for trainer, word in ((build("AdaGrad"), "optimizer: saved SGD"), (smooth, "loss.label_smoothing: saved 0.1")):
        helpers.refuses(lambda t=trainer: t.fit(x, y, epochs=1, resume=tmp_path / "c"), ValueError, word)
        helpers.refuses(lambda t=trainer: t.load_checkpoint(tmp_path / "c"), ValueError, word)
    build("SGD").fit(x, y, epochs=1, resume=tmp_path / "c")


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    x, y, _ = data()
    build().fit(x, y, epochs=1, callbacks=[gd.Checkpoint(tmp_path / "c")])
    whole = (tmp_path / "c").read_bytes()
    for i, length in enumerate([0, 7, 8, 100, len(whole) // 2, len(whole) - 1]):
        (tmp_path / "d").write_bytes(whole[:length])
        trainer = build()
        before = helpers.snapshot(trainer.model)
        with pytest.raises(gd.FormatError):
            trainer.fit(x, y, until_epoch=2, resume=tmp_path / "d")
        changed = bytearray(whole)
        changed[len(whole) - 1 - 97 * i] ^= 1
        (tmp_path / "d").write_bytes(changed)
        with pytest.raises(gd.FormatError):
            trainer.fit(x, y, until_epoch=2, resume=tmp_path / "d")
        helpers.same_bits(helpers.snapshot(trainer.model), before)
    build().model.save(tmp_path / "model")
    with pytest.raises(gd.FormatError):
        build().fit(x, y, until_epoch=2, resume=tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        build().fit(x, y, until_epoch=2, resume=tmp_path / "nothing")


WRITER = """
    import sys, numpy as np, gdcore as gd
    path = sys.argv[1]
    model = gd.Sequential(gd.Dense(300, 500), gd.BatchNorm(500), gd.Dense(500, 300), seed=0)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(1e-3))
    x = np.random.default_rng(0).standard_normal((20, 300)).astype("f")
    resume = path if len(sys.argv) > 2 else None
    print("ready", flush=True)
    trainer.fit(x, x, until_epoch=100_000, batch_size=None, callbacks=[gd.Checkpoint(path)], resume=resume)
"""


@pytest.mark.filterwarnings("ignore:resume. the run has")
def test_sigkill_leaves_a_whole_file(tmp_path: Path, rng: helpers.Generator) -> None:
    """A process that mostly writes is killed repeatedly at random moments, and resumed each time."""
    path = tmp_path / "c"
    for round_ in range(8):
        arguments = [str(path), *(["resume"] if path.exists() else [])]
        before = path.stat().st_ino if path.exists() else None
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            end = time.monotonic() + 300
            while (path.stat().st_ino if path.exists() else None) == before and time.monotonic() < end:
                time.sleep(0.001)  # until it has written once, however busy the machine is
            time.sleep(float(rng.uniform(0, 0.1)))
            process.send_signal(signal.SIGKILL)
            assert process.wait(100) == -signal.SIGKILL, process.stderr.read()
        if path.exists():
            assert np.isfinite(gd.load(path).flat_parameters()).all(), round_
    assert path.exists()
    model = gd.Sequential(gd.Dense(300, 500), gd.BatchNorm(500), gd.Dense(500, 300), seed=0)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(1e-3))
    x = np.random.default_rng(0).standard_normal((20, 300)).astype("f")
    trainer.fit(x, x, until_epoch=1, batch_size=None, resume=path)
    trainer.save_checkpoint(path)
    assert trainer.epoch >= 8 and os.listdir(tmp_path) == ["c"], (trainer.epoch, os.listdir(tmp_path))


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", [0, 1])
def test_killed_at_a_chosen_call(call: int, when: str, function: str, tmp_path: Path) -> None:
    """The process dies right before or after a system call of the writing: the old or the new file is complete."""
    code = """
        import os, signal, sys, gdcore as gd
        path, function, when, call = sys.argv[1:]
        gd.Sequential(gd.Dense(5, 5), seed=1).save(path)
        original, seen = getattr(os, function), [0]

        def deadly(*arguments, **keywords):
            seen[0] += 1
            if seen[0] > int(call) and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **keywords)
            if seen[0] > int(call):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, function, deadly)
        gd.Sequential(gd.Dense(5, 5), seed=2).save(path)
    """
    result = helpers.run_python(code, str(tmp_path / "m"), function, when, str(call))
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    if call == 0:
        assert result.returncode == -signal.SIGKILL
    loaded = gd.load(tmp_path / "m")
    assert loaded.seed in (1, 2)
    helpers.same_bits(loaded.copy_state(), gd.Sequential(gd.Dense(5, 5), seed=loaded.seed).copy_state())


def test_weights_and_frozen_layers_are_compared(tmp_path: Path) -> None:
    """Resuming refuses a change from or to sample weights, and layers frozen meanwhile."""
    x, y, w = data()
    for first, second in ((None, w), (w, None)):
        build().fit(x, y, epochs=1, sample_weight=first, callbacks=[gd.Checkpoint(tmp_path / "c")])
        trainer = build()
        before = state(trainer)
        helpers.refuses(
            lambda t=trainer, s=second: t.fit(x, y, epochs=2, sample_weight=s, resume=tmp_path / "c"),
            ValueError,
            f"sample_weight: saved {first is not None}, now {second is not None}",
        )
        helpers.same_bits(state(trainer), before)
    trainer = build()
    trainer.model.freeze("layers.0")
    helpers.refuses(
        lambda: trainer.fit(x, y, epochs=2, sample_weight=w, resume=tmp_path / "c"),
        ValueError,
        r"frozen: saved \[\], now \['layers.0.bias', 'layers.0.weight'\]",
    )
    assert trainer.model.frozen() and trainer.epoch == 0
    trainer.fit(x, y, epochs=1, sample_weight=w, callbacks=[gd.Checkpoint(tmp_path / "c")])
    again, frozen = build(), build()
    frozen.model.freeze("layers.0")
    for each in (again, frozen):  # a model without frozen layers takes those of the file
        each.fit(x, y, epochs=2, sample_weight=w, resume=tmp_path / "c")
        assert each.model.frozen() == trainer.model.frozen()
