from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image as mpl_image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lqf.report.artefacts import ARTEFACTS, MissingResults
from lqf.report.captions import caption
from lqf.report.draw import draw
from lqf.report.figures import boxes, figure4, figure4_rows

DRAW_ALL = """
import sys
from pathlib import Path
from lqf.report.artefacts import ARTEFACTS
from lqf.report.captions import caption
from lqf.report.draw import draw
for name in ARTEFACTS:
    draw(name, Path(sys.argv[1]), Path(sys.argv[2]))
    caption(name, Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def drawn(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "demo"
    for name, artefact in ARTEFACTS.items():
        draw(name, results, folder)
        assert not (folder / artefact.caption).exists()
        caption(name, results, folder)
    return folder


def test_all_files_are_there_and_nothing_else(drawn: Path) -> None:
    expected = {file for artefact in ARTEFACTS.values() for file in artefact.outputs()}
    assert {path.name for path in drawn.iterdir()} == expected


def test_drawing_again_elsewhere_gives_the_same_bytes(
    results: Path, drawn: Path, tmp_path: Path
) -> None:
    # Another process, another day, another folder, a user with settings of his own.
    copy = tmp_path / "elsewhere" / "demo"
    shutil.copytree(results, copy)
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nbackend: pdf\n")
    subprocess.run(
        [sys.executable, "-c", DRAW_ALL, str(copy), str(tmp_path / "again")],
        check=True,
        cwd=tmp_path,
        env={"PATH": "", "SOURCE_DATE_EPOCH": "1", "PYTHONHASHSEED": "1", "HOME": str(tmp_path)},
    )
    for path in sorted(drawn.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("name", [n for n, a in ARTEFACTS.items() if a.kind == "figure"])
def test_nothing_touches_the_edge_of_a_figure(drawn: Path, name: str) -> None:
    picture = mpl_image.imread(drawn / f"{name}.png")[..., :3]
    edge = np.concatenate([picture[:2], picture[-2:]]).reshape(-1, 3)
    sides = np.concatenate([picture[:, :2], picture[:, -2:]]).reshape(-1, 3)
    assert (edge == 1).all()
    assert (sides == 1).all()


@pytest.mark.parametrize("name", [n for n, a in ARTEFACTS.items() if a.kind == "figure"])
def test_a_figure_shows_its_csv(results: Path, drawn: Path, tmp_path: Path, name: str) -> None:
    # Changing a drawn number changes the picture.
    copy = tmp_path / "demo"
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("*.sha256"))
    column = {
        "figure1_left": ("relative.csv", "rel_increase_pct"),
        "figure1_right": ("elr.csv", "err_mean"),
        "figure2": ("ablation.csv", "rel_increase_pct"),
        "figure3": ("spectrum.csv", "eigenvalue"),
        "figure4": ("kshot.csv", "rel_diff_pct"),
        "figure5": ("online.csv", "acc_mean"),
        "figure6": ("removal.csv", "acc_mean"),
        "figure7": ("regularized.csv", "err_mean"),
        "figure8": ("leave_one_out.csv", "loo_err"),
        "figure9": ("summary.csv", "err_mean"),
        "figure10": ("active.csv", "err_mean"),
    }[name]
    frame = pd.read_csv(copy / column[0])
    frame[column[1]] = frame[column[1]] * np.linspace(0.5, 2, len(frame))
    frame.to_csv(copy / column[0], index=False)
    draw(name, copy, tmp_path / "again")
    for extension in ("csv", "png", "svg", "pdf"):
        file = f"{name}.{extension}"
        assert (tmp_path / "again" / file).read_bytes() != (drawn / file).read_bytes(), file


def test_no_date_and_no_machine_in_the_files(drawn: Path, results: Path) -> None:
    for path in drawn.iterdir():
        content = path.read_bytes()
        for word in (b"CreationDate", b"<dc:date>", str(results).encode()):
            assert word not in content, path.name


def test_captions_say_scale_n_and_verdicts(drawn: Path) -> None:
    for name, artefact in ARTEFACTS.items():
        text = (drawn / f"{name}.rst").read_text("utf-8")
        assert text.startswith(f"**{artefact.label}. {artefact.title}.**\nScale: demo.")
        assert re.search(r"\b3 (seeds|draws)", text), name
        assert text.count(" here**") == len(artefact.claims)
        assert "nan" not in text
        assert "{" not in text


def test_a_caption_follows_the_verdict(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("*.sha256"))
    frame = pd.read_csv(copy / "claims.csv")
    frame.loc[frame["id"] == "condition_improves", "verdict"] = "fails"
    frame.to_csv(copy / "claims.csv", index=False)
    caption("figure3", copy, tmp_path / "figures")
    assert "**fails here**" in (tmp_path / "figures" / "figure3.rst").read_text("utf-8")


def test_table1_says_how_far_sgd_stops_from_the_optimum(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("*.sha256"))
    frame = pd.read_csv(copy / "comparison.csv")
    assert frame[["residual", "row_space"]].isna().all(axis=None)
    caption("table1", copy, tmp_path)
    assert "relative gradient" not in (tmp_path / "table1.rst").read_text("utf-8")
    frame.loc[frame["method"] == "lqf", "residual"] = 0.0123
    frame.loc[frame["method"] != "lqf", "residual"] = 1e-9
    frame.to_csv(copy / "comparison.csv", index=False)
    caption("table1", copy, tmp_path)
    text = (tmp_path / "table1.rst").read_text("utf-8")
    assert "LQF by SGD stops at a relative gradient of 0.0123 (mean over runs)." in text
    frame.loc[(frame["method"] == "lqf") & (frame["dataset"] == "greek"), "row_space"] = 0.943
    frame.to_csv(copy / "comparison.csv", index=False)
    caption("table1", copy, tmp_path)
    text = (tmp_path / "table1.rst").read_text("utf-8")
    assert (
        "(mean over runs); 94.3 % of ‖δ‖² lies in the row space of J, over the runs whose" in text
    )


def test_all_images_stand_at_their_number_a_class(results: Path, tmp_path: Path) -> None:
    rows = figure4_rows(results).drop_duplicates("shots").set_index("shots")["at"]
    assert rows.to_dict() == {"1": 1, "2": 2, "5": 5, "10": 10, "all": 16}
    axes = figure4(figure4_rows(results), results).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "1",
        "2",
        "5",
        "10",
        "all\n(16)",
    ]
    assert axes.get_xticks().tolist() == [1, 2, 5, 10, 16]
    assert axes.get_xscale() == "log"
    caption("figure4", results, tmp_path)
    assert ", all (16 on average): " in (tmp_path / "figure4.rst").read_text("utf-8")


def test_a_missing_source_is_named(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(results, copy)
    (copy / "kshot.csv").unlink()
    for make in (draw, caption):
        with pytest.raises(MissingResults, match=r"figure4: .*kshot\.csv does not exist"):
            make("figure4", copy, tmp_path / "figures")


def test_one_seed_draws_too(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("*.sha256"))
    for file, columns in (
        ("online.csv", ["acc_std", "acc_low", "acc_high"]),
        ("removal.csv", ["acc_std", "acc_low", "acc_high"]),
        ("comparison.csv", ["err_std", "err_low", "err_high"]),
    ):
        frame = pd.read_csv(copy / file)
        frame[columns] = np.nan
        frame["n_seeds"] = 1
        frame.to_csv(copy / file, index=False)
    for name in ("figure5", "figure6", "table1"):
        draw(name, copy, tmp_path / "figures")
        caption(name, copy, tmp_path / "figures")
    assert "over 1 seeds" not in (tmp_path / "figures" / "figure5.rst").read_text("utf-8")
    assert "±" not in "".join(
        line
        for line in (tmp_path / "figures" / "table1.md").read_text("utf-8").splitlines()
        if line.startswith("| Digits")
    )


def test_a_relative_increase_over_no_error_has_no_box() -> None:
    rows = pd.DataFrame({"method": ["lqf", "fc"], "increase": [float("nan")] * 2})
    axes = Figure().subplots()

    boxes(axes, rows, ["C0", "C1"], x="method", y="increase", hue="method")

    assert not axes.has_data()
