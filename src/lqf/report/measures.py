"""What claims measure on the aggregated CSVs; one function a measure, named in the config.

Errors are in %, differences of errors in points. Where several data sets speak, the interval is a
bootstrap over data sets; where one data set was repeated, a t interval over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lqf.report import measures_errors, measures_samples, measures_sweeps
from lqf.report.statistics import Estimate

FUNCTIONS: Mapping[str, Callable[..., Estimate]] = {
    function.__name__: function
    for function in (
        measures_errors.win_fraction,
        measures_errors.within_fraction,
        measures_errors.largest_gain,
        measures_errors.mean_difference,
        measures_errors.median_relative_increase,
        measures_errors.difference_of_medians,
        measures_errors.order_of_medians,
        measures_errors.group_difference,
        measures_errors.interaction,
        measures_sweeps.elr_spread_difference,
        measures_sweeps.elr_regret,
        measures_sweeps.elr_regret_difference,
        measures_samples.spectrum_change,
        measures_sweeps.kshot_difference,
        measures_sweeps.kshot_trend,
        measures_sweeps.kshot_losses,
        measures_sweeps.online_gap,
        measures_sweeps.online_gap_difference,
        measures_sweeps.online_cost_ratio,
        measures_samples.removal_area,
        measures_samples.schedule_area,
        measures_samples.rank_correlation,
    )
}
"""Measure -> the function that takes it."""
