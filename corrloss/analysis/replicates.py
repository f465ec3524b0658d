"""Figures of a run on bootstrap resamples of the images, stored so that any two runs can be paired.

Every run is resampled alike, so the difference of two runs on a resample is a subtraction; whatever makes an
image hard for both cancels. A drawn image keeps its multiplicity: counting it once, as some tools do, makes
intervals about a quarter too narrow.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from corrloss.analysis.correlation import Positives
from corrloss.analysis.matching import AREAS, ignored_annotations, match
from corrloss.analysis.weighted_ap import METRICS as OF_WEIGHTED_AP
from corrloss.analysis.weighted_ap import weighted_ap
from corrloss.analysis.weighted_correlation import weighted_rho_cls, weighted_rho_img
from corrloss.coco import Detections, GroundTruth
from corrloss.errors import CorrLossError
from corrloss.files import read_arrays

#: The figures that are resampled.
METRICS = (*OF_WEIGHTED_AP, "rho_cls", "rho_img", "isotonic_AP")
#: Number of resamples, B.
N_REPLICATES = 1000


class ReplicatesError(CorrLossError):
    """Stored replicates are unusable, or cannot be compared; the message names the file or the runs."""


@dataclass(frozen=True)
class Replicates:
    """Figures of one run on the data and on B resamples of its images.

    Attributes:
        estimate: float64 (10,), `METRICS` on the data itself, in points; NaN where they do not define one.
        values: float64 (B, 10), the same on each resample.
        n_images: Number of images in the data.
        seed: Seed of the resamples.
        images: Hash of the images and their annotations, from `hash_images`. Runs are comparable where it,
            the seed and the number of replicates agree.
        n_holding: int64 (10,), number of images that hold annotations which the figure counts.
        identity: Identity of the run's evaluation.
    """

    estimate: np.ndarray
    values: np.ndarray
    n_images: int
    seed: int
    images: str
    n_holding: np.ndarray
    identity: str = ""

    def save(self, path: str | os.PathLike) -> None:
        """Write an `.npz` file, uncompressed: compression saves a tenth and doubles the time to read it."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Replicates":
        """Read what `save` wrote.

        Raises:
            ReplicatesError: The file is missing or was not written by `save`.
        """
        path = Path(path)
        try:
            file = read_arrays(path)
            numbers = int(file["n_images"]), int(file["seed"])
            data = str(file["images"]), file["n_holding"]
            if file["values"].shape[1:] != (len(METRICS),):
                raise ValueError(f"{file['values'].shape} values, not {len(METRICS)} figures a resample")
            return cls(file["estimate"], file["values"], *numbers, *data, str(file["identity"]))
        except (KeyError, TypeError, ValueError) as problem:
            raise ReplicatesError(
                f"{path}: expected bootstrap replicates, found: {problem}. Evaluate the run again."
            ) from None


def of_control(run: Replicates) -> Replicates:
    """Return the replicates of a run after isotonic regression: AP alone, the other figures are NaN."""
    isotonic = METRICS.index("isotonic_AP")
    return with_ap(run, np.append(run.estimate[isotonic], run.values[:, isotonic]))


def with_ap(run: Replicates, ap: np.ndarray) -> Replicates:
    """Return the replicates of a run with another AP, float64 (1 + B,); the other figures are NaN."""
    estimate, values = np.full_like(run.estimate, np.nan), np.full_like(run.values, np.nan)
    estimate[METRICS.index("AP")], values[:, METRICS.index("AP")] = ap[0], ap[1:]
    return replace(run, estimate=estimate, values=values)


def resampled_ap(ground_truth: GroundTruth, detections: Detections, workers: int = 1) -> np.ndarray:
    """Return AP alone on the data and on the resamples that all runs have, float64 (1 + B,), in points."""
    matches = match(ground_truth, detections, areas=("all",))
    return weighted_ap(matches, ground_truth, _weights(ground_truth, N_REPLICATES, 0), workers)[:, 0]


def _weights(ground_truth: GroundTruth, n_replicates: int, seed: int) -> np.ndarray:
    n_images = len(ground_truth.image_ids)
    return np.concatenate([np.ones((1, n_images), dtype=np.int32), resample(n_images, n_replicates, seed)])


def resample(n_images: int, n_replicates: int, seed: int) -> np.ndarray:
    """Return how often each image is drawn in each replicate, int32 (n_replicates, n_images).

    >>> resample(5, 2, seed=0).sum(axis=1).tolist()
    [5, 5]
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((n_replicates, n_images), dtype=np.int32)
    for row in weights:
        row[:] = np.bincount(rng.integers(n_images, size=n_images), minlength=n_images)
    return weights


def hash_images(ground_truth: GroundTruth) -> str:
    """Return 16 hexadecimal digits that identify the images and annotations, whatever their order."""
    order = np.argsort(ground_truth.annotation_id)
    names = ("annotation_id", "image_id", "category_id", "bbox", "area", "is_crowd")
    columns = [ground_truth.image_ids, *(getattr(ground_truth, name)[order] for name in names)]
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()[:16]


def count_holding(ground_truth: GroundTruth) -> np.ndarray:
    """Return how many images hold annotations that each of `METRICS` counts, int64 (10,)."""
    counts = {
        name: len(np.unique(ground_truth.image_id[~ignored_annotations(ground_truth, name)]))
        for name in AREAS
    }
    return np.array([counts[name[-1] if name.startswith("AP_") else "all"] for name in METRICS])


def unknown_replicates(ground_truth: GroundTruth) -> Replicates:
    """Return replicates that are NaN throughout, for a run whose training failed.

    Args:
        ground_truth: Annotations of the test images.
    """
    values = np.full((1 + N_REPLICATES, len(METRICS)), np.nan)
    return _replicates(values, ground_truth, 0)


def bootstrap_ap(
    ground_truth: GroundTruth,
    detections: Detections,
    n_replicates: int = N_REPLICATES,
    seed: int = 0,
    workers: int = 1,
    positives: Positives | None = None,
    mended: Detections | None = None,
) -> Replicates:
    """Return a run's figures on the data and on resamples, which depend on the number of images and `seed`.

    Args:
        ground_truth: Annotations of the test images.
        detections: Boxes or masks of the run on these images.
        n_replicates: Number of resamples, B.
        seed: Seed of the resamples; the same for all runs that are to be compared.
        workers: Number of threads.
        positives: Positives before post-processing; without them ρ_img is NaN.
        mended: The detections after isotonic regression; without them isotonic_AP is NaN.
    """
    weights = _weights(ground_truth, n_replicates, seed)
    matches, by_image = match(ground_truth, detections), np.full(len(weights), np.nan)
    isotonic = by_image
    if mended is not None:
        of_all_sizes = match(ground_truth, mended, areas=("all",))
        isotonic = weighted_ap(of_all_sizes, ground_truth, weights, workers)[:, 0]
    if positives is not None:
        by_image = weighted_rho_img(positives, ground_truth, weights)
    ap = weighted_ap(matches, ground_truth, weights, workers)
    values = np.column_stack([ap, weighted_rho_cls(matches, weights), by_image, isotonic])
    return _replicates(values, ground_truth, seed)


def _replicates(values: np.ndarray, ground_truth: GroundTruth, seed: int) -> Replicates:
    """Return replicates from float64 (1 + B, 10): figures on the data, then on the resamples."""
    n_images, images = len(ground_truth.image_ids), hash_images(ground_truth)
    return Replicates(values[0], values[1:], n_images, seed, images, count_holding(ground_truth))
