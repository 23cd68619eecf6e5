"""`CustomLoss`: a user-defined loss, written with NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import numpy as np

from . import _core
from .internal.arguments import explained
from .internal.arrays import Array, to_array
from .internal.checks import choice, flag, shown
from .internal.outputs import MEANINGS

__all__ = ["CustomLoss"]

RowLosses: TypeAlias = Callable[[Array, Array], tuple[Any, Any]]
Product: TypeAlias = Callable[[Array, Array, Array], Any]

STEP = 2.0**-18  # of the finite differences in the gradient check, relative to the output
TOLERANCE = 1e-4  # of the gradient check, relative to the difference


@explained
class CustomLoss(_core.CustomLoss):
    """A user-defined loss: E = Σ s_n l_n / Σ s_n with l_n from a function, and sample weights s_n (1 unless given).

    Parameters
    ----------
    function : callable
        ``function(outputs, targets)`` returns two arrays: the loss l_n of each row, shape (N,), and the gradient of l_n
        by the outputs of that row, shape (N, K). Both unweighted and not divided by N: gdcore applies weights and the
        mean. ``outputs``, shape (N, K), are the model's outputs, in its dtype; ``targets`` have shape (N, M) in the
        same dtype, one column for y of shape (N,), or are class numbers, int64 of shape (N,), for ``outputs="classes"``
        and y of one label a row. Both are copies on the host, whatever the model's device.
    name : str, optional
        Its name in messages and files. The function's name by default.
    outputs : {"numbers", "counts", "classes", "yes_no"}, optional
        Meaning of the model's outputs, as in `Sequential`. Undefined by default.
    hvp : callable, optional
        ``hvp(outputs, targets, direction)`` returns the Hessian of each l_n by the outputs of its row times that row of
        `direction`, shape (N, K). `gdcore.analysis` needs it for second derivatives.
    check_gradient : bool
        Compare the gradient of the first batch with finite differences of the losses, in float64, and raise an error if
        they differ. It takes 2 K calls of the function.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        In training, if a result of the function has another shape, contains NaN or infinity though the outputs are
        finite, or fails the gradient check.

    Notes
    -----
    A row's loss must depend on the outputs of that row alone. The loss is computed on the host: on a GPU, steps are not
    recorded, and outputs and gradient are copied at each step.

    Two custom losses are equal if their functions are the same objects and their settings are equal. Copies share the
    function.

    A resumed run must have the same name and functions. These are compared by their code and the values that they use,
    as docs/many-networks.md says; so they may not use what training changes, such as the model's weights.
    """

    __slots__ = ("_name", "_outputs", "_rows")
    _fields = ("function", "name", "outputs", "hvp", "check_gradient")
    _saved_fields = ("name", "outputs", "function", "hvp")

    def __init__(
        self,
        function: RowLosses,
        *,
        name: str | None = None,
        outputs: str | None = None,
        hvp: Product | None = None,
        check_gradient: bool = False,
    ) -> None:
        self._name = _name_of(function, name)
        self._outputs = None if outputs is None else choice(outputs, "outputs", MEANINGS)
        if hvp is not None and not callable(hvp):
            raise TypeError(f"hvp: got {shown(hvp)}; expected a function (outputs, targets, direction) or None")
        self._rows = _Rows(function, hvp, self._name, check=flag(check_gradient, "check_gradient"))
        super().__init__(self._rows, self._outputs == "classes")

    @property
    def function(self) -> RowLosses:
        """The function that returns losses and gradients."""
        return self._rows.function

    @property
    def name(self) -> str:
        """Its name in messages and files."""
        return self._name

    @property
    def outputs(self) -> str | None:
        """Meaning of the model's outputs, None if undefined."""
        return self._outputs

    @property
    def hvp(self) -> Product | None:
        """The function that returns products with the rows' Hessians."""
        return self._rows.hvp

    @property
    def check_gradient(self) -> bool:
        """Whether the gradient of the first batch is compared with finite differences."""
        return self._rows.check

    def __repr__(self) -> str:
        """Return the call that creates it, with the arguments that are not defaults."""
        given = {"outputs": self.outputs, "hvp": self.hvp, "check_gradient": self.check_gradient or None}
        rest = "".join(f", {key}={_called(value)}" for key, value in given.items() if value is not None)
        return f"CustomLoss({_called(self.function)}, name={self.name!r}{rest})"

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same functions and settings."""
        if type(self) is not type(other):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def __hash__(self) -> int:
        """Return a hash that agrees with ``==``."""
        return hash(repr(self))


class _Rows:
    """The interface to the core: losses, gradients and products of rows, with checks of the results."""

    __slots__ = ("_checked", "check", "function", "hvp", "name")

    def __init__(self, function: RowLosses, hvp: Product | None, name: str, *, check: bool) -> None:
        self.function, self.hvp, self.name, self.check = function, hvp, name, check
        self._checked = not check

    def gradient(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Return the losses (N,) in float64 and their gradient (N, K) in the dtype of `outputs`."""
        if not self._checked:
            self._compare(outputs, targets)
            self._checked = True
        # If outputs or losses are infinite, the trainer raises DivergenceError with the step and the layer.
        finite = bool(np.isfinite(outputs).all())
        shape, dtype = outputs.shape, outputs.dtype
        losses, gradient = self._answer(outputs, targets)
        of_rows = self._array(losses, "the losses", shape[:1], np.dtype(np.float64), finite=False)
        if finite and np.isnan(of_rows).any():
            self._refuse(of_rows, "the losses", np.isnan(of_rows))
        finite = finite and bool(np.isfinite(of_rows).all())
        return of_rows, self._array(gradient, "the gradient", shape, dtype, finite)

    def product(self, outputs: Array, targets: Array, direction: Array) -> Array:
        """Return the rows' Hessians times the rows of `direction`, (N, K) in the dtype of `outputs`."""
        if self.hvp is None:
            raise ValueError(
                f"loss: second derivatives of CustomLoss {self.name!r} are not known; expected "
                "CustomLoss(function, hvp=...), with hvp(outputs, targets, direction) -> (N, K); "
                "lr_range_test(..., curvature=False) works without them"
            )
        shape, dtype = outputs.shape, outputs.dtype
        return self._array(self.hvp(outputs, targets, direction), "what hvp returned", shape, dtype, finite=True)

    def _answer(self, outputs: Array, targets: Array) -> tuple[Any, Any]:
        answer: Any = self.function(outputs, targets)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            raise TypeError(
                f"CustomLoss {self.name!r}: the function returned {shown(answer)}; expected two arrays: the loss of "
                "each row, shape (N,), and its gradient by the outputs, shape (N, K)"
            )
        return answer[0], answer[1]

    def _array(self, value: Any, what: str, shape: tuple[int, ...], dtype: np.dtype[Any], finite: bool) -> Array:
        """Return a result of the function as a checked contiguous array."""
        array = to_array(value, f"CustomLoss {self.name!r}: {what}")
        column = shape[0], 1
        if array.shape != shape and {array.shape, shape} != {column, shape[:1]}:
            hint = "; the loss of each row, not their sum or mean" if len(shape) == 1 and array.ndim == 0 else ""
            raise ValueError(f"CustomLoss {self.name!r}: {what}: got shape {array.shape}; expected {shape}{hint}")
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array.reshape(shape), dtype=dtype)
        if finite and not np.isfinite(array).all():
            self._refuse(array, what, ~np.isfinite(array))
        return array

    def _refuse(self, array: Array, what: str, wrong: Array) -> NoReturn:
        index = np.unravel_index(int(np.argmax(wrong)), array.shape)
        where = f"row {index[0]}" + (f", output {index[1]}" if array.ndim == 2 else "")
        got = f"got {array[index]} in {where}, in {array.dtype}"
        raise ValueError(f"CustomLoss {self.name!r}: {what}: {got}; expected finite numbers")

    def _compare(self, outputs: Array, targets: Array) -> None:
        """Raise ValueError if the gradient is not that of the losses.

        Changes one column of the outputs at a time, up and down, in all rows at once. At a kink, where the differences
        to both sides differ, the gradient may be any value between them.
        """
        y = outputs.astype(np.float64)
        t = targets.astype(np.float64) if targets.dtype.kind == "f" else targets
        float64 = np.dtype(np.float64)

        def losses(at: Array) -> Array:
            return self._array(self._answer(at, t.copy())[0], "the losses", y.shape[:1], float64, finite=True)

        given = self._array(self._answer(y.copy(), t.copy())[1], "the gradient", y.shape, float64, finite=True)
        here = losses(y.copy())
        for k in range(y.shape[1]):
            step = STEP * np.maximum(1.0, np.abs(y[:, k]))
            above, below = y.copy(), y.copy()
            above[:, k] += step
            below[:, k] -= step
            slopes = np.stack([(losses(above) - here) / step, (here - losses(below)) / step])
            rounding = 64 * np.finfo(np.float64).eps * (np.abs(here) + 1.0) / step
            margin = TOLERANCE * np.maximum(np.abs(slopes).max(axis=0), np.abs(given[:, k])) + rounding + TOLERANCE**2
            low, high = slopes.min(axis=0) - margin, slopes.max(axis=0) + margin
            wrong = (given[:, k] < low) | (given[:, k] > high)
            if wrong.any():
                n = int(np.argmax(wrong))
                raise ValueError(
                    f"CustomLoss {self.name!r}: the gradient of row {n} by output {k} is {given[n, k]:.6g}; "
                    f"differences of that row's loss give {slopes[:, n].mean():.6g}: expected the derivative of each "
                    "row's own loss, not divided by the number of rows"
                )


def _name_of(function: object, name: object) -> str:
    if not callable(function):
        raise TypeError(f"function: got {shown(function)}; expected a function (outputs, targets)")
    if name is None:
        return str(getattr(function, "__qualname__", type(function).__name__))
    if not isinstance(name, str) or not name:
        raise TypeError(f"name: got {shown(name)}; expected text, or None for the function's own")
    return str(name)


def _called(value: object) -> str:
    return str(getattr(value, "__qualname__", value)) if callable(value) else repr(value)
