"""How much a small scale tells: AP of its baselines beside the published AP of the same detectors on COCO."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import spearmanr, ttest_ind

from corrloss.plan.experiments import Experiments
from corrloss.plan.model_zoo import model_of
from corrloss.plan.runs import BASELINE, OPTION_NAMES, Run
from corrloss.tables.reference import by_cell, load_reference, published

#: Dense detectors that are published with a ResNet-50 and 12 epochs; RTMDet is not.
DENSE = (
    "retinanet", "fcos", "foveabox", "atss", "atss_no_aux", "paa", "paa_no_aux", "gfl", "vfnet", "tood",
    "rs_atss", "rs_paa",
)  # fmt: skip
#: A detector, another that is known to be worse, and in what they differ.
KNOWN = (
    ("atss", "atss_no_aux", "auxiliary branch: centre-ness"),
    ("paa", "paa_no_aux", "auxiliary branch: IoU"),
    ("gfl", "atss", "Quality and Distribution Focal Loss"),
    ("rs_atss", "atss_no_aux", "Rank & Sort Loss"),
    ("rs_paa", "paa_no_aux", "Rank & Sort Loss"),
    ("cascade_rcnn", "faster_rcnn", "cascade of three heads"),
)
RESAMPLES = 10_000


def beside_published(runs: pd.DataFrame, experiments: Experiments) -> pd.DataFrame:
    """AP of the baselines beside the published AP of their detectors.

    Args:
        runs: From `corrloss.tables.records.read_runs`; of one scale.
        experiments: Scale ``zoo`` names the detectors' models in mmdet, whose metafiles have AP;
            ``reference/paper.csv`` has that of others.

    Returns:
        One row a detector, the best published first: ``detector, AP`` (points, mean over seeds, NaN if no
        baseline is finished), ``seeds, published_AP, source``.
    """
    zoo = experiments.read("scale", "zoo")["published"]
    cells = by_cell(load_reference(experiments))
    own = _baselines(runs)
    rows = []
    for detector in experiments.detectors:
        found = published(cells, "coco", Run("", "", detector, BASELINE, 0.0, 0), "AP")
        model = model_of(zoo[detector], experiments.root) if detector in zoo else None
        if model is not None and "AP" in model.ap:  # not of masks alone
            known, source = model.ap["AP"], f"mmdet: {model.name}"
        elif found is not None:
            known, source = float(found["value"]), found["source"]
        else:
            continue
        values = own.get(detector, np.array([]))
        mean = values.mean() if len(values) else np.nan
        rows.append((detector, mean, len(values), known, source))
    frame = pd.DataFrame(rows, columns=["detector", "AP", "seeds", "published_AP", "source"])
    return frame.sort_values("published_AP", ascending=False, kind="stable").reset_index(drop=True)


def known_differences(runs: pd.DataFrame, beside: pd.DataFrame) -> pd.DataFrame:
    """Whether differences that are published have the same sign here.

    Args:
        runs: As for `beside_published`.
        beside: From `beside_published`.

    Returns:
        One row for each of `KNOWN` with both detectors finished: ``better, worse, what``, the difference in
        points ``published`` and ``here``, ``low, high`` (Welch's 95% interval over seeds; NaN with one
        seed), ``sign``: ``right``, ``wrong``, or ``not clear`` where the interval holds 0.
    """
    own, known = _baselines(runs), beside.set_index("detector")["published_AP"]
    rows = []
    for better, worse, what in KNOWN:
        if better in own and worse in own:
            one, other = own[better], own[worse]
            low = high = np.nan
            if min(len(one), len(other)) > 1:
                low, high = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
            here = one.mean() - other.mean()
            sign = "not clear" if low <= 0 <= high else "right" if here > 0 else "wrong"
            rows.append((better, worse, what, known.get(better) - known.get(worse), here, low, high, sign))
    columns = ["better", "worse", "what", "published", "here", "low", "high", "sign"]
    return pd.DataFrame(rows, columns=columns)


def rank_correlation(beside: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """Spearman's rank correlation of AP and published AP, and its 95% percentile interval over detectors.

    Args:
        beside: Rows of `beside_published`; those without AP are left out.
        seed: Of the bootstrap, which resamples detectors.

    Returns:
        ``(value, low, high)``; NaN with fewer than three detectors.
    """
    pairs = beside[["AP", "published_AP"]].dropna().to_numpy()
    if len(pairs) < 3:
        return np.nan, np.nan, np.nan
    picks = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    # A resample of one detector alone, or of ties alone, has no correlation.
    several = [pairs[pick] for pick in picks if (np.ptp(pairs[pick], axis=0) > 0).all()]
    low, high = np.percentile([spearmanr(*one.T).statistic for one in several], [2.5, 97.5])
    return float(spearmanr(*pairs.T).statistic), float(low), float(high)


def to_markdown(runs: pd.DataFrame, experiments: Experiments) -> str:
    """All of it in Markdown."""
    beside = beside_published(runs, experiments)
    differences = known_differences(runs, beside)
    dense = beside[beside["detector"].isin(DENSE)]
    missing = ", ".join(beside["detector"][beside["AP"].isna()])
    lines = [
        _correlation("dense detectors with a ResNet-50 and 12 epochs", dense),
        _correlation("all detectors", beside),
    ]
    if missing:
        lines.append(f"Not trained here: {missing}.")
    signs = _shown(differences, {"published": "+.1f", "here": "+.1f", "low": "+.1f", "high": "+.1f"})
    parts = [
        _shown(beside.dropna(subset="AP"), {"AP": ".1f", "published_AP": ".1f"}),
        "\n".join(lines),
        signs,
    ]
    return "\n\n".join(parts)


def _baselines(runs: pd.DataFrame) -> dict[str, np.ndarray]:
    """AP of each detector's baseline on the data set that most runs are of, one value a seed."""
    options = [name for name in OPTION_NAMES if name in runs]
    plain = runs[(runs["coefficient"] == BASELINE) & runs[options].isna().all(axis=1)].dropna(subset="AP")
    plain = plain[plain["dataset"] == plain["dataset"].mode().get(0)]
    return {detector: rows.to_numpy(float) for detector, rows in plain.groupby("detector")["AP"]}


def _correlation(name: str, rows: pd.DataFrame) -> str:
    value, low, high = rank_correlation(rows)
    count, interval = rows["AP"].notna().sum(), f"95% over detectors: {low:.2f} to {high:.2f}"
    return f"Rank correlation over {name}, {count} of them: {value:.2f} ({interval})."


def _shown(frame: pd.DataFrame, forms: dict[str, str]) -> str:
    shown: dict[str, Callable] = {
        name: lambda value, form=form: "" if pd.isna(value) else format(value, form)
        for name, form in forms.items()
    }
    return frame.assign(**{name: frame[name].map(form) for name, form in shown.items()}).to_markdown(
        index=False, disable_numparse=True
    )
