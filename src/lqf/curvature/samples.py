"""Gradients of single samples by every trained parameter, from runs of whole batches.

Where a parameter is the weight of one call (`lqf.curvature.calls`), the gradients of all samples of a batch
come from that call's input and the gradient by its output.  All other parameters are differentiated
one image at a time.  Which is which is not believed but tried: on the first images sample by sample, and
on every batch as a sum, against autograd.  What does not agree is differentiated one image at a time
from then on, with a line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from lqf.curvature.calls import Calls, LayerCall, ScaleCall
from lqf.jacobian.images import Images
from lqf.jacobian.linearized import Linearized

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# Images on which every sample is compared with autograd by itself.
_TRIED = 3


class _Disagree(Exception):
    """Parameters whose gradients from calls are not autograd's."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(names)
        self.names = names


@dataclass
class Gradients:
    """Gradients of ``c_iᵀ f(x_i)`` of each of b samples.

    Attributes:
        layers: g by name of the weight, b × G × o × S; with the call's patches it gives the gradient.
        rows: by name of any other parameter, b × its entries.
    """

    layers: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)


class Batch:
    """One batch of images that has run through the network at w0.

    Attributes:
        outputs: f0, b × C.
        layers: calls of convolutions and linear maps, by name of the weight.
    """

    def __init__(self, owner: SampleGradients, images: Tensor) -> None:
        self._owner, linearized = owner, owner.linearized
        with linearized.run(images) as (call, leaves):
            calls = Calls(leaves, len(images), owner.skipped)
            with calls:
                outputs = call(images)
            if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(images):
                shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs)
                raise ValueError(
                    f"the network returned {shape} for {len(images)} images; a tensor b × C is needed."
                )
            if calls.twice:
                raise _Disagree(calls.twice)
            self.layers, self._scales = calls.layers, calls.scales
            covered = {n for c in self.layers.values() for n in c.names}
            covered |= {n for c in self._scales.values() for n in c.names}
            if lost := owner.covered - covered:
                raise _Disagree(lost)
            rest = [name for name in leaves if name not in covered]
            self._rest = {name: leaves[name] for name in rest}
            self._single = [call(image[None]) for image in images] if rest else []
        self._graph, self._leaves = outputs, leaves
        self.outputs = outputs.detach()

    @property
    def names(self) -> set[str]:
        """Parameters whose gradients come from calls."""
        return set(self._leaves) - set(self._rest)

    def gradients(self, cotangent: Tensor) -> Gradients:
        """Gradients of every sample for c (b × C).

        Raises:
            _Disagree: if the outputs do not depend on a call that was recorded.
        """
        found = Gradients()
        calls: list[LayerCall | ScaleCall] = [*self.layers.values(), *self._scales.values()]
        if calls:
            by_output = torch.autograd.grad(
                self._graph,
                [call.edge for call in calls],
                cotangent,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=False,
            )
            for call, gradient in zip(calls, by_output, strict=True):
                if gradient is None:
                    raise _Disagree(set(call.names))
                if isinstance(call, LayerCall):
                    found.layers[call.weight] = call.regrouped(gradient)
                else:
                    found.rows |= call.rows(gradient)
        for name, leaf in self._rest.items():
            found.rows[name] = leaf.new_zeros(len(cotangent), leaf.numel())
        for i, outputs in enumerate(self._single):
            if not outputs.requires_grad:
                continue
            by_leaf = torch.autograd.grad(
                outputs,
                list(self._rest.values()),
                cotangent[i : i + 1],
                retain_graph=True,
                allow_unused=True,
            )
            for name, gradient in zip(self._rest, by_leaf, strict=True):
                if gradient is not None:
                    found.rows[name][i] = gradient.reshape(-1)
        return found

    def formed(self, gradients: Gradients) -> dict[str, Tensor]:
        """Gradients of every sample by every parameter, each b × its entries."""
        rows = dict(gradients.rows)
        for weight, g in gradients.layers.items():
            call = self.layers[weight]
            rows |= call.split(g @ call.patches().mT)
        return rows

    def probe(self, seed: int) -> Tensor:
        """A random c, b × C."""
        generator = torch.Generator().manual_seed(seed)
        shape = self.outputs.shape
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.outputs)

    def check(self) -> None:
        """Compare the sum of the gradients over samples, randomly weighted, with autograd's.

        Raises:
            _Disagree: if a parameter's is another one.
        """
        names, probe = sorted(self.names), self.probe(0)
        if not names:
            return
        truth = torch.autograd.grad(
            self._graph,
            [self._leaves[name] for name in names],
            probe,
            retain_graph=True,
            allow_unused=True,
        )
        found = self.gradients(probe)
        sums = {name: (row.sum(0), row.abs().sum()) for name, row in found.rows.items()}
        for weight, g in found.layers.items():
            call = self.layers[weight]
            patches = call.patches()
            G, o, d = call.groups, call.outputs, patches.shape[2]
            left = g.permute(1, 2, 0, 3).reshape(G, o, -1)
            right = patches.permute(1, 2, 0, 3).reshape(G, d, -1)
            for name, value in call.split(left @ right.mT).items():
                sums[name] = value, (left.norm() * right.norm()).reshape(())
        wrong = set()
        for name, expected in zip(names, truth, strict=True):
            total, size = sums[name]
            other = torch.zeros_like(total) if expected is None else expected.reshape(-1)
            if not _agree(total, other, size):
                wrong.add(name)
        if wrong:
            raise _Disagree(wrong)


def _agree(found: Tensor, expected: Tensor, size: Tensor) -> bool:
    """Whether two gradients are the same up to rounding of a sum of terms of that size."""
    eps = torch.finfo(found.dtype).eps
    allowed = eps**0.5 * (expected.norm() + found.norm()) + 32 * eps * size
    return bool((found - expected).norm() <= allowed)


class SampleGradients:
    """How the gradients of single samples by every trained parameter are found.

    Args:
        linearized: the network at w0 and its trained parameters.
        images: N × …; a few are tried.

    Attributes:
        singly: parameters that are differentiated one image at a time because their calls did not agree.
        covered: parameters whose gradients come from calls.

    Raises:
        ValueError: if the network cannot be differentiated.
    """

    def __init__(self, linearized: Linearized, images: Images) -> None:
        self.linearized = linearized
        self.singly: set[str] = set()
        self.covered: set[str] = set()
        self._known = False
        self._checked = WeakValueDictionary[int, Images]()
        middle = len(images) // 2
        places = sorted({0, middle, len(images) - 1})[:_TRIED]
        tried = torch.cat([images[place : place + 1] for place in places])
        self.covered = self.run(lambda: self._tried(tried))
        self._known = True
        rest = [name for name in linearized.layout.names if name not in self.covered]
        if rest:
            log.info(
                "%d parameters are differentiated one image at a time: %s", len(rest), _some(rest)
            )

    @property
    def skipped(self) -> set[str]:
        """Parameters whose calls are not recorded; what no trial has covered is among them."""
        return set(self.linearized.layout.names) - self.covered if self._known else self.singly

    def _tried(self, images: Tensor) -> set[str]:
        """Compare every sample's gradients with those of the sample alone; what calls cover.

        Raises:
            _Disagree: if a parameter's is another one.
        """
        self.covered = set()
        batch = Batch(self, images)
        probe = batch.probe(1)
        rows = batch.formed(batch.gradients(probe))
        wrong: set[str] = set()
        for i, image in enumerate(images):
            alone = self.linearized.layout.split(self.linearized.vjp(image[None], probe[i : i + 1]))
            for name in batch.names:
                expected = alone[name].reshape(-1)
                if not _agree(rows[name][i], expected, expected.abs().sum()):
                    wrong.add(name)
        if wrong:
            raise _Disagree(wrong)
        batch.check()
        return batch.names

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Do some work from its beginning, again wherever gradients from calls turn out wrong.

        Raises:
            ValueError: if the gradient by a parameter is not even autograd's one image at a time.
        """
        while True:
            try:
                return work()
            except _Disagree as found:
                new = self._together(found.names) - self.singly
                log.info("%s: not what a layer of that kind does with it", _some(sorted(new)))
                if not new:
                    raise ValueError(
                        f"the gradient by parameter {_some(sorted(found.names))} is not autograd's, not "
                        "even one image at a time; freeze it with requires_grad_(False)."
                    ) from None
                self.singly |= new
                self.covered -= new

    def _together(self, names: set[str]) -> set[str]:
        """The parameters with those that share a module with them: weight and bias go together."""
        homes = {name.rpartition(".")[0] for name in names}
        every = self.linearized.layout.names
        return names | {name for name in every if name.rpartition(".")[0] in homes}

    def batches(self, images: Images, size: int) -> Iterator[Batch]:
        """Run the images through the network, some at a time, and the first time compare with autograd.

        Args:
            images: N × ….
            size: images at once.
        """
        known = self._checked.get(id(images)) is images
        for part in images.split(size):
            batch = Batch(self, part)
            if not known:
                batch.check()
            yield batch
        self._checked[id(images)] = images


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def jacobian(samples: SampleGradients, images: Images, batch: int = 32) -> Tensor:
    """J of every sample, N × C × P, for problems small enough to hold it."""
    layout = samples.linearized.layout

    def rows() -> Tensor:
        parts = []
        for each in samples.batches(images, batch):
            eye = torch.eye(each.outputs.shape[1]).to(each.outputs)
            columns = [
                layout.join_rows(
                    each.formed(each.gradients(row.expand_as(each.outputs).contiguous()))
                )
                for row in eye
            ]
            parts.append(torch.stack(columns, 1))
        return torch.cat(parts)

    return samples.run(rows)
