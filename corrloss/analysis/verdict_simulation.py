"""How often each verdict is right, in simulated comparisons with a published gain.

    python -m corrloss.analysis.verdict_simulation [--experiments 5000]

An experiment trains n pairs of a gain that is known, and compares them with one published pair, which has the
same true gain as the paper claims, its own seed, and the same images.
"""

import argparse
from collections import Counter

import numpy as np

from corrloss.analysis.differences import paired_difference
from corrloss.analysis.replicates import Replicates
from corrloss.analysis.verdict import OF_GAINS, PRIOR_SD, judge

#: Standard error of one pair's gain from the choice of images, in points: that of 5,000 images.
SE_IMAGES = 0.2
#: Share of that variance which differs from seed to seed.
INTERACTION = 0.5
N_IMAGES, RESAMPLES = 5000, 200


def label_rates(
    published: float,
    share: float,
    n_seeds: int,
    n_experiments: int = 5000,
    sd_seeds: float = PRIOR_SD,
    seed: int = 0,
) -> dict[str, float]:
    """Return how often each label of `OF_GAINS` is given.

    Args:
        published: Gain that the paper claims, in points.
        share: True gain as a share of the published one: 0 (none), 0.5 (half), 1 (all of it).
        n_seeds: Pairs of runs.
        n_experiments: Simulated comparisons.
        sd_seeds: Standard deviation of a seed's gain, in points.
        seed: Of the simulation.
    """
    rng = np.random.default_rng(seed)
    common, own = SE_IMAGES * np.sqrt(1 - INTERACTION), SE_IMAGES * np.sqrt(INTERACTION)
    baselines = [_replicates(0.0, np.zeros(RESAMPLES))] * n_seeds
    labels: Counter[str] = Counter()
    for _ in range(n_experiments):
        images = common * rng.normal()
        claimed = published + np.hypot(own, sd_seeds) * rng.normal()
        deltas = share * published + images + np.hypot(own, sd_seeds) * rng.normal(size=n_seeds)
        resampled = common * rng.normal(size=RESAMPLES) + own * rng.normal(size=(n_seeds, RESAMPLES))
        others = [_replicates(delta, delta + noise) for delta, noise in zip(deltas, resampled, strict=True)]
        gain = paired_difference(baselines, others)["AP"]
        labels[judge(None, gain, None, claimed + images, "paper").verdict] += 1
    return {label: labels[label] / n_experiments for label in OF_GAINS}


def _replicates(estimate: float, values: np.ndarray) -> Replicates:
    six = np.broadcast_to(values[:, None], (RESAMPLES, 6))
    return Replicates(np.full(6, estimate), six, N_IMAGES, 0, "simulated", np.full(6, N_IMAGES))


def main() -> None:
    """Print a Markdown table of the rates, in percent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--experiments", type=int, default=5000)
    experiments = parser.parse_args().experiments
    print(
        f"| published | true | seeds | {' | '.join(OF_GAINS)} |",
        "| --- " * (3 + len(OF_GAINS)) + "|",
        sep="\n",
    )
    for published in (0.8, 1.6):
        for n_seeds in (1, 3, 5):
            for share in (0.0, 0.5, 1.0):
                rates = label_rates(published, share, n_seeds, experiments)
                cells = [f"{100 * rate:.1f}" for rate in rates.values()]
                print(
                    f"| {published} | {share * published:.1f} | {n_seeds} | {' | '.join(cells)} |", flush=True
                )


if __name__ == "__main__":
    main()
