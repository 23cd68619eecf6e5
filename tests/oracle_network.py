"""The oracle's network: layers, backward pass and optimiser in plain NumPy in float64; the formulas are in oracle.py.

Like there, specs are read by the name of their class and by their attributes, and nothing is imported from gdcore.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle_columns
from oracle import (
    STATES,
    Sized,
    activation,
    column_affine,
    dense,
    dense_backward,
    f64,
    gradient_before,
    kind,
    loss,
    normalize,
    normalize_backward,
    saved_for,
    update,
)


class Reference:
    """A whole network with its optimiser in float64: built from specs and a dictionary of parameters like gdcore's.

    `decay` and `factors` map a layer's prefix ("layers.0") to its weight decay and its rate factor; `frozen` lists
    prefixes. Weight decay applies to biases, gamma and beta only with `decay_biases`. Dropout layers are not allowed.
    """

    def __init__(self, layers: list, parameters: dict[str, np.ndarray], buffers: dict[str, np.ndarray] | None = None):
        self.layers = list(layers)
        self.parameters = {name: f64(a).copy() for name, a in parameters.items()}
        self.buffers = {name: f64(a).copy() for name, a in (buffers or {}).items()}
        self.gradients: dict[str, np.ndarray] = {}
        self.inside: dict[int, Reference] = {}  # networks of the blocks
        self.states: dict[str, list[np.ndarray]] = {}
        self.steps = 0

    def _get(self, i: int, name: str) -> np.ndarray | None:
        return self.parameters.get(f"layers.{i}.{name}")

    def _all(self, i: int, prefix: str = "") -> dict[str, np.ndarray]:
        own = f"layers.{i}."
        return {prefix + n.removeprefix(own): a for n, a in self.parameters.items() if n.startswith(own)}

    def _states(self, i: int) -> dict[str, np.ndarray]:
        own = f"layers.{i}."
        return {"layers." + n.removeprefix(own): a for n, a in self.buffers.items() if n.startswith(own)}

    def forward(self, x: Any, training: bool = True) -> np.ndarray:
        """Outputs (N, out); training=True uses batch statistics and moves the running averages."""
        x = f64(x)
        self.tape = []
        for i, layer in enumerate(self.layers):
            before, name = x, kind(layer)
            if name == "Dense":
                x = dense(x, self._get(i, "weight"), self._get(i, "bias")).value
            elif name == "BatchNorm":
                x = self._batch_norm(i, layer, x, training)
            elif name == "LayerNorm":
                x = normalize(x, self._get(i, "gamma"), self._get(i, "beta"), layer.eps, 1).out.value
            elif name == "Scale":
                x = x * self._get(i, "factor")
            elif name == "Standardizer":
                x = (x - self.buffers[f"layers.{i}.mean"]) / self.buffers[f"layers.{i}.std"]
            elif name in oracle_columns.ENCODINGS:
                x = oracle_columns.forward(layer, self._all(i), x)
            elif name == "Residual":
                self.inside[i] = Reference(layer.layers, self._all(i, "layers."), self._states(i))
                x = x + self.inside[i].forward(x, training)
            else:
                x = activation(layer, x).value
            self.tape.append((before, x))
        return x

    def _batch_norm(self, i: int, layer: Any, x: np.ndarray, training: bool) -> np.ndarray:
        gamma, beta = self._get(i, "gamma"), self._get(i, "beta")
        mean, spread = self.buffers[f"layers.{i}.running_mean"], self.buffers[f"layers.{i}.running_{layer.running}"]
        if not training:
            variance = spread if layer.running == "variance" else spread**2
            return column_affine(x, mean, 1.0 / np.sqrt(variance + layer.eps), gamma, beta).value
        norm = normalize(x, gamma, beta, layer.eps, 0)
        moved = norm.variance.value[0] if layer.running == "variance" else np.sqrt(norm.variance.value[0])
        mean[...] = layer.decay * mean + (1.0 - layer.decay) * norm.mean.value[0]
        spread[...] = layer.decay * spread + (1.0 - layer.decay) * moved
        return norm.out.value

    def backward(self, dout: Any) -> np.ndarray:
        """Gradient with respect to the input of the last training forward; fills `gradients`."""
        g = Sized(f64(dout), np.abs(f64(dout)))
        for i in reversed(range(len(self.layers))):
            layer, (x, out) = self.layers[i], self.tape[i]
            name = kind(layer)
            if name == "Dense":
                g, *grads = dense_backward(x, self._get(i, "weight"), g)
                names = ("weight", "bias")
            elif name in ("BatchNorm", "LayerNorm"):
                axis = 0 if name == "BatchNorm" else 1
                norm = normalize(x, None, None, layer.eps, axis)
                g, *grads = normalize_backward(x, self._get(i, "gamma"), norm.mean.value, norm.rstd, g, axis)
                names = ("gamma", "beta")
            elif name == "Scale":
                grads, names = [Sized((g.value * x).sum(0), (g.size * np.abs(x)).sum(0))], ("factor",)
                factor = self._get(i, "factor")
                g = Sized(g.value * factor, g.size * np.abs(factor))
            elif name in oracle_columns.ENCODINGS:
                dx, own = oracle_columns.backward(layer, self._all(i), x, g.value)
                self.gradients |= {f"layers.{i}.{key}": grad for key, grad in own.items()}
                g = Sized(dx, np.abs(dx))
                continue
            elif name == "Residual":
                inside = self.inside[i]
                g = Sized(g.value + inside.backward(g.value), g.size)
                own = {n.removeprefix("layers."): grad for n, grad in inside.gradients.items()}
                self.gradients |= {f"layers.{i}.{key}": grad for key, grad in own.items()}
                continue
            elif name == "Standardizer":
                g = Sized(g.value / self.buffers[f"layers.{i}.std"], g.size)
                continue
            else:
                g = gradient_before(layer, saved_for(layer, x, out), g.value)
                continue
            for key, grad in zip(names, grads, strict=True):
                if self._get(i, key) is not None:
                    self.gradients[f"layers.{i}.{key}"] = grad.value
        return g.value

    def optimizer_step(
        self, spec: Any, lr: float, *, decay: Any = 0.0, factors: Any = None, frozen: tuple = ()
    ) -> None:
        """Clip by global norm over the trained parameters, then value, then decay, then the rule."""
        self.steps += 1
        trained = [n for n in self.parameters if not any(n.startswith(p + ".") or n == p for p in frozen)]
        norm = math.sqrt(sum(float((self.gradients[n] ** 2).sum()) for n in trained))
        limit = getattr(spec, "clip_norm", None)
        scale = limit / norm if limit is not None and norm > limit else 1.0
        for name in trained:
            prefix = name.rsplit(".", 1)[0]
            own = decay.get(prefix, 0.0) if isinstance(decay, dict) else decay
            if not name.endswith(".weight") and not getattr(spec, "decay_biases", False):
                own = 0.0
            states = self.states.setdefault(
                name, [np.zeros_like(self.parameters[name]) for _ in range(STATES[kind(spec)])]
            )
            rate = lr * (factors or {}).get(prefix, 1.0)
            update(spec, self.parameters[name], self.gradients[name] * scale, states, rate, self.steps, own)

    def step(self, loss_spec: Any, x: Any, targets: Any, weights: Any, spec: Any, lr: float, **groups: Any) -> float:
        """One training step; returns the batch's loss."""
        result = loss(loss_spec, self.forward(x), targets, weights)
        self.backward(result.grad.value)
        self.optimizer_step(spec, lr, **groups)
        return result.mean
