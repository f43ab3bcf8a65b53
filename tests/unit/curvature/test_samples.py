import pytest
import torch
from dense_networks import seeded
from oracles import NETWORKS, images, linearized, plain, rows
from torch import nn

from lqf.curvature import SampleGradients, jacobian
from lqf.jacobian import Linearized


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_samples_are_autograds_however_parameters_are_used(name):
    network, x = linearized(name), images()
    samples = SampleGradients(network, x)
    singly = [n for n in network.layout.names if n not in samples.covered]
    assert len(singly) == NETWORKS[name][1]
    torch.testing.assert_close(jacobian(samples, x, batch=2), rows(network, x))


def test_frozen_parameters_are_left_out():
    network = Linearized(seeded(plain()), ["0.weight", "5.bias"])
    x = images()
    samples = SampleGradients(network, x)
    assert samples.covered == {"0.weight"}
    torch.testing.assert_close(jacobian(samples, x), rows(network, x))


class Tuned(nn.Module):
    """A layer whose weight is also added to the outputs, where images are bright."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        bright = (x.mean((1, 2, 3)) > 1).to(x)[:, None]
        return self.head(self.first(x).mean((2, 3))) + bright * self.first.weight.sum() ** 2


def test_what_the_trial_did_not_see_is_noticed_in_the_batch_that_shows_it(caplog):
    network, x = Linearized(seeded(Tuned())), images(8)
    x[5] += 3
    samples = SampleGradients(network, x)
    assert "first.weight" in samples.covered
    with caplog.at_level("INFO"):
        found = jacobian(samples, x, batch=2)
    assert "first.weight" not in samples.covered
    assert "not what a layer of that kind does" in caplog.text
    torch.testing.assert_close(found, rows(network, x))
