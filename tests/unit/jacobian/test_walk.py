"""Every layer's rule, the general rule, and what cannot be followed, against dense Jacobians."""

import pytest
import torch
from dense_networks import assert_pass_is_exact, random, seeded
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from lqf.jacobian import Linearized
from lqf.jacobian.walk import gradient_slices

C = 3


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def between(*layers: nn.Module, channels: int = 4) -> nn.Module:
    """The layers between a convolution, so that they see a tangent, and a linear head."""
    stem = nn.Conv2d(3, channels, 3, padding=1)
    return nn.Sequential(stem, *layers, nn.Flatten(), nn.LazyLinear(C))


def check(network: nn.Module, *, whole: bool = False, names=None, size: int = 6) -> Linearized:
    images = random(2, 3, size, size)
    with torch.no_grad():
        network.double()(images)  # gives lazy layers their shape
    linearized = Linearized(seeded(network), names)
    assert_pass_is_exact(linearized, images, whole=whole)
    return linearized


LAYERS = {
    "stride": nn.Conv2d(4, 5, 3, 2, 1),
    "dilated": nn.Conv2d(4, 5, 2, dilation=2),
    "grouped": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    "same padding": nn.Conv2d(4, 5, 3, padding="same"),
    "reflected": nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"),
    "pointwise": nn.Conv2d(4, 5, 1),
    "pointwise, no bias": nn.Conv2d(4, 5, 1, bias=False),
    "pointwise stride": nn.Conv2d(4, 5, 1, stride=2),
    "transposed": nn.ConvTranspose2d(4, 3, 2, 2),
    "batch norm": nn.BatchNorm2d(4),
    "batch norm, no affine": nn.BatchNorm2d(4, affine=False),
    "group norm": nn.GroupNorm(2, 4),
    "layer norm": nn.LayerNorm([4, 6, 6]),
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "leaky relu": nn.LeakyReLU(0.1),
    "leaky relu in place": nn.LeakyReLU(0.1, inplace=True),
    "silu": nn.SiLU(),
    "hardswish in place": nn.Hardswish(inplace=True),
    "gelu": nn.GELU(),
    "elu in place": nn.ELU(inplace=True),
    "prelu": nn.PReLU(4),
    "softmax": nn.Softmax(1),
    "max pool": nn.MaxPool2d(3, 2, 1),
    "average pool": nn.AvgPool2d(2),
    "dropout": nn.Dropout(0.5, inplace=True),
    "upsample": nn.Upsample(scale_factor=2, mode="bilinear"),
    "pixel shuffle": nn.PixelShuffle(2),
    "parametrised": register_parametrization(nn.Conv2d(4, 4, 3), "weight", nn.Tanh()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name) -> None:
    check(between(LAYERS[name]))


FUNCTIONS = {
    "mean": lambda x: x.mean((2, 3)),
    "residual": lambda x: x + F.relu(x),
    "residual in place": lambda x: (x * 2).add_(F.relu(x), alpha=0.5),
    "minus": lambda x: 1 - x.sub(x.mean(1, keepdim=True), alpha=2),
    "broadcast": lambda x: x.mean((2, 3), keepdim=True) + x * x.amax((2, 3), keepdim=True) + 1,
    "constant mask": lambda x: torch.ones(2, 4, 6, 6, dtype=x.dtype) * x,
    "constant larger": lambda x: x.mean((2, 3), keepdim=True) + torch.ones(6, 6, dtype=x.dtype),
    "concatenation": lambda x: torch.cat([x, x.flip(3) * 2], 1),
    "chunks": lambda x: torch.mul(*x.chunk(2, 1)),
    "attention": lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3),
    "matmul": lambda x: x.flatten(2) @ x.flatten(2).mT,
    "constant matmul": lambda x: torch.ones(4, 4, dtype=x.dtype) @ x.flatten(2),
    "norm": lambda x: F.normalize(x, dim=1) / 3,
    "max with indices": lambda x: x.max(dim=1).values + x.topk(2, dim=1)[0][:, 0],
    "shape": lambda x: x.view(x.shape[0], -1, x.size(3)).permute(2, 0, 1).transpose(0, 1),
    "square root": lambda x: (x.square() + 1e-3).sqrt() ** 1.5,
    "detached": lambda x: x * x.detach(),
    "where": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "channels last": lambda x: F.relu(x.contiguous(memory_format=torch.channels_last)).flatten(1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(name) -> None:
    check(between(Function(FUNCTIONS[name])))


def _view_in_place(x: Tensor) -> Tensor:
    y = x * 1.0
    y.flatten(1).mul_(2.0)
    return y


def _set_item(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = x[:, 1] * 3
    y[:, 2] = 1.0
    y[0] += x[1]
    return y


def _old_name(x: Tensor) -> Tensor:
    y = x * 2.0
    z = y
    y += x
    return z


def _same_tangent(x: Tensor) -> Tensor:
    y = x + 1.0
    y.mul_(3.0)
    return x + y


@pytest.mark.parametrize("change", [_view_in_place, _set_item, _old_name, _same_tangent])
def test_changes_in_place_reach_every_name_of_a_tensor(change) -> None:
    check(between(Function(change)))


def test_a_frozen_batch_norm_goes_into_the_convolution_before_it() -> None:
    # 6 × 6 outputs are more than the weights: the fused form; both layers are trained.
    check(between(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)))
    check(between(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False)))
    # Many weights: two operations.
    check(between(nn.Conv2d(4, 8, 5, stride=3), nn.BatchNorm2d(8)))


def test_the_convolution_before_a_batch_norm_can_be_used_again() -> None:
    norm = nn.BatchNorm2d(4)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) * x

    check(between(nn.Conv2d(4, 4, 1), Twice()))


def test_one_dimensional_and_token_layers() -> None:
    tokens = Function(lambda x: x.flatten(2).mT)
    check(between(tokens, nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU()))
    check(between(Function(lambda x: x.flatten(2)), nn.Conv1d(4, 5, 3), nn.BatchNorm1d(5)))


def test_a_module_used_twice_and_shared_parameters() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1)
    tied = nn.Conv2d(4, 4, 3, padding=1)
    tied.weight = shared.weight
    check(between(shared, nn.ReLU(), shared, nn.Tanh(), tied))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def test_attention() -> None:
    check(between(_Attention()))


@pytest.mark.parametrize(
    "names",
    [
        ["0.bias"],
        ["0.weight"],
        ["1.bias", "3.bias"],
        ["1.weight"],
        ["6.weight", "6.bias"],
        ["3.weight", "1.bias"],
    ],
)
def test_a_part_of_the_parameters(names) -> None:
    check(between(nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4), nn.Flatten()), names=names)


class _Straight(torch.autograd.Function):
    """A derivative of its own, as custom activations have."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


def test_a_custom_function_without_forward_mode_is_refused() -> None:
    network = between(Function(_Straight.apply))
    with torch.no_grad():
        network.double()(random(2, 3, 6, 6))
    linearized = Linearized(seeded(network))
    with pytest.raises(RuntimeError, match=r"forward|jvp|setup_context|functorch"):
        linearized.jvp(random(2, 3, 6, 6), random(linearized.layout.size))


def _without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = x.mean((2, 3), keepdim=True)
    return x * scale


def test_a_block_without_gradients_is_constant_as_in_reverse_mode() -> None:
    check(between(Function(_without_gradient)))


class _Square(torch.autograd.Function):
    """A custom function that torch.func can differentiate in both modes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent * ctx.saved_tensors[0]


def test_a_custom_function_with_forward_mode_is_differentiated_whole(caplog) -> None:
    check(between(Function(_Square.apply)), whole=True)
    assert sum("differentiated whole" in message for message in caplog.messages) == 1


def _into_a_buffer(x: Tensor) -> Tensor:
    buffer = torch.zeros(x.shape, dtype=torch.float64)
    buffer[:, 1] = x[:, 0]
    return buffer.add_(x)


def test_a_value_written_into_a_plain_tensor_is_not_lost() -> None:
    check(between(Function(_into_a_buffer)), whole=True)


def test_gradients_go_to_their_slices_and_no_hook_is_left() -> None:
    a, b = random(2, 2).requires_grad_(), random(3).requires_grad_()
    vector = torch.full((7,), 5.0, dtype=torch.float64)
    with gradient_slices({"a": a, "b": b}, vector):
        (a.square().sum()).backward()
    torch.testing.assert_close(vector - 5, torch.cat([2 * a.detach().reshape(-1), torch.zeros(3)]))
    with pytest.raises(KeyError), gradient_slices({"a": a}, vector[:4]):
        raise KeyError
    a.sum().backward()
    assert a.grad is not None
    assert not a._post_accumulate_grad_hooks
