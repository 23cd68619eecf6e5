"""Promise: every saved file can be read; contents that a reader would refuse are refused before a valid file is
replaced. Resuming with any other learning rate is reported."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
Y = np.arange(40) % 2


def subclasses() -> dict[str, Any]:
    """A subclass of each kind of spec, by the argument that it is given as."""

    class Wide(gd.Dense):
        width = 3

    class Scaling(gd.Standardizer):
        unit = "m"

    class Start(gd.Normal):
        pass

    class Loss(gd.CrossEntropy):
        pass

    class Rule(gd.Adam):
        def __init__(self) -> None:
            super().__init__(0.01)

    return {"Wide": Wide, "Scaling": Scaling, "Start": Start, "Loss": Loss, "Rule": Rule}


def build(own: dict[str, Any] | None = None, lr: Any = 0.01) -> gd.Trainer:
    own = subclasses() if own is None else own
    layers = [own["Scaling"](3).fit(X), own["Wide"](3, 4, init=own["Start"](0.1)), gd.Tanh(), gd.Dense(4, 2)]
    return gd.Trainer(gd.Sequential(*layers, seed=0), own["Loss"]([1.0, 2.0]), optimizer=own["Rule"]())


PLAIN = {"Wide": gd.Dense, "Scaling": gd.Standardizer, "Start": gd.Normal, "Loss": gd.CrossEntropy}
PLAIN["Rule"] = lambda: gd.Adam(0.01)


def test_subclasses_are_saved_as_what_they_are_made_from(tmp_path: Path) -> None:
    """A file holds only the values of the gdcore class; it replaces a valid file and must be readable."""
    path = tmp_path / "m"
    build(PLAIN).model.save(path)
    plain = path.read_bytes()
    model = build().model
    model.save(path)
    assert path.read_bytes() == plain
    loaded = gd.load(path)
    assert [type(layer) for layer in loaded.layers] == [gd.Standardizer, gd.Dense, gd.Tanh, gd.Dense]
    helpers.same_bits(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("first", ["plain", "own"])
def test_runs_of_subclasses_are_resumed(first: str, tmp_path: Path) -> None:
    """Runs are resumed with the same classes and with those of gdcore, which compute the same."""
    path = tmp_path / "c"
    kinds = (PLAIN, None) if first == "plain" else (None, PLAIN)
    build(kinds[0]).fit(X, Y, epochs=2, callbacks=[gd.Checkpoint(path)])
    trainer = build(kinds[1])
    trainer.fit(X, Y, until_epoch=4, resume=path)
    unbroken = build(kinds[0])
    unbroken.fit(X, Y, epochs=4)
    helpers.same_bits(helpers.copies(trainer.model.parameters()), helpers.copies(unbroken.model.parameters()))
    trainer.load_checkpoint(path)


class Keeps(gd.Callback):
    """A callback with a state in checkpoints."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.state}

    def load_state_dict(self, state: Any) -> None:
        self.state = state["kept"]


def nested(depth: int) -> Any:
    return functools.reduce(lambda inner, i: [inner] if i % 2 else {"a": inner}, range(depth), 1.0)


def endless() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def test_states_of_callbacks_are_read_back_or_refused(tmp_path: Path) -> None:
    """Nesting depths around the limit, including the last accepted and the first refused."""
    path = tmp_path / "c"
    refused = []
    for depth in range(26, 48):
        trainer = build(PLAIN)
        try:
            trainer.fit(X, Y, epochs=1, callbacks=[Keeps(nested(depth)), gd.Checkpoint(path)])
        except TypeError as error:
            assert "callbacks[0]: Keeps.state_dict()" in str(error) and "levels" in str(error)
            refused.append(depth)
        again = Keeps(None)
        build(PLAIN).fit(X, Y, until_epoch=1, callbacks=[again], resume=path)
        assert again.state == nested(depth - len(refused))
    assert 5 < len(refused) < 20
    with pytest.raises(TypeError, match="levels"):
        build(PLAIN).fit(X, Y, epochs=1, callbacks=[Keeps(endless()), gd.Checkpoint(path)])
    gd.load(path)


def set_negative(trainer: gd.Trainer) -> None:
    trainer.model.buffers()["layers.0.std"][...] = -1.0


def set_history(trainer: gd.Trainer) -> None:
    trainer.history.append({"epoch": 1, "loss": 1.0})


def set_fraction(trainer: gd.Trainer) -> None:
    trainer.history.append({"epoch": 2.5, "loss": 1.0})


def set_steps(trainer: gd.Trainer) -> None:
    trainer.steps = 2**62
    trainer.step(X, Y)


@pytest.mark.parametrize("spoil", [set_negative, set_history, set_fraction, set_steps])
def test_what_could_not_be_read_replaces_nothing(spoil: Callable[[gd.Trainer], None], tmp_path: Path) -> None:
    path = tmp_path / "c"
    trainer = build(PLAIN)
    trainer.fit(X, Y, epochs=1, callbacks=[gd.Checkpoint(path)])
    before = path.read_bytes()
    spoil(trainer)
    with pytest.raises(ValueError, match="cannot be saved, as it could not be read"):
        trainer.save_checkpoint(path)
    if spoil is set_negative:
        with pytest.raises(ValueError, match=r"could not be read.*layers\.0\.std"):
            trainer.model.save(path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_steps_that_no_checkpoint_holds_are_refused(tmp_path: Path) -> None:
    trainer = build(PLAIN)
    for steps in (2**62 + 1, 2**63, 2**70):
        with pytest.raises(ValueError, match=r"steps: got .*2\*\*62"):
            trainer.steps = steps
    assert trainer.steps == 0
    trainer.steps = 2**62
    trainer.save_checkpoint(tmp_path / "c")
    build(PLAIN).load_checkpoint(tmp_path / "c")


def rate(step: int, lr: float = 0.1) -> float:
    return lr / (1 + step)


def named(lr: float) -> Any:
    def one(step: int) -> float:
        return lr

    return one


def by_default(lr: float) -> Any:
    def one(step: int, base: float = lr) -> float:
        return base

    return one


class Rates:
    def __init__(self, lr: float) -> None:
        self.lr = lr

    def __repr__(self) -> str:
        return f"<Rates of {self.lr} at {hex(id(self))}>"

    def at(self, step: int) -> float:
        return self.lr

    __call__ = at


RATES: dict[str, Callable[[float], Any]] = {
    "number": float,
    "schedule": lambda lr: gd.schedules.cosine(lr, 100),
    "length of a warm-up": lambda lr: gd.schedules.warmup(rate, int(lr * 1000)),
    "warm-up of a schedule": lambda lr: gd.schedules.warmup(gd.schedules.exponential(lr, 0.9), 5),
    "warm-up of a function": lambda lr: gd.schedules.warmup(named(lr), 5),
    "partial": lambda lr: functools.partial(rate, lr=lr),
    "partial of a partial": lambda lr: functools.partial(functools.partial(rate, lr=lr)),
    "warm-up of a partial": lambda lr: gd.schedules.warmup(functools.partial(rate, lr=lr), 5),
    "variable": named,
    "default": by_default,
    "object": Rates,
    "method": lambda lr: Rates(lr).at,
}


@pytest.mark.parametrize("how", RATES)
def test_other_rates_are_refused(how: str, tmp_path: Path) -> None:
    def run(lr: float, **options: Any) -> gd.Trainer:
        trainer = gd.Trainer(gd.Sequential(gd.Dense(3, 2), seed=0), gd.CrossEntropy(), optimizer=gd.SGD(RATES[how](lr)))
        trainer.fit(X, Y, epochs=2, **options)
        return trainer

    run(0.1, callbacks=[gd.Checkpoint(tmp_path / "c")])
    with pytest.raises(ValueError, match=r"other settings: .*optimizer\.lr.*saved"):
        run(0.9, resume=tmp_path / "c")
    run(0.1, resume=tmp_path / "c")


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (".onnx", "by its ending a network in ONNX; gdcore reads .safetensors files, .*onnxruntime computes it$"),
        (".PTH", r"by its ending a module or arrays of PyTorch; .* gd\.from_torch_module\(module\) converts"),
        (".joblib", "by its ending pickled objects; .* never pickle$"),
        (".keras", "by its ending a model of Keras; "),
        (".bin", "damaged, cut short, or not a safetensors file"),
    ],
)
def test_files_of_other_formats_are_told_by_their_endings(ending: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{ending}"
    path.write_bytes(b"PK\x03\x04 and so on, of another library")
    for read in (gd.load, gd.Sequential(gd.Dense(2, 1), seed=0).load_parameters):
        with pytest.raises(gd.FormatError, match=rf"{re.escape(str(path))}: {words}"):
            read(path)
    gd.Sequential(gd.Dense(2, 1), seed=0).save(path.with_suffix(".safetensors"))
    path.with_suffix(".safetensors").rename(path)
    assert gd.load(path).out_features == 1  # whatever it is called


@pytest.mark.parametrize("ending", [".onnx", ".pt", ".PTH", ".keras", ".h5", ".pkl", ".npz"])
def test_endings_of_other_formats(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"a file in use")
    model = gd.Sequential(gd.Dense(2, 3), seed=0)
    for given in (path, str(path)):
        with pytest.raises(ValueError, match=rf"ending \{ending.lower()}; expected \.safetensors"):
            model.save(given)
    assert path.read_bytes() == b"a file in use"
    with path.open("wb") as file:
        model.save(file)  # an open file is meant
    assert gd.load(path).layers[0].out_features == 3
