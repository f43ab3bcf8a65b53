"""F-SI of 1,000 training samples through all layers: lqf beside kronfluence's pairwise scores.

F-SI (LQF eq. 9) is the mean over M evaluation images of a sum of squares over C outputs, so
kronfluence is asked for the scores of MC queries, each one output of one image. One batch of
queries is measured, and the others cost the same. μ and the residuals at the optimum are given to
both. lqf's cost is told in passes, Jδ and Jᵀr of all training samples, which a solver repeats.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.machine import line
from benchmarks.pairwise import Times, pairwise, timed
from lqf.curvature import kronecker_factors
from lqf.influence import (
    CompressedRidge,
    Coordinates,
    DualRidge,
    functional_sample_information,
    residual_probes,
)
from lqf.linear import Linearized
from lqf.linear.jacobian import NetworkJacobian
from lqf.networks import fold_batch_norm
from lqf.solve import KernelPreconditioner, PrimalPath, RidgePath, solve_dual_pcg

TITLE = "F-SI of every training sample, all layers"
ROUNDS = 3
# Images that the Kronecker factors, and so the coordinates, are made from.
SEEN = 256
# Combinations of outputs of an image, of its C, in the cheaper way.
FEW = 4
COORDINATES, BATCH, TOLERANCE, PASSES = 2048, 50, 1e-3, 40
# Training images at once in kronfluence, which is the faster for it.
THEIR_BATCH = 250
KINDS = ("wall", "cpu")
WAYS = {"all": "every output", "few": f"{FEW} combinations of outputs"}


@dataclass(frozen=True)
class Case:
    """What is asked of which network.

    Args:
        network: its name in torchvision; weights are random.
        resolution: pixels.
        samples: N.
        outputs: C.
        evaluated: M, several.
        queried: images whose outputs are one batch of kronfluence's queries.
        exact: images of the problem in which exact scores are at hand, training and evaluation.
    """

    network: str
    resolution: int
    samples: int
    outputs: int
    evaluated: tuple[int, ...]
    queried: int
    exact: tuple[int, int]


CASES = [Case("squeezenet1_1", 64, 1000, 10, (100, 1000), 50, (80, 20))]
SMALL = [Case("squeezenet1_1", 64, 40, 5, (8,), 4, (20, 8))]


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """Rows of results, one a case; a pass is the least CPU time of some rounds."""
    return [_case(case, rounds) for case in (SMALL if small else CASES)]


def markdown(result: dict[str, Any]) -> str:
    """Totals, and where the time goes."""
    told = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {told}.", ""]
    for row in result["rows"]:
        lines += [f"## {row['case']}", "", _setting(row), ""]
        lines += [
            line(["", "M", "wall s", "CPU s", "passes", "kronfluence takes", "in CPU s"]),
            line(["---"] * 7),
        ]
        for M, total in row["totals"].items():
            for way, name in WAYS.items():
                mine = total[way]
                cells = [f"{mine['passes']:.1f}", *(f"{mine['ratio'][k]:.1f} ×" for k in KINDS)]
                lines.append(line([f"lqf, {name}", M, *_cells(mine), *cells]))
            lines.append(line(["kronfluence", M, *_cells(total["kronfluence"]), "", "", ""]))
        lines += ["", _judgement(row), "", "### Where the time goes", ""]
        lines += [line(["step", "wall s", "CPU s", "passes"]), line(["---"] * 4)]
        lines.append(line(["one pass (Jδ and Jᵀr)", *_cells(row["pass"]), "1"]))
        unit = row["pass"]["cpu"]
        for name, times in row["shared"].items():
            lines.append(line([name, *_cells(times), f"{times['cpu'] / unit:.2f}"]))
        for way, steps in row["steps"].items():
            for name, times in steps.items():
                cells = [*_cells(times), f"{times['cpu'] / unit:.2f}"]
                lines.append(line([f"{WAYS[way]}, {name}", *cells]))
        theirs = row["kronfluence"]
        lines.append(line(["kronfluence: factors", *_cells(theirs["factors"]), ""]))
        queries = row["queried"] * row["outputs"]
        lines.append(line([f"kronfluence: {queries} queries", *_cells(theirs["scores"]), ""]))
        lines += ["", *_remarks(row), ""]
    return "\n".join(lines)


def _setting(row: dict[str, Any]) -> str:
    waiting = "Threads that wait sleep, so CPU seconds are work. " if row["passive"] else ""
    return (
        f"Random weights, μ = {row['mu']:.3g} by leave-one-out; the residuals given to both are "
        f"those of a solution of relative residual {row['residual']:.1e} ({row['solver_passes']:g} "
        f"passes, not counted here). M evaluation images. {waiting}Passes are CPU seconds over "
        "those of one pass through all training samples, in batches of the same size."
    )


def _judgement(row: dict[str, Any]) -> str:
    few = {M: total["few"] for M, total in row["totals"].items()}
    passes = " and ".join(f"{each['passes']:.1f} for M = {M}" for M, each in few.items())
    ratios = " and ".join(f"{each['ratio']['cpu']:.0f} × for M = {M}" for M, each in few.items())
    alike = " and ".join(f"{rho:.3f} for M = {M}" for M, rho in row["few_beside_all"].items())
    return (
        f"Wanted: ≤ 5 passes; {passes} with {WAYS['few']} of every image in the place of all "
        f"{row['outputs']}. Wanted: ≥ 20 × faster than kronfluence; {ratios} in CPU seconds. The "
        f"rank correlation of the two ways of lqf is {alike} (the squared residual alone, without "
        f"any influence: {row['beside_residual']:.3f})."
    )


def _remarks(row: dict[str, Any]) -> list[str]:
    walks = 1 + max(total["batches"] for total in row["totals"].values())
    return [
        (
            "Walks over the training images: lqf takes two, over some of them for the coordinates "
            f"and over all for rows of J in these, where an image has one forward pass and one "
            "backward pass, by the layers' outputs alone, for each output or combination; and one "
            f"over the evaluation images. kronfluence takes up to {walks:g}, one for its factors "
            "and one for each batch of queries, of which one is measured."
        ),
        "",
        (
            "kronfluence was given the choices that were fastest here: strategy kfac (ekfac, its "
            "default, adds a walk in which every sample's gradient is rotated), one sampled probe a "
            f"sample, {THEIR_BATCH} training images and {row['queried'] * row['outputs']} queries at "
            "once (in trials 50 images took 17 % more, 1,000 queries 8 % less, queries of rank 8 "
            "as long). Its time goes into the products of NMC pairs of gradients with P entries, "
            f"where lqf has {COORDINATES}; so the ratio grows with M. Sums of queries with random "
            "signs would need fewer of them, but are no pairwise scores."
        ),
        "",
        (
            "Rank correlation of lqf's and kronfluence's scores on the images that were asked "
            f"about: {row['beside_kronfluence']:.2f}. They are not the same approximation: lqf does "
            f"exact linear algebra in {COORDINATES} coordinates, with leave-one-out residuals; "
            "kronfluence divides by Kronecker factors."
        ),
        "",
        (
            f"Rank correlation of lqf with exact F-SI, in a problem of {row['exact']['N']:.0f} of "
            f"the images, where that is at hand: {row['exact']['all']:.3f} with every output, "
            f"{row['exact']['few']:.3f} with {WAYS['few']}; the squared residual: "
            f"{row['exact']['residual']:.3f}. `ranks.md` has real images."
        ),
    ]


def plot(result: dict[str, Any], path: Path) -> None:
    """Left: CPU seconds of both by M; right: what lqf spends, in passes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    figure, panels = plt.subplots(
        len(rows), 2, figsize=(12, 3.4 * len(rows)), layout="constrained", squeeze=False
    )
    for (left, right), row in zip(panels, rows, strict=True):
        names = ["kronfluence", *(f"lqf, {name}" for name in WAYS.values())]
        kinds = ["kronfluence", *WAYS]
        for place, (M, total) in enumerate(row["totals"].items()):
            at = [i + 0.38 * place for i in range(len(kinds))]
            seconds = [total[kind]["cpu"] for kind in kinds]
            bars = left.barh(at, seconds, 0.36, color=f"C{place}", label=f"M = {M}")
            left.bar_label(bars, [f" {s:.0f}" for s in seconds], fontsize="small")
        left.set_yticks([i + 0.19 for i in range(len(kinds))], names)
        left.set_xscale("log")
        left.margins(x=0.15)
        left.invert_yaxis()
        left.set_xlabel("CPU seconds")
        left.legend(fontsize="small")
        left.set_title(row["case"], fontsize="small")
        _stacked(right, row)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _stacked(axes: Any, row: dict[str, Any]) -> None:
    """Passes of each step, one bar a way and M."""
    unit, labels, bars = row["pass"]["cpu"], [], []
    for way, steps in row["steps"].items():
        for M in row["evaluated"]:
            mine = {n: t for n, t in steps.items() if "M =" not in n or f"M = {M}:" in n}
            parts = {n.rpartition(": ")[2]: t["cpu"] / unit for n, t in mine.items()}
            basis = sum(t["cpu"] for t in row["shared"].values()) / unit
            bars.append({"factors and bases": basis, **parts})
            labels.append(f"{WAYS[way]}\nM = {M}")
    start = [0.0] * len(bars)
    for name in bars[0]:
        widths = [bar[name] for bar in bars]
        axes.barh(labels, widths, left=start, label=name)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    axes.axvline(5, color="black", linestyle=":", label="wanted")
    axes.invert_yaxis()
    axes.set_xlabel("passes, by CPU seconds")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _case(case: Case, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    network, images, others, labels = _problem(case)
    linearized = Linearized(network)
    jacobian = NetworkJacobian(linearized, images, BATCH)
    target = 15.0 * F.one_hot(labels, case.outputs) - jacobian.base
    one_pass = _pass(jacobian, target, rounds)

    seen = images[torch.randperm(len(images))[:SEEN]]
    factors, made = timed(partial(kronecker_factors, network, seen, probes=1, batch=BATCH))
    coordinates, chosen = timed(partial(Coordinates, factors, COORDINATES, rest="dropped"))
    shared = {
        f"Kronecker factors of {len(seen)} training images": made,
        "eigenbases and coordinates": chosen,
    }
    rows = partial(coordinates.rows, network, batch=BATCH)
    train, walked = timed(partial(rows, images))
    mu = PrimalPath(train, target).choose().mu
    solution = solve_dual_pcg(
        jacobian,
        target,
        mu / len(images),
        preconditioner=KernelPreconditioner(train, mu, coordinates.missing / case.outputs),
        tolerance=TOLERANCE,
        max_passes=PASSES,
    )
    residuals = (target - jacobian.forward(solution.delta)).double()

    steps: dict[str, dict[str, Times]] = {"all": {"rows of the training images": walked}}
    scores: dict[str, dict[int, Tensor]] = {way: {} for way in WAYS}
    for way in WAYS:
        own = residuals
        if way == "few":
            combined, own = residual_probes(residuals, min(FEW, case.outputs))
            train, walked = timed(partial(rows, images, probes=combined))
            steps["few"] = {"rows of the training images": walked}
        missing = coordinates.missing / train.shape[1]
        make = partial(CompressedRidge, train, mu, missing)
        ridge, steps[way]["normal matrix and its root"] = timed(make)
        for M in case.evaluated:
            probes = "all" if way == "all" else min(FEW, case.outputs)
            asked, walked = timed(partial(rows, others[:M], probes=probes))
            steps[way][f"M = {M}: rows of the evaluation images"] = walked
            found, spent = timed(partial(ridge.informativeness, asked, own))
            steps[way][f"M = {M}: scores"] = spent
            scores[way][M] = found
    # Both on the images that kronfluence is asked about.
    queried = others[: case.queried]
    there = ridge.informativeness(rows(queried), own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations in libraries are theirs
        damping = mu / len(images)
        theirs, effects = pairwise(network, images, residuals, queried, damping, THEIR_BATCH)
    return {
        "case": f"{case.network}@{case.resolution}, N = {case.samples}, C = {case.outputs}, "
        f"P = {linearized.layout.size:,}",
        "passive": os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive",
        "mu": mu,
        "residual": solution.residual,
        "solver_passes": solution.passes,
        "pass": one_pass,
        "shared": shared,
        "steps": steps,
        "kronfluence": theirs,
        "queried": case.queried,
        "evaluated": list(case.evaluated),
        "outputs": case.outputs,
        "totals": {
            str(M): _totals(M, case, shared, steps, theirs, one_pass) for M in case.evaluated
        },
        "few_beside_all": {
            str(M): _alike(scores["few"][M], scores["all"][M]) for M in case.evaluated
        },
        "beside_kronfluence": _alike(there, effects),
        "exact": _exact(case, network, images, others, target),
        "beside_residual": _alike(residuals.square().sum(1), scores["all"][max(case.evaluated)]),
    }


def _exact(
    case: Case, network: nn.Module, images: Tensor, others: Tensor, target: Tensor
) -> dict[str, float]:
    """Rank correlation with exact F-SI in a problem of a few of the images."""
    N, M = case.exact
    images, others, target = images[:N], others[:M], target[:N]
    linearized = Linearized(network)
    gram = linearized.gram(images, batch=BATCH).double()
    cross = linearized.gram(others, images, batch=BATCH).double()
    mu = RidgePath(gram, target).choose().mu
    exact = functional_sample_information(gram, cross, target, mu)
    residuals = DualRidge(gram, target, mu).residuals()
    factors = kronecker_factors(network, images, probes=1, batch=BATCH)
    coordinates = Coordinates(factors, COORDINATES, rest="dropped")
    count = min(FEW, case.outputs)
    combined, own = residual_probes(residuals, count)
    found = {"N": float(N), "residual": _alike(residuals.square().sum(1), exact)}
    for way, train, asked, r in (("all", "all", "all", residuals), ("few", combined, count, own)):
        held = coordinates.rows(network, images, probes=train, batch=BATCH)
        ridge = CompressedRidge(held, mu, coordinates.missing / held.shape[1])
        rows = coordinates.rows(network, others, probes=asked, batch=BATCH)
        found[way] = _alike(ridge.informativeness(rows, r), exact)
    return found


def _totals(
    M: int,
    case: Case,
    shared: dict[str, Times],
    steps: dict[str, dict[str, Times]],
    theirs: dict[str, Times],
    one_pass: Times,
) -> dict[str, Any]:
    """Seconds of both for M evaluation images, lqf's in passes, and the ratios."""
    batches = M / case.queried
    found: dict[str, Any] = {
        "batches": batches,
        "kronfluence": {
            kind: theirs["factors"][kind] + batches * theirs["scores"][kind] for kind in KINDS
        },
    }
    for way, measured in steps.items():
        mine = [t for name, t in measured.items() if "M =" not in name or f"M = {M}:" in name]
        total = {kind: sum(t[kind] for t in [*shared.values(), *mine]) for kind in KINDS}
        found[way] = {
            **total,
            "passes": total["cpu"] / one_pass["cpu"],
            "ratio": {kind: found["kronfluence"][kind] / total[kind] for kind in KINDS},
        }
    return found


def _pass(jacobian: NetworkJacobian, target: Tensor, rounds: int) -> Times:
    """The pass over all training samples that took the least CPU time; one more warms up."""
    delta = torch.randn(jacobian.size) * 1e-3
    run = partial(jacobian.pass_, delta, lambda change, rows: change - target[rows])
    return min((timed(run)[1] for _ in range(1 + rounds)), key=lambda times: times["cpu"])


def _alike(first: Tensor, second: Tensor) -> float:
    return float(spearmanr(first.numpy(), second.numpy()).statistic)


def _problem(case: Case) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The network; training and evaluation images of a few blurred colours; training labels."""
    from torchvision import models

    made = models.get_model(case.network, weights=None, num_classes=case.outputs)
    N, C = case.samples, case.outputs
    labels = torch.arange(N + max((*case.evaluated, case.queried))) % C
    coarse = torch.randn(C, 3, 4, 4)[labels] + torch.randn(len(labels), 3, 4, 4)
    size = (case.resolution, case.resolution)
    every = F.interpolate(coarse, size=size, mode="bilinear")
    every += 0.2 * torch.randn_like(every)
    return fold_batch_norm(made.eval()), every[:N], every[N:], labels[:N]


def _cells(times: dict[str, Any]) -> list[str]:
    return [f"{times[kind]:.1f}" for kind in KINDS]
