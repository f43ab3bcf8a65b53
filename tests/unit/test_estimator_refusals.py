"""Data, options and networks that the estimator refuses, in one sentence each."""

import pytest
import torch
from small_models import C, make_data, make_model, make_network
from torch import nn

from lqf.estimator import LQF


def _with_nan(images):
    images = images.clone()
    images[3, 0, 0, 0] = float("nan")
    return images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y % 2 + 2), "there are 3 different labels|labels 0 to 2"),
        (lambda x, y: (x, y % 2 - 1), "there are 3 different labels|labels 0 to 2"),
        (lambda x, y: (x, 0 * y + 1), "only class 1; at least two classes"),
        (lambda x, y: (x[:1], y[:1]), "only class 0"),
        (lambda x, y: (x, y[:-1]), r"labels has shape \(13,\) for 14 images"),
        (lambda x, y: (x, [1, "a"] * 7), r"several types \(int, str\)"),
        (lambda x, y: (x, y / 0), "labels contain NaN or infinite"),
        (lambda x, y: (x[0], y), r"images has shape \(3, 8, 8\); it must be N"),
        (lambda x, y: (x[:, :2], y), r"cannot take images of shape \(2, 8, 8\)"),
        (lambda x, y: (x[..., :2, :2], y), r"cannot take images of shape \(3, 2, 2\)"),
        (lambda x, y: (_with_nan(x), y), "image 3 contains NaN"),
        (lambda x, y: (x[:0], y[:0]), "images is empty"),
        (lambda x, y: ((255 * x).to(torch.uint8), y), "images are torch.uint8"),
        (lambda x, y: ("images", y), "'images' was given where"),
    ],
)
def test_bad_data_is_refused_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=message) as error:
        make_model().fit(change(*make_data()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"ridge": "best"}, "ridge is 'best'"),
        ({"tolerance": 2.0}, "tolerance is 2.0"),
        ({"max_passes": 1}, "max_passes is 1"),
        ({"seed": "0"}, "seed is '0'"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"target_scale": 0.0}, "target_scale is 0.0"),
        ({"slope": -0.1}, "slope is -0.1"),
        ({"head": "zero"}, "head is 'zero'; it must be 'random' or 'keep'"),
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"head": "keep"}, r"gives \(1, 7\) for one image; \(1, 3\) is needed"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options).fit(make_data())


def test_bad_networks_are_refused():
    data = make_data()
    zero = make_network()
    nn.init.zeros_(zero[-1].weight)
    frozen = make_network().requires_grad_(False)
    frozen[-1] = nn.Linear(20, C).double().requires_grad_(False)
    mixed = make_network()
    mixed[0].float()
    broken = make_network()
    broken[0].weight.data[0] = float("nan")
    flat = nn.Sequential(make_network()[:-1], nn.BatchNorm1d(20).double())
    for network, head, message in [
        (zero, "keep", "head's weight is zero"),
        (frozen, "keep", "requires_grad=False"),
        (mixed, "random", "one precision"),
        (make_network(torch.float16), "random", "torch.float16"),
        (broken, "random", "'0.weight' contains NaN"),
        (flat, "random", "a BatchNorm1d; head='random' replaces"),
        ("resnet81", "random", "Did you mean 'resnet18'"),
        (nn.Sequential(nn.Flatten()), "random", "no parameters"),
    ]:
        with pytest.raises(ValueError, match=message):
            LQF(network, C, head=head, device="cpu").fit(data)
    with pytest.raises(TypeError, match="network is a int"):
        LQF(3, C, device="cpu").fit(data)
    with pytest.raises(TypeError, match="needs an lqf Classifier with a feature map"):
        LQF(make_network(), C, pooling="covariance", device="cpu").fit(data)


@pytest.mark.parametrize("how", ["forward", "hook"])
def test_a_function_that_holds_a_layer_of_the_original_is_refused(how):
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, C),
    )
    layer, before = network[0], network[0].forward
    if how == "forward":
        # A copy of the network has this very function, which knows the layer of the original.
        layer.forward = lambda x: 2 * before(x)
    else:
        network[1].register_forward_hook(
            lambda module, inputs, output: output + before(inputs[0][:, :3])
        )
    images, labels = make_data(14)

    with pytest.raises(
        ValueError, match=r"parameter '0\.(weight|bias)' of the original.*MethodType"
    ):
        LQF(network, C, head="keep", activation=None).fit(images, labels)
