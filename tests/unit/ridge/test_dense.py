import pytest
import torch

from lqf.ridge import DenseRidge, RidgePath

N, C, P, MU = 7, 3, 40, 0.7


def problem(seed=0, shared=False):
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(N + 2, C, P, generator=g, dtype=torch.float64)
    if shared:
        features = torch.randn(N + 2, P // C, generator=g, dtype=torch.float64)
        rows = torch.stack([torch.kron(torch.eye(C).double(), f[None]) for f in features])
    target = torch.randn(N, C, generator=g, dtype=torch.float64)
    weights = torch.rand(N, generator=g, dtype=torch.float64) + 0.5
    return rows[:N], rows[N:], target, weights


def dense(rows, target, weights):
    """δ of Σ ω‖R − Jδ‖² + μ‖δ‖²."""
    J = rows.flatten(0, 1)
    W = weights.repeat_interleave(C)
    A = J.T @ (W[:, None] * J) + MU * torch.eye(J.shape[1], dtype=torch.float64)
    return torch.linalg.solve(A, J.T @ (W * target.flatten()))


@pytest.fixture(params=["own kernels", "a shared kernel"])
def case(request):
    shared = request.param == "a shared kernel"
    rows, test, target, weights = problem(shared=shared)

    def gram(a, b):
        full = torch.einsum("icp,jdp->icjd", a, b)
        return full[:, 0, :, 0] if shared else full.reshape(len(a) * C, len(b) * C)

    ridge = DenseRidge(gram(rows, rows), target, MU, 1 / weights)
    return rows, test, target, weights, gram, ridge


def test_the_optimum_is_the_primal_one(case):
    rows, _, target, weights, _, ridge = case
    delta = torch.einsum("ic,icp->p", ridge.coefficients, rows)
    expected = dense(rows, target, weights)
    torch.testing.assert_close(delta, expected)
    torch.testing.assert_close(ridge.residuals, target - rows @ expected)


def test_leaving_out_is_refitting(case):
    rows, test, target, weights, gram, ridge = case
    left_out = ridge.leave_one_out()
    effects = ridge.respond(gram(test, rows), left_out)
    whole, scores = dense(rows, target, weights), ridge.informativeness(gram(test, rows))
    for i in range(N):
        keep = torch.arange(N) != i
        delta = dense(rows[keep], target[keep], weights[keep])
        torch.testing.assert_close(left_out[i], target[i] - rows[i] @ delta)
        change = test @ whole - test @ delta
        torch.testing.assert_close(effects[:, i], change)
        torch.testing.assert_close(scores[i], change.square().sum(1).mean())
    groups = [torch.tensor([0, 3]), torch.tensor([1, 2, 4]), torch.tensor([5, 6])]
    together = ridge.leave_one_out(groups)
    for group in groups:
        keep = ~torch.isin(torch.arange(N), group)
        delta = dense(rows[keep], target[keep], weights[keep])
        torch.testing.assert_close(together[group], target[group] - rows[group] @ delta)


def test_removing_and_adding_are_refitting(case):
    rows, test, target, weights, gram, ridge = case
    keep = torch.tensor([0, 2, 3, 6])
    smaller = ridge.remove(torch.tensor([1, 4, 5]))
    delta = torch.einsum("ic,icp->p", smaller.coefficients, rows[keep])
    torch.testing.assert_close(delta, dense(rows[keep], target[keep], weights[keep]))
    noise, more = torch.tensor([1.0, 2.0]).double(), torch.ones(2, C).double()
    larger = ridge.add(gram(test, rows), gram(test, test), more, noise)
    every = torch.cat([rows, test])
    delta = torch.einsum("ic,icp->p", larger.coefficients, every)
    expected = dense(every, torch.cat([target, more]), torch.cat([weights, 1 / noise]))
    torch.testing.assert_close(delta, expected)


def test_covariance_and_leverage_are_the_dense_ones(case):
    rows, test, _, weights, gram, ridge = case
    J = rows.flatten(0, 1)
    A = J.T @ (weights.repeat_interleave(C)[:, None] * J) + MU * torch.eye(J.shape[1]).double()
    expected = test @ torch.linalg.solve(A, test.mT)
    own = torch.stack([gram(t[None], t[None]) for t in test])
    found = ridge.covariance(gram(test, rows), own)
    if ridge.width == C:
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.diagonal(0, 1, 2).mean(1), expected.diagonal(0, 1, 2).mean(1))
    hat = rows @ torch.linalg.solve(A, rows.mT) * weights[:, None, None]
    diagonal = ridge.leverage().diagonal(0, 1, 2).mean(1)
    torch.testing.assert_close(diagonal, hat.diagonal(0, 1, 2).mean(1))


def test_equation_8_as_printed_is_the_effect_of_adding(case):
    rows, test, target, _, gram, _ = case
    ridge = DenseRidge(gram(rows, rows), target, MU)
    scores = ridge.informativeness_eq8(gram(test, rows))
    J, ones = rows.flatten(0, 1), torch.ones(N, dtype=torch.float64)
    F = J.T @ J / N + MU / N * torch.eye(J.shape[1], dtype=torch.float64)
    left = target - rows @ dense(rows, target, ones)
    for i in range(N):
        alpha = rows[i] @ torch.linalg.solve(F, rows[i].T)
        bracket = torch.linalg.solve((N - 1) * torch.eye(C).double() + alpha, (N - 1) * left[i] / N)
        effect = test @ torch.linalg.solve(F, rows[i].T @ bracket)
        torch.testing.assert_close(scores[i], effect.square().sum(1).mean())


def test_the_path_has_the_leave_one_out_error_of_every_mu(case):
    rows, _, target, weights, gram, _ = case
    groups = [torch.tensor([0, 3]), torch.tensor([1, 2, 4]), torch.tensor([5, 6])]
    for together in (None, groups):
        path = RidgePath(gram(rows, rows), target, 1 / weights, together)
        mus = path.grid()[::6]
        for mu, error in zip(mus.tolist(), path.errors(mus).tolist(), strict=True):
            left = DenseRidge(gram(rows, rows), target, mu, 1 / weights).leave_one_out(together)
            expected = (weights * left.square().sum(1)).sum() / weights.sum()
            assert error == pytest.approx(float(expected), rel=1e-6)


def test_what_cannot_be_solved_is_refused():
    rows, _, target, _ = problem()
    gram = torch.einsum("icp,jdp->icjd", rows, rows).reshape(N * C, N * C)
    with pytest.raises(ValueError, match="mu is 0"):
        DenseRidge(gram, target, 0)
    with pytest.raises(ValueError, match="it must have 21 rows"):
        DenseRidge(gram[1:, 1:], target, MU)
    with pytest.raises(ValueError, match="not positive definite at mu = 1e-30"):
        DenseRidge(torch.ones_like(gram), target, 1e-30)
    with pytest.raises(ValueError, match="Jacobian is zero"):
        RidgePath(0 * gram, target)
    with pytest.raises(ValueError, match="NaN or infinite"):
        RidgePath(gram * torch.nan, target)
