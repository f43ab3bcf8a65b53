import pytest
import torch
from torch.nn import functional as F

from lqf.losses import SquaredLoss, error_rate, make_loss

OUTPUTS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([2, 1])


@pytest.mark.parametrize("name", ["mse", "cross_entropy"])
def test_cotangent_is_the_derivative_of_the_summed_loss(name: str) -> None:
    loss = make_loss(name, 15.0, 3)
    outputs = OUTPUTS.clone().requires_grad_()

    (expected,) = torch.autograd.grad(loss.value(outputs, LABELS) * len(LABELS), outputs)

    torch.testing.assert_close(loss.cotangent(OUTPUTS, LABELS), expected)


def test_squared_loss_is_half_the_squared_distance_to_scaled_targets() -> None:
    expected = 0.5 * (15.0 * F.one_hot(LABELS, 3) - OUTPUTS).square().sum() / 2

    torch.testing.assert_close(SquaredLoss(15.0, 3).value(OUTPUTS, LABELS), expected)


def test_error_rate_is_in_percent() -> None:
    assert error_rate(OUTPUTS, LABELS) == 50.0
