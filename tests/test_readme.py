"""What the README shows of the loss is what it does."""

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def lins(s, u):
    """Lin's coefficient with unbiased moments."""
    return 2 * torch.cov(torch.stack((s, u)))[0, 1] / (s.var() + u.var() + (s.mean() - u.mean()) ** 2)


def test_the_loss_alone():
    (snippet,) = (
        code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "CorrelationLoss" in code
    )
    scores, ious = torch.rand(2, 50, dtype=torch.double)
    names = {"detector_loss": torch.tensor(1.5), "scores": scores.requires_grad_(), "ious": ious}
    exec(snippet, names)
    assert names["loss"].item() == pytest.approx(1.5 + 0.2 * (1 - lins(scores, ious).item()))
    names["loss"].backward()
    assert scores.grad.abs().sum() > 0
