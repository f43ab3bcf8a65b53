"""Preconditioners of conjugate gradients: passes until the residual and the outputs are there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from benchmarks import real, realbench
from benchmarks.cells import cell
from benchmarks.machine import line
from benchmarks.realbench import Absent, Sizes
from lqf.curvature import Coordinates, Preconditioner, eigenvalue_correction, kronecker_factors
from lqf.experiments.nonlinear import Schedule, train_network
from lqf.linear import DenseJacobian, Linearized
from lqf.losses import CrossEntropy
from lqf.method import get
from lqf.networks import build, fold_batch_norm
from lqf.solve import KernelPreconditioner, Solution, solve_dual_pcg, solve_pcg

TITLE = "Preconditioners: passes to the optimum of exact LQF"
ROUNDS = 1
SLOPE, TARGET_SCALE = 0.1, 15.0
# μ / N.
RIDGES = (1e-1, 1e-3)
TOLERANCE, CLOSE, LONG = 1e-3, 0.01, 60
# Coordinates and rank as parts of NC; the rank is paid for with as many passes.
COORDINATES = {"quarter": 0.25, "one": 1.0, "four": 4.0}
RANK = 32
REAL = ("intel_scenes_6", Sizes(11, 1, 6))
# Work of a pass (f0 and J along δ with it, and Jᵀr) is 5 forward passes: 1 + 2 + 2.
PASS = 5.0
NAMES = {
    "none": "none",
    "kfac": "K-FAC, one probe",
    "ekfac": "EKFAC",
    "nystrom": f"Nyström of K, rank {RANK}",
    "quarter": "largest coordinates, k = NC/4",
    "one": "largest coordinates, k = NC",
    "four": "largest coordinates, k = 4 NC",
}

Problem = tuple[nn.Module, Tensor, Tensor, Tensor]


def demo(small: bool) -> Problem:
    """The demo network, pre-trained on rendered Cyrillic letters, on Greek ones."""
    from lqf.data.packed import PackedDataset
    from lqf.data.prepare import prepare

    def split(name: str, folder: Path, part: str, count: int | None) -> tuple[Tensor, Tensor]:
        data = PackedDataset.load(folder / name)
        rows = data.subset(part, per_class=count, seed=0)
        images, labels = data.tensors(rows)
        return images, torch.as_tensor(labels)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dataset in ("cyrillic", "greek"):
            prepare(dataset, folder / dataset, 24)
        images, labels = split("cyrillic", folder, "train", None)
        torch.manual_seed(0)
        made = build("demo_resnet", 12, activation="leaky_relu", slope=SLOPE, seed=0)
        schedule = Schedule(0.05, 5e-4, 32, 2 if small else 15)
        train_network(made, images, labels, CrossEntropy(), schedule, 0, None)
        network = build("demo_resnet", 12, activation="leaky_relu", slope=SLOPE, seed=1)
        network.features.load_state_dict(made.features.state_dict())
        images, labels = split("greek", folder, "train", 2 if small else 10)
        test, _ = split("greek", folder, "test", 1 if small else 4)
    return fold_batch_norm(network.eval()), images, labels, test


def photographs(small: bool) -> Problem:
    """SqueezeNet with ImageNet weights on small photographs."""
    name, sizes = REAL
    task = realbench.load(name, Sizes(3, 1, 2) if small else sizes, real.RESOLUTION, 0)
    network = realbench.network(
        real.NETWORK, task.classes, get("lqf_exact").activation, SLOPE, 0, task.train.images
    )
    return fold_batch_norm(network), task.train.images, task.train.labels, task.test.images


def nystrom(jacobian: DenseJacobian, mu: float, rank: int) -> KernelPreconditioner:
    """The randomised Nyström approximation of K (Frangella, Tropp & Udell 2023), from rank passes."""
    count = jacobian.samples * jacobian.outputs
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    probes = torch.linalg.qr(probes)[0]
    images = [
        jacobian.forward(jacobian.pull(p.reshape(jacobian.base.shape).to(jacobian.base)))
        for p in probes.T
    ]
    sketch = torch.stack([image.reshape(-1).double() for image in images], 1)
    shift = 1e-6 * float(sketch.norm())
    sketch += shift * probes
    factor = torch.linalg.cholesky(probes.T @ sketch)
    U, S, _ = torch.linalg.svd(
        torch.linalg.solve_triangular(factor, sketch.T, upper=False).T, full_matrices=False
    )
    values = (S.square() - shift).clamp(min=0)
    rows = (U * values.sqrt()).reshape(jacobian.samples, jacobian.outputs, -1)
    # Outside its range the kernel counts as its smallest eigenvalue there.
    return KernelPreconditioner(rows, mu, float(values[-1]), share=1.0)


def curves(make: partial[Problem]) -> dict[str, Any]:
    """Every preconditioner at every ridge constant, on one problem."""
    network, images, labels, test = make()
    linearized = Linearized(network)
    base = linearized.outputs(images)
    N, C = base.shape
    jacobian = DenseJacobian(linearized.jacobian(images), base)
    others = DenseJacobian(linearized.jacobian(test), linearized.outputs(test))
    target = TARGET_SCALE * one_hot(labels, C).to(base) - base
    gram = jacobian.gram().double()
    factors = kronecker_factors(network, images, linearized.layout.names, probes=1)
    eigenvalues = eigenvalue_correction(network, images, factors)
    found: list[dict[str, Any]] = []
    kept = {}
    for kind, share in COORDINATES.items():
        coordinates = Coordinates(factors, round(share * N * C), rest="dropped")
        rows = coordinates.rows(network, images)
        kept[kind] = rows, coordinates.missing / C
    for ridge in RIDGES:
        mu = N * ridge
        shifted = gram + mu * torch.eye(N * C, dtype=torch.float64)
        exact = torch.linalg.solve(shifted, target.reshape(-1).double()).reshape(N, C)
        optimum = others.forward(jacobian.pull(exact.to(base)))
        for kind in NAMES:
            apart: list[tuple[float, int]] = []
            on_pass = partial(_distance, apart, others, optimum)
            solution = _solve(
                kind, jacobian, target, ridge, (factors, eigenvalues, kept), linearized, on_pass
            )
            dual = kind in kept or kind == "nystrom"
            # Factors: forward, and backward for one probe; eigenvalues the same; rows: C probes.
            setup = {"none": 0.0, "kfac": 2.0, "ekfac": 4.0, "nystrom": 6.0 * RANK}
            work = setup.get(kind, 2.0 + 1.0 + C) / PASS
            steps = {
                "residual": _first(
                    [row["residual"] <= TOLERANCE for row in solution.history]
                    if solution.converged
                    else []
                ),
                "outputs": _first([distance <= CLOSE for distance, _ in apart]),
                "labels": _first([wrong == 0 for _, wrong in apart]),
            }
            found.append(
                {
                    "ridge": ridge,
                    "kind": kind,
                    "residual": solution.residual,
                    "iterations": steps,
                    "setup": work,
                    "of_iteration": 6.0 / PASS if dual else 1.0,
                    "outputs": [distance for distance, _ in apart],
                }
            )
    sizes = {"N": N, "C": C, "P": linearized.layout.size}
    return {"sizes": sizes, "curves": found}


def _solve(
    kind: str,
    jacobian: DenseJacobian,
    target: Tensor,
    ridge: float,
    made: tuple[Any, Any, dict[str, tuple[Tensor, float]]],
    linearized: Linearized,
    on_pass: Any,
) -> Solution:
    factors, eigenvalues, kept = made
    mu = jacobian.samples * ridge
    options: dict[str, Any] = {
        "tolerance": TOLERANCE,
        "max_passes": LONG + 3,
        "on_pass": on_pass,
    }
    if kind in kept or kind == "nystrom":
        M = nystrom(jacobian, mu, RANK) if kind == "nystrom" else None
        if M is None:
            rows, missing = kept[kind]
            M = KernelPreconditioner(rows, mu, missing)
        return solve_dual_pcg(jacobian, target, ridge, preconditioner=M, **options)
    preconditioner = None
    if kind != "none":
        values = eigenvalues if kind == "ekfac" else None
        preconditioner = Preconditioner(factors, linearized.layout, ridge, values)
    return solve_pcg(jacobian, target, ridge, preconditioner=preconditioner, **options)


def _distance(
    apart: list[tuple[float, int]],
    others: DenseJacobian,
    optimum: Tensor,
    iteration: int,
    delta: Tensor,
) -> None:
    change = others.forward(delta)
    wrong = (others.base + change).argmax(1) != (others.base + optimum).argmax(1)
    apart.append((float((change - optimum).norm() / optimum.norm()), int(wrong.sum())))


def _first(reached: list[bool]) -> int | None:
    """The iteration from which on all is true; None if the last is not."""
    step = None
    for number, true in reversed(list(enumerate(reached, 1))):
        if not true:
            break
        step = number
    return step


def _cases(small: bool) -> Iterator[tuple[str, partial[Problem]]]:
    yield "demo network, Greek letters", partial(demo, small)
    try:
        realbench.folder()
    except Absent:
        return
    yield f"{real.NETWORK}, {REAL[0]}, {real.RESOLUTION} px", partial(photographs, small)


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row a problem; the real one only where its images and weights are at hand."""
    return [
        {"case": case}
        | cell({"benchmark": "preconditioner", "case": case, "small": small}, partial(curves, make))
        for case, make in _cases(small)
    ]


def markdown(result: dict[str, Any]) -> str:
    """Iterations, and all work in passes."""
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"# {result['title']}", "", f"Machine: {machine}.", ""]
    lines += [
        (
            f"Squared loss with α = {TARGET_SCALE:g}, all parameters linearised, batch norm folded; the "
            "optimum is that of the Gram matrix in float64. Iterations until the relative residual is "
            f"{TOLERANCE:g}, until the outputs on test images are within {100 * CLOSE:g} % of the "
            "optimum's, and until every test image has the optimum's label. *Work* is everything until "
            "that residual in passes, each of 5 forward passes' work: K-FAC and EKFAC take one and two "
            "data passes with one probe, the coordinates one for the factors and one with C probes, "
            "Nyström one product with K for each of its rank; an iteration in the dual (all but the first three) takes 6/5."
        )
    ]
    for row in result["rows"]:
        sizes = ", ".join(f"{key} = {value:,}" for key, value in row["sizes"].items())
        lines += ["", f"**{row['case']}** ({sizes})", ""]
        head = ["μ/N", "preconditioner", "residual", "outputs", "labels", "set-up", "work"]
        lines += [line(head), line(["---"] * len(head))]
        for curve in row["curves"]:
            steps = curve["iterations"]
            cells = [f"> {LONG}" if steps[k] is None else str(steps[k]) for k in steps]
            work = "—"
            if steps["residual"] is not None:
                work = f"{curve['setup'] + steps['residual'] * curve['of_iteration']:.1f}"
            name = NAMES[curve["kind"]]
            lines.append(line([f"{curve['ridge']:g}", name, *cells, f"{curve['setup']:.1f}", work]))
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Distance of the outputs against work, one panel a problem and ridge constant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    figure, panels = plt.subplots(
        len(rows),
        len(RIDGES),
        figsize=(4.5 * len(RIDGES), 3.4 * len(rows) + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for line_of, row in zip(panels, rows, strict=True):
        for axes, ridge in zip(line_of, RIDGES, strict=True):
            for curve in row["curves"]:
                if curve["ridge"] == ridge:
                    steps = range(1, len(curve["outputs"]) + 1)
                    work = [curve["setup"] + s * curve["of_iteration"] for s in steps]
                    axes.semilogy(work, curve["outputs"], label=NAMES[curve["kind"]])
            axes.axhline(CLOSE, color="k", lw=0.8, ls=":")
            axes.set_title(f"{row['case']}, μ/N = {ridge:g}", fontsize="small")
            axes.set_xlabel("work in passes, set-up included")
            axes.set_ylabel("distance of test outputs")
            axes.set_xlim(0, 70)
            axes.set_ylim(1e-4, 3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
