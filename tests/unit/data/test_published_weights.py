import pytest

from lqf.data.published_reader import read
from lqf.data.published_weights import find


def test_weights_of_the_catalogue_go_first() -> None:
    found = find(read(), "resnet50.imagenet1k_v1")

    assert found.file.bytes == 102_530_333
    assert found.file.sha256 is not None
    assert len(found.file.sha256) == 64


def test_torchvision_knows_the_others() -> None:
    found = find(read(), "resnet18.imagenet1k_v1")

    assert found.file.name == "resnet18-f37072fd.pth"
    assert found.file.digest == ("sha256", "f37072fd")
    assert found.file.urls == ("https://download.pytorch.org/models/resnet18-f37072fd.pth",)


def test_catalogue_agrees_with_torchvision() -> None:
    from torchvision.models import get_model_weights

    for one in get_model_weights("resnet50"):
        file = read().weights[f"resnet50.{one.name.lower()}"].file
        assert file.urls == (one.url,)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet18.imagenet1k_v2", "those of 'resnet18' are resnet18.imagenet1k_v1"),
        ("resnet51.imagenet1k_v1", "unknown network 'resnet51'. Did you mean 'resnet50'"),
        ("demo_resnet.imagenet1k_v1", "those of 'demo_resnet' are none"),
    ],
)
def test_unknown_weights_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        find(read(), name)
