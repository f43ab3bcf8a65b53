import pytest
import torch
from torch.nn.functional import cross_entropy

from lqf.fitted.calibration import choose_temperature


def sample(temperature, n=4000, scale=15.0):
    """Labels drawn from softmax(f/T) of known outputs."""
    g = torch.Generator().manual_seed(0)
    outputs = scale * torch.rand(n, 4, generator=g, dtype=torch.float64)
    labels = torch.multinomial((outputs / temperature).softmax(1), 1, generator=g).squeeze(1)
    return outputs, labels


@pytest.mark.parametrize("temperature", [0.8, 4.0, 20.0])
def test_temperature_of_known_probabilities_is_found(temperature):
    outputs, labels = sample(temperature)
    found = choose_temperature(outputs, labels, 15.0)
    assert found == pytest.approx(temperature, rel=0.1)


def test_temperature_is_a_minimum_and_has_the_unit_of_the_outputs():
    outputs, labels = sample(4.0, n=300)
    found = choose_temperature(outputs, labels, 15.0)
    at = cross_entropy(outputs / found, labels)
    for factor in (0.99, 1.01):
        assert at < cross_entropy(outputs / (found * factor), labels)
    assert choose_temperature(10 * outputs, labels, 150.0) == pytest.approx(10 * found, rel=1e-5)
