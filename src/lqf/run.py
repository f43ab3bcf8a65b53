"""What every job shares: its folder, its log, its progress bar, its device and its rows."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import logging
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lqf import devices, provenance
from lqf.files import replaced

log = logging.getLogger(__name__)

#: Columns of ``metrics.csv``; errors in %, ``wall_s`` in seconds.
COLUMNS = (  # noqa: SIM905  (a column list reads better as words)
    "experiment dataset method seed shots noise order share classes_kept mode step n_train n_val n_test classes network "
    "activation slope trained loss target_scale optimizer pooling regularizer damping rate momentum batch elr "
    "weight_decay mu epochs batch_norm train_err loo_err val_err test_err train_loss residual row_space passes "
    "refit_err refit_n_train epsilon head_scale gap chosen_at_edge status message selected_val selected_test "
    "wall_s device"
).split()


class RunLocked(RuntimeError):
    """Another process works in this run folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder; the kernel releases it however the process ends.

    Raises:
        RunLocked: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLocked(
                f"run folder {folder} is in use by another process; wait for it to end."
            ) from None
        except OSError as error:
            # Snakemake's own lock of the working folder still keeps a second workflow out.
            log.warning(
                "the file system of %s knows no locks (%s): see to it yourself that no second process "
                "works there.",
                folder,
                error.strerror,
            )
        yield


def write_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = tuple(COLUMNS)
) -> None:
    """Write a CSV file at once and whole; a row that has a column unknown here is an error."""
    with replaced(path) as temporary, open(temporary, "w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {key: f"{v:.10g}" if isinstance(v, float) else v for key, v in row.items()}
            )


def write_record(
    folder: Path,
    settings: Mapping[str, Any],
    made_from: Mapping[str, Any],
    files: Iterable[Path],
) -> None:
    """Write beside the files of a job what made them, and their hashes (`lqf.provenance`)."""
    written = {file.name: provenance.digest(file) for file in files}
    record = {
        "settings": settings,
        "made_from": made_from,
        "files": written,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "device": str(device()),
    }
    with replaced(folder / provenance.RECORD) as temporary:
        sealed = provenance.sealed(record)
        temporary.write_text(json.dumps(sealed, indent=1, sort_keys=True) + "\n")


def processor() -> str:
    """The model of what this job computes on, and the instruction set that torch uses there."""
    if device().type == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(models, platform.processor() or platform.machine())
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def device() -> torch.device:
    """The device of this job: ``LQF_DEVICE`` (auto, cpu, cuda, mps), leased if it is a GPU.

    ``auto`` is cuda where there is one, else cpu: mps has no float64, so it has to be asked for.

    Raises:
        ValueError: if ``LQF_DEVICE`` names a device that is not there.
    """
    wanted = os.environ.get("LQF_DEVICE", "auto")
    # Counting does not initialise CUDA, so that it will see no more than what is leased here.
    gpus = torch.cuda.device_count() if wanted in ("auto", "cuda") else 0
    if gpus and not torch.cuda.is_initialized():
        devices.hold(gpus)
    if wanted == "auto":
        return torch.device("cuda" if gpus else "cpu")
    available = {"cpu": True, "cuda": gpus > 0, "mps": torch.backends.mps.is_available()}
    if not available.get(wanted, False):
        present = ", ".join(name for name, there in available.items() if there)
        raise ValueError(
            f"config key 'device' or LQF_DEVICE is {wanted!r}, which is not available here; "
            f"allowed are auto, {present}."
        )
    return torch.device(wanted)


def progress(total: int, title: str, unit: str = "epoch") -> tqdm:
    """A progress bar on standard error: quick on a terminal, sparse in a log."""
    interval = 0.2 if sys.stderr.isatty() else 5.0
    return tqdm(
        total=total, desc=title, unit=unit, mininterval=interval, file=sys.stderr, leave=True,
        dynamic_ncols=True,
    )  # fmt: skip


def start(threads: int = 1) -> None:
    """Fix what would make two runs of one seed differ, and set up logging."""
    torch.set_num_threads(threads)
    if device().type != "cpu":
        # What this asks for holds on a CPU, where asking imports the compiler: half a small job's time.
        torch.use_deterministic_algorithms(True, warn_only=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
