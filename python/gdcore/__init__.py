"""gdcore: feed-forward networks trained by gradient descent, fast from the smallest to the largest.

A network is a `Sequential` of layers; a `Trainer` trains it with a loss and an optimiser::

    import gdcore as gd

    model = gd.Sequential(gd.Dense(784, 256), gd.ReLU(), gd.Dense(256, 10), seed=0)
    trainer = gd.Trainer(model, loss=gd.CrossEntropy(), optimizer=gd.Adam(lr=1e-3))
    history = trainer.fit(x, y, epochs=20, batch_size=128, validation=(xv, yv), callbacks=[gd.EarlyStopping()])
    model.save("model.safetensors")
"""

import importlib as _importlib
import os as _os
import typing as _typing

from . import data, metrics, schedules
from ._core import (
    ELU,
    GELU,
    SELU,
    SGD,
    AdaGrad,
    Adam,
    BatchNorm,
    BinaryCrossEntropy,
    Constant,
    CrossEntropy,
    Dense,
    DeviceArray,
    DeviceError,
    DivergenceError,
    Dropout,
    Embedding,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Huber,
    Initializer,
    Layer,
    LayerNorm,
    LeakyReLU,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Mish,
    Momentum,
    Normal,
    Optimizer,
    Periodic,
    Poisson,
    Quantile,
    ReLU,
    RMSProp,
    Scale,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    Uniform,
    __version__,
    get_num_threads,
    info,
    set_num_threads,
)
from .callbacks import (
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    Progress,
    ReduceOnPlateau,
    WeightAverage,
)
from .custom_loss import CustomLoss
from .data import MiniBatches, train_validation_split
from .history import History, StepHistory
from .internal import immutable as _immutable
from .internal.checks import FormatError
from .model import Sequential, load
from .network.frozen import FrozenPredictor
from .optimizers import AdamW
from .piecewise_linear import PiecewiseLinear
from .residual import Residual
from .standardizer import Standardizer
from .table import Table
from .threads import thread_limit
from .trainer import Trainer

if _typing.TYPE_CHECKING:
    from . import analysis, experiments, tables
    from .callbacks.live_plot import LivePlot
    from .callbacks.mlflow import MLflow
    from .callbacks.optuna_pruning import OptunaPruning
    from .callbacks.tensorboard import TensorBoard
    from .callbacks.wandb import WandB
    from .ensembles.ensemble import Ensemble
    from .io.torch_bridge import from_torch_module
    from .profiling import Profile, profile
    from .tuning.lr_range import LRRange, lr_range_test
    from .tuning.restarts import Restarts, restarts
    from .tuning.sweep import Sweep, sweep
    from .tuning.weight_decay import consistent_weight_decay, transform_network

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "BinaryCrossEntropy",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "Constant",
    "CrossEntropy",
    "CustomLoss",
    "Dense",
    "DeviceArray",
    "DeviceError",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "Ensemble",
    "FormatError",
    "FrozenPredictor",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "History",
    "Huber",
    "Initializer",
    "LRRange",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LivePlot",
    "Loss",
    "MLflow",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MiniBatches",
    "Mish",
    "Momentum",
    "Normal",
    "Optimizer",
    "OptunaPruning",
    "Periodic",
    "PiecewiseLinear",
    "Poisson",
    "Profile",
    "Progress",
    "Quantile",
    "RMSProp",
    "ReLU",
    "ReduceOnPlateau",
    "Residual",
    "Restarts",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Standardizer",
    "StepHistory",
    "Sweep",
    "Table",
    "Tanh",
    "TensorBoard",
    "Trainer",
    "Uniform",
    "WandB",
    "WeightAverage",
    "__version__",
    "analysis",
    "consistent_weight_decay",
    "data",
    "experiments",
    "from_torch_module",
    "get_num_threads",
    "info",
    "load",
    "lr_range_test",
    "metrics",
    "profile",
    "restarts",
    "schedules",
    "set_num_threads",
    "sweep",
    "tables",
    "thread_limit",
    "train_validation_split",
    "transform_network",
]

_immutable.close()
# Imported on first use, to keep `import gdcore` fast: parts of the package, and tools around training.
_PARTS = ("analysis", "experiments", "tables")
_TOOLS = {
    "Ensemble": "ensembles.ensemble",
    "LRRange": "tuning.lr_range",
    "LivePlot": "callbacks.live_plot",
    "MLflow": "callbacks.mlflow",
    "OptunaPruning": "callbacks.optuna_pruning",
    "Profile": "profiling",
    "Restarts": "tuning.restarts",
    "Sweep": "tuning.sweep",
    "TensorBoard": "callbacks.tensorboard",
    "WandB": "callbacks.wandb",
    "consistent_weight_decay": "tuning.weight_decay",
    "from_torch_module": "io.torch_bridge",
    "lr_range_test": "tuning.lr_range",
    "profile": "profiling",
    "restarts": "tuning.restarts",
    "sweep": "tuning.sweep",
    "transform_network": "tuning.weight_decay",
}

if _os.environ.get("GDCORE_PROFILE", "0") not in ("", "0"):
    _importlib.import_module(f"{__name__}.profiling").profile_process()


def __getattr__(name: str) -> _typing.Any:
    """Import a name of `_PARTS` or `_TOOLS` on first use."""
    if name in _PARTS:
        return _importlib.import_module(f"{__name__}.{name}")
    if name in _TOOLS:
        tool = getattr(_importlib.import_module(f"{__name__}.{_TOOLS[name]}"), name)
        globals()[name] = tool
        return tool
    raise _importlib.import_module(f"{__name__}.internal.foreign_names").missing(__name__, name, __all__)


def __dir__() -> list[str]:
    """Return all names, including those imported on first use."""
    return sorted({*globals(), *__all__})
