import math

import pytest
import torch
from safetensors.torch import save_file
from tiny_networks import NormNetwork, conv_network, images, seeded

from lqf.curvature import KroneckerFactors, Preconditioner, Provenance, kronecker_factors
from lqf.linear import Layout


def test_saved_factors_come_back_bit_for_bit(tmp_path):
    network, x = seeded(NormNetwork()), images()
    factors = kronecker_factors(network, x)
    names = [name for name, _ in network.named_parameters()]
    layout = Layout.of(network.named_parameters())
    vector = torch.randn(layout.size, dtype=torch.float64)
    expected = Preconditioner(factors, layout, 0.1).apply(vector)
    factors.save(tmp_path / "factors.safetensors")
    found = KroneckerFactors.load(
        tmp_path / "factors.safetensors", Provenance.of(network, x, names)
    )
    assert torch.equal(Preconditioner(found, layout, 0.1).apply(vector), expected)
    assert found.samples == len(x)
    assert found._bases.keys() == factors._bases.keys()
    assert [file.name for file in tmp_path.iterdir()] == ["factors.safetensors"]


def other_weights(network, x, settings):
    network[0].weight.data[0, 0, 0, 0] += 1e-9
    return network, x, settings


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_weights, "weights"),
        (lambda n, x, s: (n, x.flip(0), s), "images"),
        (lambda n, x, s: (n, x[:-1], s), "images|samples"),
        (lambda n, x, s: (n, x, {**s, "names": s["names"][1:]}), "names"),
        (lambda n, x, s: (n, x, {**s, "seed": 4}), "seed"),
        (lambda n, x, s: (n, x, {**s, "probes": "all", "seed": 3}), "probes"),
        (lambda n, x, s: (n, x, {**s, "approximation": "reduce"}), "approximation"),
    ],
)
def test_factors_made_from_something_else_are_refused(tmp_path, change, named):
    network, x = conv_network(), images()
    settings = {"names": [name for name, _ in network.named_parameters()], "probes": 2, "seed": 3}
    path = tmp_path / "factors.safetensors"
    kronecker_factors(network, x, **settings).save(path)
    KroneckerFactors.load(path, Provenance.of(network, x, **settings))
    network, x, settings = change(network, x, settings)
    with pytest.raises(ValueError, match=rf"made with ({named}) ="):
        KroneckerFactors.load(path, Provenance.of(network, x, **settings))


def test_another_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    made = Provenance.of(conv_network(), images(), ["0.weight"])
    with pytest.raises(ValueError, match="holds no Kronecker factors"):
        KroneckerFactors.load(tmp_path / "weights.safetensors", made)


def test_a_seed_that_draws_nothing_does_not_tell_factors_apart():
    network, x = conv_network(), images()
    assert Provenance.of(network, x, ["0.weight"], seed=1) == Provenance.of(
        network, x, ["0.weight"]
    )


def test_eigenvalues_are_never_negative_and_a_nan_is_named():
    network, x = conv_network(), images()
    factors = kronecker_factors(network, x)
    block = factors.blocks["5"]
    block.A.sub_(1e-3 * torch.eye(block.A.shape[-1]))
    assert float(factors.basis("5").a.min()) == 0.0
    factors.blocks["0"].A[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="layer '0'"):
        factors.basis("0")


def test_a_failed_save_leaves_nothing_behind(tmp_path):
    factors = kronecker_factors(conv_network(), images())
    factors.diagonal["extra"] = "no tensor"
    with pytest.raises(AttributeError):
        factors.save(tmp_path / "factors.safetensors")
    assert list(tmp_path.iterdir()) == []
