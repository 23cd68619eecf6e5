"""Description of the machine of a measurement, without private details."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path
from typing import Any

VECTORS = ("avx512f", "avx2", "asimd", "sse4_2")


def describe(threads: int, cpus: tuple[int, ...]) -> dict[str, Any]:
    """Return the processor, the number of used processors, the system and the date."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "processor": fields.get("model name") or platform.machine(),
        "vectors": next((name for name in VECTORS if name in flags), "unknown"),
        "processors_used": len(cpus[:threads]),
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
