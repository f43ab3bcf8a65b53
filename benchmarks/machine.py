"""What a measurement was made on, and how it is made."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    return int(isolated(_measure, function, arguments))


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own.

    Args:
        function: importable by name.
        arguments: of the function.

    Returns:
        What it returns.

    Raises:
        RuntimeError: if the process ends without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"the process of {function.__name__} ended without an answer") from None
    finally:
        process.join()


def _answer(sender: Any, function: Callable[..., Any], arguments: Any) -> None:
    sender.send(function(*arguments))


def _measure(function: Callable[..., Callable[[], object]], arguments: Any) -> int:
    action = function(*arguments)
    before = resident()
    forget_peak()
    for _ in range(3):
        action()
    return peak() - before


def resident() -> int:
    """Resident memory of this process in bytes, after what was freed went back to the system."""
    gc.collect()
    # What preparing has freed goes back to the system, or the action would be given it for nothing.
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def peak() -> int:
    """Largest resident memory of this process in bytes since `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Let the peak start again from the present."""
    Path("/proc/self/clear_refs").write_text("5")  # 5 asks Linux for this


def _status(field: str) -> int:
    """A size of this process in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def table(head: Sequence[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(map(str, one)) + " |" for one in (head, ["---"] * len(head), *rows)]


def told(result: Mapping[str, Any]) -> str:
    """The machine of a result, in a sentence."""
    return (
        "Machine: " + ", ".join(f"{key} {value}" for key, value in result["machine"].items()) + "."
    )


def grouped(rows: Iterable[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[Any]]:
    """Rows by the values of some keys, in the order of their first row."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups
