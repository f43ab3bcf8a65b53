"""Torchvision's classifiers, cut in front of their head."""

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.ops import StochasticDepth

from lqf import backbones
from lqf.networks import build, build_features, cut, recalibrate_batch_norm

# The smallest of each way in which a classifier ends.
NAMES = [
    "resnet18",
    "regnet_x_400mf",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "squeezenet1_1",
]


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def test_every_classifier_of_torchvision_is_known() -> None:
    refused = {"googlenet", "inception_v3"}

    assert {*backbones.names(), *refused} == {backbones.DEMO, *models.list_models(module=models)}
    for name in sorted(refused):
        with pytest.raises(ValueError, match=rf"network '{name}' cannot be used: it has auxiliary"):
            build(name, 3)


def test_published_weights_are_torchvisions() -> None:
    for name in backbones.names():
        if name != backbones.DEMO:
            weights = {one.name.lower() for one in models.get_model_weights(name)}
            assert set(backbones.sources(name, "relu")) == weights - {"imagenet1k_features"}


@pytest.mark.parametrize("name", NAMES)
def test_features_and_head_are_the_whole_network(name: str) -> None:
    torch.manual_seed(0)
    whole = models.get_model(name, weights=None).eval()
    state, expected = whole.state_dict(), whole(images()).detach()

    found = cut(whole)

    kept = found.features.state_dict()
    assert all(key in state for key in kept)
    assert {key for key in state if not key.startswith(found.head)} == set(kept)
    assert found.maps == backbones.gives_maps(name)
    with torch.no_grad():
        seen = found.features(images())
    seen = seen.mean((2, 3)) if found.maps else seen
    weights, bias = [value for key, value in state.items() if key.startswith(found.head)][-2:]
    assert seen.shape == (2, found.width)
    if name != "squeezenet1_1":  # which has a ReLU after its head
        torch.testing.assert_close(seen @ weights.T + bias, expected, rtol=1e-3, atol=1e-4)


def test_nothing_random_is_left() -> None:
    network = build("efficientnet_b0", 3).train()

    kinds = (nn.Dropout, StochasticDepth)
    assert not any(isinstance(module, kinds) for module in network.modules())
    assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_covariance_pooling_needs_a_map() -> None:
    network = build("resnet18", 3, pooling="covariance", covariance_dimension=6).eval()
    with torch.no_grad():
        network.pool.calibrate(network.features(images()))

    assert network(images()).shape == (2, 3)
    assert network.head.in_features == 21
    with pytest.raises(ValueError, match="covariance needs a feature map, and the head of alexnet"):
        build("alexnet", 3, pooling="covariance")


def test_network_without_linear_head_is_not_cut() -> None:
    with pytest.raises(ValueError, match="last layer is 0, a Conv2d, and not a linear layer"):
        cut(nn.Sequential(nn.Conv2d(3, 4, 3)))


def test_recalibrated_statistics_are_those_of_the_images() -> None:
    torch.manual_seed(0)
    features = build_features("demo_resnet", "leaky_relu", 0.1).features
    features.train()
    features(5 * images() + 3)
    features.eval()
    pictures = images(70)

    assert recalibrate_batch_norm(features, pictures) == 9

    first = features[0](pictures)
    halves = first.split(35)
    norm = features[1]
    torch.testing.assert_close(norm.running_mean, first.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        norm.running_var, sum(h.transpose(0, 1).flatten(1).var(1) for h in halves) / 2
    )
    assert norm.momentum == 0.1
    assert not any(module.training for module in features.modules())
    before = {name: value.clone() for name, value in features.state_dict().items()}
    recalibrate_batch_norm(features, pictures)
    after = features.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_network_without_batch_norm_stays_as_it_is() -> None:
    features = build_features("squeezenet1_1", "leaky_relu", 0.01).features.eval()

    assert recalibrate_batch_norm(features, images()) == 0
