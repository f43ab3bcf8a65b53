"""Tables as CSV, Markdown and LaTeX, the paper's numbers beside ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from lqf.method import METHODS, TITLES
from lqf.report import paper
from lqf.report.words import counted

DASH = "—"
EDGE = "†"
"""Marks a choice beyond which nothing was tried."""

_SIGNS = {"±": "$\\pm$", "−": "$-$", DASH: "---", EDGE: "$^\\dagger$"}
_LATEX = str.maketrans({"%": "\\%", "_": "\\_", "&": "\\&", **_SIGNS})
_NOT_LINEAR = {name for name, method in METHODS.items() if method.trained == "all"}

_COLUMNS = [
    *("block", "selected_on", "dataset", "title", "group", "method", "err_mean", "err_std"),
    *("n_seeds", "n_runs", "n_at_edge", "best_rate", "best_weight_decay", "paper_err", "diff"),
    "best_linear",
]
_COUNTED = ["n_datasets", "n_undefined"]
_MEDIANS = {"val": "median", "test": "median_on_test"}
_MEDIAN = "Median relative increase over NLFT (%)"


@dataclass(frozen=True)
class Block:
    """Rows under one heading: the title of each, and a text for each method, **bold** or not."""

    heading: str
    lines: list[tuple[str, list[str]]]


Table = tuple[pd.DataFrame, list[Block], list[str]]
"""The numbers, one row a data set and method; the blocks of lines; the methods."""


def table1(results: Path) -> Table:
    """Table 1, of a folder results/<scale>."""
    summary = pd.read_csv(results / "relative_summary.csv")
    numbers, blocks, methods = _table(pd.read_csv(results / "comparison.csv"), "table1")
    medians = summary.rename(columns={"paper_median": "paper_err", "n_datasets": "n_seeds"})
    medians = medians.assign(block="median increase", n_runs=summary[_COUNTED].sum(axis=1))
    parts = [numbers]
    for block, (selected_on, column) in zip(blocks, _MEDIANS.items(), strict=False):
        ours = dict(zip(summary["method"], summary[column], strict=True))
        cells = [
            _number(ours[m]) + _printed(paper.MEDIANS.get(m), None, 0) if m in ours else DASH
            for m in methods
        ]
        block.lines.append((_MEDIAN, cells))
        own = medians.assign(err_mean=summary[column], selected_on=selected_on)
        parts.append(own.assign(diff=own["err_mean"] - own["paper_err"]).reindex(columns=_COLUMNS))
    printed = [f"{paper.MEDIANS[m]:.0f}" if m in paper.MEDIANS else DASH for m in methods]
    blocks[-1].lines.append((_MEDIAN, printed))
    return pd.concat(parts, ignore_index=True), blocks, methods


def table2(results: Path) -> Table:
    """Table 2, of a folder results/<scale>."""
    return _table(pd.read_csv(results / "fine_grained.csv"), "table2")


def table3(results: Path) -> Table:
    """Table 3, of a folder results/<scale>: a block for each number of images and of wrong labels."""
    rows = pd.read_csv(results / "regularized.csv")

    def where(block: pd.Series) -> str:
        return f"{counted(block['shots'], 'image')} a class, {block['noise']} % of labels wrong"

    return _blocks(rows, ["shots", "noise"], where)


def table4(results: Path) -> Table:
    """Table 4, of a folder results/<scale>: a block for each step, and one for the last one from scratch."""
    rows = pd.read_csv(results / "active.csv")
    rows = rows.rename(columns={"method": "fitted", "order": "method"})
    rows = rows.assign(n_runs=rows["n_seeds"], n_at_edge=0)

    def where(block: pd.Series) -> str:
        again = ", fitted from scratch" if block["mode"] == "scratch" else ""
        return f"after {counted(block['step'], 'step')}{again}"

    return _blocks(rows, ["mode", "step"], where)


def _blocks(rows: pd.DataFrame, by: list[str], where: Callable[[pd.Series], str]) -> Table:
    """A block for each value of some columns, with a line a data set; bold is the least of a line."""
    methods = list(dict.fromkeys(rows["method"]))
    least = rows["err_mean"].round(1).groupby([rows[c] for c in (*by, "dataset")])
    rows["best_linear"] = rows["err_mean"].round(1) == least.transform("min")
    blocks = []
    for _, block in rows.groupby(by, sort=False):
        lines = [
            (str(own["title"].iloc[0]), _cells(own, methods, compared=False))
            for _, own in block.groupby("dataset", sort=False)
        ]
        blocks.append(Block(f"Test error (%), {where(block.iloc[0])}", lines))
    return rows.rename(columns={"best_linear": "best"}), blocks, methods


TABLES: dict[str, Callable[[Path], Table]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
}


def markdown(blocks: Sequence[Block], methods: Sequence[str]) -> str:
    """Writes blocks as Markdown tables, with a blank line between them."""
    titles = " | ".join(TITLES.get(method, method) for method in methods)
    head = f"| data set | {titles} |\n|---|{'---:|' * len(methods)}"
    parts = []
    for block in blocks:
        lines = [f"| {title} | {' | '.join(cells)} |" for title, cells in block.lines]
        parts.append("\n".join([f"**{block.heading}**", "", head, *lines]))
    return "\n\n".join(parts) + "\n"


def latex(blocks: Sequence[Block], methods: Sequence[str]) -> str:
    """Writes blocks as one LaTeX tabular; needs the package booktabs."""

    def line(*cells: str) -> str:
        bold = (re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", cell) for cell in cells)
        return " & ".join(cell.translate(_LATEX) for cell in bold) + " \\\\"

    lines = ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{l{'r' * len(methods)}}}"]
    lines += ["\\toprule", line("data set", *(TITLES.get(method, method) for method in methods))]
    for block in blocks:
        heading = f"\\multicolumn{{{len(methods) + 1}}}{{l}}{{\\emph{{{block.heading}}}}}"
        lines += ["\\midrule", line(heading), *(line(one, *cells) for one, cells in block.lines)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _table(rows: pd.DataFrame, table: Literal["table1", "table2"]) -> Table:
    methods = list(dict.fromkeys(rows["method"]))
    numbers, blocks = [], []
    for selected_on, suffix in (("val", ""), ("test", "_on_test")):
        own = rows.assign(selected_on=selected_on, block="error")
        own["err_mean"], own["err_std"] = rows[f"err_mean{suffix}"], rows[f"err_std{suffix}"]
        own["diff"] = own["err_mean"] - own["paper_err"]
        if suffix:
            own = own.assign(best_rate=np.nan, best_weight_decay=np.nan, n_at_edge=0)
        linear = ~own["method"].isin(_NOT_LINEAR)
        shown = own["err_mean"].round(1).where(linear)
        own["best_linear"] = linear & (shown == shown.groupby(own["dataset"]).transform("min"))
        numbers.append(own[_COLUMNS])
        where = "test, as the paper seems to have done" if suffix else "validation"
        seeds = int(rows["n_runs"].max())
        heading = f"Test error (%), mean ± standard deviation, n = {seeds}, selected on {where}"
        blocks.append(Block(heading, _lines(own, methods)))
    blocks.append(_printed_block(table, methods))
    return pd.concat(numbers, ignore_index=True), blocks, methods


def _lines(rows: pd.DataFrame, methods: Sequence[str]) -> list[tuple[str, list[str]]]:
    # Without a single printed number beside ours, a dash in each cell would only be noise.
    compared = bool(rows["paper_err"].notna().any())
    lines = []
    for _, own in rows.groupby("dataset", sort=False):
        title = own["title"].iloc[0] + ("" if compared else f" [{DASH}]")
        lines.append((title, _cells(own, methods, compared)))
    return lines


def _cells(rows: pd.DataFrame, methods: Sequence[str], compared: bool) -> list[str]:
    cells = {row["method"]: _cell(row, compared) for _, row in rows.iterrows()}
    return [cells.get(method, DASH) for method in methods]


def _cell(row: pd.Series, compared: bool) -> str:
    if row["n_seeds"] == 0:
        return "diverged"
    text = _number(row["err_mean"])
    if text == DASH:
        return text
    text = (f"**{text}**" if row["best_linear"] else text) + (EDGE if row["n_at_edge"] else "")
    text += f" ± {row['err_std']:.1f}" if row["n_seeds"] > 1 else ""
    text += f" (n = {row['n_seeds']})" if row["n_seeds"] < row["n_runs"] else ""
    return text + (_printed(row["paper_err"], row["diff"], 1) if compared else "")


def _printed(printed: float | None, difference: float | None, digits: int) -> str:
    """The paper's number in brackets, with the difference if it can be taken."""
    if printed is None or pd.isna(printed):
        return f" [{DASH}]"
    if difference is None or pd.isna(difference):
        return f" [{printed:.{digits}f}]"
    return f" [{printed:.{digits}f}; {difference:+.{digits}f}]".replace("-", "−")


def _number(value: float) -> str:
    return DASH if pd.isna(value) else f"{value:.1f}".replace("-", "−")


def _printed_block(table: Literal["table1", "table2"], methods: Sequence[str]) -> Block:
    lines = []
    for dataset, errors in (paper.TABLE1 if table == "table1" else paper.TABLE2).items():
        linear = {m: e for m, e in errors.items() if m in methods and m not in _NOT_LINEAR}
        bold = {m for m, error in linear.items() if error == min(linear.values())}
        texts = {
            m: f"**{error:.1f}**" if m in bold else f"{error:.1f}" for m, error in errors.items()
        }
        lines.append((dataset, [texts.get(method, DASH) for method in methods]))
    return Block("The paper's own data sets, test error (%) as printed", lines)
