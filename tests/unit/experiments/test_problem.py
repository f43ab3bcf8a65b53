from dataclasses import replace

import pytest
import torch
from worlds import network, task

from lqf.compute import Compute
from lqf.experiments import problem as problems
from lqf.experiments.fit import Fit
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear_problem import NonlinearProblem
from lqf.experiments.problem import LinearProblem, make_problem
from lqf.linear import DenseJacobian, NetworkJacobian, RowSpace
from lqf.method import METHODS, Method
from lqf.solve import Diverged

SGD = Point(1e-3, 0.003, batch=4, epochs=3, momentum=0.9, milestones=(0.5,), decay=0.1)
KFAC = replace(SGD, rate=0.3, relative=True, damping=1e-2)
EXACT = Point(1e-2, tolerance=1e-10, max_passes=400, damping=1e-2)


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


def test_exact_optimum_by_decomposition_and_by_conjugate_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    direct = make("lqf_exact").fit(EXACT, seed=0)
    iterated = implicit("lqf_exact", monkeypatch).fit(EXACT, seed=0)

    assert direct.residual is not None
    assert direct.residual < 1e-10
    assert iterated.residual is not None
    assert iterated.residual < 1e-10
    torch.testing.assert_close(direct.delta, iterated.delta, rtol=1e-5, atol=1e-7)


def test_the_optimum_is_right_on_other_images_though_mu_is_small(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    point = replace(EXACT, weight_decay=1e-7, damping=1e-7, tolerance=1e-3)
    direct, passes = make("lqf_exact"), implicit("lqf_exact", monkeypatch)
    unseen = task().test
    expected = direct.fit(point, seed=0).outputs(unseen) - direct.jacobian_of(unseen).base

    def off(fit: Fit) -> float:
        moved = fit.outputs(unseen) - direct.jacobian_of(unseen).base
        return ((moved - expected).norm() / expected.norm()).item()

    assert off(passes.fit(point, seed=0)) < 0.01
    assert not caplog.records
    # With Kronecker factors alone the residual is met, and the outputs are not those.
    monkeypatch.setenv("LQF_MEMORY", "1e-6")
    passes._forget_derived()
    alone = passes.fit(point, seed=0)
    assert alone.residual is not None
    assert alone.residual <= 1e-3
    assert off(alone) > 0.05
    assert "rows of J in 256 coordinates" in caplog.text


def test_curvature_in_double_precision_preconditions_a_problem_in_single() -> None:
    train = task().train
    single = replace(task(), train=replace(train, images=train.images.float()))
    made = [
        LinearProblem(METHODS["lqf"], network().float(), single, 15.0, True, compute)
        for compute in (Compute(curvature="fp32"), Compute(curvature="fp64"))
    ]

    (fine, fine_correction), (coarse, _) = made[1].factors(1e-2), made[0].factors(1e-2)

    for layer, block in fine.blocks.items():
        assert block.B.dtype == fine_correction[layer].dtype == torch.float64
        torch.testing.assert_close(block.B.float(), coarse.blocks[layer].B)
    ones = torch.ones(made[0].layout.size)
    first, second = (problem.preconditioner(1e-2).apply(ones) for problem in made)
    assert second.dtype == torch.float32
    torch.testing.assert_close(second, first, rtol=1e-2, atol=1e-3)


def test_head_in_closed_form_is_the_end_of_its_sgd() -> None:
    closed = Method("head", "mse", "leaky_relu", "closed_form")
    direct = make_problem(closed, network(), task(), 15.0, fold=True).fit(Point(1e-2), seed=0)

    steps = replace(KFAC, weight_decay=1e-2, batch=12, epochs=300, milestones=(), damping=1e-2)
    descended = make("lqf_fc").fit(steps, seed=0)

    torch.testing.assert_close(descended.delta, direct.delta, rtol=1e-5, atol=1e-7)


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
