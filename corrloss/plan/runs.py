"""A run is a value: what identifies one training, and the folder it lives in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from corrloss.run import RunFolder

BASELINE = "none"
# Weights that others trained and published: nothing is trained here.
PUBLISHED = "published"
# Arguments of CorrelationLoss.
LOSS_OPTIONS = ("strength", "scope", "reduction", "gradient_to", "processes")
# Changes of a detector's recipe. Also without the loss: `batch: half`, `length: 2` (times the epochs).
# Only with it: `normaliser: released` (ATSS), `onset: after_warm_up` or `ramp` (when λ has its full value).
RECIPE_OPTIONS = ("batch", "length", "normaliser", "onset")
# Those that the baseline has, too.
SHARED_OPTIONS = ("length",)
OPTION_NAMES = LOSS_OPTIONS + RECIPE_OPTIONS


@dataclass(frozen=True, order=True)
class Run:
    """One training and all that follows from it.

    Attributes:
        scale: Name of a file in ``experiments/scales``.
        dataset: Name of a file in ``experiments/datasets``.
        detector: Name of a file in ``experiments/detectors``.
        coefficient: ``none`` for a run without the loss, ``published`` for published weights, else a
            coefficient of ``CorrelationLoss``.
        weight: λ of the loss; 0 without the loss.
        seed: Seed of initialisation, order and augmentation.
        options: `LOSS_OPTIONS` and `RECIPE_OPTIONS` as sorted ``(name, value)`` pairs.

    Examples:
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
        weight = f"_w{readable(self.weight)}" if self.has_loss else ""
        options = "".join(f"_{name}{readable(value)}" for name, value in self.options)
        return f"{self.coefficient}{weight}{options}"

    @property
    def name(self) -> str:
        """``dataset/detector/variant/seed``: unique within a scale, and the run's folder."""
        return f"{self.dataset}/{self.detector}/{self.variant}/seed{self.seed}"

    @property
    def has_loss(self) -> bool:
        """Whether the detector is trained with Correlation Loss."""
        return self.coefficient not in (BASELINE, PUBLISHED)

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with this run: no loss, and no option but `SHARED_OPTIONS`."""
        return not self.has_loss and self.options == self._shared_options

    @property
    def baseline(self) -> Run:
        """The run that this one is compared with: same scale, data set, detector, seed and length."""
        coefficient = BASELINE if self.has_loss else self.coefficient
        return replace(self, coefficient=coefficient, weight=0.0, options=self._shared_options)

    @property
    def _shared_options(self) -> tuple[tuple[str, str | float], ...]:
        return tuple(option for option in self.options if option[0] in SHARED_OPTIONS)

    @property
    def rehearsed(self) -> Run:
        """The run that is rehearsed for this one: all seeds cost the same."""
        return replace(self, seed=0)

    def rehearsal_folder(self, results: Path) -> RunFolder:
        """Folder of the run's rehearsal, beside those of the runs."""
        return RunFolder(results / self.scale / "rehearsal" / self.name)

    def folder(self, results: Path) -> RunFolder:
        """The run's folder below the folder of all results."""
        return RunFolder(results / self.scale / "runs" / self.name)


def readable(value: str | float) -> str:
    """A value as part of a name: short, and different for different values.

    Examples:
        >>> readable(1.0), readable(0.2), readable(0.2000001), readable("both")
        ('1', '0.2', '0.2000001', 'both')
    """
    if isinstance(value, str):
        return value
    text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return text.replace("+", "")  # 1e+20 as 1e20: a folder's name without signs
