"""Comparisons and guarded arrays of the tests; tests/house/test_helpers.py shows that each of them can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Mapping
from typing import Any

import gdcore as gd
import numpy as np
import oracle
import oracle_network
import pytest

Generator = np.random.Generator
EMULATED = "GDCORE_CUDA_LIBRARY" in os.environ  # then "cuda" is the CUDA backend compiled for the CPU, which is slow
FEW_SHAPES = "GDCORE_TEST_FEW_SHAPES" in os.environ

# 24 widths from 1 to 1025, around every power of two that a vector, a block or a tile may end at; and three row counts
WIDTHS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 1000, 1024, 1025)
ROWS = (1, 32, 100)
SIZES = [(rows, width) for rows in ROWS for width in WIDTHS] + [(33, 1600), (1000, 33)]
# For elementwise operations, which see a matrix as one long row
LENGTHS = [(1, width) for width in WIDTHS] + [(32, 7), (32, 33), (32, 128), (100, 17), (100, 64), (100, 1025)]
LENGTHS += [(33, 1600), (1000, 33)]
BATCH_SIZES = [(max(rows, 2), width) for rows, width in SIZES]  # for batch norm, which needs two rows

# 3e-7 with fused multiply-add, where products are not rounded; without it every term rounds twice
FUSED = gd._core.info()["instruction_set"] not in ("baseline", "amx-emulated")
FORWARD = {np.dtype(np.float32): 3e-7 if FUSED else 4e-7, np.dtype(np.float64): 5e-15}
GRADIENT = {np.dtype(np.float32): 5e-7, np.dtype(np.float64): 1e-14}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
ALIGNED = pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "unaligned"])
SHAPES = pytest.mark.parametrize(("rows", "width"), SIZES)
LENGTH_SHAPES = pytest.mark.parametrize(("rows", "width"), LENGTHS)
BATCH_SHAPES = pytest.mark.parametrize(("rows", "width"), BATCH_SIZES)
# The shapes kept on the emulated GPU, and with FEW_SHAPES everywhere: one element, rows of one and many blocks, ends
# at and next to a vector
FEW = {(1, 1), (2, 1), (1, 257), (2, 257), (32, 7), (32, 33), (32, 128), (100, 17), (100, 64), (5, 257), (33, 64)}
FEW_WIDTHS = {1, 3, 33, 128, 257}


def among_few(parameters: Mapping[str, Any]) -> bool:
    """Return whether a test has one of the few shapes, or no shape."""
    widths = [parameters[name] for name in ("width", "n", "classes") if name in parameters]
    rows, width = parameters.get("rows"), widths[0] if widths else None
    if rows is None or width is None:
        return width is None or width in FEW_WIDTHS
    return (rows, width) in FEW


def a_pair(parameters: Mapping[str, Any]) -> bool:
    """Return whether a test is one of those that combine alignment with every width, row count and type.

    Each width, row count and type occurs with and without alignment; the native tests have all combinations of them.
    """
    if not {"rows", "dtype", "aligned"} <= parameters.keys():
        return True
    width = parameters.get("width", parameters.get("classes", 0))
    return parameters["aligned"] == bool(
        (width + (parameters["rows"] < 32) + (parameters["dtype"] is np.float64)) % 2,
    )


def a_quarter(cases: list[Any], rows: int, width: int) -> list[Any]:
    """Return every fourth case, other ones for each of four shapes next to each other."""
    return cases[(rows + width) % 4 :: 4]


ACTIVATIONS = (
    gd.ReLU(),
    gd.LeakyReLU(0.1),
    gd.Tanh(),
    gd.Sigmoid(),
    gd.GELU(),
    gd.GELU(approximate="tanh"),
    gd.Softplus(),
    gd.SiLU(),
    gd.Mish(),
    gd.SELU(),
    gd.ELU(0.7),
)
ABSORBED = (None, *ACTIVATIONS)


def generator(*key: Any) -> Generator:
    """A generator seeded by the names of the test, so that tests do not depend on their order."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


# ---------------------------------------------------------------------------------------------------- comparing
def within(actual: np.ndarray, expected: oracle.Sized, factor: float) -> None:
    """Demand |actual - expected| <= factor * size everywhere (NaN never passes); report the worst element."""
    value, size = np.asarray(expected.value, np.float64), np.asarray(expected.size, np.float64)
    actual64 = np.asarray(actual, np.float64)
    assert actual64.shape == value.shape, f"shape {actual64.shape}, expected {value.shape}"
    # below the smallest normal number of the actual type a result may be flushed to zero
    floor = np.finfo(actual.dtype).tiny if isinstance(actual, np.ndarray | np.floating) else 0.0
    ratio = np.abs(actual64 - value) / (factor * size + floor)
    bad = ~(ratio <= 1.0)
    if bad.any():
        i = np.unravel_index(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)), ratio.shape)
        at = tuple(map(int, i))
        pytest.fail(
            f"{int(bad.sum())} of {bad.size} beyond the bound; worst at {at}: {actual64[i]!r}, expected {value[i]!r}, "
            f"error {abs(actual64[i] - value[i]):.3g} = {ratio[i]:.3g} times {factor:g} * {size[i]:.3g}",
            pytrace=False,
        )


def on_a_gpu(device: str) -> bool:
    """Return whether the device is a real GPU, with NVIDIA's products."""
    return device == "cuda" and not EMULATED


def product_close(actual: np.ndarray, expected: oracle.Sized, terms: int, device: str, most: Any = FORWARD) -> None:
    """A product of matrices; cuBLASLt may add terms one after the other in float32, which costs √terms roundings."""
    added = 1e-7 * terms**0.5 if on_a_gpu(device) and actual.dtype == np.float32 else 0.0
    within(actual, expected, most[actual.dtype] + added)


def forward_close(actual: np.ndarray, expected: oracle.Sized) -> None:
    """A forward result: 3e-7 (`FORWARD`) of the summed terms in float32, 5e-15 in float64."""
    within(actual, expected, FORWARD[actual.dtype])


def gradient_close(actual: np.ndarray, expected: oracle.Sized) -> None:
    """A gradient: 5e-7 of the summed terms in float32, 1e-14 in float64."""
    within(actual, expected, GRADIENT[actual.dtype])


def same_bits(a: Any, b: Any) -> None:
    """The same shapes, types and bits (0.0 and -0.0 differ, equal NaNs agree); dictionaries key by key."""
    if isinstance(a, dict):
        assert list(a) == list(b), f"{list(a)} against {list(b)}"
        for key in a:
            same_bits(a[key], b[key])
        return
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape, f"{a.dtype} {a.shape} against {b.dtype} {b.shape}"
    if a.tobytes() != b.tobytes():
        differ = np.flatnonzero((a != b).ravel())
        first = int(differ[0]) if differ.size else -1
        pytest.fail(f"{differ.size} of {a.size} elements differ, first at {first}", pytrace=False)


def same_at_any_batch_size(a: np.ndarray, b: np.ndarray, device: str) -> None:
    """The same bits; nearly the same on a GPU, because cuBLASLt selects its kernel by the shape."""
    if not on_a_gpu(device):
        same_bits(a, b)
    else:
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 if a.dtype == np.float32 else 1e-13)


# ---------------------------------------------------------------------------------------------------- guarded arrays
class Pool:
    """Arrays with guard elements before and after. Outputs start as NaN; inputs must not change."""

    GUARD = 64

    def __init__(self) -> None:
        self._buffers: list[tuple[np.ndarray, int, np.ndarray]] = []
        self._inputs: list[tuple[np.ndarray, bytes]] = []

    def empty(self, shape: Any, dtype: Any = np.float32, aligned: bool = True) -> np.ndarray:
        """A NaN-filled C-contiguous array that starts at a 256-byte boundary, or one element after it."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape))
        raw = np.empty((count + 2 * self.GUARD) * dtype.itemsize + 256 + dtype.itemsize, np.uint8)
        raw[:] = 0xA5
        start = self.GUARD * dtype.itemsize
        start += -(raw.ctypes.data + start) % 256 + (0 if aligned else dtype.itemsize)
        view = raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape)
        if dtype.kind == "f":
            view[...] = np.nan
        self._buffers.append((raw, start, view))
        return view

    def copy(self, array: Any, dtype: Any = None, aligned: bool = True) -> np.ndarray:
        """A guarded input: `check` also demands that it has not changed."""
        view = self.mutable(array, dtype, aligned)
        self._inputs.append((view, view.tobytes()))
        return view

    def mutable(self, array: Any, dtype: Any = None, aligned: bool = True) -> np.ndarray:
        """A guarded array with the values of `array` that the operation may overwrite."""
        array = np.asarray(array)
        view = self.empty(array.shape, dtype or array.dtype, aligned)
        view[...] = array
        return view

    def check(self) -> None:
        """Fail if a guard byte or an input changed."""
        for raw, start, view in self._buffers:
            for where, guard in (("before", raw[:start]), ("behind", raw[start + view.nbytes :])):
                if not (guard == 0xA5).all():
                    pytest.fail(f"wrote {where} a {view.dtype} array of shape {view.shape}", pytrace=False)
        for view, before in self._inputs:
            if view.tobytes() != before:
                pytest.fail(f"changed an input of shape {view.shape}", pytrace=False)


# ---------------------------------------------------------------------------------------------------- models
def set_parameters(model: Any, values: dict[str, np.ndarray]) -> None:
    """Write values into the model's own parameter views."""
    views = model.parameters()
    assert list(views) == list(values)
    for name, view in views.items():
        view[...] = values[name]


def copies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A dictionary of views turned into a dictionary of copies."""
    return {name: np.array(a) for name, a in arrays.items()}


def snapshot(model: Any, trainer: Any = None) -> dict[str, np.ndarray]:
    """Everything that training changes, copied: parameters, buffers, optimiser state, step count."""
    state = dict(model.copy_state())
    if trainer is not None:
        state["steps"] = np.array(trainer.steps)
        state.update({f"state.{k}": np.array(v) for k, v in trainer.core.state().items()})
    return state


def reference_of(model: Any) -> oracle_network.Reference:
    """The oracle's network with the same layers, parameters and buffers."""
    return oracle_network.Reference(model.layers, copies(model.parameters()), copies(model.buffers()))


def randomize(model: Any, rng: Generator, scale: float = 0.3) -> None:
    """Move every parameter, including gamma, beta and bias, away from its initial value."""
    for name, view in model.parameters().items():
        view[...] = rng.standard_normal(view.shape) * scale + (1.0 if name.endswith("gamma") else 0.0)


def run_python(code: str, *args: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a dedented script in a fresh interpreter; a crash shows as its return code and does not end the tests."""
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail(f"no end after {timeout:g} s", pytrace=False)


def must_run(code: str, *args: str, timeout: float = 300) -> str:
    """Run a script that has to succeed; returns what it printed."""
    result = run_python(code, *args, timeout=timeout)
    assert result.returncode == 0, f"exit status {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


# Begins scripts that measure how much memory a part of them takes: the kernel's largest resident set since `record()`,
# less the one at that moment.
MEMORY = """
import gc, json, sys
from pathlib import Path

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024

def record():
    global before
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")

def growth():
    return status("VmHWM") - before
"""


def refuses(call: Any, kind: type[BaseException], word: str) -> None:
    """Demand exactly this type of exception, with a message that matches `word` (a regular expression)."""
    with pytest.raises(kind) as info:
        call()
    assert type(info.value) is kind, repr(info.value)
    assert re.search(word, str(info.value)), f"{word!r} does not stand in {str(info.value)!r}"
