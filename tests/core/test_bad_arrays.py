"""Promise: no array makes an operation crash or read wrong memory: a wrong shape, type, layout or kind of any argument
is refused before an output is written; models refuse bad inputs by name and do not change."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

ops = gd._core.ops
LENGTHS = {"N": 4, "I": 3, "O": 5}  # rows, inputs, outputs
# the arguments in order, arrays with their shape; the outputs; keywords
NORM_BACKWARD = "activation saved:NI dout:NI dx:NI dgamma:I dbeta:I"
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dense_forward": ("x:NI weight:OI bias:O activation out:NO pre", "out", {}),
    "dense_backward": (
        "x:NI weight:OI activation saved:NO dout:NO dx:NI dweight:OI dbias:O",
        "dx dweight dbias",
        {},
    ),
    "activation_forward": ("activation x:NI out:NI", "out", {}),
    "activation_backward": ("activation saved:NI dout:NI dx:NI", "dx", {}),
    "dropout": ("x:NI out:NI", "out", {"p": 0.5, "seed": 0, "stream": 0}),
    "batch_norm_forward": (
        "x:NI gamma:I beta:I activation eps out:NI mean:I rstd:I variance:I pre",
        "out mean rstd variance",
        {},
    ),
    "batch_norm_backward": ("x:NI gamma:I mean:I rstd:I " + NORM_BACKWARD, "dx dgamma dbeta", {}),
    "column_affine": (
        "x:NI mean:I spread:I gamma:I beta:I activation out:NI",
        "out",
        {"kind": "std", "eps": 1e-5},
    ),
    "layer_norm_forward": (
        "x:NI gamma:I beta:I activation eps out:NI mean:N rstd:N pre",
        "out mean rstd",
        {},
    ),
    "layer_norm_backward": ("x:NI gamma:I mean:N rstd:N " + NORM_BACKWARD, "dx dgamma dbeta", {}),
    "loss": ("loss logits:NI targets:NI weights:N grad:NI", "grad", {}),
    "optimizer_step": (
        "optimizer parameters:I gradients:I states",
        "parameters",
        {"lr": 0.1, "step": 1, "weight_decay": 0.0},
    ),
    "average": ("average:I value:I rate", "average", {}),
}


def call_of(name: str) -> tuple[Any, dict[str, Any], dict[str, Any], list[str]]:
    """(function, arguments by name in order, keywords, names of the outputs), the outputs poisoned."""
    signature, outputs, keywords = OPERATIONS[name]
    others = {
        "activation": gd.Tanh(),
        "pre": None,
        "eps": 1e-5,
        "loss": gd.MeanSquaredError(),
        "optimizer": gd.Momentum(0.1),
        "rate": 1.0,
        "states": [np.ones(LENGTHS["I"], np.float32)],
    }
    arguments = {}
    for part in signature.split():
        argument, _, shape = part.partition(":")
        fill = np.nan if argument in outputs.split() and name != "optimizer_step" else 1.0
        full = np.full([LENGTHS[s] for s in shape], fill, np.float32)
        arguments[argument] = full if shape else others[argument]
    return getattr(ops, name), arguments, keywords, outputs.split()


def corruptions(array: np.ndarray) -> dict[str, Any]:
    """Wrong values for an array argument."""
    read_only = array.copy()
    read_only.flags.writeable = False
    return {
        "a row more": np.concatenate([array, array[:1]]),
        "a row less": array[:-1].copy(),
        "twice as wide": np.repeat(array, 2, axis=array.ndim - 1),
        "one dimension more": array[None],
        "flat": array.reshape(-1) if array.ndim > 1 else array[0],
        "strided": np.repeat(array, 2, 0)[::2],
        "reversed": array[::-1],
        "float64": array.astype(np.float64),
        "int32": np.ones(array.shape, np.int32),
        "complex": array.astype(np.complex64),
        "object": array.astype(object),
        "big endian": array.astype(array.dtype.newbyteorder(">")),
        "empty": array[:0].copy(),
        "list": array.tolist(),
        "text": "array",
        "read only": read_only,
    }


CASES = [(name, n) for name in OPERATIONS for n, value in call_of(name)[1].items() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_corrupted_arguments(name: str, argument: str, device: str) -> None:
    """Each array argument in turn is corrupted in each way; every refusal leaves all outputs unchanged."""
    refused = 0
    for kind, bad in corruptions(call_of(name)[1][argument]).items():
        function, arguments, keywords, outputs = call_of(name)
        written = [*outputs, *(n for n in arguments if n == "dout")]
        if (kind == "read only" and argument not in written) or (kind == "one dimension more" and bad.ndim == 2):
            continue  # inputs may be read-only; a vector may be given as one row
        arguments[argument] = bad
        before = {n: np.array(arguments[n]).tobytes() for n in outputs if n != argument}
        try:
            function(*arguments.values(), **keywords, device=device)
        except (ValueError, TypeError) as error:
            message = str(error)
        else:
            pytest.fail(f"{name} took {argument} {kind}")
        assert any(word in message for word in (name, argument, *arguments)), (kind, message)
        for output, content in before.items():
            assert np.array(arguments[output]).tobytes() == content, (kind, output)
        refused += 1
    assert refused >= 7


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_uncorrupted_call_works_and_writes_every_output(name: str, device: str) -> None:
    function, arguments, keywords, outputs = call_of(name)
    function(*arguments.values(), **keywords, device=device)
    for output in outputs:
        assert np.isfinite(arguments[output]).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_missing_unknown_and_wrong_kinds(name: str) -> None:
    function, arguments, keywords, outputs = call_of(name)
    values = list(arguments.values())
    for call in (
        lambda: function(),
        lambda: function(*values[:-1], **keywords),
        lambda: function(*values, *values, **keywords),
        lambda: function(*values, **keywords, nothing=1),
        lambda: function(*values, **keywords, device="tpu"),
        lambda: function(*values, **keywords, device=3),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    for output in outputs:
        helpers.same_bits(arguments[output], call_of(name)[1][output])


def model(device: str) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.ReLU(), gd.Dense(4, 2), seed=0, device=device)


GOOD = np.arange(15, dtype=np.float32).reshape(5, 3)
BAD_X: dict[str, tuple[Any, Any]] = {
    "one column less": (GOOD[:, :2], ValueError),
    "one column more": (np.ones((5, 4), "f"), ValueError),
    "one row flat": (GOOD[0], ValueError),
    "three dimensions": (GOOD[None], ValueError),
    "a number": (3.0, (ValueError, TypeError)),
    "none": (None, TypeError),
    "text": ("data", TypeError),
    "texts": ([["a", "b", "c"]], TypeError),
    "complex": (GOOD + 1j, TypeError),
    "bytes": (b"abc", TypeError),
    "objects": (np.full(GOOD.shape, {}, object), TypeError),
    "dates": (np.zeros((5, 3), "M8[s]"), TypeError),
    "dictionary": ({"x": GOOD}, TypeError),
    "set": ({1, 2, 3}, TypeError),
    "ragged": ([[1, 2, 3], [1, 2]], (ValueError, TypeError)),
    "structured": (np.zeros(5, "f,f,f"), TypeError),
    "empty list": ([], ValueError),
    "no columns": (np.ones((5, 0), "f"), ValueError),
    "iterator": (iter(GOOD), TypeError),
    "function": (len, TypeError),
}


@pytest.mark.parametrize("method", ["forward", "predict"])
@pytest.mark.parametrize("name", BAD_X)
def test_models_refuse_bad_inputs(name: str, method: str, device: str) -> None:
    network = model(device)
    before = helpers.snapshot(network)
    bad, kind = BAD_X[name]
    with pytest.raises(kind, match="x"):
        getattr(network, method)(bad)
    helpers.same_bits(helpers.snapshot(network), before)


def test_no_rows(device: str) -> None:
    """Prediction with 0 rows returns 0 rows or is refused; training with 0 rows is refused."""
    network = model(device)
    empty = np.ones((0, 3), np.float32)
    try:
        assert network.predict(empty).shape == (0, 2)
    except ValueError as error:
        assert "x" in str(error)
    with pytest.raises(ValueError):
        network.forward(empty)


@pytest.mark.parametrize(
    "bad", [np.ones((5, 3), "f"), np.ones((4, 2), "f"), np.ones(10, "f"), None, "x", np.ones((5, 2), complex)], ids=str
)
def test_backward_refuses(bad: Any, device: str) -> None:
    network = model(device)
    network.forward(GOOD)
    network.backward(np.ones((5, 2), np.float32))
    gradients = np.array(network.flat_gradients())
    network.forward(GOOD)
    with pytest.raises((ValueError, TypeError), match="dout"):
        network.backward(bad)
    helpers.same_bits(np.array(network.flat_gradients()), gradients)


@pytest.mark.parametrize(
    ("size", "kind"), [(0, ValueError), (-5, ValueError), (1.5, TypeError), ("8", TypeError), (None, TypeError)]
)
def test_predict_refuses_batch_sizes(size: Any, kind: type, device: str) -> None:
    helpers.refuses(lambda: model(device).predict(GOOD, batch_size=size), kind, "batch_size")
