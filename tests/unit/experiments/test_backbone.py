"""From a file of weights to the backbone of a job, and the swap of its activations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from lqf.experiments.backbone import backbone
from lqf.experiments.task import build_network
from lqf.method import get


def section(path: Path, leaky_relu: str = "swap") -> dict[str, Any]:
    return {
        "network": "shufflenet_v2_x0_5",
        "slope": 0.2,
        "fold_batch_norm": True,
        "covariance_dimension": 4,
        "weights": {"relu": str(path), "leaky_relu": leaky_relu},
        "pretrain": None,
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(models.shufflenet_v2_x0_5(num_classes=3).state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def images() -> torch.Tensor:
    return 2 + torch.randn(6, 3, 40, 40, generator=torch.Generator().manual_seed(1))


def test_job_starts_from_the_weights_of_the_file(checkpoint: Path, tmp_path: Path) -> None:
    settings = {"backbone": section(checkpoint)}

    about = backbone("relu", None, tmp_path / "relu.safetensors", settings)

    assert about == {"network": "shufflenet_v2_x0_5", "weights": "mine.pth"}
    weights = tmp_path / "relu.safetensors"
    network = build_network(get("fc"), weights, 5, images(), settings, seed=0)
    whole = models.shufflenet_v2_x0_5(num_classes=3).eval()
    whole.load_state_dict(torch.load(checkpoint, weights_only=True))
    whole.fc = nn.Identity()
    torch.testing.assert_close(network.embed(images()).detach(), whole(images()).detach())


def test_swap_keeps_the_parameters_and_estimates_new_statistics(
    checkpoint: Path, tmp_path: Path
) -> None:
    settings = {"backbone": section(checkpoint)}
    weights = tmp_path / "leaky_relu.safetensors"
    backbone("leaky_relu", None, weights, settings)

    first, second = (
        build_network(get("lqf"), weights, 5, images(), settings, seed) for seed in (0, 1)
    )

    before, after = load_file(weights), first.features.state_dict()
    kept = [n for n in before if "running" not in n and "tracked" not in n]
    assert all(torch.equal(after[name], before[name]) for name in kept)
    means = [name for name in before if name.endswith("running_mean")]
    assert not any(torch.allclose(after[name], before[name]) for name in means)
    again = second.features.state_dict()
    assert all(torch.equal(after[name], again[name]) for name in after), "the seed draws the head"
    slopes = {m.negative_slope for m in first.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.2}


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    settings = {"backbone": section(tmp_path / "other.pth")}

    with pytest.raises(ValueError, match=r"other.pth are not those of this network: .* lack"):
        backbone("relu", None, tmp_path / "relu.safetensors", settings)

    assert not (tmp_path / "relu.safetensors").exists()


@pytest.mark.parametrize(("activation", "said"), [("leaky_relu", 1), ("relu", 0)])
def test_log_names_the_activations_that_are_not_swapped(
    activation: str, said: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.pth"
    torch.save(models.mobilenet_v3_small(num_classes=3).state_dict(), path)
    chosen = {"backbone": {**section(path), "network": "mobilenet_v3_small"}}

    backbone(activation, None, tmp_path / "weights.safetensors", chosen)

    told = [one.message for one in caplog.records if one.levelname == "WARNING"]
    sentence = "leaky ReLU takes the place of ReLU alone: mobilenet_v3_small keeps 19 Hardswish"
    assert told == [sentence] * said
