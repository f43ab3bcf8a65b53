from __future__ import annotations

import inspect
from typing import Any

import pytest
from claim_lists import CLAIMS

from lqf.report.measures import FUNCTIONS
from lqf.report.rules import MEASURES, BadClaim, check, holds

NAMES = {"value": 1.0, "low": 0.5, "high": 2.0, "n": 3.0}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("low > 0", True),
        ("high < 0", False),
        ("low > -1 and high < 2", False),
        ("low > -1 and high <= 2", True),
        ("low > 1 or value >= 1", True),
        ("0 < low < value < high", True),
        ("not (n < 3)", True),
    ],
)
def test_rules_compare(rule: str, expected: bool) -> None:
    assert holds(rule, NAMES) is expected


def test_an_unknown_interval_decides_nothing() -> None:
    unknown = NAMES | {"low": float("nan"), "high": float("nan")}
    assert not holds("low > 0", unknown)
    assert not holds("low <= 0", unknown)


@pytest.mark.parametrize(
    "rule",
    [
        "__import__('os').system('true')",
        "value",
        "low == 0",
        "low > median",
        "low + 1 > 0",
        "low > True",
        "low >",
        "low > 'a'",
        "(low := 1) > 0",
        "",
        "low > 0 or value.real > 1",
    ],
)
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(BadClaim, match="write comparisons of value, low, high, n"):
        holds(rule, NAMES)


def test_declared_arguments_are_those_of_the_functions() -> None:
    signatures = {
        name: tuple(inspect.signature(function).parameters)[1:]
        for name, function in FUNCTIONS.items()
    }
    assert signatures == MEASURES


def claim(**changes: Any) -> dict[str, Any]:
    return {
        "id": "one",
        "source": "LQF §3",
        "statement": "It works.",
        "measure": {"name": "elr_regret", "method": "lqf"},
        "rule": {"holds": "high < 0", "fails": "low > 0"},
    } | changes


def test_claims_of_the_config_are_well_formed() -> None:
    assert CLAIMS
    for one in [*CLAIMS, claim()]:
        check(one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure": {"name": "elr_regrets", "method": "lqf"}}, "Did you mean 'elr_regret'"),
        ({"measure": {"name": "elr_regret"}}, r"was given \[\]; it needs \['method'\]"),
        ({"rule": {"holds": "high < 0", "fails": "width > 0"}}, "'width' is neither a number"),
    ],
)
def test_a_malformed_claim_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadClaim, match=message):
        check(claim(**changes))
