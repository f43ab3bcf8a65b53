import copy
import logging

import pytest
import torch
from dense_networks import dense
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from small_models import C, make_data, make_model, make_network
from torch import nn
from torch.utils.data import TensorDataset

from lqf.estimator import LQF
from lqf.jacobian import Linearized
from lqf.optimum import large, optimum


def refit(images, labels, mu):
    """δ by a dense solve with the Jacobian of an independently prepared network."""
    network = make_model().fit(images, labels).network_
    linearized = Linearized(network)
    J = dense(linearized, images).flatten(0, 1)
    target = 15.0 * nn.functional.one_hot(labels, C) - linearized.outputs(images)
    A = J.T @ J + mu * torch.eye(J.shape[1], dtype=J.dtype)
    return torch.linalg.solve(A, J.T @ target.reshape(-1))


def close(found, expected, rtol=1e-8):
    atol = rtol * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def test_fit_is_the_ridge_optimum(kind):
    images, labels = make_data()
    model = make_model().fit((images, labels))
    close(model.delta_, refit(images, labels, 0.5))
    assert model.certificate_.solver == {"exact": "dense", "iterative": "conjugate gradients"}[kind]
    assert model.certificate_.met
    assert model.certificate_.residual < 1e-12
    assert model.certificate_.passes == model.certificate_.passes_of_fit > 0
    test, _ = make_data(6, seed=1)
    linearized = Linearized(model.network_)
    expected = linearized.outputs(test) + linearized.jvp(test, model.delta_)
    close(model.decision_function(test), expected)


def test_forget_equals_refit(kind):
    images, labels = make_data()
    model = make_model().fit(images, labels)
    before = model.delta_.clone()
    smaller = model.forget([1, 7, 4])
    keep = torch.tensor([i for i in range(14) if i not in (1, 4, 7)])
    close(smaller.delta_, refit(images[keep], labels[keep], 0.5))
    assert torch.equal(model.delta_, before)
    assert smaller.certificate_.met
    assert smaller.certificate_.passes_of_fit == model.certificate_.passes
    assert smaller.certificate_.passes <= model.certificate_.passes
    again = smaller.forget(torch.tensor([0]))
    close(again.delta_, refit(images[keep[1:]], labels[keep[1:]], 0.5))


def test_relabel_equals_refit(kind):
    images, labels = make_data()
    model = make_model().fit(images, labels)
    before = model.delta_.clone()
    right = labels.clone()
    right[[2, 9]] = (right[[2, 9]] + 1) % C

    again = model.relabel(right)

    close(again.delta_, refit(images, right, 0.5))
    assert again.certificate_.passes < model.certificate_.passes_of_fit or kind == "iterative"
    assert torch.equal(model.delta_, before)
    for wrong, told in ((right[1:], "one label an image"), (right * 0, "two classes are needed")):
        with pytest.raises(ValueError, match=told):
            model.relabel(wrong)


def test_extend_equals_refit(kind):
    images, labels = make_data()
    model = make_model().fit(images[:10], labels[:10])
    before = model.delta_.clone()
    larger = model.extend(images[10:], labels[10:])
    close(larger.delta_, refit(images, labels, 0.5))
    assert torch.equal(model.delta_, before)
    assert larger.certificate_.passes_of_fit == model.certificate_.passes
    back = larger.forget([10, 11, 12, 13])
    close(back.delta_, before)


def test_leave_one_out_and_influence_equal_retraining():
    images, labels = make_data()
    test, _ = make_data(5, seed=1)
    model = make_model().fit(images, labels)
    left_out, effects, scores = (
        model.leave_one_out(),
        model.influence(test),
        model.informativeness(test),
    )
    linearized = Linearized(model.network_)
    whole = model.decision_function(test)
    wrong = 0
    for i in range(14):
        keep = torch.tensor([j for j in range(14) if j != i])
        delta = refit(images[keep], labels[keep], 0.5)
        own = linearized.outputs(images[i : i + 1]) + linearized.jvp(images[i : i + 1], delta)
        close(left_out.outputs[i : i + 1], own)
        wrong += int(own.argmax() != labels[i])
        change = whole - linearized.outputs(test) - linearized.jvp(test, delta)
        torch.testing.assert_close(effects[:, i], change, rtol=1e-8, atol=1e-9)
        assert scores[i].item() == pytest.approx(change.square().sum(1).mean().item(), rel=1e-7)
    assert left_out.error == pytest.approx(100 * wrong / 14)
    assert left_out.exact
    close(model.informativeness((test, None)), scores)
    close(model.informativeness(TensorDataset(test, torch.full((5,), 99))), scores)


def test_the_shared_kernel_preconditions_the_solver(monkeypatch):
    images, labels = make_data(40)
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    options = {"ridge": 1e-2, "tolerance": 1e-6, "max_passes": 400}
    found = make_model(**options).fit(images, labels)
    monkeypatch.setattr(large, "_PRECONDITION_WORK", 0)
    plain = make_model(**options).fit(images, labels)
    assert found.certificate_.met
    assert plain.certificate_.met
    assert found.certificate_.passes < 0.7 * plain.certificate_.passes
    torch.testing.assert_close(found.delta_, plain.delta_, rtol=1e-2, atol=1e-4)


def test_near_copies_and_hardly_a_ridge_leave_the_preconditioner_positive(monkeypatch):
    images, labels = make_data(12)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(360, *images.shape[1:], generator=generator).to(images)
    many = (30 * images).repeat(30, 1, 1, 1) + 1e-4 * noise
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    model = LQF(make_network().float(), C, ridge=1e-14, device="cpu")
    model.fit(many.float(), labels.repeat(30))
    assert model.certificate_.residual < 1


def test_scores_of_large_problems_are_estimates_and_say_so(monkeypatch, caplog):
    images, labels = make_data(40)
    test, _ = make_data(5, seed=1)
    truth = make_model(ridge=5.0).fit(images, labels)
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    model = make_model(ridge=5.0).fit(images, labels)
    with caplog.at_level(logging.WARNING):
        left_out = model.leave_one_out()
    assert "estimated" in caplog.text
    assert not left_out.exact
    assert left_out.level[1] > 0

    def alike(found, expected):
        return torch.corrcoef(torch.stack([found.ravel(), expected.ravel()]))[0, 1]

    expected = truth.leave_one_out()
    assert (left_out.residuals - expected.residuals).norm() < 0.06 * expected.residuals.norm()
    assert abs(left_out.error - expected.error) <= 2.5
    pairs = [i // 2 for i in range(40)]
    together, expected = model.leave_one_out(pairs), truth.leave_one_out(pairs)
    assert (together.residuals - expected.residuals).norm() < 0.1 * expected.residuals.norm()
    assert alike(model.influence(test), truth.influence(test)) > 0.6
    direct = model.influence(test).square().sum(2).mean(0)
    close(model.informativeness(test), direct, rtol=1e-6)
    assert alike(direct, truth.informativeness(test)) > 0.5
    covariance, expected = model.predictive_covariance(test), truth.predictive_covariance(test)
    assert (covariance - expected).norm() < 0.15 * expected.norm()


def test_estimates_under_a_prior_that_drowns_the_kernel_are_exact(monkeypatch):
    images, labels = make_data(12)
    truth = make_model(ridge=1e20).fit(images, labels).leave_one_out()
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    found = make_model(ridge=1e20).fit(images, labels).leave_one_out()
    assert not found.exact
    close(found.residuals, truth.residuals, rtol=1e-6)


def test_the_prior_is_chosen_without_a_validation_set(kind):
    images, labels = make_data(30)
    model = make_model(ridge="loo", tolerance=1e-8).fit(images, labels)
    assert model.mu_ > 0
    assert len(model.choice_.table) == (4 + 3) * 29
    best = model.choice_.table[:, 3].min()
    chosen = (
        model.choice_.table[:, :3]
        == torch.tensor([model.epsilon_, model.head_scale_, model.mu_], dtype=torch.float64)
    ).all(1)
    assert float(model.choice_.table[chosen, 3]) <= 1.01 * best
    euclidean = make_model(ridge="loo", metric="euclidean").fit(images, labels)
    assert euclidean.epsilon_ == float("inf")
    assert len(euclidean.choice_.table) == 29
    close(euclidean.delta_, make_model(ridge=euclidean.mu_).fit(images, labels).delta_)


def test_the_curvature_metric_is_a_prior_that_forgetting_keeps_or_estimates_again():
    images, labels = make_data(20)
    test, _ = make_data(5, seed=1)
    model = make_model(ridge=0.5, metric="curvature").fit(images, labels)
    metric, linearized = model._optimum.metric, model._linearized
    J = dense(linearized, images).flatten(0, 1)
    K = J @ metric.solve(J).T + 0.5 * torch.eye(len(J), dtype=J.dtype)
    target = 15.0 * nn.functional.one_hot(labels, C) - linearized.outputs(images)
    close(model.delta_, metric.solve(J.T @ torch.linalg.solve(K, target.reshape(-1))))
    kept, without = model.forget(range(3)), model.forget(range(3), metric="without")
    again = make_model(ridge=0.5, metric="curvature").fit(images[3:], labels[3:])
    scale = again.epsilon_ / without.epsilon_  # the unit of ε is the mean curvature of all images
    assert scale == pytest.approx(1, rel=0.2)
    outputs = [m.decision_function(test) for m in (kept, without)]
    apart = (outputs[0] - outputs[1]).norm() / outputs[1].norm()
    assert 1e-6 < apart < 0.5  # what the metric remembers of three images of twenty
    with pytest.raises(ValueError, match="metric is 'gone'; it must be 'kept' or 'without'"):
        model.forget([1], metric="gone")


def test_labels_of_any_kind():
    images, labels = make_data(21)
    names = ["cat", "dog", "hen"]
    texts = make_model(ridge="loo").fit(images, [names[k] for k in labels])
    assert texts.classes_.tolist() == names
    assert set(texts.predict(images)) <= set(names)
    gaps = LQF(make_network(), ridge=0.5, device="cpu").fit(images, labels * 10)
    assert set(gaps.predict(images).tolist()) == {0, 10, 20}
    hard = make_model().fit(images, labels)
    soft = make_model().fit(images, nn.functional.one_hot(labels, C))
    assert soft._targets.kind == "soft labels"
    close(soft.delta_, hard.delta_)
    several = torch.stack([labels == 0, labels != 2], 1).double()
    many = LQF(make_network(), ridge=0.5, device="cpu").fit(images, several)
    assert many.predict(images).shape == (21, 2)
    assert many.score(images, several) > 0.6
    numbers = LQF(make_network(), ridge=0.5, device="cpu").fit(images, labels + 0.25)
    assert numbers.predict(images).shape == (21,)
    assert 0 < numbers.score(images, labels + 0.25) < 1
    with pytest.raises(ValueError, match="none of the classes cat, dog, hen"):
        texts.score(images[:1], ["cow"])
    with pytest.raises(ValueError, match="no probabilities"):
        numbers.predict_proba(images)


def test_weights_and_groups(kind):
    images, labels = make_data(12)
    weight = torch.ones(12, dtype=torch.float64)
    weight[3] = 2.0
    weighted = make_model().fit(images, labels, sample_weight=weight)
    order = [*range(12), 3]
    close(weighted.delta_, make_model().fit(images[order], labels[order]).delta_)
    weight[3] = 0.0
    keep = [i for i in range(12) if i != 3]
    without = make_model().fit(images, labels, sample_weight=weight)
    close(without.delta_, make_model().fit(images[keep], labels[keep]).delta_, rtol=1e-6)
    balanced = make_model(class_weight="balanced").fit(images[:10], labels[:10])
    counts = torch.bincount(labels[:10])
    by_hand = make_model().fit(
        images[:10], labels[:10], sample_weight=10 / (3 * counts[labels[:10]])
    )
    close(balanced.delta_, by_hand.delta_)
    groups = ["a", "b", "b", "c"] * 3
    grouped = make_model(ridge="loo").fit(images, labels, groups=groups)
    if kind == "exact":
        member = torch.tensor([g == "b" for g in groups])
        rest = make_model(ridge=grouped.mu_, metric="curvature")
        alone = grouped.forget(member)
        outputs = grouped.leave_one_out().outputs[member]
        close(outputs, alone.decision_function(images[member]))
        assert rest.ridge == grouped.mu_


def test_head_alone_and_last_stages():
    images, labels = make_data(30)
    head = make_model(trained="head", ridge="loo").fit(images, labels)
    assert head.epsilon_ == float("inf")
    assert sorted(head.named_delta()) == ["6.bias", "6.weight"]
    # All outputs share one kernel: that of the features with a constant.
    features = head.network_[:6](images)
    features = torch.cat([features, torch.ones(30, 1, dtype=features.dtype)], 1)
    assert head._optimum.ridge.gram.shape == (30, 30)
    close(head._optimum.ridge.gram, features @ features.T)
    own = make_model(trained="head", ridge=head.mu_).fit(images, labels)
    close(own.predictive_covariance(images[:2]), head.predictive_covariance(images[:2]))
    last = make_model(trained=2).fit(images, labels)
    assert sorted(last.named_delta()) == ["3.bias", "3.weight", "6.bias", "6.weight"]
    with pytest.raises(ValueError, match="so 1 to 4 of them can be trained"):
        make_model(trained=9).fit(images, labels)


def test_copies_of_an_image_are_told(caplog):
    images, labels = make_data(12)
    images, labels = torch.cat([images, images[:3]]), torch.cat([labels, labels[:3]])
    with caplog.at_level(logging.WARNING):
        make_model(ridge="loo").fit(images, labels)
    assert "6 of 15 training images are copies of each other" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        make_model(ridge="loo").fit(images, labels, groups=[*range(12), 0, 1, 2])
    assert "copies" not in caplog.text


def test_four_threads_get_the_same_answers():
    from concurrent.futures import ThreadPoolExecutor

    images, labels = make_data(14)
    model = make_model().fit(images, labels)
    expected = model.decision_function(images)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model.decision_function(images), range(12)))
    assert all(torch.equal(each, expected) for each in found)


def test_the_fitted_model_as_a_plain_module():
    images, labels = make_data()
    model = make_model().fit(images, labels)
    module = model.to_module()
    assert torch.equal(module(images), model.decision_function(images))
    assert not [p for p in module.parameters() if p.grad is not None]


def test_habits_of_scikit_learn():
    images, labels = make_data()
    model = make_model()
    assert model.fit(TensorDataset(images, labels)) is model
    test, truth = make_data(9, seed=1)
    outputs = model.decision_function(test)
    assert torch.equal(model.predict(test), outputs.argmax(1))
    proba = model.predict_proba(test)
    torch.testing.assert_close(proba.sum(1), torch.ones(9, dtype=proba.dtype))
    right = (outputs.argmax(1) == truth).double().mean().item()
    assert model.score(test, truth) == model.score((test, truth)) == pytest.approx(right)
    torch.testing.assert_close(model.decision_function(test.numpy()), outputs)
    other = clone(model)
    assert other.get_params()["ridge"] == 0.5
    with pytest.raises(NotFittedError, match="call fit first"):
        other.predict(test)
    torch.testing.assert_close(other.fit(images, labels).delta_, model.delta_)


def test_network_is_untouched_in_train_mode_and_fit_is_deterministic(kind):
    images, labels = make_data()
    network = make_network().train()
    state = copy.deepcopy(network.state_dict())
    options = {"ridge": 0.5, "device": "cpu", "seed": 3, "tolerance": 1e-6}
    first = LQF(network, C, **options).fit(images, labels)
    again = LQF(network, C, **options).fit(images, labels)
    assert torch.equal(first.delta_, again.delta_)
    assert network.training
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert not network[0]._forward_hooks
    assert network[-1].out_features == 7
    assert isinstance(network[2], nn.ReLU)
    assert isinstance(first.network_[2], nn.LeakyReLU)
    other = LQF(network, C, **{**options, "seed": 4}).fit(images, labels)
    assert not torch.equal(other.network_[-1].weight, first.network_[-1].weight)


def test_keep_leaves_the_network_exactly_as_it_is():
    images, labels = make_data()
    network = make_network()
    network[-1] = nn.Linear(20, C, dtype=torch.float64)
    model = LQF(network, C, head="keep", activation=None, ridge=1e12, device="cpu")
    model.fit(images, labels)
    torch.testing.assert_close(model.decision_function(images), network.eval()(images))
    assert isinstance(model.network_[2], nn.ReLU)


def test_frozen_parameters_stay():
    images, labels = make_data()
    network = make_network()
    network[0].requires_grad_(False)
    model = LQF(network, C, ridge=0.5, device="cpu").fit(images, labels)
    assert len(model.delta_) == sum(p.numel() for p in model.network_[1:].parameters())


def test_one_by_one_convolution_is_a_head():
    images, labels = make_data()
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 9, 1)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    model = LQF(network, C, device="cpu").fit(images, labels)
    assert model.decision_function(images).shape == (14, C)


def test_save_and_load(kind, tmp_path):
    images, labels = make_data()
    test, _ = make_data(5, seed=1)
    model = make_model().fit(images, labels)
    model.save(tmp_path / "model.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    torch.manual_seed(7)
    other = nn.Sequential(*list(make_network()))
    nn.init.normal_(other[0].weight)
    loaded = LQF.load(tmp_path / "model.safetensors", other, device="cpu")
    assert torch.equal(loaded.decision_function(test), model.decision_function(test))
    assert loaded.mu_ == model.mu_
    assert loaded.certificate_ == model.certificate_
    torch.testing.assert_close(loaded.leave_one_out().outputs, model.leave_one_out().outputs)
    torch.testing.assert_close(loaded.informativeness(test), model.informativeness(test))
    close(loaded.forget([2]).delta_, model.forget([2]).delta_)
    close(loaded.extend(test, labels[:5]).delta_, model.extend(test, labels[:5]).delta_)


def test_save_without_the_training_set(tmp_path):
    images, labels = make_data()
    model = make_model().fit(images, labels)
    model.save(tmp_path / "small", training_set=False)
    loaded = LQF.load(tmp_path / "small", make_network(), device="cpu")
    assert torch.equal(loaded.predict(images), model.predict(images))
    with pytest.raises(ValueError, match="saved without its training set"):
        loaded.leave_one_out()


def test_load_refuses_what_it_cannot_restore(tmp_path):
    images, labels = make_data()
    make_model().fit(images, labels).save(tmp_path / "model")
    with pytest.raises(ValueError, match="give a module of the same architecture"):
        LQF.load(tmp_path / "model")
    network = make_network()
    network[0] = nn.Conv2d(3, 6, 3).double()
    with pytest.raises(ValueError, match="not the one saved"):
        LQF.load(tmp_path / "model", network)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="is no saved LQF"):
        LQF.load(tmp_path / "other")


def test_bad_requests_are_refused(kind):
    images, labels = make_data()
    model = make_model().fit(images, labels)
    with pytest.raises(ValueError, match="contains 14; the 14 samples"):
        model.forget([14])
    with pytest.raises(ValueError, match="only class 0"):
        model.forget([i for i in range(14) if i % C])
    with pytest.raises(ValueError, match="labels contains 3, which is none of the classes 0, 1, 2"):
        model.extend(images, labels + 1)
    with pytest.raises(ValueError, match="resize them to the same shape"):
        model.extend(images[:, :2], labels)
    with pytest.raises(ValueError, match="cannot take images"):
        model.predict(images[:, :2])
    with pytest.raises(ValueError, match="it must be N"):
        model.influence(images[0])


def test_covariance_pooling_on_a_residual_network():
    from lqf.networks import CovariancePooling, build

    images, labels = make_data(dtype=torch.float32)
    network = build("demo_resnet", 10, activation="relu")
    model = LQF(network, C, pooling="covariance", device="cpu", ridge=1.0).fit(images, labels)
    assert isinstance(model.network_.pool, CovariancePooling)
    assert model.certificate_.met
    assert model.leave_one_out().outputs.shape == (14, C)


def test_probabilities_are_calibrated_without_a_validation_set(kind):
    g = torch.Generator().manual_seed(3)
    labels = torch.arange(90) % C
    images = torch.randn(90, 3, 8, 8, generator=g, dtype=torch.float64)
    images[torch.arange(90), labels] += 0.3
    model = make_model(tolerance=1e-6).fit(images[:60], labels[:60])
    test, truth = images[60:], labels[60:]

    def surprise(probabilities):
        return -probabilities[torch.arange(30), truth].log().mean()

    outputs = model.decision_function(test)
    found = model.predict_proba(test)
    assert surprise(found) < surprise(outputs.softmax(1))
    torch.testing.assert_close(found, (outputs / model.temperature_).softmax(1))
    assert torch.equal(found.argmax(1), model.predict(test))


def test_predictive_covariance_equals_the_dense_one(kind):
    images, labels = make_data()
    test, _ = make_data(5, seed=1)
    model = make_model().fit(images, labels)
    found = model.predictive_covariance(test)
    linearized = Linearized(model.network_)
    J = dense(linearized, images).flatten(0, 1)
    A = J.T @ J + 0.5 * torch.eye(J.shape[1], dtype=J.dtype)
    rows = dense(linearized, test)
    expected = rows @ torch.linalg.solve(A, rows.mT)
    assert found.shape == (5, C, C)
    if model.exact_:
        close(found, expected)
    else:
        pair = torch.stack([found.diagonal(0, 1, 2).ravel(), expected.diagonal(0, 1, 2).ravel()])
        assert torch.corrcoef(pair)[0, 1] > 0.9
    assert torch.linalg.eigvalsh(found).min() >= 0
    # The more is known, the less uncertain: seen images are less uncertain than new ones.
    seen = model.predictive_covariance(images)
    assert seen.diagonal(0, 1, 2).mean() < found.diagonal(0, 1, 2).mean()


def test_folds_of_a_classifier_are_stratified_so_that_sorted_labels_do_no_harm():
    images, labels = make_data(n=18)
    order = labels.argsort(stable=True)
    model = make_model(tolerance=1e-3)
    shuffled = cross_val_score(model, images.numpy(), labels.numpy(), cv=3)
    in_order = cross_val_score(model, images[order].numpy(), labels[order].numpy(), cv=3)
    assert shuffled.mean() == pytest.approx(in_order.mean(), abs=0.17)
    assert is_classifier(model)
