"""Promise: an ensemble read from a file is the one that was saved, bit for bit; the same ensemble gives the same bytes;
a damaged or senseless file is a FormatError, and readers of one model say what the file holds."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from damaged_cases import NONSENSE, places, put
from gdcore.io import tensor_file

X = np.random.default_rng(0).standard_normal((40, 3))


def ensemble(**options: Any) -> gd.Ensemble:
    first = gd.Sequential(
        gd.Standardizer(3).fit(X), gd.Dense(3, 5, name="models"), gd.BatchNorm(5), gd.ReLU(), gd.Dense(5, 2),
        seed=1, classes=["no", "yes"], outputs="classes", feature_names=["a", "b", "c"], device="cpu",
    )  # fmt: skip
    first.freeze("models.bias")
    second = gd.Sequential(
        gd.Dense(3, 2), seed=2, classes=["no", "yes"], outputs="classes", dtype="float64", device="cpu"
    )
    return gd.Ensemble([first, second], **{"weights": [0.1, 3], "average": "outputs"} | options)


def saved(made: gd.Ensemble) -> bytes:
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


def load(data: bytes) -> Any:
    return gd.load(io.BytesIO(data), device="cpu")


def test_everything_comes_back(tmp_path: Path) -> None:
    made = ensemble()
    made.save(tmp_path / "e.safetensors")
    read = gd.load(tmp_path / "e.safetensors", device="cpu")
    assert isinstance(read, gd.Ensemble)
    assert (read.weights, read.average, read.classes, read.outputs) == ((0.1, 3.0), "outputs", ("no", "yes"), "classes")
    assert read.feature_names == ("a", "b", "c")
    for one, other in zip(made, read, strict=True):
        assert repr(one) == repr(other) and one.settings() == other.settings() and one.frozen() == other.frozen()
        helpers.same_bits(one.copy_state()["parameters"], other.copy_state()["parameters"])
        helpers.same_bits(one.copy_state()["buffers"], other.copy_state()["buffers"])
    for name in ("predict", "predict_proba", "predict_classes", "predict_std"):
        helpers.same_bits(getattr(read, name)(X), getattr(made, name)(X))
    assert saved(read) == saved(made) == (tmp_path / "e.safetensors").read_bytes()
    assert saved(made) != saved(ensemble(average="probabilities")) != saved(ensemble(weights=[0.1, 2]))


def test_flipped_and_missing_bytes() -> None:
    whole, rng = saved(ensemble()), helpers.generator("ensemble")
    for i in range(60):
        data = bytearray(whole)
        at = int(rng.integers(len(data)))
        if i % 2:
            data[at] ^= 1 << int(rng.integers(8))
            if data[at] in b"\t\n\r ":
                continue
        else:
            del data[at:]
        with pytest.raises(gd.FormatError, match="BytesIO"):
            load(bytes(data))


def rewritten(change: Any) -> bytes:
    """The file with other contents and a valid checksum."""
    tensors, metadata = tensor_file.read_file(io.BytesIO(saved(ensemble())))
    described = json.loads(metadata["ensemble"])
    change(tensors, described)
    file = io.BytesIO()
    version = tensor_file.ENSEMBLE_VERSION
    tensor_file.write_file(file, tensors, {"ensemble": json.dumps(described)}, version=version)
    return file.getvalue()


def test_the_rewritten_file_is_the_same() -> None:
    assert rewritten(lambda tensors, described: None) == saved(ensemble())


CHANGES = {
    "an array is missing": lambda t, d: t.pop("models.1.layers.0.bias"),
    "another shape": lambda t, d: t.update({"models.1.layers.0.bias": np.zeros(3)}),
    "another dtype": lambda t, d: t.update({"models.1.layers.0.bias": np.zeros(2, np.float32)}),
    "an array too many": lambda t, d: t.update({"models.1.layers.7.bias": np.zeros(2)}),
    "of no model": lambda t, d: t.update({"models.2.layers.0.bias": np.zeros(2)}),
    "of nothing": lambda t, d: t.update({"other": np.zeros(2)}),
    "a negative deviation": lambda t, d: t["models.0.layers.0.std"].fill(-1.0),
    "a model is missing": lambda t, d: d["models"].pop(),
    "no models": lambda t, d: (t.clear(), d["models"].clear(), d["weights"].clear()),
    "a weight is missing": lambda t, d: d["weights"].pop(),
    "a weight of 0": lambda t, d: d["weights"].__setitem__(0, 0),
    "models that differ": lambda t, d: d["models"][0].update(classes=["yes", "no"]),
    "another mean": lambda t, d: d.update(average="median"),
    "an unknown entry": lambda t, d: d.update(more=1),
    "frozen nonsense": lambda t, d: d["models"][0].update(frozen=["x"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_senseless_contents_are_refused(case: str) -> None:
    with pytest.raises(gd.FormatError, match="BytesIO"):
        load(rewritten(CHANGES[case]))


PLACES = list(places(json.loads(tensor_file.read_file(io.BytesIO(saved(ensemble())))[1]["ensemble"])))


@pytest.mark.parametrize("at", PLACES, ids=str)
def test_nonsense_anywhere_is_refused_or_harmless(at: tuple[Any, ...]) -> None:
    for value in NONSENSE:
        try:
            read = load(rewritten(lambda tensors, described, value=value: put(described, at, value)))
        except gd.FormatError as error:
            assert "BytesIO" in str(error) and len(str(error)) < 2000
        else:
            assert isinstance(read, gd.Ensemble) and len(read) == 2


def test_earlier_and_other_readers_say_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    ensemble().save(path)
    _, metadata = tensor_file.read_file(path)
    assert metadata["format_version"] == "3"  # which earlier readers refuse: "of format version '3' ...: update gdcore"
    trainer = gd.Trainer(ensemble()[0], gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    helpers.refuses(lambda: trainer.load_checkpoint(path), gd.FormatError, "without a training state")
    other = gd.Sequential(*ensemble()[0].layers, seed=9, device="cpu")
    other.load_parameters(path, prefix="models.0.")
    helpers.same_bits(other.copy_state()["parameters"], ensemble()[0].copy_state()["parameters"])


def test_ensembles_that_could_not_be_read_are_not_saved(tmp_path: Path) -> None:
    made, path = ensemble(), tmp_path / "e"
    made.save(path)
    before = path.read_bytes()
    made[0].buffers()["layers.0.std"][...] = 0
    helpers.refuses(lambda: made.save(path), ValueError, r"cannot be saved.*models\[0\]: layers.0.std")
    made = ensemble()
    made[0].classes = None
    helpers.refuses(lambda: made.save(path), ValueError, r"models\[1\]: classes")
    assert path.read_bytes() == before


def test_settings_of_a_load(device: str) -> None:
    read = gd.load(io.BytesIO(saved(ensemble())), device=device)
    assert isinstance(read, gd.Ensemble) and read.device == device
    np.testing.assert_allclose(read.predict(X), ensemble().predict(X), rtol=1e-5, atol=1e-6)
    halves = gd.load(io.BytesIO(saved(gd.Ensemble(ensemble()[:1]))), device="cpu", precision="bfloat16")
    assert halves[0].precision == "bfloat16"
    helpers.refuses(lambda: gd.load(io.BytesIO(saved(ensemble())), device="gpu"), ValueError, "device")
