"""The estimator with the kinds of network that torchvision has, small and with random weights."""

import logging
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp
from torchvision import models

from lqf.estimator import LQF
from lqf.jacobian.modes import differentiable
from lqf.optimum import optimum

C, N = 3, 4


def resnet():
    return models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], width_per_group=64)


def convnext():
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(8, 12, 1), block(12, None, 1)])


def vit():
    return models.VisionTransformer(32, 8, 2, 2, hidden_dim=16, mlp_dim=24)


NETWORKS = {
    "resnet": (resnet, 32),
    "mobilenet_v2": (partial(models.mobilenet_v2, width_mult=0.25), 32),
    "mobilenet_v3": (partial(models.mobilenet_v3_small, width_mult=0.5), 32),
    "squeezenet": (models.squeezenet1_1, 48),
    "convnext": (convnext, 32),
    "vit": (vit, 32),
    "densenet": (partial(models.DenseNet, 8, (2, 2), 8), 32),
    "shufflenet": (models.shufflenet_v2_x0_5, 32),
}


def data(size, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return torch.randn(N, 3, size, size, generator=g, dtype=dtype), torch.arange(N) % C


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvision_networks(name, monkeypatch):
    make, size = NETWORKS[name]
    torch.manual_seed(0)
    network = make().double()
    images, labels = data(size)
    options = {
        "ridge": 10.0,
        "device": "cpu",
        "tolerance": 1e-4,
        "max_passes": 300,
        "centred": False,
    }
    model = LQF(network, C, **options).fit(images, labels)
    assert model.exact_
    assert model.certificate_.residual < 1e-9
    # The outputs are those of forward mode through the whole network.
    inner = model.network_
    weights = {k: p.detach() for k, p in inner.named_parameters()}
    split = dict(
        zip(model._linearized.layout.names, model.delta_.split(_sizes(model)), strict=True)
    )
    moves = {k: split[k].reshape(p.shape) if k in split else 0 * p for k, p in weights.items()}
    with differentiable(images.device):
        f0, change = jvp(lambda w: functional_call(inner, w, images), (weights,), (moves,))
    torch.testing.assert_close(model.decision_function(images), f0 + change)
    # The optimum has no gradient: Jᵀr = μδ.
    residual = 15.0 * nn.functional.one_hot(labels, C) - f0 - change
    pulled = torch.autograd.grad(
        inner(images), [dict(inner.named_parameters())[k] for k in split], residual
    )
    flat = torch.cat([p.reshape(-1) for p in pulled])
    torch.testing.assert_close(flat, 10.0 * model.delta_, rtol=1e-5, atol=1e-7)

    if model._linearized.layout.size > 50_000:
        return  # the eigenbases of wide layers take seconds
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    other = LQF(network, C, **options).fit(images, labels)
    assert not other.exact_
    assert other.certificate_.met
    error = (other.decision_function(images) - model.decision_function(images)).norm()
    assert error < 0.02 * change.norm()
    # The default: the curvature metric, everything chosen by leave-one-out.
    chosen = LQF(network, C, device="cpu").fit(images, labels)
    assert chosen.epsilon_ < float("inf")
    assert chosen.decision_function(images).isfinite().all()


def _sizes(model):
    return [int(torch.tensor(shape).prod()) for shape in model._linearized.layout.shapes]


def test_parts_that_only_training_uses_stay(kind, caplog):
    class WithAuxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3)
            self.auxiliary = nn.Linear(4, 9)
            self.head = nn.Linear(4, 9)

        def forward(self, x):
            features = self.body(x).relu().mean((2, 3))
            main = self.head(features)
            return (main, self.auxiliary(features)) if self.training else main

    torch.manual_seed(0)
    with caplog.at_level(logging.INFO):
        model = LQF(WithAuxiliary().double(), C, ridge=1.0, device="cpu").fit(data(8))
    assert "auxiliary.weight" in caplog.text
    assert len(model.delta_) == 4 * 27 + 4 + 4 * C + C


def test_the_layer_that_makes_the_outputs_is_replaced_and_nothing_cuts_it_off(caplog):
    torch.manual_seed(0)
    images, labels = data(48, torch.float32)
    with caplog.at_level(logging.INFO):
        model = LQF(models.squeezenet1_1(), device="cpu", ridge=1.0).fit(images, labels)
    assert "behind the new head" in caplog.text
    assert (model.decision_function(images) < 0).any()

    caplog.clear()
    dead = models.squeezenet1_1(num_classes=C)
    nn.init.constant_(dead.classifier[1].bias, -100.0)
    LQF(dead, head="keep", activation=None, device="cpu", ridge=1.0).fit(images, labels)
    assert (
        "12 of 12 outputs of training images do not depend on any trained parameter" in caplog.text
    )

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(4, 9), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    found = LQF(Backwards(), device="cpu", ridge=1.0).fit(images, labels)
    assert found.network_.head.out_features == C
    assert found._prepared.head == "head"


@pytest.mark.parametrize(
    ("activation", "told"),
    [
        (
            "leaky_relu",
            ["activation='leaky_relu' replaces ReLU alone: Sequential keeps 2 ReLU6 and 1 SiLU"],
        ),
        (None, []),
    ],
)
def test_activations_that_are_not_replaced_are_named(activation, told, caplog):
    layers = (nn.ReLU(), nn.ReLU6(), nn.ReLU6(), nn.SiLU())
    network = nn.Sequential(nn.Flatten(), *layers, nn.Linear(3 * 4 * 4, 2))
    images, labels = data(4, torch.float32)
    LQF(network, C, activation=activation, device="cpu", ridge=1.0).fit(images, labels)
    assert [one.message for one in caplog.records if "ReLU alone" in one.message] == told
