"""Data attribution on the field's yardstick: linear datamodeling scores, and flipped labels found.

The linear datamodeling score (Park et al. 2023) trains on random halves of the training set and asks, for
every test image, how well the sum of the scores of the images that were trained on ranks the outputs of
these models.  Halves are fitted by exact LQF at the constants of the whole set, and by non-linear
fine-tuning; scores are LQF's leave-one-out influence and those of TRAK on the fine-tuned network.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn

from benchmarks import realbench
from benchmarks.machine import grouped, table, told
from benchmarks.realbench import Sizes
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.grid import Point
from lqf.experiments.nonlinear import Schedule, outputs_of, train_network
from lqf.experiments.task import Split, Task
from lqf.losses import CrossEntropy
from lqf.method import get
from lqf.optimum import SmallOptimum

TITLE = "Attribution: linear datamodeling score, and flipped labels"
# Seeds.
ROUNDS = 1
#: Data set -> training images of a class; the kernel of each is held.
SETS = {"intel_scenes_6": 20, "chest_xray_2": 60, "dtd_10": 10}
NETWORK, RESOLUTION = "squeezenet1_1", 64
#: Halves that are fitted by LQF, and those of them that are fine-tuned.
HALVES, FINE_TUNED = 100, 50
FLIPPED, FOLDS = 0.1, 5
#: Dimensions of TRAK's random projection; fewer than images, as its paper has it.
PROJECTED = 32


def measure(rounds: int = ROUNDS, small: bool = False) -> list[dict[str, Any]]:
    """One row a data set, seed, and what is asked.

    Args:
        rounds: seeds.
        small: one data set, a few images.
    """
    rows = []
    for name, count in list(SETS.items())[: 1 if small else None]:
        for seed in range(rounds):
            sizes = Sizes(4 if small else count, 1, 3 if small else 20)
            task = realbench.load(name, sizes, RESOLUTION, seed)
            about = {"data": name, "seed": seed, "images": len(task.train), "classes": task.classes}
            found = _datamodels(task, seed, small) + _flipped(task, seed, small)
            rows += [{**about, **one} for one in found]
            print(*rows[-len(found) :], sep="\n", flush=True)
    return rows


def _exact(task: Task, seed: int) -> SmallOptimum:
    images = task.train.images[:]
    network = realbench.network(NETWORK, task.classes, "leaky_relu", 0.1, seed, images)
    problem = ExactProblem(get("lqf_exact"), network, task, 15.0, fold=True)
    found = problem.optimum(Point(0.0, tolerance=1e-2, max_passes=50), seed)
    if not isinstance(found, SmallOptimum):
        raise TypeError(
            f"the kernel of {len(images)} images and {task.classes} classes is not held."
        )
    return found


def _tuned(task: Task, seed: int, small: bool) -> nn.Module:
    images = task.train.images[:]
    network = realbench.network(NETWORK, task.classes, "relu", 0.0, seed, images)
    schedule = Schedule(0.01, 1e-4, 32, 1 if small else 20, batch_norm="frozen")
    train_network(network, images, task.train.labels, CrossEntropy(), schedule, seed)
    return network


def _datamodels(task: Task, seed: int, small: bool) -> list[dict[str, Any]]:
    """The scores' rank correlation with what models of half the images say."""
    N, labels = len(task.train), task.test.labels
    started = time.process_time()
    optimum = _exact(task, seed)
    test = task.test.images[:]
    cross = optimum.kernel(test)
    influence = optimum.ridge.respond(cross, optimum.ridge.leave_one_out())
    ours = torch.stack([_margin(one, labels) for one in influence.unbind(1)], 1)
    seconds = {"lqf": time.process_time() - started}
    started = time.process_time()
    trak = _trak(_tuned(task, seed, small), task)
    seconds["trak"] = time.process_time() - started
    generator = torch.Generator().manual_seed(seed)
    halves = [
        torch.randperm(N, generator=generator)[: N // 2].sort().values
        for _ in range(4 if small else HALVES)
    ]

    def refitted(half: Tensor) -> Tensor:
        gone = torch.ones(N, dtype=torch.bool)
        gone[half] = False
        ridge = optimum.ridge.remove(gone.nonzero().squeeze(1))
        return _margin(ridge.predict(cross[:, optimum.ridge.rows(half)]), labels)

    def fine_tuned(half: Tensor) -> Tensor:
        part = replace(task, train=task.train.select(half))
        logits = outputs_of(_tuned(part, seed, small), task.test.images)
        rest = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
        return logits.gather(1, labels[:, None])[:, 0] - rest

    models: dict[str, tuple[Callable[[Tensor], Tensor], list[Tensor]]] = {
        "LQF's own": (refitted, halves),
        "fine-tuned": (fine_tuned, halves[: 2 if small else FINE_TUNED]),
    }
    rows = []
    for name, (model, used) in models.items():
        said = torch.stack([model(half) for half in used])
        for method, scores in (("lqf", ours), ("trak", trak)):
            predicted = torch.stack([scores[:, half].sum(1) for half in used])
            rows.append(
                {
                    "asked": "lds",
                    "models": name,
                    "halves": len(used),
                    "method": method,
                    "value": _score(predicted, said),
                    "cpu_s": seconds[method],
                }
            )
    return rows


def _margin(outputs: Tensor, labels: Tensor) -> Tensor:
    """The output of the right class less the mean of the others, M."""
    right = outputs.gather(1, labels[:, None])[:, 0]
    return right - (outputs.sum(1) - right) / (outputs.shape[1] - 1)


def _score(predicted: Tensor, said: Tensor) -> float:
    """Mean over test images of Spearman's correlation over models; both models × M."""
    each = [float(spearmanr(a, b).statistic) for a, b in zip(predicted.T, said.T, strict=True)]
    return statistics.mean(each)


def _trak(network: nn.Module, task: Task) -> Tensor:
    """Scores of one model (Park et al. 2023, eq. 13), M × N: ``φ_tᵀ (ΦᵀΦ)⁻¹ φ_i (1 − p_i)``."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(size, PROJECTED, generator=generator) / PROJECTED**0.5

    def projected(split: Split) -> tuple[Tensor, Tensor]:
        rows, sure = [], []
        for image, label in zip(split.images[:], split.labels, strict=True):
            logits = network(image[None])[0]
            others = torch.cat([logits[:label], logits[label + 1 :]]).logsumexp(0)
            gradients = torch.autograd.grad(logits[label] - others, parameters)
            rows.append(torch.cat([g.reshape(-1) for g in gradients]) @ projection)
            sure.append(logits.softmax(0)[label].detach())
        return torch.stack(rows).double(), torch.stack(sure).double()

    train, sure = projected(task.train)
    test, _ = projected(task.test)
    return (test @ torch.linalg.solve(train.T @ train, train.T)) * (1 - sure)


def _flipped(task: Task, seed: int, small: bool) -> list[dict[str, Any]]:
    """How well the confidence in the given label finds labels that were flipped."""
    N, generator = len(task.train), torch.Generator().manual_seed(seed)
    wrong = torch.zeros(N, dtype=torch.bool)
    wrong[torch.randperm(N, generator=generator)[: max(1, round(FLIPPED * N))]] = True
    shift = torch.randint(1, task.classes, (N,), generator=generator)
    labels = torch.where(wrong, (task.train.labels + shift) % task.classes, task.train.labels)
    noisy = replace(task, train=replace(task.train, labels=labels))
    folds = torch.randperm(N, generator=generator) % FOLDS
    started = time.process_time()
    optimum = _exact(noisy, seed)
    left_out = optimum.problem.target.double() - optimum.leave_one_out().residuals
    alone = time.process_time() - started
    groups = [(folds == fold).nonzero().squeeze(1) for fold in range(FOLDS)]
    by_folds = optimum.problem.target.double() - optimum.leave_one_out(groups).residuals
    found = [
        ("lqf, leave-one-out", _margin(left_out, labels), alone),
        ("lqf, 5 folds of the same optimum", _margin(by_folds, labels), alone),
    ]
    started = time.process_time()
    sure = torch.zeros(N)
    for group in groups:
        rest = torch.ones(N, dtype=torch.bool)
        rest[group] = False
        part = replace(noisy, train=noisy.train.select(rest.nonzero().squeeze(1)))
        logits = outputs_of(_tuned(part, seed, small), noisy.train.select(group).images)
        sure[group] = logits.softmax(1).gather(1, labels[group, None])[:, 0]
    found.append(("fine-tuned, 5 folds", sure, time.process_time() - started))
    return [
        {
            "asked": "flipped",
            "method": name,
            "value": _auc(-values, wrong),
            "missed": float((~_lowest(values, int(wrong.sum())))[wrong].double().mean()),
            "cpu_s": seconds,
        }
        for name, values, seconds in found
    ]


def _lowest(values: Tensor, number: int) -> Tensor:
    marked = torch.zeros(len(values), dtype=torch.bool)
    marked[values.argsort()[:number]] = True
    return marked


def _auc(values: Tensor, positive: Tensor) -> float:
    """Probability that a positive has the larger value."""
    ranks, n = torch.from_numpy(rankdata(values.numpy())), int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(values) - n)))


def markdown(result: dict[str, Any]) -> str:
    """Two tables: scores, and flipped labels."""
    scores = [
        [
            *(data, group[0]["images"], models, group[0]["halves"], method),
            *(f"{_mean(group, 'value'):.2f}", f"{_mean(group, 'cpu_s'):.0f}"),
        ]
        for (data, models, method), group in _asked(result, "lds", "data", "models", "method")
    ]
    flipped = [
        [
            *(data, group[0]["images"], method, f"{_mean(group, 'value'):.3f}"),
            *(f"{_mean(group, 'missed'):.2f}", f"{_mean(group, 'cpu_s'):.0f}"),
        ]
        for (data, method), group in _asked(result, "flipped", "data", "method")
    ]
    head = [
        "data set",
        "images",
        "halves of",
        "halves",
        "method",
        "linear datamodeling score",
        "CPU s",
    ]
    lines = [
        f"# {result['title']}",
        "",
        told(result),
        "",
        (
            f"{NETWORK} at {RESOLUTION} pixels, seeds: {result['rounds']}. TRAK has one model and "
            f"{PROJECTED} dimensions; fine-tuning has one rate (0.01) and 20 epochs, and nothing searched."
        ),
        "",
        *table(head, scores),
        "",
        (
            f"Of {100 * FLIPPED:.0f} % flipped labels: area under the ROC curve of the confidence in the "
            "given label, and the share that is not among as many of the least confident."
        ),
        "",
        *table(["data set", "images", "confidence by", "AUC", "missed", "CPU s"], flipped),
    ]
    return "\n".join(lines) + "\n"


def _asked(result: dict[str, Any], asked: str, *keys: str) -> Iterable[tuple[Any, list[Any]]]:
    return grouped((row for row in result["rows"] if row["asked"] == asked), *keys).items()


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def plot(result: dict[str, Any]) -> Figure:
    """Both yardsticks, a group of bars a data set."""
    frame = pd.DataFrame(result["rows"])
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    scores = frame[frame["asked"] == "lds"].copy()
    scores["score"] = scores["method"] + ", halves of " + scores["models"]
    sns.barplot(scores, x="data", y="value", hue="score", ax=axes[0])
    axes[0].set(xlabel="", ylabel="linear datamodeling score")
    sns.barplot(frame[frame["asked"] == "flipped"], x="data", y="value", hue="method", ax=axes[1])
    axes[1].set(xlabel="", ylabel="AUC of flipped labels", ylim=(0.5, 1))
    for each in axes:
        each.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
