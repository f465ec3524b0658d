"""A run is a value: what identifies one training, and the folder it lives in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from corrloss.run import RunFolder

BASELINE = "none"
# Arguments of CorrelationLoss.
OPTION_NAMES = ("strength", "scope", "reduction", "gradient_to", "processes")


@dataclass(frozen=True, order=True)
class Run:
    """One training and all that follows from it.

    Attributes:
        scale: Name of a file in ``experiments/scales``.
        dataset: Name of a file in ``experiments/datasets``.
        detector: Name of a file in ``experiments/detectors``.
        coefficient: ``none`` for the baseline, else a coefficient of ``CorrelationLoss``.
        weight: λ of the loss; 0 for the baseline.
        seed: Seed of initialisation, order and augmentation.
        options: Further arguments of ``CorrelationLoss`` as sorted ``(name, value)`` pairs.

    Example:
        >>> run = Run("mini", "mini_coco", "atss", "spearman", 0.2, 0, (("strength", 0.01),))
        >>> run.name
        'mini_coco/atss/spearman_w0.2_strength0.01/seed0'
        >>> run.baseline.name
        'mini_coco/atss/none/seed0'
    """

    scale: str
    dataset: str
    detector: str
    coefficient: str
    weight: float
    seed: int
    options: tuple[tuple[str, str | float], ...] = field(default=())

    @property
    def variant(self) -> str:
        """Coefficient, weight and options as one folder name."""
        if self.coefficient == BASELINE:
            return BASELINE
        options = "".join(f"_{name}{readable(value)}" for name, value in self.options)
        return f"{self.coefficient}_w{readable(self.weight)}{options}"

    @property
    def name(self) -> str:
        """``dataset/detector/variant/seed``: unique within a scale, and the run's folder."""
        return f"{self.dataset}/{self.detector}/{self.variant}/seed{self.seed}"

    @property
    def is_baseline(self) -> bool:
        """Whether the detector is trained without Correlation Loss."""
        return self.coefficient == BASELINE

    @property
    def baseline(self) -> Run:
        """The run that this one is compared with: same scale, data set, detector and seed."""
        return Run(self.scale, self.dataset, self.detector, BASELINE, 0.0, self.seed)

    def folder(self, results: Path) -> RunFolder:
        """The run's folder below the folder of all results."""
        return RunFolder(results / self.scale / "runs" / self.name)


def readable(value: str | float) -> str:
    """A value as part of a name: short, and different for different values.

    Example:
        >>> readable(1.0), readable(0.2), readable(0.2000001), readable("both")
        ('1', '0.2', '0.2000001', 'both')
    """
    if isinstance(value, str):
        return value
    text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return text.replace("+", "")  # 1e+20 as 1e20: a folder's name without signs
