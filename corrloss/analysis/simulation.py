"""How often intervals hold the true gain, and how often each verdict is given, in simulated experiments.

    python -m corrloss.analysis.simulation [--experiments 5000]

An experiment trains n pairs of models and resamples their images. The gain of a pair is the true one, plus an
effect of the images that all pairs share, one of images and seed together, and one of the seed.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from corrloss.analysis.differences import Interval, combine_seeds
from corrloss.analysis.verdict import OF_GAINS, PRIOR_SD, REPRODUCED, judge

#: Standard error of one pair's gain from the choice of images, in points: that of 5,000 images.
SE_IMAGES = 0.2
#: Share of that variance which differs from seed to seed.
INTERACTION = 0.5
N_IMAGES, RESAMPLES = 5000, 200
#: True gains as shares of the published one.
SHARES = (0.0, 0.5, 1.0)
#: How often a true gain must be reproduced for a number of seeds to suffice.
ENOUGH = 0.85


def simulate(
    gain: float,
    n_seeds: int,
    n_experiments: int,
    sd_seeds: float = PRIOR_SD,
    interaction: float = INTERACTION,
    seed: int = 0,
) -> Iterator[tuple[Interval, float]]:
    """Yield the interval of each experiment, and the error of one further pair's gain on the same images.

    Args:
        gain: True gain, in points.
        n_seeds: Pairs of runs.
        n_experiments: Simulated experiments.
        sd_seeds: Standard deviation of the effect of a seed, in points.
        interaction: Share of the variance of the images that differs from seed to seed, 0 to 1.
        seed: Of the simulation.
    """
    rng = np.random.default_rng(seed)
    shared, own = SE_IMAGES * np.sqrt(1 - interaction), SE_IMAGES * np.sqrt(interaction)
    for _ in range(n_experiments):
        images = shared * rng.normal()
        effects = images + np.hypot(own, sd_seeds) * rng.normal(size=n_seeds + 1)
        resampled = shared * rng.normal(size=RESAMPLES) + own * rng.normal(size=(n_seeds, RESAMPLES))
        deltas = gain + effects[1:]
        yield combine_seeds(deltas, deltas[:, None] + resampled, N_IMAGES), effects[0]


def coverage(n_seeds: int, ratio: float, interaction: float, n_experiments: int) -> float:
    """Return how often the 95% interval over images and seeds holds the true gain.

    Args:
        n_seeds: Pairs of runs.
        ratio: Standard deviation of the effect of a seed over the error of the images in one pair's gain.
        interaction: Share of the variance of the images that differs from seed to seed, 0 to 1.
        n_experiments: Simulated experiments.
    """
    found = simulate(0.0, n_seeds, n_experiments, ratio * SE_IMAGES, interaction)
    return sum(gain.ci_low <= 0 <= gain.ci_high for gain, _ in found) / n_experiments


def pooled_coverage(
    n_detectors: int,
    ratio: float,
    n_experiments: int,
    seeds: tuple[int, ...] = (1, 3, 5),
    interaction: float = INTERACTION,
    seed: int = 0,
) -> float:
    """Return how often the 95% interval of the mean gain over detectors holds the true one.

    Args:
        n_detectors: Detectors; each has an effect of its own, besides those of its seeds and of the images.
        ratio: Standard deviation of the effect of a detector over the error of the images in one gain.
        n_experiments: Simulated experiments.
        seeds: Seeds of the first, second, ... detector, then from the start again.
        interaction: Share of the variance of the images that differs from detector to detector, 0 to 1.
        seed: Of the simulation.
    """
    rng, held = np.random.default_rng(seed), 0
    shared, own = SE_IMAGES * np.sqrt(1 - interaction), SE_IMAGES * np.sqrt(interaction)
    of_seeds = PRIOR_SD / np.sqrt(np.resize(seeds, n_detectors))
    for _ in range(n_experiments):
        deltas = shared * rng.normal() + np.hypot(own, ratio * SE_IMAGES) * rng.normal(size=n_detectors)
        deltas += of_seeds * rng.normal(size=n_detectors)
        resampled = shared * rng.normal(size=RESAMPLES) + own * rng.normal(size=(n_detectors, RESAMPLES))
        found = combine_seeds(deltas, deltas[:, None] + resampled, N_IMAGES)
        held += found.ci_low <= 0 <= found.ci_high
    return held / n_experiments


def label_rates(
    published: float, share: float, n_seeds: int, n_experiments: int = 5000, sd_seeds: float = PRIOR_SD
) -> dict[str, float]:
    """Return how often each label of `OF_GAINS` is given, compared with one published pair.

    The published pair has the gain that is claimed, its own seed, and the same images.

    Args:
        published: Gain that the paper claims, in points.
        share: True gain as a share of the published one: 0 (none), 0.5 (half), 1 (all of it).
        n_seeds: Pairs of runs.
        n_experiments: Simulated comparisons.
        sd_seeds: Standard deviation of the effect of a seed, in points.
    """
    found = simulate(share * published, n_seeds, n_experiments, sd_seeds)
    labels = Counter(judge(None, gain, None, published + other, "paper").verdict for gain, other in found)
    return {label: labels[label] / n_experiments for label in OF_GAINS}


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def main() -> None:
    """Print Markdown tables in percent: coverage, labels, and the smallest gains that are reproduced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--experiments", type=int, default=5000)
    n = parser.parse_args().experiments
    ratios = (0.5, 1.0, 2.0, 4.0)
    print(
        _row(["seeds", "interaction", *(f"ratio {ratio:g}" for ratio in ratios)]), _row(["---"] * 6), sep="\n"
    )
    for n_seeds, interaction in product((2, 3, 5), (0.0, 0.5, 1.0)):
        held = (100 * coverage(n_seeds, ratio, interaction, n) for ratio in ratios)
        print(_row([n_seeds, f"{interaction:.0%}", *held]), flush=True)
    print("", _row(["detectors", *(f"ratio {ratio:g}" for ratio in ratios)]), _row(["---"] * 5), sep="\n")
    for n_detectors in (3, 6, 12):
        held = (100 * pooled_coverage(n_detectors, ratio, n) for ratio in ratios)
        print(_row([n_detectors, *held]), flush=True)
    heads = ["published", "true", "seeds", *OF_GAINS]
    print("", _row(heads), _row(["---"] * len(heads)), sep="\n")
    for published, n_seeds, share in product((0.8, 1.6), (1, 3, 5), SHARES):
        rates = label_rates(published, share, n_seeds, n).values()
        print(_row([published, share * published, n_seeds, *(100 * rate for rate in rates)]), flush=True)
    heads = ["spread of seeds", "seeds", "smallest gain", "none", "half", "all"]
    print("", _row(heads), _row(["---"] * len(heads)), sep="\n")
    for spread, n_seeds in product((PRIOR_SD, 2 * PRIOR_SD), (1, 3, 5, 10)):
        for tenths in range(2, 41):
            gain = tenths / 10
            if label_rates(gain, 1.0, n_seeds, n, spread)[REPRODUCED] >= ENOUGH:
                shown = gain
                break
        else:
            shown = f"above {gain}"
        rates = (100 * label_rates(gain, share, n_seeds, n, spread)[REPRODUCED] for share in SHARES)
        print(_row([f"{spread:.2f}", n_seeds, shown, *rates]), flush=True)


if __name__ == "__main__":
    main()
