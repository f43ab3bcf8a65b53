"""Which training images to keep: by F-SI, at random, by k-centre, by herding; and what exact LQF then does."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from lqf.checkpoint import Points
from lqf.data.packed import PackedDataset
from lqf.experiments.exact_problem import ExactProblem
from lqf.experiments.informativeness import Model, iterated
from lqf.experiments.rows import Row, describe
from lqf.experiments.task import Settings, Task, build_network, load_task
from lqf.experiments.train import method_of, problem_of


def summary(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> list[Row]:
    """Keep a share of the training images in five orders, and measure the optimum of what is kept.

    Every data set has ``images`` training images, as many of each class, and at most as many validation
    images, which F-SI averages over (labels unused). μ and the metric are those of all images. An order may
    lose a class: ``classes_kept`` counts those that have an image.
    Arguments and rows as in `lqf.experiments.train.train`.

    Raises:
        TypeError: if the method is not solved exactly.
    """
    experiment, method = settings["experiment"], method_of(name, settings)
    task, problem = few_images(name, dataset, seed, data, weights, settings)
    started = time.perf_counter()
    model, images, labels = (
        Model(problem, task, settings, seed),
        task.train.images[:],
        task.train.labels,
    )
    network = build_network(method, weights, task.classes, images, settings, seed)
    with torch.no_grad():
        features = F.normalize(network.embed(images).double(), dim=1)
    count = len(task.train)
    known = Points(f"{dataset} {name} seed {seed}, summary")
    random = torch.Generator().manual_seed(seed)
    orders = {
        "fsi": model.ranking().argsort(descending=True),
        "fsi_again": iterated(model, known, count, count, "least").flip(0),
        "random": torch.randperm(count, generator=random),
        "k_centre": k_centre(features),
        "herding": herding(features, labels),
    }
    rows: list[Row] = []
    for order, places in orders.items():
        for share in experiment["keep"]:
            kept = places[: max(1, round(share * count / 100))].sort().values.to(labels.device)
            train_err, test_err = model.errors(kept)
            rows.append(
                {
                    **describe(name, method, task, settings, seed),
                    "experiment": "summary",
                    "order": order,
                    "share": share,
                    "n_train": len(kept),
                    "classes_kept": len(labels[kept].unique()),
                    "mu": model.mu,
                    "train_err": train_err,
                    "test_err": test_err,
                    "status": "ok",
                    "wall_s": time.perf_counter() - started,
                }
            )
    return rows


def few_images(
    name: str, dataset: str, seed: int, data: Path, weights: Path, settings: Settings
) -> tuple[Task, ExactProblem]:
    """The task with ``images`` training images, as many of each class, and its problem; arguments as in `summary`.

    Raises:
        TypeError: if the method is not solved exactly.
    """
    method = method_of(name, settings)
    classes = len(PackedDataset.load(data).only(settings.get("classes")).classes)
    per_class = max(1, settings["experiment"]["images"] // classes)
    task = load_task(data, dataset, per_class, settings, seed)
    problem = problem_of(method, task, weights, settings, seed)
    if not isinstance(problem, ExactProblem):
        raise TypeError(f"{name} is not solved exactly; images are chosen by an exact optimum.")
    return task, problem


def k_centre(features: Tensor) -> Tensor:
    """The greedy k-centre order (Gonzalez 1985; Sener and Savarese 2018), N: each next one is the farthest from all before.

    Args:
        features: N × F; the first is the one nearest to their mean, so that nothing is drawn.
    """
    chosen = [int((features - features.mean(0)).norm(dim=1).argmin())]
    nearest = torch.full_like(features[:, 0], torch.inf)
    while len(chosen) < len(features):
        nearest = nearest.minimum((features - features[chosen[-1]]).norm(dim=1))
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def herding(features: Tensor, labels: Tensor) -> Tensor:
    """The order of herding (Welling 2009) as in iCaRL (Rebuffi et al. 2017), N: class by class.

    In a class each next one brings the mean of those chosen nearest to that of the class; the first ones of all
    classes come first, then the second ones.

    Args:
        features: N × F.
        labels: N.
    """
    ranks = torch.empty(len(labels))
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        left, total, mean = own.tolist(), torch.zeros_like(features[0]), features[own].mean(0)
        for rank in range(len(own)):
            means = (total + features[left]) / (rank + 1)
            place = left.pop(int((means - mean).norm(dim=1).argmin()))
            total, ranks[place] = total + features[place], rank
    return ranks.argsort(stable=True)
