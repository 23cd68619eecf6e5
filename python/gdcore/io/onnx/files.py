"""ONNX files of models and of ensembles, for prediction by other programs.

A file is written and checked beside its destination and renamed over it, as `gdcore.io.destination` does. Its input "x"
has a free number of rows. Its output, "outputs" or "probabilities", has the shape that `predict` or `predict_proba`
returns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ...internal.arrays import Array
from ...internal.checks import choice
from ...internal.labels import Classes, encode_classes
from ...internal.layer_names import by_layer, path_of
from ...internal.outputs import probabilistic
from ...internal.ranges import out_of_range, ranges_of
from .. import destination
from ..destination import FileLike
from ..saving import model_tensors
from ..specs import for_layer
from ..transfer import held
from .graph import INPUT, ML, Graph
from .layers import EXPORTS, logistic

if TYPE_CHECKING:
    from ...ensembles.ensemble import Ensemble
    from ...model import Sequential

__all__ = ["LIMIT", "OPSET", "averaged", "output_of", "save_ensemble", "save_model", "write"]

OPSET, IR = 17, 8  # those of ONNX 1.12; onnxruntime 1.12 (2022) and later versions read them
ML_OPSET = 3  # that of ONNX-ML, which belongs to it
LIMIT = 2**31 - 2**24  # bytes of all arrays; a message of Protocol Buffers has less than 2 GiB
TINY = float(np.finfo(np.float64).tiny)  # a probability of 0 counts as this one, as in Ensemble.predict


def save_model(model: Sequential, path: FileLike, outputs: str) -> None:
    """Write `model` to an ONNX file; see `gdcore.Sequential.save_onnx`."""
    _check(model, [model], outputs)
    graph = Graph(model.dtype)
    found = _network(graph, model, graph.input(INPUT, graph.dtype, model.in_features))
    if outputs == "probabilities":
        found = _probabilities(graph, found, model)
    _write(graph, found, model, path, outputs)


def output_of(model: Sequential | Ensemble, outputs: str) -> tuple[str, int]:
    """Return name and number of columns of the output that a file declares; `outputs` as for `Sequential.save_onnx`."""
    if outputs == "raw":
        return "outputs", model.out_features
    return "probabilities", 2 if model.outputs == "yes_no" and model.out_features == 1 else model.out_features


def save_ensemble(ensemble: Ensemble, path: FileLike, outputs: str) -> None:
    """Write `ensemble` to an ONNX file; see `gdcore.Ensemble.save_onnx`."""
    graph = Graph(ensemble.dtype)
    found = averaged(graph, ensemble, graph.input(INPUT, graph.dtype, ensemble.in_features), outputs)
    _write(graph, found, ensemble, path, outputs)


def averaged(graph: Graph, ensemble: Ensemble, x: str, outputs: str) -> str:
    """Add the networks of an ensemble with the input `x`, of the graph's dtype; return the name of their mean."""
    from ...ensembles.members import checked_models

    models = checked_models(ensemble.models)  # which may have changed
    _check(ensemble, models, outputs)
    members = []
    for i, model in enumerate(models):
        with graph.at(f"models.{i}", model.dtype):
            own = x if model.dtype == ensemble.dtype else graph.cast(x, model.dtype)
            members.append(graph.cast(_network(graph, model, own), "float64"))
    with graph.at("mean", "float64"):
        return graph.cast(_mean(graph, members, ensemble, outputs), ensemble.dtype)


def _check(whole: Sequential | Ensemble, models: Sequence[Sequential], outputs: str) -> None:
    """Raise ValueError if what is asked for cannot be written."""
    if choice(outputs, "outputs", ("raw", "probabilities")) == "probabilities":
        probabilistic(whole, "save_onnx")
    size = 0
    for model in models:
        with model._hold():  # another thread that trains the model waits
            size += sum(array.nbytes for array in model_tensors(model).values())
    if size > LIMIT:
        raise ValueError(
            f"save_onnx: got {size / 2**30:.2f} GiB of parameters; expected at most {LIMIT / 2**30:.2f} GiB, the limit "
            "of an ONNX file; model.save has none"
        )


def _network(graph: Graph, model: Sequential, x: str) -> str:
    """Add the layers of a model with the input `x`; return the name of its outputs."""
    with model._hold():  # another thread that trains the model waits
        layers, arrays = model.layers, _checked_arrays(model)
        own, graph.width = by_layer(arrays, layers), model.in_features
        for i, layer in enumerate(layers):
            export = for_layer(EXPORTS, layer, i, "save_onnx")
            with graph.at(path_of(layer, i)):
                x = export(graph, layer, own.get(i, {}), x)
    return graph.add("Exp", x) if model.outputs == "counts" else x


def _checked_arrays(model: Sequential) -> dict[str, Array]:
    """Return parameters and buffers on the host; raise ValueError for values with which nothing can be predicted."""
    model.check_scaling(model.feature_names)
    views = model_tensors(model).items()
    arrays = {name: held(np.asarray(view), model.dtype, f"save_onnx: {name}") for name, view in views}
    for name, positive in ranges_of(model.layers, model.dtype).items():
        wrong = out_of_range(arrays[name], positive)
        if wrong:
            raise ValueError(f"save_onnx: {name}: {wrong}")
    return arrays


def _probabilities(graph: Graph, z: str, model: Sequential | Ensemble) -> str:
    """Add the probabilities of outputs, in the shape of `predict_proba`."""
    if model.outputs == "classes":
        return graph.add("Softmax", z, axis=1)
    yes = logistic(graph, z)
    return yes if model.out_features > 1 else graph.add("Concat", _no(graph, z), yes, axis=1)


def _no(graph: Graph, z: str) -> str:
    return logistic(graph, graph.add("Neg", z))  # 1 minus the other would round small ones to 0


def _mean(graph: Graph, members: Sequence[str], ensemble: Ensemble, outputs: str) -> str:
    """Add the mean of the outputs of models, or of their probabilities, as `Ensemble.average` says."""
    shares = np.asarray(ensemble.weights) / sum(ensemble.weights)

    def mean(terms: Iterable[str]) -> str:
        pairs = zip(terms, shares, strict=True)
        return graph.add("Sum", *(graph.add("Mul", term, graph.constant("share", share)) for term, share in pairs))

    def log(p: str) -> str:
        return graph.add("Log", graph.add("Max", p, graph.constant("tiny", TINY)))

    raw = outputs == "raw"
    if ensemble.average == "outputs" or ensemble.outputs not in ("classes", "yes_no"):
        z = mean(members)
        return z if raw else _probabilities(graph, z, ensemble)
    if ensemble.outputs == "classes":
        p = mean(_probabilities(graph, z, ensemble) for z in members)
        return log(p) if raw else p
    yes = mean(logistic(graph, z) for z in members)
    if ensemble.out_features > 1 and not raw:
        return yes
    no = mean(_no(graph, z) for z in members)
    return graph.add("Sub", log(yes), log(no)) if raw else graph.add("Concat", no, yes, axis=1)


def _write(graph: Graph, found: str, model: Sequential | Ensemble, path: FileLike, outputs: str) -> None:
    """Write a graph, whose result is called `found`, with the metadata of a model."""
    name, width = output_of(model, outputs)
    graph.output(name, found, graph.dtype, width)
    facts = {key: getattr(model, key) for key in ("outputs", "classes", "feature_names", "target_names")}
    write(graph, type(model).__name__, facts, path)


def write(graph: Graph, name: str, facts: Mapping[str, Any], path: FileLike) -> None:
    """Write a graph called `name`, with metadata: facts that are not None, as JSON except for text."""
    helper = graph.onnx.helper
    domains = {"": OPSET} | ({ML: ML_OPSET} if any(node.domain == ML for node in graph.nodes) else {})
    made = helper.make_model(
        helper.make_graph(graph.nodes, name, list(graph.inputs.values()), graph.outputs, graph.constants),
        opset_imports=[helper.make_opsetid(*domain) for domain in domains.items()],
        ir_version=IR,
        producer_name="gdcore",
        producer_version=_core.__version__,
    )
    helper.set_model_props(made, _metadata(**facts))

    def fill(written: str) -> None:
        with open(written, "wb") as file:
            file.write(made.SerializeToString(deterministic=True))
        graph.onnx.checker.check_model(written, full_check=True)

    destination.write(path, "path", fill)


def _metadata(classes: Classes | None, **facts: Any) -> dict[str, str]:
    """Return what is known of inputs and outputs: text, and all else as JSON."""
    known = {key: value for key, value in {**facts, "classes": encode_classes(classes)}.items() if value is not None}
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()}
    return {"gdcore_version": _core.__version__} | text
