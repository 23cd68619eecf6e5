"""Files of a network, and its exchange with other networks, PyTorch and ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data

if TYPE_CHECKING:
    import torch

    from ..io.destination import FileLike
    from ..model import Sequential

__all__ = ["Exchange"]


@explained
class Exchange(_core.Network):
    """A network that is saved, exported, and takes parameters from elsewhere; a base of `gdcore.Sequential`."""

    def save(self, path: FileLike) -> None:
        """Write the model to a safetensors file: architecture, parameters, averages, scaling and class names.

        An existing file is replaced only after the new one is on the disk; mode, owner and attributes are kept. A pipe
        or a device is written to. If another thread trains the model, saving waits for the end of a step, and training
        waits for the end of saving.

        Parameters
        ----------
        path : path or binary file
            The file, in an existing folder; or a file object, such as ``io.BytesIO()`` or the result of
            ``open(path, "wb")``.

        Raises
        ------
        OSError
            If it cannot be written; an old file is then untouched.
        ValueError
            If the file could not be read again, for example because of a deviation of 0 in ``buffers()``, or the path
            has the ending of another format, such as .onnx; an old file is then untouched.

        Notes
        -----
        A layer of a user-defined subclass is saved as the gdcore class that it derives from.
        """
        from ..io.saving import save_model

        save_model(cast("Sequential", self), path)

    def save_onnx(self, path: FileLike, *, outputs: str = "raw") -> None:
        """Write the model to an ONNX file, for prediction by onnxruntime and other programs.

        The file has opset 17, the input "x", (rows, in_features), and one output, both of the model's dtype; the number
        of rows is free. Scaling of the data and averages of BatchNorm are part of it, dropout is left out.
        docs/onnx.md has an example, and the names of the metadata.

        Parameters
        ----------
        path : path or binary file
            As for `save`: an existing file is replaced only after the new one is on the disk.
        outputs : {"raw", "probabilities"}
            The output of the file: "outputs", what `predict` returns, or "probabilities", what `predict_proba` does.

        Raises
        ------
        ImportError
            If the package onnx is not installed (``pip install 'gdcore[onnx]'``).
        OSError
            If the file cannot be written; an old file is then untouched.
        ValueError
            If a layer cannot be exported, a parameter is NaN or infinite, a scaling or an average is out of range,
            the parameters have more than 2 GiB, or there are no probabilities. No file is written then.
        """
        from ..io.onnx.files import save_model

        save_model(cast("Sequential", self), path, outputs)

    def load_parameters(
        self,
        source: Sequential | Mapping[str, Data] | FileLike,
        *,
        prefix: str = "",
        rename: Mapping[str, str] | Callable[[str], str] | None = None,
        only: Iterable[str] | None = None,
        strict: bool = True,
    ) -> list[str]:
        """Set parameters (and buffers) by name, all or some of them, for transfer from another network.

        Parameters
        ----------
        source : Sequential, mapping, path or binary file
            Another model, arrays by name, or any safetensors file; float16 and bfloat16 are accepted too.
        prefix : str
            Use only the source's names that begin with it, and remove it from them.
        rename : mapping or function, optional
            New names, applied after `prefix`: {"layers.0": "head"} renames that layer; a function is called with every
            name. Names of the source are used literally: "layers.3.weight" does not mean the weight of a layer "head".
        only : iterable of str, optional
            Layers ("head", "layers.0") or parameters of this network to set; the others are unchanged.
        strict : bool
            True: the names must be exactly those of this network (or of `only`) and the shapes equal. False: arrays
            that match in name and shape are used, the others are ignored.

        Returns
        -------
        list of str
            The names that were set.

        Raises
        ------
        ValueError
            If a name or shape does not match, a value is not finite, too large for the model's dtype, or negative in a
            variance or deviation, or nothing matches. Nothing is changed then.
        TypeError
            If an argument, or one of the arrays, is of another type.
        """
        from ..io.transfer import load_parameters

        return load_parameters(cast("Sequential", self), source, prefix=prefix, rename=rename, only=only, strict=strict)

    def to_torch(self) -> dict[str, torch.Tensor]:
        """Return the parameters as a state dict for a ``torch.nn.Sequential`` of the same layers.

        Returns
        -------
        dict
            CPU tensors that share no memory with the model, named by layer number ("0.weight"). γ and β are "weight"
            and "bias", running averages are "running_mean" and "running_var", and a Standardizer corresponds to
            ``BatchNorm1d(features, eps=0, affine=False)``.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        ValueError
            If PyTorch lacks a layer with arrays, or the square of a running deviation is infinite.
        """
        from ..io.torch_bridge import to_torch

        return to_torch(cast("Sequential", self))

    def from_torch(self, source: Mapping[str, Any] | torch.nn.Module) -> None:
        """Set the parameters to those of a PyTorch module, or its state dict, of the same architecture.

        Parameters
        ----------
        source : state dict or module
            Layers are matched by order and shape; the names of modules are ignored.

        Raises
        ------
        ValueError
            If a layer does not match; nothing is changed then.
        """
        from ..io.torch_bridge import from_torch

        from_torch(cast("Sequential", self), source)

    def to_torch_module(self) -> torch.nn.Sequential:
        """Return a ``torch.nn.Sequential`` of the same layers and parameters, in evaluation mode.

        Returns
        -------
        torch.nn.Sequential
            On the CPU, of the model's dtype, without shared memory: ``module(torch.from_numpy(x))`` are the outputs of
            ``predict(x)``, for counts their logarithms, as ``torch.nn.PoissonNLLLoss`` takes them.
            ``module.train()`` trains it further: dropout draws other masks, and BatchNorm averages the
            unbiased variance, as always in PyTorch; scaling stays fixed; frozen parameters require no gradient.
            ``gd.from_torch_module(module)`` and ``model.from_torch(module)`` are the way back.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        ValueError
            If the dtype cannot hold a scaling, or the square of a running deviation is infinite.
        """
        from ..io.torch_bridge import to_torch_module

        return to_torch_module(cast("Sequential", self))
