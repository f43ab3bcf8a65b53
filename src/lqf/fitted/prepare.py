"""From a name or a module to the network at w0 that is linearised."""

from __future__ import annotations

import difflib
import logging
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError

from lqf.fitted.watch import refuse_code, trial_run
from lqf.networks import (
    AveragePooling,
    Classifier,
    CovariancePooling,
    cut,
    fold_batch_norm,
    has_batch_norm,
    kept_activations,
    last_layer,
    new_head,
    swap_activation,
)
from lqf.networks.weights import first_line

log = logging.getLogger(__name__)

_DIMENSION = 16
_CALIBRATION = 256
_RELU = nn.ReLU | nn.LeakyReLU


@dataclass(frozen=True)
class Prepared:
    """A private copy of a network at w0, with everything done to it that the options ask for.

    Attributes:
        network: the copy, in evaluation mode.
        head: name of the layer that makes the outputs; empty if it is none of the network's own.
        dropped: activations behind a new head that were taken out.
        frozen: parameters that are not trained, as they were called before batch norm was folded.
        folded: whether batch norm was folded.
    """

    network: nn.Module
    head: str
    dropped: tuple[str, ...]
    frozen: tuple[str, ...]
    folded: bool

    @property
    def head_names(self) -> frozenset[str]:
        """The head's parameters."""
        if not self.head:
            return frozenset()
        layer = self.network.get_submodule(self.head)
        return frozenset(f"{self.head}.{name}" for name, _ in layer.named_parameters())


def prepare(
    network: str | nn.Module, options: dict[str, Any], images: Tensor, classes: int, fold: bool
) -> Prepared:
    """The network at w0 as the estimator linearises it.

    Args:
        network: a torchvision name (its ImageNet weights are loaded), or a module, never changed.
        options: the estimator's parameters, by name.
        images: N × channels × H × W, in the network's precision; one is tried.
        classes: C.
        fold: whether batch norm is folded where that changes nothing.

    Returns:
        The copy and what was done to it.

    Raises:
        ValueError: if an option cannot be had with this network.
        TypeError: if the network is no module.
    """
    # New layers draw their default initialisation before the seeded one takes its place.
    with torch.random.fork_rng(devices=[]):
        copy = _changed(network, options, pretrained=True)
        images, swapped = images.to(next(copy.parameters())), options["activation"]
        if swapped is not None and (kept := kept_activations(copy)):
            name = type(copy).__name__
            log.warning("activation=%r replaces ReLU alone: %s keeps %s", swapped, name, kept)
        original = network if isinstance(network, nn.Module) else None
        trial_run(copy, images, None, tell=swapped is not None, original=original)
        _calibrate(copy, images)
        head, behind = _made_by(copy, images[:1])
        dropped: tuple[str, ...] = ()
        if options["head"] == "random":
            dropped = behind
            _new_head(copy, head, dropped, classes, options["seed"])
        _check_head(copy, head)
        frozen = _frozen(copy, head, options["trained"])
    folded = False
    if fold and has_batch_norm(copy):
        copy, folded = _folded(copy, images[:1], demanded=options["fold_batch_norm"] is True)
    return Prepared(copy.eval(), head, dropped, frozen, folded)


def restored(
    network: str | nn.Module, options: dict[str, Any], classes: int, about: dict[str, Any]
) -> Prepared:
    """The architecture of a saved model, whose weights are still to be put in; ``about`` is what `Prepared` held."""
    with torch.random.fork_rng(devices=[]):
        copy = _changed(network, options, pretrained=False)
        if options["head"] == "random":
            _new_head(copy, about["head"], about["dropped"], classes, 0)
        for name, parameter in copy.named_parameters():
            parameter.requires_grad_(name not in about["frozen"])
    if about["folded"]:
        copy = fold_batch_norm(copy)
    return Prepared(
        copy.eval(), about["head"], tuple(about["dropped"]), tuple(about["frozen"]), about["folded"]
    )


def _changed(network: str | nn.Module, options: dict[str, Any], pretrained: bool) -> nn.Module:
    # The copy with its activations and its pooling, in evaluation mode.
    if isinstance(network, nn.Module):
        refuse_code(network)
        copy = _copied(network)
    elif isinstance(network, str):
        copy = _named(network, pretrained)
    else:
        raise TypeError(
            f"network is a {type(network).__name__}; a torchvision name or an nn.Module is needed."
        )
    last_layer(copy)
    kinds = {p.dtype for p in copy.parameters()}
    if kinds not in ({torch.float32}, {torch.float64}):
        found = ", ".join(sorted(str(kind) for kind in kinds))
        raise ValueError(
            f"the network's parameters are {found}; the linear algebra needs one precision, float32 "
            "or float64: call network.float() first."
        )
    for name, p in copy.named_parameters():
        if not torch.isfinite(p).all():
            raise ValueError(f"parameter {name!r} contains NaN or infinite values.")
    if options["activation"] is not None:
        swap_activation(copy, options["activation"], options["slope"])
    for module in copy.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    if options["pooling"] == "covariance":
        if options["head"] == "keep" and not _pools_covariance(copy):
            raise ValueError(
                "pooling='covariance' changes the features, so the head cannot be kept; use "
                "head='random'."
            )
        copy = _with_covariance(copy)
    return copy.eval()


def _copied(network: nn.Module) -> nn.Module:
    """A copy; tensors that were computed from parameters, as pruning leaves them, are copied as values."""
    held = [value for module in network.modules() for value in vars(module).values()]
    made = [value for value in held if isinstance(value, Tensor) and not value.is_leaf]
    return deepcopy(network, {id(value): value.detach().clone() for value in made})


def _named(name: str, pretrained: bool) -> nn.Module:
    from torchvision import models

    allowed = models.list_models(module=models)
    if name not in allowed:
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"network is {name!r}, which is not a torchvision classifier.{hint} Allowed are "
            f"{', '.join(allowed)}, or an nn.Module."
        )
    if not pretrained:
        return models.get_model(name, weights=None)
    members = models.get_model_weights(name).__members__
    weights = members["IMAGENET1K_V1" if "IMAGENET1K_V1" in members else "DEFAULT"]
    try:
        return models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        url = weights.value.url
        file = url.rsplit("/", 1)[-1]
        raise ValueError(
            f"the weights of {name} cannot be had ({error}); download {url} elsewhere and put it as "
            f"{file} into {torch.hub.get_dir()}/checkpoints (the letters after the dash begin its SHA-256), "
            "or give an nn.Module with weights of your own."
        ) from error


def _made_by(network: nn.Module, image: Tensor) -> tuple[str, tuple[str, ...]]:
    """The last layer that runs, which makes the outputs, and the activations that run behind it."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in network.named_modules()
        if not list(module.children())
        and (next(module.parameters(False), None) is not None or isinstance(module, _RELU))
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    behind: list[str] = []
    while order and isinstance(network.get_submodule(order[-1]), _RELU):
        behind.append(order.pop())
    return (order[-1] if order else ""), tuple(behind)


def _new_head(
    network: nn.Module, name: str, dropped: tuple[str, ...], classes: int, seed: int
) -> None:
    old = network.get_submodule(name) if name else network
    if isinstance(old, nn.Linear):
        new: nn.Module = new_head(old.in_features, classes, seed)
    elif isinstance(old, nn.Conv2d) and old.kernel_size == (1, 1) and old.groups == 1:
        linear = new_head(old.in_channels, classes, seed)
        new = nn.Conv2d(old.in_channels, classes, 1)
        new.load_state_dict({"weight": linear.weight[:, :, None, None], "bias": linear.bias})
    else:
        raise ValueError(
            f"the last layer of {type(network).__name__} is {name or 'itself'}, a "
            f"{type(old).__name__}; head='random' replaces a linear layer or a 1 × 1 convolution: "
            "use head='keep'."
        )
    if not name:
        raise ValueError(
            f"the network is a single {type(old).__name__}; wrap it in nn.Sequential, or use "
            "head='keep'."
        )
    network.set_submodule(name, new.to(old.weight))
    for place in dropped:
        log.info(
            "%s comes behind the new head and would cut its outputs off; it is taken out", place
        )
        network.set_submodule(place, nn.Identity())


def _check_head(network: nn.Module, head: str) -> None:
    weight = getattr(network.get_submodule(head), "weight", None) if head else None
    if isinstance(weight, Tensor) and not weight.any():
        raise ValueError(
            "the head's weight is zero, which makes the Jacobian of everything before it zero; use "
            "head='random'."
        )


def _frozen(network: nn.Module, head: str, trained: str | int) -> tuple[str, ...]:
    # Freeze what is not to be trained; the names of all parameters that are not.
    if trained == "head":
        keep: tuple[str, ...] = (f"{head}.",)
    elif trained == "all":
        keep = ("",)
    else:
        stages = _stages(network)
        if not 1 <= int(trained) <= len(stages):
            raise ValueError(
                f"trained is {trained}; {type(network).__name__} has the stages {', '.join(stages)}, so 1 "
                f"to {len(stages)} of them can be trained."
            )
        keep = tuple(f"{name}." for name in stages[-int(trained) :])
    for name, parameter in network.named_parameters():
        if not name.startswith(keep):
            parameter.requires_grad_(False)
    frozen = tuple(name for name, p in network.named_parameters() if not p.requires_grad)
    if len(frozen) == len(list(network.named_parameters())):
        raise ValueError(
            "every parameter has requires_grad=False; the parameters to fit need requires_grad=True."
        )
    return frozen


def _stages(network: nn.Module) -> list[str]:
    """Names of the parts of a network, in order, that hold parameters."""
    prefix, module = "", network
    while True:
        parts = [n for n, m in module.named_children() if next(m.parameters(), None) is not None]
        if len(parts) != 1 or next(module.parameters(False), None) is not None:
            return [f"{prefix}{name}" for name in parts]
        prefix, module = f"{prefix}{parts[0]}.", module.get_submodule(parts[0])


def _folded(network: nn.Module, image: Tensor, demanded: bool) -> tuple[nn.Module, bool]:
    # The network with batch norm folded, where that can be done and leaves its outputs as they are.
    try:
        folded = fold_batch_norm(network)
        with torch.no_grad():
            before, after = network(image), folded(image)
        if not bool((after - before).norm() <= 1e-3 * before.norm()):
            raise ValueError("the folded network gives other outputs")
    except (TraceError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        name = type(network).__name__
        said = f"torch.fx cannot trace {name} to fold its batch norm ({first_line(error)})"
        if demanded:
            raise ValueError(f"{said}; use fold_batch_norm=None or False.") from error
        log.info("%s; it is frozen and keeps its parameters", said)
        return network, False
    return folded, True


def _calibrate(network: nn.Module, images: Tensor) -> None:
    """Fit the reduction of covariance pooling to unlabelled training images, if there is one."""
    if _pools_covariance(network):
        with torch.no_grad():
            maps = network.features(images[:_CALIBRATION])  # type: ignore[operator]
            network.pool.calibrate(maps)  # type: ignore[operator, union-attr]


def _pools_covariance(network: nn.Module) -> bool:
    return isinstance(network, Classifier) and isinstance(network.pool, CovariancePooling)


def _with_covariance(network: nn.Module) -> nn.Module:
    # The same features with covariance pooling between them and the head.
    if _pools_covariance(network):
        return network
    if isinstance(network, Classifier) and isinstance(network.pool, AveragePooling):
        features, channels = network.features, network.pool.size
    else:
        try:
            found = cut(network)
        except ValueError:
            found = None
        if found is None or not found.maps:
            raise TypeError(
                "pooling='covariance' needs an lqf Classifier with a feature map, or a torchvision "
                f"network that averages one (as ResNets do), not {type(network).__name__}; use "
                "pooling='average'."
            )
        features, channels = found.features, found.width
    pool = CovariancePooling(channels, min(channels, _DIMENSION))
    return Classifier(features, pool, nn.Linear(pool.size, 1)).to(next(features.parameters()))


def trained_names(network: nn.Module, images: Tensor) -> list[str]:
    """The parameters to fit: those that require a gradient and have one on some of the images.

    Parts that only training uses (auxiliary classifiers) have none; they are announced and stay.

    Raises:
        ValueError: if the outputs depend on none of them.
    """
    wanted = {name: p for name, p in network.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        outputs = network(images[:32])
        found: tuple[Tensor | None, ...] = (None,) * len(wanted)
        if outputs.requires_grad:
            try:
                found = torch.autograd.grad(
                    outputs.sum(), list(wanted.values()), allow_unused=True, materialize_grads=False
                )
            except RuntimeError as error:
                raise ValueError(
                    f"{type(network).__name__} cannot be differentiated by its parameters "
                    f"({first_line(error)}); "
                    "take reentrant checkpoints out of its forward."
                ) from error
    used = [name for name, g in zip(wanted, found, strict=True) if g is not None]
    unused = [name for name in wanted if name not in used]
    if not used:
        raise ValueError(
            f"the outputs of {type(network).__name__} cannot be differentiated by any of its "
            "parameters; the network must not run under no_grad or detach its outputs."
        )
    if unused:
        log.info(
            "%d parameters do not influence the outputs and stay at w0: %s",
            len(unused),
            ", ".join(unused[:4]) + (", …" if len(unused) > 4 else ""),
        )
    return used
