import logging

import pytest
import torch
from torch import nn

from lqf.compute import Compute
from lqf.curvature import SampleGradients, estimate
from lqf.experiments.nonlinear import Schedule, outputs_of, train_network
from lqf.jacobian import Linearized, NetworkJacobian
from lqf.losses import CrossEntropy
from lqf.memory import AtOnce, images_at_once
from lqf.networks import freeze_batch_norm


class Limited(nn.Module):
    """An allocator that has room for so many images."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.largest = limit, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.limit:
            raise torch.OutOfMemoryError(f"{len(x)} images")
        self.largest = max(self.largest, len(x))
        return x


def network(limit: int, *, norm: bool = False) -> nn.Sequential:
    """A small network in which memory runs out after work has been done."""
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    layers = [nn.Conv2d(3, 4, 3), middle, nn.ReLU(), Limited(limit), nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers).double()


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(13, 3, 6, 6, generator=generator, dtype=torch.float64)
    return images, torch.arange(13) % 3


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_the_number_is_halved_until_it_fits_and_stays(caplog):
    at_once, tried = AtOnce(32, "a test"), []

    def work(size):
        tried.append(size)
        if size > 5:
            raise torch.OutOfMemoryError
        return size

    assert at_once.run(work, 20) == 5
    assert at_once.run(work, 20) == 5
    assert tried == [20, 10, 5, 5]
    assert len(warnings_of(caplog)) == 2
    assert (
        "a test: memory ran out with 20 images at once; from now on 10 are"
        in warnings_of(caplog)[0]
    )


def test_one_image_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        NetworkJacobian(Linearized(network(0)), torch.zeros(3, 3, 6, 6).double(), batch=2)


def test_products_are_those_of_whole_batches(samples, caplog):
    images, _ = samples
    plain = NetworkJacobian(Linearized(network(99)), images, batch=16)
    halved = NetworkJacobian(Linearized(network(99)), images, batch=16)
    limited = halved.linearized.network[3]
    delta = torch.randn(plain.size, generator=torch.Generator().manual_seed(2)).double()
    index = torch.tensor([12, 3, 5, 7, 1, 0, 2])
    limited.limit, limited.largest = 3, 0

    torch.testing.assert_close(halved.forward(delta), plain.forward(delta))
    torch.testing.assert_close(halved.pull(plain.base), plain.pull(plain.base))
    for rows in (None, index):
        for one, other in zip(
            halved.pass_(delta, lambda change, _: change.sin(), rows),
            plain.pass_(delta, lambda change, _: change.sin(), rows),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
    assert limited.largest == 3
    assert len(warnings_of(caplog)) == 2  # 13 -> 6 -> 3, and no network differentiated whole


def curvature_of(made, images, **options):
    return estimate(SampleGradients(Linearized(made), images), images, **options)


def test_curvature_is_that_of_whole_batches(samples, caplog):
    images, _ = samples
    found = []
    for limit in (99, 3):
        made = network(99)
        made[3].limit = limit
        found.append(curvature_of(made, images, batch=8))

    for layer, block in found[0].layers.items():
        values = found[1].layers[layer].values.flatten().sort()[0]
        torch.testing.assert_close(values, block.values.flatten().sort()[0])
    assert any("the curvature" in text for text in warnings_of(caplog))


@pytest.mark.parametrize("mode", ["frozen", "train"])
def test_training_in_parts(samples, caplog, mode):
    """Frozen statistics: the same weights. Batch statistics: others, and the log says so."""
    images, labels = samples
    ends = []
    for limit in (99, 3):
        made = network(limit, norm=True)
        if mode == "frozen":
            freeze_batch_norm(made)
        schedule = Schedule(0.05, 1e-3, batch=7, epochs=3, batch_norm=mode)
        train_network(made, images, labels, CrossEntropy(), schedule, seed=0)
        ends.append(torch.cat([p.detach().reshape(-1) for p in made.parameters()]))

    ghost = [text for text in warnings_of(caplog) if "ghost" in text]
    if mode == "frozen":
        torch.testing.assert_close(ends[1], ends[0])
        assert ghost == []
    else:
        assert (ends[1] - ends[0]).norm() > 1e-4 * ends[0].norm()
        assert len(ghost) == 1


def test_a_failed_attempt_leaves_no_trace_in_the_running_statistics(samples):
    """Parts of 3 from the start, or after a failure: the same statistics."""
    images, labels = samples
    schedule = Schedule(0.05, 1e-3, batch=6, epochs=1)
    states = []
    for limit in (3, 99):
        made = network(limit, norm=True)
        if limit == 99:  # fails once, at the end of the first forward pass
            calls = []

            def fail(*_, calls=calls):
                calls.append(1)
                if len(calls) == 1:
                    raise torch.OutOfMemoryError

            made[4].register_forward_hook(fail)
        train_network(made, images[:6], labels[:6], CrossEntropy(), schedule, seed=0)
        states.append(made.state_dict())

    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)


def test_evaluation_in_parts(samples):
    images, _ = samples

    torch.testing.assert_close(outputs_of(network(2), images), outputs_of(network(99), images))


def test_images_at_once_goes_with_memory():
    made, image = network(99), torch.zeros(1, 3, 6, 6).double()
    sizes = [images_at_once(made, image, gigabytes) for gigabytes in (1e-9, 2e-5, 4e-5, 8.0)]

    assert sizes[0] == 1
    assert sizes[3] == 256
    assert sizes[2] == pytest.approx(2 * sizes[1], abs=1)
    assert 1 < sizes[1] < sizes[2] < 256
    assert made.training


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_non_linear_training_in_mixed_precision(samples, precision):
    images, labels = (samples[0].float(), samples[1])
    compute = Compute(nonlinear=precision)
    made = network(99).float()
    before = CrossEntropy().value(outputs_of(made, images, compute), labels).item()

    losses: list[float] = []
    schedule = Schedule(0.05, 1e-3, batch=7, epochs=4)
    train_network(
        made, images, labels, CrossEntropy(), schedule, 0,
        lambda epoch, loss, outputs: losses.append(loss), compute=compute,
    )  # fmt: skip

    reference = network(99).float()
    whole: list[float] = []
    train_network(
        reference, images, labels, CrossEntropy(), schedule, 0,
        lambda epoch, loss, outputs: whole.append(loss), compute=Compute(nonlinear="fp32"),
    )  # fmt: skip
    assert losses[-1] < before
    assert losses == pytest.approx(whole, rel=0.03)
    assert (losses == whole) == (precision == "fp32")
    assert all(p.dtype is torch.float32 for p in made.parameters())
    assert outputs_of(made, images, compute).dtype is torch.float32
