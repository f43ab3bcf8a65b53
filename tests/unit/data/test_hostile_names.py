"""Names of classes and files can be anything that a disk allows: they are kept, and do nothing."""

import csv
import itertools
import json

import pytest
from PIL import Image

from lqf.config_sections import OwnKeys
from lqf.data.own import list_own
from lqf.data.packed import PackedDataset
from lqf.data.prepare import prepare_own

PIECES = [
    "'",
    '"',
    "`id`",
    "$(touch pwned)",
    "${HOME}",
    "a;b",
    "a|b",
    "a&&b",
    "a>b",
    "*",
    "?",
    "~",
    "-rf",
    "line\nbreak",
    "tab\there",
    "carriage\rreturn",
    " leading",
    "trailing ",
    "..",
    "a..b",
    "\\",
    "\\n",
    "<script>alert(1)</script>",
    "&amp;",
    "<!--",
    "| a | b |",
    "[x](javascript:1)",
    "# head",
    "**b**",
    "\\input{/etc/passwd}",
    "$x_1$",
    "50%",
    "a_b^c",
    "{}",
    "{0.__class__}",
    "%s",
    "%(x)s",
    "=1+1",
    "@x",
    "\u202eltr",
    "\u200bzero",
    "\u2066a\u2069",
    "\x1b[31mred",
    "\x07",
    "\x7f",
    "é",
    "é",
    "日本",
    "🐦",
    "a,b",
    '"a","b"',
    "null",
    "true",
    "1e5",
    "NaN",
    "nan",
    "0",
    "CON",
    "a:b",
    "train",
    "test",
]
"""Quotes, commands, breaks, markup, formats, marks that turn the direction, what CSV readers convert."""


def _names(number=100):
    pairs = ("".join(pair) for pair in itertools.permutations(PIECES[::3], 2))
    usable = (one for one in (*PIECES, *pairs) if not one.startswith(".") and "/" not in one)
    return list(itertools.islice(dict.fromkeys(usable), number))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder with a class of each name, whose files have the name, too."""
    root = tmp_path_factory.mktemp("hostile") / "own"
    for number, name in enumerate(_names()):
        for split in ("train", "val", "test"):
            place = root / split / name
            place.mkdir(parents=True)
            Image.new("RGB", (8, 8), (2 * number, 9, 9)).save(place / f"x{name}.png")
    return root


def test_they_survive_preparing(photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_own("mine", OwnKeys(folder=str(photographs)), tmp_path / "data", 16, workers=1)

    data = PackedDataset.load(tmp_path / "data")

    assert data.classes == tuple(sorted(_names()))
    assert len(data.labels) == 300
    for source, label in zip(data.sources, data.labels, strict=True):
        assert source.split("/", 1)[1] == f"{data.classes[label]}/x{data.classes[label]}.png"
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["left_out"] == {}


def test_they_survive_an_index(photographs, tmp_path):
    listing, _ = list_own("mine", OwnKeys(folder=str(photographs)))
    index = tmp_path / "index.csv"
    with index.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "class", "split"))
        for entry in listing.entries:
            writer.writerow((entry.path, listing.classes[entry.label], entry.split))

    again, _ = list_own("mine", OwnKeys(index=str(index), root=str(photographs)))

    assert again.classes == listing.classes
    assert set(again.entries) == set(listing.entries)
