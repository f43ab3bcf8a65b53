"""From outputs fitted to αy to probabilities: one temperature, chosen without a validation set."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

# Temperatures are searched within these factors of the target scale α.
_SHARPEST, _FLATTEST = 1e-3, 1e2


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
    # In 1/T the loss is convex, so it has one minimum in log T.
    bounds = np.log([_SHARPEST * target_scale, _FLATTEST * target_scale])
    found = minimize_scalar(
        lambda log_t: cross_entropy(values / np.exp(log_t), labels).item(),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(np.exp(found.x))
