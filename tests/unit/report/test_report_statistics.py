from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lqf.report import paper
from lqf.report.statistics import (
    bootstrap,
    relative_increase,
    summed_up,
    t_interval,
)


@pytest.mark.parametrize(
    ("method", "median"), [("lqf", 12.7), ("lqf_fc", 42.5), ("gaf", 47.4), ("fc", 70.3)]
)
def test_printed_table_gives_printed_medians(method: str, median: float) -> None:
    errors = [row[method] for row in paper.TABLE1.values()]
    reference = [row["nlft"] for row in paper.TABLE1.values()]
    ours = float(np.median(relative_increase(errors, reference)))
    assert ours == pytest.approx(median, abs=0.05)
    assert ours == pytest.approx(paper.MEDIANS[method], abs=1.0)


def test_increase_over_an_errorless_reference_is_undefined() -> None:
    assert np.isnan(relative_increase([1.0, 0.0], [0.0, 0.0])).all()


def test_t_interval_is_scipys() -> None:
    values = [3.1, 2.7, 3.9]
    ours = t_interval([*values, float("nan")])
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (ours.value, ours.low, ours.high) == pytest.approx((np.mean(values), low, high))
    assert ours.n == 3


def test_groups_are_summed_up_as_single_values_are() -> None:
    groups = pd.Series([3.1, 2.7, 3.9, np.nan, 2.0, np.nan]).groupby(list("aaaabc"))
    rows = summed_up("err", groups)
    ours = t_interval([3.1, 2.7, 3.9])
    assert rows.loc["a"].tolist() == pytest.approx(
        [ours.value, np.std([3.1, 2.7, 3.9], ddof=1), ours.low, ours.high, 3]
    )
    assert (rows.loc["b", "err_mean"], rows.loc["b", "n_seeds"]) == (2.0, 1)
    assert rows.loc["b", ["err_std", "err_low", "err_high"]].isna().all()
    assert rows.loc["c", "n_seeds"] == 0


def test_one_value_has_no_interval() -> None:
    ours = t_interval([2.0])
    assert ours.value == 2.0
    assert np.isnan([ours.low, ours.high]).all()
    assert t_interval([]).n == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=4, max_size=7))
def test_bootstrap_contains_its_value_and_repeats(values: list[float]) -> None:
    first, again = bootstrap(values, np.median), bootstrap(values, np.median)
    assert first == again
    assert min(values) <= first.low <= first.high <= max(values)
    assert first.n == len(values)


def test_bootstrap_of_a_mean_has_about_the_normal_width() -> None:
    values = np.random.default_rng(0).normal(size=9)
    ours = bootstrap(values, lambda rows: float(rows.mean()))
    width = 2 * 1.96 * values.std() / 3
    assert ours.high - ours.low == pytest.approx(width, rel=0.1)


def test_bootstrap_within_groups_never_empties_one() -> None:
    rows = np.array([[1.0, 1], [2.0, 1], [5.0, 0], [5.0, 0]])
    groups = ["a", "a", "b", "b"]
    ours = bootstrap(rows, lambda r: float(r[r[:, 1] == 0, 0].mean()), groups=groups)
    assert (ours.low, ours.high) == (5.0, 5.0)


@pytest.mark.parametrize("groups", [["a"] * 3, ["a", "a", "a", "b"]])
def test_too_few_rows_have_no_bootstrap_interval(groups: list[str]) -> None:
    ours = bootstrap(np.arange(len(groups)), lambda r: float(r.mean()), groups=groups)
    assert np.isfinite(ours.value)
    assert np.isnan([ours.low, ours.high]).all()
