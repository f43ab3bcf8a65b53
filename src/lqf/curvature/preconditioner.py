"""P ≈ (G + damping·I)⁻¹ from Kronecker factors."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from lqf.curvature.eigenbasis import Eigenbasis
from lqf.curvature.factors import KroneckerFactors
from lqf.linear.layout import Layout

Variant = Literal["eigen", "pi"]


class Preconditioner:
    """Applies (G + damping·I)⁻¹ layer by layer.

    With the eigenbases A = U_A diag(a) U_Aᵀ and B = U_B diag(b) U_Bᵀ and V a layer's part of the
    vector as a matrix o × d, the result is U_B ((U_Bᵀ V U_A) / s) U_Aᵀ with

    - "eigen": s = b aᵀ + damping, which is the exact inverse of A ⊗ B + damping·I;
    - "pi":    s = (b + √damping/π)(a + π√damping)ᵀ with π² = (tr A/d) / (tr B/o), the damping of
      Martens & Grosse 2015, §6.3;
    - with an eigenvalue correction E (EKFAC, George et al. 2018): s = E + damping.

    Where the basis of A is thin, the vectors it leaves out have a = 0 and E = 0: they are divided
    by that s, which is the same for all of them.

    P is symmetric positive definite. For the minimisers of this package damping belongs near the
    weight decay wd.
    """

    def __init__(
        self,
        factors: KroneckerFactors,
        layout: Layout,
        damping: float,
        eigenvalue_correction: Mapping[str, Tensor] | None = None,
        *,
        variant: Variant = "eigen",
    ) -> None:
        """Prepare the divisors of every block.

        Args:
            factors: the factors; their eigenbases are computed at the first use and kept.
            layout: order of the trained parameters in δ.
            damping: damping > 0, in the unit of G (mean over samples, sum over outputs).
            eigenvalue_correction: E by layer, groups × o × d, from `eigenvalue_correction`.
            variant: "eigen" or "pi".

        Raises:
            ValueError: if an argument is out of range, or the factors belong to other parameters.
        """
        if not 0 < damping < float("inf"):
            raise ValueError(
                f"damping is {damping!r}; it must be a finite number > 0, near the weight decay."
            )
        if variant not in ("eigen", "pi"):
            raise ValueError(f"variant is {variant!r}; it must be 'eigen' or 'pi'.")
        if eigenvalue_correction is not None and variant == "pi":
            raise ValueError(
                "variant 'pi' splits the damping between A and B, which corrected eigenvalues do "
                "not have; use variant='eigen' with an eigenvalue correction."
            )
        self.damping = damping
        self._where, self._size = _slices(factors, layout)
        self._blocks = factors.blocks
        self._bases: dict[str, Eigenbasis] = {}
        self._divisors: dict[str, Tensor] = {}
        # s on what a thin basis leaves out, groups × o × 1 in the eigenbasis of B.
        self._rests: dict[str, Tensor] = {}
        for layer, block in factors.blocks.items():
            basis = factors.basis(layer)
            if eigenvalue_correction is not None:
                if layer not in eigenvalue_correction:
                    raise ValueError(
                        f"The eigenvalue correction has no entry for layer {layer!r}; compute it "
                        "from these factors."
                    )
                divisor = eigenvalue_correction[layer].double() + damping
            elif variant == "eigen":
                divisor = basis.b.unsqueeze(2) * basis.a.unsqueeze(1) + damping
            else:
                divisor = _factored(basis, basis.a, damping)
            self._bases[layer] = basis
            self._divisors[layer] = divisor.to(block.B.dtype)
            if basis.thin:
                zero = basis.a.new_zeros(len(basis.a), 1)
                rest = torch.full_like(divisor[..., :1], damping)
                rest = _factored(basis, zero, damping) if variant == "pi" else rest
                self._rests[layer] = rest.to(block.B.dtype)
        self._diagonal = {name: value + damping for name, value in factors.diagonal.items()}

    def apply(self, vector: Tensor) -> Tensor:
        """Return P·vector.

        Args:
            vector: ... × P; leading dimensions are a batch.

        Returns:
            A new tensor of the same shape.

        Raises:
            ValueError: if the last dimension is not P.
        """
        if vector.ndim == 0 or vector.shape[-1] != self._size:
            raise ValueError(
                f"vector has shape {tuple(vector.shape)}; its last dimension must be the number of "
                f"trained parameters, {self._size}."
            )
        result = torch.empty_like(vector, memory_format=torch.contiguous_format)
        with torch.autocast(vector.device.type, enabled=False):
            self._apply_to(vector, result)
        return result

    def _apply_to(self, vector: Tensor, result: Tensor) -> None:
        lead = vector.shape[:-1]
        for layer, block in self._blocks.items():
            basis, divisor = self._bases[layer], self._divisors[layer]
            groups, rows, _ = divisor.shape
            parts = [
                vector[..., self._where[name]].reshape(*lead, groups, rows, -1)
                for name in (block.weight, block.bias)
                if name is not None
            ]
            V = torch.cat(parts, dim=-1).to(divisor.dtype)
            V = basis.B.mT @ V
            inside = V @ basis.A
            if basis.thin:
                rest = self._rests[layer]
                V = V / rest + (inside / divisor - inside / rest) @ basis.A.mT
            else:
                V = (inside / divisor) @ basis.A.mT
            V = basis.B @ V
            if block.weight is not None:
                weight = V[..., :-1] if block.bias is not None else V
                result[..., self._where[block.weight]] = weight.reshape(*lead, -1)
            if block.bias is not None:
                result[..., self._where[block.bias]] = V[..., -1].reshape(*lead, -1)
        for name, divisor in self._diagonal.items():
            place = self._where[name]
            result[..., place] = vector[..., place] / divisor.reshape(-1)


def _factored(basis: Eigenbasis, a: Tensor, damping: float) -> Tensor:
    b = basis.b
    # A factor of trace 0 has no scale to share the damping with.
    ratio = basis.a.sum(1) / basis.A.shape[1] / b.mean(1)
    usable = torch.isfinite(ratio) & (ratio > 0)
    pi = torch.where(usable, ratio, torch.ones_like(ratio)).sqrt().unsqueeze(1)
    root = damping**0.5
    return (b + root / pi).unsqueeze(2) * (a + root * pi).unsqueeze(1)


def _slices(factors: KroneckerFactors, layout: Layout) -> tuple[dict[str, slice], int]:
    held = set(factors.diagonal)
    for block in factors.blocks.values():
        held.update(name for name in (block.weight, block.bias) if name is not None)
    odd = sorted(held.symmetric_difference(layout.names))
    if odd:
        raise ValueError(
            f"The factors and the layout disagree about parameter {odd[0]!r}"
            + (f" and {len(odd) - 1} more" if len(odd) > 1 else "")
            + "; compute the factors with names=layout.names."
        )
    where, offset = {}, 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        where[name] = slice(offset, offset + shape.numel())
        offset += shape.numel()
    return where, offset
