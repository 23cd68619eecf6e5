"""PyTorch: eager with its fused Adam, and compiled by torch.compile in the variants expected to be fastest."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import cases
from .registry import Calls, best_seconds

VARIANT_SECONDS = 0.1


def build(case: cases.Case, data: cases.Data) -> nn.Sequential:
    """Make the network with the given weights."""
    layers: list[nn.Module] = []
    for i, (weight, bias) in enumerate(zip(data.weights, data.biases, strict=True)):
        outputs, inputs = weight.shape
        dense = nn.Linear(inputs, outputs)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(weight))
            dense.bias.copy_(torch.from_numpy(bias))
        layers.append(dense)
        if i < case.hidden:
            if case.norm == "batch":
                layers.append(nn.BatchNorm1d(outputs, eps=cases.NORM_EPS, momentum=1 - cases.NORM_DECAY))
            elif case.norm == "layer":
                layers.append(nn.LayerNorm(outputs, eps=cases.NORM_EPS))
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Stepper:
    """A network, its optimiser and a function for one step; base class of the variants."""

    def __init__(self, case: cases.Case, data: cases.Data) -> None:
        self.model, self.rate = build(case, data), case.rate
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}
        loss = functional.mse_loss if case.loss == "mse" else functional.cross_entropy
        model = self.model
        self.loss: Callable[[Tensor, Tensor], Tensor] = lambda x, y: loss(model(x), y)
        self.states: list[Tensor] = []
        self.step: Callable[[Tensor, Tensor], Tensor] = self._fused(self.loss)

    def _fused(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the usual step around a loss, with PyTorch's fused Adam."""
        optimizer = torch.optim.Adam(self.model.parameters(), self.rate, betas=cases.BETAS, eps=cases.EPS, fused=True)
        self.optimizer = optimizer

        def step(x: Tensor, y: Tensor) -> Tensor:
            value = loss(x, y)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            return value

        return step

    def reset(self) -> None:
        """Restore the initial weights in place: compiled code refers to the tensors."""
        self.model.load_state_dict(self.start)
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        for state in [*states, *self.states]:
            state.zero_()


class CompiledForward(Stepper):
    """Network and loss compiled, forward and backward; the fused Adam is not compiled."""

    def __init__(self, case: cases.Case, data: cases.Data) -> None:
        super().__init__(case, data)
        self.step = self._fused(torch.compile(self.loss, dynamic=False))


class CompiledStep(Stepper):
    """The whole step as one graph with explicit Adam formulas: a single call from Python."""

    mode: str | None = None

    def __init__(self, case: cases.Case, data: cases.Data) -> None:
        super().__init__(case, data)
        # Without it the compiler splits the graph at the gradients and returns to Python.
        torch._dynamo.config.trace_autograd_ops = True  # type: ignore[attr-defined]
        parameters = list(self.model.parameters())
        first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        count = torch.zeros(())
        self.states = [*first, *second, count]
        loss, rate, (beta1, beta2) = self.loss, self.rate, cases.BETAS

        def step(x: Tensor, y: Tensor) -> Tensor:
            value = loss(x, y)
            gradients = torch.autograd.grad(value, parameters)
            with torch.no_grad():
                count.add_(1)
                correction1, correction2 = 1 - beta1**count, 1 - beta2**count
                for p, g, s, r in zip(parameters, gradients, first, second, strict=True):
                    s.mul_(beta1).add_(g, alpha=1 - beta1)
                    r.mul_(beta2).addcmul_(g, g, value=1 - beta2)
                    p.sub_(rate * (s / correction1) / ((r / correction2).sqrt() + cases.EPS))
            return value.detach()

        self.step = torch.compile(step, dynamic=False, fullgraph=True, mode=self.mode)


class TunedStep(CompiledStep):
    """The same, with the compiler's own matrix products where they are faster."""

    mode = "max-autotune"


class EagerPeer:
    """Plain PyTorch, without compilation."""

    variants: dict[str, type[Stepper]] = {"eager": Stepper}  # noqa: RUF012 - never changed

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        made, numbers = cases.Case.from_json(case), cases.load(data)
        xs, ys = torch.from_numpy(numbers.x), torch.from_numpy(numbers.y)
        self.batches = list(zip(xs, ys, strict=True))
        names = list(self.variants) if variant is None else [variant]
        times: dict[str, float] = {}
        failures: dict[str, str] = {}
        for name in names if len(names) > 1 else []:
            try:
                self._load(name, made, numbers)
                times[name] = self._time()
            except Exception as error:  # a failing variant must not stop the others
                failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        if failures and not times:
            raise RuntimeError(f"no variant could be compiled: {failures}")
        chosen = min(times, key=times.__getitem__) if times else names[0]
        self._load(chosen, made, numbers)
        return {"variant": chosen, "variants": {n: t * 1e6 for n, t in times.items()}, "variants_failed": failures}

    def _load(self, name: str, case: cases.Case, data: cases.Data) -> None:
        torch.compiler.reset()  # otherwise each call would check the guards of other variants
        self.stepper = self.variants[name](case, data)
        for batch in islice(cycle(self.batches), 3):
            self.stepper.step(*batch)

    def _time(self) -> float:
        once = max(self.run(2)["seconds"] / 2, 1e-7)
        steps = max(2, round(VARIANT_SECONDS / once))
        return best_seconds(lambda: self.run(steps)["seconds"] / steps)

    def curve(self, steps: int) -> list[float]:
        self.stepper.reset()
        losses = [self.stepper.step(x, y).detach() for x, y in islice(cycle(self.batches), steps)]
        return [float(value) for value in losses]

    def run(self, steps: int) -> dict[str, float]:
        self.stepper.reset()
        step = self.stepper.step
        step(*self.batches[0])
        batches = list(islice(cycle(self.batches), steps))
        started = time.perf_counter()
        for x, y in batches:
            step(x, y)
        return {"seconds": time.perf_counter() - started, "steps": steps}


class PredictPeer(Calls):
    """The network in `torch.inference_mode`, for tensors."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    versions = EagerPeer.versions

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        numbers = cases.load(data)
        self.predict = torch.inference_mode()(build(cases.Case.from_json(case), numbers).eval().forward)
        self.batches = [torch.from_numpy(x) for x in numbers.x]
        return {"variant": "inference_mode"}


class CompiledPeer(EagerPeer):
    """torch.compile: the fastest of three variants, each timed when a case is prepared."""

    variants: dict[str, type[Stepper]] = {  # noqa: RUF012 - never changed
        "forward and backward": CompiledForward,
        "whole step": CompiledStep,
        "whole step, max-autotune": TunedStep,
    }
