"""Run a network at w0 and keep what its layers saw; hooks never outlive the call."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from lqf.linear.modes import evaluation, substituted


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        versions: version counters of the tensors among them, to notice a change in place.
        output: what it returned, detached.
        edge: where the gradient by its output appears; taken before anything changes the output
            in place (`ReLU(inplace=True)`). None where the output needs no gradient.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    versions: tuple[int, ...]
    output: Any
    edge: GradientEdge | None

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments."""
        values = (*self.args, *self.kwargs.values())
        return [value for value in values if isinstance(value, Tensor)]

    @property
    def input(self) -> Tensor:
        """The first tensor among the arguments."""
        return self.tensors[0]


@dataclass
class Record:
    """What a forward pass left behind.

    Attributes:
        outputs: outputs of the network, b × C, with their graph.
        parameters: the trained parameters as leaves of that graph.
        calls: the last call of each recorded module.
        counts: number of calls of each recorded module.
    """

    outputs: Tensor
    parameters: dict[str, Tensor]
    calls: dict[str, Call]
    counts: Counter[str]

    def unchanged_input(self, path: str) -> Tensor:
        """Return the input of a layer, if no later operation changed it in place.

        Args:
            path: name of the module.

        Returns:
            Its first argument.

        Raises:
            ValueError: if it was changed after the layer saw it.
        """
        call = self.calls[path]
        if tuple(tensor._version for tensor in call.tensors) != call.versions:
            raise ValueError(
                f"The input of layer {path!r} is changed in place after the layer has used it; "
                "build the network with inplace=False there."
            )
        return call.input


def forward(
    network: nn.Module, parameters: Mapping[str, Tensor], images: Tensor, paths: list[str]
) -> Record:
    """Run the network in evaluation mode at `parameters` and record the calls of some modules.

    Args:
        network: the network; its parameters, flags and hooks are as before afterwards, even after
            an exception.
        parameters: the trained parameters, by name, as leaves that require a gradient; all others
            are taken from the network and held constant.
        images: b × ..., as the network takes them.
        paths: names of the modules to record.

    Returns:
        The record, with the graph from the trained parameters to the outputs.

    Raises:
        ValueError: if the outputs are not b × C or not finite.
    """
    constant = {name: tensor.detach() for name, tensor in network.named_parameters()}
    calls: dict[str, Call] = {}
    counts: Counter[str] = Counter()
    with (
        _hooks(network, paths, calls, counts),
        evaluation(network),
        torch.enable_grad(),
        torch.autocast(images.device.type, enabled=False),
        substituted(network, {**constant, **parameters}),
    ):
        outputs = network(images)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(images):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"The network returned {shape} for {len(images)} images; a tensor b × C is needed."
        )
    if not bool(torch.isfinite(outputs).all()):
        raise ValueError(
            f"The network's outputs are NaN or infinite, first in {_first_bad(calls)}; check the "
            "weights and the normalisation of the images."
        )
    return Record(outputs, dict(parameters), calls, counts)


def leaves(network: nn.Module, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return copies by reference of the trained parameters that are leaves of a new graph.

    Args:
        network: the network.
        names: the trained parameters.

    Returns:
        Tensors that share memory with the parameters and require a gradient.
    """
    known = dict(network.named_parameters())
    return {name: known[name].detach().requires_grad_() for name in names}


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 if it is in half precision; sums of squares need that.

    Args:
        tensor: any floating-point tensor.

    Returns:
        The tensor itself, or a float32 copy.
    """
    return tensor.float() if tensor.element_size() < 4 else tensor


@contextmanager
def _hooks(
    network: nn.Module, paths: list[str], calls: dict[str, Call], counts: Counter[str]
) -> Iterator[None]:
    modules = dict(network.named_modules())
    handles = []

    def record(path: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            counts[path] += 1
            needs = isinstance(output, Tensor) and output.requires_grad
            edge = get_gradient_edge(output) if needs else None
            call = Call(args, kwargs, (), _detached(output), edge)
            versions = tuple(tensor._version for tensor in call.tensors)
            calls[path] = Call(args, kwargs, versions, call.output, edge)

        return hook

    try:
        for path in paths:
            handles.append(modules[path].register_forward_hook(record(path), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _detached(output: Any) -> Any:
    return output.detach() if isinstance(output, Tensor) else output


def _first_bad(calls: dict[str, Call]) -> str:
    for path, call in calls.items():
        if isinstance(call.output, Tensor) and not bool(torch.isfinite(call.output).all()):
            return f"layer {path!r}"
    return "an operation after the last layer"
