import pytest

from lqf.backbones import CENTRED, IMAGENET, Normalisation, normalisation


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ({"network": "demo_resnet"}, CENTRED),
        ({"network": "resnet50"}, IMAGENET),
        ({"network": "resnet50", "normalisation": None}, IMAGENET),
        (
            {"network": "resnet50", "normalisation": {"mean": [0, 0.5, 1], "deviation": [1, 2, 3]}},
            Normalisation((0, 0.5, 1), (1, 2, 3)),
        ),
    ],
)
def test_normalisation_belongs_to_the_network_unless_it_is_given(
    backbone: dict[str, object], expected: Normalisation
) -> None:
    assert normalisation(backbone) == expected


def test_normalisation_is_torchvisions() -> None:
    from torchvision import models

    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            if weights.name.startswith("IMAGENET1K_FEATURES"):
                continue  # weights without a classifier
            transform = weights.transforms()
            known = normalisation({"network": name})
            assert (tuple(transform.mean), tuple(transform.std)) == (known.mean, known.deviation)
