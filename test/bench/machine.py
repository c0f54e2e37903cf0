"""What two runs must have in common to be compared: the machine, without its name."""

import hashlib
import os
import platform
from pathlib import Path


def described() -> dict[str, str | int]:
    """Return what the numbers depend on.

    ``fingerprint`` is the same for runs that may be compared.
    """
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in _lines("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_kib = next(
        int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")
    )
    parts: dict[str, str | int] = {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    identity = "|".join([*map(str, parts.values()), *_lines("/etc/machine-id")])
    return {**parts, "fingerprint": hashlib.sha256(identity.encode()).hexdigest()[:16]}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
