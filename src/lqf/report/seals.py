"""Digests of aggregated files, beside them in the form of sha256sum, checked before a number is used."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from lqf.files import digest_of, write_text


class DamagedResults(ValueError):
    """An aggregated file is not what was written."""


def seal(results: Path, name: str, files: Iterable[str]) -> None:
    """Writes the digests of files that were made together, those of them that are there.

    Args:
        results: The folder results/<scale>.
        name: What they belong to: an experiment, or the claims.
        files: Their names.
    """
    lines = [
        f"{digest_of(results / file)}  {file}\n" for file in files if (results / file).is_file()
    ]
    write_text("".join(lines), results / f"{name}.sha256")


def check(results: Path, files: Collection[str]) -> None:
    """Compares files of a folder with the digests in it; a file without one is taken as it is.

    Args:
        results: The folder results/<scale>.
        files: Their names.

    Raises:
        DamagedResults: A file has another digest.
    """
    for record in sorted(results.glob("*.sha256")):
        for line in record.read_text("utf-8", errors="replace").splitlines():
            said, _, name = line.partition("  ")
            file = results / name
            if name in files and file.is_file() and digest_of(file) != said:
                raise DamagedResults(
                    f"{file} is damaged or was edited: its digest is not that in {record.name}; delete it "
                    "and run the workflow again, or restore both from a copy."
                )
