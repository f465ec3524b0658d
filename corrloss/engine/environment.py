"""The environment of a training or prediction: versions and hardware that a result may depend on."""

from __future__ import annotations

import platform
import re
import resource
from pathlib import Path

import torch

from corrloss.stack import version_of

_CPUINFO = Path("/proc/cpuinfo")  # of Linux
PACKAGES = ("corrloss", "torch", "mmcv", "mmengine", "mmdet", "numpy")


def environment() -> dict:
    """Versions, Python, processor or GPU, and thread count of this process."""
    return {
        "versions": {name: version_of(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": device_name(),
        "threads": torch.get_num_threads(),
    }


def device_name() -> str:
    """The GPU's name, or ``cpu`` with the model and the vector instructions of the processor.

    These decide the last bits of a training on the CPU.
    """
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    found = re.search(r"^model name\s*: (.+)$", _CPUINFO.read_text(), re.M) if _CPUINFO.exists() else None
    model = found[1] if found else platform.processor() or platform.machine()
    return f"cpu ({model}, {torch.backends.cpu.get_cpu_capability()})"


def peak_memory_mb() -> float:
    """Largest memory so far in MiB: the GPU's where there is one, else this process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
