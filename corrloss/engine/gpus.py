"""The GPUs that CUDA_VISIBLE_DEVICES makes visible, and every name that each of them has."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPU = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)")
_MIG = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance of a partitioned one (MIG).

    Attributes:
        name: The name to put into ``CUDA_VISIBLE_DEVICES``.
        names: All its names: number with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``, UUID, UUID of the MIG instance.
    """

    name: str
    names: tuple[str, ...]


def visible_gpus() -> list[Gpu]:
    """Those that CUDA would show: of ``CUDA_VISIBLE_DEVICES`` if it is set, else all of the machine.

    As for CUDA, an entry is a number or the unique start of a UUID, and the first invalid entry ends the
    list. A GPU that is named twice counts once.
    """
    machine = machine_gpus()
    if VISIBLE not in os.environ:
        return [Gpu(names[0], names) for names in machine]
    gpus: dict[tuple[str, ...], Gpu] = {}
    for entry in os.environ[VISIBLE].split(","):
        gpu = _find(entry.strip(), machine)
        if gpu is None:
            break
        gpus.setdefault(gpu.names, gpu)
    return list(gpus.values())


def machine_gpus() -> list[tuple[str, ...]]:
    """Names of each GPU that ``nvidia-smi -L`` lists; empty if it is absent or fails.

    Lines of another form, such as warnings, are ignored. The number of a partitioned GPU is also that of its
    first MIG instance, as for CUDA.
    """
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus: list[tuple[str, ...]] = []
    for line in listed.stdout.splitlines():
        if found := _GPU.match(line):
            gpus.append(found.groups())
        elif found := _MIG.match(line):
            if gpus[-1][-1].startswith("GPU-"):
                gpus[-1] += found.groups()
            else:
                gpus.append(found.groups())
    return gpus


def _find(entry: str, machine: list[tuple[str, ...]]) -> Gpu | None:
    if re.fullmatch(r"\+?\d+", entry):
        name = str(int(entry))
        found = [names for names in machine if names[0] == name]
    elif re.match("(GPU|MIG)-", entry):
        name = entry
        found = [names for names in machine for n in names if n.lower().startswith(entry.lower())]
        if len(found) == 1:
            name = next(n for n in found[0] if n.lower().startswith(entry.lower()))
    else:
        return None
    if len(found) == 1:
        return Gpu(name, found[0])
    # Without a list of the machine's GPUs every name may be right.
    return None if machine else Gpu(name, (name,))
