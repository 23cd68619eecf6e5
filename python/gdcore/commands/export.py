"""``gdcore export MODEL --onnx FILE``: a model as an ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .shared import aligned, loaded, outputs_apart

HELP = "write a model as an ONNX file"
MORE = (
    "Write a model or an ensemble as an ONNX file. That of a model of tables has an input for each column; with "
    "--networks only its networks are written, and what they expect is printed."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="a file of model.save, Ensemble.save or Checkpoint")
    parser.add_argument("--onnx", metavar="FILE", type=Path, required=True, help="where to write")
    parser.add_argument(
        "--outputs", choices=("raw", "probabilities"), default="raw", help="what the file returns; by default raw"
    )
    parser.add_argument(
        "--networks", action="store_true", help="of a model of tables, the networks without its encoding"
    )


def run(options: argparse.Namespace) -> None:
    """Write the file, and print what it expects and returns."""
    from ..io.onnx.files import output_of
    from ..tables import TabularModel

    outputs_apart(options, [options.model], {"--onnx": options.onnx})
    model = loaded(options.model, "cpu")
    tabular = isinstance(model, TabularModel)
    if tabular and not options.networks:
        return _whole(model, options)
    if options.networks and not tabular:
        raise ValueError(f"--networks: {options.model} holds a {type(model).__name__}; expected a TabularModel")
    networks = model.ensemble if tabular else model
    networks.save_onnx(options.onnx, outputs=options.outputs)
    output, width = output_of(networks, options.outputs)
    facts = {"file": str(options.onnx), "input": f"x, (rows, {networks.in_features})"}
    facts["output"] = f"{output}, (rows, {width})"
    if tabular:
        facts |= _expected(model)
    elif networks.feature_names is not None:
        facts["columns"] = ", ".join(networks.feature_names)
    if networks.classes is not None:
        facts["classes"] = ", ".join(map(str, networks.classes))
    print(aligned(facts))


def _whole(model: Any, options: argparse.Namespace) -> None:
    """Write a model of tables with the encoding of its columns, and print what the file expects and returns."""
    model.save_onnx(options.onnx, outputs=options.outputs)
    found = model.columns()
    columns = [name for name, width in zip(found["column"], found["inputs"], strict=True) if width]
    facts = {"file": str(options.onnx), "inputs": ", ".join(columns) + ": (rows,) each"}
    if model.classes is None:
        facts["output"] = "outputs, the predictions"
    else:
        facts["output"] = f"{options.outputs.replace('raw', 'outputs')}, (rows, {len(model.classes)}); label, (rows,)"
        facts["classes"] = ", ".join(map(str, model.classes))
    print(aligned(facts))


def _expected(model: Any) -> dict[str, str]:
    """Return what the networks of a model of tables expect and return."""
    target, encoding, _ = model._parts()
    spans = zip(encoding.columns, encoding.spans, strict=True)
    used = ", ".join(f"{column.name} {first}-{last - 1}" for column, (first, last) in spans if last > first)
    facts = {"x is": "model.encode(frame), float32, not the table itself", "columns of x": used}
    if target.classes is not None:
        facts["classes"] = ", ".join(map(str, target.classes))
    else:
        pairs = zip(target.scale, target.centre, strict=True)
        facts["prediction"] = "; ".join(f"outputs[:, {i}] * {a!r} + {b!r}" for i, (a, b) in enumerate(pairs))
    return facts
