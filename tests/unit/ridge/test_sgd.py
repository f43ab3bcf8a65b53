import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_problems import Matrix, make_problem, positive_definite

from lqf.losses import CrossEntropy
from lqf.ridge import Diverged, solve_sgd, stable_rate


def run(problem, loss=None, **changes):
    arguments = {"weight_decay": 0.1, "rate": 0.01, "epochs": 3, "batch": 4, **changes}
    return solve_sgd(problem.jacobian, loss or problem.loss, problem.labels, **arguments)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_the_iterates_are_those_of_torch(loss):
    problem = make_problem()
    loss = problem.loss if loss == "squared" else CrossEntropy()
    solution = run(problem, loss, epochs=4, milestones=(0.5,), seed=3)
    delta = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([delta], lr=0.01, momentum=0.9, weight_decay=0.1)
    generator = torch.Generator().manual_seed(3)
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.01 if epoch < 2 else 0.001
        for index in torch.randperm(10, generator=generator).tensor_split(3):
            outputs = problem.jacobian.base[index] + problem.jacobian.forward(delta, index)
            optimizer.zero_grad()
            loss.value(outputs, problem.labels[index]).backward()
            optimizer.step()
    torch.testing.assert_close(solution.delta, delta.detach(), rtol=1e-11, atol=1e-13)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), weight_decay=st.sampled_from([1e-3, 0.1, 1.0]))
def test_the_ridge_solution_is_the_fixed_point_under_any_preconditioner(seed, weight_decay):
    problem = make_problem(seed=seed)
    minimiser = problem.minimiser(weight_decay)
    P = Matrix(positive_definite(20, seed))
    solution = run(
        problem, weight_decay=weight_decay, batch=10, preconditioner=P, start=minimiser, rate=0.1
    )
    torch.testing.assert_close(solution.delta, minimiser, rtol=1e-9, atol=1e-9)


def test_the_preconditioner_leads_to_the_same_minimiser():
    problem = make_problem()
    P = Matrix(positive_definite(20, 5))
    rate = stable_rate(problem.jacobian, 0.1, P, iterations=200)
    solution = run(problem, batch=10, preconditioner=P, rate=rate, epochs=2500, milestones=())
    torch.testing.assert_close(solution.delta, problem.minimiser(0.1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_natural_rate_is_the_inverse_of_the_largest_eigenvalue(preconditioned):
    problem = make_problem()
    matrix = positive_definite(20, 5)
    P = Matrix(matrix) if preconditioned else None
    product = problem.hessian(0.1) if P is None else matrix @ problem.hessian(0.1)
    largest = float(torch.linalg.eigvals(product).real.max())
    assert stable_rate(problem.jacobian, 0.1, P, iterations=300) == pytest.approx(
        1 / largest, rel=1e-6
    )
    # from below in λ, so the rate is never under-estimated by much, nor twice too large
    rough = stable_rate(problem.jacobian, 0.1, P, iterations=20)
    assert 1 / largest <= rough * (1 + 1e-12)
    assert rough < 1.2 / largest


def test_the_natural_rate_of_mini_batches_is_that_of_the_most_curved_one():
    problem = make_problem(N=10, C=2, P=60)
    found = stable_rate(problem.jacobian, 0.1, iterations=300, seed=4, batch=1)
    each = [float(torch.linalg.eigvalsh(J @ J.T).max()) + 0.1 for J in problem.jacobian.matrix]
    assert found == pytest.approx(1 / max(each), rel=1e-6)
    # more parameters than outputs: the mini-batch sees almost none of the averaging over samples
    assert found < 0.5 * stable_rate(problem.jacobian, 0.1, iterations=300)
    whole = stable_rate(problem.jacobian, 0.1, batch=10)
    assert whole == stable_rate(problem.jacobian, 0.1)


def test_above_twice_the_natural_rate_plain_descent_diverges():
    problem = make_problem()
    rate = stable_rate(problem.jacobian, 0.1, iterations=300)
    quiet = run(problem, rate=1.9 * rate, momentum=0.0, batch=10, epochs=3000, milestones=())
    torch.testing.assert_close(quiet.delta, problem.minimiser(0.1), rtol=1e-6, atol=1e-6)
    with pytest.raises(Diverged):
        run(problem, rate=2.1 * rate, momentum=0.0, batch=10, epochs=9000, milestones=())


def test_divergence_is_raised_with_epoch_rate_and_last_finite_loss():
    problem, finite = make_problem(), []

    def keep(epoch, _, loss):
        finite.append((epoch, loss))

    with pytest.raises(Diverged) as caught:
        run(problem, rate=100.0, epochs=500, milestones=(), on_epoch=keep)
    assert caught.value.epoch == finite[-1][0] + 1
    assert caught.value.rate == 100.0
    assert caught.value.last_loss == finite[-1][1]
    assert math.isfinite(caught.value.last_loss)
    assert f"epoch {caught.value.epoch} at learning rate 100" in str(caught.value)


def test_a_first_epoch_that_diverges_has_no_finite_loss():
    problem = make_problem()
    problem.jacobian.base[0, 0] = math.nan
    with pytest.raises(Diverged, match="none was finite") as caught:
        run(problem)
    assert caught.value.epoch == 1
    assert caught.value.last_loss is None


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_order():
    problem = make_problem()
    assert torch.equal(run(problem).delta, run(problem).delta)
    assert not torch.equal(run(problem).delta, run(problem, seed=1).delta)


def test_full_batches_do_not_depend_on_the_seed():
    problem = make_problem()
    assert torch.equal(run(problem, batch=10).delta, run(problem, batch=99, seed=1).delta)


def test_loss_and_epochs():
    problem = make_problem()
    solution = run(problem)
    outputs = problem.jacobian.base + problem.jacobian.forward(solution.delta)
    assert solution.loss == pytest.approx(float(problem.loss.value(outputs, problem.labels)))
    assert solution.epochs == 3


def test_a_run_can_be_stopped():
    problem = make_problem()
    solution = run(problem, epochs=9, on_epoch=lambda epoch, delta, loss: epoch == 2)
    assert solution.epochs == 2


def test_a_start_is_not_changed():
    problem = make_problem()
    start = torch.ones(20, dtype=torch.float64)
    run(problem, start=start)
    assert torch.equal(start, torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": -0.1}, "rate is -0.1"),
        ({"rate": math.inf}, "rate is inf"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"batch": 0}, "batch is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001"),
        ({"milestones": (1.5,)}, r"milestones is \(1.5,\)"),
        ({"start": torch.zeros(2)}, r"start has shape \(2,\)"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        run(make_problem(), **change)


def test_labels_of_another_length_are_refused():
    problem = make_problem()
    with pytest.raises(ValueError, match=r"labels has shape \(3,\)"):
        solve_sgd(
            problem.jacobian,
            problem.loss,
            problem.labels[:3],
            weight_decay=0.1,
            rate=0.1,
            epochs=1,
        )


def test_a_zero_jacobian_has_no_rate():
    problem = make_problem()
    problem.jacobian.matrix.zero_()
    with pytest.raises(ValueError, match="initialise the head at random"):
        stable_rate(problem.jacobian, 0.0)
    assert stable_rate(problem.jacobian, 0.5) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="iterations is 0"):
        stable_rate(problem.jacobian, 0.5, iterations=0)
    with pytest.raises(ValueError, match="batch is 0"):
        stable_rate(problem.jacobian, 0.5, batch=0)
