"""What a measurement was made on, and how it is made."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """The machine and versions, without names of hosts, users or folders."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
    }


def side_by_side(
    actions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each action in each round; the actions of a round run one after the other.

    What slows the machine for a while then slows all of them: compare within a round.
    """
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> float:
    """Median over rounds of the ratio of two actions."""
    pairs = zip(seconds[name], seconds[to], strict=True)
    return statistics.median(a / b for a, b in pairs)


def peak_memory(function: Callable[..., Callable[[], object]], *arguments: Any) -> int:
    """Bytes by which an action raises the peak of a process of its own.

    Args:
        function: prepares, and returns the action; importable by name.
        arguments: of the function.

    Returns:
        Peak resident memory after three runs of the action, less the resident memory before it.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        return int(receiver.recv())
    finally:
        process.join()


def _measure(sender: Any, function: Callable[..., Callable[[], object]], arguments: Any) -> None:
    action = function(*arguments)
    # What preparing has freed goes back to the system, or the action would be given it for nothing.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    # The peak so far is that of preparing; 5 asks the kernel to forget it.
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        action()
    sender.send(_status("VmHWM") - before)


def _status(field: str) -> int:
    """A size of this process in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def line(cells: Iterable[object]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"
