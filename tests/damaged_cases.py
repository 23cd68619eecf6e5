"""Files of a trained model, and functions that read them: the result is a refusal or the saved values."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import gdcore as gd
import helpers
import numpy as np
from gdcore.io import saving

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


Y = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]


SETTINGS: dict[str, Any] = {"batch_size": 16, "validation": (X, Y)}


def make(seed: int = 1) -> gd.Trainer:
    model = gd.Sequential(
        gd.Standardizer(3).fit(X), gd.Dense(3, 5, init=gd.Normal(0.2)), gd.BatchNorm(5), gd.LeakyReLU(0.1),
        gd.Dropout(0.2), gd.Dense(5, 2), seed=seed, classes=["no", "yes"], device="cpu",
    )  # fmt: skip
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(1e-2), metrics=[gd.metrics.accuracy], seed=seed)


def callbacks() -> list[Any]:
    return [gd.EarlyStopping(patience=50), gd.ReduceOnPlateau(patience=2)]


class Stop:
    """Writes a checkpoint inside the third epoch."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def on_progress(self, trainer: gd.Trainer, batch: int, batches: int | None, loss: float) -> None:
        if trainer.epoch == 2:
            trainer.save_checkpoint(self.file)


def saved() -> bytes:
    trainer, stop = make(), Stop()
    trainer.model.freeze("layers.1.bias")
    trainer.fit(X, Y, epochs=3, callbacks=[*callbacks(), stop], **SETTINGS)
    return stop.file.getvalue()


WHOLE = saved()


TENSORS, METADATA = saving.read_file(io.BytesIO(WHOLE))


def written(tensors: Any, metadata: Any) -> bytes:
    """A file with a valid checksum for any content."""
    file = io.BytesIO()
    saving.write_file(file, tensors, metadata)
    return file.getvalue()


def state(trainer: gd.Trainer, made: list[Any]) -> dict[str, Any]:
    """Everything that a checkpoint can change."""
    kept = {f"{i}.{key}": np.array(value) for i, c in enumerate(made) for key, value in c.state_dict().items()}
    model = trainer.model
    return {
        **helpers.copies({**model.parameters(), **model.buffers()}),
        **{f"optimizer.{name}": np.array(array) for name, array in trainer.core.state().items()},
        **{name: np.array(column) for name, column in trainer.history.items()},
        **kept,
        "numbers": np.array([model.seed, trainer.seed, trainer.steps, trainer.epoch, trainer.lr_scale]),
        "names": np.array([*model.frozen(), "", repr(model.layers), repr(model.classes)]),
    }


def load(file: io.BytesIO) -> dict[str, Any]:
    model = gd.load(file, device="cpu")
    return {**helpers.copies({**model.parameters(), **model.buffers()}), "layers": np.array(repr(model.layers))} | {
        "names": np.array([*model.frozen(), model.dtype, repr(model.classes), repr(model.outputs)]),
        "seed": np.array(model.seed),
    }


def into_trainer(take: Callable[[gd.Trainer, list[Any], io.BytesIO], None]) -> Callable[[io.BytesIO], dict[str, Any]]:
    def read(file: io.BytesIO) -> dict[str, Any]:
        trainer, made = make(seed=5), callbacks()
        before = state(trainer, made)
        try:
            take(trainer, made, file)
        except BaseException:
            helpers.same_bits(state(trainer, made), before)
            raise
        return state(trainer, made)

    return read


class Here(Exception):
    """Ends a resumed run at its start."""


class End:
    def on_epoch_begin(self, trainer: gd.Trainer) -> None:
        raise Here


def resume(trainer: gd.Trainer, made: list[Any], file: io.BytesIO) -> None:
    made[0].restore_best = False  # so that the end of the run does not change the weights
    try:
        trainer.fit(X, Y, until_epoch=4, callbacks=[*made, End()], resume=file, **SETTINGS)
    except Here:
        return


READERS: dict[str, Callable[[io.BytesIO], dict[str, Any]]] = {
    "load": load,
    "load_checkpoint": into_trainer(lambda trainer, _, file: trainer.load_checkpoint(file)),
    "resume": into_trainer(resume),
}


EXPECTED = {name: read(io.BytesIO(WHOLE)) for name, read in READERS.items()}


def refusals(data: bytes, *, settings: bool = False) -> list[str]:
    """Read a file with all readers; return those that refused it. Values that they accept must be the saved ones.

    `settings`: whether readers that compare settings may also refuse the file for other settings.
    """
    refused = []
    for name, read in READERS.items():
        try:
            got = read(io.BytesIO(data))
        except gd.FormatError as error:
            assert "BytesIO" in str(error) and len(str(error)) < 2000, error
            refused.append(name)
        except ValueError as error:
            assert settings and name != "load" and "settings" in str(error), (name, error)
            refused.append(name)
        else:
            helpers.same_bits(got, EXPECTED[name])
    return refused


ALL = list(READERS)


NONSENSE: list[Any] = ["x", -7, 2**70, float("nan"), [[]], {"type": "x"}, None, "remove"]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The positions of all entries of a JSON value; of lists, only the first and the last."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*at, key)
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for i in sorted({0, len(value) - 1} if value else ()):
            yield (*at, i)
            yield from places(value[i], (*at, i))


def put(tree: Any, at: tuple[Any, ...], value: Any) -> None:
    """Change or remove an entry of a JSON value."""
    holder = tree
    for step in at[:-1]:
        holder = holder[step]
    if value == "remove":
        del holder[at[-1]]
    else:
        holder[at[-1]] = value
