"""kronfluence's pairwise scores for the question that F-SI asks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from lqf.curvature.probes import Probes
from torch import Tensor, nn
from torch.utils.data import TensorDataset

# Seconds, on the wall and of the processor.
Times = dict[str, float]


def timed(action: Callable[[], Any]) -> tuple[Any, Times]:
    """What an action returns, and the seconds it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = action()
    return value, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def pairwise(
    network: nn.Module,
    images: Tensor,
    residuals: Tensor,
    asked: Tensor,
    damping: float,
    batch: int,
) -> tuple[dict[str, Times], Tensor]:
    """Scores of every training sample for every output of some evaluation images.

    A training sample's loss has the gradient J_iᵀr_i, as at the optimum of the linearised network;
    a query's measurement is one output of one image. All queries are held at once, so they share
    one pass over the training samples.

    Args:
        network: the network at w0.
        images: of the training samples.
        residuals: r, N × C.
        asked: the evaluation images, M × 3 × H × W.
        damping: μ/N.
        batch: training samples at once.

    Returns:
        Seconds of the ``factors`` and of the ``scores``; and the mean over images of the squared
        scores, summed over outputs, N, in the units of F-SI.
    """
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Influence(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            pictures, own, signs = batch
            return (model(pictures) * (signs if sample else own)).sum()

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            pictures, outputs = batch
            return (model(pictures) * outputs).sum()

    N, C = residuals.shape
    drawn = Probes(N, C, 1, 0).draw()
    if drawn is None:
        raise RuntimeError("one probe a sample is random; it must be drawn")
    train = TensorDataset(images, residuals.to(images), drawn[0].to(images))
    query = TensorDataset(asked.repeat_interleave(C, 0), torch.eye(C).repeat(len(asked), 1))
    task, times = Influence(), {}
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "influence",
            prepare_model(deepcopy(network), task),
            task,
            cpu=True,
            disable_tqdm=True,
            disable_model_save=True,
            output_dir=folder,
        )
        fit = partial(
            analyzer.fit_all_factors,
            "factors",
            train,
            per_device_batch_size=batch,
            factor_args=FactorArguments(strategy="kfac"),
        )
        times["factors"] = timed(fit)[1]
        score = partial(
            analyzer.compute_pairwise_scores,
            "scores",
            "factors",
            query,
            train,
            per_device_query_batch_size=len(query),
            per_device_train_batch_size=batch,
            score_args=ScoreArguments(damping_factor=damping),
        )
        times["scores"] = timed(score)[1]
        found = analyzer.load_pairwise_scores("scores")["all_modules"]
    return times, found.double().square().sum(0) / (len(asked) * N**2)
