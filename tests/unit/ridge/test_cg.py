import pytest
import torch

from lqf.ridge import Diverged, solve_dual


def problem():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(30, 12, generator=g, dtype=torch.float64)
    K = root @ root.T
    target = torch.randn(4, 10, 3, generator=g, dtype=torch.float64)
    shift = torch.rand(10, generator=g, dtype=torch.float64) + 0.1
    expected = torch.linalg.solve(K + torch.diag(shift.repeat_interleave(3)), target.flatten(1).T)
    return (lambda a: (a.flatten(1) @ K).view_as(a)), target, shift, expected.T.view_as(target)


def test_several_right_sides_share_their_products():
    kernel, target, shift, expected = problem()
    calls = []
    counted = lambda a: calls.append(1) or kernel(a)
    found = solve_dual(counted, target, shift, tolerance=1e-12, max_iterations=60)
    torch.testing.assert_close(found.coefficients, expected)
    assert found.iterations == len(calls) <= 60
    assert found.residual <= 1e-12
    warm = solve_dual(
        counted, target, shift, tolerance=1e-9, max_iterations=60, start=found.coefficients
    )
    assert warm.iterations == 1
    few = solve_dual(kernel, target, shift, tolerance=1e-12, max_iterations=3)
    assert few.iterations == 3
    assert few.residual > 1e-12


def jacobi_of_samples(shift):
    """The inverse of the shift alone: a preconditioner that changes every direction."""
    return lambda r: r / shift[:, None]


def test_a_preconditioner_changes_the_way_and_not_the_solution():
    kernel, target, shift, expected = problem()
    K = kernel(torch.eye(30, dtype=torch.float64).view(30, 10, 3)).flatten(1)
    factor = torch.linalg.cholesky(K + torch.diag(shift.repeat_interleave(3)))
    exact = lambda r: torch.cholesky_solve(r.flatten(1).T, factor).T.view_as(r)
    options = {"tolerance": 1e-10, "max_iterations": 60}
    best = solve_dual(kernel, target, shift, **options, precondition=exact)
    other = solve_dual(kernel, target, shift, **options, precondition=jacobi_of_samples(shift))
    torch.testing.assert_close(best.coefficients, expected)
    torch.testing.assert_close(other.coefficients, expected)
    assert best.iterations <= 2 < other.iterations


class Kept:
    def __init__(self):
        self.snapshots = []

    def load(self):
        return self.snapshots[3] if self.snapshots else None

    def offer(self, snapshot):
        self.snapshots.append(snapshot())


@pytest.mark.parametrize("preconditioned", [False, True])
def test_a_killed_solve_goes_on_with_the_same_numbers(preconditioned):
    kernel, target, shift, _ = problem()
    options = {"tolerance": 1e-10, "max_iterations": 60}
    if preconditioned:
        options["precondition"] = jacobi_of_samples(shift)
    whole = solve_dual(kernel, target, shift, **options)
    kept = Kept()
    solve_dual(kernel, target, shift, **options, resume=kept)
    again = solve_dual(kernel, target, shift, **options, resume=kept)
    assert torch.equal(whole.coefficients, again.coefficients)
    assert whole.iterations == again.iterations


def test_zero_stays_and_nan_is_told():
    kernel, target, shift, _ = problem()
    zero = solve_dual(kernel, 0 * target, shift, tolerance=1e-6, max_iterations=9)
    assert not zero.coefficients.any()
    with pytest.raises(Diverged):
        solve_dual(lambda a: a * torch.nan, target, shift, tolerance=1e-6, max_iterations=9)
