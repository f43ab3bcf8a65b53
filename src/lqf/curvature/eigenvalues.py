"""EKFAC: the exact second moment of the gradients in the Kronecker eigenbasis."""

import torch
from torch import Tensor, nn

from lqf.curvature.eigenbasis import Eigenbasis
from lqf.curvature.factors import KroneckerFactors, Provenance
from lqf.curvature.layers import Layer
from lqf.curvature.plan import make_plan
from lqf.curvature.probes import Probes
from lqf.curvature.recording import Record, wide
from lqf.curvature.sweep import Progress, check_images, sweep
from lqf.linear.images import Images
from lqf.memory import AtOnce

# Entries of one layer's patches, or of the gradients of single samples, that are held at a time.
_CHUNK = 1 << 24


def eigenvalue_correction(
    network: nn.Module,
    images: Images,
    factors: KroneckerFactors,
    *,
    batch: int | AtOnce = 64,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Return the diagonal of G in the eigenbasis of its Kronecker factors (George et al. 2018).

    With M the gradient of one sample and probe as a matrix o × d, E = (1/N) Σ_i E_v
    (U_Bᵀ M U_A)², the best diagonal in that basis: its sum is the trace of the layer's exact
    block of G, which A ⊗ B does not keep where a layer shares its weights. One more data pass,
    with the probes that made the factors.

    Args:
        network: the network at w0.
        images: the images that made the factors.
        factors: the factors; their eigenbases are used.
        batch: images in one pass; halved where memory runs out.
        progress: called as progress(done, total, note) after each batch.

    Returns:
        E by layer, groups × o × (d [+ 1]), for `Preconditioner`. Where the basis of A is thin only
        its columns; E is 0 on the others, which the inputs do not reach.

    Raises:
        ValueError: if network or images are not those that made the factors, or a value becomes
            NaN or infinite.
    """
    at_once = check_images(images, batch)
    made = factors.made
    now = Provenance.of(
        network,
        images,
        made.names,
        probes=made.probes,
        approximation=made.approximation,
        seed=made.seed,
    )
    if now != made:
        changed = "weights" if now.weights != made.weights else "images"
        raise ValueError(
            f"The {changed} are not those that made the factors; compute the eigenvalue correction "
            "with the same network and images."
        )
    plan = make_plan(network, made.names, images)
    rotated: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}

    def inputs(record: Record) -> None:
        rotated.clear()
        for layer in plan.layers:
            x = wide(record.unchanged_input(layer.path).detach())
            if layer.patch_entries(x) * len(x) <= _CHUNK:
                patches = layer.homogeneous(layer.patches(x))
                rotated[layer.path] = factors.basis(layer.path).A.mT @ patches

    def gradients(record: Record, found: dict[str, Tensor], weight: float) -> None:
        for layer in plan.layers:
            path, basis = layer.path, factors.basis(layer.path)
            g = layer.gradients(wide(found[path]))
            if path in rotated:
                value = _squares_of_rotated(rotated[path], g, basis)
            else:
                value = _squares(layer, wide(record.unchanged_input(path).detach()), g, basis)
            value = value * (weight / len(images))
            sums[path] = sums[path] + value if path in sums else value

    def whole(size: int) -> None:
        sums.clear()
        sweep(
            network,
            images,
            made.names,
            plan,
            probes=lambda outputs: Probes(len(images), outputs, made.probes, made.seed),
            batch=size,
            on_forward=inputs,
            on_gradients=gradients,
            progress=progress,
            note="eigenvalue correction",
        )

    at_once.run(whole, len(images))
    for path, value in sums.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"The corrected eigenvalues of layer {path!r} are NaN or infinite; check the "
                "weights and the images, or compute in float32 or float64."
            )
    return sums


def _squares_of_rotated(a: Tensor, g: Tensor, basis: Eigenbasis) -> Tensor:
    """Return Σ_i ((U_Bᵀg_i)(U_Aᵀa_i)ᵀ)², groups × o × d; U_Aᵀa is shared by all probes."""
    g = basis.B.mT @ g
    total = torch.zeros(*basis.b.shape, basis.a.shape[1], dtype=g.dtype, device=g.device)
    step = max(1, _CHUNK // total.numel())
    for x, part in zip(a.split(step), g.split(step), strict=True):
        total += (part @ x.mT).square().sum(0)
    return total


def _squares(layer: Layer, inputs: Tensor, g: Tensor, basis: Eigenbasis) -> Tensor:
    """Return Σ_i (U_Bᵀ(g_i a_iᵀ)U_A)², groups × o × d, patches made anew in pieces."""
    total = torch.zeros(*basis.b.shape, basis.a.shape[1], dtype=g.dtype, device=g.device)
    step = max(1, _CHUNK // max(total.numel(), layer.patch_entries(inputs)))
    for x, part in zip(inputs.split(step), g.split(step), strict=True):
        a = layer.homogeneous(layer.patches(x))
        total += (basis.B.mT @ (part @ a.mT) @ basis.A).square().sum(0)
    return total
