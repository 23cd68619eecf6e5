"""onnxruntime: an inference session of the network, in ONNX."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from . import cases
from .registry import Calls


def build(data: cases.Data) -> bytes:
    """Return the network as ONNX: a Gemm for each dense layer, and ReLU between them."""
    nodes, arrays, last = [], [], len(data.weights) - 1
    for i, (weight, bias) in enumerate(zip(data.weights, data.biases, strict=True)):
        arrays += [numpy_helper.from_array(weight, f"weight{i}"), numpy_helper.from_array(bias, f"bias{i}")]
        inputs = ["x" if i == 0 else f"relu{i - 1}", f"weight{i}", f"bias{i}"]
        nodes.append(helper.make_node("Gemm", inputs, ["y" if i == last else f"dense{i}"], transB=1))
        if i < last:
            nodes.append(helper.make_node("Relu", [f"dense{i}"], [f"relu{i}"]))
    widths = {"x": data.weights[0].shape[1], "y": data.weights[-1].shape[0]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name, width in widths.items()]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


class PredictPeer(Calls):
    """`InferenceSession.run`, for arrays."""

    def __init__(self, threads: int) -> None:
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def versions(self) -> dict[str, str]:
        return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        if cases.Case.from_json(case).norm:
            return {"unsupported": "the network is built without norms"}
        numbers = cases.load(data)
        session = onnxruntime.InferenceSession(build(numbers), self.options, providers=["CPUExecutionProvider"])
        self.batches = list(numbers.x)
        self.predict = lambda x: session.run(None, {"x": x})[0]
        return {"variant": "run"}
