"""The machine and the software that the numbers depend on."""

import contextlib
import os
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("kerasrnn", "keras", "tensorflow", "tensorflow-cpu", "jax", "flax", "torch", "numpy")


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Describe the machine and the software that the numbers depend on."""
    versions = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    processor = platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    memory = None
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor or platform.machine(),
        "cores": cores(),
        "memory": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
