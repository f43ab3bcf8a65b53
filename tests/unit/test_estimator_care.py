"""What a user may have set, and may interrupt, changes neither the answer nor the user's things."""

import copy

import pytest
import torch
from small_models import C, make_data, make_network
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from lqf.estimator import LQF
from lqf.fitted import inputs
from lqf.jacobian import Linearized
from lqf.optimum import optimum


def trained_network():
    network = make_network()
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2.0)
    return network


def fit(network, data=None, **options):
    given = {"ridge": 0.5, "device": "cpu", "tolerance": 1e-10, "max_passes": 300}
    options = {"fold_batch_norm": True, **given, **options}
    return LQF(network, C, **options).fit(make_data() if data is None else data)


def test_modes_of_the_caller_change_nothing(kind):
    expected = fit(trained_network()).delta_
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with mode:
            images, labels = make_data()
            model = fit(trained_network(), (images, labels))
            outputs = model.decision_function(images)
            model.leave_one_out()
            model.forget([0])
        torch.testing.assert_close(model.delta_, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(outputs, model.decision_function(images), rtol=0, atol=0)


def test_global_random_numbers_are_not_drawn(kind):
    torch.manual_seed(5)
    network = make_network()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = fit(network, ridge="loo")
    first.predict_proba(make_data()[0])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(fit(network, ridge="loo").delta_, first.delta_)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_fit_leaves_everything_as_it_was(kind, error, monkeypatch):
    network = trained_network().train()
    network[3].weight.requires_grad_(False)
    network[1].eval()
    calls = []
    network[3].register_forward_hook(lambda *_: calls.append(1))
    state = copy.deepcopy(network.state_dict())
    flags = [(m.training, len(m._forward_hooks)) for m in network.modules()]
    needs = [p.requires_grad for p in network.parameters()]
    model = fit(network)
    delta = model.delta_.clone()
    original, left = Linearized._call, [2]

    def failing(self, *arguments):
        left[0] -= 1
        if left[0] <= 0:
            raise error
        return original(self, *arguments)

    monkeypatch.setattr(Linearized, "_call", failing)
    with pytest.raises((error, ValueError)):
        model.fit(*make_data(20))
    monkeypatch.undo()
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert flags == [(m.training, len(m._forward_hooks)) for m in network.modules()]
    assert needs == [p.requires_grad for p in network.parameters()]
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(model.delta_, delta)
    assert model.decision_function(make_data()[0]).shape == (14, C)


def test_half_precision_images_are_taken_and_integers_refused():
    network = trained_network().float()
    images, labels = make_data(dtype=torch.float32)
    expected = fit(network, (images, labels)).decision_function(images)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        model = fit(network, (images.to(dtype), labels))
        found = model.decision_function(images.to(dtype))
        assert found.dtype is torch.float32
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.2)
    found = fit(network, (images.numpy(), labels.numpy())).decision_function(images.numpy())
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"images are torch\.uint8; floating point is needed"):
        fit(network, (images.to(torch.uint8), labels))


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm2d(4, track_running_stats=False), nn.Dropout2d(0.5)],
    ids=["statistics of the batch", "randomness"],
)
def test_outputs_that_depend_on_more_than_the_image_are_refused(layer):
    if isinstance(layer, nn.Dropout2d):
        layer.eval = layer.train = lambda *_: layer  # dropout that stays
    network = make_network()
    network[1] = layer.double()
    if isinstance(layer, nn.Dropout2d):
        network[1].forward = lambda x: nn.functional.dropout2d(x, 0.5, True)
    with pytest.raises(ValueError, match="other outputs alone than beside another one"):
        fit(network)


def test_folding_keeps_the_function_and_changes_the_coordinates():
    images, _ = make_data()
    kept, folded = (fit(trained_network(), fold_batch_norm=fold) for fold in (False, True))
    assert isinstance(kept.network_[1], nn.BatchNorm2d)
    assert isinstance(folded.network_[1], nn.Identity)
    torch.testing.assert_close(kept.network_(images), folded.network_(images))
    # ‖w − w0‖² is measured in other coordinates, so the optima differ.
    assert not torch.allclose(kept.decision_function(images), folded.decision_function(images))
    # The curvature metric hardly depends on coordinates, so it folds; the Euclidean one does not.
    by_default = {"fold_batch_norm": None}
    assert isinstance(
        fit(trained_network(), metric="curvature", **by_default).network_[1], nn.Identity
    )
    assert isinstance(fit(trained_network(), **by_default).network_[1], nn.BatchNorm2d)
    own = trained_network()
    own[-1] = nn.Linear(20, C).double()
    as_it_is = fit(own, head="keep", activation=None, metric="curvature", **by_default)
    assert as_it_is.network_.state_dict().keys() == own.state_dict().keys()


def test_a_network_that_cannot_be_traced_is_not_folded():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = trained_network()

        def forward(self, x):
            return self.body(x) if x.sum() < 1e9 else self.body(-x)

    model = fit(Branching(), fold_batch_norm=None, metric="curvature")
    assert isinstance(model.network_.body[1], nn.BatchNorm2d)
    with pytest.raises(ValueError, match=r"cannot trace Branching to fold .* use fold_batch_norm"):
        fit(Branching(), fold_batch_norm=True)


def test_frozen_and_folded_parameters_are_restored(kind, tmp_path):
    network = trained_network()
    for layer in network[:2]:
        layer.requires_grad_(False)
    model = fit(network, ridge="loo")
    model.predict_proba(make_data()[0])
    model.save(tmp_path / "model")
    loaded = LQF.load(tmp_path / "model", make_network(), device="cpu")
    images, _ = make_data(5)
    assert torch.equal(loaded.predict_proba(images), model.predict_proba(images))
    assert loaded.temperature_ == model.temperature_
    assert loaded.choice_.mu == model.mu_
    assert torch.equal(loaded.choice_.table, model.choice_.table)
    assert loaded.exact_ == model.exact_
    assert not loaded.network_[0].weight.requires_grad
    torch.testing.assert_close(
        loaded.predictive_covariance(images), model.predictive_covariance(images)
    )
    (tmp_path / "damaged").write_bytes((tmp_path / "model").read_bytes()[:100])
    with pytest.raises(ValueError, match="is no safetensors file, or damaged"):
        LQF.load(tmp_path / "damaged")


def test_the_certificate_says_what_forgetting_cost(kind, monkeypatch):
    model = fit(trained_network(), tolerance=1e-6)
    assert "from scratch" not in str(model.certificate_)
    certificate = model.forget([2]).certificate_
    assert certificate.seconds_of_fit == model.certificate_.seconds
    assert f"the fit from scratch took {model.certificate_.passes:.3g} passes" in str(certificate)
    hasty = LQF(trained_network(), C, ridge=1e-3, device="cpu", tolerance=1e-9, max_passes=4)
    if kind == "iterative":
        assert "NOT within" in str(hasty.fit(make_data()).certificate_)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def test_a_large_data_set_is_mapped_from_a_file(monkeypatch):
    images, labels = make_data()
    items = Items(list(zip(images, labels, strict=True)))
    expected = fit(trained_network(), items).delta_
    monkeypatch.setattr(inputs, "IN_MEMORY", 0)
    assert torch.equal(fit(trained_network(), items).delta_, expected)
    assert torch.equal(inputs.read_samples(items)[0], images)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(3, 8, 8), "item 1 of the data set is a Tensor; a pair"),
        ((torch.zeros(3, 8, 8, dtype=torch.uint8), 1), "images are torch.uint8"),
        ((torch.zeros(3, 9, 8), 1), r"image 1 has shape \(3, 9, 8\)"),
    ],
)
def test_items_that_are_no_samples_are_refused(item, message):
    with pytest.raises(ValueError, match=message):
        fit(trained_network(), Items([(torch.zeros(3, 8, 8), 0), item]))


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="cannot be used here"):
        fit(trained_network(), device="cuda:77")


def narrow_network():
    network = make_network()
    network[6] = nn.Linear(20, C).double()
    return network


def test_a_network_that_was_pruned_and_not_run_since_is_copied():
    network = narrow_network()
    prune.ln_structured(network[3], "weight", 0.5, 2, 0)
    model = fit(network, head="keep", fold_batch_norm=False)
    lines = model.network_[3].weight.abs().sum((1, 2, 3)) == 0
    assert lines.sum() == 2
    assert torch.equal(model.network_[3].weight_mask, network[3].weight_mask)


def test_a_head_that_is_trained_in_part_has_a_prior_in_part(kind, monkeypatch):
    monkeypatch.setattr(optimum, "HEADS", (4.0,))
    network = narrow_network()
    last = [name for name, _ in network.named_parameters()][-2:]
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name != last[0])
    model = fit(network, head="keep", ridge="loo")
    assert last[0] not in model.named_delta()
    assert last[1] in model.named_delta()
    assert model.head_scale_ == 4


class Recomputed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = narrow_network()

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


def test_recomputation_of_activations_is_refused_where_it_cannot_be_followed(monkeypatch):
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    with pytest.raises(ValueError, match=r"under torch\.utils\.checkpoint"):
        fit(Recomputed(), head="keep", fold_batch_norm=False)
