"""Draw docs/figures/spearman.png and print the tables of docs/spearman.md.

python docs/figures/spearman.py
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from corrloss import pearson, soft_rank, spearman, spearman_exact

STRENGTHS = (1.0, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5)
SHOWN = (1.0, 0.01, 1e-3, 1e-4)


def positives(n: int = 500) -> tuple[Tensor, Tensor]:
    """Scores crowded near 0, as early in training, and IoUs that rise with them but not in a line."""
    generator = torch.Generator().manual_seed(0)
    uniform, noise = torch.rand(2, n, generator=generator, dtype=torch.double)
    return uniform**3, 0.3 + 0.45 * uniform + 0.25 * noise


def as_released(scores: Tensor, ious: Tensor) -> Tensor:
    """The release's formula, step by step: soft ranks at strength 1, centred and normalised."""
    ranks = [soft_rank(values[None], 1.0)[0] for values in (scores, ious)]
    ranks = [values - values.mean() for values in ranks]
    ranks = [values / values.norm() for values in ranks]
    return (ranks[0] * ranks[1]).sum()


def gradient(rho: Tensor, scores: Tensor) -> Tensor:
    """The derivative of rho with respect to the scores."""
    return torch.autograd.grad(rho, scores)[0]


def print_differences(scores: Tensor, ious: Tensor) -> None:
    """How far the release's formula is from Pearson's."""
    print("| positives | Spearman as released | Pearson | difference | largest difference of the gradient |")
    print("| --- | --- | --- | --- | --- |")
    for n in (10, 100, len(scores)):
        s, u = scores[:n].clone().requires_grad_(), ious[:n]
        released, plain = as_released(s, u), pearson(s, u)
        difference = (gradient(released, s) - gradient(plain, s)).abs().max()
        gap = abs(released.item() - plain.item())
        print(f"| {n} | {released.item():.12f} | {plain.item():.12f} | {gap:.0e} | {difference:.0e} |")


def print_digits(ious: Tensor) -> None:
    """What float32 leaves of either where scores lie close together."""
    print("\n| spread of the scores | release: value | gradient | `spearman`: value | gradient |")
    print("| --- | --- | --- | --- | --- |")
    noise = torch.rand(len(ious), generator=torch.Generator().manual_seed(1), dtype=torch.double)
    for spread in (1e-1, 1e-2, 1e-3, 1e-4):
        s, u = (0.5 + spread * (0.5 * noise + 0.5 * ious)).float().requires_grad_(), ious.float()
        wide = s.detach().double().requires_grad_()
        exact = spearman(wide, ious)
        exact_gradient = gradient(exact, wide)
        ranks = [v + len(v) / 2 for v in (s, u)]  # about what they are there, and in float32 as there
        cells = [f"{spread:.0e}"]
        for rho in (torch.corrcoef(torch.stack(ranks))[0, 1], spearman(s, u)):
            error = (gradient(rho, s).double() - exact_gradient).norm() / exact_gradient.norm()
            cells += [f"{abs(rho.item() - exact.item()):.0e}", f"{error.item():.0e}"]
        print("| " + " | ".join(cells) + " |")


def print_strengths(scores: Tensor, ious: Tensor) -> None:
    """From Pearson's to Spearman's as the strength falls."""
    exact = spearmanr(scores, ious)[0]
    s = scores.clone().requires_grad_()
    plain = gradient(pearson(s, ious), s)
    print("\n| strength | coefficient | less Spearman's | scores with a gradient | cosine with Pearson's |")
    print("| --- | --- | --- | --- | --- |")
    rows = [(f"{strength:g}", spearman(s, ious, strength)) for strength in STRENGTHS]
    for name, rho in [*rows, ("exact ranks", spearman_exact(s, ious))]:
        grad = gradient(rho, s)
        cosine = torch.nn.functional.cosine_similarity(grad, plain, dim=0)
        reached = (grad != 0).double().mean()
        print(f"| {name} | {rho.item():.4f} | {rho.item() - exact:+.4f} | {reached:.0%} | {cosine:.2f} |")


def draw(scores: Tensor, ious: Tensor, path: Path) -> None:
    """Soft ranks, gradients, and the coefficient between Pearson's and Spearman's."""
    figure = Figure(figsize=(13, 4), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    order = scores.argsort()
    for strength in SHOWN:
        s = scores.clone().requires_grad_()
        left.plot(scores[order], soft_rank(scores, strength)[order], label=f"{strength:g}")
        middle.plot(scores[order], gradient(spearman(s, ious, strength), s)[order], ".", ms=3)
    left.set(title="Soft rank", xlabel="score", ylabel="rank")
    left.legend(title="strength")
    middle.set(title="Gradient of the coefficient", xlabel="score", ylabel="d rho / d score")
    middle.set_yscale("symlog", linthresh=1e-3)
    grid = torch.logspace(-6, 0.5, 60).tolist()
    right.semilogx(grid, [spearman(scores, ious, strength).item() for strength in grid], "k")
    right.axhline(pearson(scores, ious).item(), color="C0", ls="--", label="Pearson")
    right.axhline(spearmanr(scores, ious)[0], color="C3", ls="--", label="Spearman")
    right.axvline(1.0, color="0.7", lw=1)
    right.set(title="Coefficient", xlabel="strength (the release: 1)", ylabel="rho")
    right.legend()
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """All tables and the figure."""
    scores, ious = positives()
    print_differences(scores, ious)
    print_digits(ious)
    print_strengths(scores, ious)
    draw(scores, ious, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
