"""`Graph`: the nodes and constants of an ONNX graph, under names that say which layer they belong to."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...internal.arrays import Array
from ...internal.checks import optional_module

__all__ = ["INPUT", "ML", "Arrays", "Export", "Exports", "Graph"]

INPUT = "x"  # name of the inputs of a file of networks
ML = "ai.onnx.ml"  # the domain of ONNX-ML, whose operators are part of onnxruntime


class Graph:
    """Collects nodes and constants; tensors and nodes are named by their place, such as "layers.2.Mul".

    Parameters
    ----------
    dtype : str
        "float32" or "float64": type of the inputs, and of the numbers that `constant` makes.

    Attributes
    ----------
    width : int
        Number of columns of the output of the last layer; a layer that changes it says so.
    """

    def __init__(self, dtype: str) -> None:
        self.onnx = optional_module("onnx", "save_onnx", "'gdcore[onnx]'")
        self.dtype = dtype
        self.width = 0
        self.inputs: dict[str, Any] = {}
        self.outputs: list[Any] = []
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._place = ""
        self._uses: Counter[str] = Counter()

    def input(self, name: str, dtype: str, *shape: int) -> str:
        """Add an input of shape (rows, *shape) before all nodes, and return its name."""
        self.inputs[name] = self.onnx.helper.make_tensor_value_info(name, self.type_of(dtype), ["rows", *shape])
        return name

    def output(self, name: str, found: str, dtype: str, *shape: int) -> None:
        """Make the tensor `found`, of shape (rows, *shape), an output; if an input has its name, it is "name_2"."""
        name = self._new(name)
        self.nodes.append(self.onnx.helper.make_node("Identity", [found], [name], name=name))
        self.outputs.append(self.onnx.helper.make_tensor_value_info(name, self.type_of(dtype), ["rows", *shape]))

    @contextlib.contextmanager
    def at(self, place: str, dtype: str | None = None) -> Iterator[None]:
        """Give nodes and constants of the block names that begin with `place`, within the block around it."""
        outer = self._place, self.dtype
        self._place, self.dtype = f"{self._place}{place}.", dtype or self.dtype
        yield
        self._place, self.dtype = outer

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name; `domain` is that of an operator of ONNX-ML."""
        name = self._new(operator)
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: str | None = None) -> str:
        """Add an array or a number, in the graph's dtype unless one is given ("O" is text), and return its name."""
        name = self._new(name)
        array = np.asarray(value, dtype=dtype or self.dtype, order="C")
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def cast(self, x: str, dtype: str) -> str:
        """Add a conversion to another type."""
        return self.add("Cast", x, to=self.type_of(dtype))

    def type_of(self, dtype: str) -> int:
        """Return ONNX's number for a dtype; "O" is text."""
        number: int = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return number

    def _new(self, name: str) -> str:
        name = self._place + name
        while True:
            self._uses[name] += 1
            made = name if self._uses[name] == 1 else f"{name}_{self._uses[name]}"
            if made not in self.inputs:
                return made


Arrays: TypeAlias = Mapping[str, Array]  # a layer's parameters and buffers, by the last part of their names
# A function that adds a layer with the input x to a graph and returns the name of its output.
Export: TypeAlias = Callable[[Graph, Any, Arrays, str], str]
Exports: TypeAlias = Mapping[str, Export]  # by the name of the layer's class
