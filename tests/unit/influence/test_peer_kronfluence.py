"""Influence beside kronfluence's pairwise scores, where both are defined.

Its score of a query measurement m and a training loss ℓ_i is ∇m ᵀ(G + λI)⁻¹ ∇ℓ_i. With m one output
at a query image, ∇ℓ_i = J_iᵀr_i and probes of our drawing in place of sampled labels, it is the
numerator of our F-SI: the squared scores, summed over outputs and averaged over query images, are
N² F-SI. With its strategy "ekfac" that holds for convolutions too; its "kfac" divides the gradients'
factor of a convolution by the number of positions, so there it is compared on linear layers.
"""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lqf.curvature import Preconditioner, eigenvalue_correction, kronecker_factors
from lqf.curvature.probes import Probes
from lqf.influence import fsi_kfac
from lqf.linear import DenseJacobian, Linearized

pytest.importorskip("kronfluence", reason="kronfluence is not installed: pip install lqf[peers]")
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task

N, M, C = 12, 4, 3
DAMPING = 0.05


class Influence(Task):
    def compute_train_loss(self, batch, model, sample=False):
        images, residuals, signs = batch
        return (model(images) * (signs if sample else residuals)).sum()

    def compute_measurement(self, batch, model):
        images, outputs, _ = batch
        return (model(images) * outputs).sum()


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, stride=2),
        nn.Tanh(),
        nn.Conv2d(4, 5, 2, dilation=2, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(5, C),
    )


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.Tanh(), nn.Linear(6, C))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("strategy", "make"), [("ekfac", convolutions), ("kfac", perceptron)])
def test_fsi_is_the_mean_square_of_kronfluences_scores(tmp_path, strategy, make):
    torch.manual_seed(0)
    network = make().double().eval()
    x, queries = torch.randn(2, 16, 3, 6, 6, dtype=torch.float64)
    x, queries = x[:N], queries[:M]
    residuals = torch.randn(N, C, dtype=torch.float64)
    signs = Probes(N, C, 1, 7).draw()[0].double()

    factors = kronecker_factors(network, x, probes=1, seed=7)
    linearized = Linearized(network)
    corrected = eigenvalue_correction(network, x, factors) if strategy == "ekfac" else None
    P = Preconditioner(factors, linearized.layout, DAMPING, corrected)
    rows, asked = linearized.jacobian(x), linearized.jacobian(queries)
    ours = torch.einsum("mcp,np->mcn", asked, P.apply(torch.einsum("ncp,nc->np", rows, residuals)))

    task = Influence()
    analyzer = Analyzer(
        "test",
        prepare_model(deepcopy(network), task),
        task,
        cpu=True,
        disable_tqdm=True,
        output_dir=str(tmp_path),
    )
    double = torch.float64
    train = torch.utils.data.TensorDataset(x, residuals, signs)
    one_hot = F.one_hot(torch.arange(C)).double().repeat(M, 1)
    query = torch.utils.data.TensorDataset(queries.repeat_interleave(C, 0), one_hot, one_hot)
    analyzer.fit_all_factors(
        "factors",
        train,
        per_device_batch_size=5,
        factor_args=FactorArguments(
            strategy=strategy,
            activation_covariance_dtype=double,
            gradient_covariance_dtype=double,
            per_sample_gradient_dtype=double,
            lambda_dtype=double,
        ),
    )
    analyzer.compute_pairwise_scores(
        "scores",
        "factors",
        query,
        train,
        per_device_query_batch_size=6,
        per_device_train_batch_size=5,
        score_args=ScoreArguments(
            damping_factor=DAMPING,
            per_sample_gradient_dtype=double,
            precondition_dtype=double,
            score_dtype=double,
        ),
    )
    theirs = analyzer.load_pairwise_scores("scores")["all_modules"].reshape(M, C, N)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)

    training = DenseJacobian(rows, torch.zeros(N, C, dtype=double))
    evaluation = DenseJacobian(asked, torch.zeros(M, C, dtype=double))
    found = fsi_kfac(training, P, residuals, evaluation, probes=M * C)
    torch.testing.assert_close(found, theirs.square().sum(1).mean(0) / N**2, rtol=1e-6, atol=1e-12)
