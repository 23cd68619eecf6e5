"""A peer in a separate process, which reads commands from stdin and answers on stdout, one JSON object per line.

Started by `client.Worker`, which sets the environment. The processors are chosen here, before the peer is imported:
libraries read both only once, when they are loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from typing import IO, Any

CALLS = ("versions", "prepare", "curve", "run")


def serve(peer: Any, commands: IO[str], answers: IO[str]) -> None:
    """Answer commands until there are no more; an exception is an answer too."""
    for line in commands:
        command = json.loads(line)
        call = command.pop("call")
        try:
            if call not in CALLS:
                raise ValueError(f"call: got {call!r}; expected one of {CALLS}")
            answer = {"result": getattr(peer, call)(**command)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Set up the process, make the peer, report whether it is installed, and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cpus", required=True, help="processors to run on, with commas")
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    # Output of libraries must not mix with the answers: stdout becomes stderr, the answers keep the original stdout.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from . import registry

    try:
        peer = registry.create(options.peer, options.threads)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"result": peer.versions()}), file=answers, flush=True)
    serve(peer, sys.stdin, answers)


if __name__ == "__main__":
    main()
