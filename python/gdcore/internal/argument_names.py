"""Argument names of other libraries, for hints in messages about unknown arguments.

To add a name: use `NAMES` if gdcore has the argument under another name, `ADVICE` if gdcore does it in another way,
`OF_CLASS` if that depends on the class. An argument of the class's constructor or of its `fit` needs no entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .checks import suggestion

__all__ = ["hint"]

# Name in another library: the names in gdcore. A function has at most one of them.
NAMES: dict[str, tuple[str, ...]] = {
    "learning_rate": ("lr",),
    "learning_rate_init": ("lr",),
    "step_size": ("lr",),
    "eta": ("lr",),
    "eta0": ("lr",),
    "rate": ("p", "lr"),
    "l2": ("weight_decay",),
    "decay": ("weight_decay",),
    "wd": ("weight_decay",),
    "lr": ("learning_rate_init",),
    "reg": ("weight_decay",),
    "regularization": ("weight_decay",),
    "alpha": ("negative_slope", "weight_decay", "beta", "levels", "decay"),
    "slope": ("negative_slope",),
    "beta1": ("betas",),
    "beta2": ("betas",),
    "beta_1": ("betas",),
    "beta_2": ("betas",),
    "b1": ("betas",),
    "b2": ("betas",),
    "rho": ("beta",),
    "epsilon": ("eps", "delta"),
    "clipnorm": ("clip_norm",),
    "max_norm": ("clip_norm",),
    "max_grad_norm": ("clip_norm",),
    "gradient_clip_val": ("clip_norm",),
    "clipvalue": ("clip_value",),
    "units": ("out_features",),
    "hidden_size": ("out_features",),
    "hidden_features": ("out_features",),
    "hidden_units": ("out_features",),
    "n_outputs": ("out_features",),
    "output_dim": ("out_features",),
    "output_size": ("out_features",),
    "out_channels": ("out_features",),
    "out_dim": ("out_features",),
    "n_features": ("in_features", "features"),
    "n_inputs": ("in_features", "features"),
    "num_features": ("in_features", "features"),
    "input_dim": ("in_features", "features"),
    "input_size": ("in_features", "features"),
    "input_shape": ("in_features", "features"),
    "in_channels": ("in_features", "features"),
    "in_dim": ("in_features", "features"),
    "normalized_shape": ("features",),
    "size": ("features", "in_features"),
    "num_embeddings": ("sizes",),
    "cardinalities": ("sizes",),
    "embedding_dim": ("dim",),
    "use_bias": ("bias",),
    "kernel_initializer": ("init",),
    "weight_init": ("init",),
    "initializer": ("init",),
    "bias_initializer": ("bias_init",),
    "dropout": ("p",),
    "prob": ("p",),
    "probability": ("p",),
    "drop_prob": ("p",),
    "dropout_rate": ("p",),
    "momentum": ("decay",),
    "elementwise_affine": ("affine",),
    "center": ("affine",),
    "scale": ("affine", "std", "eps"),
    "var": ("std",),
    "std": ("eps",),
    "stddev": ("eps", "std"),
    "limit": ("eps",),
    "maxval": ("eps",),
    "sigma": ("eps", "std"),
    "weight": ("class_weights", "sample_weight"),
    "weights": ("class_weights", "sample_weight"),
    "class_weight": ("class_weights",),
    "sample_weights": ("sample_weight",),
    "pos_weights": ("pos_weight",),
    "positive_weight": ("pos_weight",),
    "smoothing": ("label_smoothing",),
    "quantile": ("levels",),
    "quantiles": ("levels",),
    "q": ("levels",),
    "tau": ("levels",),
    "validation_data": ("validation",),
    "validation_split": ("validation", "fraction"),
    "validation_fraction": ("validation", "fraction"),
    "val_data": ("validation",),
    "val_split": ("validation",),
    "eval_set": ("validation", "validation_data"),
    "test_size": ("validation", "fraction"),
    "n_epochs": ("epochs",),
    "num_epochs": ("epochs",),
    "nb_epoch": ("epochs",),
    "max_epochs": ("epochs",),
    "max_iter": ("epochs",),
    "n_iter": ("epochs",),
    "iterations": ("epochs",),
    "bs": ("batch_size",),
    "batch": ("batch_size",),
    "batchsize": ("batch_size",),
    "mini_batch_size": ("batch_size",),
    "minibatch_size": ("batch_size",),
    "log_interval": ("log_every",),
    "log_steps": ("log_every",),
    "logging_steps": ("log_every",),
    "log_every_n_steps": ("log_every",),
    "callback": ("callbacks",),
    "verbose": ("progress",),
    "optim": ("optimizer",),
    "optimiser": ("optimizer",),
    "solver": ("optimizer",),
    "criterion": ("loss",),
    "loss_fn": ("loss",),
    "loss_function": ("loss",),
    "objective": ("loss",),
    "cost": ("loss",),
    "net": ("model", "network"),
    "network": ("model",),
    "module": ("model",),
    "estimator": ("model",),
    "metric": ("metrics", "monitor", "measure"),
    "eval_metric": ("metrics", "monitor"),
    "random_state": ("seed",),
    "random_seed": ("seed",),
    "rng": ("seed",),
    "class_names": ("classes",),
    "labels": ("classes", "y"),
    "targets": ("y",),
    "target": ("y",),
    "inputs": ("x",),
    "features": ("x", "in_features"),
    "data": ("x",),
    "X": ("x",),
    "Y": ("y",),
    "n_iter_no_change": ("patience",),
    "tol": ("min_delta",),
    "threshold": ("min_delta",),
    "restore_best_weights": ("restore_best",),
    "save_best_only": ("keep_best",),
    "path": ("cover",),
    "trajectory": ("cover",),
    "ckpt_path": ("resume",),
    "map_location": ("device",),
    "file": ("path",),
    "filename": ("path",),
    "filepath": ("path",),
    "fname": ("path",),
    "directory": ("path",),
    "n_threads": ("threads",),
    "num_threads": ("threads",),
    "n_jobs": ("threads",),
}
RATE = "the optimiser takes the rate: gd.Adam(lr=1e-3)"
SCHEDULE = "a schedule is a function of the step, given as the rate: gd.Adam(gd.schedules.cosine(1e-3, steps))"
CLIP = "the optimiser clips gradients: gd.Adam(1e-3, clip_norm=1.0)"
DECAY = "the optimiser takes the weight decay: gd.Adam(1e-3, weight_decay=1e-4)"
STOP = "callbacks=[gd.EarlyStopping(patience=...)] of fit stops early"
AVERAGE = "callbacks=[gd.WeightAverage(0.999)] of fit averages the weights"
DEVICE = "the device is the model's: gd.Sequential(..., device=...)"
PRECISION = "the precision is the model's: gd.Sequential(..., precision=...)"
NO_CHOICE = "gdcore has no such choice: leave it out"
# Arguments that gdcore does not have: what to do instead.
ADVICE = {
    **dict.fromkeys(("lr", "learning_rate", "learning_rate_init", "step_size", "eta", "eta0"), RATE),
    **dict.fromkeys(("scheduler", "lr_scheduler", "schedule", "lr_schedule", "lr_decay"), SCHEDULE),
    **dict.fromkeys(("clip_norm", "clipnorm", "clip_value", "gradient_clip_val", "max_norm", "max_grad_norm"), CLIP),
    **dict.fromkeys(("kernel_regularizer", "bias_regularizer", "regularizer", "l2", "wd"), DECAY),
    **dict.fromkeys(("patience", "early_stopping_rounds", "n_iter_no_change"), STOP),
    **dict.fromkeys(("ema", "use_ema", "ema_decay", "ema_momentum"), AVERAGE),
    **dict.fromkeys(("device", "devices", "accelerator"), DEVICE),
    **dict.fromkeys(("precision", "amp", "mixed_precision"), PRECISION),
    **dict.fromkeys(("inplace", "jit_compile", "run_eagerly", "foreach", "fused", "compile"), NO_CHOICE),
    **dict.fromkeys(("workers", "num_workers", "use_multiprocessing", "pin_memory"), NO_CHOICE),
    **dict.fromkeys(("dropout", "dropout_rate"), "dropout is a layer of its own: gd.Dropout(0.5)"),
    **dict.fromkeys(("validation_freq", "validation_steps"), "validation data are measured after each epoch"),
    **dict.fromkeys(("dataloader", "train_dataloader", "train_dataloaders"), "data are given to gd.Trainer(...).fit"),
    "trainable": "model.freeze(name) keeps layers as they are",
    "params": "gd.Trainer(model, loss, optimizer=...) gives the optimiser the parameters of the model",
    "logger": "callbacks=[gd.CSVLog(path)] of fit writes logs, as do gd.TensorBoard, gd.MLflow and gd.WandB",
    "ignore_index": "rows with sample_weight 0 have no part in the loss",
    "initial_epoch": "fit goes on from the last epoch, and resume= from a file of gd.Checkpoint",
    "overwrite": "an old file is replaced",
    "save_format": "files are safetensors; save_onnx(path) writes ONNX",
    "activation": "an activation is a layer of its own: gd.Dense(4, 8), gd.ReLU()",
    "from_logits": "the network's outputs are logits always",
    "reduction": "the loss is the mean over the batch",
    "verbose": "gd.Progress() among the callbacks of fit shows progress",
    "momentum": "gd.Momentum(lr, 0.9) is the optimiser with momentum",
    "nesterov": "gd.Momentum(lr, nesterov=True) has it",
    "class_weight": "the loss takes it: gd.CrossEntropy(class_weights=...)",
    "early_stopping": STOP,
    "checkpoint": "callbacks=[gd.Checkpoint(path)] writes checkpoints",
    "shuffle": "the rows are drawn by gd.MiniBatches or by fit(shuffle=...)",
    "callbacks": "callbacks are given to gd.Trainer(...).fit",
    "epochs": "epochs are given to gd.Trainer(...).fit",
    "batch_size": "the batch size is given to gd.Trainer(...).fit",
    "metrics": "metrics are given to gd.Trainer",
    "optimizer": "the optimiser is given to gd.Trainer",
    "weight_decay": "optimisers take it, and gd.analysis.Objective, which stands for model, loss, x and y",
    "loss": "the loss is given to gd.Trainer",
    "dtype": "the dtype is the model's: gd.Sequential(..., dtype=...)",
    "seed": "the seed is the model's: gd.Sequential(..., seed=...)",
}
# By call and argument: what to give where it is missing.
NEEDED = {
    ("Trainer", "optimizer"): "gd.Adam(lr=1e-3) is usual, and any one will do where the trainer only evaluates",
}
QUIET = ("predict", "predict_proba", "predict_classes", "evaluate", "score", "step")
PAGE = 'see the page "Tables" of the documentation, docs/tables.md'
RECIPE = f"TabularModel chooses it for the table ({PAGE}); gd.Trainer takes all settings"


def _of_recipe(field: str, *names: str) -> dict[str, str]:
    """Return the hint for a setting of the recipe of `TabularModel`, by its name and other names of it."""
    hint = f"recipe={{{field!r}: ...}} of the constructor sets it ({PAGE})"
    more = "; time_limit= bounds the time" if field == "epochs" else ""
    return dict.fromkeys((field, *names), hint + more)


OF_CLASS = {
    "BatchNorm": {"momentum": "did you mean decay? It is 1 - momentum of PyTorch, and momentum of Keras"},
    "BinaryCrossEntropy": {"label_smoothing": "targets may be numbers from 0 to 1: y * (1 - 0.1) + 0.05, for example"},
    "CrossEntropy": {"alpha": "class_weights has a factor for each class"},
    "Embedding": {"input_dim": "did you mean sizes?", "output_dim": "did you mean dim?"},
    "RMSProp": {"alpha": "did you mean beta? That is alpha of PyTorch; the l2 penalty is weight_decay"},
    "Sequential": {"layers": "layers are given without a name: gd.Sequential(gd.Dense(...), gd.ReLU(), ...)"},
    "TabularModel": {
        **dict.fromkeys(("optimizer", "callbacks", "early_stopping"), RECIPE),
        **_of_recipe("lr", "learning_rate"),
        **_of_recipe("epochs", "n_epochs", "max_epochs", "max_iter"),
        **_of_recipe("widths", "layers", "hidden_layer_sizes"),
        **_of_recipe("activation"),
        **_of_recipe("batch_size"),
        **_of_recipe("dropout"),
        **_of_recipe("label_smoothing"),
        **_of_recipe("patience"),
        **_of_recipe("weight_decay"),
        "metrics": "model.evaluate(x, y, metrics=[...]) takes them",
        **dict.fromkeys(
            ("categorical_features", "cat_features", "categorical_columns", "cat_cols", "categorical_feature"),
            "kinds={'column': 'category'} of the constructor makes categories of numbers; text is one without it",
        ),
        **dict.fromkeys(
            ("n_estimators", "n_models", "n_ensemble"), "ensemble= of the constructor is the number of networks"
        ),
    },
}
OF_CLASS["TabularBase"] = OF_CLASS["TabularModel"]  # that of gdcore.sklearn


def hint(name: str, parameters: Iterable[str], call: str = "", owner: type | None = None, called: object = None) -> str:
    """Return a hint for the unknown argument `name` of a call, or an empty text if there is none.

    `owner` is the class of a method or constructor, `called` the object of the method; hints for a class hold for its
    subclasses.
    """
    parameters = list(parameters)
    for each in () if owner is None else owner.__mro__:
        if name in OF_CLASS.get(each.__name__, ()):
            return f"; {OF_CLASS[each.__name__][name]}"
    known = [own for own in (f"{name}s", name.removesuffix("s"), *NAMES.get(name, ())) if own in parameters]
    if known:
        return f"; did you mean {known[0]}?"
    for own in (name, *NAMES.get(name, ())):
        elsewhere = [] if owner is None else [place for place in _with_argument(owner, own) if place != call]
        if elsewhere:
            place = f"an argument of {elsewhere[0]}"
            return f"; it is {place}" if own == name else f"; did you mean {own}, {place}?"
    loss = getattr(called, "loss", None)
    if name in ("class_weight", "class_weights") and loss is not None:
        kind = type(loss).__name__
        if hasattr(loss, "class_weights"):
            return f"; the loss takes it: gd.{kind}(class_weights=...)"
        return f"; {kind} has no classes, sample_weight= has a weight for each row"
    if name == "verbose" and call.rpartition(".")[2] in QUIET:
        return "; it shows no progress: leave it out"
    if name in ADVICE:
        return f"; {ADVICE[name]}"
    return suggestion(name, parameters)


def _with_argument(owner: type, name: str) -> list[str]:
    """Return the constructor of a class, and its method `fit`, if they have an argument of that name."""
    import inspect

    calls: dict[str, Callable[..., Any] | None] = {
        owner.__name__: owner,
        f"{owner.__name__}.fit": getattr(owner, "fit", None),
    }
    found = []
    for call, function in calls.items():
        try:
            if function is not None and name in inspect.signature(function).parameters:
                found.append(call)
        except (TypeError, ValueError):  # it has no signature
            continue
    return found
