"""Orders in which images are kept."""

from __future__ import annotations

import torch

from lqf.experiments.summary import herding, k_centre


def test_each_next_centre_is_the_farthest_from_those_before() -> None:
    features = torch.tensor([[0.0], [1.0], [2.0], [10.0], [4.0]]).double()
    # The mean is 3.4, next to 4; then 10 is 6 away; then 0 is 4 away; 1 and 2 are as near to what is there.
    assert k_centre(features)[:3].tolist() == [4, 3, 0]
    assert sorted(k_centre(features).tolist()) == [0, 1, 2, 3, 4]


def test_herding_keeps_the_means_of_classes() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    features = torch.tensor([[0.0], [1.0], [5.0], [10.0], [11.0], [18.0]]).double()
    # Means 2 and 13: 1 and 11 are nearest; then (1 + 5)/2 = 3 and (1 + 0)/2 = 0.5; (11 + 18)/2 = 14.5, 10.5.
    assert herding(features, labels).tolist() == [1, 4, 2, 5, 0, 3]
