"""A fitted estimator as a file, and back."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lqf.curvature import Curvature, LayerCurvature, Metric, SampleGradients
from lqf.fitted import stored
from lqf.fitted.labels import taken
from lqf.fitted.options import check_options, choose_device
from lqf.fitted.prepare import restored
from lqf.fitted.targets import Targets
from lqf.jacobian import Linearized
from lqf.networks.weights import first_line
from lqf.optimum import Certificate, Choice, LargeOptimum, Optimum, Problem, SmallOptimum
from lqf.ridge import DenseRidge

if TYPE_CHECKING:
    from lqf.estimator import LQF

# Options that a file does not hold: the network is known by its name and its weights.
_UNSAVED = ("network", "device")

# Tensors of a layer's curvature, and the beginning of the names of the diagonal.
_PARTS, _DIAGONAL = ("A", "B", "values"), "curvature.diagonal/"


def write_model(model: LQF, path: str | os.PathLike[str], training_set: bool) -> None:
    """Write a fitted model; see `LQF.save`."""
    network = model.network_
    tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
    # Buffers that a state dict leaves out are state all the same.
    tensors |= {f"network/{k}": v for k, v in network.named_buffers()}
    tensors["delta"], tensors["offset"] = model.delta_, model._offset
    optimum = model._optimum if training_set else None
    if optimum is not None:
        tensors |= _of_optimum(optimum)
    elif model._optimum is not None and model._targets.kind in ("classes", "soft labels"):
        model.temperature_  # noqa: B018  (it could not be found without the training set)
    if model.choice_ is not None:
        tensors["choice"] = model.choice_.table
    prepared, targets = model._prepared, model._targets
    labels = None
    if optimum is not None:
        labels = taken(model._labels, torch.arange(len(model._labels))).tolist()
    about = {
        "options": check_options(
            {k: v for k, v in model.get_params(deep=False).items() if k not in _UNSAVED}
        ),
        "network": model.network if isinstance(model.network, str) else None,
        **{name: getattr(prepared, name) for name in ("head", "dropped", "frozen", "folded")},
        "trained": model._linearized.layout.names,
        "kind": targets.kind,
        "names": targets.names.tolist(),
        "labels": labels,
        "mu": model.mu_,
        "epsilon": None if math.isinf(model.epsilon_) else model.epsilon_,
        "head_scale": model.head_scale_,
        "choice": None
        if model.choice_ is None
        else {"unit": model.choice_.unit, "at_edge": model.choice_.at_edge},
        "temperature": model._temperature,
        "exact": model.exact_,
        "certificate": asdict(model.certificate_),
        "metric": None if optimum is None else optimum.problem.metric,
        "layers": {}
        if optimum is None or optimum.curvature is None
        else {w: [block.names, block.rest] for w, block in optimum.curvature.layers.items()},
    }
    stored.write(path, tensors, about)


def _of_optimum(optimum: Optimum) -> dict[str, Tensor]:
    """Everything that answers about samples are computed from."""
    problem = optimum.problem
    found: dict[str, Tensor | None] = {
        "images": problem.images[:],
        "target": problem.target,
        "coefficients": optimum.coefficients,
        "noise": problem.noise,
        "groups": problem.groups,
        "gram": optimum.ridge.gram if isinstance(optimum, SmallOptimum) else None,
        "shared": optimum.shared if isinstance(optimum, LargeOptimum) else None,
    }
    if optimum.curvature is not None:
        for weight, block in optimum.curvature.layers.items():
            found |= {f"curvature.{part}/{weight}": getattr(block, part) for part in _PARTS}
        for name, values in optimum.curvature.diagonal.items():
            found[f"{_DIAGONAL}{name}"] = values
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def read_model(
    kind: type[LQF],
    path: str | os.PathLike[str],
    network: nn.Module | None,
    device: str | torch.device,
) -> LQF:
    """Read a model written by `write_model`; arguments as in `LQF.load`, and the class to make.

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
    names = np.asarray(about["names"])
    options = model.get_params(deep=False)
    try:
        prepared = restored(model.network, options, len(names), about)
    except (RuntimeError, AttributeError) as error:
        raise ValueError(stored.other_network(path, first_line(error))) from error
    weights = (v for k, v in tensors.items() if k.startswith("network/"))
    start = prepared.network.to(next(v.dtype for v in weights if v.is_floating_point()))
    stored.restore_weights(start, tensors, path)
    tensors = {k: v.to(at) for k, v in tensors.items()}
    model._targets, model._offset = Targets(about["kind"], names), tensors["offset"]
    model._labels = None if about["labels"] is None else np.asarray(about["labels"])
    linearized = Linearized(start.to(at), about["trained"])
    certificate, choice = Certificate(**about["certificate"]), None
    epsilon = math.inf if about["epsilon"] is None else about["epsilon"]
    if about["choice"] is not None:
        edges = tuple(about["choice"]["at_edge"])
        constants = (about["mu"], epsilon, about["head_scale"])
        choice = Choice(*constants, tensors["choice"].cpu(), about["choice"]["unit"], edges)
    model._optimum, model._prepared = None, prepared
    model._linearized, model.network_, model.delta_ = linearized, start, tensors["delta"]
    model.mu_, model.epsilon_, model.head_scale_ = about["mu"], epsilon, about["head_scale"]
    model.choice_, model.certificate_, model.exact_ = choice, certificate, about["exact"]
    model._temperature = about["temperature"]
    if "images" in tensors:
        model._optimum = _optimum(model, tensors, about)
    return model


def _optimum(model: LQF, tensors: dict[str, Tensor], about: dict[str, Any]) -> Optimum:
    options = check_options(model.get_params(deep=False))
    problem = Problem(
        model._linearized,
        tensors["images"],
        tensors["target"],
        tensors.get("noise"),
        model._prepared.head_names,
        about["metric"],
        model.mu_,
        tensors.get("groups"),
        options["tolerance"],
        options["max_passes"],
        options["seed"],
    )
    curvature: Curvature | None = None
    if not math.isinf(model.epsilon_):
        layers = {
            w: LayerCurvature(
                tuple(names),
                **{part: tensors.get(f"curvature.{part}/{w}") for part in _PARTS},  # type: ignore[arg-type]
                rest=rest,
            )
            for w, (names, rest) in about["layers"].items()
        }
        diagonal = {
            k.removeprefix(_DIAGONAL): v for k, v in tensors.items() if k.startswith(_DIAGONAL)
        }
        curvature = Curvature(layers, diagonal, 0.0)
    layout, head = model._linearized.layout, model._prepared.head_names
    metric = Metric(curvature, layout, model.epsilon_, head, model.head_scale_)
    samples = SampleGradients(model._linearized, tensors["images"])
    known = model.mu_, model.choice_, model.delta_, model.certificate_
    if "gram" in tensors:
        ridge = DenseRidge(tensors["gram"], tensors["target"], model.mu_, tensors.get("noise"))
        return SmallOptimum(problem, samples, metric, ridge.coefficients, *known, ridge)
    coefficients, shared = tensors["coefficients"], tensors.get("shared")
    return LargeOptimum(problem, samples, metric, coefficients, *known, shared)
