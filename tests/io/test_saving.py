"""Promise: a saved model is restored completely (architecture, values, scaling, class names, frozen layers) bit for
bit; a truncated, damaged, newer or foreign file gives a FormatError, never a crash and never a wrong model; writing
is all or nothing."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.io import saving


def everything(dtype: str = "float32", seed: int = 5) -> gd.Sequential:
    """A small model with every layer and awkward settings."""
    x = np.random.default_rng(0).standard_normal((50, 3)) * 10 + 5
    model = gd.Sequential(
        gd.Standardizer(3).fit(x), gd.Dense(3, 4, init=gd.GlorotUniform(), bias_init=gd.Constant(0.1)), gd.BatchNorm(4),
        gd.ReLU(), gd.Dense(4, 5, bias=False, init=gd.Normal(0.2)), gd.BatchNorm(5, 0.8, eps=1e-3, running="variance"),
        gd.LeakyReLU(0.2), gd.Dropout(0.25), gd.LayerNorm(5, 1e-4, affine=False), gd.GELU(approximate="tanh"),
        gd.Dense(5, 4), gd.Softplus(), gd.LayerNorm(4), gd.Tanh(), gd.Dense(4, 2), gd.Sigmoid(), seed=seed, dtype=dtype,
        classes=["Grüße", "日本"],
    )  # fmt: skip
    model.freeze("layers.1", "layers.10.bias")
    for _ in range(3):
        model.forward(x.astype(dtype))
    return model


def identical(a: gd.Sequential, b: gd.Sequential) -> None:
    assert a.layers == b.layers and repr(a.layers) == repr(b.layers)
    assert (a.dtype, a.seed, a.classes, a.frozen()) == (b.dtype, b.seed, b.classes, b.frozen())
    helpers.same_bits(helpers.copies(a.parameters()), helpers.copies(b.parameters()))
    helpers.same_bits(helpers.copies(a.buffers()), helpers.copies(b.buffers()))
    x = np.random.default_rng(1).standard_normal((9, a.in_features)).astype(a.dtype)
    helpers.same_bits(a.predict(x), b.predict(x))
    helpers.same_bits(np.array(a.forward(x)), np.array(b.forward(x)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(dtype: str, tmp_path: Path) -> None:
    model = everything(dtype)
    model.save(tmp_path / "model.safetensors")
    loaded = gd.load(tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == ["model.safetensors"]
    loaded.save(str(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    identical(loaded, model)


def test_copying_and_pickling() -> None:
    model = everything()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.copy(model)):
        identical(other, everything())
        other.set_flat_parameters(np.zeros(other.flat_parameters().shape))
    assert (model.flat_parameters() != 0).any()


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    model = everything()
    model.save(tmp_path / "m")
    arrays = numpy_files.load_file(tmp_path / "m")
    assert set(arrays) == {*model.parameters(), *model.buffers()}
    for name, view in {**model.parameters(), **model.buffers()}.items():
        helpers.same_bits(arrays[name], np.array(view))
    assert b"pickle" not in (tmp_path / "m").read_bytes()


def attempt(path: Path, original: bytes) -> str:
    """Load a damaged file: "refused", or "whole" if it is bit for bit the model; anything else fails."""
    try:
        model = gd.load(path)
    except gd.FormatError as error:
        assert str(path) in str(error)
        return "refused"
    model.save(path.with_suffix(".check"))
    assert path.with_suffix(".check").read_bytes() == original, "a damaged file was loaded as another model"
    return "whole"


def test_truncation_at_every_length(tmp_path: Path) -> None:
    everything().save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    damaged = tmp_path / "damaged"
    lengths = [*range(0, 200), *range(200, len(whole), 37), *range(len(whole) - 20, len(whole))]
    for length in lengths:
        damaged.write_bytes(whole[:length])
        assert attempt(damaged, whole) == "refused", length
    damaged.write_bytes(whole + b"\0")
    assert attempt(damaged, whole) == "refused"
    damaged.write_bytes(whole)
    assert attempt(damaged, whole) == "whole"


def test_flipped_bytes(tmp_path: Path, rng: helpers.Generator) -> None:
    everything().save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    damaged = tmp_path / "damaged"
    outcomes = []
    for at in [*range(16), *range(16, len(whole), 7)]:
        changed = bytearray(whole)
        changed[at] ^= int(rng.integers(1, 256))
        damaged.write_bytes(changed)
        outcomes.append(attempt(damaged, whole))
    assert outcomes.count("refused") >= 0.98 * len(
        outcomes
    )  # white space of the header may be flipped into white space


@pytest.mark.parametrize(
    "damage", ["zeros", "swap", "double", "random", "empty", "text", "header length", "huge header"]
)
def test_other_damage(damage: str, tmp_path: Path, rng: helpers.Generator) -> None:
    everything().save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    half = len(whole) // 2
    changed = {
        "zeros": whole[:-300] + bytes(300),
        "swap": whole[:half] + whole[half:][::-1],
        "double": whole + whole,
        "random": rng.bytes(5000),
        "empty": b"",
        "text": b"{" * 4000,
        "header length": (2**63).to_bytes(8, "little") + whole[8:],
        "huge header": (2**40).to_bytes(8, "little") + whole[8:],
    }[damage]
    (tmp_path / "m").write_bytes(changed)
    assert attempt(tmp_path / "m", whole) == "refused"


def rewritten(path: Path, **changes: Any) -> None:
    """Write the model's file again with other metadata and a checksum that fits."""
    tensors, metadata = saving.read_file(path)
    saving.write_file(path, tensors, {k: v for k, v in {**metadata, **changes}.items() if v is not None})


DESCRIPTIONS: list[Any] = [
    None, "", "[]", "null", "{}", "{" * 5000, "[" * 100_000, '{"layers": []}', '{"layers": 3, "dtype": "float32"}',
]  # fmt: skip


@pytest.mark.parametrize("text", DESCRIPTIONS, ids=lambda t: repr(t)[:20])
def test_metadata_that_makes_no_sense(text: Any, tmp_path: Path) -> None:
    everything().save(tmp_path / "m")
    rewritten(tmp_path / "m", model=text)
    with pytest.raises(gd.FormatError):
        gd.load(tmp_path / "m")


@pytest.mark.parametrize("key", ["layers", "dtype", "seed", "classes", "frozen"])
@pytest.mark.parametrize("value", [None, -1, 1e400, "x", [], {}, [[]], [None], "remove"], ids=repr)
def test_descriptions_with_one_wrong_value(key: str, value: Any, tmp_path: Path) -> None:
    everything().save(tmp_path / "m")
    description = json.loads(saving.read_file(tmp_path / "m")[1]["model"])
    description[key] = value
    if value == "remove":
        del description[key]
    rewritten(tmp_path / "m", model=json.dumps(description))
    if (key, value) in (("classes", None), ("frozen", [])):
        gd.load(tmp_path / "m")
        return
    with pytest.raises(gd.FormatError):
        gd.load(tmp_path / "m")


def test_newer_and_foreign_files(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    for version in ("1", "3", "99", "x", ""):
        everything().save(tmp_path / "m")
        rewritten(tmp_path / "m", format_version=version)
        with pytest.raises(gd.FormatError, match="version"):
            gd.load(tmp_path / "m")
    save_file({"layers.0.weight": np.ones((2, 2), "f")}, tmp_path / "foreign")
    with pytest.raises(gd.FormatError, match="gdcore"):
        gd.load(tmp_path / "foreign")
    for name, content in (
        ("pickle", pickle.dumps({"a": 1})),
        ("npy", b"\x93NUMPY" + bytes(100)),
        ("zip", b"PK\3\4" + bytes(99)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(gd.FormatError):
            gd.load(tmp_path / name)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("old", [True, False])
def test_an_error_at_any_stage_leaves_the_old_file(old: bool, function: str, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "m"
    if old:
        everything(seed=1).save(path)
    before = path.read_bytes() if old else None

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space"):
            everything(seed=2).save(path)
    assert os.listdir(tmp_path) == (["m"] if old else [])
    assert not old or path.read_bytes() == before


@pytest.mark.parametrize("limit", [0, 1, 100, 4096])
def test_a_full_disk_leaves_the_old_file(limit: int, tmp_path: Path) -> None:
    """The system's file size limit stands in for the full disk."""
    helpers.must_run(
        """
        import os, resource, signal, sys
        import gdcore as gd
        path, limit = sys.argv[1], int(sys.argv[2])
        gd.Sequential(gd.Dense(50, 50), seed=1).save(path)
        before = open(path, "rb").read()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            gd.Sequential(gd.Dense(50, 50), seed=2).save(path)
        except OSError as error:
            assert "m.safetensors" in str(error), error
        else:
            raise SystemExit("saved beyond the limit")
        assert open(path, "rb").read() == before
        assert os.listdir(os.path.dirname(path)) == ["m.safetensors"], os.listdir(os.path.dirname(path))
        """,
        str(tmp_path / "m.safetensors"),
        str(limit),
    )
