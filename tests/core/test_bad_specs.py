"""Promise: layers, initialisers, losses and optimisers refuse invalid values at construction, or when they are
combined, with the exact exception type and the name of the argument; at least 25 refusals for each family."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

NOT_POSITIVE: list[tuple[Any, type]] = [
    (0, ValueError),
    (-1, ValueError),
    (2.5, TypeError),
    ("3", TypeError),
    (None, TypeError),
]
TRUTH: list[tuple[Any, type]] = [(True, TypeError), (np.True_, TypeError)]
NOT_FINITE: list[tuple[Any, type]] = [
    (math.nan, ValueError),
    (math.inf, ValueError),
    ("1", TypeError),
    (None, TypeError),
]


def cases(make: Any, name: str, bad: list) -> list[tuple[Any, Any, str]]:
    """(call, exception, word) for each bad value of one argument."""
    return [(lambda v=value: make(v), kind, name) for value, kind in bad]


DENSE = [
    *cases(lambda v: gd.Dense(v, 3), "in_features", NOT_POSITIVE),
    *cases(lambda v: gd.Dense(3, v), "out_features", NOT_POSITIVE),
    *cases(
        lambda v: gd.Dense(3, 3, init=v),
        "init",
        [("he", TypeError), (gd.HeNormal, TypeError), (None, TypeError), (1.0, TypeError)],
    ),
    *cases(
        lambda v: gd.Dense(3, 3, bias_init=v),
        "bias_init",
        [("zeros", TypeError), (0.0, TypeError), (gd.ReLU(), TypeError)],
    ),
    *cases(lambda v: gd.Dense(3, 3, bias=v), "bias", [("no", TypeError), ([], TypeError)]),
    *cases(lambda v: gd.Uniform(v), "eps", [(-1.0, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.Normal(v), "eps", [(-1.0, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.Constant(v), "value", NOT_FINITE),
    (lambda: gd.Dense(3), TypeError, "out_features|argument"),
    (lambda: gd.Dense(), TypeError, "in_features|argument"),
    (lambda: gd.Dense(3, 3, True), TypeError, "argument"),
    (lambda: gd.Dense(3, 3, units=2), TypeError, "units|argument"),
]
ACTIVATIONS = [
    *cases(lambda v: gd.LeakyReLU(v), "negative_slope", NOT_FINITE),
    *cases(
        lambda v: gd.GELU(approximate=v),
        "approximate",
        [
            ("erf", ValueError),
            ("", ValueError),
            ("Tanh", ValueError),
            (None, TypeError),
            (True, TypeError),
            (1, TypeError),
        ],
    ),
    *cases(lambda v: gd.ELU(v), "alpha", [(0.0, ValueError), (-1.0, ValueError), (1e31, ValueError), *NOT_FINITE]),
    (lambda: gd.Sequential(gd.Dense(2, 2), gd.ELU(1e-50)), ValueError, "alpha"),
    *[
        (lambda k=k: k(0.1, 0.2), TypeError, "argument")
        for k in (gd.ReLU, gd.Tanh, gd.Sigmoid, gd.Softplus, gd.LeakyReLU, gd.GELU, gd.SiLU, gd.Mish, gd.SELU, gd.ELU)
    ],
    *[
        (lambda k=k: k(alpha=1), TypeError, "argument")
        for k in (gd.ReLU, gd.Tanh, gd.Sigmoid, gd.Softplus, gd.LeakyReLU, gd.GELU)
    ],
    *[
        (lambda k=k: gd.Sequential(gd.Dense(2, 2), k), TypeError, r"layers\[1\]")
        for k in (gd.ReLU, gd.Tanh, gd.GELU, gd.Softplus)
    ],
]
HERE = np.ones((2, 3), np.float32)
DROPOUT = [
    *cases(
        lambda v: gd.Dropout(v),
        "p",
        [(-0.1, ValueError), (1.0, ValueError), (1.1, ValueError), (-math.inf, ValueError), *NOT_FINITE],
    ),
    *cases(
        lambda v: gd.Dropout(v),
        "p",
        [([0.5], TypeError), ({}, TypeError), (1 + 1e-9, ValueError), (-1e-300, ValueError)],
    ),
    *cases(
        lambda v: gd._core.ops.dropout(HERE, HERE.copy(), p=v, seed=0, stream=0),
        "p",
        [(-0.1, ValueError), (1.0, ValueError), (math.nan, ValueError), ("0.5", TypeError), (None, TypeError)],
    ),
    *cases(
        lambda v: gd._core.ops.dropout(HERE, HERE.copy(), p=0.5, seed=v, stream=0),
        "seed",
        [(-1, ValueError), (0.5, TypeError), ("0", TypeError)],
    ),
    *cases(
        lambda v: gd._core.ops.dropout(HERE, HERE.copy(), p=0.5, seed=0, stream=v),
        "stream",
        [(-1, ValueError), (0.5, TypeError), (None, TypeError)],
    ),
    (lambda: gd.Dropout(0.5, 0.5), TypeError, "argument"),
    (lambda: gd.Dropout(rate=0.5), TypeError, "rate|argument"),
    (lambda: gd.Sequential(gd.Dropout, gd.Dense(2, 2)), TypeError, r"layers\[0\]"),
]
FLAGS: list[tuple[Any, type]] = [("yes", TypeError), ([], TypeError)]
NORMS = [
    *cases(lambda v: gd.BatchNorm(v), "features", NOT_POSITIVE),
    *cases(lambda v: gd.BatchNorm(3, v), "decay", [(-0.1, ValueError), (1.1, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.BatchNorm(3, eps=v), "eps", [(0.0, ValueError), (-1e-5, ValueError), *NOT_FINITE]),
    *cases(
        lambda v: gd.BatchNorm(3, running=v),
        "running",
        [("var", ValueError), ("", ValueError), (None, TypeError), (1, TypeError)],
    ),
    *cases(lambda v: gd.BatchNorm(3, affine=v), "affine", FLAGS),
    *cases(lambda v: gd.LayerNorm(v), "features", NOT_POSITIVE),
    *cases(lambda v: gd.LayerNorm(3, v), "eps", [(0.0, ValueError), (-1e-5, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.LayerNorm(3, affine=v), "affine", FLAGS),
    (lambda: gd.BatchNorm(3, momentum=0.1), TypeError, "momentum|argument"),
    (lambda: gd.BatchNorm(3, 0.9, 1e-5), TypeError, "argument"),
    *cases(lambda v: gd.Scale(v), "features", NOT_POSITIVE),
    (lambda: gd.Sequential(gd.Scale(3), gd.Dense(2, 3)), ValueError, "2.*3|3.*2"),
    (lambda: gd.Sequential(gd.Dense(2, 3), gd.Scale(4)), ValueError, "4.*3|3.*4"),
    *cases(lambda v: gd.Standardizer(v), "features", [(-1, ValueError), (1.5, TypeError), ("3", TypeError)]),
]
LOSSES = [
    *cases(
        lambda v: gd.CrossEntropy(label_smoothing=v),
        "label_smoothing",
        [(-0.1, ValueError), (1.0, ValueError), (1.1, ValueError), *NOT_FINITE],
    ),
    *cases(
        lambda v: gd.CrossEntropy(class_weights=v),
        "class_weights",
        [
            ([], ValueError),
            ([1.0, -1.0], ValueError),
            ([1.0, math.nan], ValueError),
            ([1.0, math.inf], ValueError),
            ("abc", TypeError),
            (["a", "b"], TypeError),
            ([[1.0], [2.0]], (TypeError, ValueError)),
        ],
    ),
    *cases(
        lambda v: gd.BinaryCrossEntropy(v),
        "pos_weight",
        [
            (-1.0, ValueError),
            (math.nan, ValueError),
            (math.inf, ValueError),
            ("2", TypeError),
            ([], ValueError),
            ([1.0, -1.0], ValueError),
            ([1.0, math.nan], ValueError),
            ([None], TypeError),
        ],
    ),
    *[
        c
        for kind in (gd.CrossEntropy, gd.BinaryCrossEntropy)
        for c in cases(lambda v, k=kind: k(gamma=v), "gamma", [(-0.1, ValueError), *NOT_FINITE])
    ],
    (lambda: gd.CrossEntropy(gamma=2, label_smoothing=0.1), ValueError, "gamma, label_smoothing"),
    (lambda: gd.CrossEntropy(None, 0.0, 2.0), TypeError, "argument"),
    *cases(
        lambda v: gd.BinaryCrossEntropy(class_weights=v),
        "class_weights",
        [
            ([], ValueError),
            ([1.0], ValueError),
            ([1.0, 2.0, 3.0], ValueError),
            ([1.0, -1.0], ValueError),
            ([0.0, 0.0], ValueError),
            ([1.0, math.nan], ValueError),
            ({0: -1.0}, ValueError),
            ({}, ValueError),
            ("equal", TypeError),
            (3.0, TypeError),
        ],
    ),
    (lambda: gd.BinaryCrossEntropy(2.0, class_weights="balanced"), ValueError, "pos_weight, class_weights"),
    *cases(lambda v: gd.Huber(v), "delta", [(0.0, ValueError), (-1.0, ValueError), *NOT_FINITE]),
    *cases(
        lambda v: gd.Quantile(v),
        "levels",
        [
            (0.0, ValueError),
            (1.0, ValueError),
            (math.nan, ValueError),
            ([], ValueError),
            ([0.5, 0.5], ValueError),
            ([0.1, 1.5], ValueError),
            ("0.5", TypeError),
            (["a"], TypeError),
            (None, TypeError),
        ],
    ),
    (lambda: gd.Quantile(), TypeError, "levels|argument"),
    (lambda: gd.Poisson(1), TypeError, "argument"),
    (lambda: gd.MeanAbsoluteError(1), TypeError, "argument"),
    (lambda: gd.MeanSquaredError(1), TypeError, "argument"),
    (lambda: gd.MeanSquaredError(reduction="sum"), TypeError, "reduction|argument"),
    (lambda: gd.CrossEntropy(weight=[1, 2]), TypeError, "weight|argument"),
]
RULES = [gd.SGD, gd.Momentum, gd.AdaGrad, gd.RMSProp, gd.Adam]
OPTIMIZERS = [
    *[c for r in RULES for c in cases(lambda v, r=r: r(v), "lr", [(-0.1, ValueError), *TRUTH, *NOT_FINITE])],
    *[
        c
        for r in RULES
        for c in cases(lambda v, r=r: r(0.1, clip_norm=v), "clip_norm", [(0.0, ValueError), (math.nan, ValueError)])
    ],
    *[
        c
        for r in RULES
        for c in cases(lambda v, r=r: r(0.1, clip_value=v), "clip_value", [(-1.0, ValueError), ("1", TypeError)])
    ],
    *[
        c
        for r in RULES
        for c in cases(
            lambda v, r=r: r(0.1, weight_decay=v),
            "weight_decay",
            [
                (-0.1, ValueError),
                (math.nan, ValueError),
                ("x", TypeError),
                ([0.1, -1], ValueError),
                ({"layers.0": -1.0}, ValueError),
            ],
        )
    ],
    *[
        c
        for r in RULES
        for c in cases(
            lambda v, r=r: r(0.1, lr_factors=v),
            "lr_factors",
            [([-1.0], ValueError), ("x", TypeError), ({0: 1.0}, TypeError)],
        )
    ],
    *cases(lambda v: gd.Momentum(0.1, v), "momentum", [(-0.1, ValueError), (1.1, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.Momentum(0.1, nesterov=v), "nesterov", FLAGS),
    *cases(lambda v: gd.AdaGrad(0.1, v), "eps", [(-1e-8, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.RMSProp(0.1, v), "beta", [(-0.1, ValueError), (1.0, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.RMSProp(0.1, eps=v), "eps", [(-1e-8, ValueError), *NOT_FINITE]),
    *cases(
        lambda v: gd.Adam(0.1, v),
        "betas",
        [
            ((0.9, 1.0), ValueError),
            ((-0.1, 0.9), ValueError),
            ((0.9,), (TypeError, ValueError)),
            (0.9, TypeError),
            ((math.nan, 0.9), ValueError),
        ],
    ),
    *cases(lambda v: gd.Adam(0.1, eps=v), "eps", [(-1e-8, ValueError), *NOT_FINITE]),
    *cases(lambda v: gd.Adam(0.1, decoupled=v), "decoupled", FLAGS),
    *cases(lambda v: gd.SGD(0.1, decay_biases=v), "decay_biases", FLAGS),
    (lambda: gd.SGD(), TypeError, "lr|argument"),
    (lambda: gd.SGD(0.1, 0.9), TypeError, "argument"),
    (lambda: gd.Adam(0.1, beta1=0.9), TypeError, "beta1|argument"),
]
TOGETHER = [
    (lambda: gd.Sequential(), ValueError, "layers"),
    (lambda: gd.Sequential([gd.Dense(2, 3)], gd.Dense(3, 1)), TypeError, r"layers\[0\]"),
    (lambda: gd.Sequential(gd.Dense(2, 3), "relu"), TypeError, r"layers\[1\]"),
    (lambda: gd.Sequential(gd.Dense(2, 3), None), TypeError, r"layers\[1\]"),
    (lambda: gd.Sequential(gd.Dense(2, 3), gd.Dense(4, 5)), ValueError, "4.*3|3.*4"),
    (lambda: gd.Sequential(gd.Dense(2, 3), gd.ReLU(), gd.Dense(4, 5)), ValueError, "4.*3|3.*4"),
    (lambda: gd.Sequential(gd.Dense(2, 3), gd.BatchNorm(4)), ValueError, "4.*3|3.*4"),
    (lambda: gd.Sequential(gd.Dense(2, 3), gd.LayerNorm(4)), ValueError, "4.*3|3.*4"),
    (lambda: gd.Sequential(gd.ReLU()), ValueError, "layers|features"),
    (lambda: gd.Sequential(gd.Dense(2, 3), seed=-1), ValueError, "seed"),
    (lambda: gd.Sequential(gd.Dense(2, 3), seed=2**63), ValueError, "seed"),
    (lambda: gd.Sequential(gd.Dense(2, 3), seed=1.5), TypeError, "seed"),
    (lambda: gd.Sequential(gd.Dense(2, 3), seed="0"), TypeError, "seed"),
    (lambda: gd.Sequential(gd.Dense(2, 3), dtype="float16"), ValueError, "dtype"),
    (lambda: gd.Sequential(gd.Dense(2, 3), dtype=int), ValueError, "dtype"),
    (lambda: gd.Sequential(gd.Dense(2, 3), dtype=None), ValueError, "dtype"),
    (lambda: gd.Sequential(gd.Dense(2, 3), dtype="double precision"), ValueError, "dtype"),
    (lambda: gd.Sequential(gd.Dense(2, 3), device="tpu"), ValueError, "device"),
    (lambda: gd.Sequential(gd.Dense(2, 3), device=0), TypeError, "device"),
    (lambda: gd.Sequential(gd.Dense(2, 3), classes=["a", "b"]), ValueError, "classes"),
    (lambda: gd.Sequential(gd.Dense(2, 3), classes=["a", "b", "a"]), ValueError, "classes"),
    (lambda: gd.Sequential(gd.Dense(2, 3), classes="abc"), TypeError, "classes"),
    (lambda: gd.Sequential(gd.Dense(2, 3), classes=3), TypeError, "classes"),
    (lambda: gd.Sequential(gd.Dense(2, 3), classes=["a", "b", None]), TypeError, "classes"),
    (lambda: gd.Sequential(gd.Standardizer(3).fit(np.eye(3)), gd.Dense(2, 3)), ValueError, "2.*3|3.*2"),
    (lambda: gd.Sequential(gd.Dense(2**40, 2**40)), (ValueError, MemoryError), "(?i)memory|large|features"),
]
FAMILIES = {
    "dense": DENSE,
    "activations": ACTIVATIONS,
    "dropout": DROPOUT,
    "norms": NORMS,
    "losses": LOSSES,
    "optimizers": OPTIMIZERS,
    "networks": TOGETHER,
}


@pytest.mark.parametrize(("family", "i"), [(f, i) for f, rows in FAMILIES.items() for i in range(len(rows))])
def test_refused(family: str, i: int) -> None:
    call, kind, word = FAMILIES[family][i]
    if isinstance(kind, tuple):
        with pytest.raises(kind, match=word):
            call()
    else:
        helpers.refuses(call, kind, word)


def test_there_are_enough_refusals() -> None:
    """With those of test_bad_arrays.py (at least 7 for each of 65 arrays), test_bad_training.py and test_saving.py."""
    for family, refusals in FAMILIES.items():
        assert len(refusals) >= 25, (family, len(refusals))


def test_per_layer_settings_must_fit_the_model() -> None:
    model = gd.Sequential(gd.Dense(2, 3), gd.ReLU(), gd.Dense(3, 1), seed=0)
    for key in ("weight_decay", "lr_factors"):
        for value in ([0.1], [0.1, 0.1, 0.1], {"layers.1": 0.1}, {"layers.9": 0.1}, {"head": 0.1}, {"": 0.1}, []):
            optimizer = gd.SGD(0.1, **{key: value})
            helpers.refuses(lambda o=optimizer: gd.Trainer(model, gd.MeanSquaredError(), optimizer=o), ValueError, key)


def test_losses_must_fit_the_model() -> None:
    model = gd.Sequential(gd.Dense(2, 3), seed=0)
    for loss, word in (
        (gd.CrossEntropy([1.0, 1.0]), "class_weights"),
        (gd.BinaryCrossEntropy([1.0, 2.0]), "pos_weight"),
        (gd.BinaryCrossEntropy(class_weights=[1.0, 2.0, 1.0, 2.0]), "class_weights"),
        (gd.Quantile([0.1, 0.9]), "levels"),
    ):
        x = np.ones((4, 2), np.float32)
        y = np.zeros(4, int) if word == "class_weights" else np.zeros((4, 3), np.float32)
        helpers.refuses(
            lambda lo=loss, xy=(x, y): gd.Trainer(model, lo, optimizer=gd.SGD(0.1)).step(*xy), ValueError, word
        )


SPECS = [
    gd.Dense(3, 4),
    gd.Dense(3, 4, bias=False, init=gd.Uniform(0.25), bias_init=gd.Constant(0.5)),
    *helpers.ACTIVATIONS,
    gd.Dropout(0.25),
    gd.BatchNorm(5, 0.8, eps=1e-3, running="variance", affine=False),
    gd.LayerNorm(5, 1e-3, affine=False),
    gd.Standardizer(2),
    gd.PiecewiseLinear([[0.0, 0.5, 1.0], [2.0, 3.0]], columns=[3, 1], clip=True, feature_names=["a", "b", "c", "d"]),
    gd.Embedding([3, 4], [2, None], columns=["a", "b"], init=gd.Uniform(0.5)),
    gd.Periodic(3, frequencies=8, dim=5, sigma=0.5, kind="plr"),
    gd.Residual(gd.Dense(3, 3), gd.ReLU(), name="block"),
    gd.HeNormal(),
    gd.HeUniform(),
    gd.GlorotNormal(),
    gd.GlorotUniform(),
    gd.Uniform(0.5),
    gd.Normal(0.5),
    gd.Constant(0.5),
    gd.MeanSquaredError(),
    gd.CrossEntropy(),
    gd.CrossEntropy([1.0, 2.0], 0.125),
    gd.BinaryCrossEntropy(),
    gd.BinaryCrossEntropy([2.0, 0.5]),
    gd.CrossEntropy("balanced", gamma=2.0),
    gd.BinaryCrossEntropy(class_weights={"no": 1.0, "yes": 2.0}, gamma=0.5),
    gd.BinaryCrossEntropy(class_weights=[1.0, 2.0]),
    gd.Huber(0.5),
    gd.MeanAbsoluteError(),
    gd.Quantile(0.25),
    gd.Quantile([0.25, 0.5]),
    gd.Poisson(),
    gd.Scale(5),
    gd.SGD(0.5),
    gd.Momentum(0.5, 0.25, nesterov=True, weight_decay=0.5, clip_norm=1.0),
    gd.AdaGrad(0.5, 0.25, clip_value=2.0),
    gd.RMSProp(0.5, 0.25, eps=0.125, lr_factors=[1.0, 2.0]),
    gd.Adam(0.5, (0.25, 0.75), eps=0.125, decoupled=True, decay_biases=True),
    gd.Adam(0.5, weight_decay={"layers.0": 0.5}),
]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_specs_behave_like_dataclasses(spec: Any) -> None:
    rebuilt = type(spec)(**{name: getattr(spec, name) for name in spec._fields})
    for other in (
        rebuilt,
        copy.copy(spec),
        copy.deepcopy(spec),
        pickle.loads(pickle.dumps(spec)),
        eval(repr(spec), vars(gd).copy()),
    ):
        assert type(other) is type(spec) and other == spec and repr(other) == repr(spec)
    assert spec != object() and spec != 3
    assert sum(spec == other for other in SPECS) == 1
