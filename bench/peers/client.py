"""The client of `worker`: starts a peer's process, sends commands, and detects when the process dies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .registry import base

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NPROC")
PATIENCE = 900.0  # timeout of an answer in seconds; compiling takes long


class PeerMissing(Exception):
    """The peer is not installed."""


class PeerFailed(Exception):
    """A command of the peer failed, or its process died."""


def environment(threads: int, path: str | None = None) -> dict[str, str]:
    """Return the environment of a peer's process: the number of threads, and this repository on the import path.

    Packages in `path` have precedence over installed ones.
    """
    paths = [*filter(None, [path]), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no helper processes during the timing
    }


def without_paths(text: str, lines: int = 12) -> str:
    """Return the end of a message without folders: results must not contain paths of the machine."""
    kept = [line for line in text.strip().splitlines() if line.strip()][-lines:]
    return re.sub(r"(?<![\w.])/[^\s\"':]*/", "", "\n".join(kept))


class Worker:
    """A peer's process; it waits for a command while other peers are measured."""

    def __init__(self, name: str, threads: int, cpus: list[int], path: str | None = None) -> None:
        self.name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        command = [sys.executable, "-m", "bench.peers.worker", base(name), "--threads", str(threads)]
        self._process = subprocess.Popen(
            [*command, "--cpus", ",".join(map(str, cpus[:threads]))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(threads, path),
            cwd=ROOT,
            bufsize=0,
        )
        try:
            self.versions: dict[str, str] = self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def processor_seconds(self) -> float:
        """Return the processor time that all threads of the process have used, to the nanosecond."""
        total = 0
        for file in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has just ended
                total += int(file.read_text().split()[0])
        return total / 1e9

    def settle(self, pause: float, most: float = 2.0) -> None:
        """Wait until the process's threads sleep: those of some libraries spin for 0.1 s and longer."""
        before, end = self.processor_seconds(), time.monotonic() + most
        while time.monotonic() < end:
            time.sleep(pause)
            now = self.processor_seconds()
            if now - before < 0.02 * pause:
                return
            before = now

    def call(self, call: str, **arguments: Any) -> Any:
        """Send a command and return the answer.

        Raises
        ------
        PeerFailed
            With the peer's traceback, or the last lines of its stderr if it died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
        except OSError:
            raise PeerFailed(self._death()) from None
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready:
            self._process.kill()
            raise PeerFailed(f"no answer within {PATIENCE:.0f} s; ended")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(self._death())
        answer = json.loads(line)
        if "missing" in answer:
            raise PeerMissing(without_paths(answer["missing"]))
        if "error" in answer:
            raise PeerFailed(without_paths(answer["error"]))
        return answer["result"]

    def _death(self) -> str:
        status = self._process.wait()
        self._stderr.seek(0)
        text = without_paths(self._stderr.read().decode(errors="replace"))
        return f"the process ended with status {status}" + (f":\n{text}" if text else "")

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()
