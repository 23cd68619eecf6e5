"""Promise: the arrays of a model on a GPU are views of its memory: they read as NumPy copies, writes change the model,
they keep their owner alive, are shared without a copy, and say what to do instead of a NumPy operation."""

from __future__ import annotations

import ctypes
import gc
import operator
import pickle
import signal
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

pytestmark = pytest.mark.cuda


@pytest.fixture
def model() -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.Tanh(), gd.Dense(4, 2), seed=0, device="cuda")


@pytest.fixture
def weight(model: gd.Sequential) -> gd.DeviceArray:
    return model.parameters()["layers.0.weight"]


def test_they_describe_themselves(model: gd.Sequential) -> None:
    weight, bias = model.parameters()["layers.0.weight"], model.parameters()["layers.0.bias"]
    assert type(weight) is gd.DeviceArray and weight.device == "cuda" and weight.dtype == np.float32
    assert weight.shape == (4, 3) and bias.shape == (4,) and len(weight) == 4
    assert (weight.size, weight.ndim, weight.itemsize, weight.nbytes) == (12, 2, 4, 48)
    assert repr(bias) == 'DeviceArray(shape=(4,), dtype=float32, device="cuda")'
    double = gd.Sequential(gd.Dense(3, 4), seed=0, dtype="float64", device="cuda").parameters()["layers.0.weight"]
    assert double.dtype == np.float64 and double.nbytes == 8 * double.size


def test_the_same_seed_gives_the_bits_of_the_cpu(model: gd.Sequential) -> None:
    other = gd.Sequential(*model.layers, **(model.settings() | {"device": "cpu"}))
    helpers.same_bits(helpers.snapshot(model), helpers.snapshot(other))


def test_reading_gives_copies(weight: gd.DeviceArray) -> None:
    before = weight.numpy()
    for copy in (weight.numpy(), np.asarray(weight), np.array(weight), weight.copy(), weight[...], weight[:]):
        helpers.same_bits(copy, before)
        copy[...] = 7
    helpers.same_bits(weight.numpy(), before)
    assert weight.tolist() == before.tolist() and list(weight)[1].tolist() == before[1].tolist()
    helpers.same_bits(weight[1:, 0], before[1:, 0].copy())
    helpers.same_bits(np.asarray(weight, np.float64), before.astype(np.float64))
    helpers.same_bits(np.abs(weight), np.abs(before))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (..., 3.0),
        (slice(None), np.arange(3.0)),
        (1, [1, 2, 3]),
        ((slice(1, 3), 0), 9),
        (np.eye(4, 3, dtype=bool), -1.0),
        (-1, np.float64(1e-3)),
    ],
)
def test_writing_changes_the_model_and_nothing_else(key: Any, value: Any, model: gd.Sequential) -> None:
    names = list(model.parameters())
    before = helpers.copies(model.parameters())
    expected = before["layers.0.weight"].copy()
    expected[key] = value
    model.parameters()["layers.0.weight"][key] = value
    helpers.same_bits(model.parameters()["layers.0.weight"].numpy(), expected)
    for name in names[1:]:
        helpers.same_bits(model.parameters()[name].numpy(), before[name])


def test_writing_changes_predictions(model: gd.Sequential) -> None:
    x = np.ones((2, 3), np.float32)
    model.parameters()["layers.3.weight"][...] = 0
    model.parameters()["layers.3.bias"][...] = [5, -5]
    assert model.predict(x).tolist() == [[5, -5]] * 2


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow"])
@pytest.mark.parametrize("other", ["number", "array", "device"])
def test_arithmetic(name: str, other: str, weight: gd.DeviceArray) -> None:
    weight[...] = np.linspace(0.5, 2, 12).reshape(4, 3)
    host = weight.numpy()
    theirs: Any = {"number": 3, "array": np.full((4, 3), 1.5, np.float32), "device": weight}[other]
    plain = host.copy() if other == "device" else theirs
    helpers.same_bits(getattr(operator, name)(weight, theirs), getattr(operator, name)(host, plain))
    helpers.same_bits(getattr(operator, name)(theirs, weight), getattr(operator, name)(plain, host))
    same = weight
    weight = getattr(operator, f"i{name}")(weight, theirs)
    assert weight is same  # `-=` changes the model, not a copy
    helpers.same_bits(weight.numpy(), getattr(operator, name)(host, plain))


def test_flat_arrays_share_memory(model: gd.Sequential) -> None:
    weight = model.parameters()["layers.0.weight"]
    for flat in (weight.reshape(-1), weight.ravel()):
        assert flat.shape == (12,)
        flat[5] += 1
        assert flat[5] == weight[1, 2]
    model.set_flat_parameters(np.arange(model.flat_parameters().size))
    assert weight.numpy().ravel().tolist() == list(range(12))


@pytest.mark.parametrize(
    ("call", "kind", "word"),
    [
        (lambda a: a.sum(), AttributeError, r"DeviceArray\(shape=\(4, 3\).*no attribute 'sum'; use array.numpy"),
        (lambda a: a.flags, AttributeError, "use array.numpy"),
        (lambda a: np.asarray(a, copy=False), ValueError, "copy"),
        (lambda a: a.reshape((2, 6)), ValueError, "shape: expected -1"),
        (lambda a: a.__dlpack__(dl_device=(1, 0)), BufferError, "array.numpy"),
        (lambda a: a.__dlpack__(copy=True), BufferError, "array.numpy"),
        (lambda a: a[9], IndexError, "out of bounds"),
        (lambda a: operator.setitem(a, ..., np.ones(5)), ValueError, "broadcast"),
        (lambda a: operator.setitem(a, ..., "x"), ValueError, "x"),
        (lambda a: gd.DeviceArray(), TypeError, "cannot be created directly"),
    ],
)
def test_refusals(call: Any, kind: Any, word: str, weight: gd.DeviceArray) -> None:
    before = weight.numpy()
    helpers.refuses(lambda: call(weight), kind, word)
    helpers.same_bits(weight.numpy(), before)


def test_they_keep_the_model_alive() -> None:
    network = gd.Sequential(gd.Dense(50, 40), seed=3, device="cuda")
    trainer = gd.Trainer(network, gd.MeanSquaredError(), optimizer=gd.Momentum(0.1))
    weight, state = network.parameters()["layers.0.weight"], trainer.core.state()["0.layers.0.weight"]
    before = weight.numpy()
    del network, trainer
    gc.collect()
    state[...] = 2
    helpers.same_bits(weight.numpy(), before)
    assert (state.numpy() == 2).all()


def test_a_model_in_training_refuses(model: gd.Sequential) -> None:
    """A signal handler runs inside the training loop, as a call of another thread may at any time."""
    view = model.parameters()["layers.0.weight"]
    refusals: list[str] = []

    def handler(number: int, frame: Any) -> None:
        for call in (view.numpy, lambda: view.__setitem__(..., 0.0)):
            try:
                call()
            except RuntimeError as error:
                refusals.append(str(error))

    class Stop(gd.Callback):
        def on_progress(self, trainer: gd.Trainer, batch: int, batches: int | None, loss: float) -> None:
            trainer.stop = bool(refusals)

    # An epoch lasts longer than the 20 ms between two looks at signals: most signals come inside one.
    x, y = np.ones((64_000, 3), np.float32), np.ones((64_000, 2), np.float32)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(1e-6))
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        trainer.fit(x, y, epochs=1000, callbacks=[Stop()])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert refusals and all("in use" in text for text in refusals)


def test_other_parts_take_them(model: gd.Sequential, tmp_path: Any) -> None:
    other = gd.Sequential(*model.layers, **(model.settings() | {"device": "cpu", "seed": 9}))
    other.load_parameters({**model.parameters(), **model.buffers()})
    helpers.same_bits(helpers.snapshot(model), helpers.snapshot(other))
    np.save(tmp_path / "w.npy", model.parameters()["layers.0.weight"])
    helpers.same_bits(np.load(tmp_path / "w.npy"), other.parameters()["layers.0.weight"])
    copied = pickle.loads(pickle.dumps(model))
    assert copied.device == "cuda"
    helpers.same_bits(helpers.snapshot(copied), helpers.snapshot(model))


# ---------------------------------------------------------------------------------------------------- sharing memory
class Tensor(ctypes.Structure):
    """DLPack's tensor."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("kind", ctypes.c_int32), ("id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )  # fmt: skip


def test_dlpack_says_where_the_memory_is(weight: gd.DeviceArray) -> None:
    assert weight.__dlpack_device__() == (2, 0)
    capsule = weight.__dlpack__(stream=1, max_version=(1, 1))
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = Tensor.from_address(pointer(capsule, b"dltensor"))
    assert (tensor.kind, tensor.id, tensor.code, tensor.bits, tensor.lanes, tensor.offset) == (2, 0, 2, 32, 1, 0)
    assert tensor.shape[: tensor.ndim] == [4, 3] and tensor.strides[: tensor.ndim] == [3, 1]
    interface = weight.__cuda_array_interface__
    assert interface["data"] == (tensor.data, False) and interface["typestr"] == "<f4"
    assert interface["shape"] == (4, 3) and interface["version"] == 3


def test_a_capsule_that_nobody_takes_lets_go(model: gd.Sequential) -> None:
    for _ in range(3):
        assert "dltensor" in repr(model.parameters()["layers.0.weight"].__dlpack__())
    gc.collect()
    model.parameters()["layers.0.weight"][...] = 1


@pytest.mark.skipif(helpers.EMULATED, reason="the memory of an emulated GPU is the CPU's")
def test_torch_shares_the_memory(weight: gd.DeviceArray) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    tensor = torch.from_dlpack(weight)
    assert tensor.is_cuda and tensor.data_ptr() == weight.__cuda_array_interface__["data"][0]
    helpers.same_bits(tensor.cpu().numpy(), weight.numpy())
    tensor.mul_(2)
    torch.cuda.synchronize()
    helpers.same_bits(tensor.cpu().numpy(), weight.numpy())
