"""How long one image takes in ordinary training: measured on this machine, or counted for a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GPUS = {
    "v100": 15.7,
    "t4": 8.1,
    "a100": 19.5,
    "a10": 31.2,
    "l4": 30.3,
    "l40s": 91.6,
    "rtx3090": 35.6,
    "rtx4090": 82.6,
    "h100": 66.9,
    "h200": 66.9,
}
"""Peak of single precision without tensor cores by the makers' data sheets, in TFLOP/s."""

DEFAULT_GPU = "a100"
UTILISATION = 0.4
"""Share of the peak that training convolutions is assumed to reach."""

TRAINING = 3
"""Forward passes that an ordinary training step costs, by counting products."""

Machine = Callable[[str, int, float | None], tuple[float, str]]
"""Of a network, the side of its images and its operations, if known: seconds, and where from."""

_BATCH = 8


def on_gpu(operations: float, gpu: str, utilisation: float = UTILISATION) -> tuple[float, str]:
    """Seconds of one image in ordinary training on a GPU that was never measured.

    Args:
        operations: Of one image forward, in FLOP.
        gpu: A name in `GPUS`, or its peak in TFLOP/s.
        utilisation: Share of the peak that is reached.

    Returns:
        Seconds, and how they came about.

    Raises:
        ValueError: If the GPU is not known, or the share is not one.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(
            f"--utilisation is {utilisation:g}: choose a share above 0, and at most 1."
        )
    name = gpu.lower().replace(" ", "").replace("-", "")
    try:
        peak = GPUS[name] if name in GPUS else float(gpu)
    except ValueError:
        raise ValueError(
            f"--gpu is {gpu!r}: choose one of {', '.join(GPUS)}, or give its peak of single precision in "
            "TFLOP/s."
        ) from None
    if not 0 < peak < float("inf"):
        raise ValueError(f"--gpu is {gpu!r}: its peak must be above 0 TFLOP/s.")
    called = f"{name.upper()}, {peak:g}" if name in GPUS else f"GPU of {peak:g}"
    return TRAINING * operations / (peak * 1e12 * utilisation), (
        f"counted, not measured: {operations / 1e9:.2f} GFLOP an image forward, {TRAINING} times that in "
        f"training, on one {called} TFLOP/s in fp32, of which {utilisation:.0%} are used"
    )


def operations(network: str, pixels: int) -> float:
    """Count the FLOP of one image forward; a multiplication with its addition counts 2.

    Nothing is computed.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lqf import networks

    with torch.device("meta"):
        model = networks.build(network, 100, activation="relu", pooling="average").eval()
        image = torch.empty(1, 3, pixels, pixels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return float(counter.get_total_flops())


def on_this_machine(network: str, pixels: int, budget: float = 20.0) -> tuple[float, str]:
    """Measure ordinary training steps on random images for `budget` seconds.

    Returns:
        Seconds of one image (the median of the steps), and how they came about.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.benchmark import Timer

    from lqf import networks
    from lqf.devices import usable_cores

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = networks.build(network, 100, activation="relu", pooling="average").to(device).train()
    known: dict[str, Any] = {
        "model": model,
        "loss": cross_entropy,
        "images": torch.randn(_BATCH, 3, pixels, pixels, device=device),
        "labels": torch.arange(_BATCH, device=device),
    }
    threads = usable_cores()
    step = Timer("loss(model(images), labels).backward()", globals=known, num_threads=threads)
    step.timeit(1)  # The first step makes what all others use.
    seconds = step.blocked_autorange(min_run_time=budget).median
    told = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {threads} threads"
    return seconds / _BATCH, f"measured on this machine ({told}) in ordinary training"
