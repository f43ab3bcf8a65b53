"""F-SI of 1,000 training samples through all layers: lqf beside kronfluence's pairwise scores.

F-SI (LQF eq. 9) is the mean over M evaluation images of a sum of squares over C outputs, so
kronfluence is asked for the scores of MC queries, each one output of one image. It works through
them in batches of queries with one pass over the training samples each; a few of these batches are
measured, and the others cost the same. Residuals at the optimum are given to both.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from benchmarks.machine import line
from lqf.curvature import Preconditioner, kronecker_factors
from lqf.curvature.probes import Probes
from lqf.influence import CompressedRidge, Coordinates
from lqf.linear import Linearized
from lqf.linear.jacobian import NetworkJacobian
from lqf.networks import fold_batch_norm
from lqf.solve.pcg import solve_pcg

TITLE = "F-SI of every training sample, all layers"
ROUNDS = 1
# Network, resolution, training samples N, evaluation images M, outputs C.
CASES = [("resnet18", 32, 1000, 100, 10)]
SMALL = [("squeezenet1_1", 64, 40, 8, 3)]
# Evaluation images whose queries kronfluence is measured on, and the batch they make.
QUERIED = 4
COORDINATES, WEIGHT_DECAY, BATCH, PASSES = 2048, 1e-3, 50, 6
SETTINGS = (
    "strategy kfac (ekfac, its default, adds a pass that rotates every sample's gradient), "
    "eigendecomposition in float64 (its default; in float32 it does not converge here), one sampled probe a sample, all "
    "queries of a batch against one pass over the training samples, no low rank: the time goes "
    "into preconditioning the queries, which comes before it"
)


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """Rows of results, one a case."""
    rows = []
    for case in SMALL if small else CASES:
        problem = _problem(*case)
        steps, scores, walks = _ours(problem)
        theirs, effects = _theirs(problem)
        N, M, C = (len(problem[key]) for key in ("images", "queries", "outputs"))
        batches = M / QUERIED
        whole = {
            kind: theirs["factors"][kind] + batches * theirs["scores"][kind]
            for kind in ("wall", "cpu")
        }
        own = {kind: sum(step[kind] for step in steps.values()) for kind in ("wall", "cpu")}
        # Both on the images that kronfluence was asked about.
        ours_there = scores(problem["queries"][:QUERIED])
        alike = spearmanr(ours_there.numpy(), effects.numpy()).statistic
        rows.append(
            {
                "case": f"{case[0]}@{case[1]}, N = {N}, M = {M}, C = {C}, P = {problem['size']}",
                "ours": steps,
                "ours_total": own,
                "walks": walks,
                "kronfluence": theirs,
                "kronfluence_total": whole,
                "kronfluence_batches": batches,
                "ratio": {kind: whole[kind] / own[kind] for kind in own},
                "rank_correlation": float(alike),
            }
        )
    return rows


def markdown(result: dict[str, Any]) -> str:
    """Times, ratios, passes."""
    told = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {told}.", ""]
    for row in result["rows"]:
        lines += [f"## {row['case']}", "", line(["step", "wall s", "CPU s"]), line(["---"] * 3)]
        for name, times in row["ours"].items():
            lines.append(line([f"lqf: {name}", *_cells(times)]))
        lines.append(line(["**lqf**", *_cells(row["ours_total"])]))
        lines.append(line(["kronfluence: factors", *_cells(row["kronfluence"]["factors"])]))
        scores = row["kronfluence"]["scores"]
        lines.append(line(["kronfluence: scores of one batch of queries", *_cells(scores)]))
        batches = f"**kronfluence, all {row['kronfluence_batches']:g} batches**"
        lines.append(line([batches, *_cells(row["kronfluence_total"])]))
        ratio, walks = row["ratio"], row["walks"]
        lines += [
            "",
            f"lqf is {ratio['wall']:.0f} × faster (CPU seconds: {ratio['cpu']:.0f} ×); wanted ≥ 20 ×.",
            "",
            (
                f"lqf walks {walks['training']} times over the training samples (wanted ≤ 5) and "
                f"{walks['evaluation']} time over the evaluation images; in these walks a training "
                f"sample has {walks['forward']} forward and {walks['backward']} backward passes, by "
                "the layers' outputs alone. kronfluence walks "
                f"{1 + row['kronfluence_batches']:g} times over the training samples."
            ),
            "",
            (
                f"Rank correlation of the two scores on the {QUERIED} evaluation images that were "
                f"asked about: {row['rank_correlation']:.2f}. They are not the same approximation: "
                f"lqf does exact linear algebra in {COORDINATES} coordinates, with leave-one-out "
                "residuals; kronfluence divides by Kronecker factors."
            ),
            "",
            f"kronfluence: {SETTINGS}.",
            "",
        ]
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Wall seconds, logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    figure, panels = plt.subplots(
        len(rows), 1, figsize=(7, 2.2 * len(rows)), layout="constrained", squeeze=False
    )
    for axes, row in zip(panels[:, 0], rows, strict=True):
        measured = row["kronfluence"]
        names = ["lqf", "kronfluence: factors alone", "kronfluence: one batch", "kronfluence"]
        seconds = [
            row["ours_total"]["wall"],
            measured["factors"]["wall"],
            measured["scores"]["wall"],
            row["kronfluence_total"]["wall"],
        ]
        colours = ["C0", "C1", "C1", "C1"]
        bars = axes.barh(names, seconds, color=colours)
        bars[1].set_alpha(0.5)
        bars[2].set_alpha(0.5)
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        axes.set_title(row["case"], fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _problem(name: str, resolution: int, N: int, M: int, C: int) -> dict[str, Any]:
    """Images of a few blurred colours, and the residuals of the linearised optimum."""
    from torchvision import models

    torch.manual_seed(0)
    network = fold_batch_norm(models.get_model(name, weights=None, num_classes=C).eval())
    labels = torch.arange(N + M) % C
    coarse = torch.randn(C, 3, 4, 4)[labels] + torch.randn(N + M, 3, 4, 4)
    every = F.interpolate(coarse, size=(resolution, resolution), mode="bilinear")
    every += 0.2 * torch.randn_like(every)
    images, queries = every[:N], every[N:]
    linearized = Linearized(network)
    jacobian = NetworkJacobian(linearized, images, BATCH)
    target = 15.0 * F.one_hot(labels[:N], C) - jacobian.base
    factors = kronecker_factors(network, images, probes=1, batch=BATCH)
    P = Preconditioner(factors, linearized.layout, WEIGHT_DECAY)
    solution = solve_pcg(
        jacobian, target, WEIGHT_DECAY, preconditioner=P, tolerance=1e-2, max_passes=PASSES
    )
    residuals = target - jacobian.forward(solution.delta)
    return {
        "network": network,
        "images": images,
        "queries": queries,
        "residuals": residuals,
        "outputs": range(C),
        "size": linearized.layout.size,
    }


def _ours(
    problem: dict[str, Any],
) -> tuple[dict[str, dict[str, float]], Callable[[Tensor], Tensor], dict[str, int]]:
    """Times of each step; the scores as a function of the evaluation images; what was walked."""
    network, images, residuals = problem["network"], problem["images"], problem["residuals"]
    steps: dict[str, dict[str, float]] = {}
    make = partial(kronecker_factors, network, images, probes=1, batch=BATCH)
    factors, steps["Kronecker factors"] = _timed(make)
    choose = partial(Coordinates, factors, COORDINATES)
    coordinates, steps["eigenbases and coordinates"] = _timed(choose)
    rows = partial(coordinates.rows, network, batch=BATCH)
    train, steps["rows of the training samples"] = _timed(partial(rows, images))
    others, steps["rows of the evaluation images"] = _timed(partial(rows, problem["queries"]))

    def score(asked: Tensor) -> Tensor:
        ridge = CompressedRidge(train, len(images) * WEIGHT_DECAY)
        return ridge.informativeness(asked, residuals)

    steps["scores"] = _timed(partial(score, others))[1]
    C = len(problem["outputs"])
    walks = {"training": 2, "evaluation": 1, "forward": 2, "backward": 1 + C}
    return steps, lambda asked: score(rows(asked)), walks


def _theirs(problem: dict[str, Any]) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Times of the factors and of one batch of queries, and the mean squared score."""
    with warnings.catch_warnings():
        # Deprecations in libraries are theirs.
        warnings.simplefilter("ignore")
        return _kronfluence(problem)


def _kronfluence(problem: dict[str, Any]) -> tuple[dict[str, dict[str, float]], Tensor]:
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Influence(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            images, residuals, signs = batch
            return (model(images) * (signs if sample else residuals)).sum()

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            images, outputs = batch
            return (model(images) * outputs).sum()

    images, C = problem["images"], len(problem["outputs"])
    drawn = Probes(len(images), C, 1, 0).draw()
    if drawn is None:
        raise RuntimeError("one probe a sample is random; it must be drawn")
    train = TensorDataset(images, problem["residuals"], drawn[0].float())
    asked = problem["queries"][:QUERIED].repeat_interleave(C, 0)
    query = TensorDataset(asked, torch.eye(C).repeat(QUERIED, 1))
    task = Influence()
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "influence",
            prepare_model(deepcopy(problem["network"]), task),
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
            per_device_batch_size=BATCH,
            factor_args=FactorArguments(strategy="kfac", eigendecomposition_dtype=torch.float64),
        )
        times["factors"] = _timed(fit)[1]
        score = partial(
            analyzer.compute_pairwise_scores,
            "scores",
            "factors",
            query,
            train,
            per_device_query_batch_size=len(query),
            per_device_train_batch_size=BATCH,
            score_args=ScoreArguments(damping_factor=WEIGHT_DECAY),
        )
        times["scores"] = _timed(score)[1]
        found = analyzer.load_pairwise_scores("scores")["all_modules"]
    return times, found.double().square().sum(0) / (QUERIED * len(images) ** 2)


def _timed(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    value = action()
    return value, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _cells(times: dict[str, float]) -> list[str]:
    return [f"{times['wall']:.1f}", f"{times['cpu']:.1f}"]
