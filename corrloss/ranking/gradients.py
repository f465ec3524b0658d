"""Values whose gradient is the error-driven update of a ranking loss, not their derivative."""

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _GivenGradient(Function):
    @staticmethod
    def forward(ctx, variable, value, gradient):
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None


def with_gradient(value: Tensor, variable: Tensor, gradient: Tensor) -> Tensor:
    """Return ``value`` in the dtype of ``variable``, with ``gradient`` as its gradient.

    Args:
        value: scalar, without gradient.
        variable: of any shape; the gradient is with respect to it.
        gradient: of the shape of ``variable``.

    Examples:
        >>> import torch
        >>> logits = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> with_gradient(torch.tensor(7.0), logits, torch.tensor([0.5, -0.5])).backward()
        >>> logits.grad.tolist()
        [0.5, -0.5]
    """
    return _GivenGradient.apply(variable, value.to(variable.dtype), gradient.to(variable.dtype))
