"""What of the paper's data sets is on this machine, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lqf.data.archives import MANIFEST, WrongFile, candidates, pinned, verify
from lqf.data.catalogue import SPLITS, Split
from lqf.data.published import Catalogue, File, Published


def overview(
    catalogue: Catalogue, archives: Path, local: Sequence[Path], data: Path
) -> Iterator[str]:
    """Describe every data set on a line. Nothing is hashed."""
    row = "{:<14} {:<20} {:>7} {:>7} {:>6} {:>7} {:>9}  {}"
    yield row.format("name", "title", "classes", "train", "val", "test", "download", "status")
    total = 0
    for dataset in catalogue.datasets.values():
        size = dataset.download_bytes
        total += size
        numbers = [_number(dataset, split) for split in SPLITS]
        status = state(dataset, archives, local, data)
        yield row.format(
            dataset.name, dataset.title, dataset.classes, *numbers, gigabytes(size), status
        )
    yield row.format("", "", "", "", "", "", gigabytes(total), "in all, where the size is known")


def state(dataset: Published, archives: Path, local: Sequence[Path], data: Path) -> str:
    """Say how far a data set is, without reading its files."""
    if (data / dataset.name / "dataset.json").is_file():
        return "prepared"
    if (archives / dataset.name / MANIFEST).is_file():
        return "downloaded"
    places = [archives / dataset.name, *local]
    missing = [
        part
        for part, choices in dataset.parts.items()
        if not any(
            all(any(candidates(dataset.name, file, places)) for file in choice)
            for choice in choices
        )
    ]
    if not missing:
        return "on disk, not yet verified"
    for part in missing:
        if not any(all(file.urls for file in choice) for choice in dataset.parts[part]):
            return f"part {part!r} has no address any more: see check"
    dead = any(file.dead and not file.urls for part in missing for file in dataset.parts[part][0])
    cautions = {file.caution for part in missing for file in dataset.choice(part) if file.caution}
    text = "to download from a mirror" if dead else "to download"
    return ", ".join([text, *sorted(cautions)])


def check(
    dataset: Published, archives: Path, local: Sequence[Path], lock: Path
) -> tuple[list[str], list[str]]:
    """Verify what is on disk: a line for each file, and the parts of which no choice is complete."""
    places = [archives / dataset.name, *local]
    lines, missing = [], []
    for part, choices in dataset.parts.items():
        complete = False
        for number, choice in enumerate(choices):
            found = []
            for plain in choice:
                file = pinned(plain, f"{dataset.name}/{plain.name}", lock)
                good, text = _check(dataset, file, places)
                found.append(good)
                mark = "ok     " if good else "missing"
                either = f"{part}, choice {number + 1}" if len(choices) > 1 else part
                lines.append(f"{mark} {file.name} ({either}): {text}")
            complete = complete or all(found)
        if not complete:
            missing.append(part)
    return lines, missing


def _check(dataset: Published, file: File, places: Sequence[Path]) -> tuple[bool, str]:
    wrong = ""
    for path in candidates(dataset.name, file, places):
        try:
            verify(path, file, str(path))
        except WrongFile as error:
            wrong = str(error)
        else:
            note = "" if file.digest else ", not verified: the first download pins its digest"
            return True, f"{path}{note}"
    size = gigabytes(file.bytes) if file.bytes else "size unknown"
    where = (
        f"from {file.urls[0]}{f' ({file.caution})' if file.caution else ''}"
        if file.urls
        else "no address, put a copy into a folder that LQF_DATA names"
    )
    return False, wrong or f"{size}, {where}"


def gigabytes(size: int) -> str:
    """Write a size."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.{2 if unit == 'GB' else 0}f} {unit}"
    return f"{size} B" if size else "?"


def _number(dataset: Published, split: Split) -> str:
    if split == "val" and "val" not in dataset.images:
        return f"{dataset.validation.test:.0%}" if dataset.validation else "-"
    number = dataset.images.get(split)
    if number is None and dataset.split.rule == "fraction":
        return f"{dataset.split.test if split == 'test' else 1 - dataset.split.test:.0%}"
    return str(number) if number is not None else "rest"
