from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lqf.report.tables import latex, markdown, table1, table2, table3


def cells(text: str, title: str, block: int = 0) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {title}")]
    return [cell.strip() for cell in lines[block].strip("|").split("|")][1:]


def test_table1_has_ours_the_selection_on_test_and_the_papers(results: Path) -> None:
    numbers, blocks, methods = table1(results)
    assert [len(block.lines) for block in blocks] == [8, 8, 11]
    assert methods == ["nlft", "lqf", "lqf_exact", "lqf_euclidean", "lqf_fc", "gaf", "fc"]
    assert "selected on test, as the paper" in blocks[1].heading
    text = markdown(blocks, methods)
    assert cells(text, "Stanford Dogs") == ["13.8", "12.4", "—", "—", "12.9", "10.5", "**9.9**"]
    medians = [cell.split()[1] for cell in cells(text, "Median")[1:]]
    assert medians == ["[12]", "[—]", "[—]", "[42]", "[47]", "[71]"]
    assert set(numbers["selected_on"]) == {"val", "test"}
    assert (numbers["block"] == "median increase").sum() == 12


def test_the_best_linear_method_is_bold(results: Path) -> None:
    _, blocks, _methods = table1(results)
    for title, line in blocks[0].lines[:-1]:
        errors = [
            float(cell.strip("*").split("†")[0].split(" ")[0].strip("*")) for cell in line[1:]
        ]
        bold = [cell.startswith("**") for cell in line]
        assert bold == [False, *(error == min(errors) for error in errors)], title


def test_table2_says_which_column_is_mislabelled(results: Path) -> None:
    _, blocks, methods = table2(results)
    text = markdown(blocks, methods)
    assert cells(text, "CUB-200") == ["19.6", "17.0", "**17.1**", "24.0", "28.4", "29.2"]


def test_diverged_and_incomplete_cells_say_so(results: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(results / "fine_grained.csv")
    gone = (rows["dataset"] == "fonts") & (rows["method"] == "gaf")
    rows.loc[gone, ["n_seeds", "err_mean", "err_std"]] = [0, np.nan, np.nan]
    rows.loc[(rows["dataset"] == "fonts") & (rows["method"] == "fc"), "n_seeds"] = 2
    rows.to_csv(tmp_path / "fine_grained.csv", index=False)
    _, blocks, methods = table2(tmp_path)
    line = cells(markdown(blocks, methods), "Fonts")
    assert line[4] == "diverged"
    assert line[5].endswith("(n = 2)")


def test_printed_numbers_stand_beside_ours(results: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(results / "fine_grained.csv")
    one = (rows["dataset"] == "accents") & (rows["method"] == "b_lqf")
    rows.loc[one, ["err_mean", "err_std", "paper_err"]] = [16.0, 0.2, 17.1]
    rows.to_csv(tmp_path / "fine_grained.csv", index=False)
    numbers, blocks, methods = table2(tmp_path)
    line = cells(markdown(blocks, methods), "Accents")
    assert line[2].endswith("± 0.2 [17.1; −1.1]")
    assert line[3].endswith("[—]")
    own = numbers[(numbers["dataset"] == "accents") & (numbers["method"] == "b_lqf")]
    assert own["diff"].iloc[0] == pytest.approx(-1.1)


def test_table3_has_a_block_for_each_number_of_images_and_of_wrong_labels(results: Path) -> None:
    numbers, blocks, methods = table3(results)
    assert [block.heading.partition(", ")[2] for block in blocks] == [
        "1 image a class, 0 % of labels wrong",
        "5 images a class, 0 % of labels wrong",
        "20 images a class, 0 % of labels wrong",
        "20 images a class, 20 % of labels wrong",
        "20 images a class, 40 % of labels wrong",
    ]
    for block in blocks:
        assert len(block.lines) == numbers["dataset"].nunique()
        for title, line in block.lines:
            errors = [float(cell.split()[0].strip("*†")) for cell in line]
            assert [cell[0] == "*" for cell in line] == [one == min(errors) for one in errors], (
                title
            )
    assert cells(markdown(blocks, methods), "Digits")[-1].startswith("**2.")


def test_latex_is_balanced_and_escaped(results: Path) -> None:
    _, blocks, methods = table1(results)
    text = latex(blocks, methods)
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 1
    assert "±" not in text
    assert "—" not in text
    for line in text.splitlines():
        if line.endswith("\\\\") and "multicolumn" not in line:
            assert line.count(" & ") == len(methods)
