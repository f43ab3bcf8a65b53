"""Cases of curvlinops' own tests in which K-FAC is exact, as a second source of networks.

They come with its source distribution alone (MIT licence), so they run where that is unpacked:
    pip download --no-deps --no-binary :all: curvlinops-for-pytorch && tar xzf curvlinops*.tar.gz
    LQF_CURVLINOPS_SOURCE=curvlinops_for_pytorch-3.0.1 pytest tests/unit/curvature
"""

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch
from tiny_networks import dense_approximation, dense_jacobian

from lqf.curvature import kronecker_factors
from lqf.linear import Layout


@pytest.fixture
def their_cases(monkeypatch):
    folder = os.environ.get("LQF_CURVLINOPS_SOURCE")
    if not folder:
        pytest.skip("LQF_CURVLINOPS_SOURCE does not name curvlinops' unpacked source distribution")
    # Their package is called `test`, as is one of Python's own.
    for name in [name for name in sys.modules if name == "test" or name.startswith("test.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(Path(folder).resolve()))
    return importlib.import_module("test.kfac_cases")


def exact_blocks(network, x):
    """G with zeros between layers."""
    layout = Layout.of(network.named_parameters())
    rows = dense_jacobian(network, x)
    J = torch.cat([rows[name].flatten(2) for name in layout.names], 2).flatten(0, 1)
    owners = [name.rpartition(".")[0] for name in layout.names]
    owner = torch.cat(
        [
            torch.full((size,), owners.index(path))
            for path, size in zip(owners, layout.sizes, strict=True)
        ]
    )
    return (J.T @ J / len(x)) * (owner[:, None] == owner), layout


@pytest.mark.parametrize(
    ("group", "approximation"),
    [
        ("KFAC_EXACT_CASES_NO_DEVICE_NO_LOSS_FUNC", "expand"),
        ("KFAC_WEIGHT_SHARING_EXACT_CASES_NO_DEVICE_NO_LOSS_FUNC", "reduce"),
    ],
)
def test_kfac_is_exact_where_curvlinops_tests_that_it_is(their_cases, group, approximation):
    used = 0
    for case in getattr(their_cases, group):
        torch.manual_seed(case["seed"])
        network, data = case["model_func"](), case["data"]()
        if isinstance(data, dict):
            data = data[approximation]
            # Their networks make their layers when they are told this.
            network.setting = approximation
        if not isinstance(data[0][0], torch.Tensor):
            continue  # Inputs in dictionaries are not ours.
        network.double()
        x = torch.cat([part.double() for part, _ in data])
        expected, layout = exact_blocks(network, x)
        factors = kronecker_factors(network, x, approximation=approximation)
        assert not factors.diagonal
        found = dense_approximation(factors, layout)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
        used += 1
    assert used >= 2
