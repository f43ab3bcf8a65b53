"""A fitted estimator as a file, and back."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lqf.fitted import stored
from lqf.fitted.exact import ExactOptimum
from lqf.fitted.iterative import IterativeOptimum
from lqf.fitted.optimum import Certificate, Optimum
from lqf.fitted.options import choose_device
from lqf.fitted.start import start_network
from lqf.influence import DualRidge
from lqf.linear import Linearized
from lqf.solve import RidgeChoice

if TYPE_CHECKING:
    from lqf.estimator import LQF

# Options that a file does not hold: the network is known by its name and its weights.
_UNSAVED = ("network", "device")


def write_model(model: LQF, path: str | os.PathLike[str], training_set: bool) -> None:
    """Write a fitted model; see `LQF.save`.

    Args:
        model: the model.
        path: the file.
        training_set: keep images and labels too.
    """
    tensors = {f"network/{k}": v for k, v in model.network_.state_dict().items()}
    tensors["delta"] = model.delta_
    optimum = model._optimum if training_set else None
    if optimum is not None:
        tensors["images"], tensors["labels"] = optimum.problem.images, optimum.problem.labels
    elif model._optimum is not None:
        model.temperature_  # noqa: B018  (it could not be found without the training set)
    if isinstance(optimum, ExactOptimum):
        tensors["gram"], tensors["base"] = optimum.solution.gram, optimum.base
    choice = model.ridge_choice_
    if choice is not None:
        tensors["mus"], tensors["scores"] = choice.mus, choice.scores
    about = {
        "options": {k: v for k, v in model.get_params(deep=False).items() if k not in _UNSAVED},
        "network": model.network if isinstance(model.network, str) else None,
        "frozen": model._frozen,
        "trained": model._linearized.layout.names,
        "mu": model.mu_,
        "at_edge": None if choice is None else choice.at_edge,
        "temperature": model._temperature,
        "exact": model.exact_,
        "certificate": asdict(model.certificate_),
    }
    stored.write(path, tensors, about)


def read_model(
    kind: type[LQF],
    path: str | os.PathLike[str],
    network: nn.Module | None,
    device: str | torch.device,
) -> LQF:
    """Read a model written by `write_model`; see `LQF.load`.

    Args:
        kind: the class to make.
        path: the file.
        network: a module of the architecture that was fitted, where it has no name.
        device: as in the constructor.

    Returns:
        The fitted model.

    Raises:
        ValueError: if the file is no saved model, or the network is missing or another one.
    """
    tensors, about = stored.read(path)
    if network is None and about["network"] is None:
        raise ValueError(
            f"{os.fspath(path)} was fitted on a module, whose code is not in the file; give a "
            "module of the same architecture: LQF.load(path, network)."
        )
    model = kind(network or about["network"], device=device, **about["options"])
    at = choose_device(device)
    options = model.get_params(deep=False)
    start, frozen = start_network(model.network, options, pretrained=False, frozen=about["frozen"])
    weights = (v for k, v in tensors.items() if k.startswith("network/"))
    start = start.to(next(v.dtype for v in weights if v.is_floating_point()))
    stored.restore_weights(start, tensors, path)
    tensors = {k: v.to(at) for k, v in tensors.items()}
    certificate, choice = Certificate(**about["certificate"]), None
    if "mus" in tensors:
        curve = (tensors["mus"].cpu(), tensors["scores"].cpu())
        choice = RidgeChoice(about["mu"], *curve, about["at_edge"])
    linearized = Linearized(start.to(at), about["trained"])
    model._show(linearized, tensors["delta"], about["mu"], certificate, choice)
    model.exact_, model._frozen = about["exact"], frozen
    model._temperature = about["temperature"]
    model._optimum = _optimum(model, tensors)
    return model


def _optimum(model: LQF, tensors: dict[str, Tensor]) -> Optimum | None:
    if "images" not in tensors:
        return None
    problem = model._problem(model._linearized, tensors["images"], tensors["labels"])
    certificate, choice = model.certificate_, model.ridge_choice_
    if "gram" not in tensors:
        return IterativeOptimum(problem, model.mu_, model.delta_, certificate, choice=choice)
    target = problem.residual_target(tensors["base"].double())
    solution = DualRidge(tensors["gram"], target, model.mu_)
    return ExactOptimum(
        problem, solution, tensors["base"], model.delta_, certificate, choice=choice
    )
