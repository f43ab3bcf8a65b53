"""Do cheap scores rank real images as the exact ones do?"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks import real, realbench
from benchmarks.cells import cell
from benchmarks.machine import line
from benchmarks.realbench import Sizes
from lqf.curvature import Preconditioner, eigenvalue_correction, kronecker_factors
from lqf.experiments import problem as problems
from lqf.experiments.kernel import Kernel
from lqf.influence import (
    CompressedRidge,
    Coordinates,
    DualRidge,
    fsi_eq8,
    fsi_kfac,
    functional_sample_information,
    kfac_leave_one_out,
    leave_one_out_residuals,
)
from lqf.method import get
from lqf.solve import RidgePath

TITLE = "Ranks of real images: cheap scores beside exact ones"
# Seeds.
ROUNDS = 1
TARGET = 0.9
# The Jacobian of the training images is held in memory.
SETS = {
    "chest_xray_2": Sizes(120, 30, 1),
    "intel_scenes_6": Sizes(22, 8, 1),
    "dtd_10": Sizes(8, 5, 1),
}
BYTES = 3_000_000_000
COORDINATES = 2048
# What becomes of the coordinates beyond the largest.
RESTS: dict[str, Literal["dropped", "sampled"]] = {"largest": "dropped", "compressed": "sampled"}
MEASURES = {
    "fsi_largest": "F-SI, largest coordinates",
    "fsi_compressed": "F-SI, sampled coordinates",
    "fsi_kfac": "F-SI, K-FAC",
    "fsi_eq8": "F-SI, eq. 8 as printed",
    "loo_largest": "LOO, largest coordinates",
    "loo_compressed": "LOO, sampled coordinates",
    "loo_kfac": "LOO, K-FAC",
    "residual": "LOO, training residual",
}


def spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    """Rank correlation; without ties, which scores do not have."""
    ranks = [each.argsort().argsort().double() for each in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def scores(
    dataset: str, sizes: Sizes, seed: int, network: str, resolution: int
) -> dict[str, list[float]]:
    """Every score of every training image, and what they were made with."""
    task = realbench.load(dataset, sizes, resolution, seed)
    made = get("lqf_exact")
    start = realbench.network(
        network, task.classes, made.activation, real.SLOPE, seed, task.train.images
    )
    problem = problems.LinearProblem(made, start, task, real.TARGET_SCALE, fold=True)
    kernel = Kernel.of(problem)
    mu = RidgePath(kernel.gram, kernel.target).choose().mu
    cross = kernel.cross(task.val)
    gram, target = kernel.gram, kernel.target
    solution = DualRidge(gram, target, mu)
    residuals = solution.residuals()
    images = task.train.images
    factors = kronecker_factors(problem.network, images, problem.layout.names)
    eigenvalues = eigenvalue_correction(problem.network, images, factors)
    preconditioner = Preconditioner(factors, problem.layout, mu / len(images), eigenvalues)
    left = residuals.to(problem.jacobian.base.dtype)
    found = {}
    for name, rest in RESTS.items():
        coordinates = Coordinates(factors, COORDINATES, rest=rest, eigenvalues=eigenvalues)
        missing = coordinates.missing / task.classes
        compressed = CompressedRidge(coordinates.rows(problem.network, images), mu, missing)
        others = coordinates.rows(problem.network, task.val.images)
        found[f"fsi_{name}"] = compressed.informativeness(others, left)
        found[f"loo_{name}"] = compressed.leave_one_out(left).square().sum(1)
    found |= {
        "fsi_exact": functional_sample_information(gram, cross, target, mu),
        "fsi_kfac": fsi_kfac(problem.jacobian, preconditioner, left, problem.jacobian_of(task.val)),
        "fsi_eq8": fsi_eq8(gram, cross, target, mu),
        "loo_exact": leave_one_out_residuals(gram, target, mu).square().sum(1),
        "loo_kfac": kfac_leave_one_out(problem.jacobian, preconditioner, left).square().sum(1),
        "residual": residuals.square().sum(1),
        "leverage": solution.leverage().diagonal(dim1=1, dim2=2).mean(1),
    }
    return {name: values.tolist() for name, values in found.items()} | {"mu": [mu]}


def measure(
    rounds: int = ROUNDS, small: bool = False, *, network: str = real.NETWORK
) -> list[dict[str, Any]]:
    """Scores and rank correlations, one row a data set and seed.

    Raises:
        Absent: if the real images or weights are not at hand.
    """
    archives = realbench.folder() / "datasets"
    rows = []
    before, problems.DENSE_BYTES = problems.DENSE_BYTES, BYTES
    try:
        for dataset in (name for name in SETS if (archives / f"{name}.tar").is_file()):
            for seed in range(rounds):
                sizes = Sizes(4, 3, 1) if small else SETS[dataset]
                settings = {
                    "benchmark": "ranks",
                    "coordinates": [COORDINATES, RESTS, "missing"],
                    "dataset": dataset,
                    "sizes": asdict(sizes),
                    "seed": seed,
                    "network": network,
                    "resolution": real.RESOLUTION,
                    "square": realbench.SQUARE,
                }
                make = partial(scores, dataset, sizes, seed, network, real.RESOLUTION)
                found = {k: torch.tensor(v) for k, v in cell(settings, make).items()}
                exact = {"fsi": found["fsi_exact"], "loo": found["loo_exact"]}
                correlations = {
                    name: spearman(found[name], exact["fsi" if "fsi" in name else "loo"])
                    for name in MEASURES
                }
                rows.append(
                    {
                        "dataset": dataset,
                        "seed": seed,
                        "network": network,
                        "train": len(found["residual"]),
                        "mu": float(found["mu"]),
                        "leverage": float(found["leverage"].mean()),
                        "spearman": correlations,
                        "scores": {k: v.tolist() for k, v in found.items() if k != "mu"},
                    }
                )
    finally:
        problems.DENSE_BYTES = before
    return rows


def markdown(result: dict[str, Any]) -> str:
    """What was done, and the correlations."""
    rows = result["rows"]
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {machine}.", ""]
    lines += [
        (
            f"Spearman's rank correlation with the exact score, over the training images. "
            f"{rows[0]['network']} with ImageNet weights at {real.RESOLUTION} pixels, leaky slope "
            f"{real.SLOPE} by swap, all parameters linearised, μ by exact leave-one-out. Exact scores come "
            "from the Gram matrix in float64; F-SI averages over the validation images, LOO is the squared "
            f"leave-one-out residual. *Coordinates* keep every row of J in {COORDINATES:,} directions of "
            "the Kronecker eigenbasis: those of largest curvature, with the mean square of the others "
            "on the diagonal of the kernel; or those and a sample of the others, which makes the kernel "
            "right in expectation and each entry of it worse. *K-FAC* takes the eigenvalue-corrected "
            "factors, damping μ/N, for the inverse itself; factors are averages over the samples that "
            "compete with each other, and its ranks suffer. Eq. 8 has the exact inverse. The squared "
            f"training residual stands for no influence computation at all. Wanted: {TARGET}."
        ),
        "",
        line(["data set", "images", "μ", "mean leverage", *MEASURES.values()]),
        line(["---"] * (4 + len(MEASURES))),
    ]
    for row in rows:
        lines.append(
            line(
                [
                    f"{row['dataset']}, seed {row['seed']}",
                    row["train"],
                    f"{row['mu']:.3g}",
                    f"{row['leverage']:.2f}",
                    *(f"{row['spearman'][name]:.2f}" for name in MEASURES),
                ]
            )
        )
    lines += ["", "Sum of the approximate scores over that of the exact ones:", ""]
    shown = [name for name in MEASURES if name not in ("fsi_eq8", "residual")]
    lines += [line(["data set", *(MEASURES[name] for name in shown)])]
    lines += [line(["---"] * (1 + len(shown)))]
    for row in rows:
        total = {name: sum(values) for name, values in row["scores"].items()}
        ratios = [total[name] / total[f"{name[:3]}_exact"] for name in shown]
        cells = [f"{ratio:.2f}" for ratio in ratios]
        lines.append(line([f"{row['dataset']}, seed {row['seed']}", *cells]))
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Approximate scores against the exact ones, one column a data set and seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    figure, panels = plt.subplots(
        2, len(rows), figsize=(3.3 * len(rows), 6), squeeze=False, layout="constrained"
    )
    names = {"fsi": "F-SI", "loo": "squared leave-one-out residual"}
    for column, row in zip(panels.T, rows, strict=True):
        for axes, kind in zip(column, names, strict=True):
            exact = row["scores"][f"{kind}_exact"]
            for way, title in (("kfac", "K-FAC"), ("largest", "largest coordinates")):
                rho = row["spearman"][f"{kind}_{way}"]
                axes.plot(
                    exact,
                    row["scores"][f"{kind}_{way}"],
                    ".",
                    ms=4,
                    label=f"{title}: {rho:.2f}",
                )
            axes.plot(exact, exact, "k-", lw=0.4)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(f"{names[kind]}, exact")
            axes.set_ylabel("approximate")
            axes.legend(title="Spearman", fontsize="x-small", title_fontsize="x-small")
            axes.set_title(row["dataset"], fontsize="medium")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
