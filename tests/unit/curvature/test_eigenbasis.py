import pytest
import torch

from lqf.curvature.eigenbasis import decompose_root


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_root_gives_the_basis_of_its_moment(dtype):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(2, 20, 60, generator=generator, dtype=torch.float64)
    root = root * torch.logspace(0, -5, 20)[:, None]
    root[:, -2:] = root[:, :2]  # Two rows say nothing new.
    values, vectors = decompose_root(root.to(dtype), "A")
    assert vectors.shape[1] == 60
    assert vectors.shape[2] < 20
    eps = torch.finfo(dtype).eps
    vectors = vectors.double()
    right = vectors.mT @ vectors
    assert float((right - torch.eye(right.shape[-1])).abs().max()) < 20 * eps
    moment = root.mT @ root
    rebuilt = (vectors * values[:, None]) @ vectors.mT
    assert float((rebuilt - moment).norm() / moment.norm()) < 20 * eps


def test_a_nan_is_refused_by_name():
    with pytest.raises(ValueError, match="factor A of layer 'x' has NaN"):
        decompose_root(torch.full((1, 2, 4), torch.nan), "A of layer 'x'")
