import pytest
import torch

from lqf.fitted.ridge import choose_by_gcv
from lqf.linear import DenseJacobian
from lqf.solve import RidgePath

N, C, P = 150, 3, 700


class Scaled:
    """P ≈ (G + wd)⁻¹ from the diagonal of G."""

    def __init__(self, jacobian, decay):
        diagonal = jacobian.matrix.square().sum((0, 1)) / jacobian.samples
        self._divisor = diagonal + decay

    def apply(self, vector):
        return vector / self._divisor


def problem(noise=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -2, P, dtype=torch.float64)
    matrix = torch.randn(N, C, P, generator=g, dtype=torch.float64) * scales
    jacobian = DenseJacobian(matrix, torch.zeros(N, C, dtype=torch.float64))
    truth = torch.randn(P, generator=g, dtype=torch.float64)
    extra = noise * torch.randn(N, C, generator=g, dtype=torch.float64)
    return jacobian, jacobian.forward(truth) + extra


def choose(jacobian, target, **options):
    return choose_by_gcv(jacobian, target, lambda wd: Scaled(jacobian, wd), **options)


@pytest.mark.parametrize("noise", [3.0, 5.0, 10.0])
def test_choice_is_nearly_as_good_as_exact_leave_one_out(noise):
    jacobian, target = problem(noise)
    found = choose(jacobian, target)
    path = RidgePath(jacobian.gram(), target)
    assert path.loo(found.choice.mu) < 1.15 * path.choose().scores.min()
    assert found.passes == 12


def test_the_whole_space_gives_gcv_itself_but_for_the_trace():
    jacobian, target = problem()
    found = choose(jacobian, target, iterations=45)
    path = RidgePath(jacobian.gram(), target)
    for k in (32, 40, 50):
        mu = float(found.choice.mus[k])
        assert float(found.choice.scores[k]) == pytest.approx(path.gcv(mu), rel=0.3)
    optimum = jacobian.pull(path.coefficients(found.choice.mu))
    assert (found.delta - optimum).norm() < 0.1 * optimum.norm()


def test_more_noise_asks_for_a_larger_ridge():
    quiet, loud = (choose(*problem(noise)).choice.mu for noise in (0.1, 10.0))
    assert quiet < loud


def test_start_has_less_loss_than_zero():
    jacobian, target = problem()
    found = choose(jacobian, target)
    mu = found.choice.mu
    loss = (target - jacobian.forward(found.delta)).square().sum() + mu * found.delta @ found.delta
    assert loss < 0.7 * target.square().sum()


def test_choice_is_deterministic_and_scales_with_the_problem():
    jacobian, target = problem()
    before = torch.get_rng_state()
    first, again = choose(jacobian, target), choose(jacobian, target)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.choice.mu == again.choice.mu
    assert torch.equal(first.delta, again.delta)
    larger = DenseJacobian(10 * jacobian.matrix, jacobian.base)
    assert choose(larger, target).choice.mu == pytest.approx(100 * first.choice.mu)


def test_zero_jacobian_is_refused():
    jacobian = DenseJacobian(torch.zeros(4, 2, 5), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="a zero head makes"):
        choose(jacobian, torch.ones(4, 2))
