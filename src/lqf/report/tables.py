"""Tables 1 and 2 as CSV, Markdown and LaTeX, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from lqf.method import METHODS, TITLES
from lqf.report import paper

DASH = "—"
EDGE = "†"
"""Marks a choice beyond which nothing was tried."""

_LATEX = str.maketrans(
    {
        "%": "\\%",
        "_": "\\_",
        "&": "\\&",
        "±": "$\\pm$",
        "−": "$-$",
        DASH: "---",
        EDGE: "$^\\dagger$",
    }
)
_NOT_LINEAR = {name for name, method in METHODS.items() if method.trained == "all"}

_COLUMNS = [
    *("block", "selected_on", "dataset", "title", "group", "method", "err_mean", "err_std"),
    *("n_seeds", "n_runs", "n_at_edge", "best_rate", "best_weight_decay", "paper_err", "diff"),
    "best_linear",
]
_MEDIAN = "Median relative increase over NLFT (%)"


@dataclass(frozen=True)
class Cell:
    """One cell: text before, a number that may be bold, text after."""

    number: str
    bold: bool = False
    after: str = ""


@dataclass(frozen=True)
class Block:
    """Rows under one heading: the title of each, and a cell for each method."""

    heading: str
    lines: list[tuple[str, list[Cell]]]


Table = tuple[pd.DataFrame, list[Block], list[str]]
"""The numbers, one row a data set and method; the blocks of lines; the methods."""


def table1(results: Path) -> Table:
    """Table 1, of a folder results/<scale>."""
    rows = pd.read_csv(results / "comparison.csv")
    summary = pd.read_csv(results / "relative_summary.csv")
    numbers, blocks, methods = _table(rows, "table1")
    medians = summary.rename(
        columns={"median": "err_mean", "paper_median": "paper_err", "n_datasets": "n_seeds"}
    )
    for position, selected_on in enumerate(("val", "test")):
        ours = summary["median" if selected_on == "val" else "median_on_test"]
        values = dict(zip(summary["method"], ours, strict=True))
        cells = [
            Cell(_median(values[m]), after=_printed(paper.MEDIANS.get(m), None, 0))
            if m in values
            else Cell(DASH)
            for m in methods
        ]
        blocks[position].lines.append((_MEDIAN, cells))
        medians = medians.assign(err_mean=ours, selected_on=selected_on, block="median increase")
        medians["diff"] = medians["err_mean"] - medians["paper_err"]
        medians["n_runs"] = medians["n_seeds"] + summary["n_undefined"]
        numbers = pd.concat([numbers, medians.reindex(columns=_COLUMNS)], ignore_index=True)
    printed = [
        Cell(f"{paper.MEDIANS[m]:.0f}") if m in paper.MEDIANS else Cell(DASH) for m in methods
    ]
    blocks[-1].lines.append((_MEDIAN, printed))
    return numbers, blocks, methods


def table2(results: Path) -> Table:
    """Table 2, of a folder results/<scale>."""
    return _table(pd.read_csv(results / "fine_grained.csv"), "table2")


TABLES: dict[str, Callable[[Path], Table]] = {"table1": table1, "table2": table2}


def markdown(blocks: Sequence[Block], methods: Sequence[str]) -> str:
    """Writes blocks as Markdown tables, with a blank line between them."""
    parts = []
    for block in blocks:
        titles = [TITLES.get(method, method) for method in methods]
        lines = [f"**{block.heading}**", "", f"| data set | {' | '.join(titles)} |"]
        lines.append("|---|" + "---:|" * len(methods))
        for title, cells in block.lines:
            texts = [(f"**{c.number}**" if c.bold else c.number) + c.after for c in cells]
            lines.append(f"| {title} | {' | '.join(texts)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def latex(blocks: Sequence[Block], methods: Sequence[str]) -> str:
    """Writes blocks as one LaTeX tabular; needs the package booktabs."""
    titles = " & ".join(TITLES.get(method, method).translate(_LATEX) for method in methods)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * len(methods)}}}",
        "\\toprule",
        f"data set & {titles} \\\\",
    ]
    for block in blocks:
        heading = f"\\emph{{{block.heading.translate(_LATEX)}}}"
        lines += ["\\midrule", f"\\multicolumn{{{len(methods) + 1}}}{{l}}{{{heading}}} \\\\"]
        for title, cells in block.lines:
            bold = [f"\\textbf{{{c.number}}}" if c.bold else c.number for c in cells]
            texts = [
                (number + c.after).translate(_LATEX) for number, c in zip(bold, cells, strict=True)
            ]
            lines.append(f"{title.translate(_LATEX)} & {' & '.join(texts)} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _table(rows: pd.DataFrame, table: Literal["table1", "table2"]) -> Table:
    methods = list(dict.fromkeys(rows["method"]))
    rows["n_at_edge"] = rows.get("n_at_edge", 0)
    seeds = int(rows["n_runs"].max())
    numbers, blocks = [], []
    for selected_on, suffix in (("val", ""), ("test", "_on_test")):
        own = rows.copy()
        own["err_mean"], own["err_std"] = rows[f"err_mean{suffix}"], rows[f"err_std{suffix}"]
        own["diff"] = own["err_mean"] - own["paper_err"]
        if suffix:
            own[["best_rate", "best_weight_decay"]] = float("nan")
            own["n_at_edge"] = 0
        linear = ~own["method"].isin(_NOT_LINEAR)
        shown = own["err_mean"].round(1).where(linear)
        own["best_linear"] = linear & (shown == shown.groupby(own["dataset"]).transform("min"))
        own["block"], own["selected_on"] = "error", selected_on
        numbers.append(own[_COLUMNS])
        where = "validation" if selected_on == "val" else "test, as the paper seems to have done"
        heading = f"Test error (%), mean ± standard deviation, n = {seeds}, selected on {where}"
        blocks.append(Block(heading, _lines(own, methods)))
    blocks.append(_printed_block(table, methods))
    return pd.concat(numbers, ignore_index=True), blocks, methods


def _lines(rows: pd.DataFrame, methods: Sequence[str]) -> list[tuple[str, list[Cell]]]:
    lines = []
    # Without a single printed number beside ours, a dash in each cell would only be noise.
    compared = bool(rows["paper_err"].notna().any())
    for dataset in dict.fromkeys(rows["dataset"]):
        own = rows[rows["dataset"] == dataset].set_index("method")
        cells = []
        for method in methods:
            if method not in own.index:
                cells.append(Cell(DASH))
                continue
            row = own.loc[method]
            if row["n_seeds"] == 0:
                cells.append(Cell("diverged"))
                continue
            if pd.isna(row["err_mean"]):
                cells.append(Cell(DASH))
                continue
            after = f" ± {row['err_std']:.1f}" if row["n_seeds"] > 1 else ""
            if row["n_seeds"] < row["n_runs"]:
                after += f" (n = {row['n_seeds']})"
            if compared:
                after += _printed(row["paper_err"], row["diff"], 1)
            after = (EDGE if row["n_at_edge"] else "") + after
            cells.append(Cell(f"{row['err_mean']:.1f}", bool(row["best_linear"]), after))
        title = str(own["title"].iloc[0])
        lines.append((title if compared else f"{title} [{DASH}]", cells))
    return lines


def _printed(printed: float | None, difference: float | None, digits: int) -> str:
    """The paper's number in brackets, with the difference if it can be taken."""
    if printed is None or pd.isna(printed):
        return f" [{DASH}]"
    if difference is None or pd.isna(difference):
        return f" [{printed:.{digits}f}]"
    return f" [{printed:.{digits}f}; {difference:+.{digits}f}]".replace("-", "−")


def _median(value: float) -> str:
    return DASH if pd.isna(value) else f"{value:.1f}".replace("-", "−")


def _printed_block(table: Literal["table1", "table2"], methods: Sequence[str]) -> Block:
    lines = []
    for dataset, errors in (paper.TABLE1 if table == "table1" else paper.TABLE2).items():
        linear = [
            e for method, e in errors.items() if method in methods and method not in _NOT_LINEAR
        ]
        cells = [
            Cell(f"{errors[m]:.1f}", m not in _NOT_LINEAR and errors[m] == min(linear))
            if m in errors
            else Cell(DASH)
            for m in methods
        ]
        lines.append((dataset, cells))
    return Block("The paper's own data sets, test error (%) as printed", lines)
