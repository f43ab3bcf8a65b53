"""A tiny network, images for it, and the estimator on both."""

import torch
from torch import nn

from lqf.estimator import LQF

C = 3


def make_network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 5, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(20, 7),
    ).to(dtype)


def make_data(n=14, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % C
    images = torch.randn(n, 3, 8, 8, generator=g, dtype=dtype)
    images[torch.arange(n), labels] += 1.0
    return images, labels


def make_model(**options):
    """Euclidean with f0, so that a dense solve in a few lines is the truth."""
    given = {"ridge": 0.5, "centred": False, "fold_batch_norm": True, "device": "cpu"}
    given |= {"tolerance": 1e-12, "max_passes": 400}
    return LQF(make_network(), C, **{**given, **options})
