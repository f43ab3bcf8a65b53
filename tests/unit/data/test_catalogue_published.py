"""The entries of config/datasets.yaml."""

from __future__ import annotations

import pytest

from lqf.data.published import Published, read
from lqf.report import paper

CATALOGUE = read()
ENTRIES = list(CATALOGUE.datasets.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)
def test_an_entry_says_whose_it_is_and_what_it_must_be(entry: Published) -> None:
    assert entry.home
    assert entry.home.startswith("http")
    assert entry.licence
    assert entry.citation
    assert entry.found or entry.images["train"]
    for part in entry.parts:
        for file in entry.choice(part):
            assert file.urls
            # What the first good download pins is at least an archive of a bounded size.
            assert file.digest or file.unpacked


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)
def test_an_entry_is_found_in_the_papers_table(entry: Published) -> None:
    assert entry.paper in paper.TABLE1
    assert entry.group == paper.GROUPS[entry.paper]


def test_every_data_set_of_the_paper_has_an_entry() -> None:
    assert {entry.paper for entry in ENTRIES} == set(paper.TABLE1)
