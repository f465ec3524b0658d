"""Self-balancing: weights of the localisation loss that are computed from the values of the losses."""

import torch
from torch import Tensor, nn


def value_balance(reference: Tensor, loss: Tensor) -> Tensor:
    """Return the weight that scales ``loss`` to the value of ``reference`` in this iteration.

    Rank & Sort Loss (arXiv 2107.11669) weights every other task by the ratio of the values,
    ``L_RS / L_task``: ``loss_bbox * value_balance(ranking + sorting, loss_bbox)``.

    Args:
        reference: scalar >= 0, the ranking loss.
        loss: scalar >= 0, the loss to weight.

    Returns:
        Scalar without gradient; 1 where ``loss`` is zero and the ratio is undefined.

    Examples:
        >>> value_balance(torch.tensor(0.5), torch.tensor(0.25)).item()
        2.0
    """
    reference, loss = reference.detach(), loss.detach()
    return torch.where(loss > 0, reference / loss, torch.ones_like(loss))


class EpochBalance(nn.Module):
    """The self-balance of aLRP Loss: ratio of the total to the localisation component in the last period.

    Section 4.2 of arXiv 2009.13592: the weight of the localisation component is the mean aLRP error of the
    previous epoch divided by its mean localisation component, so that the localisation gradient does not
    vanish as the component becomes small. The first period uses ``initial``. The sums are buffers, so that
    resuming is exact, and no value is read on the host.

    Args:
        period: iterations in an epoch, >= 1.
        initial: weight of the first period; 50 in the paper's released code.

    Examples:
        >>> balance = EpochBalance(period=2, initial=50.0)
        >>> [balance(torch.tensor(0.6), torch.tensor(0.2)).item() for _ in range(3)]
        [50.0, 4.0, 4.0]
    """

    def __init__(self, period: int, initial: float = 50.0) -> None:
        super().__init__()
        if period < 1:
            raise ValueError(f"period is the number of iterations in an epoch, at least 1; got {period}")
        self.period = period
        self.register_buffer("weight", torch.tensor(float(initial)))
        self.register_buffer("total", torch.tensor(0.0))
        self.register_buffer("localisation", torch.tensor(0.0))
        self.register_buffer("iterations", torch.tensor(0))

    @torch.no_grad()
    def forward(self, classification: Tensor, localisation: Tensor) -> Tensor:
        """Return the weight of this iteration's localisation component; in training, add both to the sums.

        Args:
            classification: scalar, the classification component of aLRP Loss.
            localisation: scalar, the localisation component, not yet weighted.
        """
        if self.training:
            self.total += classification + localisation
            self.localisation += localisation
            self.iterations += 1
            ends = self.iterations >= self.period
            usable = ends & (self.localisation > 0)
            self.weight.copy_(torch.where(usable, self.total / self.localisation, self.weight))
            for value in (self.total, self.localisation, self.iterations):
                value.masked_fill_(ends, 0)
        return self.weight.clone()
