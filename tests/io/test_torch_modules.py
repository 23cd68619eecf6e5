"""Promise: modules of PyTorch made from models, and models made from modules, predict the same, and train the same as
far as PyTorch has it; a module that gdcore lacks is refused by name."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import gdcore as gd
import gradient_cases
import helpers
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from gdcore.io import torch_modules  # noqa: E402  # after the check for torch

nn = torch.nn
pytestmark = pytest.mark.torch
torch.set_num_threads(1)
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
NEAR = {"float32": 1e-5, "float64": 1e-12}
LAYERS = {
    **gradient_cases.LAYERS,
    "Standardizer": [gd.Standardizer(mean=[1e4, -3.0, 0.5, 0.0], std=[1.0, 1e-25, 1e25, 2.0]), gd.Dense(4, 3)],
    "Dropout": [gd.Dense(4, 3), gd.Dropout(0.9), gd.Dense(3, 3), gd.Dropout(0.1)],
    "names": [gd.Dense(4, 3, name="first"), gd.LeakyReLU(0.3), gd.Dense(3, 2, name="head")],
}
SCALE = [1.0, 1e-25, 1e25, 2.0]


def case(name: str, dtype: str, rng: helpers.Generator, device: str = "cpu") -> tuple[gd.Sequential, np.ndarray]:
    """Return a model of random parameters and averages, and inputs."""
    model = gd.Sequential(*LAYERS[name], seed=0, dtype=dtype, device=device)
    helpers.randomize(model, rng)
    x = rng.standard_normal((33, 4)) * 3
    for _ in range(3):
        model.forward(x * 2 + 1)  # which moves the running averages
    return model, (x * SCALE + [1e4, -3.0, 0.5, 0.0] if name == "Standardizer" else x).astype(dtype)


def outputs(module: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    limit = NEAR[str(expected.dtype)] * max(1.0, np.abs(expected).max())
    assert (np.abs(found - expected) < limit).all(), np.abs(found - expected).max()


@DTYPES
@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back(name: str, dtype: str, device: str, rng: helpers.Generator) -> None:
    model, x = case(name, dtype, rng, device)
    module = model.to_torch_module()
    expected = np.array(model.predict(x))
    assert not module.training and type(module) is nn.Sequential and len(module) == len(model.layers)
    close(outputs(module, x), expected)
    known = {} if module.state_dict() else {"dtype": dtype}
    again = gd.from_torch_module(module, device=device, seed=5, outputs="numbers", **known)
    assert (again.dtype, again.seed, again.outputs) == (dtype, 5, "numbers")
    close(np.array(again.predict(x)), expected)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    helpers.randomize(model, rng)
    model.from_torch(module)
    close(np.array(model.predict(x)), expected)


def test_nothing_is_shared_and_nothing_else_changes(rng: helpers.Generator) -> None:
    model, x = case("deep", "float32", rng)
    before, state = helpers.snapshot(model), torch.get_rng_state()
    module = model.to_torch_module()
    assert torch.equal(torch.get_rng_state(), state), "initial values were drawn"
    for tensor in module.state_dict().values():
        tensor.zero_()
    helpers.same_bits(helpers.snapshot(model), before)
    module = model.to_torch_module().train()
    other = gd.from_torch_module(module)
    assert module.training
    for view in other.parameters().values():
        view[...] = 0
    close(outputs(module.eval(), x), model.predict(x))


def test_modules_are_copied_and_pickled(rng: helpers.Generator) -> None:
    model, x = case("Standardizer", "float32", rng)
    module = model.to_torch_module()
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.double().float()):
        close(outputs(made, x), model.predict(x))


def test_frozen_parameters_require_no_gradient() -> None:
    model = gd.Sequential(gd.Dense(4, 3), gd.BatchNorm(3), gd.Dense(3, 2, name="head"), seed=0)
    model.freeze("layers.0", "layers.1.beta", "head.bias")
    module = model.to_torch_module()
    frozen = {name for name, each in module.named_parameters() if not each.requires_grad}
    assert frozen == {"0.weight", "0.bias", "1.bias", "2.bias"}
    assert gd.from_torch_module(module).frozen() == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.beta",
        "layers.2.bias",
    ]


def test_training_goes_on_in_pytorch(rng: helpers.Generator) -> None:
    """A step of gradient descent is the same in both, the scaling is fixed, and averages are PyTorch's."""
    x = rng.standard_normal((40, 4)) * 5 + 3
    parts = (
        gd.Standardizer().fit(x),
        gd.Dense(4, 6),
        gd.BatchNorm(6, 0.7, running="variance"),
        gd.Tanh(),
        gd.Dense(6, 2),
    )
    model = gd.Sequential(*parts, seed=0, dtype="float64")
    module, y = model.to_torch_module().train(), rng.standard_normal((40, 2))
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        assert abs(trainer.step(x, y) - loss.item()) < 1e-12
    helpers.same_bits(module[0].std.numpy(), np.asarray(model.layers[0].std))
    variance = np.array(model.buffers()["layers.2.running_variance"])
    first = 0.7**5  # the part of the initial 1; PyTorch divides by N - 1
    close(module[2].running_var.numpy() - first, (variance - first) * 40 / 39)
    close(module[2].running_mean.numpy(), np.array(model.buffers()["layers.2.running_mean"]))
    close(gd.from_torch_module(module).predict(x), outputs(module.eval(), x))


def test_modules_of_users(rng: helpers.Generator) -> None:
    """Nested, repeated activations, half precision, plain layers, other settings."""
    repeated = nn.ReLU()
    half = nn.Sequential(nn.Linear(4, 3), nn.Softplus()).half()
    cases = {
        "nested": nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.Identity()), nn.Sequential(nn.BatchNorm1d(5, 0.1))),
        "repeated": nn.Sequential(nn.Linear(4, 5), repeated, nn.Linear(5, 5), repeated),
        "one": nn.Linear(4, 2, bias=False),
        "scaling": nn.Sequential(nn.BatchNorm1d(4, eps=0, affine=False), nn.Linear(4, 2)),
        "norms": nn.Sequential(nn.LayerNorm(4, 0.3, elementwise_affine=False), nn.BatchNorm1d(4, affine=False)),
        "activations": nn.Sequential(nn.LeakyReLU(0.4), nn.GELU("tanh"), nn.Softplus(threshold=30), nn.Linear(4, 1)),
        "double": nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.3, inplace=True)).double(),
    }
    for name, module in cases.items():
        for each in module.modules():
            if isinstance(each, nn.BatchNorm1d):
                each.running_mean += torch.from_numpy(rng.standard_normal(each.num_features))
                each.running_var *= 3
        model = gd.from_torch_module(module, device="cpu", seed=0)
        x = rng.standard_normal((9, 4)).astype(model.dtype)
        close(model.predict(x), outputs(module.eval(), x))
        assert model.dtype == ("float64" if name == "double" else "float32")
    model = gd.from_torch_module(half, dtype="float64")
    assert model.dtype == "float64" and gd.from_torch_module(half).dtype == "float32"
    close(model.predict(x), outputs(half.double().eval(), x.astype(float)))
    assert [type(layer) for layer in gd.from_torch_module(cases["repeated"]).layers] == [gd.Dense, gd.ReLU] * 2
    assert isinstance(gd.from_torch_module(cases["scaling"]).layers[0], gd.Standardizer)
    norm = gd.from_torch_module(nn.BatchNorm1d(3, 1e-3, 0.25)).layers[0]
    assert norm == gd.BatchNorm(3, 0.75, eps=1e-3, running="variance")


class Doubles(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


class Backwards(nn.Sequential):
    def forward(self, x: Any) -> Any:
        return self[0](self[1](x))


def hooked() -> Any:
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].register_forward_hook(lambda *_: None)
    return module


def shared() -> Any:
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.ReLU(), layer)


def tied() -> Any:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    return module


def filled(value: float) -> Any:
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].weight.data[0, 1] = value
    return module


NOT_ONE = r"expected one of BatchNorm1d, Dropout,"
BAD: dict[str, Any] = {
    "number": (lambda: 3, TypeError, r"^module: got int"),
    "state": (lambda: nn.Linear(2, 2).state_dict(), TypeError, r"^module: got OrderedDict"),
    "other": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.CELU())),
        ValueError,
        rf"^module\['1.0'\].*{NOT_ONE}",
    ),
    "convolution": (lambda: nn.Conv1d(1, 1, 1), ValueError, r"^module: got Conv1d"),
    "subclass": (lambda: nn.Sequential(Doubles(2, 2)), ValueError, r"^module\['0'\]: got Doubles"),
    "other order": (lambda: Backwards(nn.Linear(2, 2), nn.ReLU()), ValueError, r"^module: got Backwards"),
    "parametrized": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
        ValueError,
        r"^module\['0'\]: got ParametrizedLinear",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(2)), ValueError, r"^module\['0'\]: has forward hooks"),
    "hooks": (hooked, ValueError, r"^module\['0'\]: has forward hooks"),
    "shared": (shared, ValueError, r"^module\['2'\]: shares its weight with module\['0'\]"),
    "tied": (tied, ValueError, r"^module\['1'\]: shares its weight with module\['0'\]"),
    "empty": (lambda: nn.Sequential(nn.Identity()), ValueError, r"^module: got no layers"),
    "nan": (lambda: filled(np.nan), ValueError, r"^module\[.*got nan"),
    "beta": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Softplus(2)), ValueError, r"^module\['1'\].*beta=1"),
    "threshold": (lambda: nn.Softplus(1, 5), ValueError, r"^module: .*at least 20"),
    "no averages": (lambda: nn.BatchNorm1d(2, track_running_stats=False), ValueError, "expected running averages"),
    "cumulative": (lambda: nn.BatchNorm1d(2, momentum=None), ValueError, "momentum=None"),
    "eps": (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, eps=0)), ValueError, r"^module\['1'\].*eps"),
    "dimensions": (lambda: nn.LayerNorm((2, 2)), ValueError, "one dimension"),
    "no bias": (lambda: nn.LayerNorm(2, bias=False), ValueError, "weight and bias, or neither"),
    "dropout": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0)), ValueError, r"^module\['1'\].*p: got 1"),
    "slope": (lambda: nn.LeakyReLU(-1.0), ValueError, "negative_slope"),
    "widths": (lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3)), ValueError, "in_features"),
    "dtypes": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), ValueError, "float32 and float64"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_modules(name: str) -> None:
    make, kind, word = BAD[name]
    helpers.refuses(lambda: gd.from_torch_module(make()), kind, word)


def test_refused_settings() -> None:
    module = nn.Linear(2, 2)
    helpers.refuses(lambda: gd.from_torch_module(module, loss=3), TypeError, "loss is not among its arguments")
    helpers.refuses(lambda: gd.from_torch_module(module, dtype="float16"), ValueError, "dtype")
    helpers.refuses(lambda: gd.from_torch_module(), TypeError, "module is missing")


def test_models_that_have_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    model = gd.Sequential(gd.Dense(2, 2), gd.BatchNorm(2), seed=0)
    model.buffers()["layers.1.running_std"][...] = 1e25
    for call in (model.to_torch, model.to_torch_module):
        helpers.refuses(call, ValueError, r"layers\[1\].running_std: got 1e\+25, whose square float32 exceeds")
    scaled = gd.Sequential(gd.Standardizer(mean=[0.0], std=[1e-60], feature_names=["height"]), gd.Dense(1, 1), seed=0)
    helpers.refuses(scaled.to_torch_module, ValueError, "column 'height'")
    monkeypatch.delitem(torch_modules.MODULES, "ReLU")
    model = gd.Sequential(gd.Dense(2, 2), gd.ReLU(), seed=0)
    helpers.refuses(model.to_torch_module, ValueError, r"to_torch_module: layers\[1\], ReLU, cannot be exported")


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    model = gd.Sequential(gd.Dense(2, 2), seed=0)
    helpers.refuses(model.to_torch_module, ImportError, "to_torch_module needs torch")
    helpers.refuses(lambda: gd.from_torch_module(None), ImportError, "from_torch_module needs torch")


def test_counts_are_logarithms() -> None:
    model = gd.Sequential(gd.Dense(2, 3), gd.Tanh(), gd.Dense(3, 1), seed=0, outputs="counts")
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    found = model.to_torch_module()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(np.exp(found), model.predict(x), rtol=1e-6)
