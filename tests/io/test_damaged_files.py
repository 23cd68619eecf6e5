"""Promise: reading a file with any contents gives the saved state, or a FormatError that names the file and leaves
model, trainer and callbacks unchanged; no crash, and no more memory or time than the file's size justifies."""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from damaged_cases import ALL, METADATA, NONSENSE, READERS, TENSORS, WHOLE, places, put, refusals, written
from gdcore.io import tensor_file


def test_the_whole_file_is_taken() -> None:
    assert refusals(WHOLE) == [] and refusals(written(TENSORS, METADATA)) == []


@pytest.mark.parametrize("part", range(4))
def test_flipped_bits(part: int) -> None:
    rng = helpers.generator("flipped", part)
    header = int.from_bytes(WHOLE[:8], "little") + 8
    for i in range(30):
        changed = bytearray(WHOLE)
        at = int(rng.integers(8 if i % 2 else header)) if i % 3 else int(rng.integers(len(WHOLE)))
        changed[at] ^= 1 << int(rng.integers(8))
        refused = refusals(bytes(changed))
        assert refused == ALL or changed[at] in b"\t\n\r ", at  # white space of the header


def test_truncation_and_what_follows() -> None:
    lengths = [*range(0, 24), *range(24, len(WHOLE), len(WHOLE) // 30), len(WHOLE) - 1]
    for length in lengths:
        assert refusals(WHOLE[:length]) == ALL, length
    for more in (b"\0", b" ", WHOLE):
        assert refusals(WHOLE + more) == ALL


# ------------------------------------------------------------------------------- right checksum, nonsense inside
def changed(part: str, at: tuple[Any, ...], value: Any) -> bytes:
    tree = json.loads(METADATA[part])
    put(tree, at, value)
    return written(TENSORS, {**METADATA, part: json.dumps(tree)})


PLACES = [(part, at) for part in ("model", "training") for at in places(json.loads(METADATA[part]))]


def makes_sense(part: str, at: tuple[Any, ...], value: Any) -> bool:
    """Whether another run could have had a value at this position."""
    number = isinstance(value, int)
    if value is None:
        return (part, *at) in {("model", "classes"), ("model", "outputs")}
    if value == "remove":
        return at[0] in ("frozen", "callbacks") and len(at) == 2
    if at[0] in ("history", "classes") and len(at) == 2:
        return value == "x" or (number and at[0] == "classes")
    scaling = at[0] == "layers" and at[2:3] in (("mean",), ("std",)) and (value != -7 or at[2] == "mean")
    return number and (scaling or at[-1] in ("value", "best") or (at[-1] in ("lr_scale", "decay_scale") and value > 0))


SAID = {"settings", "loss", "optimizer", "dropout_schedule"}  # what is compared with the arguments as it is


def test_there_are_enough_places() -> None:
    assert len(PLACES) * len(NONSENSE) > 400


@pytest.mark.parametrize(("part", "at"), PLACES, ids=lambda value: ".".join(map(str, value)) if value else "")
def test_nonsense_at_every_place(part: str, at: tuple[Any, ...]) -> None:
    for value in NONSENSE:
        if makes_sense(part, at, value):
            continue
        data = changed(part, at, value)
        try:
            compared = at[0] in SAID or part == "model" or at[-1] in ("type", "monitor", "mode")
            refused = refusals(data, settings=compared)
        except BaseException as error:
            error.add_note(f"{part} {at} = {value!r:.40}")
            raise
        if part == "training":
            assert "load" not in refused, (at, value)  # the model in it is whole


@pytest.mark.parametrize("part", ["model", "training"])
def test_entries_that_are_not_known(part: str) -> None:
    tree = json.loads(METADATA[part])
    whole = [*READERS][0 if part == "model" else 1 :]
    assert refusals(written(TENSORS, {**METADATA, part: json.dumps({**tree, "more": 1})})) == whole
    for text in ("", "[]", "null", "{}", "{" * 5000, "[" * 100_000, '{"layers": []}', "3", '"x"', "\ud800"):
        assert refusals(written(TENSORS, {**METADATA, part: text})) == whole, text
    without = {key: value for key, value in METADATA.items() if key != part}
    assert refusals(written(TENSORS, without)) == whole


ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "gone": lambda array: None,
    "longer": lambda array: np.concatenate([array, array]),
    "empty": lambda array: array[:0],
    "a number": lambda array: array.dtype.type(0),
    "three dimensions": lambda array: array[None, ..., None],
    "text": lambda array: np.zeros(array.shape, np.uint8),
    "half": lambda array: array.astype(np.float16),
    "other width": lambda array: array.astype(np.float64 if array.dtype != np.float64 else np.float32),
    "bool": lambda array: np.ones(array.shape, bool),
}


@pytest.mark.parametrize("name", TENSORS)
def test_arrays_that_do_not_fit(name: str) -> None:
    for kind, change in ARRAYS.items():
        array = change(TENSORS[name])
        tensors = {key: value for key, value in {**TENSORS, name: array}.items() if value is not None}
        refused = refusals(written({key: np.asarray(value) for key, value in tensors.items()}, METADATA))
        if name.startswith("training."):
            assert "load" not in refused, kind
            whole = kind == "other width" and TENSORS[name].dtype.kind == "i"  # epochs as floats are the same epochs
            assert whole or "resume" in refused, kind
        else:
            assert refused == ALL, kind
    renamed = {(f"{key}x" if key == name else key): value for key, value in TENSORS.items()}
    assert "resume" in refusals(written(renamed, METADATA))


def test_arrays_too_many() -> None:
    for name in ("layers.0.more", "", "x", "layers.99.weight"):
        assert refusals(written({**TENSORS, name: np.ones(3)}, METADATA)) == ALL
    for name in ("training.optimizer.7", "training.history.99", "training.callbacks.0.more", "training.x"):
        assert refusals(written({**TENSORS, name: np.ones(3)}, METADATA)) == ALL[1:]


def test_numbers_come_back_as_they_are() -> None:
    """NaN and infinities among the weights are restored as saved."""
    for value in (np.nan, np.inf, -0.0, 1e-42, 3e38):
        tensors = {**TENSORS, "layers.1.weight": np.full_like(TENSORS["layers.1.weight"], value)}
        model = gd.load(io.BytesIO(written(tensors, METADATA)))
        helpers.same_bits(np.array(model.parameters()["layers.1.weight"]), tensors["layers.1.weight"])


def test_histories_that_cannot_be() -> None:
    epochs = f"training.history.{json.loads(METADATA['training'])['history'].index('epoch')}"
    for column in ([1.0, np.nan], [0, 1], [2, 1], [1, 1], [1.5, 2.5], [1, 2**60], [-1, 2], [[1, 2]]):
        assert refusals(written({**TENSORS, epochs: np.array(column)}, METADATA)) == ALL[1:], column


VERSIONS = ["0", "1", "3", "99", "-2", "2.0", "", "x", "²"]


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_that_are_not_known(version: str) -> None:
    assert refusals(written(TENSORS, {**METADATA, "format_version": version})) == ALL


# ------------------------------------------------------------------------------------ nonsense in the file itself
def raw(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def parts() -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(WHOLE[:8], "little")
    return json.loads(WHOLE[8 : 8 + length]), WHOLE[8 + length :]


ENTRIES: list[Any] = [
    {"shape": [2, -1]}, {"shape": [2**62, 2**62]}, {"shape": [0, 2**62]}, {"shape": [1] * 100}, {"shape": "x"},
    {"shape": [1.0]}, {"shape": [True]}, {"shape": None}, {"dtype": "F99"}, {"dtype": 3}, {"dtype": None},
    {"data_offsets": [0, 10**18]}, {"data_offsets": [-8, 0]}, {"data_offsets": [8, 0]}, {"data_offsets": [0]},
    {"data_offsets": "x"}, {"data_offsets": [0.0, 1e400]}, {"data_offsets": [2**70, 2**71]}, {"more": 1},
    {"shape": [2**62] * 32},
]  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: repr(entry)[:40])
def test_entries_of_the_header(entry: dict[str, Any]) -> None:
    for name in ("layers.1.weight", "training.history.0", "layers.0.mean"):
        header, body = parts()
        header[name] |= entry
        assert refusals(raw(header, body)) == ALL
        header[name] = list(entry)
        assert refusals(raw(header, body)) == ALL


def test_headers_that_cannot_be() -> None:
    header, body = parts()
    text = json.dumps(header).encode()
    twice = text.replace(
        b'"layers.1.bias":', b'"layers.1.bias":' + json.dumps(header["layers.1.bias"]).encode() + b',"layers.1.bias":'
    )
    no_metadata = {key: value for key, value in header.items() if key != "__metadata__"}
    overlap = copy.deepcopy(header)
    overlap["layers.1.bias"]["data_offsets"] = overlap["layers.5.bias"]["data_offsets"]
    cases = [
        twice, b"", b"{}", b"[]", b"null", b"{" * 9000, b"[" * 100_000, b'{"a":' * 9000, b"\xff\xfe" * 10, text[:-1],
        {**header, "__metadata__": []}, {**header, "__metadata__": {"gdcore": 3}}, no_metadata, overlap,
        {**header, "__metadata__": {"gdcore": "{" * 90}}, {**header, "__metadata__": {"gdcore": "[]"}},
        {**header, "__metadata__": {"gdcore": "[" * 100_000}}, {**header, "__metadata__": {}},
        text + b"\0" * 9, b"9" * 5000,
    ]  # fmt: skip
    for case in cases:
        assert refusals(raw(case, body)) == ALL, repr(case)[:80]
    for length in (0, 1, 7, 2**20, 100_000_001, 2**40, 2**63, 2**64 - 1):
        assert refusals(struct.pack("<Q", length) + WHOLE[8:]) == ALL


@pytest.mark.parametrize("entry", ["seed", "layers", "checksum", "model", "steps", "format_version", "init"])
def test_keys_that_are_there_twice(entry: str) -> None:
    """Duplicate keys are ambiguous for a reader; the checksum covers only one of them."""
    header, body = parts()
    text = header["__metadata__"]["gdcore"]
    assert f'"{entry}":' in text
    header["__metadata__"]["gdcore"] = text.replace(f'"{entry}":', f'"{entry}": 1, "{entry}":', 1)
    assert refusals(raw(header, body)) == ALL
    inner = METADATA["training" if entry == "steps" else "model"]
    if f'"{entry}":' in inner:  # as text, which is used unchanged, with a matching checksum
        values = {**METADATA, "model": inner.replace(f'"{entry}":', f'"{entry}": 1, "{entry}":', 1)}
        values["checksum"] = tensor_file.checksum(TENSORS, values)
        header["__metadata__"]["gdcore"] = json.dumps(values)
        assert refusals(raw(header, body)) == ALL


def test_claims_take_neither_memory_nor_time() -> None:
    """Files that claim networks or arrays far larger than the file are read in half a gigabyte of address space."""
    helpers.must_run(
        """
        import io, json, resource, time
        import gdcore as gd
        from gdcore.io import saving
        model = gd.Sequential(gd.Dense(2, 2), seed=0, device="cpu")
        model.save(io.BytesIO())
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        dense = {"type": "Dense", "in_features": 2, "out_features": 2}
        cases = [[{**dense, "in_features": n, "out_features": m}] for n, m in
                 [(10**4, 10**4), (10**6, 10**6), (2**31, 2**31), (2**62, 2), (2, 2**62), (10**9, 1)]]
        cases += [[dense, {"type": "BatchNorm", "features": 10**12}], [{"type": "LayerNorm", "features": 2**40}]]
        cases += [[dense] * 100_000]
        for layers in cases:
            file = io.BytesIO()
            described = {**saving.describe(model), "layers": layers}
            saving.write_file(file, saving.model_tensors(model), {"model": json.dumps(described)})
            file.seek(0)
            start = time.process_time()
            try:
                gd.load(file)
            except gd.FormatError as error:
                assert "layers" in str(error), error
            else:
                raise SystemExit("accepted")
            assert time.process_time() - start < 20, layers[0]
        """
    )
