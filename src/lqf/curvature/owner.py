"""Gradients of single samples by the parameters of any other module (normalisation, tokens, ...)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from lqf.curvature.recording import Record
from lqf.linear.modes import evaluation, substituted


@dataclass(frozen=True)
class Owner:
    """The innermost module that uses some trained parameters and maps each sample by itself.

    Attributes:
        path: its name in the network, "" for the network.
        module: the module.
        names: full names of those parameters.
    """

    path: str
    module: nn.Module
    names: tuple[str, ...]

    def sample_gradients(self, record: Record, gradient: Tensor) -> dict[str, Tensor]:
        """Return the gradient of each sample, from one call of this module alone.

        Args:
            record: the forward pass.
            gradient: gradient by the module's output, b × ....

        Returns:
            By parameter name, b × shape of the parameter.
        """
        record.unchanged_input(self.path)
        call = record.calls[self.path]
        prefix = f"{self.path}." if self.path else ""
        every = {name: tensor.detach() for name, tensor in self.module.named_parameters()}
        trained = {name.removeprefix(prefix): record.parameters[name] for name in self.names}
        trained = {name: tensor.detach() for name, tensor in trained.items()}

        def one(args: tuple[Any, ...], kwargs: dict[str, Any], cotangent: Tensor) -> Any:
            args = tuple(_unsqueeze(value) for value in args)
            kwargs = {key: _unsqueeze(value) for key, value in kwargs.items()}

            def local(parameters: dict[str, Tensor]) -> Tensor:
                with substituted(self.module, {**every, **parameters}):
                    output: Tensor = self.module(*args, **kwargs)
                return output.squeeze(0)

            pull = vjp(local, trained)[1]
            return pull(cotangent)[0]

        axes = (
            tuple(_axis(value) for value in call.args),
            {key: _axis(value) for key, value in call.kwargs.items()},
            0,
        )
        arguments = tuple(_detach(value) for value in call.args)
        keywords = {key: _detach(value) for key, value in call.kwargs.items()}
        with evaluation(self.module), torch.autocast(gradient.device.type, enabled=False):
            rows = vmap(one, in_dims=axes)(arguments, keywords, gradient)
        return {prefix + name: value for name, value in rows.items()}


def _axis(value: Any) -> int | None:
    return 0 if isinstance(value, Tensor) else None


def _unsqueeze(value: Any) -> Any:
    return value.unsqueeze(0) if isinstance(value, Tensor) else value


def _detach(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
