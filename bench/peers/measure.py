"""Measurement of a case: first a comparison of loss curves, then rounds of short timings of all peers in turn."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import cases, cores
from .client import PeerFailed, PeerMissing, Worker
from .registry import OURS, PREDICTION, PREDICTIONS, REFERENCE, WHOLE, base, reference

SMALL_LOSS = 0.1  # for smaller losses, differences are relative to this value


@dataclass(frozen=True)
class Settings:
    """Amount of measurement, threads and processors."""

    threads: int = 2
    cpus: tuple[int, ...] = (0, 1)
    rounds: int = 7
    seconds: float = 0.1  # of a peer's timing in a round
    least_steps: int = 3
    curve_steps: int = 20
    tolerance: float = 1e-3
    pause: float = 0.03  # after a timing, repeated until the peer uses no processor time during it
    patience: float = 60.0  # s of a case in which timings wait for a core for each processor (cores.py)


class Team:
    """The peers' processes; one that died is restarted for the next case."""

    def __init__(self, names: Iterable[str], settings: Settings, paths: Mapping[str, str] | None = None) -> None:
        """Start the processes; `paths` has the folder of a peer's own version of its library."""
        self.settings, self.paths = settings, paths or {}
        self.workers: dict[str, Worker] = {}
        self.about: dict[str, dict[str, Any]] = {}
        self.names: list[str] = []
        for name in names:
            try:
                worker = self._start(name)
            except PeerMissing as error:
                self.about[name] = {"missing": str(error)}
            except PeerFailed as error:
                self.about[name] = {"failed": str(error)}
            else:
                self.about[name] = {"versions": worker.versions}
                self.names.append(name)

    def _start(self, name: str) -> Worker:
        self.workers[name] = Worker(name, self.settings.threads, list(self.settings.cpus), self.paths.get(name))
        return self.workers[name]

    def get(self, name: str) -> Worker:
        """Return a peer's process."""
        worker = self.workers[name]
        if not worker.alive:
            worker.close()
            worker = self._start(name)
        return worker

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def rotated(names: list[str], turn: int) -> list[str]:
    """Return the names in the order of a round: each comes first in turn, and none always follows the same other one.

    Williams's design: 0, n-1, 1, n-2, ... shifted by one each turn; an odd number of names also needs it reversed.
    """
    count = len(names)
    zigzag = [i // 2 if i % 2 == 0 else count - 1 - i // 2 for i in range(count)]
    order = [names[(i + turn) % count] for i in zigzag]
    return order[::-1] if count % 2 and turn % 2 else order


def curve_difference(losses: list[float], reference: list[float]) -> float:
    """Return the largest difference of two curves, relative to the reference's loss, or to SMALL_LOSS if larger."""
    a, b = np.array(losses), np.array(reference)
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), SMALL_LOSS)))


class CaseRun:
    """The measurement of a case; a failure of a peer removes only that peer."""

    def __init__(self, case: cases.Case, team: Team) -> None:
        self.case, self.team, self.settings = case, team, team.settings
        self.names = list(team.names)
        self.peers: dict[str, dict[str, Any]] = {}
        self.unsupported: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.rounds: list[dict[str, float]] = []
        self.repeated = self.shared = 0  # timings repeated, and kept, as processors shared a core
        self.until = 0.0  # when waiting for that ends
        self.losses: list[float] | None = None

    def measure(self) -> dict[str, Any]:
        """Measure the case and return its entry in the JSON."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "case.npz"
            cases.save(cases.draw(self.case), path)
            for name in list(self.names):
                answer = self._call(name, "prepare", case=self.case.to_json(), data=str(path))
                if answer is None:
                    continue
                if "unsupported" in answer:
                    self.unsupported[name] = answer["unsupported"]
                    self.names.remove(name)
                else:
                    self.peers[name] = answer
        self._compare_curves()
        for name in list(self.names):
            self._calibrate(name)
        self.until = time.monotonic() + self.settings.patience
        for turn in range(self.settings.rounds):
            self._round(turn)
        return self._result()

    def _call(self, name: str, call: str, **arguments: Any) -> Any:
        """Return the peer's answer; if it fails, remove the peer and return None."""
        try:
            worker = self.team.get(name)
            answer = worker.call(call, **arguments)
            worker.settle(self.settings.pause)  # its threads must take no time from the next peer
            return answer
        except (PeerFailed, PeerMissing) as error:
            self._drop(name, str(error))
            return None

    def _drop(self, name: str, why: str) -> None:
        self.failures[name] = why
        self.names.remove(name)

    def _compare_curves(self) -> None:
        curves = {name: self._call(name, "curve", steps=self.settings.curve_steps) for name in list(self.names)}
        self.losses = curves.get(REFERENCE)
        for name in list(self.names):
            expected = curves.get(PREDICTION if base(name) in PREDICTIONS else REFERENCE)
            if expected is None:
                continue
            difference = curve_difference(curves[name], expected)
            self.peers[name]["curve_difference"] = difference
            if not difference <= self.settings.tolerance:  # NaN fails too
                self._drop(name, f"curves differ by {difference:.1e}, more than {self.settings.tolerance:.0e}")

    def _calibrate(self, name: str) -> None:
        """Choose the steps of a timing."""
        steps, seconds = 1, 0.0
        while True:
            answer = self._call(name, "run", steps=steps)
            if answer is None:
                return
            seconds = max(answer["seconds"], 1e-9) / answer["steps"]
            if answer["seconds"] > 0.3 * self.settings.seconds or steps > 1 << 20:
                break
            steps = min(max(2 * steps, round(0.5 * self.settings.seconds / seconds)), 1 << 21)
        self.peers[name]["steps"] = max(self.settings.least_steps, math.ceil(self.settings.seconds / seconds))

    def _round(self, turn: int) -> None:
        times: dict[str, float] = {}
        for name in rotated(self.names, turn):
            answer = self._timing(name)
            if answer is not None:
                times[name] = answer["seconds"] / answer["steps"] * 1e6
        self.rounds.append(times)

    def _timing(self, name: str) -> Any:
        """Return the peer's answer for a timing during which the processors had a core each, if they do in time."""
        cpus = self.settings.cpus[: self.settings.threads]
        while True:
            apart = cores.wait_for_cores(cpus, self.until)
            answer = self._call(name, "run", steps=self.peers[name]["steps"])
            apart = not cores.share_cores(cpus) and apart
            if answer is None or apart:
                return answer
            if time.monotonic() >= self.until:
                self.shared += 1
                return answer
            self.repeated += 1

    def _result(self) -> dict[str, Any]:
        measured = {name: self._peer_result(name) for name in self.names}
        ours = (*OURS, PREDICTION)
        others = {name: peer["ratio"] for name, peer in measured.items() if name not in ours and "ratio" in peer}
        result = {"name": self.case.name, **self.case.to_json(), "peers": measured}
        for prefix, whole in ("", False), ("whole_", True):
            some = {name: ratio for name, ratio in others.items() if (base(name) in WHOLE) == whole}
            best = min(some, key=some.__getitem__, default=None)
            result |= {f"{prefix}best_peer": best, f"{prefix}ratio": None if best is None else some[best]}
        losses = [self.losses[0], self.losses[-1]] if self.losses else None
        return result | {
            "unsupported": self.unsupported,
            "failures": self.failures,
            "repeated_timings": self.repeated,
            "timings_on_shared_cores": self.shared,
            "first_and_last_loss": losses,
        }

    def _peer_result(self, name: str) -> dict[str, Any]:
        times = [times[name] for times in self.rounds]
        result = {**self.peers[name], "microseconds": statistics.median(times), "rounds": times}
        if (ours := reference(name)) in self.names:
            ratios = [times[name] / times[ours] for times in self.rounds if ours in times]
            low, high = np.quantile(ratios, [0.25, 0.75])
            result |= {"ratio": statistics.median(ratios), "ratio_quartiles": [float(low), float(high)]}
        return result


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return geometric mean and minimum of the ratios of each group and of all.

    The ratio is the best peer's time divided by gdcore's: of peers called for each step, and ("whole_...") of others.
    """
    return {
        prefix + group: found
        for prefix in ("", "whole_")
        for group in ("six", "grid", "all")
        if (found := _mean_and_minimum(measured, group, prefix + "ratio"))
    }


def _mean_and_minimum(measured: list[dict[str, Any]], group: str, key: str) -> dict[str, Any] | None:
    some = [case for case in measured if case.get(key) is not None and group in ("all", case["group"])]
    if not some:
        return None
    worst = min(some, key=lambda case: case[key])
    return {
        "cases": len(some),
        "geometric_mean": math.exp(statistics.fmean(math.log(case[key]) for case in some)),
        "minimum": worst[key],
        "minimum_case": worst["name"],
    }
