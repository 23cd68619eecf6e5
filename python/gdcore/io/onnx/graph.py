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

__all__ = ["INPUT", "Arrays", "Export", "Exports", "Graph"]

INPUT = "x"  # name of the inputs in every file


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
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._place = ""
        self._uses: Counter[str] = Counter()

    @contextlib.contextmanager
    def at(self, place: str, dtype: str | None = None) -> Iterator[None]:
        """Give nodes and constants of the block names that begin with `place`, within the block around it."""
        outer = self._place, self.dtype
        self._place, self.dtype = f"{self._place}{place}.", dtype or self.dtype
        yield
        self._place, self.dtype = outer

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = self._new(operator)
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: str | None = None) -> str:
        """Add an array or a number, in the graph's dtype unless one is given, and return its name."""
        name = self._new(name)
        array = np.asarray(value, dtype=dtype or self.dtype, order="C")
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def cast(self, x: str, dtype: str) -> str:
        """Add a conversion to another type."""
        return self.add("Cast", x, to=self.type_of(dtype))

    def type_of(self, dtype: str) -> int:
        """Return ONNX's number for a dtype."""
        number: int = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return number

    def _new(self, name: str) -> str:
        name = self._place + name
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name}_{self._uses[name]}"


Arrays: TypeAlias = Mapping[str, Array]  # a layer's parameters and buffers, by the last part of their names
# A function that adds a layer with the input x to a graph and returns the name of its output.
Export: TypeAlias = Callable[[Graph, Any, Arrays, str], str]
Exports: TypeAlias = Mapping[str, Export]  # by the name of the layer's class
