import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lqf.curvature import SampleGradients, estimate, moments
from lqf.curvature.shifts import shifted_moment
from lqf.jacobian import Linearized


@settings(max_examples=20, deadline=None)
@given(
    samples=st.integers(1, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    bias=st.booleans(),
)
def test_it_is_the_moment_of_the_patches(samples, channels, height, width, bias):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, channels, height, width, generator=generator, dtype=torch.float64)
    patches = nn.functional.unfold(x, 3, padding=1)
    if bias:
        patches = torch.cat([patches, torch.ones_like(patches[:, :1])], dim=1)
    expected = torch.einsum("nis,njs->ij", patches, patches)
    torch.testing.assert_close(shifted_moment(x, bias), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", [{"padding": 1}, {"padding": 1, "bias": False}, {"stride": 2}])
def test_bases_are_the_same_with_and_without(layer, monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, **layer), nn.Flatten(), nn.LazyLinear(2)).double()
    x = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    network(x)
    samples = SampleGradients(Linearized(network), x)
    found = estimate(samples, x, batch=2).layers["0.weight"]
    used = []
    monkeypatch.setattr(moments, "has_shifts", lambda call: used.append(call) or False)
    expected = estimate(samples, x, batch=2).layers["0.weight"]
    assert used
    torch.testing.assert_close(
        found.values.flatten().sort()[0], expected.values.flatten().sort()[0]
    )
