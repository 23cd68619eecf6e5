"""PyTorch on the GPU: data, order and optimiser on the device; the whole step is captured where possible."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.peers import cases
from bench.peers.cases import Data
from bench.peers.peer_torch import build

from .cases import Run

UNROLLED = 32  # steps of a captured graph
VARIANTS = ("graph", "eager", "eager foreach")
# torch.compile's modes; they take many seconds to compile. None is its default.
COMPILED = {
    "compiled graph": "max-autotune-no-cudagraphs",
    "reduce-overhead": "reduce-overhead",
    "max-autotune": "max-autotune",
    "compile": None,
}


class TorchPeer:
    """A variant of training; graphs run `UNROLLED` steps per launch and gather batches by an index on the device."""

    def __init__(self, run: Run, data: Data, variant: str) -> None:
        torch.set_float32_matmul_precision("high" if run.precision == "tf32" else "highest")
        torch.compiler.reset()
        self.batch, self.batches = run.case.batch, len(data.x)
        self.x = torch.from_numpy(data.x.reshape(-1, data.x.shape[-1])).cuda()
        self.y = torch.from_numpy(data.y.reshape(-1)).cuda()
        self.model = build(run.case, data).cuda()
        self.low = run.precision == "bfloat16"
        self.graphed = variant.endswith("graph")
        how = {"foreach": True} if variant == "eager foreach" else {"fused": True}
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), run.case.rate, betas=cases.BETAS, eps=cases.EPS, capturable=True, **how
        )
        self.loss: Callable[[Tensor, Tensor], Tensor] = self._loss
        if variant in COMPILED:
            self.loss = torch.compile(self._loss, dynamic=False, mode=COMPILED[variant])
        self.unrolled = min(UNROLLED, self.batches)
        self.order = torch.arange(len(self.x), device="cuda")
        self.index = self.order[: self.unrolled * self.batch].clone()
        self.losses = torch.zeros(self.unrolled, device="cuda")
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._warm()

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.low):
            return functional.cross_entropy(self.model(x), y)

    def _step(self, index: Tensor) -> Tensor:
        loss = self.loss(self.x[index], self.y[index])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach().clone()

    def _captured(self) -> None:
        for k in range(self.unrolled):
            self.losses[k] = self._step(self.index[k * self.batch : (k + 1) * self.batch])

    def _warm(self) -> None:
        if not self.graphed:
            for k in range(3):
                self._step(self.order[k % self.batches * self.batch :][: self.batch])
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step(self.index[: self.batch])
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._captured()

    def reset(self) -> None:
        """Restore the initial weights in place: graphs refer to this memory."""
        self.model.load_state_dict(self.start)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def epoch(self, shuffled: bool = True) -> list[Tensor]:
        """Train an epoch; the losses stay on the device."""
        if shuffled:
            torch.randperm(len(self.x), device="cuda", out=self.order)
        losses: list[Tensor] = []
        if self.graphed:
            for first in range(0, self.batches - self.unrolled + 1, self.unrolled):
                self.index.copy_(self.order[first * self.batch :][: self.unrolled * self.batch])
                self.graph.replay()
                losses.append(self.losses.clone())
        else:
            for first in range(self.batches):
                losses.append(self._step(self.order[first * self.batch :][: self.batch]).reshape(1))
        return losses

    def curve(self, steps: int) -> list[float]:
        """Return the losses of the first steps, in the order of the data."""
        self.reset()
        torch.arange(len(self.x), out=self.order)
        losses: list[Tensor] = []
        while sum(len(part) for part in losses) < steps:
            losses += [part.clone() for part in self.epoch(shuffled=False)]
        return [float(loss) for loss in torch.cat(losses)[:steps].cpu()]

    def seconds_per_step(self, seconds: float) -> dict[str, float]:
        """Return the host's time of a step, and the device's time from events."""
        steps = self.batches // self.unrolled * self.unrolled if self.graphed else self.batches

        def stretch(epochs: int) -> tuple[float, float]:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            started = time.perf_counter()
            first.record()
            for _ in range(epochs):
                self.epoch()
            last.record()
            torch.cuda.synchronize()
            return time.perf_counter() - started, first.elapsed_time(last) * 1e-3

        self.reset()
        stretch(1)
        epochs = max(1, round(seconds / max(stretch(1)[0], 1e-5)))
        times = np.array([stretch(epochs) for _ in range(5)]) / (epochs * steps)
        host, device = np.median(times, axis=0)
        return {"step": float(host), "spread": float(np.ptp(times[:, 0])), "device": float(device)}


def free() -> None:
    """Free PyTorch's cached memory: gdcore uses the same device."""
    gc.collect()
    torch.cuda.empty_cache()


def versions() -> dict[str, Any]:
    """Return PyTorch's versions and its description of the device."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "torch": torch.__version__,
        "cuda of torch": torch.version.cuda,
        "device": properties.name,
        "memory": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        "L2": getattr(properties, "L2_cache_size", None),
    }
