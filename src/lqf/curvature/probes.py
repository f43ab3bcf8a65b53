"""Output probes v with E[vvᵀ] = I, so that E[(Jᵀv)(Jᵀv)ᵀ] = JᵀJ."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ProbeCount = int | Literal["all"]


@dataclass(frozen=True)
class Probes:
    """The probes of N samples with C outputs.

    Attributes:
        samples: N.
        outputs: C.
        kind: "all" for the C unit vectors (exact), or a number of Rademacher vectors a sample.
        seed: seed of the random probes. They depend on the sample's index, not on the batches.
    """

    samples: int
    outputs: int
    kind: ProbeCount
    seed: int

    @property
    def count(self) -> int:
        """Backward passes a batch."""
        return self.outputs if self.kind == "all" else self.kind

    @property
    def weight(self) -> float:
        """Weight of each probe in the sum over probes."""
        return 1.0 if self.kind == "all" else 1.0 / self.kind

    def draw(self) -> Tensor | None:
        """Return all random signs, count × N × C, int8; None for unit vectors."""
        if self.kind == "all":
            return None
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.count, self.samples, self.outputs)
        bits = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
        return 2 * bits - 1


@dataclass(frozen=True)
class Combinations:
    """Combinations of outputs that were chosen for each sample.

    Attributes:
        columns: N × C × m.
    """

    columns: Tensor
    weight = 1.0

    @property
    def count(self) -> int:
        """Backward passes a batch."""
        return self.columns.shape[2]

    def draw(self) -> Tensor:
        """Return the combinations, m × N × C."""
        return self.columns.permute(2, 0, 1)


def check_probes(probes: object) -> ProbeCount:
    """Return `probes` if it is "all" or a positive whole number.

    Args:
        probes: what the caller asked for.

    Returns:
        The same value.

    Raises:
        ValueError: otherwise.
    """
    if probes == "all":
        return "all"
    if isinstance(probes, int) and not isinstance(probes, bool) and probes >= 1:
        return probes
    raise ValueError(
        f"probes is {probes!r}; it must be 'all' (one backward pass for each output, exact) or a "
        "number ≥ 1 of random probes a sample."
    )
