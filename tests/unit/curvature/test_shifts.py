import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lqf.curvature import kronecker_factors
from lqf.curvature.shifts import has_shifts, shifted_moment


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


@pytest.mark.parametrize(
    ("layer", "answer"),
    [
        (nn.Conv2d(2, 3, 3, padding=1), True),
        (nn.Conv2d(2, 3, 3, padding="same", bias=False), True),
        (nn.Conv2d(2, 3, 3), False),
        (nn.Conv2d(2, 3, 3, padding=1, stride=2), False),
        (nn.Conv2d(2, 3, 3, padding=2, dilation=2), False),
        (nn.Conv2d(2, 3, 3, padding="same", dilation=2), False),
        (nn.Conv2d(2, 2, 3, padding=1, groups=2), False),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), False),
        (nn.Conv2d(2, 3, (3, 1), padding=(1, 0)), False),
        (nn.Linear(8, 3), False),
    ],
)
def test_only_layers_it_is_right_for(layer, answer):
    assert has_shifts(layer, torch.zeros(2, 2, 8, 8)) is answer
    assert not has_shifts(layer, torch.zeros(2, 2, 8, 3))


@pytest.mark.parametrize("names", [["0.weight", "0.bias"], ["0.weight"], ["0.bias"]])
@pytest.mark.parametrize("chunk", [1, 1 << 24])
def test_factors_are_the_same_with_and_without(monkeypatch, names, chunk):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(144, 2)).double()
    x = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    monkeypatch.setattr("lqf.curvature.moments._CHUNK", chunk)
    found = kronecker_factors(network, x, names, batch=2).blocks["0"]
    used = []
    monkeypatch.setattr(
        "lqf.curvature.moments.has_shifts", lambda *arguments: used.append(arguments) or False
    )
    expected = kronecker_factors(network, x, names, batch=2).blocks["0"]
    assert bool(used) == ("0.weight" in names)
    torch.testing.assert_close(found.A, expected.A, rtol=1e-12, atol=1e-12)
