"""Promise: whole-network training in float64 agrees with PyTorch to 1e-9 over 50 steps, for random architectures, all
activations, norms, losses and optimisers."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.torch
STEPS = 50
torch.set_num_threads(1)  # its threads spin while they wait, which costs minutes on a busy machine

ACTIVATIONS = [
    (gd.ReLU(), lambda: nn.ReLU()), (gd.LeakyReLU(0.2), lambda: nn.LeakyReLU(0.2)), (gd.Tanh(), lambda: nn.Tanh()),
    (gd.Sigmoid(), lambda: nn.Sigmoid()), (gd.GELU(), lambda: nn.GELU()), (gd.Softplus(), lambda: nn.Softplus()),
    (gd.GELU(approximate="tanh"), lambda: nn.GELU(approximate="tanh")),
]  # fmt: skip


def pair_of_optimizers(name: str, parameters: Any, lr: float, decay: float) -> tuple[Any, Any]:
    """(ours, theirs). PyTorch's momentum multiplies the rate at the end, which is the same at a constant rate."""
    weights = [p for p in parameters if p.ndim == 2]
    rest = [p for p in parameters if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    optim = torch.optim
    return {
        "SGD": lambda: (gd.SGD(lr, weight_decay=decay), optim.SGD(groups, lr)),
        "Momentum": lambda: (gd.Momentum(lr, 0.8, weight_decay=decay), optim.SGD(groups, lr, momentum=0.8)),
        "Nesterov": lambda: (
            gd.Momentum(lr, 0.8, nesterov=True, weight_decay=decay),
            optim.SGD(groups, lr, momentum=0.8, nesterov=True),
        ),
        "AdaGrad": lambda: (gd.AdaGrad(lr, 1e-3, weight_decay=decay), optim.Adagrad(groups, lr, eps=1e-3)),
        "RMSProp": lambda: (
            gd.RMSProp(lr, 0.95, eps=1e-3, weight_decay=decay),
            optim.RMSprop(groups, lr, alpha=0.95, eps=1e-3),
        ),
        "Adam": lambda: (
            gd.Adam(lr, (0.9, 0.99), eps=1e-3, weight_decay=decay),
            optim.Adam(groups, lr, betas=(0.9, 0.99), eps=1e-3),
        ),
        "AdamW": lambda: (
            gd.AdamW(lr, (0.8, 0.999), eps=1e-3, weight_decay=decay),
            optim.AdamW(groups, lr, betas=(0.8, 0.999), eps=1e-3),
        ),
    }[name]()


OPTIMIZERS = ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW"]


def pair_of_losses(name: str, rng: helpers.Generator, rows: int, out: int) -> tuple[Any, Any, np.ndarray, Any]:
    """(ours, theirs, our targets, their targets)."""
    labels = rng.integers(0, out, rows)
    omega = rng.uniform(0.2, 3, out)
    floats = rng.standard_normal((rows, out))
    soft = rng.dirichlet(np.ones(out), rows)
    t, i = torch.tensor, torch.tensor(labels)
    return {
        "mse": lambda: (gd.MeanSquaredError(), nn.MSELoss(), floats, t(floats)),
        "ce": lambda: (gd.CrossEntropy(), nn.CrossEntropyLoss(), labels, i),
        "ce weights": lambda: (gd.CrossEntropy(omega), nn.CrossEntropyLoss(t(omega)), labels, i),
        "ce smooth": lambda: (gd.CrossEntropy(None, 0.2), nn.CrossEntropyLoss(label_smoothing=0.2), labels, i),
        "ce weights smooth": lambda: (
            gd.CrossEntropy(omega, 0.1),
            nn.CrossEntropyLoss(t(omega), label_smoothing=0.1),
            labels,
            i,
        ),
        "ce soft": lambda: (gd.CrossEntropy(), nn.CrossEntropyLoss(), soft, t(soft)),
        "bce": lambda: (
            gd.BinaryCrossEntropy(),
            lambda z, y: nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum") / rows,
            soft,
            t(soft),
        ),
        "bce positive": lambda: (
            gd.BinaryCrossEntropy(omega),
            lambda z, y: (
                nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum", pos_weight=t(omega)) / rows
            ),
            soft,
            t(soft),
        ),
    }[name]()


LOSSES = ["mse", "ce", "ce weights", "ce smooth", "ce weights smooth", "ce soft", "bce", "bce positive"]


def pair_of_networks(rng: helpers.Generator, seed: int) -> tuple[gd.Sequential, Any]:
    """Random architecture, the same in both, with gdcore's parameters."""
    ours, theirs = [], []
    width = width_in = int(rng.integers(2, 20))
    for _ in range(int(rng.integers(1, 4))):
        new, bias = int(rng.integers(2, 30)), bool(rng.integers(2))
        ours.append(gd.Dense(width, new, bias=bias))
        theirs.append(nn.Linear(width, new, bias=bias))
        width = new
        kind, affine = rng.integers(3), bool(rng.integers(2))
        if kind == 1:
            ours.append(gd.BatchNorm(width, eps=1e-2, running="variance", affine=affine))
            theirs.append(nn.BatchNorm1d(width, eps=1e-2, affine=affine))
        elif kind == 2:
            ours.append(gd.LayerNorm(width, 1e-2, affine=affine))
            theirs.append(nn.LayerNorm(width, eps=1e-2, elementwise_affine=affine))
        spec, module = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
        ours.append(spec)
        theirs.append(module())
    ours.append(gd.Dense(width, 3))
    theirs.append(nn.Linear(width, 3))
    model = gd.Sequential(*ours, seed=seed, dtype="float64")
    module = nn.Sequential(*theirs).double()
    module.load_state_dict(model.to_torch(), strict=True)
    assert model.in_features == width_in
    return model, module


def compare(model: gd.Sequential, module: Any, tolerance: float = 1e-9) -> None:
    theirs = [p.detach().numpy() for p in module.parameters()]
    for (name, mine), other in zip(model.parameters().items(), theirs, strict=True):
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() <= tolerance * max(1.0, np.abs(other).max()), name


def run(seed: int, optimizer: str, loss: str, lr: float = 0.01, **clip: Any) -> None:
    rng = helpers.generator("parity", seed, optimizer, loss)
    model, module = pair_of_networks(rng, seed)
    x = rng.standard_normal((24, model.in_features))
    ours, theirs, y, y_torch = pair_of_losses(loss, rng, 24, 3)
    spec, optim = pair_of_optimizers(optimizer, list(module.parameters()), lr, 0.01)
    trainer = gd.Trainer(model, ours, optimizer=spec)
    for _ in range(STEPS):
        optim.zero_grad()
        out = theirs(module(torch.tensor(x)), y_torch)
        out.backward()
        optim.step()
        assert abs(trainer.step(x, y) - out.item()) <= 1e-9 * max(1.0, abs(out.item()))
    compare(model, module)
    module.train()
    mine = np.array(model.forward(x))
    np.testing.assert_allclose(mine, module(torch.tensor(x)).detach().numpy(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_random_architectures(optimizer: str, loss: str) -> None:
    run(0, optimizer, loss)


def test_clipping_by_norm() -> None:
    rng = helpers.generator("clip")
    model, module = pair_of_networks(rng, 7)
    x, labels = rng.standard_normal((24, model.in_features)), rng.integers(0, 3, 24)
    optim = torch.optim.SGD(module.parameters(), 0.1)
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1, clip_norm=0.05))
    for _ in range(STEPS):
        optim.zero_grad()
        nn.CrossEntropyLoss()(module(torch.tensor(x)), torch.tensor(labels)).backward()
        total = torch.sqrt(sum((p.grad**2).sum() for p in module.parameters()))
        for p in module.parameters():
            p.grad *= min(1.0, 0.05 / total.item())
        optim.step()
        trainer.step(x, labels)
    compare(model, module)


def test_gradients_and_input_gradient() -> None:
    for seed in range(5):
        rng = helpers.generator("gradients", seed)
        model, module = pair_of_networks(rng, seed)
        x, dout = rng.standard_normal((16, model.in_features)), rng.standard_normal((16, 3))
        z = torch.tensor(x, requires_grad=True)
        out = module(z)
        out.backward(torch.tensor(dout))
        np.testing.assert_allclose(model.forward(x), out.detach().numpy(), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(model.backward(dout), z.grad.numpy(), rtol=1e-8, atol=1e-9)
        for mine, other in zip(model.gradients().values(), module.parameters(), strict=True):
            np.testing.assert_allclose(mine, other.grad.numpy(), rtol=1e-8, atol=1e-9)


def test_compare_rejects() -> None:
    model, module = pair_of_networks(helpers.generator("reject"), 0)
    compare(model, module)
    model.parameters()["layers.0.weight"][0, 0] += 1e-8
    with pytest.raises(AssertionError):
        compare(model, module)
