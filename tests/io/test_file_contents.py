"""Promise: saving takes hardly any memory, and the same model gives the same bytes; histories of any length are saved;
half-precision files of other libraries and files of version 1 are read."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from file_cases import load_checkpoint, model, trainer
from gdcore.io import saving

FILES = Path(__file__).parents[1] / "files"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[2]); import file_cases as t; t.model().save(sys.argv[1])"
    model().save(tmp_path / "m")
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        arguments = [sys.executable, "-c", code, str(tmp_path / seed), str(Path(__file__).parents[1])]
        subprocess.run(arguments, check=True, env=environment)
        assert (tmp_path / seed).read_bytes() == (tmp_path / "m").read_bytes()


def test_a_header_that_readers_refuse_is_not_written(tmp_path: Path, monkeypatch: Any) -> None:
    from gdcore.io import tensor_file

    model().save(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    monkeypatch.setattr(tensor_file, "HEADER_LIMIT", 500)
    with pytest.raises(ValueError, match="header"):
        model(4).save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before and os.listdir(tmp_path) == ["m"]


def test_long_histories_are_saved_and_read(tmp_path: Path) -> None:
    """The header does not grow with the history."""
    sizes = []
    for epochs in (10, 200_000):
        made = trainer(epochs=1)
        rows = [{"epoch": i + 1, "loss": 1 / (i + 1), "lr": 0.01, "seconds": 0.1} for i in range(epochs)]
        made.history.replace(gd.History(rows))
        made.save_checkpoint(tmp_path / "c")
        with open(tmp_path / "c", "rb") as file:
            sizes.append(int.from_bytes(file.read(8), "little"))
        assert dict(load_checkpoint(tmp_path / "c").history) == dict(made.history)
    assert sizes[1] < sizes[0] + 1000  # the places of the arrays have more digits


def test_histories_keep_their_columns(tmp_path: Path) -> None:
    """Integers stay integers, a column that begins later has nan before, odd names are unchanged."""
    made = trainer()
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": float("inf"), "a.b/ü": -0.0, "count": 3}]
    made.history.replace(gd.History(rows))
    made.save_checkpoint(tmp_path / "c")
    history = load_checkpoint(tmp_path / "c").history
    assert list(history) == list(made.history) and history.last_epoch == 2
    for name in history:
        np.testing.assert_array_equal(history[name], made.history[name])
    assert [type(epoch) for epoch in history["epoch"]] == [int, int]


@pytest.mark.parametrize("megabytes", [40])
def test_a_save_takes_no_memory(megabytes: int, tmp_path: Path) -> None:
    """Peak memory grows by at most a tenth of the model, for a model and for a checkpoint."""
    grown = helpers.must_run(
        """
        import sys, numpy as np, gdcore as gd
        def peak():
            return [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0] / 1024
        width = int((int(sys.argv[2]) * 2**20 / 4) ** 0.5)
        gd.Sequential(gd.Dense(2, 1), seed=0).save(sys.argv[1])  # imports what it needs
        trainer = gd.Trainer(gd.Sequential(gd.Dense(width, width, init=gd.Constant(0)), seed=0, device="cpu"),
                             gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
        trainer.step(np.zeros((2, width), "f"), np.zeros((2, width), "f"))
        for save in (trainer.model.save, trainer.save_checkpoint):
            before = peak()
            save(sys.argv[1])
            print(peak() - before)
        """,
        str(tmp_path / "m"),
        str(megabytes),
    )
    assert all(float(line) <= 0.1 * megabytes for line in grown.split()), grown


def foreign(arrays: dict[str, np.ndarray], kind: str) -> bytes:
    """A safetensors file of another type, as other libraries write it."""
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in arrays.items():
        raw = array.astype("<f2").tobytes()
        if kind == "BF16":
            raw = (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
        head[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "error"), [("BF16", 2.0**-7), ("F16", 2.0**-10)])
def test_half_precision_is_read(kind: str, error: float, dtype: str) -> None:
    source = gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.Dense(4, 2), seed=3)
    made = gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.Dense(4, 2), seed=9, dtype=dtype)
    arrays = helpers.copies({**source.parameters(), **source.buffers()})
    made.load_parameters(io.BytesIO(foreign(arrays, kind)))
    for name, own in {**made.parameters(), **made.buffers()}.items():
        np.testing.assert_allclose(np.asarray(own), arrays[name], rtol=error, atol=1e-7)


def test_a_type_that_is_not_known_is_named() -> None:
    data = foreign({"layers.0.weight": np.ones((2, 2))}, "F16").replace(b"F16", b"F8_")
    with pytest.raises(gd.FormatError, match=r"layers\.0\.weight.*'F8_'.*BF16"):
        model().load_parameters(io.BytesIO(data))


def test_version_1_is_read() -> None:
    loaded = gd.load(FILES / "model_version_1.st")
    assert loaded.classes == ("no", "yes") and loaded.outputs is None and loaded.frozen() == ["layers.1.bias"]
    with np.errstate(all="raise"):
        assert np.isfinite(loaded.predict(np.ones((2, 3), np.float32))).all()
    with pytest.raises(ValueError, match="outputs"):
        loaded.predict_proba(np.ones((2, 3), np.float32))


def first_trainer(seed: int) -> gd.Trainer:
    """The same trainer as the one that wrote checkpoint_version_1.st."""
    x = np.random.default_rng(0).standard_normal((40, 3)).astype("f")
    layers = [gd.Standardizer(3).fit(x), gd.Dense(3, 5), gd.BatchNorm(5), gd.ReLU(), gd.Dropout(0.2), gd.Dense(5, 2)]
    made = gd.Sequential(*layers, seed=seed, classes=["no", "yes"], device="cpu")
    return gd.Trainer(made, gd.CrossEntropy(), optimizer=gd.Adam(1e-2), metrics=[gd.metrics.accuracy])


def test_checkpoints_of_version_1_are_resumed() -> None:
    """Version 1 files are restored completely: the run resumes with states, history and the best weights."""
    path = FILES / "checkpoint_version_1.st"
    made = first_trainer(seed=1)
    made.load_checkpoint(path)
    tensors, _ = saving.read_file(path)
    assert (made.epoch, made.steps, made.model.seed) == (3, 9, 7)
    assert made.history["loss"] == [1.1967824075282225, 1.1791345946356988, 0.854458298785465]
    for name, own in {**made.model.parameters(), **made.model.buffers()}.items():
        helpers.same_bits(np.asarray(own), tensors[name])
    x = np.random.default_rng(0).standard_normal((40, 3)).astype("f")
    stopping = gd.EarlyStopping(patience=50)
    resumed = first_trainer(seed=1)
    callbacks = [stopping, gd.ReduceOnPlateau(patience=2)]
    y = np.array(["no", "yes"])[(x[:, 0] > 0).astype(int)]
    resumed.fit(x, y, until_epoch=4, batch_size=16, validation=(x, y), callbacks=callbacks, resume=path)
    assert resumed.epoch == 4 and stopping.best == min(resumed.history["val_loss"])


def test_a_run_resumes_with_other_initial_values(tmp_path: Path) -> None:
    """They do not matter for a model that gets the values of the file."""

    def made(**init: Any) -> gd.Trainer:
        layers = (gd.Dense(3, 5, **init), gd.ReLU(), gd.Dense(5, 2))
        return gd.Trainer(gd.Sequential(*layers, seed=2), gd.CrossEntropy(), optimizer=gd.Adam(1e-2))

    rng, path = np.random.default_rng(0), tmp_path / "run.ckpt"
    x, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    whole, other = made(), made(init=gd.GlorotUniform(), bias_init=gd.Constant(0.5))
    whole.fit(x, y, epochs=2)
    whole.save_checkpoint(path)
    whole.fit(x, y, epochs=2)
    other.load_checkpoint(path)
    other.fit(x, y, epochs=2)
    helpers.same_bits(whole.model.flat_parameters(), other.model.flat_parameters())


def test_the_package_that_writes_is_new_enough() -> None:
    """Older versions copy all arrays first; and other programs read our files with this package."""
    import safetensors
    from safetensors.numpy import load

    assert tuple(map(int, safetensors.__version__.split(".")[:2])) >= (0, 8)
    memory = io.BytesIO()
    model().save(memory)
    expected = helpers.copies({**model().parameters(), **model().buffers()})
    helpers.same_bits(dict(sorted(load(memory.getvalue()).items())), dict(sorted(expected.items())))
