from dataclasses import replace

import pytest
import torch
from worlds import network, task

from lqf.compute import Compute
from lqf.experiments import problem as problems
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.problem import LinearProblem, make_problem
from lqf.jacobian import DenseJacobian, NetworkJacobian, RowSpace
from lqf.losses import error_rate
from lqf.method import METHODS
from lqf.optimum import optimum
from lqf.ridge import Diverged

SGD = Point(1e-3, 0.003, batch=4, epochs=3, momentum=0.9, milestones=(0.5,), decay=0.1)
KFAC = replace(SGD, rate=0.3, relative=True, damping=1e-2)
EXACT = Point(0.0, tolerance=1e-9, max_passes=400)


def make(name: str) -> LinearProblem:
    made = make_problem(METHODS[name], network(), task(), 15.0, fold=True)
    assert isinstance(made, LinearProblem)
    return made


def implicit(name: str, monkeypatch: pytest.MonkeyPatch) -> LinearProblem:
    """The same problem where nothing fits in memory."""
    monkeypatch.setattr(problems, "DENSE_BYTES", 0)
    return make(name)


def test_sgd_in_the_row_space_is_sgd_in_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, passes = make("lqf_no_kfac"), implicit("lqf_no_kfac", monkeypatch)
    assert isinstance(dense.jacobian, DenseJacobian)
    assert isinstance(passes.jacobian, NetworkJacobian)

    first, second = dense.fit(SGD, seed=0), passes.fit(SGD, seed=0)

    torch.testing.assert_close(first.delta, second.delta, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(first.outputs(dense.train), second.outputs(passes.train))


def test_row_space_of_dependent_rows_lifts_to_the_same_outputs() -> None:
    jacobian = make("lqf").jacobian
    assert isinstance(jacobian, DenseJacobian)
    twice = torch.arange(12).repeat(2)
    doubled = DenseJacobian(jacobian.matrix[twice], jacobian.base[twice])

    rows = RowSpace(doubled)

    point = torch.randn(rows.jacobian.size, generator=torch.Generator().manual_seed(0)).double()
    assert rows.jacobian.size <= 12 * 3
    torch.testing.assert_close(doubled.forward(rows.lift(point)), rows.jacobian.forward(point))


def test_kfac_sgd_does_not_depend_on_how_the_jacobian_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dense, passes = make("lqf"), implicit("lqf", monkeypatch)

    first, second = dense.fit(KFAC, seed=1), passes.fit(KFAC, seed=1)

    assert dense.rate(KFAC) == pytest.approx(passes.rate(KFAC), rel=1e-9)
    torch.testing.assert_close(first.delta, second.delta, rtol=1e-6, atol=1e-9)


def test_sgd_tells_how_far_it_is_from_the_optimum_and_what_leaves_the_row_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = replace(SGD, relative=True, rate=1.0, batch=12, momentum=0.9, decay=1.0)
    plain = make("lqf_no_kfac")
    short, long = (plain.fit(replace(whole, epochs=n, weight_decay=1.0), 0) for n in (2, 300))
    kfac = make("lqf").fit(KFAC, seed=1)
    passes = implicit("lqf", monkeypatch).fit(KFAC, seed=1)

    assert long.residual < 1e-6 < short.residual < 1
    assert plain.fit(SGD, 0).chosen["row_space"] == pytest.approx(1.0)
    assert 0.01 < kfac.chosen["row_space"] < 0.99
    assert passes.chosen["row_space"] is None
    assert passes.residual == pytest.approx(kfac.residual, rel=1e-6)


@pytest.mark.parametrize("name", ["lqf_exact", "lqf_euclidean", "ridge_head"])
def test_exact_methods_choose_their_constants_and_tell_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = make_problem(METHODS[name], network(), task(), 15.0, fold=True)
    assert isinstance(direct, ExactProblem)
    fit = direct.fit(EXACT, seed=0)
    assert fit.residual is not None
    assert fit.residual < 1e-9
    chosen = dict(fit.chosen or {})
    assert chosen["weight_decay"] == chosen["mu"] / 12
    assert (chosen["epsilon"] == float("inf")) == (name != "lqf_exact")
    assert error_rate(fit.outputs(task().test), task().test.labels) < 20
    everything, whole = torch.arange(12), direct.optimum(EXACT, 0)
    without = [whole.forget(everything[everything != i], everything[i : i + 1]) for i in everything]
    left_out = [
        direct.outputs(one, direct.train.select(everything[i : i + 1]))
        for i, one in enumerate(without)
    ]
    assert chosen["loo_err"] == error_rate(torch.cat(left_out), direct.train.labels)
    first = direct.first(6).fit(EXACT, seed=0)
    alone = make_problem(METHODS[name], network(), task(6), 15.0, fold=True).fit(EXACT, seed=0)
    torch.testing.assert_close(first.delta, alone.delta)
    monkeypatch.setattr(optimum, "MAX_ROWS", 0)
    iterated = direct.fit(EXACT, seed=0)
    assert iterated.residual is not None
    assert iterated.residual < 1e-9


def test_curvature_in_double_precision_preconditions_a_problem_in_single() -> None:
    train = task().train
    single = replace(task(), train=replace(train, images=train.images.float()))
    made = [
        LinearProblem(METHODS["lqf"], network().float(), single, 15.0, True, compute)
        for compute in (Compute(curvature="fp32"), Compute(curvature="fp64"))
    ]

    ones = torch.ones(made[0].layout.size)
    first, second = (problem.preconditioner(100.0).solve(ones) for problem in made)
    assert first.dtype == second.dtype == torch.float32
    torch.testing.assert_close(second, first, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["lqf", "lqf_fc"])
def test_first_samples_make_the_problem_of_those_samples(name: str) -> None:
    part = make(name).first(6)
    alone = make_problem(METHODS[name], network(), task(6), 15.0, fold=True)
    part.forget_curvature()

    first, second = part.fit(KFAC, seed=0), alone.fit(KFAC, seed=0)

    torch.testing.assert_close(first.delta, second.delta, rtol=1e-6, atol=1e-9)


def test_a_rate_that_is_too_large_is_a_divergence_with_its_numbers() -> None:
    with pytest.raises(Diverged) as stopped:
        make("lqf_no_kfac").fit(replace(SGD, rate=100.0, epochs=40), seed=0)

    assert stopped.value.rate is not None
    assert stopped.value.epoch >= 1
    assert "learning rate" in str(stopped.value)


def test_nonlinear_fits_start_from_the_same_weights() -> None:
    problem = make_problem(METHODS["nlft"], network(), task(), 15.0, fold=True)
    assert isinstance(problem, NonlinearProblem)
    before = {name: p.clone() for name, p in problem.network.state_dict().items()}
    point = replace(SGD, rate=0.05, batch_norm="train")

    first, second = problem.fit(point, seed=0), problem.fit(point, seed=0)

    after = problem.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    everything = task().test
    assert torch.equal(first.outputs(everything), second.outputs(everything))
    assert first.train_loss < problem.fit(replace(point, epochs=1), seed=0).train_loss


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    problem = make_problem(METHODS["nlft"], network(), task(), 15.0, fold=True)

    frozen = problem.fit(replace(SGD, batch_norm="frozen"), seed=0).network
    trained = problem.fit(replace(SGD, batch_norm="train"), seed=0).network

    assert frozen is not None
    assert trained is not None
    start = dict(network().named_buffers())
    moved = {n for n, b in trained.named_buffers() if not torch.equal(b, start[n])}
    assert moved
    assert all(torch.equal(b, start[n]) for n, b in frozen.named_buffers())
