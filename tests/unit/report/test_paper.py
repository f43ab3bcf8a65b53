from __future__ import annotations

import pytest

from lqf.data import catalogue
from lqf.report import paper


def test_table2_stands_in_table1_but_for_bilinear_pooling() -> None:
    for name, errors in paper.TABLE2.items():
        shared = {m: e for m, e in errors.items() if m not in {"mpn_cov", "b_lqf"}}
        assert shared == paper.TABLE1[name]


def test_mislabelled_column_is_stored_as_fc() -> None:
    assert [paper.error("table2", name, "fc") for name in paper.TABLE2] == [29.2, 54.2, 47.3]
    assert [paper.error("table2", name, "gaf") for name in paper.TABLE2] == [28.4, 48.4, 39.4]


def test_a_cell_that_is_not_printed_is_none() -> None:
    assert paper.error("table1", "CUB-200", "lqf_exact") is None
    assert paper.error("table2", "Malaria", "lqf") is None


@pytest.mark.parametrize("group", ["coarse", "fine"])
def test_each_group_has_half_of_the_data_sets(group: str) -> None:
    assert list(paper.GROUPS.values()).count(group) == 5  # type: ignore[arg-type]


def test_roles_in_the_catalogue_are_spelt_as_here() -> None:
    roles = {spec.paper for spec in catalogue.DEMO.values() if spec.group != "source"}
    assert roles - {None} <= set(paper.TABLE1)
