"""K-FAC of the Gauss–Newton matrix at w0, in one pass over the data (LQF §3.2).

The blocks are those of Eschenhagen et al. 2023 ("expand" and "reduce"); for layers without weight
sharing both are Martens & Grosse 2015, and "expand" for convolutions is Grosse & Martens 2016.
With a_s the patch and g_s the gradient by the output at position s, of S:

    expand:  A = (1/NS) Σ_i Σ_s a_s a_sᵀ       B = (1/N) Σ_i E_v Σ_s g_s g_sᵀ
    reduce:  A = (1/N)  Σ_i ā āᵀ, ā = mean a_s  B = (1/N) Σ_i E_v ĝ ĝᵀ, ĝ = Σ_s g_s

Gradients are those of vᵀf for output probes v with E[vvᵀ] = I. They come from w0 alone and never
from the training residual, so they are factors of G and are computed once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lqf.curvature.factors import Approximation, KroneckerBlock, KroneckerFactors, Provenance
from lqf.curvature.moments import InputMoment, gradient_moment, symmetric
from lqf.curvature.plan import Plan, make_plan
from lqf.curvature.probes import ProbeCount, Probes, check_probes
from lqf.curvature.recording import Record, wide
from lqf.curvature.sweep import Progress, check_images, sweep
from lqf.linear.images import Images
from lqf.memory import AtOnce


def kronecker_factors(
    network: nn.Module,
    images: Images,
    names: Sequence[str] | None = None,
    *,
    probes: ProbeCount = "all",
    approximation: Approximation = "expand",
    seed: int = 0,
    batch: int | AtOnce = 64,
    progress: Progress | None = None,
) -> KroneckerFactors:
    """Return Kronecker factors of the Gauss–Newton matrix of the network at its present weights.

    The network runs in evaluation mode and is left as it was. Convolutions (with any stride,
    padding, dilation or groups) and linear layers get a block A ⊗ B; every other trained parameter
    gets the diagonal of G, which is announced in the log.

    Args:
        network: the network at w0, from images to outputs b × C.
        images: N × ..., floating point, as the network takes them.
        names: the trained parameters; None for all.
        probes: "all" for the C unit vectors (exact second moments, C backward passes), or a number
            of Rademacher probes a sample.
        approximation: "expand" or "reduce".
        seed: seed of the Rademacher probes.
        batch: images in one pass; the result does not depend on it beyond rounding, and it is halved
            where memory runs out.
        progress: called as progress(done, total, note) after each batch.

    Returns:
        The factors, in the dtype of the weights, float32 at least.

    Raises:
        ValueError: if an argument is out of range, a module runs twice, a parameter is shared or
            unknown, or a factor becomes NaN or infinite.
    """
    check_probes(probes)
    if approximation not in ("expand", "reduce"):
        raise ValueError(f"approximation is {approximation!r}; it must be 'expand' or 'reduce'.")
    at_once = check_images(images, batch)
    if names is None:
        names = [name for name, _ in network.named_parameters()]
    trained = tuple(names)
    plan = make_plan(network, trained, images)
    plan.announce()
    expand = approximation == "expand"
    A: dict[str, InputMoment] = {}
    B: dict[str, Tensor] = {}
    diagonal: dict[str, Tensor] = {}

    def inputs(record: Record) -> None:
        for layer in plan.layers:
            A[layer.path].add(wide(record.unchanged_input(layer.path).detach()))

    def gradients(record: Record, found: dict[str, Tensor], weight: float) -> None:
        scale = weight / len(images)
        for layer in plan.layers:
            _add(B, layer.path, gradient_moment(layer, wide(found[layer.path]), expand) * scale)
        for owner in plan.owners:
            rows = owner.sample_gradients(record, found[owner.path])
            for name, value in rows.items():
                _add(diagonal, name, wide(value).square().sum(0) * scale)

    def whole(size: int) -> None:
        B.clear()
        diagonal.clear()
        A.update({layer.path: InputMoment(layer, len(images), expand) for layer in plan.layers})
        sweep(
            network,
            images,
            trained,
            plan,
            probes=lambda outputs: Probes(len(images), outputs, probes, seed),
            batch=size,
            on_forward=inputs,
            on_gradients=gradients,
            progress=progress,
            note="Kronecker factors",
        )

    at_once.run(whole, len(images))
    made = Provenance.of(
        network, images, trained, probes=probes, approximation=approximation, seed=seed
    )
    return KroneckerFactors(_blocks(plan, A, B), _finite_diagonal(diagonal), made)


def _add(sums: dict[str, Tensor], key: str, value: Tensor) -> None:
    if key in sums:
        sums[key].add_(value)
    else:
        sums[key] = value


def _blocks(
    plan: Plan, A: dict[str, InputMoment], B: dict[str, Tensor]
) -> dict[str, KroneckerBlock]:
    blocks = {}
    for layer in plan.layers:
        inputs, root = A[layer.path].finish()
        for name, factor in (("A (inputs)", inputs), ("B (gradients)", B[layer.path])):
            if not bool(torch.isfinite(factor).all()):
                raise ValueError(
                    f"The Kronecker factor {name} of layer {layer.path!r} is NaN or infinite; "
                    "check the weights and the images, or compute in float32 or float64."
                )
        blocks[layer.path] = KroneckerBlock(
            layer.weight, layer.bias, inputs, symmetric(B[layer.path]), root
        )
    return blocks


def _finite_diagonal(diagonal: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, value in diagonal.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"The curvature of parameter {name!r} is NaN or infinite; check the weights and "
                "the images, or compute in float32 or float64."
            )
    return diagonal
