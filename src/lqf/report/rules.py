"""Claims as the config writes them: their keys, their measures' arguments, and their rules.

Rules are comparisons between numbers and `value`, `low`, `high`, `n`, joined by `and`, `or`,
`not`. They are parsed and walked, never evaluated as code. This module is read while a workflow
is being planned, so it imports nothing but the standard library.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

NAMES = ("value", "low", "high", "n")
"""What a rule may speak about: the measured value, its 95 % interval, and the number behind it."""

MEASURES: dict[str, tuple[str, ...]] = {
    "win_fraction": ("experiment", "method", "against"),
    "within_fraction": ("experiment", "method", "reference", "points", "group"),
    "largest_gain": ("experiment", "method", "reference"),
    "mean_difference": ("experiment", "method", "reference"),
    "median_relative_increase": ("experiment", "method"),
    "difference_of_medians": ("experiment", "method", "other"),
    "order_of_medians": ("experiment", "methods"),
    "group_difference": ("experiment", "method", "group", "other"),
    "interaction": ("experiment", "first", "second", "both"),
    "elr_spread_difference": ("method", "other"),
    "elr_regret": ("method",),
    "elr_regret_difference": ("method", "other"),
    "spectrum_change": ("matrix", "quantity"),
    "kshot_difference": ("at",),
    "kshot_trend": (),
    "kshot_losses": ("at",),
    "online_gap": ("method",),
    "online_gap_difference": ("method", "other"),
    "online_cost_ratio": ("method",),
    "removal_area": ("first", "second", "schedule"),
    "schedule_area": ("removal", "first", "second"),
    "rank_correlation": ("score",),
    "noise_cost": ("method",),
    "regularized_gap": ("reference", "at"),
    "leave_one_out_bias": ("method",),
    "kept_difference": ("first", "second", "at"),
    "chosen_area": ("first", "second"),
}
"""Measure -> the arguments that a claim gives it, all of them required."""

_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class BadClaim(ValueError):
    """A claim in the config that cannot be tested as written."""


def holds(rule: str, names: Mapping[str, float]) -> bool:
    """Evaluates a rule; a comparison with NaN (an interval that is unknown) is false.

    Raises:
        BadClaim: It is not a rule.
    """
    try:
        return _truth(ast.parse(rule.strip(), mode="eval").body, names)
    except (SyntaxError, ValueError) as error:
        why = str(error) if isinstance(error, BadClaim) else "it cannot be parsed"
        raise BadClaim(
            f"rule {rule!r}: {why}; write comparisons of {', '.join(NAMES)} with numbers, joined by "
            "and, or, not."
        ) from None


def check(claim: Mapping[str, Any]) -> None:
    """Checks what the shape of a claim of the config cannot tell.

    Raises:
        BadClaim: The measure or one of its arguments does not exist, or a rule is malformed.
    """
    measure = dict(claim["measure"])
    title = measure.pop("name")
    if title not in MEASURES:
        close = get_close_matches(title, MEASURES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise BadClaim(f"measure {title!r} does not exist; it is one of {sorted(MEASURES)}.{hint}")
    if set(measure) != set(MEASURES[title]):
        raise BadClaim(
            f"measure {title!r} was given {sorted(measure)}; it needs {sorted(MEASURES[title])}."
        )
    for rule in claim["rule"].values():
        # NaN makes every comparison false, so each branch of `or` and `not` is visited too.
        holds(rule, dict.fromkeys(NAMES, float("nan")))


def _truth(node: ast.expr, names: Mapping[str, float]) -> bool:
    match node:
        case ast.BoolOp():
            parts = [_truth(part, names) for part in node.values]
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        case ast.UnaryOp(op=ast.Not()):
            return not _truth(node.operand, names)
        case ast.Compare():
            sides = [_number(side, names) for side in (node.left, *node.comparators)]
            if not all(type(sign) in _COMPARISONS for sign in node.ops):
                raise BadClaim("only <, <=, > and >= compare")
            pairs = zip(node.ops, pairwise(sides), strict=True)
            return all(_COMPARISONS[type(sign)](*pair) for sign, pair in pairs)
    raise BadClaim(f"{ast.unparse(node)!r} is no comparison")


def _number(node: ast.expr, names: Mapping[str, float]) -> float:
    match node:
        case ast.UnaryOp(op=ast.USub()):
            return -_number(node.operand, names)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.Name(id=name) if name in NAMES:
            return names[name]
    raise BadClaim(f"{ast.unparse(node)!r} is neither a number nor one of {list(NAMES)}")
