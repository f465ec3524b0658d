"""Random states of Python, NumPy and torch: saved, restored, and seeded differently in each process."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from mmengine.registry import FUNCTIONS


def random_states() -> dict:
    """States of Python's, NumPy's and torch's generators, as plain types and tensors."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_states(states: dict) -> None:
    """Restore what `random_states` returned."""
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"].cpu())


def seed_by_rank(rank: int) -> None:
    """Give each process its own random numbers; mmengine seeds all alike, so that models start alike."""
    _seed(torch.initial_seed() + rank)


@FUNCTIONS.register_module()
def seed_loading_worker(worker_id: int) -> None:
    """Seed a process that loads images by the epoch's random state, its number and the training process.

    mmengine's own function seeds workers by the run's seed alone: equally in each epoch, unless they persist
    between epochs, and then a resume loses their state. torch draws a worker's seed in each epoch, from a
    state that checkpoints hold.

    Args:
        worker_id: Number of the worker, which torch has already added to its seed.
    """
    _seed(torch.initial_seed() + 1_000_003 * int(os.environ.get("RANK", 0)))


def _seed(seed: int) -> None:
    seed %= 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
