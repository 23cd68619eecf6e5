"""Names of other libraries for classes, functions, methods and metrics, for hints in messages about unknown names.

To add a name: without case, underscores, and "loss" or "optimizer" at its end. Names of arguments are in
`argument_names`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

__all__ = ["METRICS", "STATE", "instead", "meant", "missing"]

# By kind, what to type after "gd.".
CLASSES: dict[str, dict[str, str]] = {
    "Loss": {
        **dict.fromkeys(("mse", "l2", "l2loss", "squarederror", "regression"), "MeanSquaredError()"),
        **dict.fromkeys(("mae", "l1", "l1loss", "absoluteerror"), "MeanAbsoluteError()"),
        "smoothl1": "Huber()",
        "pinball": "Quantile(0.5)",
        "poissonnll": "Poisson()",
        **dict.fromkeys(("ce", "nll", "log", "multiclass", "softmaxcrossentropy"), "CrossEntropy()"),
        **dict.fromkeys(("categoricalcrossentropy", "sparsecategoricalcrossentropy"), "CrossEntropy()"),
        "focal": "CrossEntropy(gamma=2)",
        **dict.fromkeys(("bce", "bcewithlogits", "logistic", "binary"), "BinaryCrossEntropy()"),
    },
    "Optimizer": {
        **dict.fromkeys(("gd", "gradientdescent"), "SGD(lr=...)"),
        **dict.fromkeys(("sgdmomentum", "heavyball"), "Momentum(lr=...)"),
        **dict.fromkeys(("nesterov", "nag"), "Momentum(lr=..., nesterov=True)"),
        "adamw": "AdamW(lr=...)",
    },
    "Initializer": {
        **dict.fromkeys(("he", "kaiming", "kaimingnormal"), "HeNormal()"),
        "kaiminguniform": "HeUniform()",
        **dict.fromkeys(("glorot", "xavier", "xaviernormal"), "GlorotNormal()"),
        "xavieruniform": "GlorotUniform()",
        **dict.fromkeys(("zero", "zeros"), "Constant(0.0)"),
        **dict.fromkeys(("one", "ones"), "Constant(1.0)"),
    },
    "Layer": {
        **dict.fromkeys(("linear", "fullyconnected", "fc"), "Dense(in_features, out_features)"),
        "swish": "SiLU()",
        **dict.fromkeys(("batchnorm1d", "batchnormalization"), "BatchNorm(features)"),
        "layernormalization": "LayerNorm(features)",
        **dict.fromkeys(("standardscaler", "normalization"), "Standardizer()"),
    },
}
HERE = "layers, losses and optimisers are in gdcore itself: gd.Dense, gd.CrossEntropy, gd.Adam"
TRAINER = "gd.Trainer(model, loss, optimizer=...).fit(x, y, epochs=...) trains"
SCHEDULE = "a schedule is a function of the step, given as the rate: gd.Adam(gd.schedules.cosine(1e-3, steps))"
DECAY = "the optimiser takes the weight decay: gd.Adam(1e-3, weight_decay=1e-4)"
FEED_FORWARD = "gdcore has feed-forward networks of rows of numbers only"
OTHERS: dict[str, str] = {
    **dict.fromkeys(
        ("softmax", "logsoftmax"),
        "outputs are logits: gd.CrossEntropy() includes the softmax, model.predict_proba(x) returns probabilities",
    ),
    **dict.fromkeys(("model", "module", "mlp"), "a network is gd.Sequential(gd.Dense(...), gd.ReLU(), ...)"),
    **dict.fromkeys(("nn", "optim", "layers", "activations", "losses", "initializers", "functional"), HERE),
    **dict.fromkeys(("fit", "train", "compile"), TRAINER),
    **dict.fromkeys(("steplr", "exponentiallr", "cosineannealinglr", "onecyclelr"), SCHEDULE),
    **dict.fromkeys(("learningratescheduler", "cosinedecay", "exponentialdecay", "piecewiseconstantdecay"), SCHEDULE),
    **dict.fromkeys(("conv1d", "conv2d", "lstm", "gru", "rnn", "transformer", "multiheadattention"), FEED_FORWARD),
    **dict.fromkeys(("flatten", "reshape"), "inputs are rows: x.reshape(len(x), -1)"),
    **dict.fromkeys(("input", "inputlayer"), "the first layer says the width: gd.Dense(in_features, out_features)"),
    **dict.fromkeys(("dataloader", "dataset", "tensordataset"), "fit takes arrays; gd.MiniBatches(x, y) is for loops"),
    **dict.fromkeys(("tensor", "array", "fromnumpy"), "data are arrays of NumPy, frames or tensors, as they are"),
    **dict.fromkeys(
        ("manualseed", "setrandomseed", "setseed", "seed"), "the seed is the model's: gd.Sequential(..., seed=0)"
    ),
    **dict.fromkeys(("cuda", "device"), "the device is the model's: gd.Sequential(..., device=...); see gd.info()"),
    **dict.fromkeys(("regularizers", "l1", "l2", "l1l2"), DECAY),
    **dict.fromkeys(("lrfind", "lrfinder"), "did you mean gd.lr_range_test(...)?"),
    **dict.fromkeys(
        ("crossvalidate", "crossvalscore", "kfold"),
        "gd.tables.TabularModel holds out folds; sklearn.model_selection takes the estimators of gdcore.sklearn",
    ),
    **dict.fromkeys(("tocategorical", "onehot"), "gd.CrossEntropy() takes labels as they are, one for each row"),
    "lbfgs": "gdcore.sklearn.MLPClassifier(solver='lbfgs') has it, as has MLPRegressor",
    "lambdacallback": "a callback is any object with a method such as on_epoch_end(trainer, logs)",
    "lambda": "a model has gdcore's layers only: apply functions to x first",
    "parquet": "did you mean gd.data.Parquet?",
    "nograd": "model.predict(x) computes no gradients",
    "save": "did you mean model.save(path)?",
    "loadmodel": "did you mean gd.load(path)?",
    "modelcheckpoint": "did you mean gd.Checkpoint(path)?",
    "csvlogger": "did you mean gd.CSVLog(path)?",
    "reducelronplateau": "did you mean gd.ReduceOnPlateau()?",
    **dict.fromkeys(("ema", "swa", "averagedmodel"), "did you mean gd.WeightAverage()?"),
    "traintestsplit": "did you mean gd.train_validation_split(x, y)?",
    "gridsearchcv": "did you mean gd.sweep(...)?",
    "tabularmodel": "did you mean gd.tables.TabularModel?",
    **dict.fromkeys(
        ("tabularclassifier", "tabularregressor", "mlpclassifier", "mlpregressor"), "gdcore.sklearn has the estimators"
    ),
}
# By part of the package, the names there.
PARTS: dict[str, dict[str, str]] = {
    "gdcore.schedules": {
        **dict.fromkeys(("steplr", "multisteplr"), "did you mean gd.schedules.step_decay?"),
        **dict.fromkeys(("exponentiallr", "exponentialdecay"), "did you mean gd.schedules.exponential?"),
        **dict.fromkeys(("cosineannealing", "cosineannealinglr", "cosinedecay"), "did you mean gd.schedules.cosine?"),
        **dict.fromkeys(("cosineannealingwarmrestarts", "sgdr"), "did you mean gd.schedules.cosine_restarts?"),
        "onecyclelr": "did you mean gd.schedules.one_cycle?",
        **dict.fromkeys(("linearwarmup", "linearlr"), "did you mean gd.schedules.warmup?"),
        **dict.fromkeys(
            ("linear", "polynomial", "lineardecay", "polynomialdecay", "polynomiallr", "lambdalr"),
            "a schedule is any function of the step: lambda step: 1e-3 * max(0, 1 - step / 1000)",
        ),
    },
}
IMPORTED = ("chapter", "sklearn")  # parts of the package that `import gdcore` does not give
EXPORT = "save_onnx(path) writes ONNX"
COMPARED = {
    **dict.fromkeys(("best_model", "best_", "best_estimator_", "model"), "best"),
    **dict.fromkeys(("best_score", "best_score_", "best_value"), "best_start.value"),
    **dict.fromkeys(("results", "cv_results_"), "table(), or starts"),
    **dict.fromkeys(("to_pandas", "to_csv"), "table() has them: table().to_pandas(), table().to_csv(path)"),
    "save": "best.save(path)",
    **dict.fromkeys(("predict", "predict_proba", "predict_classes"), "best has them: best.predict(x)"),
    "history": "best_start.history",
}
# Attributes of a model, which cannot be set either: what to use instead.
STATE: dict[str, str] = {
    **dict.fromkeys(("trainable", "requires_grad"), "freeze and unfreeze"),
    "training": "forward(x, training=...) and predict(x)",
    **dict.fromkeys(("weights", "bias"), "parameters()"),
    **dict.fromkeys(("class_names", "labels", "names"), "classes"),
    **dict.fromkeys(("loss", "metrics", "history", "steps", "optimizer"), "gd.Trainer(model, ...)"),
    **dict.fromkeys(("lr", "learning_rate", "weight_decay"), "the optimizer's arguments"),
}
# By class, methods and attributes: what to use instead.
MEMBERS: dict[str, dict[str, str]] = {
    "Sequential": {
        **STATE,
        **dict.fromkeys(("fit", "train_on_batch"), TRAINER),
        "set_parameters": "load_parameters(source), or set_flat_parameters(v)",
        "compile": "gd.Trainer(model, loss, optimizer=..., metrics=[...]) takes them",
        **dict.fromkeys(("evaluate", "score"), "gd.Trainer(model, loss, optimizer=...).evaluate(x, y) measures"),
        **dict.fromkeys(("train", "eval"), "there are no modes: Trainer.fit trains, predict(x) predicts"),
        "state_dict": "parameters() and buffers() have the arrays, save(path) writes a file",
        **dict.fromkeys(("load_state_dict", "load_weights"), "load_parameters(source), or gd.load(path) for a model"),
        "save_weights": "save(path) writes the model, which gd.load(path) reads",
        **dict.fromkeys(("add", "append"), "layers are given at once: gd.Sequential(gd.Dense(...), gd.ReLU(), ...)"),
        "zero_grad": "backward(dout) computes gradients anew",
        **dict.fromkeys(("to", "cpu", "cuda"), "clone(device=...) is a copy on another device"),
        **dict.fromkeys(("float", "double", "half"), "clone(dtype=...) is a copy of another dtype"),
        "get_weights": "parameters() has the arrays, flat_parameters() one vector",
        "set_weights": "load_parameters(source), or set_flat_parameters(v)",
        **dict.fromkeys(("named_parameters", "coefs_"), "parameters() has the arrays by name"),
        "count_params": "summary() counts them, as does len(flat_parameters())",
        "predict_probabilities": "predict_proba(x)",
        "requires_grad_": "freeze and unfreeze",
        **dict.fromkeys(("to_onnx", "export"), EXPORT),
        "classes_": "classes",
    },
    "Trainer": {
        **dict.fromkeys(("train_on_batch", "train_step", "partial_fit"), "step(x, y)"),
        **dict.fromkeys(("score", "test", "validate"), "evaluate(x, y)"),
        "train": "fit(x, y, epochs=...)",
        "save": "model.save(path); callbacks=[gd.Checkpoint(path)] of fit saves the training too",
        **dict.fromkeys(
            ("load", "state_dict", "load_state_dict"), "gd.Checkpoint(path) saves, fit(resume=path) goes on"
        ),
        **dict.fromkeys(("predict_proba", "predict_classes"), "model has them: model.predict(x)"),
    },
    "Optimizer": {
        "zero_grad": "model.backward(dout) computes gradients anew",
        "step": "trainer.step(x, y) trains on a batch, trainer.optimizer_step() follows model.backward(dout)",
        "param_groups": "lr_factors and weight_decay take values by layer",
        **dict.fromkeys(("state_dict", "load_state_dict"), "gd.Checkpoint(path) saves the state of a training"),
    },
    "Table": {"to_frame": "to_pandas()", "to_dataframe": "to_pandas()"},
    "History": {
        "history": "it is the dictionary itself: history['loss']",
        **{name: f"history[{name!r}]" for name in ("loss", "val_loss", "accuracy", "val_accuracy", "epoch", "lr")},
    },
    "Ensemble": {
        "fit": "gd.Ensemble.train(build, n, x, y, ...) trains",
        "to_torch_module": "[model.to_torch_module() for model in ensemble]; save_onnx(path) writes the mean too",
        "parameters": "ensemble[0].parameters() has those of a model",
        **dict.fromkeys(("to_onnx", "export"), EXPORT),
        "estimators_": "models",
        "classes_": "classes",
    },
    "TabularModel": {
        "predict_classes": "predict(x)",
        "classes_": "classes",
        "feature_importances_": "importances(x, y)",
        "models": "ensemble.models",
        "parameters": "ensemble[0].parameters() has those of a network",
        **dict.fromkeys(("to_onnx", "export"), EXPORT),
        "to_torch_module": "[model.to_torch_module() for model in model.ensemble], whose inputs are encode(x)",
    },
    "Standardizer": {
        "fit_transform": "fit(x).transform(x)",
        "adapt": "fit(x)",
        "mean_": "mean",
        **dict.fromkeys(("scale_", "std_", "var_"), "std, the deviation"),
        "get_feature_names_out": "feature_names",
    },
    "Restarts": {
        **COMPARED,
        "best_params_": "best_seed, best_epsilon",
        "summary": "print(result) shows all, table() has a row for each start, spread the spread",
    },
    "Sweep": {
        **COMPARED,
        **dict.fromkeys(("best_params", "best_params_", "best_settings"), "best_setting"),
    },
}
# Metrics: their names in gdcore.
METRICS = {
    "acc": "accuracy",
    "bacc": "balanced_accuracy",
    "auroc": "roc_auc",
    "ap": "average_precision",
    "pr_auc": "average_precision",
    "logloss": "log_loss",
    "f1score": "f1",
    "r2score": "r2",
}


def _bare(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _found(name: str, names: Mapping[str, str], close: bool) -> str:
    """Return the entry of a name, or of the closest one where `close`, or an empty text."""
    bare = _bare(name)
    for each in (bare, bare.removesuffix("loss").removesuffix("optimizer").removesuffix("score")):
        if each in names:
            return names[each]
    if not close:
        return ""
    import difflib  # here, to keep `import gdcore` fast

    return next((names[each] for each in difflib.get_close_matches(bare, names, 1, 0.75)), "")


def meant(value: object, kind: type) -> str:
    """Return what to type for a name of a loss, an optimiser, an initialiser or a layer, as text; may be empty.

    `value` is the name, or an object of another library of that name.
    """
    if kind.__name__ not in CLASSES:
        return ""
    name = value if isinstance(value, str) else str(getattr(value, "__name__", type(value).__name__))
    own = {_bare(each.__name__): _call(each) for each in _kinds(kind)}
    found = _found(name, own | CLASSES[kind.__name__], isinstance(value, str))
    return f"gd.{found}" if found else ""


def _kinds(kind: type) -> list[type]:
    """Return the public classes of a kind."""
    direct: list[type] = kind.__subclasses__()
    found = [each for own in direct for each in (own, *_kinds(own))]
    return [each for each in found if hasattr(sys.modules["gdcore"], each.__name__)]


def _call(kind: type) -> str:
    import inspect

    parameters = inspect.signature(kind).parameters.values()
    needed = [each for each in parameters if each.default is each.empty and each.kind in (1, 3)]
    return f"{kind.__name__}({', '.join(f'{each.name}=...' for each in needed)})"


def missing(module: str, name: str, own: Iterable[str], also: Mapping[str, str] | None = None) -> Exception:
    """Return the error for a name that a module does not have, with what to type here.

    `own` has the names of the module, `also` other names of some of them. It is an AttributeError; for
    ``from gdcore import name`` an ImportError, as Python's own would lose the hint.
    """
    message = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):
        return AttributeError(message)
    if module == "gdcore" and name in IMPORTED:
        return AttributeError(f"{message} yet: import gdcore.{name} first")  # which that statement itself asks for
    ours = {_bare(each): f"did you mean gd.{each}?" for each in sys.modules["gdcore"].__all__}
    here = module.replace("gdcore", "gd", 1)
    ours |= {_bare(other): f"did you mean {here}.{each}?" for other, each in (also or {}).items()}
    ours |= {_bare(each): f"did you mean {here}.{each}?" for each in own}
    ours |= PARTS.get(module, {})
    theirs = {each: f"did you mean gd.{what}?" for names in CLASSES.values() for each, what in names.items()}
    hint = _found(name, theirs | OTHERS | ours, False)
    if hint and sys._getframe(2).f_code.co_name == "_handle_fromlist":  # of importlib
        return ImportError(f"cannot import name {name!r} from {module!r}: {hint}", name=module)
    hint = hint or _found(name, ours, True)
    return AttributeError(f"{message}: {hint}" if hint else message)


def instead(kind: type, name: str) -> str:
    """Return what to use for an attribute that a class does not have, or an empty text."""
    kinds = (each.__name__ for each in kind.__mro__)
    return next((MEMBERS[each][name] for each in kinds if name in MEMBERS.get(each, ())), "")
