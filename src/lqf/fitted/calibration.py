"""From outputs fitted to αy to probabilities: one temperature, chosen without a validation set."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

# Temperatures are searched within these factors of the target scale α.
_SHARPEST, _FLATTEST = 1e-3, 1e2
_STEPS = 61


def choose_temperature(outputs: Tensor, labels: Tensor, target_scale: float) -> float:
    """T > 0 with the smallest negative log-likelihood of ``softmax(f/T)`` (Guo et al. 2017).

    Outputs of the squared loss are estimates of αP(y|x), not logits, so their softmax is as sharp
    as α happens to be.  Chosen on leave-one-out outputs, T sees predictions for samples that the
    model has not been fitted to; on the training samples' own outputs it would be too small.

    Args:
        outputs: f₋ᵢ(x_i), N × C.
        labels: y, N.
        target_scale: α, which sets the range of the search.

    Returns:
        T, in the unit of the outputs.
    """
    values = outputs.double()

    def loss(log_temperature: float) -> float:
        return cross_entropy(values / math.exp(log_temperature), labels).item()

    low, high = math.log(_SHARPEST * target_scale), math.log(_FLATTEST * target_scale)
    grid = torch.linspace(low, high, _STEPS, dtype=torch.float64).tolist()
    best = min(range(_STEPS), key=lambda k: loss(grid[k]))
    low, high = grid[max(0, best - 1)], grid[min(_STEPS - 1, best + 1)]
    # In 1/T the loss is convex, so it has one minimum in log T: golden section.
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-6:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)
